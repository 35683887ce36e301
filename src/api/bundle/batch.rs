//! A batch: each entry is a request by itself, and what comes of one is nothing to the others
//! (<https://hl7.org/fhir/R4/http.html#brules>).

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::super::conditions::idempotency_key;
use super::super::error::Error;
use super::super::format::{Format, checked};
use super::super::inner::{Answered, Inner};
use super::super::state::{Call, State};
use super::{entries, entry, refused};
use crate::fhir::when::instant;
use crate::fhir::{IssueCode, Resource};

/// Does the entries of a batch in their order, and answers each at its place.
pub(super) async fn batch(doors: &State, inner: &Inner, call: &Call, bundle: Resource) -> Result<Response, Error> {
    if idempotency_key(call)?.is_some() {
        let text =
            "A batch is no single act that a key could stand for. Send it without Idempotency-Key, or a transaction.";
        return Err(refused(IssueCode::Invalid, "Bundle", text));
    }
    // Each entry is checked by itself: one that is wrong must not keep the others from being done.
    checked(without_resources(&bundle), doors, &call.caller.organization)?;
    let base = doors.fhir_base();
    let mut answers = Vec::new();
    for (at, sent) in entries(&bundle).iter().enumerate() {
        answers.push(one(inner, call, at, sent).await.entry(&base));
    }
    let mut response = json!({ "resourceType": "Bundle", "type": "batch-response", "timestamp": instant(call.now) });
    if !answers.is_empty() {
        response["entry"] = Value::Array(answers);
    }
    Ok(call.format.value(StatusCode::OK, &response))
}

async fn one(inner: &Inner, call: &Call, at: usize, sent: &Value) -> Answered {
    match entry::inner(call, sent) {
        Ok(mut asked) => {
            let prefer = call.header("prefer").and_then(|prefer| HeaderValue::from_str(prefer).ok());
            asked.headers.insert("prefer", prefer.unwrap_or(HeaderValue::from_static("return=minimal")));
            inner.ask(call, asked).await
        }
        Err(why) => Answered::read(why.at(&format!("Bundle.entry[{at}]")).answer(&Format::default())).await,
    }
}

/// The Bundle as it stands around its entries' resources.
fn without_resources(bundle: &Resource) -> Resource {
    let mut around = bundle.clone();
    for entry in around.map_mut().get_mut("entry").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(fields) = entry.as_object_mut() {
            fields.shift_remove("resource");
        }
    }
    around
}
