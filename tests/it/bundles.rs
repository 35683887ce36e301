//! Bundles of requests: a transaction is all or nothing, a batch is entry by entry, and each entry is the request it is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::conditional::{by_name, condition, made};
use crate::support::caller::Answer;
use crate::support::{TestApp, build, on_each_database};

fn bundle(kind: &str, entries: Vec<Value>) -> Value {
    match entries.is_empty() {
        true => json!({ "resourceType": "Bundle", "type": kind }),
        false => json!({ "resourceType": "Bundle", "type": kind, "entry": entries }),
    }
}

fn entry(method: &str, url: &str, resource: Option<&Value>) -> Value {
    let mut entry = json!({ "request": { "method": method, "url": url } });
    if let Some(resource) = resource {
        entry["resource"] = resource.clone();
    }
    entry
}

fn statuses(answer: &Answer) -> Vec<String> {
    let status = |entry: &Value| entry["response"]["status"].as_str().unwrap_or("none")[..3].to_owned();
    answer.body["entry"].as_array().into_iter().flatten().map(status).collect()
}

/// A JSON Patch of the text of a code, as a Bundle carries it.
fn patch(text: &str) -> Value {
    use base64::Engine;
    let steps = json!([{ "op": "replace", "path": "/code/text", "value": text }]).to_string();
    let data = base64::engine::general_purpose::STANDARD.encode(steps);
    json!({ "resourceType": "Binary", "contentType": "application/json-patch+json", "data": data })
}

