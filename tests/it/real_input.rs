//! Published examples at a running server: what is good is taken and comes back as it was, what is not is refused with
//! the element that is wrong, nothing is half stored, and nothing fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use livewell::fhir::systems::NHS_NUMBER;
use serde_json::{Value, json};

use crate::published::{Document, JSON, document, documents, patients};
use crate::support::caller::Caller;
use crate::support::{Database, TestApp, app};
use crate::tally::{Tally, compare, send};
use crate::test_data;

/// NHS numbers of the test range, for examples whose own fail the check digit or are not there.
const NUMBERS: [&str; 4] = ["9990000050", "9990000069", "9990000077", "9990000085"];

/// Puts a good NHS number in the place of each that fails its check digit.
fn with_good_numbers(value: &mut Value, next: &mut usize) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| with_good_numbers(item, next)),
        Value::Object(fields) => {
            if fields.get("system").and_then(Value::as_str) == Some(NHS_NUMBER) {
                fields.insert("value".to_owned(), json!(NUMBERS[*next % NUMBERS.len()]));
                *next += 1;
            }
            fields.iter_mut().for_each(|(_, child)| with_good_numbers(child, next));
        }
        _ => {}
    }
}

fn with_own_identifiers(value: &mut Value, n: usize) {
    for identifier in value["identifier"].as_array_mut().into_iter().flatten() {
        if let Some(own) = identifier["value"].as_str().map(|text| format!("{text}-{n}")) {
            identifier["value"] = json!(own);
        }
    }
}

/// Sends one ServiceRequest until it is taken or refused for what it is.
async fn refer(
    app: &TestApp,
    tally: &mut Tally,
    caller: &Caller,
    document: &Document,
    patients: &HashMap<(String, String), Value>,
) {
    let name = &document.name;
    let mut answer = send(app, tally, name, caller, "ServiceRequest", document.media, &document.text).await;
    let Some(mut sent) = document.value.clone() else { return tally.refuse(&answer, name) };
    let original = sent.clone();
    let mut how = vec!["as it is"];
    for n in 0..4 {
        if answer.status < 300 {
            break;
        }
        if answer.status == 409 {
            with_own_identifiers(&mut sent, tally.sent.len() * 10 + n);
            how.push("with an identifier of its own, another having had the same");
        } else if answer.text.contains("check digit") {
            with_good_numbers(&mut sent, &mut tally.sent.len());
            how.push("with a good NHS number for one that fails its check digit");
        } else if answer.expression() == "ServiceRequest.subject" && answer.status == 422 {
            let top = name.split('/').next().unwrap_or_default().to_owned();
            let id = sent["subject"]["reference"].as_str().and_then(|r| r.rsplit('/').next()).unwrap_or_default();
            let posted = match patients.get(&(top, id.to_owned())) {
                Some(patient) if n == 0 => send(app, tally, name, caller, "Patient", JSON, &patient.to_string()).await,
                _ => send(app, tally, name, caller, "Patient", JSON, "{}").await,
            };
            if posted.status == 201 {
                sent["subject"]["reference"] = json!(format!("Patient/{}", posted.id()));
                how.push("after its Patient");
            } else {
                let number = NUMBERS[tally.sent.len() % NUMBERS.len()];
                sent["subject"] = json!({ "identifier": { "system": NHS_NUMBER, "value": number } });
                how.push("with an NHS number as subject");
            }
        } else {
            break;
        }
        answer = send(app, tally, name, caller, "ServiceRequest", JSON, &sent.to_string()).await;
    }
    tally.sent.push((name.clone(), original, answer.status < 300));
    if answer.status < 300 {
        if answer.status == 200 {
            how.push("sent before: the first is answered");
        }
        tally.accept(how.last().unwrap(), name);
        compare(tally, name, caller, &format!("ServiceRequest/{}", answer.id()), &sent, &|_| false).await;
    } else {
        tally.refuse(&answer, name);
    }
}

/// What is not kept as a resource of its own, and stays out of a transaction made of a message.
const NOT_KEPT: [&str; 8] = [
    "MessageHeader",
    "OperationOutcome",
    "Bundle",
    "AuditEvent",
    "Binary",
    "CapabilityStatement",
    "Parameters",
    "Subscription",
];

/// Whether one of a Bundle's entries is a ServiceRequest, be it where the resource belongs or not.
fn carries(document: &Document) -> bool {
    let entries = document.value.as_ref().and_then(|bundle| bundle["entry"].as_array());
    let is = |resource: &Value| resource["resourceType"] == "ServiceRequest";
    entries.into_iter().flatten().any(|entry| is(entry) || is(&entry["resource"]))
}

/// The entries of any Bundle as a transaction.
fn transaction(bundle: &Value) -> Value {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    let kept = entries.filter(|entry| {
        let kind = entry["resource"]["resourceType"].as_str();
        kind.is_some_and(|kind| !NOT_KEPT.contains(&kind))
    });
    let entry: Vec<Value> = kept
        .map(|entry| {
            let mut made = json!({ "resource": entry["resource"],
                "request": { "method": "POST", "url": entry["resource"]["resourceType"] } });
            if let Some(url) = entry["fullUrl"].as_str() {
                made["fullUrl"] = json!(url);
            }
            made
        })
        .collect();
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entry })
}

