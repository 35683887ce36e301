//! Every door that leads to one thing by its id: what is the sender's answers as what is not there.

use reqwest::Method;
use serde_json::{Value, json};

use super::world::World;
use super::{NOTHING, told};
use crate::support::TestApp;
use crate::support::caller::{Answer, Caller};

/// Doors behind which a practice keeps nothing of its own: definitions are everyone's, exports the organisation's, and
/// Live Well's Tasks are worked by its staff.
pub(super) const FOR_OTHERS: [&str; 17] = [
    "get /fhir/$export-status/{id}",
    "delete /fhir/$export-status/{id}",
    "get /fhir/$export-file/{id}/{file}",
    "get /fhir/Group/{id}/$export",
    "get /fhir/ValueSet/{id}/$expand",
    "post /fhir/ValueSet/{id}/$expand",
    "get /fhir/ValueSet/{id}/$validate-code",
    "post /fhir/ValueSet/{id}/$validate-code",
    "get /fhir/CodeSystem/{id}/$validate-code",
    "post /fhir/CodeSystem/{id}/$validate-code",
    "get /fhir/CodeSystem/{id}/$subsumes",
    "post /fhir/CodeSystem/{id}/$subsumes",
    "get /fhir/ConceptMap/{id}/$translate",
    "post /fhir/ConceptMap/{id}/$translate",
    "post /fhir/Task/{id}/$claim",
    "post /fhir/Task/{id}/$release",
    "post /fhir/Task/{id}/$complete",
];

/// One request: what the door is called, and how it is asked about an id.
struct Door {
    name: String,
    method: Method,
    path: String,
    kind: String,
}

/// The doors of the OpenAPI document that name one thing.
async fn doors(app: &TestApp) -> Vec<Door> {
    let document = app.system().await.get("/openapi.json").await.expect(200).body;
    let mut doors = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, said) in methods.as_object().unwrap() {
            let parameter = |name: &str| {
                said["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|p| p["name"] == name && p["in"] == "path")
                    .cloned()
            };
            if !path.contains("{id}") {
                let unknown = path.split('/').any(|segment| segment.starts_with('{') && segment != "{type}");
                assert!(!unknown, "what is {path}?");
                continue;
            }
            let kinds: Vec<String> = match parameter("type").filter(|_| path.starts_with("/fhir/{type}/")) {
                Some(of) => {
                    of["schema"]["enum"].as_array().unwrap().iter().map(|k| k.as_str().unwrap().to_owned()).collect()
                }
                None => vec![path.split('/').nth(2).unwrap().to_owned()],
            };
            for kind in kinds {
                let method_name = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let mut at = path.replacen("{type}", &kind, usize::from(path.starts_with("/fhir/{type}/")));
                for (parameter, value) in [("{version}", "1"), ("{file}", "1"), ("{type}", "Observation")] {
                    at = at.replace(parameter, value);
                }
                assert!(at.replace("{id}", "").find('{').is_none(), "what is {path}?");
                doors.push(Door { name: format!("{method} {path}"), method: method_name, path: at, kind });
            }
        }
    }
    assert!(doors.len() > 500, "{}", doors.len());
    doors
}

/// The names of the doors, each once.
pub(super) async fn of_one(app: &TestApp) -> Vec<String> {
    let mut names: Vec<String> = doors(app).await.into_iter().map(|door| door.name).collect();
    names.dedup();
    names
}

async fn ask(caller: &Caller, world: &World, door: &Door, id: &str) -> Answer {
    let mut ask =
        caller.send(door.method.clone(), door.path.replace("{id}", id)).header("X-Request-Id", "r").if_match(1);
    if door.method == Method::PUT {
        ask = ask.json(&world.body(&door.kind, id));
    } else if door.method == Method::PATCH {
        ask = ask.text(
            "application/json-patch+json",
            json!([{ "op": "test", "path": "/resourceType", "value": door.kind }]).to_string(),
        );
    } else if door.method == Method::POST {
        let outcome = json!({ "name": "outcome", "valueCode": "accepted" });
        let meta = json!({ "name": "meta", "valueMeta": { "tag": [{ "system": "urn:x", "code": "a" }] } });
        let parameters = match door.path.rsplit('/').next().unwrap_or_default() {
            "$complete" => vec![outcome],
            "$meta-add" | "$meta-delete" => vec![meta],
            _ => Vec::new(),
        };
        let mut body = json!({ "resourceType": "Parameters" });
        if !parameters.is_empty() {
            body["parameter"] = Value::Array(parameters);
        }
        ask = ask.json(&body);
    }
    ask.await
}

