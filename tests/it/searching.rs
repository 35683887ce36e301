//! Search as R4 has it: chains, `_has`, includes, any order, compartments; and nothing of another practice through any.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, Write};
use std::process::Command;

use livewell::fhir::Resource;
use livewell::fhir::search::Filter;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};
use crate::test_data;

/// What a search found of one `search.mode`, as `Type/id`.
fn entries(answer: &Answer, mode: &str) -> BTreeSet<String> {
    let all = answer.body["entry"].as_array().into_iter().flatten().filter(|e| e["search"]["mode"] == mode);
    let name = |e: &Value| {
        format!("{}/{}", e["resource"]["resourceType"].as_str().unwrap(), e["resource"]["id"].as_str().unwrap_or(""))
    };
    all.map(name).collect()
}

async fn matches(caller: &Caller, search: &str) -> BTreeSet<String> {
    entries(&caller.get(search).await.expect(200), "match")
}

fn set<const N: usize>(of: [&String; N]) -> BTreeSet<String> {
    of.into_iter().cloned().collect()
}

fn next(answer: &Answer) -> Option<String> {
    let links = answer.body["link"].as_array().into_iter().flatten();
    let next = links.into_iter().find(|link| link["relation"] == "next");
    next.map(|link| link["url"].as_str().unwrap().to_owned())
}

async fn made(caller: &Caller, resource: &Value) -> String {
    let kind = resource["resourceType"].as_str().unwrap();
    format!("{kind}/{}", caller.post(kind, resource).await.expect(201).id())
}

fn condition(patient: &str, code: &str) -> Value {
    json!({
        "resourceType": "Condition", "subject": { "reference": patient },
        "code": { "coding": [{ "system": "urn:test:condition", "code": code, "display": "Shortness of breath" }] },
    })
}

fn observation(patient: &str, value: f64) -> Value {
    json!({
        "resourceType": "Observation", "status": "final", "subject": { "reference": patient },
        "code": { "coding": [{ "system": "urn:test:measure", "code": "steps" }] },
        "valueQuantity": { "value": value, "unit": "per day", "system": "http://unitsofmeasure.org", "code": "/d" },
    })
}

/// A person of a practice, with a Condition and an Observation that names it as its focus.
struct Kept {
    patient: String,
    condition: String,
    observation: String,
}

async fn kept(practice: &Caller, person: build::Person) -> Kept {
    let patient = made(practice, &build::person(person)).await;
    let condition = made(practice, &condition(&patient, "breath")).await;
    let mut measured = observation(&patient, 3200.0);
    measured["focus"] = json!([{ "reference": condition }]);
    let observation = made(practice, &measured).await;
    Kept { patient, condition, observation }
}

