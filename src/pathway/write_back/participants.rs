//! Who was there, with what they are: a practice reads "health coach" where it knows nobody's name.

use serde_json::{Value, json};

use super::Contents;
use super::references::logical;
use crate::fhir::{Resource, path};

/// Gives each participant of the Encounter the code of their role, and names who recorded it where nobody is named.
pub(super) fn complete(encounter: &mut Value, recorded: &Resource, contents: &Contents<'_>) {
    let staff: Vec<Option<Value>> = recorded.all("participant").into_iter().map(|p| role_of(p, contents)).collect();
    let Value::Object(fields) = encounter else { return };
    if let Some(Value::Array(there)) = fields.get_mut("participant") {
        // Only where none was left out on the way, so that nobody gets another's role.
        if there.len() == staff.len() {
            for (participant, role) in there.iter_mut().zip(staff) {
                add(participant, role);
            }
        }
        return;
    }
    let Some(role) = contents.author.role.clone() else { return };
    let mut participant = json!({ "individual": logical(contents.author) });
    if let Some(primary) = contents.codes.coding("participant-primary") {
        participant["type"] = json!([{ "coding": [primary] }]);
    }
    add(&mut participant, Some(role));
    fields.insert("participant".into(), json!([participant]));
}

fn role_of(participant: &Value, contents: &Contents<'_>) -> Option<Value> {
    let said = path::text(participant, "individual.reference")?;
    contents.directory.get(said.split("/_history/").next()?)?.role.clone()
}

fn add(participant: &mut Value, role: Option<Value>) {
    let (Some(role), Value::Object(fields)) = (role, participant) else { return };
    let kinds = fields.entry("type").or_insert_with(|| json!([]));
    if let Value::Array(kinds) = kinds {
        let known =
            kinds.iter().any(|kind| path::all(kind, "coding").into_iter().any(|c| c.get("code") == role.get("code")));
        if !known {
            kinds.push(json!({ "coding": [role] }));
        }
    }
}
