//! The audit trail as AuditEvents: put together from its rows when they are asked for, and never stored.

use serde_json::{Value, json};

use crate::fhir::audit_event::{DESTINATION, SOURCE, meaning, outcome, says_more};
use crate::fhir::systems::{AUDITED, CLIENT, ODS};
use crate::fhir::when::instant;
use crate::store::{AuditRow, Stored};

/// A row of the audit trail as the one version of an AuditEvent.
pub fn audit_event(row: &AuditRow) -> Stored {
    let recorded = instant(row.at.time());
    let meaning = meaning(&row.interaction);
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": row.id,
        "meta": { "versionId": "1", "lastUpdated": recorded },
        "type": meaning.event.coding(),
    });
    let mut subtypes: Vec<Value> = meaning.subtype.iter().map(|subtype| subtype.coding()).collect();
    if says_more(&row.interaction) {
        subtypes.push(json!({ "system": AUDITED, "code": row.interaction }));
    }
    event["subtype"] = Value::Array(subtypes);
    event["action"] = json!(meaning.action);
    event["recorded"] = json!(recorded);
    event["outcome"] = json!(outcome(&row.outcome));
    if let Some(said) = outcome_said(row) {
        event["outcomeDesc"] = json!(said);
    }
    event["agent"] = agents(row, meaning.action);
    event["source"] = json!({
        "observer": { "type": "Device", "display": "livewell" },
        "type": [{ "system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4", "display": "Application Server" }],
    });
    let entities = entities(row);
    if !entities.is_empty() {
        event["entity"] = Value::Array(entities);
    }
    Stored {
        kind: "AuditEvent".to_owned(),
        id: row.id.clone(),
        version: 1,
        updated_at: row.at,
        deleted: false,
        sender: row.organization.clone(),
        person: row.person.clone(),
        referral: String::new(),
        body: event.to_string(),
    }
}

fn outcome_said(row: &AuditRow) -> Option<String> {
    match (row.outcome.as_str(), row.times) {
        ("success", _) => None,
        (status, 1) => Some(format!("Refused with status {status}.")),
        (status, times) => Some(format!("Refused with status {status}, {times} times within a minute.")),
    }
}

/// The client, the member of staff who acted, and the organisation it was for.
fn agents(row: &AuditRow, action: &str) -> Value {
    let role = if action == "R" { DESTINATION } else { SOURCE };
    let mut agents = vec![json!({
        "type": { "coding": [role.coding()] },
        "who": { "type": "Device", "identifier": { "system": CLIENT, "value": row.client } },
        "name": row.client,
        "requestor": row.actor.is_empty(),
    })];
    if !row.actor.is_empty() {
        let human = json!({
            "system": "http://terminology.hl7.org/CodeSystem/extra-security-role-type",
            "code": "humanuser",
            "display": "human user",
        });
        agents.push(json!({ "type": { "coding": [human] }, "who": { "reference": row.actor }, "requestor": true }));
    }
    if !row.organization.is_empty() {
        let organization =
            json!({ "type": "Organization", "identifier": { "system": ODS, "value": row.organization } });
        agents.push(json!({ "who": organization, "requestor": false }));
    }
    Value::Array(agents)
}

/// What was touched, whom it is about, and the request that did it.
fn entities(row: &AuditRow) -> Vec<Value> {
    let object = |code: &str, display: &str| json!({ "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": code, "display": display });
    let role = |code: &str, display: &str| json!({ "system": "http://terminology.hl7.org/CodeSystem/object-role", "code": code, "display": display });
    let patient = format!("Patient/{}", row.person);
    let mut entities = Vec::new();
    match row.target.split_once('/') {
        _ if row.target == patient && !row.person.is_empty() => {}
        // A practice is known by its code, whether or not the directory has it.
        Some(("Organization", ods)) if row.interaction.starts_with("delivery ") => entities.push(json!({
            "what": { "type": "Organization", "identifier": { "system": ODS, "value": ods } },
            "type": object("4", "Other"),
        })),
        Some(_) => entities.push(json!({
            "what": { "reference": row.target },
            "type": object("2", "System Object"),
            "role": role("4", "Domain Resource"),
        })),
        None if row.target.is_empty() => {}
        None => entities.push(json!({ "type": object("2", "System Object"), "name": row.target })),
    }
    if !row.person.is_empty() {
        entities.push(json!({
            "what": { "reference": patient }, "type": object("1", "Person"), "role": role("1", "Patient"),
        }));
    }
    if !row.request_id.is_empty() {
        entities.push(json!({
            "what": { "identifier": { "value": row.request_id } },
            "type": { "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "code": "XrequestId" },
        }));
    }
    entities
}