on_each_database! {
    async fn a_task_that_its_sender_keeps_here_is_found_by_its_name_and_not_in_the_queue(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let task = json!({
            "resourceType": "Task", "status": "requested", "intent": "order",
            "identifier": [{ "system": "https://practice.example/Id/task", "value": "7" }],
        });
        let id = practice.post("Task", &task).await.expect(201).id();
        for search in [format!("_id={id}"), "identifier=https://practice.example/Id/task|7".to_owned()] {
            let found = practice.get(format!("Task?{search}&_total=accurate")).await.expect(200);
            assert_eq!((found.resources().len(), &found.body["total"]), (1, &json!(1)), "{search}");
            let other = app.practice("TESTA2").await.get(format!("Task?{search}&_total=accurate")).await.expect(200);
            assert_eq!((other.resources().len(), &other.body["total"]), (0, &json!(0)), "{search}");
        }
        let queue = practice.get("Task?status=requested&_total=accurate").await.expect(200);
        assert_eq!(queue.body["total"], 0);
    }

    async fn chains_has_and_includes_follow_references_both_ways(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let Kept { patient, condition, observation } = kept(&practice, build::ADA).await;
        let id = patient.strip_prefix("Patient/").unwrap();
        for search in [
            "Condition?subject:Patient.family=testp".to_owned(),
            "Condition?patient.birthdate=1957-03-04&code=urn:test:condition%7Cbreath".to_owned(),
            format!("Condition?patient.identifier={}", build::ADA.0),
            format!("Condition?patient._id={id}"),
            "Condition?code:text=short".to_owned(),
            "Condition?code:not=other&patient.family:contains=STP".to_owned(),
            "Condition?_has:Observation:focus:value-quantity=gt3000%7Chttp://unitsofmeasure.org%7C/d".to_owned(),
            "Condition?_has:Observation:focus:patient.family=testperson".to_owned(),
            format!("{patient}/Condition?code=breath"),
            format!("{patient}/Condition"),
        ] {
            assert_eq!(matches(&practice, &search).await, set([&condition]), "{search}");
        }
        assert!(matches(&practice, "Patient?_has:Condition:patient:code=breath").await.contains(&patient));
        assert!(matches(&practice, "Patient?_has:Condition:patient:_has:Observation:focus:code=steps").await.contains(&patient));
        for (search, nothing) in [
            ("Condition?subject:Patient.family=nobody", true),
            ("Condition?code:in=https://livewell.example/ValueSet/nobody", false),
            ("Patient?_has:Condition:patient:code=other", true),
            ("Observation?code-value-quantity=urn:test:measure%7Csteps$lt3000", true),
        ] {
            match nothing {
                true => assert_eq!(matches(&practice, search).await, set([]), "{search}"),
                false => drop(practice.get(search).await.expect(400)),
            }
        }
        assert_eq!(
            matches(&practice, "Observation?code-value-quantity=urn:test:measure%7Csteps$gt3000").await,
            set([&observation])
        );
        for (search, along) in [
            ("Observation?code=steps&_include=Observation:focus".to_owned(), set([&condition])),
            ("Observation?code=steps&_include=Observation:*".to_owned(), set([&condition, &patient])),
            (
                "Observation?code=steps&_include=Observation:focus&_include:iterate=Condition:subject".to_owned(),
                set([&condition, &patient]),
            ),
            ("Condition?code=breath&_revinclude=Observation:focus".to_owned(), set([&observation])),
            ("Condition?code=breath&_revinclude=*".to_owned(), set([&observation])),
            (format!("Patient?_id={id}&_revinclude=*"), set([&condition, &observation])),
            ("Observation?code=steps&_include=*&_revinclude=*".to_owned(), set([&condition, &patient])),
            ("Condition?code=breath&_include=Condition:subject:Group".to_owned(), set([])),
            (
                format!("Patient?_id={id}&_revinclude=Condition:subject&_revinclude:iterate=Observation:focus"),
                set([&condition, &observation]),
            ),
        ] {
            let by_url = practice.get(search.as_str()).await.expect(200);
            assert_eq!(entries(&by_url, "include"), along, "{search}");
            let (kind, form) = search.split_once('?').unwrap();
            let by_form = practice.send(Method::POST, format!("{kind}/_search"));
            let by_form = by_form.text("application/x-www-form-urlencoded", form).await.expect(200);
            assert_eq!(by_form.body["entry"], by_url.body["entry"], "{search}");
        }
        let counted = practice.get("Observation?code=steps&_count=0").await.expect(200);
        assert_eq!((counted.body["total"].clone(), counted.body["entry"].clone()), (json!(1), Value::Null));
        for wrong in [
            "Condition?subject.family=x&_include=Condition:colour",
            "Condition?code.text=x",
            "Condition?code:above=x",
            "Condition?_sort=subject",
            "Location?near=51.5%7C-0.1",
        ] {
            practice.get(wrong).await.expect(400);
        }
        let near = practice.get("Location?near=51.5%7C-0.1").await.expect(400);
        assert!(near.text.contains("R4 defines it; its value type is not searched"), "{}", near.text);
    }

    async fn nothing_of_another_practice_is_learned_by_any_search(app: TestApp) {
        let (mine, theirs) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        let other = kept(&theirs, build::BERT).await;
        let own = made(&mine, &build::person(build::ADA)).await;
        // References to what may be there: the oracle of chains, includes and counts.
        let mut guess = observation(&own, 10.0);
        guess["focus"] = json!([{ "reference": other.condition }]);
        guess["hasMember"] = json!([{ "reference": other.observation }]);
        let guess = made(&mine, &guess).await;
        assert_eq!(matches(&mine, "Observation?code=steps").await, set([&guess]));
        for of in ["breath", "other"] {
            for search in [
                format!("Observation?focus:Condition.code={of}"),
                format!("Observation?focus:Condition.code:text={of}"),
                format!("Observation?has-member:Observation.focus:Condition.code={of}"),
                format!("Patient?_has:Condition:patient:code={of}&family={}", build::BERT.1),
                format!("Condition?code={of}"),
                format!("{}/Condition?code={of}", other.patient),
            ] {
                let answer = mine.get(format!("{search}&_total=accurate")).await.expect(200);
                assert_eq!(answer.body["total"], 0, "{search}");
            }
        }
        // A binary search for the measured value has the same answer on both sides.
        for prefix in ["gt", "lt"] {
            for bound in [1000, 3000, 3200, 4000] {
                let found = matches(&mine, &format!("Observation?has-member:Observation.value-quantity={prefix}{bound}")).await;
                assert_eq!(found, set([]), "{prefix}{bound}");
            }
        }
        for search in [
            "Observation?code=steps&_include=*&_include:iterate=*".to_owned(),
            "Observation?code=steps&_revinclude=*&_revinclude:iterate=*".to_owned(),
            "Observation?code=steps&_include=Observation:focus&_include=Observation:has-member".to_owned(),
            "Observation?code=steps&_revinclude=Observation:has-member&_revinclude=Condition:subject".to_owned(),
        ] {
            let answer = mine.get(search.as_str()).await.expect(200);
            let along = entries(&answer, "include");
            assert!(along.iter().all(|one| one.starts_with("Patient/")), "{search}: {along:?}");
            assert!(!answer.text.contains(build::BERT.0) && !answer.text.contains(build::BERT.1), "{search}");
        }
        // The other way round: what refers to theirs is not theirs to see.
        let id = other.condition.strip_prefix("Condition/").unwrap();
        let along = theirs.get(format!("Condition?_id={id}&_revinclude=Observation:focus")).await.expect(200);
        assert_eq!(entries(&along, "include"), set([&other.observation]));
        assert_eq!(matches(&theirs, "Condition?_has:Observation:focus:value-quantity=10").await, set([]));
        // A token learns nothing of a type it may not search.
        let narrow = app.client("narrow", "TESTA2", "system/Observation.rs").await;
        narrow.get("Observation?subject:Patient.family=samplesson").await.expect(403);
        let along = narrow.get("Observation?code=steps&_include=Observation:*").await.expect(200);
        assert_eq!(entries(&along, "include"), set([]));
    }

    async fn pages_of_any_order_repeat_and_skip_nothing_under_ties_and_writes(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let patient = made(&practice, &build::person(build::ADA)).await;
        let mut expected = BTreeMap::new();
        for nth in 0..9 {
            let mut one = condition(&patient, &format!("c{}", nth % 2));
            if nth % 3 > 0 {
                one["recordedDate"] = json!(format!("2026-01-0{}", nth % 3));
            }
            let date = one["recordedDate"].as_str().unwrap_or("").to_owned();
            expected.insert(made(&practice, &one).await, (date, nth % 2));
        }
        for (sort, rising) in [("recorded-date", true), ("-recorded-date,code", false), ("-code,recorded-date", true), ("-_lastUpdated", true)] {
            let mut seen = Vec::new();
            let mut at = Some(format!("Condition?patient={patient}&_sort={sort}&_count=2"));
            let mut late = Vec::new();
            while let Some(page) = at {
                let answer = practice.get(page).await.expect(200);
                seen.extend(answer.resources().iter().map(|r| format!("Condition/{}", r["id"].as_str().unwrap())));
                at = next(&answer);
                if seen.len() == 4 {
                    let mut between = condition(&patient, "c0");
                    between["recordedDate"] = json!("2026-01-01");
                    late.push(made(&practice, &between).await);
                }
            }
            let once: BTreeSet<_> = seen.iter().cloned().collect();
            assert_eq!(once.len(), seen.len(), "{sort}: something came twice");
            assert!(expected.keys().all(|id| once.contains(id)), "{sort}: something was skipped");
            if sort.contains("recorded-date") && !sort.starts_with("-code") {
                let dates: Vec<&str> = seen.iter().filter_map(|id| expected.get(id)).map(|(date, _)| date.as_str()).collect();
                let (dated, without): (Vec<&str>, Vec<&str>) = dates.iter().partition(|date| !date.is_empty());
                assert!(dates.ends_with(&without), "{sort}: what has no date comes last");
                assert!(dated.is_sorted_by(|a, b| if rising { a <= b } else { a >= b }), "{sort}: {dated:?}");
            }
            for id in late {
                expected.insert(id, ("2026-01-01".to_owned(), 0));
            }
        }
    }

    async fn more_than_comes_along_with_one_page_is_said_and_not_sent(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let patient = made(&practice, &build::person(build::ADA)).await;
        let all = (0..1000).map(|_| (build::urn(), condition(&patient, "many")));
        practice.post("", &build::transaction(all)).await.expect(200);
        let id = patient.strip_prefix("Patient/").unwrap();
        let search = format!("Patient?_id={id}&_revinclude=Condition:subject");
        let whole = practice.get(search.as_str()).await.expect(200);
        assert_eq!((entries(&whole, "include").len(), entries(&whole, "outcome").len()), (1000, 0));
        made(&practice, &condition(&patient, "one too many")).await;
        let answer = practice.get(search.as_str()).await.expect(200);
        assert_eq!(entries(&answer, "include").len(), 1000);
        let outcomes: Vec<&Value> =
            answer.body["entry"].as_array().unwrap().iter().filter(|e| e["search"]["mode"] == "outcome").collect();
        assert_eq!(outcomes.len(), 1);
        assert_eq!(outcomes[0]["resource"]["issue"][0]["code"], "too-costly");
        let few = practice.get(format!("Condition?patient={id}&_count=3&_include=Condition:subject")).await.expect(200);
        assert_eq!((entries(&few, "match").len(), entries(&few, "include")), (3, set([&patient])));
    }

    async fn tasks_are_found_by_every_parameter_r4_gives_them(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let system = app.system().await;
        let task = system.get("Task?status=requested").await.expect(200).resources()[0].clone();
        let name = format!("Task/{}", task["id"].as_str().unwrap());
        let (focus, plan) = (task["focus"]["reference"].as_str().unwrap(), task["basedOn"][0]["reference"].as_str().unwrap());
        let id = focus.strip_prefix("ServiceRequest/").unwrap();
        for search in [
            format!("Task?based-on={plan}"),
            format!("Task?intent={}", task["intent"].as_str().unwrap()),
            "Task?authored-on=ge2026&status=requested".to_owned(),
            "Task?based-on:CarePlan.status=active".to_owned(),
            "Task?focus:ServiceRequest.status=active".to_owned(),
            format!("Task?focus={focus}&_sort=-authored-on,due"),
            format!("Task?patient.identifier={}&status:not=completed&owner:missing=true", build::ADA.0),
        ] {
            assert_eq!(matches(&system, &search).await, set([&name]), "{search}");
        }
        let along = system.get(format!("ServiceRequest?_id={id}&_revinclude=Task:focus")).await.expect(200);
        assert_eq!(entries(&along, "include"), set([&name]));
        let along = system.get("Task?status=requested&_include=Task:focus&_include=Task:based-on").await.expect(200);
        assert_eq!(entries(&along, "include"), set([&focus.to_owned(), &plan.to_owned()]));
        assert_eq!(matches(&system, "ServiceRequest?_has:Task:focus:status=requested").await, set([&focus.to_owned()]));
        assert_eq!(matches(&system, "ServiceRequest?_has:Task:focus:status=completed").await, set([]));
    }

    async fn searches_find_what_an_independent_fhirpath_finds(app: TestApp) {
        let Some(package) = test_data::present("r4-definitions/hl7.fhir.r4.core.tgz") else { return };
        let Some(examples) = test_data::present("hl7-r4-examples/json") else { return };
        let practice = app.practice("TESTA1").await;
        let mut corpus = BTreeMap::new();
        for (_, example) in test_data::json_files(&examples) {
            // A Task that is sent along is kept and read, but search of Tasks is search of the queue.
            let Some(kind) = example["resourceType"].as_str().filter(|kind| *kind != "Task") else { continue };
            let answer = practice.post(kind, &example).await;
            if answer.status == 201 {
                corpus.insert(format!("{kind}/{}", answer.id()), answer.body);
            }
        }
        assert!(corpus.len() > 80, "{} of the examples are kept", corpus.len());
        let Some(expected) = expected(package.to_str().unwrap(), corpus.values()) else { return };
        let resources = corpus.iter().map(|(name, body)| (name.clone(), Resource::from_value(body.clone()).unwrap()));
        let resources: Vec<(String, Resource)> = resources.collect();
        let (mut wrong, mut in_memory) = (Vec::new(), 0);
        for search in &expected {
            let (kind, code) = (search["kind"].as_str().unwrap(), search["code"].as_str().unwrap());
            let Some(param) = livewell::fhir::search::param(kind, code) else {
                let absent = livewell::fhir::search::absent().iter().any(|a| a.kind == kind && a.code == code);
                assert!(absent, "{kind}?{code} is neither offered nor listed as absent");
                continue;
            };
            let query = format!("{}={}", param.code, escaped(search["value"].as_str().unwrap()));
            let form = format!("{query}&_count=500");
            let asked = practice.send(Method::POST, format!("{kind}/_search"));
            let answer = asked.text("application/x-www-form-urlencoded", form.as_str()).await;
            let found = entries(&answer, "match").into_iter().filter(|one| corpus.contains_key(one));
            let ids = search["expected"].as_array().unwrap().iter();
            let ids = ids.map(|id| format!("{kind}/{}", id.as_str().unwrap())).collect::<BTreeSet<_>>();
            if answer.status != 200 || found.collect::<BTreeSet<_>>() != ids {
                wrong.push(format!("{kind}?{form}: {} {:?}, expected {ids:?}", answer.status, entries(&answer, "match")));
            }
            // Held against each resource in memory it finds the same.
            let Ok(filter) = Filter::parse(&format!("{kind}?{query}"), &format!("{}/fhir", app.base), 0) else { continue };
            in_memory += 1;
            let found: BTreeSet<_> = resources.iter().filter(|(_, r)| filter.matches(r, "")).map(|(name, _)| name.clone()).collect();
            if found != ids {
                wrong.push(format!("{kind}?{query} in memory: {found:?}, expected {ids:?}"));
            }
        }
        eprintln!("{} of {} searches over {} resources agree", expected.len() - wrong.len(), expected.len(), corpus.len());
        assert!(expected.len() > 300 && in_memory > 300, "{} {in_memory}", expected.len());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// What each search must find, by fhirpathpy; `None`, and said, where it is not there.
fn expected<'a>(package: &str, corpus: impl Iterator<Item = &'a Value>) -> Option<Vec<Value>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/search_parameters.py");
    let python = std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut input = tempfile::tempfile().unwrap();
    writeln!(input, "{package}").unwrap();
    for resource in corpus {
        writeln!(input, "{resource}").unwrap();
    }
    input.rewind().unwrap();
    let run = Command::new(python).arg(script).stdin(input).output().ok()?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(said.contains("No module named 'fhirpathpy'"), "{said}");
        eprintln!("skipped: no Python with the package fhirpathpy");
        return None;
    }
    Some(String::from_utf8_lossy(&run.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
