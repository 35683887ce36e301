//! The pieces the document is made of.

use serde_json::{Map, Value, json};

use crate::api::operations::Operation;
use crate::fhir::path;

/// The paths beside the FHIR base's resources.
pub(super) const SERVICE: [(&str, &str); 9] = [
    ("/livez", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
    ("/openapi.json", "get"),
    ("/fhir/metadata", "get"),
    ("/fhir/.well-known/smart-configuration", "get"),
    ("/.well-known/jwks.json", "get"),
    ("/oauth/token", "post"),
    ("/oauth/introspect", "post"),
];

fn in_query(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

/// What every path of resources has: the parameters in it, those that shape the answer, and the need of a token.
fn of_fhir(mut said: Value, types: &[&str], path_has: &[&str]) -> Value {
    let in_path = |name: &&str| {
        let schema = match *name {
            "type" => json!({ "type": "string", "enum": types }),
            "file" => json!({ "type": "string" }),
            "version" => json!({ "type": "string", "pattern": "^[0-9]{1,18}$" }),
            _ => json!({ "$ref": "#/components/schemas/Id" }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    };
    let mut parameters: Vec<Value> = path_has.iter().map(in_path).collect();
    parameters.extend(said.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default());
    parameters.extend(["format", "pretty"].map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })));
    said["parameters"] = Value::Array(parameters);
    said["security"] = json!([{ "smart": [] }]);
    said
}

/// A body in FHIR's two formats.
fn fhir(schema: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
    json!({ "application/fhir+json": { "schema": schema }, "application/fhir+xml": { "schema": { "type": "string" } } })
}

fn body(schema: &str, required: bool) -> Value {
    json!({ "required": required, "content": fhir(schema) })
}

/// What is answered: each status with the resource it carries ('' for none), and an OperationOutcome for all else.
fn responses(good: &[(&str, &str)]) -> Value {
    let mut responses = json!({ "default": { "$ref": "#/components/responses/Refused" } });
    for (status, schema) in good {
        responses[*status] = match *schema {
            "" => json!({ "description": "Done" }),
            schema => json!({ "description": "Done", "content": fhir(schema) }),
        };
    }
    responses
}

fn header(name: &str, description: &str) -> Value {
    json!({ "name": name, "in": "header", "description": description, "schema": { "type": "string" } })
}

/// What the base as a whole does.
pub(super) fn on_system(code: &str) -> Value {
    let mut said = json!({ "tags": ["FHIR"], "summary": code, "responses": responses(&[("200", "Bundle")]) });
    if matches!(code, "transaction" | "batch") {
        said["summary"] = json!("A transaction, or a batch where the CapabilityStatement says so");
        said["requestBody"] = body("Bundle", true);
    }
    match code {
        "search-system" => {
            let texts = ["_type", "_id", "_lastUpdated", "_tag", "_profile", "_security", "_page"];
            said["parameters"] =
                json!(texts.map(|name| in_query(name, "What is searched for", &json!({ "type": "string" }))));
            said["summary"] = json!("Search of several types");
        }
        "search-by-form" => {
            said["summary"] = json!("Search of several types, keeping what is searched for out of URLs");
            said["requestBody"] = search_form();
        }
        _ => {}
    }
    of_fhir(said, &[], &[])
}

/// Search, create, and what is done to the one resource that criteria find.
pub(super) fn on_type(kind: &str, method: &str, suffix: &str, resource: &Value) -> Value {
    let parameter = |p: &Value| {
        let (name, compares) = (path::text(p, "name")?, path::text(p, "type")?);
        Some(in_query(name, &format!("A {compares} parameter"), &json!({ "type": "string" })))
    };
    let count = in_query("_count", "Matches on a page", &json!({ "type": "integer", "minimum": 0 }));
    let criteria: Vec<Value> =
        path::all(resource, "searchParam").into_iter().filter_map(parameter).chain([count]).collect();
    let said = match (method, suffix) {
        ("get", _) => {
            json!({ "summary": format!("Search {kind}"), "parameters": criteria, "responses": responses(&[("200", "Bundle")]) })
        }
        ("post", "/_search") => {
            json!({
                "summary": format!("Search {kind}, keeping what is searched for out of URLs"),
                "requestBody": search_form(),
                "responses": responses(&[("200", "Bundle")]),
            })
        }
        ("post", _) => json!({
            "summary": format!("Create a {kind}"),
            "parameters": [
                header("If-None-Exist", "Criteria under which it is not made again"),
                header("Idempotency-Key", "A key that makes a resend safe"),
                header("Prefer", "return=minimal, return=representation or return=OperationOutcome"),
            ],
            "requestBody": body("Resource", true),
            "responses": responses(&[("200", "Resource"), ("201", "Resource")]),
        }),
        ("delete", _) => json!({
            "summary": format!("Delete the {kind} that the criteria find"), "parameters": criteria,
            "responses": responses(&[("200", "OperationOutcome"), ("204", "")]),
        }),
        (method, _) => json!({
            "summary": format!("Change the {kind} that the criteria find"), "parameters": criteria,
            "requestBody": if method == "patch" { patch() } else { body("Resource", true) },
            "responses": responses(&[("200", "Resource"), ("201", "Resource")]),
        }),
    };
    of_fhir(tagged("FHIR", said), &[], &[])
}

fn search_form() -> Value {
    let form = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({ "content": { "application/x-www-form-urlencoded": { "schema": form } } })
}

/// Search of what is in the compartment of a Patient.
pub(super) fn in_compartment(types: &[&str]) -> Value {
    let summary = "Search what is about a Patient";
    of_fhir(
        tagged("FHIR", json!({ "summary": summary, "responses": responses(&[("200", "Bundle")]) })),
        types,
        &["id", "type"],
    )
}

/// What is done with one resource and its versions, on the types that have it.
pub(super) fn on_instance(code: &str, types: &[&str]) -> Value {
    let if_match = header("If-Match", "The version that was read, such as W/\"3\"");
    let said = match code {
        "update" => json!({
            "parameters": [if_match], "requestBody": body("Resource", true),
            "responses": responses(&[("200", "Resource"), ("201", "Resource")]),
        }),
        "patch" => {
            json!({ "parameters": [if_match], "requestBody": patch(), "responses": responses(&[("200", "Resource")]) })
        }
        "delete" => {
            json!({ "parameters": [if_match], "responses": responses(&[("200", "OperationOutcome"), ("204", "")]) })
        }
        "read" | "vread" => json!({ "responses": responses(&[("200", "Resource"), ("304", "")]) }),
        _ => json!({ "responses": responses(&[("200", "Bundle")]) }),
    };
    let mut said = tagged("FHIR", said);
    said["summary"] = json!(code);
    let path_has: &[&str] = match code {
        "history-type" => &["type"],
        "vread" => &["type", "id", "version"],
        _ => &["type", "id"],
    };
    of_fhir(said, types, path_has)
}

fn tagged(tag: &str, mut said: Value) -> Value {
    said["tags"] = json!([tag]);
    said
}

fn patch() -> Value {
    let operation = json!({
        "type": "object", "required": ["op", "path"],
        "properties": { "op": { "enum": ["add", "remove", "replace", "move", "copy", "test"] }, "path": { "type": "string" } },
    });
    json!({ "required": true, "content": {
        "application/json-patch+json": { "schema": { "type": "array", "items": operation } },
        "application/fhir+json": { "schema": { "$ref": "#/components/schemas/Parameters" } },
    } })
}

/// A FHIR operation, by one of its methods, on the types that have it.
pub(super) fn operation(operation: &Operation, method: &str, types: &[&str], path: &str) -> Value {
    let simple = |(name, kind): &(&str, &str)| in_query(name, kind, &simple(kind));
    let mut said = json!({
        "summary": format!("${}", operation.name),
        "description": operation.documentation(),
        "externalDocs": { "url": operation.definition },
        "parameters": operation.simple().map(simple).collect::<Vec<Value>>(),
        "responses": responses(&[("200", "Resource"), ("204", "")]),
    });
    if method == "post" {
        said["requestBody"] = body(if operation.name == "validate" { "Resource" } else { "Parameters" }, false);
    }
    let path_has: Vec<&str> = ["type", "id"].into_iter().filter(|name| path.contains(&format!("{{{name}}}"))).collect();
    of_fhir(tagged("Operations", said), types, &path_has)
}

/// A door of bulk export (<https://hl7.org/fhir/uv/bulkdata/export.html>).
pub(super) fn export(path: &str) -> Value {
    let texts = ["_type", "_typeFilter", "_since", "_outputFormat"]
        .map(|name| in_query(name, "Bulk export", &json!({ "type": "string" })));
    let begins = path.ends_with("$export");
    let mut parameters: Vec<Value> = if begins { texts.to_vec() } else { Vec::new() };
    if begins {
        parameters.push(header("Prefer", "respond-async"));
    }
    let said = json!({
        "summary": "Bulk export", "parameters": parameters,
        "responses": { "200": { "description": "Done" }, "202": { "description": "Begun, or under way" },
            "default": { "$ref": "#/components/responses/Refused" } },
    });
    let path_has: Vec<&str> = ["id", "file"].into_iter().filter(|name| path.contains(&format!("{{{name}}}"))).collect();
    of_fhir(tagged("Operations", said), &[], &path_has)
}

/// The JSON Schema of a simple FHIR type, as it stands in a URL.
fn simple(kind: &str) -> Value {
    match kind {
        "integer" => json!({ "type": "integer", "minimum": 0 }),
        "boolean" => json!({ "type": "boolean" }),
        _ => json!({ "type": "string" }),
    }
}

/// A path beside those of resources.
pub(super) fn service(path: &str) -> Value {
    let said = match path {
        "/livez" => json!({ "summary": "Whether the process lives", "responses": text() }),
        "/readyz" => json!({ "summary": "Whether the database takes a write", "responses": text() }),
        "/metrics" => json!({ "summary": "What there is to count, for Prometheus", "responses": text() }),
        "/oauth/token" => form(
            "An access token for a signed assertion",
            &["grant_type", "client_assertion_type", "client_assertion", "scope"],
        ),
        "/oauth/introspect" => form("Whether a token is good", &["token"]),
        "/fhir/metadata" => json!({ "summary": "What is served", "responses": responses(&[("200", "Resource")]) }),
        "/openapi.json" => json!({ "summary": "This document", "responses": json_of() }),
        _ => json!({ "summary": "How to get in", "responses": json_of() }),
    };
    let mut said = tagged("Service", said);
    if path == "/oauth/introspect" {
        said["security"] = json!([{ "smart": [] }]);
    }
    said
}

fn text() -> Value {
    let content = json!({ "text/plain": { "schema": { "type": "string" } } });
    json!({ "200": { "description": "Well", "content": content }, "503": { "description": "Not well", "content": content } })
}

fn json_of() -> Value {
    let content = json!({ "application/json": { "schema": { "type": "object" } } });
    json!({ "200": { "description": "Done", "content": content }, "default": { "description": "Refused", "content": content } })
}

fn form(summary: &str, fields: &[&str]) -> Value {
    let texts = fields.iter().map(|field| ((*field).to_owned(), json!({ "type": "string" })));
    let schema = json!({ "type": "object", "required": fields, "properties": texts.collect::<Map<String, Value>>() });
    json!({
        "summary": summary, "responses": json_of(),
        "requestBody": { "required": true, "content": { "application/x-www-form-urlencoded": { "schema": schema } } },
    })
}

/// What the paths refer to.
pub(super) fn components(token_url: &str) -> Value {
    let typed = |kind: &str| json!({ "allOf": [{ "$ref": "#/components/schemas/Resource" }, { "properties": { "resourceType": { "const": kind } } }] });
    json!({
        "schemas": {
            "Id": { "type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$" },
            "Resource": {
                "description": "A FHIR R4 resource: https://hl7.org/fhir/R4/json.html",
                "type": "object", "required": ["resourceType"],
                "properties": { "resourceType": { "type": "string" }, "id": { "$ref": "#/components/schemas/Id" } },
            },
            "Bundle": typed("Bundle"),
            "Parameters": typed("Parameters"),
            "OperationOutcome": typed("OperationOutcome"),
        },
        "parameters": {
            "format": in_query("_format", "json or xml, before Accept", &json!({ "enum": ["json", "xml"] })),
            "pretty": in_query("_pretty", "With line breaks", &json!({ "type": "boolean" })),
        },
        "responses": {
            "Refused": {
                "description": "What is wrong, where, and what to do about it",
                "content": fhir("OperationOutcome"),
            },
        },
        "securitySchemes": {
            "smart": {
                "type": "oauth2",
                "description": "SMART Backend Services: the client proves who it is with a signed assertion.",
                "flows": { "clientCredentials": { "tokenUrl": token_url, "scopes": { "system/*.cruds": "Everything" } } },
            },
        },
    })
}
