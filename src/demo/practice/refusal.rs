//! What the stand-in says when it will not do what was asked.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;

use crate::fhir::outcome::operation_outcome;
use crate::fhir::{Issue, IssueCode};

/// A status and the reason for it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) issue: Issue,
}

impl Refusal {
    /// A refusal that concerns no element.
    pub(super) fn general(status: StatusCode, code: IssueCode, text: impl Into<String>) -> Refusal {
        Refusal { status, issue: Issue::general(code, text) }
    }

    /// A refusal of one element.
    pub(super) fn at(
        status: StatusCode,
        code: IssueCode,
        expression: impl Into<String>,
        text: impl Into<String>,
    ) -> Refusal {
        Refusal { status, issue: Issue::error(code, expression, text) }
    }

    /// 400 with this sentence.
    pub(super) fn bad_request(text: impl Into<String>) -> Refusal {
        Refusal::general(StatusCode::BAD_REQUEST, IssueCode::Invalid, text)
    }

    /// 404.
    pub(super) fn not_found() -> Refusal {
        Refusal::general(StatusCode::NOT_FOUND, IssueCode::NotFound, "There is no such resource in this record.")
    }
}

/// The journal could not be written: nothing was kept.
impl From<std::io::Error> for Refusal {
    fn from(_: std::io::Error) -> Refusal {
        let text = "The record could not be written; send the request again later.";
        Refusal::general(StatusCode::INTERNAL_SERVER_ERROR, IssueCode::Exception, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        fhir(self.status, &operation_outcome(&[self.issue]))
    }
}

/// A resource as an answer.
pub(super) fn fhir(status: StatusCode, resource: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(resource.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/fhir+json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