on_each_database! {
    async fn a_transaction_takes_every_method_and_reads_last(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut olds = Vec::new();
        for name in ["changed", "patched", "deleted"] {
            olds.push(made(&practice, &condition(name, "Before")).await);
        }
        let at = |n: usize| format!("Condition/{}", olds[n]["id"].as_str().unwrap());
        let mut changed = olds[0].clone();
        changed["code"]["text"] = json!("After");
        let sent = bundle("transaction", vec![
            entry("GET", &at(0), None),
            entry("PUT", &at(0), Some(&changed)),
            entry("PATCH", &at(1), Some(&patch("After"))),
            entry("DELETE", &at(2), None),
            entry("POST", "Condition", Some(&condition("new", "New"))),
            entry("PUT", &by_name("upsert"), Some(&condition("upsert", "New"))),
            entry("GET", &by_name("new"), None),
            entry("HEAD", &format!("{}/_history/1", at(0)), None),
            entry("DELETE", &by_name("nobody-has"), None),
        ]);
        let answer = practice.post("", &sent).await.expect(200);
        assert_eq!(answer.body["type"], "transaction-response");
        assert_eq!(statuses(&answer), ["200", "200", "200", "204", "201", "201", "200", "200", "204"]);
        let entries = answer.body["entry"].as_array().unwrap();
        assert_eq!(entries[0]["resource"]["code"]["text"], "After", "what is read is what the others left");
        assert_eq!(entries[6]["resource"]["type"], "searchset");
        assert_eq!(entries[6]["resource"]["entry"].as_array().unwrap().len(), 1);
        assert_eq!(entries[7]["resource"]["code"]["text"], "Before");
        assert_eq!(practice.get(at(1)).await.expect(200).body["code"]["text"], "After");
        practice.get(at(2)).await.expect(410);
        // Preferred in full, each comes with what was stored.
        changed["code"]["text"] = json!("Again");
        let sent = bundle("transaction", vec![entry("PUT", &at(0), Some(&changed))]);
        let full = practice.post("", &sent).header("Prefer", "return=representation").await.expect(200);
        assert_eq!(full.body["entry"][0]["resource"]["code"]["text"], "Again");
        changed["code"]["text"] = json!("And again");
        let sent = bundle("transaction", vec![entry("PUT", &at(0), Some(&changed))]);
        let said = practice.post("", &sent).header("Prefer", "return=OperationOutcome").await.expect(200);
        assert_eq!(said.body["entry"][0]["response"]["outcome"]["resourceType"], "OperationOutcome");
    }

    async fn what_fails_in_a_transaction_fails_it_and_is_named(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let there = made(&practice, &condition("there", "Before")).await;
        let at = format!("Condition/{}", there["id"].as_str().unwrap());
        let good = entry("POST", "Condition", Some(&condition("good", "x")));
        let conditioned = |element: &str, value: &str| {
            let mut entry = entry("PUT", &at, Some(&there));
            entry["request"][element] = json!(value);
            entry
        };
        let subject = |reference: &str| {
            let mut resource = condition("referring", "x");
            resource["subject"] = json!({ "reference": reference });
            entry("POST", "Condition", Some(&resource))
        };
        made(&practice, &condition("twice", "a")).await;
        made(&practice, &condition("twice", "b")).await;
        for person in [build::ADA, build::BERT] {
            let mut person = build::person(person);
            let name = json!({ "system": "https://practice.example/Id/person", "value": "twice" });
            person["identifier"].as_array_mut().unwrap().push(name);
            made(&practice, &person).await;
        }
        app.settled().await;
        let before = app.stored().await;
        for (bad, status) in [
            (conditioned("ifMatch", "W/\"9\""), 412),
            (conditioned("ifMatch", "nonsense"), 400),
            (conditioned("ifNoneMatch", "*"), 412),
            (entry("PUT", &by_name("twice"), Some(&condition("twice", "c"))), 412),
            (entry("DELETE", &by_name("twice"), None), 412),
            (entry("GET", "Condition/nobody", None), 404),
            (entry("GET", "Condition?nonsense=1", None), 400),
            (entry("PATCH", "Condition/nobody", Some(&patch("x"))), 404),
            (entry("PATCH", &at, Some(&there)), 400),
            (entry("PUT", "Condition/another", Some(&there)), 400),
            (entry("POST", "Task/$claim-next", Some(&build::parameters(&[]))), 422),
            (subject("Patient?identifier=nobody-has"), 412),
            (subject("Patient?identifier=https://practice.example/Id/person|twice"), 412),
        ] {
            let answer = practice.post("", &bundle("transaction", vec![good.clone(), bad.clone()])).await;
            assert_eq!(answer.status, status, "{bad}: {}", answer.text);
            assert_eq!(answer.body["resourceType"], "OperationOutcome");
            assert!(answer.expression().starts_with("Bundle.entry[1]"), "{bad}: {}", answer.text);
            assert_eq!(app.stored().await, before, "{bad}");
        }
    }

    async fn a_url_that_is_not_below_the_base_is_refused_with_what_a_url_is(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let good = entry("POST", "Condition", Some(&condition("good", "x")));
        let before = app.stored().await;
        for url in [
            "/ServiceRequest",
            "/fhir/ServiceRequest",
            "fhir/ServiceRequest",
            "?_type=ServiceRequest",
            "servicerequest",
            "http://evil.example/fhir/ServiceRequest",
            "HTTPS://evil.example/fhir/ServiceRequest",
            "ServiceRequest:x",
            &format!("{}/fhirx/ServiceRequest", app.base),
            &format!("{}/fhir?_type=ServiceRequest", app.base),
        ] {
            for (method, resource) in [("POST", Some(build::referral())), ("GET", None)] {
                // A search of all types is asked so.
                if method == "GET" && url.contains("?_type") {
                    continue;
                }
                let bad = entry(method, url, resource.as_ref());
                let whole = practice.post("", &bundle("transaction", vec![good.clone(), bad.clone()])).await.expect(400);
                assert_eq!(app.stored().await, before, "{method} {url}");
                let each = practice.post("", &bundle("batch", vec![entry("GET", "metadata", None), bad])).await.expect(200);
                assert_eq!(statuses(&each), ["200", "400"], "{method} {url}: {}", each.text);
                let of_batch = &each.body["entry"][1]["response"]["outcome"];
                for issue in [&whole.body["issue"][0], &of_batch["issue"][0]] {
                    assert_eq!(issue["expression"][0], "Bundle.entry[1].request.url", "{method} {url}: {issue}");
                    assert!(issue["diagnostics"].as_str().unwrap().contains("Type?criteria"), "{method} {url}: {issue}");
                }
            }
        }
        // Below our own base, it may be said in full.
        let absolute = entry("POST", &format!("{}/fhir/Condition", app.base), Some(&condition("absolute", "x")));
        practice.post("", &bundle("transaction", vec![absolute.clone()])).await.expect(200);
        let search = entry("GET", &format!("{}/fhir?_type=Condition", app.base), None);
        let sent = bundle("batch", vec![absolute, search.clone(), entry("GET", "?_type=Condition", None)]);
        assert_eq!(statuses(&practice.post("", &sent).await.expect(200)), ["201", "200", "200"]);
        practice.post("", &bundle("transaction", vec![search])).await.expect(200);
    }

    async fn entries_name_each_other_in_every_form(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.post("Patient", &build::person(build::ADA)).await.expect(201);
        let mut person = build::person(build::BERT);
        person["id"] = json!("bert");
        let about = |reference: &str| {
            let mut resource = condition("x", "x");
            resource.as_object_mut().unwrap().remove("identifier");
            resource["subject"] = json!({ "reference": reference });
            resource["text"] = json!({ "status": "additional",
                "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"urn:oid:1.2.3\">Bert</a></div>" });
            entry("POST", "Condition", Some(&resource))
        };
        let with = |full_url: &str, mut entry: Value| {
            entry["fullUrl"] = json!(full_url);
            entry
        };
        let patient = |full_url: &str| with(full_url, entry("POST", "Patient", Some(&person)));
        let urn = build::urn();
        for (full_url, reference) in [
            (urn.as_str(), urn.as_str()),
            ("urn:oid:1.2.3", "urn:oid:1.2.3"),
            ("https://surgery.example/fhir/Patient/bert", "https://surgery.example/fhir/Patient/bert"),
            ("https://surgery.example/fhir/Patient/bert", "Patient/bert"),
        ] {
            let answer = practice.post("", &bundle("transaction", vec![about(reference), patient(full_url)])).await.expect(200);
            let made = answer.made();
            let stored = practice.get(made[0].as_str()).await.expect(200).body;
            assert_eq!(stored["subject"]["reference"], made[1], "{full_url} {reference}");
            if full_url.starts_with("urn:oid") {
                assert!(stored["text"]["div"].as_str().unwrap().contains(&format!("href=\"{}\"", made[1])), "{stored}");
            }
        }
        // By criteria, what is there already.
        let by_number = format!("Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|{}", build::ADA.0);
        let answer = practice.post("", &bundle("transaction", vec![about(&by_number)])).await.expect(200);
        let stored = practice.get(answer.made()[0].as_str()).await.expect(200).body;
        let ada = practice.get(format!("Patient?identifier={}", build::ADA.0)).await.expect(200).resources();
        assert_eq!(stored["subject"]["reference"], format!("Patient/{}", ada[0]["id"].as_str().unwrap()));
        let blind = app.client("no-search-of-people", "TESTA1", "system/Condition.cruds").await;
        blind.post("", &bundle("transaction", vec![about(&by_number)])).await.expect(403);
    }

    async fn of_a_batch_each_entry_is_answered_by_itself_and_in_its_place(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let there = made(&practice, &condition("there", "Before")).await;
        let at = format!("Condition/{}", there["id"].as_str().unwrap());
        let mut changed = there.clone();
        changed["code"]["text"] = json!("After");
        let mut stale = entry("PUT", &at, Some(&there));
        stale["request"]["ifMatch"] = json!("W/\"9\"");
        let mut known = entry("GET", &at, None);
        known["request"]["ifNoneMatch"] = json!("W/\"2\"");
        let mut unless = entry("POST", "Condition", Some(&condition("there", "x")));
        unless["request"]["ifNoneExist"] = json!("identifier=https://practice.example/Id/condition|there");
        let invalid = json!({ "resourceType": "Condition", "subject": build::by_number(build::ADA.0), "onsetDateTime": "tomorrow" });
        let sent = bundle("batch", vec![
            entry("PUT", &at, Some(&changed)),
            stale,
            known,
            entry("POST", "Condition", Some(&invalid)),
            unless,
            entry("GET", &by_name("there"), None),
            entry("GET", "Condition/nobody", None),
            entry("PATCH", &at, Some(&patch("Patched"))),
            entry("POST", "ServiceRequest", Some(&build::referral())),
            entry("POST", "Bundle", Some(&bundle("batch", vec![]))),
            entry("GET", "metadata", None),
            entry("DELETE", &at, None),
            entry("GET", &at, None),
            entry("POST", "Nonsense/x/y/z", Some(&there)),
            entry("GET", "%zz", None),
            entry("POST", "Condition/nobody", Some(&there)),
        ]);
        app.clock.advance(Duration::from_millis(123));
        let answer = practice.post("", &sent).await.expect(200);
        assert_eq!(answer.body["type"], "batch-response");
        assert_eq!(statuses(&answer), [
            "200", "412", "304", "400", "200", "200", "404", "200", "201", "501", "200", "204", "410", "404", "400", "405",
        ]);
        let entries = answer.body["entry"].as_array().unwrap();
        let said = entries[15]["response"]["outcome"]["issue"][0]["diagnostics"].as_str().unwrap();
        assert!(said.contains("Type/id") && !said.contains("Allow"), "an entry has no headers: {said}");
        let read = entries[5]["resource"]["entry"][0]["resource"]["meta"]["lastUpdated"].clone();
        assert_eq!(entries[0]["response"]["lastModified"], read);
        assert!(read.as_str().unwrap().ends_with(".123Z"), "to the millisecond: {read}");
        for (at, entry) in entries.iter().enumerate() {
            let failed = matches!(entry["response"]["status"].as_str().unwrap().as_bytes()[0], b'4' | b'5');
            assert_eq!(entry["response"].get("outcome").is_some(), failed, "{at}: {entry}");
        }
        assert_eq!(entries[3]["response"]["outcome"]["issue"][0]["expression"][0], "Condition.onset.ofType(dateTime)");
        assert_eq!(entries[0]["response"]["etag"], "W/\"2\"");
        assert!(entries[0].get("resource").is_none() && entries[8]["response"]["location"].as_str().unwrap().starts_with("ServiceRequest/"));
        assert_eq!(app.count("referral").await, 1, "a referral is one, whichever way it comes in");
        assert_eq!(app.count("task where code = 'contact-patient'").await, 1);
        // Each entry needs its own scope.
        let reader = app.client("reader", "TESTA1", "system/Condition.rs").await;
        let answer = reader.post("", &bundle("batch", vec![
            entry("GET", &by_name("there"), None),
            entry("POST", "Condition", Some(&condition("new", "x"))),
            entry("GET", "Patient?family=x", None),
        ])).await.expect(200);
        assert_eq!(statuses(&answer), ["200", "403", "403"]);
        practice.post("", &bundle("batch", vec![])).header("Idempotency-Key", "k").await.expect(400);
        let mut nobody = bundle("batch", vec![entry("GET", "metadata", None)]);
        nobody["type"] = json!("message");
        practice.post("", &nobody).await.expect(501);
    }

    async fn a_bundle_sent_again_under_its_key_reads_again_and_writes_nothing(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let sent = bundle("transaction", vec![
            entry("POST", "Condition", Some(&condition("keyed", "x"))),
            entry("GET", &by_name("keyed"), None),
        ]);
        let ask = || practice.post("", &sent).header("Idempotency-Key", "bundle-1");
        let first = ask().await.expect(200);
        let stored = app.stored().await;
        let again = ask().await.expect(200);
        assert_eq!(again.made()[0], first.made()[0]);
        assert_eq!(again.body["entry"][1]["resource"]["entry"][0]["resource"]["code"]["text"], "x");
        assert_eq!(app.stored().await, stored);
    }
}
