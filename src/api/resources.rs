//! Reading one resource: read and vread.

use axum::extract::{Path, State as Extract};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::conditions::{condition, if_none_match};
use super::error::Error;
use super::search::TRAIL;
use super::state::{Call, State};
use super::types::{readable, served};
use crate::auth::scope::Interaction;
use crate::fhir::etag::etag;
use crate::workflow::{self, audit_event, audit_row};

/// `GET /fhir/{type}/{id}` (<https://hl7.org/fhir/R4/http.html#read>).
pub(super) async fn read_one(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Error> {
    readable(&kind)?;
    call.may(&kind, Interaction::Read)?;
    let mut tx = doors.store.look().await?;
    let stored = match kind.as_str() {
        TRAIL => tx.audit_row(&id, &call.actor.sight).await?.as_ref().map(audit_event),
        _ => tx.resource(&kind, &id, &call.actor.sight).await?,
    };
    drop(tx);
    let stored = stored.ok_or(workflow::Error::NotFound)?;
    disclose(&call, "read", &format!("{kind}/{id}"), &stored.person).await?;
    if stored.deleted {
        return Err(workflow::Error::Gone.into());
    }
    let (version, updated_at) = (stored.version, stored.updated_at.time());
    if !is_news(&call, version, updated_at)? {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), version, updated_at));
    }
    let response = call.format.stored(StatusCode::OK, stored.body);
    Ok(tagged(response, version, updated_at))
}

/// Whether a conditional read is answered with the resource (<https://hl7.org/fhir/R4/http.html#cread>): tags are more
/// exact than times, which HTTP has to the second.
fn is_news(call: &Call, version: i64, updated_at: DateTime<Utc>) -> Result<bool, Error> {
    if let Some(tags) = if_none_match(call)? {
        return Ok(!tags.name(version));
    }
    let since = condition(call, "if-modified-since")?.and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    Ok(since.is_none_or(|since| updated_at.timestamp() > since.timestamp()))
}

/// `GET /fhir/{type}/{id}/_history/{version}` (<https://hl7.org/fhir/R4/http.html#vread>).
pub(super) async fn read_version(
    Extract(doors): Extract<State>,
    Path((kind, id, version)): Path<(String, String, String)>,
    call: Call,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Read)?;
    let version: i64 = version.parse().map_err(|_| workflow::Error::NotFound)?;
    let mut tx = doors.store.read().await?;
    let person = tx.resource(&kind, &id, &call.actor.sight).await?.map(|s| s.person).unwrap_or_default();
    let row = tx.version(&kind, &id, version, &call.actor.sight).await?.ok_or(workflow::Error::NotFound)?;
    drop(tx);
    disclose(&call, "vread", &format!("{kind}/{id}/_history/{version}"), &person).await?;
    if row.deleted {
        return Err(workflow::Error::Gone.into());
    }
    let response = call.format.stored(StatusCode::OK, row.body);
    Ok(tagged(response, row.version, row.updated_at.time()))
}

/// Writes the audit row of a disclosure; only then does it leave. What nobody sees discloses nothing.
pub(super) async fn disclose(call: &Call, interaction: &str, target: &str, person: &str) -> Result<(), Error> {
    if call.rehearsed {
        return Ok(());
    }
    let row = audit_row(&call.actor, call.now, &call.request_id, interaction, target, person, "success");
    Ok(call.doors.store.disclose(row).await?)
}

/// Since when what is answered stands, in an answer's extensions: `Last-Modified` has it to the second only.
#[derive(Clone, Copy)]
pub(super) struct Modified(pub DateTime<Utc>);

/// An answer that says its version and since when it stands.
pub(super) fn tagged(mut response: Response, version: i64, updated_at: DateTime<Utc>) -> Response {
    let modified = updated_at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (name, text) in [(header::ETAG, etag(version)), (header::LAST_MODIFIED, modified)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
    response.extensions_mut().insert(Modified(updated_at));
    response
}
