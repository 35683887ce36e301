//! `$meta`: the profiles, tags and labels of a resource (<https://hl7.org/fhir/R4/resource-operation-meta.html>).

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::META;
use super::inputs::Inputs;
use crate::api::error::Error;
use crate::api::resources::disclose;
use crate::api::state::Call;
use crate::api::types::served;
use crate::auth::scope::Interaction;
use crate::workflow;

/// `/fhir/{type}/{id}/$meta`.
pub(in crate::api) async fn meta(
    Path((kind, id)): Path<(String, String)>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Read)?;
    Inputs::read(&call, &META, &body)?;
    let mut tx = call.doors.store.read().await?;
    let stored = tx.resource(&kind, &id, &call.actor.sight).await?.ok_or(workflow::Error::NotFound)?;
    drop(tx);
    disclose(&call, "$meta", &format!("{kind}/{id}"), &stored.person).await?;
    if stored.deleted {
        return Err(workflow::Error::Gone.into());
    }
    let resource: Value = serde_json::from_str(&stored.body).unwrap_or(Value::Null);
    let meta = resource.get("meta").cloned().unwrap_or_else(|| json!({ "versionId": stored.version.to_string() }));
    let said = json!({ "resourceType": "Parameters", "parameter": [{ "name": "return", "valueMeta": meta }] });
    Ok(call.format.value(StatusCode::OK, &said))
}
