//! Coded entries only: what is left of a resource when nothing that a person wrote in words may leave.

use serde_json::{Map, Value, json};

use crate::fhir::Resource;

/// The elements of what is written back, and of the datatypes in it, whose text is a code, a time, an address of a
/// definition or an identifier (R4 StructureDefinitions). Everything else that is text goes: a list of what may leave,
/// because a list of what may not would miss an extension. `display` is judged by what it stands beside.
const KEPT: &[&str] = &[
    "resourceType",
    "status",
    "lifecycleStatus",
    "intent",
    "priority",
    "kind",
    "language",
    "implicitRules",
    "mode",
    "code",
    "system",
    "version",
    "unit",
    "comparator",
    "value",
    "use",
    "type",
    "uri",
    "url",
    "reference",
    "start",
    "end",
    "issued",
    "sent",
    "received",
    "created",
    "recorded",
    "authoredOn",
    "occurrenceDateTime",
    "dateTime",
    "startDate",
    "statusDate",
    "dueDate",
    "effectiveDateTime",
    "effectiveInstant",
    "instantiatesCanonical",
    "instantiatesUri",
    "valueCode",
    "valueUri",
    "valueCanonical",
    "valueDate",
    "valueDateTime",
    "valueInstant",
    "valueTime",
    "valueOid",
    "event",
    "periodUnit",
    "durationUnit",
    "dayOfWeek",
    "timeOfDay",
    "when",
    "meaning",
    "authority",
    "verificationDate",
];

/// Whether the resource says in a code what it is; only then is it a coded entry.
pub(super) fn is_coded(resource: &Resource) -> bool {
    match said_by(resource.kind()) {
        Some(element) => resource.text(&format!("{element}.coding.code")).is_some(),
        None => true,
    }
}

/// Takes every free text out, and what is then empty. A required element that was only text says that it is not shared.
pub(super) fn strip(resource: &mut Value) {
    if let Value::Object(fields) = resource {
        // What is contained may be anything, and anyone.
        fields.shift_remove("contained");
    }
    prune(resource, "", false);
    drop_halves(resource);
    let kind = resource.get("resourceType").and_then(Value::as_str).unwrap_or_default();
    if let Some(element) = said_by(kind)
        && resource.get(element).is_none()
    {
        resource[element] = json!({ "text": "Not shared" });
    }
}

/// What lost its meaning with its words: a component or measure that says no longer of what, a range without its ends.
/// R4 requires the other half (Observation.component.code, obs-3, gol-1).
fn drop_halves(resource: &mut Value) {
    let Value::Object(fields) = resource else { return };
    for name in ["component", "referenceRange"] {
        if let Some(Value::Array(items)) = fields.get_mut(name) {
            items.retain(|item| ["code", "low", "high"].iter().any(|half| item.get(half).is_some()));
            if items.is_empty() {
                fields.shift_remove(name);
            }
        }
    }
    let targets = fields.get_mut("target").and_then(Value::as_array_mut);
    for target in targets.into_iter().flatten().filter_map(Value::as_object_mut) {
        if !target.contains_key("measure") {
            target.retain(|name, _| !name.starts_with("detail"));
        }
    }
}

/// The required element that says what the entry is, where it could be text alone.
fn said_by(kind: &str) -> Option<&'static str> {
    match kind {
        "Observation" | "ServiceRequest" => Some("code"),
        "Goal" => Some("description"),
        _ => None,
    }
}

/// Whether anything is left of the value. `listed`: it is an item of a list, which may be left out; another element may be
/// a required one.
fn prune(value: &mut Value, name: &str, listed: bool) -> bool {
    match value {
        Value::String(_) => KEPT.contains(&name),
        Value::Array(items) => {
            items.retain_mut(|item| prune(item, name, true));
            !items.is_empty()
        }
        Value::Object(fields) => {
            let points_inside = fields.get("reference").and_then(Value::as_str).is_some_and(|r| r.starts_with('#'));
            let was_named = points_inside || fields.get("display").is_some_and(Value::is_string);
            let before = fields.len();
            if points_inside {
                fields.clear();
            }
            // The term of a code; beside anything else it is somebody's wording.
            let is_coding = fields.get("code").is_some_and(Value::is_string);
            fields.retain(|name, child| {
                !name.starts_with('_')
                    && !is_attachment_or_note(name, child)
                    && ((name == "display" && is_coding) || prune(child, name, false))
            });
            let spent = is_spent(fields, before);
            if spent && was_named && !listed {
                *value = not_shared();
                return true;
            }
            !spent
        }
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Stands where R4 requires a reference and ours must not be told.
pub(super) fn not_shared() -> Value {
    json!({ "display": "Not shared" })
}

/// An Annotation or an Attachment, by its name or by its shape.
fn is_attachment_or_note(name: &str, value: &Value) -> bool {
    matches!(name, "note" | "text" | "payload" | "progress" | "assigner" | "valueAnnotation" | "valueAttachment")
        || (value.get("contentType").is_some() || value.get("data").is_some_and(Value::is_string))
}

/// Whether nothing is left that says something: an extension without its value is invalid (R4 ext-1).
pub(super) fn is_spent(fields: &Map<String, Value>, before: usize) -> bool {
    fields.is_empty() || (fields.len() == 1 && before > 1 && fields.contains_key("url"))
}
