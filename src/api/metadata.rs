//! `GET /fhir/metadata`: what is truly served, put together from the tables that serve it.

use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::error::Error;
use super::format::Format;
use super::operations;
use super::search::{TRAIL, parameter_names};
use super::state::{Doors, State};
use super::types::Types;
use crate::fhir::search::{include_targets, references};
use crate::fhir::when::instant;
use crate::pathway::notification::BACKPORT;
use crate::workflow::BORN_HERE;

/// The interactions that every served type has.
const INTERACTIONS: [&str; 9] =
    ["create", "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "search-type"];

/// The interactions with all there is.
const SYSTEM: [&str; 4] = ["transaction", "batch", "history-system", "search-system"];

/// Those of them that write.
const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];

/// The CapabilityStatement.
pub(super) async fn metadata(Extract(doors): Extract<State>, uri: Uri, headers: HeaderMap) -> Result<Response, Error> {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|q| q.0).unwrap_or_default();
    let format = Format::wanted(&headers, &query)?;
    Ok(format.value(StatusCode::OK, &statement(&doors)))
}

/// What is served, as a CapabilityStatement.
pub(super) fn statement(doors: &Doors) -> Value {
    let mut resources: Vec<Value> = doors.types.readable().map(|kind| resource(doors, kind)).collect();
    if let Some(subscription) = resources.iter_mut().find(|said| said["type"] == "Subscription") {
        subscription["extension"] = topics(doors);
        subscription["supportedProfile"] = json!([format!("{BACKPORT}backport-subscription")]);
    }
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(doors.started_at),
        "publisher": "Live Well",
        "kind": "instance",
        "software": { "name": "livewell", "version": env!("CARGO_PKG_VERSION") },
        "implementation": { "description": "Live Well's link to the GP record", "url": doors.fhir_base() },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml"],
        "patchFormat": ["application/json-patch+json", "application/fhir+json", "application/fhir+xml"],
        "rest": [{
            "mode": "server",
            "security": {
                "service": [{ "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR",
                }] }],
                "description": "SMART Backend Services: private_key_jwt with RS384, ES384 or RS512, system/ scopes.",
                "extension": [{
                    "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                    "extension": [{ "url": "token", "valueUri": doors.tokens.audience }],
                }],
            },
            "resource": resources,
            "interaction": SYSTEM.map(|code| json!({ "code": code })),
            "searchParam": search_params(""),
            "operation": on_all(),
        }],
    })
}

fn resource(doors: &Doors, kind: &'static str) -> Value {
    let written = doors.types.is_written(kind);
    // A row of the audit trail has one version.
    let one_version = kind == TRAIL;
    let had = |code: &&&str| match one_version {
        true => ["read", "search-type"].contains(*code),
        false => written || !WRITES.contains(*code),
    };
    let interactions: Vec<Value> = INTERACTIONS.iter().filter(had).map(|code| json!({ "code": code })).collect();
    let mut said = json!({
        "type": kind,
        "interaction": interactions,
        "versioning": match kind {
            "Task" => "versioned-update",
            _ if one_version => "no-version",
            _ => "versioned",
        },
        "readHistory": !one_version,
        "updateCreate": written && !BORN_HERE.contains(&kind),
        "conditionalCreate": written,
        "conditionalRead": "full-support",
        "conditionalUpdate": written,
        "conditionalDelete": if written { "single" } else { "not-supported" },
        "searchParam": search_params(kind),
    });
    let includes: Vec<String> = references(kind).iter().map(|code| format!("{kind}:{code}")).collect();
    for (name, values) in [("searchInclude", includes), ("searchRevInclude", rev_includes(kind, &doors.types))] {
        if !values.is_empty() {
            said[name] = ["*".to_owned()].into_iter().chain(values).collect();
        }
    }
    let profiles = doors.profiles.known.of_type(kind);
    if !profiles.is_empty() {
        said["supportedProfile"] = json!(profiles);
    }
    let operations = operations(kind);
    if !operations.is_empty() && !one_version {
        said["operation"] = Value::Array(operations);
    }
    said
}

/// The references of the served types that lead to this one.
fn rev_includes(kind: &str, types: &Types) -> Vec<String> {
    types
        .all()
        .flat_map(|from| references(from).into_iter().map(move |code| (from, code)))
        .filter(|(from, code)| include_targets(from, code).contains(&kind))
        .map(|(from, code)| format!("{from}:{code}"))
        .collect()
}

fn search_params(kind: &str) -> Vec<Value> {
    parameter_names(kind).into_iter().map(|(name, compares)| json!({ "name": name, "type": compares })).collect()
}

/// The topics that can be subscribed to, as the Subscriptions R5 Backport says them in R4.
fn topics(doors: &Doors) -> Value {
    let url = format!("{BACKPORT}capabilitystatement-subscriptiontopic-canonical");
    doors.house.topics.iter().map(|topic| json!({ "url": url, "valueCanonical": topic.url })).collect()
}

/// An operation of Bulk Data, by the id of its definition.
fn bulk_export(id: &str) -> Value {
    json!({
        "name": "export",
        "definition": format!("http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{id}"),
        "documentation": "By GET, with Prefer: respond-async. Takes _type, _typeFilter, _since, _outputFormat.",
    })
}

fn said(operation: &&operations::Operation) -> Value {
    json!({
        "name": operation.name,
        "definition": operation.definition,
        "documentation": operation.documentation(),
    })
}

/// What is called on all there is.
fn on_all() -> Vec<Value> {
    let ours = operations::ALL.iter().filter(|operation| operation.on_system).map(said);
    ours.chain([bulk_export("export")]).collect()
}

fn operations(kind: &str) -> Vec<Value> {
    let on = operations::ALL.iter().filter(|operation| operation.is_on(kind));
    let export = match kind {
        "Patient" => Some("patient-export"),
        "Group" => Some("group-export"),
        _ => None,
    };
    on.map(said).chain(export.map(bulk_export)).collect()
}
