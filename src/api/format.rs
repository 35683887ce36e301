//! JSON and XML: what comes in, what goes out, and in which of the two.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use super::error::Error;
use super::state::{Call, Doors};
use super::view::View;
use crate::fhir::codec::{read_json, read_xml, write_json, write_xml};
use crate::fhir::{Invalid, InvalidKind, Issue, Resource, check};

/// How an answer is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Format {
    pub xml: bool,
    pub pretty: bool,
    /// How much of what is read.
    pub view: View,
    /// The parameters that say so, as a query: links to more of an answer go on with them.
    pub shape: String,
}

/// Parameters that shape an answer and restrict nothing.
pub(super) const SHAPING: [&str; 4] = ["_format", "_pretty", "_summary", "_elements"];

const JSON: &str = "application/fhir+json";
const XML: &str = "application/fhir+xml";

/// Bytes of an OperationOutcome: 100 issues are far below.
const LONGEST_REFUSAL: usize = 1024 * 1024;

impl Format {
    /// What the caller takes: `_format` first, then `Accept`; JSON where both are open.
    pub(super) fn wanted(headers: &HeaderMap, query: &[(String, String)]) -> Result<Format, Error> {
        let of = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let (pretty, view) = (of("_pretty") == Some("true"), View::wanted(query)?);
        let shape = query.iter().filter(|(name, _)| SHAPING.contains(&name.as_str()));
        let shape = shape.map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&");
        if let Some(wanted) = of("_format") {
            return match media(wanted) {
                Some(xml) => Ok(Format { xml, pretty, view, shape }),
                None => Err(Error::NotAcceptable),
            };
        }
        let accept = headers.get(header::ACCEPT).map(|v| v.to_str().unwrap_or_default()).unwrap_or("*/*");
        let mut ranges: Vec<(f32, usize, &str)> = accept
            .split(',')
            .enumerate()
            .filter(|(_, range)| is_r4(range))
            .map(|(at, range)| (quality(range), at, range.split(';').next().unwrap_or_default().trim()))
            .filter(|(quality, ..)| *quality > 0.0)
            .collect();
        ranges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, _, range) in ranges {
            if matches!(range, "*/*" | "application/*" | "" | "text/html") {
                return Ok(Format { xml: false, pretty, view, shape });
            }
            if let Some(xml) = media(range) {
                return Ok(Format { xml, pretty, view, shape });
            }
        }
        Err(Error::NotAcceptable)
    }

    /// A link to this answer or to more of it, in the shape that was asked for.
    pub(super) fn link(&self, relation: &str, url: String) -> Value {
        let mark = if url.contains('?') { '&' } else { '?' };
        let url = if self.shape.is_empty() { url } else { format!("{url}{mark}{}", self.shape) };
        json!({ "relation": relation, "url": url })
    }

    /// Whether a stored text is the answer as it is.
    pub(super) fn as_stored(&self) -> bool {
        !self.xml && !self.pretty && self.view == View::Whole
    }

    /// An answer whose body is this resource.
    pub(super) fn value(&self, status: StatusCode, value: &Value) -> Response {
        if self.as_stored() {
            return plain(status, JSON, value.to_string().into_bytes());
        }
        match Resource::from_value(self.view.of(value).unwrap_or_else(|| value.clone())) {
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
        if self.as_stored() {
            return plain(status, JSON, body.into_bytes());
        }
        match serde_json::from_str::<Value>(&body) {
            Ok(value) => self.value(status, &value),
            Err(_) => plain(status, JSON, body.into_bytes()),
        }
    }
}

/// A text as it stands in a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b',' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn plain(status: StatusCode, media: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// Whether a media type says no other FHIR version than this (<https://hl7.org/fhir/R4/http.html#version-parameter>).
fn is_r4(media: &str) -> bool {
    let said = media.split(';').skip(1).find_map(|p| p.trim().strip_prefix("fhirVersion="));
    said.is_none_or(|version| matches!(version.trim_matches('"'), "4.0" | "4.0.1"))
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
    let is_json = |media: &HeaderValue| media.as_bytes().starts_with(JSON.as_bytes());
    let is_fhir = response.headers().get(header::CONTENT_TYPE).is_some_and(is_json);
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

/// Reads a body as a resource and checks it as [`checked`] does.
pub(super) fn read(call: &Call, body: &[u8]) -> Result<(Resource, Vec<Issue>), Error> {
    Ok(checked(parse(call, body)?, &call.doors, &call.caller.organization)?)
}

/// Reads a body as a resource, in the format that its Content-Type says; it may still be no valid R4.
pub(super) fn parse(call: &Call, body: &[u8]) -> Result<Resource, Error> {
    parse_as(&call.headers, body, &call.doors)
}

/// [`parse`] of a body that came with other headers than its request: in an entry of a Bundle.
pub(super) fn parse_as(headers: &HeaderMap, body: &[u8], doors: &Doors) -> Result<Resource, Error> {
    let sent = headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or_default());
    let xml = match sent {
        None => false,
        Some(text) => media(text).filter(|_| is_r4(text)).ok_or_else(|| {
            Error::UnsupportedMedia(
                "Bodies are read as application/fhir+json or application/fhir+xml, of FHIR 4.0. Send one of them."
                    .to_owned(),
            )
        })?,
    };
    Ok(if xml { read_xml(body, &doors.limits)? } else { read_json(body, &doors.limits)? })
}

/// Checks what this organisation sent against base R4, then against its profiles. Every issue names its element. What a
/// profile only warns of, and what it refuses where its mode is not to reject, comes back beside the resource.
pub(super) fn checked(
    resource: Resource,
    doors: &Doors,
    organization: &str,
) -> Result<(Resource, Vec<Issue>), Invalid> {
    let issues = check::check(&resource, doors.limits.issues);
    if !issues.is_empty() {
        return Err(Invalid { issues, kind: InvalidKind::Malformed });
    }
    let warnings = doors.profiles.judge(&resource, organization, doors.limits.issues)?;
    Ok((resource, warnings))
}

/// A tree that was made here for this organisation, checked as if it had sent it.
pub(super) fn as_sent(value: &Value, doors: &Doors, organization: &str) -> Result<Resource, Invalid> {
    let whole = read_json(value.to_string().as_bytes(), &doors.limits);
    let checked = whole.and_then(|whole| checked(whole, doors, organization));
    checked.map(|(resource, _)| resource).map_err(|invalid| Invalid { kind: InvalidKind::Unprocessable, ..invalid })
}
