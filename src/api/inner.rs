//! Requests within a request: an entry of a Bundle goes the way it would go by itself.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::edge::RequestIds;
use super::resources::Modified;
use super::state::{Admitted, Call, Rehearsed};
use crate::fhir::outcome::operation_outcome;
use crate::fhir::when::instant;
use crate::fhir::{Issue, IssueCode};

/// The routes that an entry may take.
#[derive(Clone)]
pub(super) struct Inner(Router);

/// One request of an entry.
#[derive(Clone)]
pub(super) struct Ask {
    pub method: Method,
    /// Below `/fhir/`, as the entry has it.
    pub url: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What it was answered with.
pub(super) struct Answered {
    pub status: StatusCode,
    headers: HeaderMap,
    modified: Option<Modified>,
    pub body: Option<Value>,
}

impl Inner {
    pub(super) fn new(routes: Router) -> Inner {
        Inner(routes)
    }

    /// Sends a request on as the same caller.
    pub(super) async fn ask(&self, call: &Call, ask: Ask) -> Answered {
        self.send(call, ask, None).await
    }

    /// Whether it would be answered well: the answer, where it would not. Of any other nothing leaves.
    pub(super) async fn rehearse(&self, call: &Call, ask: Ask) -> Result<(), Answered> {
        let answered = self.send(call, ask, Some(Rehearsed)).await;
        if answered.status.is_success() { Ok(()) } else { Err(answered) }
    }

    async fn send(&self, call: &Call, ask: Ask, rehearsed: Option<Rehearsed>) -> Answered {
        let Ok(uri) = format!("/fhir/{}", encoded(&ask.url)).parse::<Uri>() else {
            return Answered::refused("The url of this entry is not readable. Send Type, Type/id or Type?criteria.");
        };
        let mut request = Request::new(Body::from(ask.body));
        *request.method_mut() = ask.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = ask.headers;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/fhir+json"));
        let ids = RequestIds { request: call.request_id.clone(), correlation: None };
        let admitted = Admitted { caller: call.caller.clone(), actor: call.actor.clone(), now: call.now };
        request.extensions_mut().insert(ids);
        request.extensions_mut().insert(admitted);
        if let Some(rehearsed) = rehearsed {
            request.extensions_mut().insert(rehearsed);
        }
        match self.0.clone().oneshot(request).await {
            Ok(response) => Answered::read(response).await,
            Err(never) => match never {},
        }
    }
}

/// A url with everything encoded that a URI cannot have as it is.
fn encoded(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' => {
                out.push_str(&format!("%{byte:02X}"))
            }
            byte if byte.is_ascii_graphic() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Answered {
    /// Reads an answer.
    pub(super) async fn read(response: Response) -> Answered {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        let body = serde_json::from_slice(&bytes).ok();
        if body.is_none() && !parts.status.is_success() && !bytes.is_empty() {
            return Answered { status: parts.status, ..Answered::refused("This entry is not readable.") };
        }
        Answered { status: parts.status, modified: parts.extensions.get().copied(), headers: parts.headers, body }
    }

    fn refused(text: &str) -> Answered {
        let outcome = operation_outcome(&[Issue::general(IssueCode::Invalid, text)]);
        Answered { status: StatusCode::BAD_REQUEST, headers: HeaderMap::new(), modified: None, body: Some(outcome) }
    }

    /// `Bundle.entry` of a response, with references below `base` relative.
    pub(super) fn entry(self, base: &str) -> Value {
        let text = |name: header::HeaderName| self.headers.get(name).and_then(|v| v.to_str().ok());
        let mut response = json!({ "status": self.status.to_string() });
        if let Some(location) = text(header::LOCATION).or(text(header::CONTENT_LOCATION)) {
            response["location"] =
                json!(location.strip_prefix(base).map_or(location, |rest| rest.trim_start_matches('/')));
        }
        if let Some(tag) = text(header::ETAG) {
            response["etag"] = json!(tag);
        }
        if let Some(Modified(time)) = self.modified {
            response["lastModified"] = json!(instant(time));
        }
        let mut entry = json!({});
        match self.body {
            Some(outcome) if outcome.get("resourceType") == Some(&json!("OperationOutcome")) => {
                response["outcome"] = outcome;
            }
            Some(resource) => entry["resource"] = resource,
            None => {}
        }
        entry["response"] = response;
        entry
    }
}
