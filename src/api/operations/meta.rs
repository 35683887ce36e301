//! `$meta`, `$meta-add`, `$meta-delete`: the profiles, tags and labels of a resource, of a type and of all
//! (<https://hl7.org/fhir/R4/resource-operation-meta.html>).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::inputs::{Inputs, missing};
use super::{META, META_ADD, META_DELETE, Operation};
use crate::api::error::Error;
use crate::api::format::as_sent;
use crate::api::resources::disclose;
use crate::api::state::Call;
use crate::api::types::served;
use crate::auth::scope::Interaction;
use crate::fhir::{Invalid, Issue, IssueCode};
use crate::workflow::{self, Labelling, label, retrying};

/// Different profiles, tags and labels in one answer at most.
const MOST: i64 = 1000;

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
    Ok(answer(&call, meta))
}

/// `/fhir/{type}/$meta`: all that is in use, as far as the caller may see it.
pub(in crate::api) async fn of_type(Path(kind): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Search)?;
    in_use(&call, &body, &[kind.as_str()], &kind).await
}

/// `/fhir/$meta`: of the types that the caller may search.
pub(in crate::api) async fn of_all(call: Call, body: Bytes) -> Result<Response, Error> {
    let kinds: Vec<&str> = call.doors.types.all().filter(|kind| call.may(kind, Interaction::Search).is_ok()).collect();
    if kinds.is_empty() {
        call.may("*", Interaction::Search)?;
    }
    in_use(&call, &body, &kinds, "").await
}

async fn in_use(call: &Call, body: &[u8], kinds: &[&str], target: &str) -> Result<Response, Error> {
    Inputs::read(call, &META, body)?;
    let mut tx = call.doors.store.read().await?;
    let found = tx.labels(kinds, &call.actor.sight, MOST + 1).await?;
    drop(tx);
    if i64::try_from(found.len()).is_ok_and(|found| found > MOST) {
        let narrower = match kinds {
            [kind] => format!("Ask {kind}/id/$meta, or search by _tag, _security or _profile."),
            _ => "Ask for one type, for example Task/$meta.".to_owned(),
        };
        let text = format!("More than {MOST} profiles, tags and labels are in use. {narrower}");
        return Err(Invalid::unprocessable(Issue::general(IssueCode::TooCostly, text)).into());
    }
    disclose(call, "$meta", target, "").await?;
    let mut meta = json!({});
    for (param, value, system) in found {
        let (set, one) = match param.as_str() {
            "_profile" => ("profile", json!(value)),
            "_security" => ("security", coding(&system, &value)),
            _ => ("tag", coding(&system, &value)),
        };
        match meta[set].as_array_mut() {
            Some(all) => all.push(one),
            None => meta[set] = json!([one]),
        }
    }
    Ok(answer(call, meta))
}

fn coding(system: &str, code: &str) -> Value {
    if system.is_empty() { json!({ "code": code }) } else { json!({ "system": system, "code": code }) }
}

/// `/fhir/{type}/{id}/$meta-add`.
pub(in crate::api) async fn add(Path(of): Path<(String, String)>, call: Call, body: Bytes) -> Result<Response, Error> {
    labelled(&call, &of, &body, &META_ADD, Labelling::Add).await
}

/// `/fhir/{type}/{id}/$meta-delete`.
pub(in crate::api) async fn delete(
    Path(of): Path<(String, String)>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    labelled(&call, &of, &body, &META_DELETE, Labelling::Remove).await
}

async fn labelled(
    call: &Call,
    (kind, id): &(String, String),
    body: &[u8],
    operation: &Operation,
    labelling: Labelling,
) -> Result<Response, Error> {
    served(kind)?;
    call.may(kind, Interaction::Update)?;
    let inputs = Inputs::read(call, operation, body)?;
    let sent = inputs.value("meta", "Meta")?.ok_or_else(|| missing("meta", "a valueMeta"))?;
    let (doors, organization) = (Arc::clone(&call.doors), call.caller.organization.as_str());
    let check = |value: Value| as_sent(&value, &doors, organization);
    let (house, actor) = (&call.doors.house, &call.actor);
    let act = || {
        let (of, what) = ((kind.as_str(), id.as_str()), (labelling, sent));
        label(&call.doors.store, house, actor, call.now, &call.request_id, of, what, &check)
    };
    Ok(answer(call, retrying(act).await?))
}

fn answer(call: &Call, meta: Value) -> Response {
    let said = json!({ "resourceType": "Parameters", "parameter": [{ "name": "return", "valueMeta": meta }] });
    call.format.value(StatusCode::OK, &said)
}