/// Sends a Bundle's entries as a transaction until it is taken or refused for what it is.
async fn transact(app: &TestApp, tally: &mut Tally, caller: &Caller, document: &Document) {
    let name = &document.name;
    let Some(bundle) = &document.value else {
        let answer = send(app, tally, name, caller, "", document.media, &document.text).await;
        return tally.refuse(&answer, name);
    };
    let mut sent = transaction(bundle);
    if sent["entry"] == json!([]) {
        // Entries that are none: the Bundle itself is what is wrong.
        let answer = send(app, tally, name, caller, "", document.media, &document.text).await;
        return tally.refuse(&answer, name);
    }
    let mut how = "its entries as a transaction";
    let mut answer = send(app, tally, name, caller, "", JSON, &sent.to_string()).await;
    for n in 0..4 {
        let expression = answer.expression().to_owned();
        if answer.status < 300 {
            break;
        }
        let requests = sent["entry"].as_array_mut().into_iter().flatten().map(|entry| &mut entry["resource"]);
        let mut requests: Vec<&mut Value> = requests.filter(|r| r["resourceType"] == "ServiceRequest").collect();
        if answer.status == 409 {
            requests.iter_mut().for_each(|request| with_own_identifiers(request, tally.compared * 10 + n));
            how = "with an identifier of its own, another having had the same";
        } else if answer.text.contains("check digit") {
            with_good_numbers(&mut sent, &mut tally.compared);
            how = "with a good NHS number for one that fails its check digit";
        } else if expression.ends_with(".subject") && answer.status == 422 {
            let subject = json!({ "identifier": { "system": NHS_NUMBER, "value": NUMBERS[n % NUMBERS.len()] } });
            requests.iter_mut().for_each(|request| request["subject"] = subject.clone());
            how = "with an NHS number as subject";
        } else {
            break;
        }
        answer = send(app, tally, name, caller, "", JSON, &sent.to_string()).await;
    }
    if answer.status >= 300 {
        return tally.refuse(&answer, name);
    }
    tally.accept(how, name);
    let entries = sent["entry"].as_array().cloned().unwrap_or_default();
    let mut names: HashSet<String> = HashSet::new();
    for entry in &entries {
        names.extend(entry["fullUrl"].as_str().map(str::to_owned));
        let (kind, id) = (entry["resource"]["resourceType"].as_str(), entry["resource"]["id"].as_str());
        names.extend(kind.zip(id).map(|(kind, id)| format!("{kind}/{id}")));
    }
    let made = answer.made();
    assert_eq!(made.len(), entries.len(), "{name}: {}", answer.text);
    for (entry, at) in entries.iter().zip(&made) {
        compare(tally, &format!("{name} {at}"), caller, at, &entry["resource"], &|r| names.contains(r)).await;
    }
}

