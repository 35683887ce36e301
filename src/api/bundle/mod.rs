//! `POST /fhir`: a Bundle of requests. A transaction is done all or nothing, a batch entry by entry.

mod batch;
mod entry;

use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::HeaderMap};
use serde_json::{Value, json};

use super::conditions::{Return, idempotency_key, preferred};
use super::error::Error;
use super::format::{checked, parse};
use super::inner::{Answered, Inner};
use super::state::{Call, State};
use crate::fhir::outcome::operation_outcome;
use crate::fhir::{Invalid, Issue, IssueCode, Resource};
use crate::workflow::{self, Answer, Ask, Submission, Written, response_bundle, retrying, submit};

/// `POST /fhir` (<https://hl7.org/fhir/R4/http.html#transaction>).
pub(super) async fn take(
    Extract(doors): Extract<State>,
    Extension(inner): Extension<Inner>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    let bundle = parse(&call, &body)?;
    if bundle.kind() != "Bundle" {
        let text = "The base URL takes a Bundle. Send a single resource to the URL of its type.";
        return Err(refused(IssueCode::Invalid, "resourceType", text));
    }
    match bundle.text("type") {
        Some("transaction") => transaction(&doors, &inner, &call, bundle).await,
        Some("batch") => batch::batch(&doors, &inner, &call, bundle).await,
        Some("message") => {
            let text = "Messages are not taken here so far. Send what they carry as a Bundle of type transaction.";
            Err(workflow::Error::NotSupported(text.to_owned()).into())
        }
        _ => Err(refused(IssueCode::Value, "Bundle.type", "The base URL takes a Bundle of type transaction or batch.")),
    }
}

fn refused(code: IssueCode, expression: impl Into<String>, text: impl Into<String>) -> Error {
    Invalid::malformed(Issue::error(code, expression, text)).into()
}

/// The entries of a Bundle, as they were sent.
fn entries(bundle: &Resource) -> &[Value] {
    bundle.value().get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

async fn transaction(doors: &State, inner: &Inner, call: &Call, bundle: Resource) -> Result<Response, Error> {
    let (bundle, _) = checked(bundle, doors, &call.caller.organization)?;
    let sent = entries(&bundle);
    let mut asked = Vec::with_capacity(sent.len());
    for (at, entry) in sent.iter().enumerate() {
        let read = entry::of_transaction(call, at, entry);
        asked.push(read.map_err(|why| why.at(&format!("Bundle.entry[{at}]")))?);
    }
    // What cannot be read is told before anything is done.
    let mut reads = Vec::new();
    for (at, entry) in asked.iter().enumerate().filter(|(_, entry)| matches!(entry.ask, Ask::Read)) {
        let read = entry::inner(call, &sent[at]).map_err(|why| why.at(&format!("Bundle.entry[{at}]")))?;
        if entry.id.is_none()
            && let Err(answered) = inner.rehearse(call, read.clone()).await
        {
            return Ok(refused_entry(call, at, answered));
        }
        reads.push((at, read));
    }
    let submission = Submission { entries: asked, bundle: true, key: idempotency_key(call)? };
    let answer =
        retrying(|| submit(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &submission)).await?;
    doors.wake.notify_one();
    let mut said = match answer.again {
        Some(first) if reads.is_empty() => return Ok(call.format.stored(StatusCode::OK, first)),
        Some(first) => serde_json::from_str(&first).unwrap_or(Value::Null),
        None => response(call, &answer),
    };
    if reads.is_empty() {
        return Ok(call.format.value(StatusCode::OK, &said));
    }
    let mut entries = said["entry"].as_array().cloned().unwrap_or_default();
    // A first answer that is given again has no places for what is read, unless an earlier release gave it.
    let has_places = entries.len() == sent.len();
    for (at, read) in reads {
        let read = inner.ask(call, read).await.entry(&doors.fhir_base());
        match entries.get_mut(at) {
            Some(place) if has_places => *place = read,
            _ => entries.insert(at.min(entries.len()), read),
        }
    }
    said["entry"] = Value::Array(entries);
    Ok(call.format.value(StatusCode::OK, &said))
}

/// The transaction-response, with as much of what was written as is preferred.
fn response(call: &Call, answer: &Answer) -> Value {
    let mut bundle = response_bundle(&answer.entries, &answer.references, call.now);
    for (at, written) in answer.entries.iter().enumerate() {
        match (preferred(call), written) {
            (Some(Return::Representation), Some(Written { deleted: false, body, .. })) => {
                if let Ok(resource) = serde_json::from_str::<Value>(body) {
                    let response = bundle["entry"][at]["response"].take();
                    bundle["entry"][at] = json!({ "resource": resource, "response": response });
                }
            }
            (Some(Return::OperationOutcome), Some(written)) => {
                let said = format!("{} is at version {}.", written.kind, written.version);
                let mut outcome = operation_outcome(&[Issue::information(said)]);
                let there = &mut bundle["entry"][at]["response"]["outcome"];
                match (there["issue"].as_array_mut(), outcome["issue"].as_array_mut()) {
                    (Some(issues), Some(more)) => issues.append(more),
                    _ => *there = outcome,
                }
            }
            _ => {}
        }
    }
    bundle
}

/// The answer to a transaction of which this entry cannot be done.
fn refused_entry(call: &Call, at: usize, answered: Answered) -> Response {
    let mut outcome = answered.body.unwrap_or_else(|| operation_outcome(&[]));
    for issue in outcome["issue"].as_array_mut().into_iter().flatten() {
        issue["expression"] = json!([format!("Bundle.entry[{at}].request.url")]);
    }
    call.format.value(answered.status, &outcome).into_response()
}

/// The headers by which an entry is conditional.
///
/// # Errors
/// It says what no header holds: a control character, for one.
fn conditions(entry: &Value) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (element, header) in [
        ("ifMatch", "if-match"),
        ("ifNoneMatch", "if-none-match"),
        ("ifModifiedSince", "if-modified-since"),
        ("ifNoneExist", "if-none-exist"),
    ] {
        let said = entry.get("request").and_then(|request| request.get(element)).and_then(Value::as_str);
        let said = said.map(|said| match element {
            "ifModifiedSince" => http_date(said).unwrap_or_else(|| said.to_owned()),
            _ => said.to_owned(),
        });
        if let Some(said) = said {
            let value = said.parse().map_err(|_| {
                let text = format!(
                    "{element} holds a character that it cannot hold. Send it as the header {header} would have it."
                );
                refused(IssueCode::Value, format!("Bundle.entry.request.{element}"), text)
            })?;
            headers.insert(header, value);
        }
    }
    Ok(headers)
}

/// An instant as HTTP has it.
fn http_date(instant: &str) -> Option<String> {
    let time = chrono::DateTime::parse_from_rfc3339(instant).ok()?;
    Some(time.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string())
}
