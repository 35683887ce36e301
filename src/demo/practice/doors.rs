//! The stand-in's routes: parse, ask the record, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::Practices;
use super::change::{Change, Wish, etag, make};
use super::refusal::{Refusal, fhir};
use super::search::{self, OFFERED, Pairs};
use super::tokens::{INVALID_CLIENT, Right, TokenError, TokenRequest};
use super::transaction;
use crate::fhir::{IssueCode, path};

type Shared = State<Arc<Practices>>;
type Answer = Result<Response<Body>, Refusal>;

/// Largest body taken, in bytes.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

pub(super) fn routes(practices: Arc<Practices>) -> Router {
    Router::new()
        .route("/{ods}/oauth/token", post(token))
        .route("/{ods}/fhir/.well-known/smart-configuration", get(smart_configuration))
        .route("/{ods}/fhir/metadata", get(metadata))
        .route("/{ods}/fhir", post(transact))
        .route("/{ods}/fhir/", post(transact))
        .route("/{ods}/fhir/{kind}", get(search_by_get).post(create))
        .route("/{ods}/fhir/{kind}/_search", post(search_by_post))
        .route("/{ods}/fhir/{kind}/{id}", get(read).put(update))
        .route("/{ods}/fhir/{kind}/{id}/_history/{version}", get(read_version))
        .fallback(|| async { Refusal::not_found() })
        .method_not_allowed_fallback(|| async {
            let text = "This is not offered here; /metadata lists what is.";
            Refusal::general(StatusCode::METHOD_NOT_ALLOWED, IssueCode::NotSupported, text)
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(practices)
}

async fn token(State(practices): Shared, Path(ods): Path<String>, body: String) -> Response<Body> {
    match issue(&practices, &ods, &body).await {
        Ok(token) => oauth(StatusCode::OK, &token),
        Err(e) => oauth(StatusCode::from_u16(e.status).unwrap_or(StatusCode::BAD_REQUEST), &e.body()),
    }
}

async fn issue(practices: &Practices, ods: &str, body: &str) -> Result<Value, TokenError> {
    let request = TokenRequest::read(&search::pairs(body))?;
    if !practices.hosts(ods) {
        return Err(INVALID_CLIENT);
    }
    let keys = practices.client_keys(request.kid().as_deref()).await.ok_or(INVALID_CLIENT)?;
    let endpoint = practices.token_endpoint(ods);
    practices.tokens().issue(&request, &keys, practices.accepted_client(), &endpoint, ods, practices.clock.now())
}

fn oauth(status: StatusCode, body: &Value) -> Response<Body> {
    let json = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, json, body.to_string()).into_response()
}

async fn smart_configuration(State(practices): Shared, Path(ods): Path<String>) -> Answer {
    if !practices.hosts(&ods) {
        return Err(Refusal::not_found());
    }
    let body = json!({
        "token_endpoint": practices.token_endpoint(&ods),
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384", "RS512"],
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": ["system/*.cruds", "system/*.rs"],
        "capabilities": ["client-confidential-asymmetric", "permission-v2"],
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response())
}

async fn metadata(State(practices): Shared, Path(ods): Path<String>) -> Answer {
    if !practices.hosts(&ods) {
        return Err(Refusal::not_found());
    }
    let parameters: Vec<Value> = OFFERED.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
    let takes = practices.takes_transactions.load(Ordering::Relaxed);
    let mut statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": practices.started(),
        "kind": "instance",
        "implementation": { "description": "Stand-in practice system", "url": practices.base(&ods) },
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{
            "mode": "server",
            "documentation": "Any resource type: create (also conditional), read, vread, update with If-Match, search by the parameters below.",
            "searchParam": parameters,
        }],
    });
    if takes {
        statement["rest"][0]["interaction"] = json!([{ "code": "transaction" }]);
    }
    Ok(fhir(StatusCode::OK, &statement))
}

async fn transact(State(practices): Shared, Path(ods): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    practices.admit(&ods, &headers, Right::Write)?;
    if !practices.takes_transactions.load(Ordering::Relaxed) {
        let text = "Transactions are not offered here; /metadata lists what is.";
        return Err(Refusal::general(StatusCode::METHOD_NOT_ALLOWED, IssueCode::NotSupported, text));
    }
    let changes = transaction::changes(&parsed(&headers, &body)?)?;
    let done = practices.change(&ods, |record| make(record, changes, practices.clock.now()))?;
    Ok(fhir(StatusCode::OK, &transaction::response(&done)))
}

async fn create(
    State(practices): Shared,
    Path((ods, kind)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    practices.admit(&ods, &headers, Right::Write)?;
    let if_none_exist = text(&headers, "if-none-exist");
    let change = single(&kind, parsed(&headers, &body)?, Wish::Create { if_none_exist })?;
    one(&practices, &ods, change)
}

async fn update(
    State(practices): Shared,
    Path((ods, kind, id)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    practices.admit(&ods, &headers, Right::Write)?;
    let resource = parsed(&headers, &body)?;
    if path::text(&resource, "id") != Some(&id) {
        return Err(Refusal::bad_request("The id of the resource is not the id in the address."));
    }
    let if_match = text(&headers, "if-match");
    one(&practices, &ods, single(&kind, resource, Wish::Update { id, if_match })?)
}

async fn read(
    State(practices): Shared,
    Path((ods, kind, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    practices.admit(&ods, &headers, Right::Read)?;
    practices.look(&ods, |record| {
        let resource = record.current(&kind, &id).ok_or_else(Refusal::not_found)?;
        Ok(versioned(StatusCode::OK, resource))
    })
}

async fn read_version(
    State(practices): Shared,
    Path((ods, kind, id, version)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    practices.admit(&ods, &headers, Right::Read)?;
    let place = version.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    practices.look(&ods, |record| {
        let resource = place.and_then(|n| record.versions(&kind, &id).get(n)).ok_or_else(Refusal::not_found)?;
        Ok(versioned(StatusCode::OK, resource))
    })
}

async fn search_by_get(
    State(practices): Shared,
    Path((ods, kind)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    practices.admit(&ods, &headers, Right::Read)?;
    found(&practices, &ods, &kind, search::pairs(uri.query().unwrap_or_default()))
}

async fn search_by_post(
    State(practices): Shared,
    Path((ods, kind)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Answer {
    practices.admit(&ods, &headers, Right::Read)?;
    let mut asked = search::pairs(uri.query().unwrap_or_default());
    asked.extend(search::pairs(&body));
    found(&practices, &ods, &kind, asked)
}

/// The self link leaves the parameters out: an NHS number does not belong in an address.
fn found(practices: &Practices, ods: &str, kind: &str, asked: Pairs) -> Answer {
    let base = practices.base(ods);
    practices.look(ods, |record| {
        let found = search::find(record, kind, &asked)?;
        Ok(fhir(StatusCode::OK, &search::searchset(&base, &format!("{base}/{kind}"), &found, &asked)))
    })
}

fn single(kind: &str, resource: Value, wish: Wish) -> Result<Change, Refusal> {
    if path::text(&resource, "resourceType") != Some(kind) {
        return Err(Refusal::bad_request("The resourceType is not the type in the address."));
    }
    Ok(Change { at: kind.to_owned(), full_url: None, wish, resource })
}

fn one(practices: &Practices, ods: &str, change: Change) -> Answer {
    let done = practices.change(ods, |record| make(record, vec![change], practices.clock.now()))?;
    let Some(done) = done.first() else { return Err(Refusal::not_found()) };
    let mut response = versioned(done.status, &done.resource);
    if let Ok(location) = HeaderValue::try_from(format!("{}/{}", practices.base(ods), done.location())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn versioned(status: StatusCode, resource: &Value) -> Response<Body> {
    let mut response = fhir(status, resource);
    if let Ok(etag) = HeaderValue::try_from(etag(resource)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

fn parsed(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    let kind = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !matches!(kind, "application/fhir+json" | "application/json") {
        let text = "Send application/fhir+json.";
        return Err(Refusal::general(StatusCode::UNSUPPORTED_MEDIA_TYPE, IssueCode::NotSupported, text));
    }
    let resource: Value =
        serde_json::from_slice(body).map_err(|_| Refusal::bad_request("The body is not readable as JSON."))?;
    match path::text(&resource, "resourceType") {
        Some(kind) if !kind.is_empty() => Ok(resource),
        _ => Err(Refusal::bad_request("The body is not a FHIR resource: it has no resourceType.")),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
