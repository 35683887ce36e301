//! Who recorded what leaves, for whom, and when.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::references::logical;
use super::{Contents, Outgoing, RECORD_SYSTEM, full_url};

const DATA_OPERATION: &str = "http://terminology.hl7.org/CodeSystem/v3-DataOperation";
const PARTICIPANT: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";

/// The Provenance of everything in the write-back, known by the delivery's id in a `meta.tag`.
pub(super) fn of(contents: &Contents<'_>, out: &[Outgoing]) -> Outgoing {
    let target: Vec<Value> = out
        .iter()
        .map(|o| match &o.previous {
            Some(copy) if !copy.reference.is_empty() => json!({ "reference": copy.reference }),
            _ => json!({ "reference": full_url(&o.key) }),
        })
        .collect();
    let new = out.iter().any(|o| o.previous.is_none());
    let (code, display) = if new { ("CREATE", "create") } else { ("UPDATE", "revise") };
    let resource = json!({
        "resourceType": "Provenance",
        "meta": { "tag": [{ "system": RECORD_SYSTEM, "code": contents.delivery_id }] },
        "target": target,
        "recorded": contents.recorded.to_rfc3339_opts(SecondsFormat::Millis, true),
        "activity": { "coding": [{ "system": DATA_OPERATION, "code": code, "display": display }] },
        "agent": [{
            "type": { "coding": [{ "system": PARTICIPANT, "code": "author", "display": "Author" }] },
            "who": logical(contents.author),
            "onBehalfOf": logical(contents.organization),
        }],
    });
    Outgoing { key: format!("Provenance/{}", contents.delivery_id), version: 1, resource, previous: None }
}
