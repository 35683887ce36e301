//! JSON and XML: what comes in, what goes out, and in which of the two.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

use super::error::Error;
use crate::fhir::codec::{Limits, read_json, read_xml, write_json, write_xml};
use crate::fhir::{Invalid, InvalidKind, Resource, check};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Format {
    pub xml: bool,
    pub pretty: bool,
}

const JSON: &str = "application/fhir+json";
const XML: &str = "application/fhir+xml";

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

/// Reads a body as a resource and checks it against base R4. Every issue names its element.
pub(super) fn read(headers: &HeaderMap, body: &[u8], limits: &Limits) -> Result<Resource, Error> {
    let sent = headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or_default());
    let xml = match sent {
        None => false,
        Some(text) => media(text).ok_or_else(|| {
            Error::UnsupportedMedia(
                "Bodies are read as application/fhir+json or application/fhir+xml. Send one of them.".to_owned(),
            )
        })?,
    };
    let resource = if xml { read_xml(body, limits)? } else { read_json(body, limits)? };
    let issues = check::check(&resource, limits.issues);
    if issues.is_empty() { Ok(resource) } else { Err(Invalid { issues, kind: InvalidKind::Malformed }.into()) }
}
