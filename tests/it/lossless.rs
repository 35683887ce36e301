//! Whether what is served is what was sent.

use livewell::fhir::systems::{REFERRAL_FLAG, REFERRAL_REFERENCE};
use serde_json::Value;

/// Where the served resource differs from the sent one, beside what the contract lets differ: `id`, what the server says
/// in `meta`, the identifier of ours, the link to our Patient, and references that meant another entry of the same
/// Bundle (`resolved`).
pub(crate) fn difference(sent: &Value, served: &Value, resolved: &dyn Fn(&str) -> bool) -> Option<String> {
    differs(&plain(sent), &plain(served), resolved, sent["resourceType"].as_str().unwrap_or("?"))
}

/// The resource without what may differ.
fn plain(resource: &Value) -> Value {
    let mut plain = resource.clone();
    let Some(fields) = plain.as_object_mut() else { return plain };
    fields.shift_remove("id");
    if let Some(meta) = fields.get_mut("meta").and_then(Value::as_object_mut) {
        meta.shift_remove("versionId");
        meta.shift_remove("lastUpdated");
        without(meta, "tag", |tag| tag["system"] == REFERRAL_FLAG);
        if meta.is_empty() {
            fields.shift_remove("meta");
        }
    }
    without(fields, "identifier", |identifier| identifier["system"] == REFERRAL_REFERENCE);
    without(fields, "link", |link| link["type"] == "refer");
    plain
}

/// Takes the items that are ours out of a list, and the list with its last.
fn without(fields: &mut serde_json::Map<String, Value>, list: &str, ours: impl Fn(&Value) -> bool) {
    let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) else { return };
    items.retain(|item| !ours(item));
    if items.is_empty() {
        fields.shift_remove(list);
    }
}

fn differs(sent: &Value, served: &Value, resolved: &dyn Fn(&str) -> bool, at: &str) -> Option<String> {
    match (sent, served) {
        (Value::Object(a), Value::Object(b)) => {
            let lost = a.keys().find(|name| !b.contains_key(*name)).map(|name| format!("{at}.{name} is lost"));
            let added = b.keys().find(|name| !a.contains_key(*name)).map(|name| format!("{at}.{name} was added"));
            lost.or(added).or_else(|| {
                a.iter().find_map(|(name, value)| match value {
                    Value::String(text) if name == "reference" && resolved(text) => None,
                    _ => differs(value, &b[name], resolved, &format!("{at}.{name}")),
                })
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(n, (a, b))| differs(a, b, resolved, &format!("{at}[{n}]")))
        }
        _ => (sent != served).then(|| format!("{at} is another")),
    }
}
