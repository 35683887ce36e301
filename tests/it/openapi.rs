//! `/openapi.json` says what is served, an independent validator reads it, and a fuzzer that goes by it breaks nothing.

use std::collections::BTreeSet;
use std::io::{Seek, Write};
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::run;
use crate::support::caller::Caller;
use crate::support::{Database, TestApp, build, on_each_database};

async fn document(caller: &Caller) -> Value {
    caller.get("/openapi.json").header("Authorization", "").await.expect(200).body
}

/// The Python that `./tests/run` prepares.
fn python() -> String {
    std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Path, method and description of everything in the document.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let methods = |(path, item): (&String, &Value)| -> Vec<(String, String, Value)> {
        item.as_object().unwrap().iter().map(|(method, said)| (path.clone(), method.clone(), said.clone())).collect()
    };
    paths.flat_map(methods).collect()
}

/// The routes of `src/api/mod.rs` that are built.
fn routes() -> Vec<String> {
    let source = include_str!("../../src/api/mod.rs");
    let routes =
        source.split(".route(").skip(1).filter(|route| !route.split('\n').next().unwrap_or_default().contains("any("));
    routes.map(|route| route.split('"').nth(1).unwrap().trim_end_matches('/').to_owned()).collect()
}

/// Whether the document has a route, where it has one for each type also as that of Observations.
fn documented(document: &Value, route: &str) -> bool {
    let route = route.replace("{kind}/{id}/{of}", "Patient/{id}/{kind}");
    let as_type = |kind: &str| document["paths"].get(route.replace("{kind}", kind)).is_some();
    as_type("{type}") || as_type("Observation")
}

/// A path with something in the place of each parameter.
fn filled(path: &str, said: &Value) -> String {
    let mut filled = path.replace("{id}", "nobody").replace("{version}", "1").replace("{file}", "1");
    for parameter in
        said["parameters"].as_array().into_iter().flatten().filter(|p| p["name"] == "type" && p["in"] == "path")
    {
        let kinds: Vec<&str> =
            parameter["schema"]["enum"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let kind = if kinds.contains(&"Observation") { "Observation" } else { kinds[0] };
        filled = filled.replace("{type}", kind);
    }
    filled
}

on_each_database! {
    async fn everything_in_it_is_served(app: TestApp) {
        let caller = app.system().await;
        let document = document(&caller).await;
        let mut asked = BTreeSet::new();
        for (path, method, said) in operations(&document) {
            let at = filled(&path, &said);
            let wanted = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let mut ask = caller.send(wanted, at.as_str());
            if said["requestBody"]["content"].get("application/fhir+json").is_some() {
                ask = ask.json(&json!({ "resourceType": "Nonsense" }));
            } else if said["requestBody"]["content"].get("application/x-www-form-urlencoded").is_some() {
                ask = ask.text("application/x-www-form-urlencoded", "");
            }
            let answer = ask.await;
            assert!(answer.status < 500 && answer.status != 405, "{method} {at}: {} {}", answer.status, answer.text);
            assert!(!answer.text.contains("no such path"), "{method} {at}: {}", answer.text);
            asked.insert(at);
        }
        assert!(asked.len() > 150, "{}", asked.len());
        for path in ["/fhir", "/fhir/metadata", "/oauth/token", "/fhir/Task/$claim-next", "/fhir/{type}/{id}", "/openapi.json"] {
            assert!(document["paths"].get(path).is_some(), "{path}");
        }
        for route in routes() {
            assert!(documented(&document, &route), "{route} is not in the document");
        }
        assert!(!document.to_string().contains("cds-services"), "what is not built is not in it");
    }
}

#[test]
fn an_independent_validator_finds_nothing_wrong_with_it() {
    run(Database::Sqlite, |app: TestApp| async move {
        let document = document(&app.system().await).await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/openapi_valid.py");
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(document.to_string().as_bytes()).unwrap();
        input.rewind().unwrap();
        let judged = Command::new(python()).arg(script).stdin(input).output();
        match judged.ok().filter(|judged| judged.status.success()) {
            Some(judged) => assert_eq!(String::from_utf8_lossy(&judged.stdout).trim(), "ok"),
            None => eprintln!("skipped: no Python with the package openapi-spec-validator"),
        }
    });
}

/// How long the fuzzer goes on, in seconds.
const FUZZED_FOR: &str = "60";

/// What it is pointed at: the types that mean something to Live Well for all of their kind, and every other path.
const FUZZED: &str = r"^(?!/fhir/[A-Z])|^/fhir/(ServiceRequest|Task|Patient|Encounter|Observation|Consent|Basic|ValueSet|CodeSystem|ConceptMap)(/|$)";

#[test]
fn a_fuzzer_that_goes_by_it_finds_no_failure_of_the_service() {
    run(Database::Sqlite, |app: TestApp| async move {
        let system = app.system().await;
        app.practice("TESTA1").await.post("ServiceRequest", &build::referral()).await.expect(201);
        let (base, token) = (app.base.clone(), system.token().await);
        let fuzzed = tokio::task::spawn_blocking(move || fuzz(&base, &token)).await.unwrap();
        let Some(fuzzed) = fuzzed else {
            eprintln!("skipped: no Python with the package schemathesis");
            return;
        };
        let said = String::from_utf8_lossy(&fuzzed.stdout).into_owned();
        eprintln!(
            "{}",
            said.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        );
        assert!(fuzzed.status.success(), "{said}\n{}", String::from_utf8_lossy(&fuzzed.stderr));
        system.get("Task?_count=1").await.expect(200);
    });
}

fn fuzz(base: &str, token: &str) -> Option<Output> {
    let installed = Command::new(python()).args(["-c", "import schemathesis"]).output().ok()?;
    installed.status.success().then_some(())?;
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(python())
        .current_dir(&folder)
        .args(["-m", "schemathesis.cli", "run", &format!("{base}/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {token}"), "--checks", "not_a_server_error"])
        .args(["--include-path-regex", FUZZED, "--seed", "20260302", "--max-time", FUZZED_FOR, "--max-examples", "15"])
        .args([
            "--no-color",
            "--no-shrink",
            "--continue-on-failure",
            "--warnings",
            "off",
            "--generation-database",
            "none",
        ])
        .output();
    Some(run.unwrap())
}