/// What a caller could tell apart by the doors.
pub(super) async fn leaks(app: &TestApp, world: &World, stranger: &Caller) -> Vec<String> {
    let mut leaks = Vec::new();
    for door in doors(app).await {
        let Some(id) = world.id(&door.kind) else { continue };
        // The owner would take its own away.
        if door.method == Method::DELETE && stranger.id == world.sender.id {
            leaks.push(format!("{} {} not tried", door.name, door.kind));
            continue;
        }
        let there = told(&ask(stranger, world, &door, id).await, id);
        let absent = told(&ask(stranger, world, &door, NOTHING).await, NOTHING);
        if there != absent {
            leaks.push(format!("{} {}: {there} and not {absent}", door.name, door.kind));
        }
    }
    leaks
}

/// The same within Bundles, where an entry is a request of its own.
pub(super) async fn leaks_in_bundles(world: &World, stranger: &Caller) -> Vec<String> {
    let mut leaks = Vec::new();
    let owner = stranger.id == world.sender.id;
    for kind in world.kept.keys() {
        let id = world.id(kind).unwrap();
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for (id, answers) in [(id, &mut there), (NOTHING, &mut absent)] {
            for bundle in bundles(world, kind, id, owner) {
                let answer = stranger.post("", &bundle).header("X-Request-Id", "r").await;
                answers.push((bundle, told(&answer, id)));
            }
        }
        for ((bundle, there), (_, absent)) in there.into_iter().zip(absent) {
            if without_new_ids(&there) != without_new_ids(&absent) {
                let asked = &bundle["entry"][0]["request"];
                leaks.push(format!("bundle {} {kind}: {asked}: {there} and not {absent}", bundle["type"]));
            }
        }
    }
    leaks
}

/// Each reading and writing entry alone in a batch and in a transaction, and what refers to the thing.
fn bundles(world: &World, kind: &str, id: &str, owner: bool) -> Vec<Value> {
    let at = format!("{kind}/{id}");
    let mut entries = vec![
        json!({ "request": { "method": "GET", "url": at } }),
        json!({ "request": { "method": "GET", "url": format!("{at}/_history") } }),
        json!({ "request": { "method": "GET", "url": format!("{kind}?_id={id}") } }),
        json!({ "resource": world.body(kind, id), "request": { "method": "PUT", "url": at, "ifMatch": "W/\"1\"" } }),
        json!({ "resource": world.body(kind, id), "request": { "method": "PUT", "url": format!("{kind}?_id={id}") } }),
        json!({ "resource": { "resourceType": "Basic", "code": { "text": "x" }, "subject": { "reference": format!("{kind}?_id={id}") } }, "request": { "method": "POST", "url": "Basic" } }),
        json!({ "resource": { "resourceType": "Basic", "code": { "text": "x" }, "subject": { "reference": at } }, "request": { "method": "POST", "url": "Basic" } }),
    ];
    if !owner {
        entries.push(json!({ "request": { "method": "DELETE", "url": at } }));
        entries.push(json!({ "request": { "method": "DELETE", "url": format!("{kind}?_id={id}") } }));
    }
    let bundle = |of: &str, entry: &Value| json!({ "resourceType": "Bundle", "type": of, "entry": [entry] });
    entries.iter().flat_map(|entry| [bundle("batch", entry), bundle("transaction", entry)]).collect()
}

/// What was made anew has an id of its own.
fn without_new_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.bytes().filter(|b| *b == b'-').count() == 4;
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words
        .map(|word| if is_id(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())) { "NEW" } else { word })
        .collect()
}
