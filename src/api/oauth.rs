//! SMART Backend Services: discovery, the token endpoint, introspection, our public keys. Errors are OAuth's own shape.

use axum::body::Bytes;
use axum::extract::{Form, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::edge::RequestIds;
use super::error::Error;
use super::state::{Call, State};
use crate::auth::caller::Standing;
use crate::auth::key_set::Algorithm;
use crate::auth::oauth::{OAuthError, TokenRequest};
use crate::auth::token::hash;
use crate::auth::tokens::NoToken;

/// `GET /fhir/.well-known/smart-configuration` (<https://hl7.org/fhir/smart-app-launch/conformance.html>).
pub(super) async fn configuration(Extract(doors): Extract<State>) -> Json<Value> {
    Json(json!({
        "token_endpoint": doors.tokens.audience,
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": Algorithm::ALL.map(Algorithm::name),
        "grant_types_supported": ["client_credentials"],
        "introspection_endpoint": format!("{}/oauth/introspect", doors.house.base_url),
        "jwks_uri": format!("{}/.well-known/jwks.json", doors.house.base_url),
        "scopes_supported": ["system/*.cruds"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }))
}

/// `GET /.well-known/jwks.json`: the keys the service signs with. To be kept for a quarter of an hour at most, so that a
/// new one is known before it signs.
pub(super) async fn keys(Extract(doors): Extract<State>) -> Response {
    ([(header::CACHE_CONTROL, "max-age=900")], Json((doors.jwks)(doors.clock.now()))).into_response()
}

/// `POST /oauth/token` (<https://hl7.org/fhir/smart-app-launch/backend-services.html>).
pub(super) async fn token(
    Extract(doors): Extract<State>,
    ids: Option<Extension<RequestIds>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = match form(&headers, &body) {
        Ok(form) => form,
        Err(error) => return refused(&error),
    };
    let request = match TokenRequest::parse(form.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        Ok(request) => request,
        Err(error) => return refused(&error),
    };
    let request_id = ids.map(|ids| ids.0.request).unwrap_or_default();
    match doors.tokens.issue(&request, doors.clock.now(), &request_id).await {
        Ok(answer) => {
            ([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(answer)).into_response()
        }
        Err(NoToken::Refused(error)) => refused(&error),
        Err(NoToken::Store(error)) => Error::from(error).into_response(),
    }
}

fn form(headers: &HeaderMap, body: &[u8]) -> Result<Vec<(String, String)>, OAuthError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let bad = |text: &str| OAuthError::InvalidRequest(text.to_owned());
    if !media.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        return Err(bad("Send the request as application/x-www-form-urlencoded."));
    }
    serde_urlencoded::from_bytes(body)
        .map_err(|_| bad("The form is not readable. Encode it as application/x-www-form-urlencoded."))
}

fn refused(error: &OAuthError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = (status, [(header::CACHE_CONTROL, "no-store")], Json(error.body())).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer realm=\"livewell\""));
    }
    response
}

/// `POST /oauth/introspect` (RFC 7662): a client asks about its own tokens, a system of Live Well about any.
pub(super) async fn introspect(
    Extract(doors): Extract<State>,
    call: Call,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Json<Value>, Error> {
    let token = form.iter().find(|(name, _)| name == "token").map(|(_, value)| value.as_str()).unwrap_or_default();
    let row = doors.store.credentials(&hash(token)).await?.filter(|row| row.expires_at.time() > call.now);
    let visible = |client: &str| client == call.caller.client_id || call.caller.standing == Standing::Service;
    Ok(Json(match row {
        Some(row) if visible(&row.client) => json!({
            "active": true,
            "client_id": row.client,
            "scope": row.scopes,
            "exp": row.expires_at.time().timestamp(),
            "token_type": "bearer",
        }),
        _ => json!({ "active": false }),
    }))
}
