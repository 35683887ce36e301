//! `GET /openapi.json`: the whole HTTP surface as an OpenAPI 3.1 document, made from the CapabilityStatement and the table
//! of operations, so that it says what they say. A test holds it to the routes.

mod parts;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as Extract;
use serde_json::{Map, Value, json};

use super::metadata;
use super::operations::{self, Operation};
use super::state::State;
use crate::fhir::path;

/// Paths, and what each of their methods is.
type Paths = BTreeMap<String, Map<String, Value>>;

/// The OpenAPI document.
pub(super) async fn document(Extract(doors): Extract<State>) -> Json<Value> {
    let statement = metadata::statement(&doors);
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "livewell",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Live Well's link to the GP record, in FHIR R4",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": doors.house.base_url }],
        "tags": [
            { "name": "FHIR", "description": "Resources: https://hl7.org/fhir/R4/http.html" },
            { "name": "Operations", "description": "FHIR operations" },
            { "name": "Service", "description": "How to get in, and whether the service is well" },
        ],
        "paths": paths(&statement),
        "components": parts::components(&doors.tokens.audience),
    }))
}

fn paths(statement: &Value) -> Paths {
    let mut paths = Paths::new();
    for (path, method) in parts::SERVICE {
        add(&mut paths, path, method, parts::service(path));
    }
    let rest = &statement["rest"][0];
    for code in codes(rest) {
        let (path, method) = match code {
            "transaction" | "batch" => ("/fhir", "post"),
            "history-system" => ("/fhir/_history", "get"),
            "search-system" => {
                add(&mut paths, "/fhir/_search", "post", parts::on_system("search-by-form"));
                ("/fhir", "get")
            }
            _ => continue,
        };
        add(&mut paths, path, method, parts::on_system(code));
    }
    let resources = path::all(rest, "resource");
    for resource in &resources {
        let kind = path::text(resource, "type").unwrap_or_default();
        for (method, suffix) in on_type(resource) {
            add(&mut paths, &format!("/fhir/{kind}{suffix}"), method, parts::on_type(kind, method, suffix, resource));
        }
    }
    let searched = kinds(&resources, |resource| codes(resource).contains(&"search-type"));
    add(&mut paths, "/fhir/Patient/{id}/{type}", "get", parts::in_compartment(&searched));
    for (code, path, method) in INSTANCE {
        let types: Vec<&str> = kinds(&resources, |resource| codes(resource).contains(&code));
        if !types.is_empty() {
            add(&mut paths, path, method, parts::on_instance(code, &types));
        }
    }
    for (path, method, of) in EXPORT {
        let named =
            if of.is_empty() { vec![rest] } else { resources.iter().copied().filter(|r| r["type"] == of).collect() };
        if named.iter().any(|said| path::all(said, "operation.name").iter().any(|name| *name == "export")) {
            add(&mut paths, path, method, parts::export(path));
        }
    }
    for operation in operations::ALL {
        add_operation(&mut paths, operation, &resources);
    }
    paths
}

/// The interactions with one resource or with a type as a whole: code, path, method.
const INSTANCE: [(&str, &str, &str); 7] = [
    ("read", "/fhir/{type}/{id}", "get"),
    ("update", "/fhir/{type}/{id}", "put"),
    ("patch", "/fhir/{type}/{id}", "patch"),
    ("delete", "/fhir/{type}/{id}", "delete"),
    ("history-instance", "/fhir/{type}/{id}/_history", "get"),
    ("vread", "/fhir/{type}/{id}/_history/{version}", "get"),
    ("history-type", "/fhir/{type}/_history", "get"),
];

/// Bulk export, which is an operation with doors of its own: path, method, and the type that has it ('' for the base).
const EXPORT: [(&str, &str, &str); 6] = [
    ("/fhir/$export", "get", ""),
    ("/fhir/Patient/$export", "get", "Patient"),
    ("/fhir/Group/{id}/$export", "get", "Group"),
    ("/fhir/$export-status/{id}", "get", ""),
    ("/fhir/$export-status/{id}", "delete", ""),
    ("/fhir/$export-file/{id}/{file}", "get", ""),
];

/// The methods that a type has by itself, each with what follows the type in its path.
fn on_type(resource: &Value) -> Vec<(&'static str, &'static str)> {
    let (codes, yes) = (codes(resource), |name: &str| resource.get(name) == Some(&Value::Bool(true)));
    let deletes = path::text(resource, "conditionalDelete").is_some_and(|said| said != "not-supported");
    let all = [
        ("get", "", codes.contains(&"search-type")),
        ("post", "/_search", codes.contains(&"search-type")),
        ("post", "", codes.contains(&"create")),
        ("put", "", yes("conditionalUpdate")),
        ("patch", "", codes.contains(&"patch") && yes("conditionalUpdate")),
        ("delete", "", deletes),
    ];
    all.into_iter().filter(|(.., offered)| *offered).map(|(method, suffix, _)| (method, suffix)).collect()
}

fn add_operation(paths: &mut Paths, operation: &Operation, resources: &[&Value]) {
    let methods: &[&str] = if operation.changes { &["post"] } else { &["get", "post"] };
    let types = kinds(resources, |resource| {
        let named = path::all(resource, "operation.definition");
        named.iter().any(|definition| definition.as_str() == Some(operation.definition))
    });
    let of = match operation.on {
        [one] => (*one).to_owned(),
        _ => "{type}".to_owned(),
    };
    let places = [
        (String::new(), operation.on_system),
        (format!("/{of}"), operation.on_type),
        (format!("/{of}/{{id}}"), operation.on_instance),
    ];
    for (place, offered) in places {
        for method in methods.iter().filter(|_| offered && !types.is_empty()) {
            // Nothing to validate is in a URL.
            if operation.name == "validate" && !place.ends_with("{id}") && *method == "get" {
                continue;
            }
            let path = format!("/fhir{place}/${}", operation.name);
            add(paths, &path, method, parts::operation(operation, method, &types, &path));
        }
    }
}

fn kinds<'r>(resources: &[&'r Value], wanted: impl Fn(&Value) -> bool) -> Vec<&'r str> {
    resources.iter().filter(|resource| wanted(resource)).filter_map(|resource| path::text(resource, "type")).collect()
}

fn codes(value: &Value) -> Vec<&str> {
    path::all(value, "interaction.code").into_iter().filter_map(Value::as_str).collect()
}

/// Adds a method of a path, with a name that stays the same from release to release.
fn add(paths: &mut Paths, path: &str, method: &str, mut said: Value) {
    let words: Vec<&str> = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    said["operationId"] = json!(format!("{method}-{}", words.join("-")));
    paths.entry(path.to_owned()).or_default().insert(method.to_owned(), said);
}
