//! JSON and XML: what comes in, what goes out, and in which of the two.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;

use super::error::Error;
use super::state::Call;
use crate::fhir::codec::{read_json, read_xml, write_json, write_xml};
use crate::fhir::{Invalid, InvalidKind, Issue, Resource, check};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Format {
    pub xml: bool,
    pub pretty: bool,
}

const JSON: &str = "application/fhir+json";
const XML: &str = "application/fhir+xml";

/// Bytes of an OperationOutcome: 100 issues are far below.
const LONGEST_REFUSAL: usize = 1024 * 1024;

impl Format {
    /// What the caller takes: `_format` first, then `Accept`; JSON where both are open.
    pub(super) fn wanted(headers: &HeaderMap, query: &[(String, String)]) -> Result<Format, Error> {
        let of = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let pretty = of("_pretty") == Some("true");
        if let Some(wanted) = of("_format") {
            return match media(wanted) {
                Some(xml) => Ok(Format { xml, pretty }),
                None => Err(Error::NotAcceptable),
            };
        }
        let accept = headers.get(header::ACCEPT).map(|v| v.to_str().unwrap_or_default()).unwrap_or("*/*");
        let mut ranges: Vec<(f32, usize, &str)> = accept
            .split(',')
            .enumerate()
            .map(|(at, range)| (quality(range), at, range.split(';').next().unwrap_or_default().trim()))
            .filter(|(quality, ..)| *quality > 0.0)
            .collect();
        ranges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, _, range) in ranges {
            if matches!(range, "*/*" | "application/*" | "" | "text/html") {
                return Ok(Format { xml: false, pretty });
            }
            if let Some(xml) = media(range) {
                return Ok(Format { xml, pretty });
            }
        }
        Err(Error::NotAcceptable)
    }

    /// An answer whose body is this resource.
    pub(super) fn value(&self, status: StatusCode, value: &Value) -> Response {
        match Resource::from_value(value.clone()) {
            Ok(resource) => self.resource(status, &resource),
            Err(_) => plain(status, JSON, value.to_string().into_bytes()),
        }
    }

    /// An answer whose body is this resource.
    pub(super) fn resource(&self, status: StatusCode, resource: &Resource) -> Response {
        if self.xml
            && let Ok(body) = write_xml(resource, self.pretty)
        {
            return plain(status, XML, body);
        }
        plain(status, JSON, write_json(resource, self.pretty))
    }

    /// An answer whose body is stored text, which is sent as it is where it can be.
    pub(super) fn stored(&self, status: StatusCode, body: String) -> Response {
        if !self.xml && !self.pretty {
            return plain(status, JSON, body.into_bytes());
        }
        match serde_json::from_str::<Value>(&body) {
            Ok(value) => self.value(status, &value),
            Err(_) => plain(status, JSON, body.into_bytes()),
        }
    }
}

fn plain(status: StatusCode, media: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// Whether a media type (or a `_format` word) is FHIR XML; `None` when it is neither format.
fn media(text: &str) -> Option<bool> {
    match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "json" | "application/json" | "application/fhir+json" | "application/fhir json" | "text/json" => Some(false),
        "xml" | "application/xml" | "application/fhir+xml" | "application/fhir xml" | "text/xml" => Some(true),
        _ => None,
    }
}

fn quality(range: &str) -> f32 {
    let given = range.split(';').skip(1).find_map(|p| p.trim().strip_prefix("q="));
    given.and_then(|q| q.parse().ok()).unwrap_or(1.0)
}

/// Writes a refusal in the format the caller takes: who reads XML reads errors in XML too.
pub(super) async fn refusals_as_wanted(request: Request, next: Next) -> Response {
    let query =
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|q| q.0).unwrap_or_default();
    let wanted = Format::wanted(request.headers(), &query).unwrap_or_default();
    let response = next.run(request).await;
    let is_fhir = response.headers().get(header::CONTENT_TYPE).is_some_and(|media| media == JSON);
    if !wanted.xml || !is_fhir || response.status().is_success() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, LONGEST_REFUSAL).await.unwrap_or_default();
    let outcome = serde_json::from_slice(&bytes).ok().and_then(|value| Resource::from_value(value).ok());
    match outcome.and_then(|outcome| write_xml(&outcome, wanted.pretty).ok()) {
        Some(xml) => {
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(XML));
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(xml))
        }
        None => Response::from_parts(parts, Body::from(bytes)),
    }
}

/// Reads a body as a resource and checks it against base R4, then against its profiles. Every issue names its element.
/// What a profile only warns of, and what it refuses where its mode is not to reject, comes back beside the resource.
pub(super) fn read(call: &Call, body: &[u8]) -> Result<(Resource, Vec<Issue>), Error> {
    Ok(checked(parse(call, body)?, call)?)
}

/// Checks a resource as [`read`] does.
pub(super) fn checked(resource: Resource, call: &Call) -> Result<(Resource, Vec<Issue>), Invalid> {
    let limits = &call.doors.limits;
    let issues = check::check(&resource, limits.issues);
    if !issues.is_empty() {
        return Err(Invalid { issues, kind: InvalidKind::Malformed });
    }
    let warnings = call.doors.profiles.judge(&resource, &call.caller.organization, limits.issues)?;
    Ok((resource, warnings))
}

/// Reads a body as a resource, in the format that its Content-Type says; it may still be no valid R4.
pub(super) fn parse(call: &Call, body: &[u8]) -> Result<Resource, Error> {
    let limits = &call.doors.limits;
    let sent = call.headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or_default());
    let xml = match sent {
        None => false,
        Some(text) => media(text).ok_or_else(|| {
            Error::UnsupportedMedia(
                "Bodies are read as application/fhir+json or application/fhir+xml. Send one of them.".to_owned(),
            )
        })?,
    };
    Ok(if xml { read_xml(body, limits)? } else { read_json(body, limits)? })
}
