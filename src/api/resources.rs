//! The FHIR interactions with one resource: create, read, vread, history, update.

use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::conditions::{Return, condition, idempotency_key, if_match, preferred};
use super::error::Error;
use super::format::read;
use super::state::{Call, State};
use super::types::served;
use crate::auth::scope::Interaction;
use crate::fhir::outcome::operation_outcome;
use crate::fhir::when::instant;
use crate::fhir::{Invalid, Issue, IssueCode, Resource, Severity};
use crate::workflow::{self, Entry, Method, Submission, Written, audit_row, retrying, submit};

/// `POST /fhir/{type}` (<https://hl7.org/fhir/R4/http.html#create>).
pub(super) async fn create(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Create)?;
    let (mut resource, warnings) = read(&call, &body)?;
    of_type(&resource, &kind)?;
    resource.map_mut().shift_remove("id");
    let entry = Entry {
        full_url: String::new(),
        method: Method::Create,
        id: None,
        if_match: None,
        if_none_exist: condition(&call, "if-none-exist")?.map(str::to_owned),
        resource,
        expression: kind,
    };
    let submission = Submission { entries: vec![entry], bundle: false, key: idempotency_key(&call)? };
    let answer =
        retrying(|| submit(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &submission)).await?;
    doors.wake.notify_one();
    match (answer.again, answer.entries.into_iter().next()) {
        (Some(bundle), _) => Ok(call.format.stored(StatusCode::OK, bundle)),
        (None, Some(written)) => {
            let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
            Ok(written_answer(&call, status, written, warnings))
        }
        (None, None) => Err(workflow::Error::NotFound.into()),
    }
}

/// `PUT /fhir/{type}/{id}` (<https://hl7.org/fhir/R4/http.html#update>).
pub(super) async fn update(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Update)?;
    let (resource, warnings) = read(&call, &body)?;
    of_type(&resource, &kind)?;
    if resource.id() != Some(id.as_str()) {
        return Err(Invalid::malformed(Issue::error(
            IssueCode::Value,
            format!("{kind}.id"),
            "The id in the body is that of the URL. Send the resource as it was read, changed.",
        ))
        .into());
    }
    let entry = Entry {
        full_url: String::new(),
        method: Method::Update,
        id: Some(id),
        if_match: if_match(&call)?,
        if_none_exist: None,
        resource,
        expression: kind,
    };
    let submission = Submission { entries: vec![entry], bundle: false, key: idempotency_key(&call)? };
    let answer =
        retrying(|| submit(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &submission)).await?;
    doors.wake.notify_one();
    let written = answer.entries.into_iter().next().ok_or(workflow::Error::NotFound)?;
    Ok(written_answer(&call, StatusCode::OK, written, warnings))
}

fn of_type(resource: &Resource, kind: &str) -> Result<(), Error> {
    if resource.kind() == kind {
        return Ok(());
    }
    Err(Invalid::malformed(Issue::error(
        IssueCode::Invalid,
        "resourceType",
        format!("The URL says {kind} and the body another type. Send the resource to the URL of its type."),
    ))
    .into())
}

/// `GET /fhir/{type}/{id}` (<https://hl7.org/fhir/R4/http.html#read>).
pub(super) async fn read_one(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Read)?;
    let stored = doors.store.look().await?.resource(&kind, &id, &call.actor.sight).await?;
    let stored = stored.ok_or(workflow::Error::NotFound)?;
    disclose(&call, "read", &format!("{kind}/{id}"), &stored.person).await?;
    if stored.deleted {
        return Err(workflow::Error::Gone.into());
    }
    let tag = etag(stored.version);
    if call.header("if-none-match").is_some_and(|tags| tags.split(',').any(|t| t.trim() == tag)) {
        return Ok(tagged(StatusCode::NOT_MODIFIED.into_response(), stored.version, stored.updated_at.time()));
    }
    let response = call.format.stored(StatusCode::OK, stored.body);
    Ok(tagged(response, stored.version, stored.updated_at.time()))
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

/// `GET /fhir/{type}/{id}/_history` (<https://hl7.org/fhir/R4/http.html#history>).
pub(super) async fn history(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Read)?;
    let mut tx = doors.store.read().await?;
    let person = tx.resource(&kind, &id, &call.actor.sight).await?.map(|s| s.person).unwrap_or_default();
    let rows = tx.versions(&kind, &id, &call.actor.sight).await?;
    drop(tx);
    if rows.is_empty() {
        return Err(workflow::Error::NotFound.into());
    }
    disclose(&call, "history-instance", &format!("{kind}/{id}"), &person).await?;
    let base = doors.fhir_base();
    let entries: Vec<Value> = rows
        .iter()
        .map(|row| {
            let body: Value = serde_json::from_str(&row.body).unwrap_or(Value::Null);
            json!({
                "fullUrl": format!("{base}/{kind}/{id}"),
                "resource": body,
                "request": {
                    "method": if row.version == 1 { "POST" } else { "PUT" },
                    "url": if row.version == 1 { kind.clone() } else { format!("{kind}/{id}") },
                },
                "response": {
                    "status": if row.version == 1 { "201" } else { "200" },
                    "etag": etag(row.version),
                    "lastModified": instant(row.updated_at.time()),
                },
            })
        })
        .collect();
    let bundle = json!({
        "resourceType": "Bundle",
        "type": "history",
        "total": entries.len(),
        "link": [{ "relation": "self", "url": format!("{base}/{kind}/{id}/_history") }],
        "entry": entries,
    });
    Ok(call.format.value(StatusCode::OK, &bundle))
}

/// Writes the audit row of a disclosure; only then does it leave.
pub(super) async fn disclose(call: &Call, interaction: &str, target: &str, person: &str) -> Result<(), Error> {
    let row = audit_row(&call.actor, call.now, &call.request_id, interaction, target, person, "success");
    Ok(call.doors.store.disclose(row).await?)
}

/// The weak tag of a version.
pub(super) fn etag(version: i64) -> String {
    format!("W/\"{version}\"")
}

/// The answer to something written: status, where it is, which version, and as much of it as is preferred. What a
/// profile warns of is said where an OperationOutcome is preferred.
pub(super) fn written_answer(call: &Call, status: StatusCode, written: Written, warnings: Vec<Issue>) -> Response {
    let location = format!("{}/{}/{}/_history/{}", call.doors.fhir_base(), written.kind, written.id, written.version);
    let response = match preferred(call) {
        Return::Representation => call.format.stored(status, written.body),
        Return::Minimal => status.into_response(),
        Return::OperationOutcome => {
            let said = format!("{} is at version {}.", written.kind, written.version);
            let issue = Issue { severity: Severity::Information, ..Issue::general(IssueCode::Informational, said) };
            let said: Vec<Issue> = std::iter::once(issue).chain(warnings).collect();
            call.format.value(status, &operation_outcome(&said))
        }
    };
    let mut response = tagged(response, written.version, written.updated_at);
    if let Ok(value) = HeaderValue::from_str(&location) {
        let name = if status == StatusCode::CREATED { header::LOCATION } else { header::CONTENT_LOCATION };
        response.headers_mut().insert(name, value);
    }
    response
}

fn tagged(mut response: Response, version: i64, updated_at: DateTime<Utc>) -> Response {
    let modified = updated_at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (name, text) in [(header::ETAG, etag(version)), (header::LAST_MODIFIED, modified)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
