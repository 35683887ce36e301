//! `GET /fhir/metadata`: what is truly served, put together from the tables that serve it.

use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::error::Error;
use super::format::Format;
use super::search::TASK_PARAMETERS;
use super::state::State;
use super::types;
use crate::fhir::index::{self, ParamType};
use crate::fhir::when::instant;

/// The interactions that every served type has.
const INTERACTIONS: [&str; 6] = ["create", "read", "vread", "update", "history-instance", "search-type"];

/// The CapabilityStatement.
pub(super) async fn metadata(Extract(doors): Extract<State>, uri: Uri, headers: HeaderMap) -> Result<Response, Error> {
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|q| q.0).unwrap_or_default();
    let format = Format::wanted(&headers, &query)?;
    let resources: Vec<Value> = types::all().map(resource).collect();
    let statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(doors.started_at),
        "publisher": "Live Well",
        "kind": "instance",
        "software": { "name": "livewell", "version": env!("CARGO_PKG_VERSION") },
        "implementation": { "description": "Live Well's link to the GP record", "url": doors.fhir_base() },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml"],
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
            "interaction": [{ "code": "transaction" }],
        }],
    });
    Ok(format.value(StatusCode::OK, &statement))
}

fn resource(kind: &'static str) -> Value {
    let interactions: Vec<Value> = INTERACTIONS.iter().map(|code| json!({ "code": code })).collect();
    let mut said = json!({
        "type": kind,
        "interaction": interactions,
        "versioning": if kind == "Task" { "versioned-update" } else { "versioned" },
        "readHistory": true,
        "updateCreate": false,
        "conditionalCreate": true,
        "conditionalUpdate": false,
        "conditionalDelete": "not-supported",
        "searchParam": search_params(kind),
    });
    let profiles: Vec<String> = crate::fhir::profiles::resources()
        .iter()
        .filter(|p| {
            p.kind() == "StructureDefinition"
                && p.text("type") == Some(kind)
                && p.text("derivation") == Some("constraint")
        })
        .filter_map(|p| p.text("url").map(str::to_owned))
        .collect();
    if !profiles.is_empty() {
        said["supportedProfile"] = json!(profiles);
    }
    let operations = operations(kind);
    if !operations.is_empty() {
        said["operation"] = Value::Array(operations);
    }
    said
}

fn search_params(kind: &str) -> Vec<Value> {
    let own = |name: &str, compares: &str| json!({ "name": name, "type": compares });
    if kind == "Task" {
        return TASK_PARAMETERS.iter().filter(|(name, _)| !name.contains('.')).map(|(name, t)| own(name, t)).collect();
    }
    let mut params = vec![own("_id", "token"), own("_lastUpdated", "date"), own("patient", "reference")];
    params.extend(index::params(kind).map(|p| {
        own(
            p.code,
            match p.compares {
                ParamType::Token => "token",
                ParamType::Reference => "reference",
                ParamType::Date => "date",
                ParamType::Name => "string",
                ParamType::Uri => "uri",
            },
        )
    }));
    params
}

fn operations(kind: &str) -> Vec<Value> {
    let names: &[(&str, &str)] = match kind {
        "Task" => &[
            ("claim-next", "Task-claim-next"),
            ("claim", "Task-claim"),
            ("release", "Task-release"),
            ("complete", "Task-complete"),
        ],
        "ServiceRequest" => &[("status", "ServiceRequest-status")],
        _ => &[],
    };
    names
        .iter()
        .map(|(name, id)| json!({ "name": name, "definition": format!("https://livewell.example/OperationDefinition/{id}") }))
        .collect()
}
