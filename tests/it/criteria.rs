//! Criteria in place of an id are any search of the type: as the caller sees it, one resource or none, also within a Bundle
//! and among many who ask at the same moment.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::conditional::{condition, made};
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

const PATCH: &str = "application/json-patch+json";

/// A condition of Ada's that has no identifier, only what it says.
fn coded(code: &str, since: &str) -> Value {
    json!({
        "resourceType": "Condition", "subject": build::by_number(build::ADA.0), "recordedDate": since,
        "code": { "coding": [{ "system": "urn:test:condition", "code": code, "display": "Shortness of breath" }] },
    })
}

fn entry(method: &str, url: &str, resource: Option<&Value>) -> Value {
    let mut entry = json!({ "request": { "method": method, "url": url } });
    if let Some(resource) = resource {
        entry["resource"] = resource.clone();
    }
    entry
}

fn unless(criteria: &str, resource: &Value) -> Value {
    let mut entry = entry("POST", resource["resourceType"].as_str().unwrap(), Some(resource));
    entry["request"]["ifNoneExist"] = json!(criteria);
    entry
}

fn transaction(entries: Vec<Value>) -> Value {
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

fn practitioner(name: &str, number: &str) -> Value {
    json!({ "resourceType": "Practitioner", "name": [{ "family": name }],
        "identifier": [{ "system": "https://practice.example/Id/staff", "value": number }] })
}

async fn at_once(count: usize, ask: impl Fn(usize) -> crate::support::caller::Ask) -> Vec<Answer> {
    let mut asked = JoinSet::new();
    (0..count).for_each(|n| drop(asked.spawn(ask(n).into_future())));
    asked.join_all().await
}

async fn with_token(app: &TestApp) -> Caller {
    let practice = app.practice("TESTA1").await;
    practice.token().await;
    practice
}

on_each_database! {
    async fn criteria_are_any_search_of_the_type(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let known = "?family=testp&birthdate=1957-03-04&gender:missing=true";
        let mut person = build::person(build::ADA);
        person.as_object_mut().unwrap().remove("gender");
        let first = practice.post("Patient", &person).header("If-None-Exist", known).await.expect(201);
        let again = practice.post("Patient", &person).header("If-None-Exist", known).await.expect(200);
        assert_eq!(again.id(), first.id());
        practice.post("Patient", &build::person(build::BERT)).header("If-None-Exist", "family:exact=Nobody").await.expect(201);

        let breath = coded("breath", "2026-01-10");
        let by_code = "Condition?code=urn:test:condition%7Cbreath&recorded-date=ge2026-01";
        let created = practice.put(by_code, &breath).await.expect(201);
        for same in [
            by_code.to_owned(),
            "Condition?code:text=short&recorded-date=2026-01-10".to_owned(),
            format!("Condition?patient.identifier={}&code=breath", build::ADA.0),
            "Condition?code=other,breath&code:not=other&patient:Patient.family=Testperson".to_owned(),
            "Condition?_lastUpdated=gt2020&code=breath&_format=json".to_owned(),
        ] {
            assert_eq!(practice.put(same.as_str(), &breath).await.expect(200).id(), created.id(), "{same}");
        }
        assert_eq!(practice.get(format!("Condition/{}", created.id())).await.expect(200).version(), 1);
        let patch = r#"[{"op":"add","path":"/note","value":[{"text":"x"}]}]"#;
        let patched = practice.send(Method::PATCH, "Condition?code=breath&recorded-date=lt2026-02").text(PATCH, patch);
        assert_eq!(patched.await.expect(200).version(), 2);
        practice.send(Method::PATCH, "Condition?code=breath&recorded-date=lt2026").text(PATCH, patch).await.expect(404);
        practice.send(Method::DELETE, "Condition?code=breath&recorded-date=lt2026").await.expect(204);
        practice.get(format!("Condition/{}", created.id())).await.expect(200);

        made(&practice, &coded("breath", "2026-01-11")).await;
        let before = app.stored().await;
        for several in [
            practice.put(by_code, &breath).await,
            practice.post("Condition", &breath).header("If-None-Exist", by_code.split_once('?').unwrap().1).await,
            practice.send(Method::PATCH, by_code).text(PATCH, patch).await,
            practice.send(Method::DELETE, by_code).await,
        ] {
            let several = several.expect(412);
            assert_eq!(several.issue(), "multiple-matches");
            let said = several.text.as_str();
            assert!(said.contains("code, recorded-date") && !said.contains("breath") && !said.contains("2026-01"), "{said}");
        }
        assert_eq!(app.stored().await, before);
        practice.send(Method::DELETE, "Condition?code=breath&recorded-date=2026-01-10").await.expect(204);
        practice.get(format!("Condition/{}", created.id())).await.expect(410);
    }

    async fn criteria_that_cannot_be_followed_are_refused_and_never_passed_over(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let breath = coded("breath", "2026-01-10");
        let before = app.stored().await;
        let many = format!("code={}", (0..201).map(|n| format!("c{n}")).collect::<Vec<_>>().join(","));
        for criteria in ["colour=red", "code=x&colour=red", "code:above=x", "recorded-date=tomorrow", "code", "code=%zz", "_sort=code",
            "_count=1", "_include=Condition:subject", "subject:Device.colour=x", "code=a%00b", many.as_str()] {
            let refused = practice.post("Condition", &breath).header("If-None-Exist", criteria).header("Prefer", "handling=lenient");
            assert_eq!(refused.await.expect(422).expression(), "Condition", "{criteria}");
            let bundled = practice.post("", &transaction(vec![unless(criteria, &breath)])).await.expect(422);
            assert_eq!(bundled.expression(), "Bundle.entry[0].request.ifNoneExist", "{criteria}");
        }
        // What a condition tells of a type needs the right to search it.
        let maker = app.client("maker", "TESTA1", "system/Condition.c").await;
        maker.post("Condition", &breath).header("If-None-Exist", "recorded-date=2026").await.expect(403);
        let blind = app.client("blind", "TESTA1", "system/Condition.cruds").await;
        for criteria in ["patient:Patient.family=x", "_has:Observation:focus:code=x"] {
            blind.post("Condition", &breath).header("If-None-Exist", criteria).await.expect(403);
        }
        assert_eq!(app.stored().await, before);
        maker.post("Condition", &breath).header("If-None-Exist", "identifier=none").await.expect(201);
    }

    async fn no_criteria_tell_what_another_has(app: TestApp) {
        let (one, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        let theirs = made(&one, &coded("breath", "2026-01-10")).await;
        let at = format!("Condition/{}", theirs["id"].as_str().unwrap());
        for criteria in ["code=breath", "recorded-date=2026-01-10&code:text=short"] {
            let own = other.post("Condition", &coded("breath", "2026-01-10")).header("If-None-Exist", criteria).await.expect(201);
            assert_ne!(own.id(), theirs["id"]);
            other.send(Method::DELETE, format!("Condition?{criteria}")).await.expect(204);
        }
        assert_eq!(one.get(at).await.expect(200).version(), 1);
    }

    async fn criteria_of_a_bundle_mean_what_its_other_entries_leave(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let old = made(&practice, &coded("breath", "2026-01-10")).await;
        let old = format!("Condition/{}", old["id"].as_str().unwrap());
        // What is deleted is not found by what is made.
        let answer = practice.post("", &transaction(vec![
            unless("code=breath", &coded("breath", "2026-02-01")),
            entry("DELETE", &old, None),
        ])).await.expect(200);
        assert_eq!(answer.body["entry"][0]["response"]["status"], "201 Created");
        practice.get(old.as_str()).await.expect(410);

        // A reference by criteria leads to what the same Bundle makes or changes.
        let stored = made(&practice, &practitioner("Before", "2")).await;
        let mut changed = stored.clone();
        changed["name"][0]["family"] = json!("After");
        let asserted = |by: &str| {
            let mut condition = condition(by, "x");
            condition["asserter"] = json!({ "reference": by });
            entry("POST", "Condition", Some(&condition))
        };
        let sent = transaction(vec![
            asserted("Practitioner?identifier=https://practice.example/Id/staff|1"),
            asserted("Practitioner?name=after&identifier=2"),
            entry("PUT", &format!("Practitioner/{}", stored["id"].as_str().unwrap()), Some(&changed)),
            entry("POST", "Practitioner", Some(&practitioner("New", "1"))),
        ]);
        let answer = practice.post("", &sent).await.expect(200).made();
        for (at, practitioner) in [(0, &answer[3]), (1, &answer[2])] {
            let condition = practice.get(answer[at].as_str()).await.expect(200).body;
            assert_eq!(condition["asserter"]["reference"], practitioner.as_str());
        }
        let before = app.stored().await;
        let breath = coded("cough", "2026-03-01");
        for (entries, status, at) in [
            // It was changed away.
            (vec![entry("PUT", &format!("Practitioner/{}", stored["id"].as_str().unwrap()), Some(&changed)),
                asserted("Practitioner?name=before")], 412, "Bundle.entry[1].resource.asserter"),
            (vec![entry("POST", "Practitioner", Some(&practitioner("New", "1"))),
                asserted("Practitioner?identifier=1")], 412, "Bundle.entry[1].resource.asserter"),
            // Two that would be the same.
            (vec![unless("code=cough", &breath), unless("code=cough&recorded-date=2026-03", &breath)], 422, "Bundle.entry[1].resource"),
            (vec![entry("PUT", "Condition?code=cough", Some(&breath)), entry("POST", "Condition", Some(&breath))], 422,
                "Bundle.entry[0].resource"),
            // What only the database could tell of what is not in it.
            (vec![entry("POST", "Condition", Some(&breath)),
                unless("code=cough&patient:Patient.family=x", &breath)], 422, "Bundle.entry[1].resource"),
        ] {
            let answer = practice.post("", &transaction(entries.clone())).await.expect(status);
            assert_eq!(answer.expression(), at, "{}", answer.text);
            assert_eq!(app.stored().await, before, "{}", answer.text);
        }
        // Of what is told apart by itself nothing has to be asked.
        practice.post("", &transaction(vec![
            entry("POST", "Condition", Some(&breath)),
            unless("code=wheeze&patient.identifier=9990000018", &coded("wheeze", "2026-03-01")),
        ])).await.expect(200);
    }

    async fn of_many_at_once_one_is_made_whatever_the_criteria(app: TestApp) {
        let practice = with_token(&app).await;
        let mut patient = build::person(build::ADA);
        for value in ["17", "18"] {
            let own = json!({ "system": "https://practice.example/Id/patient", "value": value });
            patient["identifier"].as_array_mut().unwrap().push(own);
        }
        // By one identifier, by the other, and by what a person is.
        let criteria = ["identifier=https://practice.example/Id/patient|17", "identifier=18", "family=testperson&birthdate=1957-03-04",
            "identifier=17&birthdate=1957"];
        let answers = at_once(32, |n| practice.post("Patient", &patient).header("If-None-Exist", criteria[n % 4])).await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        assert!(made == 1 && answers.iter().all(|a| matches!(a.status, 200 | 201)), "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
        assert_eq!(answers.iter().map(Answer::id).collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(app.count("resource where kind = 'Patient' and sender = 'TESTA1'").await, 1);
    }

    async fn of_many_bundles_at_once_one_makes_it_whatever_the_criteria(app: TestApp) {
        let practice = with_token(&app).await;
        practice.post("Patient", &build::person(build::ADA)).await.expect(201);
        let criteria = ["code=breath&recorded-date=2026-01-10", "code:text=short", "patient.identifier=9990000018&code=breath"];
        let answers = at_once(32, |n| {
            // The same two conditions, asked for in either order.
            let (breath, staff) = (unless(criteria[n % 3], &coded("breath", "2026-01-10")),
                unless(["identifier=1", "name=new"][n % 2], &practitioner("New", "1")));
            let entries = if n % 4 < 2 { vec![breath, staff] } else { vec![staff, breath] };
            practice.post("", &transaction(entries))
        }).await;
        let statuses: BTreeSet<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, BTreeSet::from([200]), "{:?}", answers.iter().map(|a| &a.text).next());
        let all: BTreeSet<String> = answers.iter().flat_map(Answer::made).collect();
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!((app.count("resource where kind = 'Condition'").await, app.count("resource where kind = 'Practitioner' and sender = 'TESTA1'").await), (1, 1));
    }

    async fn a_condition_waits_for_an_index_that_is_behind(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let old = made(&practice, &coded("breath", "2026-01-10")).await;
        let behind = format!("update resource set indexed = 0 where id = '{}'", old["id"].as_str().unwrap());
        let ask = |criteria: &str| practice.post("Condition", &coded("breath", "2026-01-10")).header("If-None-Exist", criteria);
        let mut statuses = Vec::new();
        // It may be brought up to date between the two, every ten seconds.
        while statuses.len() < 5 && !statuses.contains(&503) {
            app.rows(&behind).await;
            let answer = ask("code=breath").await;
            statuses.push(answer.status);
            let says_what_can_be_asked = answer.text.contains("identifier and _id can be asked for already");
            assert_eq!(answer.status == 503, says_what_can_be_asked, "{}", answer.text);
        }
        assert!(statuses.contains(&503), "{statuses:?}");
        ask("identifier=none").await.expect(201);
        let mut tx = app.store().write().await.unwrap();
        tx.catch_up_index(10).await.unwrap();
        tx.commit().await.unwrap();
        practice.send(Method::DELETE, "Condition?_id=none").await.expect(204);
        assert_eq!(ask("code=breath").await.expect(412).issue(), "multiple-matches");
    }
}
