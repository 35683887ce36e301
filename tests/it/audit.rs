//! The audit trail: read as AuditEvents by those whose it is to read, and with what was refused on it.

use livewell::fhir::{Resource, check};
use reqwest::Method;
use serde_json::{Value, json};

use crate::oracle;
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

/// A referral of Ada by TESTA1, read, asked about, and worked on by the coach of the north.
struct Worked {
    referral: String,
    person: String,
    task: String,
}

async fn worked(app: &TestApp) -> Worked {
    let practice = app.practice("TESTA1").await;
    let made = practice.post("ServiceRequest", &build::referral()).header("X-Request-Id", "request-1").await;
    let referral = made.expect(201).id();
    practice.get(format!("ServiceRequest/{referral}")).await.expect(200);
    practice.get(format!("ServiceRequest/{referral}/_history/1")).await.expect(200);
    practice.get(format!("ServiceRequest/{referral}/$status")).await.expect(200);
    let coach = app.staff("coach-north").await;
    let task = coach.get(format!("Task?focus=ServiceRequest/{referral}")).await.expect(200).resources().remove(0);
    let task_id = task["id"].as_str().unwrap().to_owned();
    coach.send(Method::POST, format!("Task/{task_id}/$claim")).if_match(1).await.expect(200);
    let person = task["for"]["reference"].as_str().unwrap().strip_prefix("Patient/").unwrap().to_owned();
    Worked { referral, person, task: task_id }
}

async fn found(caller: &Caller, search: &str) -> Vec<Value> {
    caller.get(format!("AuditEvent?_count=500&{search}")).await.expect(200).resources()
}

/// What was done, by the words of the trail, each once.
fn words(events: &[Value]) -> Vec<String> {
    let word = |event: &Value| {
        let subtypes = event["subtype"].as_array().cloned().unwrap_or_default();
        subtypes.last().and_then(|last| last["code"].as_str()).unwrap_or_default().to_owned()
    };
    let mut words: Vec<String> = events.iter().map(word).collect();
    words.sort();
    words.dedup();
    words
}

/// Rows of the trail that say a refusal: interaction, target, outcome, how often.
async fn refusals(app: &TestApp) -> Vec<Vec<Value>> {
    // What is told without anybody waiting is written before what somebody waits for.
    app.system().await.get("Organization?_count=1").await.expect(200);
    app.rows("select interaction, target, outcome, times, client from audit where outcome <> 'success' order by id")
        .await
}

fn row(interaction: &str, target: &str, outcome: &str, times: i64, client: &str) -> Vec<Value> {
    vec![json!(interaction), json!(target), json!(outcome), json!(times), json!(client)]
}

