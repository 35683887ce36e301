//! `POST /fhir`: a transaction Bundle, all or nothing.

use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::conditions::{idempotency_key, version};
use super::error::Error;
use super::format::read;
use super::state::{Call, State};
use super::types::served;
use crate::auth::scope::Interaction;
use crate::fhir::{Invalid, Issue, IssueCode, Resource, path};
use crate::workflow::{self, Entry, Method, Submission, response_bundle, retrying, submit};

/// `POST /fhir` (<https://hl7.org/fhir/R4/http.html#transaction>).
pub(super) async fn transaction(Extract(doors): Extract<State>, call: Call, body: Bytes) -> Result<Response, Error> {
    let (bundle, _) = read(&call, &body)?;
    if bundle.kind() != "Bundle" {
        let text = "The base URL takes a Bundle. Send a single resource to the URL of its type.";
        return Err(refused(IssueCode::Invalid, "resourceType", text));
    }
    match bundle.text("type") {
        Some("transaction") => {}
        Some("batch" | "message") => {
            let text = "Only Bundles of type transaction are taken here so far; batch and message are not built yet.";
            return Err(workflow::Error::NotSupported(text.to_owned()).into());
        }
        _ => return Err(refused(IssueCode::Value, "Bundle.type", "The base URL takes a Bundle of type transaction.")),
    }
    let entries = bundle.value().get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let entries = entries.iter().enumerate().map(|(at, e)| entry(&call, at, e)).collect::<Result<Vec<_>, _>>()?;
    let submission = Submission { entries, bundle: true, key: idempotency_key(&call)? };
    let answer =
        retrying(|| submit(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &submission)).await?;
    doors.wake.notify_one();
    match answer.again {
        Some(first) => Ok(call.format.stored(StatusCode::OK, first)),
        None => Ok(call.format.value(StatusCode::OK, &response_bundle(&answer.entries, call.now))),
    }
}

fn refused(code: IssueCode, expression: impl Into<String>, text: impl Into<String>) -> Error {
    Invalid::malformed(Issue::error(code, expression, text)).into()
}

fn entry(call: &Call, at: usize, entry: &Value) -> Result<Entry, Error> {
    let place = format!("Bundle.entry[{at}]");
    let method = path::text(entry, "request.method").unwrap_or_default();
    let url = path::text(entry, "request.url").unwrap_or_default();
    if !matches!(method, "POST" | "PUT") {
        let text = "In a transaction POST and PUT are taken so far; the other methods are not built yet.".to_owned();
        return Err(match method {
            "" => {
                refused(IssueCode::Required, format!("{place}.request"), "Each entry says its request: method and url.")
            }
            _ => workflow::Error::NotSupported(text).into(),
        });
    }
    let resource = entry.get("resource").cloned().ok_or_else(|| {
        refused(IssueCode::Required, format!("{place}.resource"), format!("A {method} carries its resource. Send it."))
    })?;
    let resource = Resource::from_value(resource)?;
    let kind = resource.kind().to_owned();
    if served(&kind).is_err() {
        let text =
            "This type is not kept here as a resource of its own. Leave the entry out; /fhir/metadata lists what is.";
        let issue = Issue::error(IssueCode::NotSupported, format!("{place}.resource"), text);
        return Err(Invalid::unprocessable(issue).into());
    }
    let (said, id) = url.split_once('/').map_or((url, None), |(kind, id)| (kind, Some(id)));
    if said != kind {
        let text = format!("The url of this entry is {kind} to create, or {kind}/id to update.");
        return Err(refused(IssueCode::Value, format!("{place}.request.url"), text));
    }
    let (method, id) = match (method, id) {
        ("POST", None) => (Method::Create, None),
        ("PUT", Some(id)) if resource.id() == Some(id) => (Method::Update, Some(id.to_owned())),
        _ => {
            let text = format!("POST goes to {kind}; PUT goes to {kind}/id with the id that the resource has.");
            return Err(refused(IssueCode::Value, format!("{place}.request.url"), text));
        }
    };
    call.may(&kind, if method == Method::Create { Interaction::Create } else { Interaction::Update })?;
    let if_match = path::text(entry, "request.ifMatch").map(version).transpose()?;
    let full_url = path::text(entry, "fullUrl").unwrap_or_default().to_owned();
    Ok(Entry {
        full_url,
        method,
        id,
        if_match,
        if_none_exist: path::text(entry, "request.ifNoneExist").map(str::to_owned),
        resource,
        expression: format!("{place}.resource"),
    })
}
