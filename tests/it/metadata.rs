//! `/fhir/metadata` says what is served: all of that, and nothing else.

use std::collections::BTreeSet;

use livewell::fhir::codec::{Limits, read_xml};
use livewell::fhir::{Resource, check, profiles};
use reqwest::Method;
use serde_json::{Value, json};

use crate::oracle;
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, on_each_database};

/// Where HL7 defines what is served of its Subscriptions R5 Backport.
const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/";

/// Where HL7 defines Bulk Data.
const BULK_DATA: &str = "http://hl7.org/fhir/uv/bulkdata/";

/// No token: what the service offers is for everyone to read.
async fn read(caller: &Caller, accept: &str) -> Answer {
    caller.get("metadata").header("Authorization", "").header("Accept", accept).await.expect(200)
}

async fn statement(caller: &Caller) -> Value {
    read(caller, "application/fhir+json").await.body
}

/// The list under `key`, '' and empty where there is none.
fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn codes(value: &Value, key: &str) -> Vec<String> {
    list(value, key).filter_map(|i| i["code"].as_str()).map(str::to_owned).collect()
}

/// A value that this kind of search parameter takes.
fn sample(name: &str, kind: &str) -> &'static str {
    match (name, kind) {
        ("overdue", _) => "true",
        (_, "date") => "ge2026-01-01",
        (_, "reference") => "Patient/nobody",
        (_, "uri") => "https://nobody.example",
        (_, "number" | "quantity") => "gt2026",
        (_, "composite") => "nobody$2026",
        _ => "nobody",
    }
}