on_each_database! {
    async fn what_was_done_is_read_as_valid_audit_events(app: TestApp) {
        let worked = worked(&app).await;
        let system = app.system().await;
        let events = found(&system, "").await;
        assert!(events.len() >= 6, "{events:#?}");
        for event in &events {
            let resource = Resource::from_value(event.clone()).unwrap();
            assert_eq!(check::check(&resource, 20), vec![], "{event:#}");
            let at = format!("AuditEvent/{}", event["id"].as_str().unwrap());
            assert_eq!(&system.get(at).await.expect(200).body, event);
        }
        if let Some(verdicts) = oracle::verdicts(&events) {
            assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
        }
        let created = found(&system, &format!("entity=ServiceRequest/{}&action=C", worked.referral)).await.remove(0);
        let coding = |at: &Value| (at["system"].as_str().unwrap().to_owned(), at["code"].as_str().unwrap().to_owned());
        let is = |system: &str, code: &str| (system.to_owned(), code.to_owned());
        assert_eq!(coding(&created["type"]), is("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest"));
        assert_eq!(coding(&created["subtype"][0]), is("http://hl7.org/fhir/restful-interaction", "create"));
        assert_eq!((&created["outcome"], &created["recorded"]), (&json!("0"), &json!("2026-03-02T09:00:00.000Z")));
        assert_eq!(created["agent"][0]["who"]["identifier"]["value"], "practice-testa1");
        assert_eq!(created["agent"][1]["who"]["identifier"]["value"], "TESTA1");
        assert_eq!(created["entity"][0]["what"]["reference"], format!("ServiceRequest/{}", worked.referral));
        assert_eq!(created["entity"][1]["what"]["reference"], format!("Patient/{}", worked.person));
        assert_eq!(created["entity"][2]["what"]["identifier"]["value"], "request-1");
        let claimed = found(&system, &format!("entity=Task/{}", worked.task)).await.remove(0);
        assert_eq!(coding(&claimed["subtype"][0]), is("http://hl7.org/fhir/restful-interaction", "operation"));
        assert_eq!(claimed["subtype"][1]["code"], "$claim");
        assert_eq!(claimed["agent"][1]["who"]["reference"], "PractitionerRole/coach-north");
        assert_eq!((&claimed["agent"][0]["requestor"], &claimed["agent"][1]["requestor"]), (&json!(false), &json!(true)));
        let xml = system.get(format!("AuditEvent/{}", created["id"].as_str().unwrap()));
        let xml = xml.header("Accept", "application/fhir+xml").await.expect(200);
        assert!(xml.text.contains("<AuditEvent"), "{}", xml.text);
    }

    async fn it_is_searched_by_what_was_touched_whom_it_is_about_who_did_it_when_and_how_it_ended(app: TestApp) {
        let Worked { referral, person, .. } = worked(&app).await;
        let system = app.system().await;
        app.clock.advance(std::time::Duration::from_secs(86_400));
        let practice = app.practice("TESTA1").await;
        practice.get(format!("ServiceRequest/{referral}")).await.expect(200);
        practice.get("Organization/nobody").await.expect(404);
        let other = app.practice("TESTA2").await;
        other.get(format!("ServiceRequest/{referral}")).await.expect(404);
        for (search, expected) in [
            (format!("entity=ServiceRequest/{referral}"), vec!["$status", "create", "read", "vread"]),
            (format!("entity=ServiceRequest/{referral}&date=2026-03-02"), vec!["$status", "create", "read", "vread"]),
            (format!("entity=ServiceRequest/{referral}&date=ge2026-03-03"), vec!["read"]),
            (format!("entity=ServiceRequest/{referral}&outcome=4"), vec!["read"]),
            (format!("entity=ServiceRequest/{referral}&action=C,E"), vec!["$status", "create"]),
            (format!("entity=ServiceRequest/{referral}&action:not=R"), vec!["$status", "create"]),
            (format!("entity=ServiceRequest/{referral}&subtype=http://hl7.org/fhir/restful-interaction|vread"), vec!["vread"]),
            (format!("patient={person}&subtype=$claim"), vec!["$claim"]),
            (format!("patient=Patient/{person}&type=rest&action=U"), vec![]),
            (format!("patient.identifier=https://fhir.nhs.uk/Id/nhs-number|{}&action=C", build::ADA.0), vec!["create"]),
            ("patient=nobody".to_owned(), vec![]),
            ("agent=PractitionerRole/coach-north".to_owned(), vec!["$claim", "search-type"]),
            ("agent:identifier=https://livewell.example/Id/client|practice-testa2".to_owned(), vec!["read"]),
            ("agent:identifier=https://fhir.nhs.uk/Id/ods-organization-code|TESTA2".to_owned(), vec!["read"]),
            ("agent:identifier=nobody".to_owned(), vec![]),
            ("outcome=4".to_owned(), vec!["read"]),
            ("outcome=8".to_owned(), vec![]),
            ("entity=Organization/nobody".to_owned(), vec!["read"]),
            ("entity=Organization/nobody,Organization/nobody".to_owned(), vec!["read"]),
            ("date=lt2026-03-01".to_owned(), vec![]),
            ("date=ge2026-03-03&action=C".to_owned(), vec![]),
            ("_lastUpdated=2026-03-02&subtype=create".to_owned(), vec!["create"]),
            ("_id=nobody".to_owned(), vec![]),
        ] {
            let events = found(&system, &search).await;
            assert_eq!(words(&events), expected, "{search}");
            let counted = system.get(format!("AuditEvent?{search}&_summary=count")).await.expect(200);
            assert_eq!(counted.body["total"], events.len(), "{search}");
        }
        // The Patient's compartment has them, and what they refer to comes along.
        let inside = system.get(format!("Patient/{person}/AuditEvent?subtype=$claim&_include=AuditEvent:agent")).await;
        let kinds: Vec<Value> = inside.expect(200).resources().iter().map(|r| r["resourceType"].clone()).collect();
        assert_eq!(kinds, ["AuditEvent", "PractitionerRole"]);
        let posted = system.send(Method::POST, "AuditEvent/_search");
        let posted = posted.text("application/x-www-form-urlencoded", "outcome=4").await.expect(200);
        assert_eq!(words(&posted.resources()), ["read"]);
    }

    async fn what_it_is_not_searched_by_is_refused_and_so_is_a_walk_through_all_of_it(app: TestApp) {
        let system = app.system().await;
        for search in ["address=10.0.0.1", "agent.name=x", "entity:missing=true", "_sort=outcome", "_sort=date,_id", "action=C", "_total=accurate"] {
            let refused = system.get(format!("AuditEvent?{search}")).await.expect(400);
            assert_eq!(refused.body["resourceType"], "OperationOutcome", "{search}");
        }
        assert_eq!(system.get("AuditEvent?subtype=delete").await.expect(400).issue(), "too-costly");
        for search in ["Patient?_has:AuditEvent:patient:action=R", "Patient?_revinclude=AuditEvent:patient"] {
            assert!(system.get(search).await.expect(400).text.contains("audit trail"), "{search}");
        }
        let lenient = system.get("AuditEvent?date=ge2026&address=10.0.0.1").header("Prefer", "handling=lenient");
        assert!(lenient.await.expect(200).text.contains("Passed over"));
    }

    async fn its_pages_follow_each_other_while_it_grows(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for _ in 0..7 {
            app.clock.advance(std::time::Duration::from_millis(1));
            practice.get("Organization?_count=1").await.expect(200);
        }
        let system = app.system().await;
        let all = found(&system, "agent:identifier=practice-testa1&_sort=date").await;
        assert_eq!(all.len(), 7);
        for (order, expected) in [("date", all.clone()), ("-date", all.iter().rev().cloned().collect())] {
            let mut seen = Vec::new();
            let mut next = format!("AuditEvent?agent:identifier=practice-testa1&_count=3&_sort={order}");
            loop {
                let page: Answer = system.get(next).await.expect(200);
                assert!(page.resources().len() <= 3);
                seen.extend(page.resources());
                let links = page.body["link"].as_array().unwrap().clone();
                let Some(link) = links.iter().find(|link| link["relation"] == "next") else { break };
                next = link["url"].as_str().unwrap().to_owned();
                if order == "-date" {
                    practice.get("Organization?_count=1").await.expect(200);
                }
            }
            assert_eq!(seen[..7], expected[..], "{order}");
        }
    }

    async fn a_practice_reads_what_its_own_clients_did_and_a_coach_what_was_done_about_their_people(app: TestApp) {
        let Worked { referral, person, task } = worked(&app).await;
        app.practice("TESTA2").await.get("Organization?_count=1").await.expect(200);
        let (own, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        let by_client = |events: &[Value]| -> Vec<Value> {
            let mut clients: Vec<Value> = events.iter().map(|e| e["agent"][0]["name"].clone()).collect();
            clients.dedup();
            clients
        };
        assert_eq!(by_client(&found(&own, "").await), ["practice-testa1"]);
        assert_eq!(by_client(&found(&own, &format!("patient={person}")).await), ["practice-testa1"]);
        assert_eq!(by_client(&found(&other, "").await), ["practice-testa2"]);
        for search in [format!("patient={person}"), format!("entity=ServiceRequest/{referral}"), "agent=PractitionerRole/coach-north".to_owned(), "agent:identifier=practice-testa1".to_owned(), "subtype=$claim&date=ge2026".to_owned()] {
            assert_eq!(found(&other, &search).await, Vec::<Value>::new(), "{search}");
            assert_eq!(other.get(format!("AuditEvent?{search}&_summary=count")).await.expect(200).body["total"], 0, "{search}");
        }
        let coach = app.staff("coach-north").await;
        let seen = found(&coach, &format!("patient={person}")).await;
        assert!(seen.len() >= 5 && by_client(&seen).contains(&json!("practice-testa1")), "{seen:#?}");
        assert_eq!(coach.get("AuditEvent?date=ge2026").await.expect(400).issue(), "too-costly");
        let elsewhere = app.staff("coach-central").await;
        assert_eq!(found(&elsewhere, &format!("patient={person}")).await, Vec::<Value>::new());
        assert_eq!(found(&elsewhere, &format!("entity=Task/{task}")).await, Vec::<Value>::new());
        // One that is not theirs is one that is not there.
        let id = seen[0]["id"].as_str().unwrap();
        for stranger in [&other, &elsewhere] {
            let hidden = stranger.get(format!("AuditEvent/{id}")).header("X-Request-Id", "r").await.expect(404);
            let absent = stranger.get("AuditEvent/01999999-0000-7000-8000-000000000000").header("X-Request-Id", "r").await.expect(404);
            assert_eq!(hidden.text, absent.text);
            assert_eq!(found(stranger, &format!("_id={id}")).await, Vec::<Value>::new());
        }
        coach.get(format!("AuditEvent/{id}")).await.expect(200);
    }

    async fn nobody_writes_it_and_reading_it_needs_the_scope_and_is_on_it(app: TestApp) {
        let Worked { referral, .. } = worked(&app).await;
        let system = app.system().await;
        let event = found(&system, &format!("entity=ServiceRequest/{referral}")).await.remove(0);
        let at = format!("AuditEvent/{}", event["id"].as_str().unwrap());
        system.post("AuditEvent", &event).await.expect(405);
        system.put(at.as_str(), &event).await.expect(405);
        system.put("AuditEvent?date=2026", &event).await.expect(405);
        system.send(Method::PATCH, at.as_str()).json(&json!({ "resourceType": "Parameters" })).await.expect(405);
        system.send(Method::DELETE, at.as_str()).await.expect(405);
        system.send(Method::DELETE, "AuditEvent?date=2026").await.expect(405);
        system.get(format!("{at}/_history")).await.expect(501);
        let batch = json!({ "resourceType": "Bundle", "type": "batch", "entry": [
            { "resource": event, "request": { "method": "POST", "url": "AuditEvent" } },
            { "request": { "method": "GET", "url": at } },
        ] });
        let answer = system.post("", &batch).await.expect(200);
        assert!(answer.body["entry"][0]["response"]["status"].as_str().unwrap().starts_with("405"), "{}", answer.text);
        assert_eq!(answer.body["entry"][1]["resource"], event);
        let narrow = app.client("narrow", "TESTA1", "system/ServiceRequest.rs").await;
        narrow.get("AuditEvent").await.expect(403);
        let read = format!("select count(*) from audit where interaction = 'read' and target = '{at}' and client = '{}'", system.id);
        system.get(at.as_str()).await.expect(200);
        assert_eq!(app.rows(&read).await, [[json!(2)]]);
        assert!(app.count("audit where interaction = 'search-type' and target = 'AuditEvent'").await > 0);
    }

    async fn what_is_refused_is_on_the_trail_alike_whether_it_is_there_or_not(app: TestApp) {
        let Worked { referral, task, .. } = worked(&app).await;
        let stranger = app.practice("TESTA3").await;
        let nobody = "01999999-0000-7000-8000-000000000000";
        for id in [referral.as_str(), nobody] {
            stranger.get(format!("ServiceRequest/{id}")).await.expect(404);
            stranger.get(format!("ServiceRequest/{id}/$status")).await.expect(404);
            stranger.get(format!("ServiceRequest/{id}/_history")).await.expect(404);
        }
        stranger.post(format!("Task/{task}/$claim"), &json!({ "resourceType": "Parameters" })).if_match(1).await;
        let narrow = app.client("narrow", "TESTA1", "system/ServiceRequest.r").await;
        narrow.get("ServiceRequest?status=active").await.expect(403);
        narrow.post("ServiceRequest", &build::referral()).await.expect(403);
        let bundle = build::transaction([(build::urn(), build::referral())]);
        narrow.post("", &bundle).await.expect(403);
        let read = refusals(&app).await;
        let client = "practice-testa3";
        for expected in [
            row("read", &format!("ServiceRequest/{referral}"), "404", 1, client),
            row("read", &format!("ServiceRequest/{nobody}"), "404", 1, client),
            row("$status", &format!("ServiceRequest/{referral}"), "404", 1, client),
            row("history-instance", &format!("ServiceRequest/{nobody}"), "404", 1, client),
            row("search-type", "ServiceRequest", "403", 1, "narrow"),
            row("create", "ServiceRequest", "403", 1, "narrow"),
            row("transaction", "", "403", 1, "narrow"),
        ] {
            assert!(read.contains(&expected), "{expected:?}: {read:#?}");
        }
        assert!(read.iter().any(|r| r[0] == "$claim" && r[4] == client), "{read:#?}");
        assert_eq!(app.count("audit where outcome <> 'success' and person <> ''").await, 0);
        // A system that names nobody is known by its token, and refused.
        app.speaker().await.get("Task?status=requested").await.expect(403);
        assert!(refusals(&app).await.contains(&row("search-type", "Task", "403", 1, "live-well-speaker")));
        // Each entry of a batch by itself.
        let batch = json!({ "resourceType": "Bundle", "type": "batch", "entry": [
            { "request": { "method": "GET", "url": format!("ServiceRequest/{referral}") } },
            { "request": { "method": "GET", "url": "Patient/nobody" } },
        ] });
        stranger.post("", &batch).await.expect(200);
        let read = refusals(&app).await;
        assert!(read.contains(&row("read", "Patient/nobody", "404", 1, client)), "{read:#?}");
    }

    async fn an_assertion_that_a_known_client_is_refused_for_is_on_the_trail(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let now = app.clock.now();
        let audience = format!("{}/oauth/token", app.base);
        let assertion = practice.key.assertion(&practice.id, &audience, now);
        practice.exchange(&assertion, "system/*.cruds").await.expect(200);
        practice.exchange(&assertion, "system/*.cruds").await.expect(401);
        let elsewhere = practice.key.assertion(&practice.id, "https://elsewhere.example/token", now);
        practice.exchange(&elsewhere, "system/*.cruds").await.expect(401);
        let unknown = practice.key.assertion("nobody", &audience, now);
        practice.exchange(&unknown, "system/*.cruds").await.expect(401);
        let narrow = app.client("narrow", "TESTA1", "system/ServiceRequest.r").await;
        let assertion = narrow.key.assertion("narrow", &audience, now);
        narrow.exchange(&assertion, "system/Task.r").await.expect(400);
        let read = refusals(&app).await;
        assert_eq!(read, [
            row("token", "", "401", 1, "practice-testa1"),
            row("token", "", "401", 1, "practice-testa1"),
            row("token", "", "400", 1, "narrow"),
        ]);
        let system = app.system().await;
        let events = found(&system, "outcome=8").await;
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["type"]["code"], "110114");
        assert_eq!(check::check(&Resource::from_value(events[0].clone()).unwrap(), 9), vec![]);
    }

    async fn a_flood_of_refusals_is_counted_and_told_by_the_minute(app: TestApp) {
        let stranger = app.practice("TESTA3").await;
        for at in 0..60 {
            stranger.get(format!("ServiceRequest/nobody-{at}")).await.expect(404);
        }
        assert_eq!(refusals(&app).await.len(), 20);
        // The minute is over: what was counted is told with the next one.
        app.clock.advance(std::time::Duration::from_secs(60));
        stranger.get("ServiceRequest/nobody").await.expect(404);
        let read = refusals(&app).await;
        assert_eq!(read.iter().map(|r| r[3].as_i64().unwrap()).sum::<i64>(), 61);
        assert!(read.contains(&row("read", "", "404", 40, "practice-testa3")), "{read:#?}");
        let system = app.system().await;
        let events = found(&system, "outcome=4&agent:identifier=practice-testa3").await;
        let counted = events.iter().find(|e| e["outcomeDesc"].as_str().unwrap().contains("40 times")).unwrap();
        assert_eq!(check::check(&Resource::from_value(counted.clone()).unwrap(), 9), vec![]);
        // What was begun to be counted is told when the service stops.
        for at in 0..25 {
            stranger.get(format!("ServiceRequest/nobody-{at}")).await.expect(404);
        }
        app.restart().await;
        let told = app.rows("select times from audit where outcome = '404'").await;
        assert_eq!(told.iter().map(|row| row[0].as_i64().unwrap()).sum::<i64>(), 86);
    }

    async fn a_search_of_a_bundle_is_on_the_trail_once(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for kind in ["transaction", "batch"] {
            let before = app.count("audit where interaction = 'search-type'").await;
            let bundle = json!({ "resourceType": "Bundle", "type": kind, "entry": [
                { "request": { "method": "GET", "url": "Organization?_count=1" } },
                { "request": { "method": "GET", "url": "Location?_count=1" } },
            ] });
            practice.post("", &bundle).await.expect(200);
            assert_eq!(app.count("audit where interaction = 'search-type'").await - before, 2, "{kind}");
        }
        // One that cannot be done refuses the transaction, and nothing was read.
        let before = app.count("audit").await;
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
            { "request": { "method": "GET", "url": "Organization?_count=1" } },
            { "request": { "method": "GET", "url": "Organization?colour=red" } },
        ] });
        practice.post("", &bundle).await.expect(400);
        assert_eq!(app.count("audit").await, before);
    }
}
