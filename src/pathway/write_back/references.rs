//! References as the practice can follow them: its own Patient, entries of the same transaction, entries it already has,
//! and everything else by identifier and name.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::coded::{is_spent, not_shared};
use super::{Contents, Logical, OWN_WORDS, PRACTICE_PATIENT, RECORD_SYSTEM, full_url, record_id};

/// Kinds that hold the person's own words: not even their existence is told, but where the person shares them.
const STAYS: &[&str] = &[OWN_WORDS, "Questionnaire"];

/// Rewrites every reference in the resource; `set` are the keys that leave together.
pub(super) fn rewrite(resource: &mut Value, contents: &Contents<'_>, set: &BTreeSet<String>) {
    let people = contained_ids(resource, |kind| kind == "Patient");
    let staying = contained_ids(resource, |kind| STAYS.contains(&kind));
    walk(resource, &Rewriting { contents, set, people, staying }, false);
    drop_unused_contained(resource);
}

struct Rewriting<'a> {
    contents: &'a Contents<'a>,
    set: &'a BTreeSet<String>,
    /// `#id` of contained Patients: the person, as every Patient in a person's own record is.
    people: BTreeSet<String>,
    /// `#id` of what stays here.
    staying: BTreeSet<String>,
}

/// Whether anything is left of the value. `listed`: it is an item of a list, which may be left out; another element may be
/// a required one.
fn walk(value: &mut Value, how: &Rewriting<'_>, listed: bool) -> bool {
    match value {
        Value::Array(items) => {
            items.retain_mut(|item| walk(item, how, true));
            !items.is_empty()
        }
        Value::Object(fields) => {
            if fields.get("reference").is_some_and(Value::is_string) {
                match how.reference(fields) {
                    Some(new) => *value = new,
                    None if listed => return false,
                    None => *value = not_shared(),
                }
                return true;
            }
            // A relative Attachment.url is a Binary of ours, which the practice cannot fetch.
            if fields.contains_key("contentType") && fields.get("url").and_then(Value::as_str).is_some_and(is_local) {
                fields.shift_remove("url");
            }
            let before = fields.len();
            fields.retain(|_, child| walk(child, how, false));
            !is_spent(fields, before)
        }
        _ => true,
    }
}

impl Rewriting<'_> {
    /// The reference as it leaves; none where it must not be told.
    fn reference(&self, fields: &Map<String, Value>) -> Option<Value> {
        let said = fields.get("reference").and_then(Value::as_str).unwrap_or_default();
        if self.people.contains(said) {
            return Some(json!({ "reference": PRACTICE_PATIENT }));
        }
        if self.staying.contains(said) {
            return None;
        }
        if said.starts_with('#') {
            return Some(Value::Object(fields.clone()));
        }
        if !is_local(said) {
            return Some(elsewhere(said, fields));
        }
        let key = said.split_once("/_history/").map_or(said, |(key, _)| key);
        let kind = key.split_once('/').map_or("", |(kind, _)| kind);
        if self.contents.person.contains(key) {
            Some(json!({ "reference": PRACTICE_PATIENT }))
        } else if kind == "Patient" || (STAYS.contains(&kind) && !self.contents.shares_words(key)) {
            None
        } else if let Some(copy) = self.contents.copies.get(key).filter(|copy| !copy.reference.is_empty()) {
            Some(json!({ "reference": copy.reference }))
        } else if self.set.contains(key) {
            Some(json!({ "reference": full_url(key) }))
        } else {
            Some(by_name(kind, key, fields, self.contents.directory.get(key)))
        }
    }
}

/// The logical reference to a person, place or thing in the directory.
pub(super) fn logical(who: &Logical) -> Value {
    let mut said = json!({ "type": who.kind });
    if let Some((system, value)) = &who.identifier {
        said["identifier"] = json!({ "system": system, "value": value });
    }
    if let Some(name) = &who.display {
        said["display"] = json!(name);
    }
    said
}

fn by_name(kind: &str, key: &str, fields: &Map<String, Value>, known: Option<&Logical>) -> Value {
    let mut said = known.map_or_else(|| json!({ "type": kind }), logical);
    if said.get("identifier").is_none() {
        let ours = || json!({ "system": RECORD_SYSTEM, "value": record_id(key) });
        said["identifier"] = fields.get("identifier").cloned().unwrap_or_else(ours);
    }
    if said.get("display").is_none()
        && let Some(display) = fields.get("display")
    {
        said["display"] = display.clone();
    }
    said
}

/// A reference to another server: named, not linked, so that nobody is led to fetch it.
fn elsewhere(said: &str, fields: &Map<String, Value>) -> Value {
    let mut kept = fields.clone();
    kept.shift_remove("reference");
    if !kept.contains_key("identifier") {
        kept.insert("identifier".into(), json!({ "system": "urn:ietf:rfc:3986", "value": said }));
    }
    Value::Object(kept)
}

fn is_local(reference: &str) -> bool {
    !reference.contains(':')
}

fn contained_ids(resource: &Value, is: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let contained = resource.get("contained").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ids = contained.iter().filter(|c| c.get("resourceType").and_then(Value::as_str).is_some_and(&is));
    ids.filter_map(|c| c.get("id").and_then(Value::as_str)).map(|id| format!("#{id}")).collect()
}

/// A contained resource that nothing names is invalid (R4 dom-3), and after the rewriting some are.
fn drop_unused_contained(resource: &mut Value) {
    // One that goes may be the last to have named another.
    loop {
        let mut named = BTreeSet::new();
        collect_fragments(resource, &mut named);
        let Some(Value::Array(contained)) = resource.get_mut("contained") else { return };
        let before = contained.len();
        contained.retain(|c| c.get("id").and_then(Value::as_str).is_some_and(|id| named.contains(id)));
        if contained.len() == before {
            break;
        }
    }
    let Value::Object(fields) = resource else { return };
    let Some(Value::Array(contained)) = fields.get_mut("contained") else { return };
    for inner in contained.iter_mut().filter_map(Value::as_object_mut) {
        // Its narrative was written elsewhere, for another reader.
        inner.shift_remove("text");
    }
    if contained.is_empty() {
        fields.shift_remove("contained");
    }
}

fn collect_fragments(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_fragments(item, into)),
        Value::Object(fields) => {
            if let Some(id) = fields.get("reference").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) {
                into.insert(id.to_owned());
            }
            fields.values().for_each(|child| collect_fragments(child, into));
        }
        _ => {}
    }
}