on_each_database! {
    async fn it_is_valid_r4_in_both_formats_and_says_the_same_in_both(app: TestApp) {
        let caller = app.system().await;
        let statement = statement(&caller).await;
        let resource = Resource::from_value(statement.clone()).unwrap();
        assert_eq!(check::check(&resource, 20), vec![]);
        let xml = read(&caller, "application/fhir+xml").await;
        assert!(xml.header("content-type").starts_with("application/fhir+xml"));
        let from_xml = read_xml(xml.text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(from_xml.value(), &statement);
        if let Some(verdicts) = oracle::verdicts(std::slice::from_ref(&statement)) {
            assert_eq!(verdicts, ["ok"]);
        }
    }

    async fn every_search_parameter_it_names_is_searched_by(app: TestApp) {
        let caller = app.system().await;
        let mut asked = 0;
        for resource in list(&statement(&caller).await["rest"][0], "resource") {
            let kind = resource["type"].as_str().unwrap();
            for parameter in list(resource, "searchParam") {
                let (name, compares) = (parameter["name"].as_str().unwrap(), parameter["type"].as_str().unwrap());
                // Of the audit trail some are asked together with a time.
                let when = if kind == "AuditEvent" { "&date=ge2026" } else { "" };
                let found = caller.get(format!("{kind}?{name}={}{when}", sample(name, compares))).await.expect(200);
                assert_eq!(found.body["type"], "searchset", "{kind}?{name}");
                asked += 1;
            }
        }
        assert!(asked > 300, "{asked}");
    }

    async fn every_include_it_names_is_followed(app: TestApp) {
        let caller = app.system().await;
        let mut asked = 0;
        for resource in list(&statement(&caller).await["rest"][0], "resource") {
            let kind = resource["type"].as_str().unwrap();
            for (element, name) in [("searchInclude", "_include"), ("searchRevInclude", "_revinclude")] {
                let all: Vec<&Value> = list(resource, element).collect();
                for some in all.chunks(20) {
                    let includes = some.iter().map(|include| format!("&{name}={}", include.as_str().unwrap()));
                    let query = format!("{kind}?_count=1{}", includes.collect::<String>());
                    assert_eq!(caller.get(query).await.expect(200).body["type"], "searchset", "{kind}");
                    asked += some.len();
                }
            }
        }
        assert!(asked > 1000, "{asked}");
    }

    async fn every_interaction_it_names_is_served(app: TestApp) {
        let caller = app.system().await;
        let statement = statement(&caller).await;
        for resource in list(&statement["rest"][0], "resource") {
            let kind = resource["type"].as_str().unwrap();
            let wrong = json!({ "resourceType": kind, "id": "nobody", "noSuchElement": true });
            for interaction in codes(resource, "interaction") {
                let (answer, expected) = match interaction.as_str() {
                    "read" => (caller.get(format!("{kind}/nobody")).await, 404),
                    "vread" => (caller.get(format!("{kind}/nobody/_history/1")).await, 404),
                    "history-instance" => (caller.get(format!("{kind}/nobody/_history")).await, 404),
                    "search-type" => (caller.get(format!("{kind}?_count=1")).await, 200),
                    // Refused for its content, so it was looked at.
                    "create" => (caller.post(kind, &wrong).await, 400),
                    "update" => (caller.put(format!("{kind}/nobody"), &wrong).await, 400),
                    "patch" => (caller.send(Method::PATCH, format!("{kind}/nobody")).json(&wrong).await, 400),
                    // There is nothing to delete, so nothing is there.
                    "delete" => (caller.send(Method::DELETE, format!("{kind}/nobody")).await, 204),
                    "history-type" => (caller.get(format!("{kind}/_history?_count=1")).await, 200),
                    other => panic!("{kind}: what is {other}?"),
                };
                answer.expect(expected);
            }
        }
        assert_eq!(codes(&statement["rest"][0], "interaction"), ["transaction", "batch", "history-system", "search-system"]);
        for kind in ["transaction", "batch"] {
            let nothing = json!({ "resourceType": "Bundle", "type": kind });
            let answer = caller.post("", &nothing).await.expect(200);
            assert_eq!(answer.body["type"], format!("{kind}-response"));
        }
        caller.get("_history?_count=1").await.expect(200);
        let named: Vec<&str> = list(&statement["rest"][0], "searchParam").filter_map(|p| p["name"].as_str()).collect();
        assert!(named.contains(&"_tag") && !named.contains(&"near"), "{named:?}");
        for name in named {
            let of = list(&statement["rest"][0], "searchParam").find(|p| p["name"] == name).unwrap();
            let found = caller.get(format!("/fhir?{name}={}", sample(name, of["type"].as_str().unwrap()))).await.expect(200);
            assert_eq!(found.body["type"], "searchset", "{name}");
        }
    }

    async fn an_instance_goes_through_all_that_is_named(app: TestApp) {
        let caller = app.practice("TESTA1").await;
        let goal = json!({ "resourceType": "Observation", "status": "final", "code": { "text": "Steps in a day" },
            "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018" } } });
        caller.post("ServiceRequest", &crate::support::build::referral()).await.expect(201);
        let made = caller.post("Observation", &goal).await.expect(201);
        let at = format!("Observation/{}", made.id());
        let mut stored = caller.get(at.as_str()).await.expect(200).body;
        caller.get(format!("{at}/_history/1")).await.expect(200);
        stored["valueInteger"] = json!(4000);
        caller.put(at.as_str(), &stored).if_match(1).await.expect(200);
        let history = caller.get(format!("{at}/_history")).await.expect(200);
        assert_eq!(history.resources().len(), 2);
        let found = caller.get(format!("Observation?_id={}", made.id())).await.expect(200);
        assert_eq!(found.resources()[0]["valueInteger"], 4000);
    }

    async fn every_operation_it_names_is_served_and_defined(app: TestApp) {
        let caller = app.staff("coach-north").await;
        let statement = statement(&caller).await;
        let mut served = BTreeSet::new();
        for resource in list(&statement["rest"][0], "resource") {
            let kind = resource["type"].as_str().unwrap();
            for operation in list(resource, "operation") {
                let (name, definition) = (operation["name"].as_str().unwrap(), operation["definition"].as_str().unwrap());
                let ours = profiles::resources().iter().any(|p| p.text("url") == Some(definition));
                let hl7s = ["http://hl7.org/fhir/OperationDefinition/", BACKPORT, BULK_DATA];
                assert!(ours || hl7s.iter().any(|base| definition.starts_with(base)), "{definition}");
                let parameters = |name: &str, code: &str| {
                    json!({ "resourceType": "Parameters", "parameter": [{ "name": name, "valueCode": code }] })
                };
                let on_nobody = format!("{kind}/nobody/${name}");
                let (answer, expected) = match (name, kind) {
                    ("claim-next", _) => {
                        (caller.post("Task/$claim-next", &parameters("role", "health-coach")).await, 204)
                    }
                    ("claim" | "release", _) => (caller.send(Method::POST, on_nobody).if_match(1).await, 404),
                    ("complete", _) => {
                        (caller.post(on_nobody, &parameters("outcome", "accepted")).if_match(1).await, 404)
                    }
                    ("validate", _) => {
                        caller.get(on_nobody).await.expect(404);
                        (caller.post(format!("{kind}/$validate"), &json!({ "resourceType": kind })).await, 200)
                    }
                    ("expand" | "validate-code", "ValueSet") => {
                        caller.get(on_nobody).await.expect(404);
                        let coded = if name == "expand" { "" } else { "&system=https://livewell.example/CodeSystem/role&code=volunteer" };
                        (caller.get(format!("ValueSet/${name}?url=https://livewell.example/ValueSet/role{coded}")).await, 200)
                    }
                    ("lookup", _) => {
                        (caller.get("CodeSystem/$lookup?system=https://livewell.example/CodeSystem/role&code=volunteer").await, 200)
                    }
                    ("validate-code", _) => {
                        caller.get(on_nobody).await.expect(404);
                        (caller.get("CodeSystem/$validate-code?url=https://livewell.example/CodeSystem/role&code=volunteer").await, 200)
                    }
                    ("subsumes", _) => {
                        caller.get("CodeSystem/nobody/$subsumes?codeA=a&codeB=b").await.expect(404);
                        (caller.get("CodeSystem/role/$subsumes?codeA=volunteer&codeB=volunteer").await, 200)
                    }
                    ("translate", _) => {
                        caller.get(format!("{on_nobody}?code=x")).await.expect(404);
                        (caller.get("ConceptMap/job-role/$translate?code=R9807").await, 200)
                    }
                    ("meta", _) => {
                        caller.get(format!("{kind}/$meta")).await.expect(200);
                        (caller.get(on_nobody).await, 404)
                    }
                    ("meta-add" | "meta-delete", _) => {
                        let meta = json!({ "resourceType": "Parameters", "parameter": [{ "name": "meta", "valueMeta": { "profile": ["urn:x"] } }] });
                        let written = codes(resource, "interaction").contains(&"update".to_owned());
                        (caller.post(on_nobody, &meta).await, if written { 404 } else { 405 })
                    }
                    ("status" | "deliveries" | "everything" | "events", _) => (caller.get(on_nobody).await, 404),
                    ("new-secret", _) => (caller.send(Method::POST, on_nobody).await, 404),
                    // A coach takes nothing home: it was looked at who asks.
                    ("export", _) => {
                        let path = if kind == "Patient" { "Patient/$export" } else { "Group/nobody/$export" };
                        (caller.get(path).header("Prefer", "respond-async").await, 403)
                    }
                    other => panic!("what is {other:?}?"),
                };
                answer.expect(expected);
                served.insert(name.to_owned());
            }
        }
        let all = [
            "claim", "claim-next", "complete", "deliveries", "events", "everything", "expand", "export", "lookup", "meta", "meta-add", "meta-delete", "new-secret", "release", "status", "subsumes",
            "translate", "validate", "validate-code",
        ];
        assert_eq!(served.iter().map(String::as_str).collect::<Vec<_>>(), all);
    }

    async fn what_is_not_built_answers_501_and_is_not_named(app: TestApp) {
        let caller = app.system().await;
        let before = app.stored().await;
        for (method, path) in [
            (Method::POST, "/fhir/$process-message"),
            (Method::GET, "/cds-services"),
            (Method::GET, "/cds-services/"),
            (Method::POST, "/cds-services/live-well"),
            (Method::GET, "/app"),
            (Method::GET, "/app/"),
            (Method::GET, "/app/work-list"),
            (Method::GET, "/fhir/MessageHeader"),
        ] {
            let answer = caller.send(method, path).await.expect(501);
            assert_eq!(answer.body["resourceType"], "OperationOutcome", "{path}");
            assert_eq!(answer.issue(), "not-supported", "{path}");
        }
        assert_eq!(app.stored().await, before);
        let statement = statement(&caller).await;
        let rest = &statement["rest"][0];
        assert!(statement.get("messaging").is_none(), "{statement}");
        assert_eq!(list(rest, "operation").map(|o| o["name"].clone()).collect::<Vec<_>>(), ["meta", "export"]);
        caller.get("/fhir/$meta").await.expect(200);
        assert!(!statement.to_string().contains("\"near\""), "places are not found by distance");
        for resource in list(rest, "resource") {
            assert!(!["Binary", "MessageHeader"].contains(&resource["type"].as_str().unwrap()));
        }
    }

    async fn a_type_that_is_read_only_is_not_written_and_says_so(app: TestApp) {
        let caller = app.system().await;
        let statement = statement(&caller).await;
        let find = |kind: &str| list(&statement["rest"][0], "resource").find(|r| r["type"] == kind).unwrap();
        let named = codes(find("ValueSet"), "interaction");
        assert_eq!(named, ["read", "vread", "history-instance", "history-type", "search-type"]);
        assert_eq!(find("ValueSet")["conditionalUpdate"], false);
        // The definitions that come with the software are read by their id, by everyone.
        for (kind, id) in [("ValueSet", "role"), ("StructureDefinition", "LiveWell-Referral"), ("OperationDefinition", "Task-claim")] {
            let practice = app.practice("TESTA1").await;
            let read = practice.get(format!("{kind}/{id}")).await.expect(200).body;
            assert_eq!(read["url"], format!("https://livewell.example/{kind}/{id}"));
            caller.put(format!("{kind}/{id}"), &read).await.expect(405);
            caller.send(Method::DELETE, format!("{kind}/{id}")).await.expect(405);
            caller.post(kind, &read).await.expect(405);
        }
        assert!(codes(find("Observation"), "interaction").contains(&"patch".to_owned()));
    }

    async fn a_type_it_names_says_where_its_profiles_are(app: TestApp) {
        let statement = statement(&app.system().await).await;
        let named: Vec<&str> = list(&statement["rest"][0], "resource")
            .flat_map(|resource| list(resource, "supportedProfile"))
            .filter_map(Value::as_str)
            .collect();
        assert!(named.len() >= 5, "{named:?}");
        for url in named {
            let known = profiles::resources().iter().any(|p| p.text("url") == Some(url));
            assert!(known || url.starts_with(BACKPORT), "{url}");
        }
    }
}
