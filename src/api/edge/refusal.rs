//! What the edge itself answers, always an OperationOutcome.

use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::RequestIds;
use crate::fhir::outcome::{Issue, IssueCode, operation_outcome};

pub(super) async fn nothing_here() -> Response {
    let text = "There is nothing at this address. The FHIR base is /fhir; GET /fhir/metadata lists what it serves.";
    outcome(StatusCode::NOT_FOUND, IssueCode::NotFound, text)
}

pub(super) async fn not_that_method(method: Method) -> Response {
    let text = format!("{method} is not possible at this address; the Allow header lists what is.");
    outcome(StatusCode::METHOD_NOT_ALLOWED, IssueCode::NotSupported, text)
}

/// A failure of ours. Fixed words: what failed is in the log, under the request id.
pub(super) fn failed(ids: &RequestIds) -> Response {
    let text = format!(
        "The service failed at this request; the fault is ours. Send it again later, and if it fails again tell us \
         the request id {}.",
        ids.request
    );
    outcome(StatusCode::INTERNAL_SERVER_ERROR, IssueCode::Exception, text)
}

pub(super) fn too_large(limit: usize) -> Response {
    let text = format!("The body is larger than {limit} bytes, the limit here. Send less at once.");
    outcome(StatusCode::PAYLOAD_TOO_LARGE, IssueCode::TooLong, text)
}

pub(super) fn too_slow(seconds: u64) -> Response {
    let text = format!("The body did not arrive within {seconds} seconds. Nothing was done; send it again.");
    let response = outcome(StatusCode::REQUEST_TIMEOUT, IssueCode::Transient, text);
    with(response, CONNECTION, "close")
}

/// Only whoever frames a body wrongly hears this: who went away in the middle of it hears nothing.
pub(super) fn broken() -> Response {
    let text =
        "The body does not end where its Content-Length or its chunks say. Nothing was done; send it again whole.";
    outcome(StatusCode::BAD_REQUEST, IssueCode::Structure, text)
}

pub(super) fn compressed() -> Response {
    let text = "A compressed body (Content-Encoding) is not read here. Send it as it is.";
    outcome(StatusCode::UNSUPPORTED_MEDIA_TYPE, IssueCode::NotSupported, text)
}

/// Whether this is the framework's own refusal of a request no handler saw (a path or a form it cannot decode): plain
/// words, and no OperationOutcome.
pub(super) fn is_bare(response: &Response) -> bool {
    let plain = |media: &HeaderValue| media.as_bytes().starts_with(b"text/plain");
    response.status().is_client_error() && response.headers().get(CONTENT_TYPE).is_some_and(plain)
}

/// In place of a bare refusal: its words may repeat what was sent.
pub(super) fn unreadable(status: StatusCode) -> Response {
    let text = "The address or the form is not readable. Percent-encode it as UTF-8, and send a form as \
                application/x-www-form-urlencoded.";
    outcome(status, IssueCode::Invalid, text)
}

pub(super) fn busy() -> Response {
    let text = "The service is at its limit of requests. Nothing was done; send it again in a second.";
    with(outcome(StatusCode::SERVICE_UNAVAILABLE, IssueCode::Transient, text), RETRY_AFTER, "1")
}

pub(super) fn still_working() -> Response {
    let text = "The work takes longer than a caller waits for it, and goes on. Look whether it was done before \
                sending it again; a referral with the same identifier may be sent again safely.";
    with(outcome(StatusCode::SERVICE_UNAVAILABLE, IssueCode::Transient, text), RETRY_AFTER, "30")
}

fn outcome(status: StatusCode, code: IssueCode, text: impl Into<String>) -> Response {
    let body = operation_outcome(&[Issue::general(code, text)]).to_string();
    (status, [(CONTENT_TYPE, "application/fhir+json; charset=utf-8")], body).into_response()
}

fn with(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
