//! The ids by which a caller and we speak of the same request.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// The ids of one request, in its extensions and in the headers of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestIds {
    /// `X-Request-Id` as sent, or a new UUID when the caller sent none or no printable token of at most 128 characters.
    pub request: String,
    /// `X-Correlation-Id` as sent, under the same condition.
    pub correlation: Option<String>,
}

impl RequestIds {
    pub(super) fn of(headers: &HeaderMap) -> RequestIds {
        RequestIds {
            request: token(headers, &REQUEST_ID).unwrap_or_else(|| Uuid::new_v4().to_string()),
            correlation: token(headers, &CORRELATION_ID),
        }
    }

    pub(super) fn echo(&self, headers: &mut HeaderMap) {
        for (name, id) in [(REQUEST_ID, Some(&self.request)), (CORRELATION_ID, self.correlation.as_ref())] {
            if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
                headers.insert(name, id);
            }
        }
    }
}

/// The header's value when it is safe to log and to send back: visible ASCII without quotes or separators of a log line.
fn token(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let id = headers.get(name)?.to_str().ok()?;
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_|~:/=@".contains(&b);
    ((1..=128).contains(&id.len()) && id.bytes().all(safe)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(value: &'static str) -> RequestIds {
        RequestIds::of(&HeaderMap::from_iter([
            (REQUEST_ID, HeaderValue::from_static(value)),
            (CORRELATION_ID, HeaderValue::from_static(value)),
        ]))
    }

    #[test]
    fn a_printable_token_is_kept() {
        for id in ["a", "6f1c0d1e-0000-4000-8000-000000000000", "11C46F5F-CDEF-4865-94B2-0EE0EDCC26DA"] {
            assert_eq!(ids(id), RequestIds { request: id.to_owned(), correlation: Some(id.to_owned()) });
        }
    }

    #[test]
    fn anything_else_is_replaced_and_not_echoed() {
        for id in [
            "",
            "two words",
            "a\"b",
            "{x}",
            "tab\there",
            concat!(
                "0123456789012345678901234567890123456789",
                "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
            ),
        ] {
            let ids = ids(id);
            assert!(Uuid::parse_str(&ids.request).is_ok(), "{id:?} was kept");
            assert_eq!(ids.correlation, None);
        }
    }
}