/// What the fhirkit validator finds in each, "ok" for nothing; `None` where it is not installed.
fn fhirkit(resources: &[&Value]) -> Option<Vec<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/fhirkit_verdicts.py");
    let python = std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut input = tempfile::tempfile().unwrap();
    for resource in resources {
        std::io::Write::write_all(&mut input, format!("{resource}\n").as_bytes()).unwrap();
    }
    std::io::Seek::rewind(&mut input).unwrap();
    let run = Command::new(python).arg(script).stdin(input).stderr(Stdio::null()).output();
    let run = run.ok().filter(|run| run.status.success());
    if run.is_none() {
        eprintln!("skipped: no python3 with the package fhirkit-rs");
    }
    Some(String::from_utf8_lossy(&run?.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn every_published_referral_is_taken_or_refused_for_what_is_wrong_in_it() {
    if test_data::present("").is_none() {
        return;
    }
    app::run(Database::Sqlite, |app| async move {
        let documents = documents(&[
            "uk-bars-api",
            "uk-bars-ig",
            "uk-core/examples",
            "uk-core/examples-json-derived",
            "uk-ers-api",
            "uk-pds-api",
            "uk-pca-api",
            "uk-hometest",
            "uk-genomics-ig",
            "gravity-sdohcc/stu2-json-mitre",
            "hl7-r4-examples",
        ]);
        let patients = patients(&documents);
        let caller = app.practice("TESTA1").await;
        let mut tally = Tally::default();
        for document in &documents {
            let kind = document.value.as_ref().and_then(|v| v["resourceType"].as_str());
            let names_one = document.text.contains("\"ServiceRequest\"") || document.text.contains("<ServiceRequest");
            match kind {
                Some("ServiceRequest") => refer(&app, &mut tally, &caller, document, &patients).await,
                Some("Bundle") if carries(document) => transact(&app, &mut tally, &caller, document).await,
                // What is not even JSON or XML, and looks like a referral.
                None if names_one && !document.name.contains("openapi") => {
                    refer(&app, &mut tally, &caller, document, &patients).await;
                }
                _ => {}
            }
        }
        let values: Vec<&Value> = tally.sent.iter().map(|(_, value, _)| value).collect();
        if let Some(verdicts) = fhirkit(&values) {
            let good = verdicts.iter().filter(|verdict| *verdict == "ok").count();
            let missed: Vec<String> = tally
                .sent
                .iter()
                .zip(&verdicts)
                .filter(|((_, _, taken), v)| *v == "ok" && !taken)
                .map(|((name, ..), _)| name.clone())
                .collect();
            println!(
                "fhirkit accepts {good} of {} single referrals, of which {} were refused here",
                verdicts.len(),
                missed.len()
            );
            tally.wrong.extend(missed.into_iter().map(|name| format!("{name}: fhirkit accepts it and it was refused")));
        }
        let bars =
            |by: &BTreeMap<String, Vec<String>>| by.values().flatten().filter(|n| n.contains("REFREQ03")).count();
        if bars(&tally.accepted) != 2 {
            tally.wrong.push("uk-bars-ig/REFREQ03 goes in whole, in JSON and in XML".to_owned());
        }
        tally.close("referrals");
    });
}

#[test]
fn every_published_example_is_taken_and_comes_back_or_is_refused_for_what_is_wrong_in_it() {
    if test_data::present("").is_none() {
        return;
    }
    app::run(Database::Sqlite, |app| async move {
        let caller = app.practice("TESTA1").await;
        let mut tally = Tally::default();
        for document in documents(&["hl7-r4-examples", "uk-core/examples", "uk-core/examples-json-derived"]) {
            let Some(value) = &document.value else {
                let answer =
                    send(&app, &mut tally, &document.name, &caller, "Basic", document.media, &document.text).await;
                tally.refuse(&answer, &document.name);
                continue;
            };
            let kind = value["resourceType"].as_str().unwrap_or("Basic");
            let read_only = livewell::config::Fhir::default().read_only.iter().any(|read_only| read_only == kind);
            if kind == "ServiceRequest" || NOT_KEPT.contains(&kind) || read_only {
                continue;
            }
            let answer = send(&app, &mut tally, &document.name, &caller, kind, document.media, &document.text).await;
            if answer.status < 300 {
                tally.accept(kind, &document.name);
                compare(&mut tally, &document.name, &caller, &format!("{kind}/{}", answer.id()), value, &|_| false)
                    .await;
            } else {
                tally.refuse(&answer, &document.name);
            }
        }
        tally.close("examples");
    });
}

#[test]
fn synthetic_records_are_loaded_twice_and_sent_whole() {
    let Some(folder) = test_data::present("synthea/blaze-2021") else { return };
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (directory, records): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| path.file_name().unwrap().to_string_lossy().starts_with("0-"));
    let scratch = tempfile::tempdir().unwrap();
    let bundles: Vec<Value> =
        directory.iter().map(|path| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect();
    let load = || {
        let mut livewell = Command::new(env!("CARGO_BIN_EXE_livewell"));
        livewell.arg("load").args(&directory).current_dir(scratch.path());
        livewell.env("LIVEWELL_DATABASE_URL", "sqlite:synthea.db").env_remove("TEST_DATA");
        let run = livewell.output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
        said.lines().last().unwrap().to_owned()
    };
    let (first, second) = (load(), load());
    println!("first {first}\nagain {second}");
    assert!(first.starts_with("in all: ") && first.ends_with(" new, 0 changed, 0 unchanged"), "{first}");
    assert!(second.starts_with("in all: 0 new, 0 changed, "), "{second}");

    app::run(Database::Sqlite, |app| async move {
        let caller = app.practice("TESTA1").await;
        let mut tally = Tally::default();
        // Without the directory, its references by condition mean nobody.
        let first = document(&test_data::folder(), &records[0], JSON).unwrap();
        let refused = caller.send(reqwest::Method::POST, "").text(JSON, first.text).await.expect(412);
        assert!(refused.expression().starts_with("Bundle.entry["), "{}", refused.text);
        for bundle in &bundles {
            app.load(bundle).await;
        }
        for path in records {
            let document = document(&test_data::folder(), &path, JSON).unwrap();
            let name = &document.name;
            let answer = send(&app, &mut tally, name, &caller, "", JSON, &document.text).await;
            if answer.status >= 300 {
                tally.refuse(&answer, name);
                continue;
            }
            tally.accept("a transaction, as it is", name);
            let bundle = document.value.unwrap();
            let entries = bundle["entry"].as_array().unwrap();
            let names: HashSet<&str> = entries.iter().filter_map(|entry| entry["fullUrl"].as_str()).collect();
            for (entry, at) in entries.iter().zip(answer.made()).step_by(7) {
                let sent = &entry["resource"];
                let resolved = |reference: &str| names.contains(reference) || reference.contains("?identifier=");
                compare(&mut tally, &format!("{name} {at}"), &caller, &at, sent, &resolved).await;
                let served = caller.get(at.as_str()).await.text;
                assert!(!served.contains("?identifier="), "{name} {at}: a reference by condition was not resolved");
            }
        }
        assert!(tally.refused.is_empty(), "{:?}", tally.refused);
        tally.close("synthetic records");
    });
}
