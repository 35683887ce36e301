//! R4's rules on what the entries of a Bundle have (bdl-2, bdl-3, bdl-4, bdl-7).

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::place::{Findings, Place};
use crate::fhir::IssueCode;

pub(super) fn check(bundle: &Map<String, Value>, at: &Place<'_>, found: &mut Findings) {
    let Some(kind) = bundle.get("type").and_then(Value::as_str) else { return };
    let requests = matches!(kind, "batch" | "transaction" | "history");
    let responses = matches!(kind, "batch-response" | "transaction-response" | "history");
    let entries = bundle.get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let list = at.child("entry");
    let mut full_urls = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        if found.full() {
            return;
        }
        let entry_at = list.item(index);
        for (name, rule, wanted) in [("request", "bdl-3", requests), ("response", "bdl-4", responses)] {
            let says = match (wanted, entry.get(name).is_some()) {
                (true, false) => "every entry needs",
                (false, true) => "no entry has",
                _ => continue,
            };
            let text = format!("R4 rule {rule}: in a Bundle of this type {says} {name}.");
            found.error(IssueCode::Invariant, &entry_at.child(name), text);
        }
        if entry.get("search").is_some() && kind != "searchset" {
            let text = "R4 rule bdl-2: search is only for the entries of a searchset.";
            found.error(IssueCode::Invariant, &entry_at.child("search"), text);
        }
        if let Some(full_url) = entry.get("fullUrl").and_then(Value::as_str).filter(|_| kind != "history") {
            let version = entry.pointer("/resource/meta/versionId").and_then(Value::as_str);
            if !full_urls.insert((full_url, version)) {
                let text = "R4 rule bdl-7: two entries have the same fullUrl and version.";
                found.error(IssueCode::Invariant, &entry_at.child("fullUrl"), text);
            }
        }
    }
}
