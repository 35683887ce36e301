//! The transaction Bundle: from entries to changes, and from what was done to the answer.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::change::{Change, Done, Wish};
use super::refusal::Refusal;
use crate::fhir::{IssueCode, path};

/// The changes a transaction Bundle asks for, in its order. Only POST and PUT are offered.
pub(super) fn changes(bundle: &Value) -> Result<Vec<Change>, Refusal> {
    let kind = (path::text(bundle, "resourceType"), path::text(bundle, "type"));
    if kind != (Some("Bundle"), Some("transaction")) {
        return Err(Refusal::bad_request("The base takes a Bundle of type transaction."));
    }
    let entries = bundle.get("entry").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    entries.iter().enumerate().map(|(n, entry)| change(n, entry)).collect()
}

fn change(n: usize, entry: &Value) -> Result<Change, Refusal> {
    let at = format!("Bundle.entry[{n}]");
    let refused = |text: &str| Refusal::at(StatusCode::BAD_REQUEST, IssueCode::Invalid, at.clone(), text);
    let resource = entry.get("resource").cloned().ok_or_else(|| refused("The entry has no resource."))?;
    let kind = path::text(&resource, "resourceType").unwrap_or_default().to_owned();
    let url = path::text(entry, "request.url").unwrap_or_default().trim_start_matches('/');
    let said = |field: &str| path::text(entry, &format!("request.{field}")).map(str::to_owned);
    let wish = match path::text(entry, "request.method") {
        Some("POST") if !kind.is_empty() && url == kind => Wish::Create { if_none_exist: said("ifNoneExist") },
        Some("PUT") => match url.split_once('/') {
            Some((of, id)) if of == kind && path::text(&resource, "id") == Some(id) => {
                Wish::Update { id: id.to_owned(), if_match: said("ifMatch") }
            }
            _ => return Err(refused("A PUT names Type/id, and the resource says the same type and id.")),
        },
        Some("POST") => return Err(refused("A POST names the type of its resource.")),
        _ => return Err(refused("Only POST and PUT are offered in a transaction.")),
    };
    let full_url = path::text(entry, "fullUrl").map(str::to_owned);
    Ok(Change { at: format!("{at}.resource"), full_url, wish, resource })
}

/// The transaction-response, entry for entry.
pub(super) fn response(done: &[Done]) -> Value {
    let entry: Vec<Value> = done
        .iter()
        .map(|d| {
            json!({ "response": {
                "status": d.status.to_string(),
                "location": d.location(),
                "etag": d.etag(),
                "lastModified": d.resource["meta"]["lastUpdated"],
            }})
        })
        .collect();
    let mut bundle = json!({ "resourceType": "Bundle", "type": "transaction-response" });
    if !entry.is_empty() {
        bundle["entry"] = Value::Array(entry);
    }
    bundle
}
