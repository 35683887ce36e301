//! A referral arrives: however it was sent it is acknowledged, kept as it is, and waits for the right people.

use livewell::fhir::systems::{ENTRY_ROUTE, REFERRAL_FLAG, REFERRAL_REFERENCE};
use serde_json::{Value, json};

use crate::journey::somebody;
use crate::support::caller::Caller;
use crate::support::{TestApp, build, on_each_database};

/// Our reference among the identifiers of a ServiceRequest.
pub(crate) fn reference_of(request: &Value) -> String {
    let identifiers = request["identifier"].as_array().into_iter().flatten();
    let ours = identifiers.filter(|i| i["system"] == REFERRAL_REFERENCE).collect::<Vec<_>>();
    assert_eq!(ours.len(), 1, "{request}");
    ours[0]["value"].as_str().unwrap().to_owned()
}

/// The Tasks of a ServiceRequest, as the Live Well organisation's own system sees them.
pub(crate) async fn tasks_of(app: &TestApp, referral: &str) -> Vec<Value> {
    app.system().await.get(format!("Task?focus=ServiceRequest/{referral}")).await.expect(200).resources()
}

/// The one Task of a ServiceRequest.
async fn task_of(app: &TestApp, referral: &str) -> Value {
    let tasks = tasks_of(app, referral).await;
    assert_eq!(tasks.len(), 1, "{tasks:#?}");
    tasks[0].clone()
}

/// What we noted on a resource that is to be checked.
pub(crate) fn flags(resource: &Value) -> Vec<&str> {
    let tags = resource["meta"]["tag"].as_array().into_iter().flatten();
    tags.filter(|t| t["system"] == REFERRAL_FLAG).filter_map(|t| t["code"].as_str()).collect()
}

/// The notes of a Task as one text.
fn notes(task: &Value) -> String {
    let notes = task["note"].as_array().into_iter().flatten();
    notes.filter_map(|note| note["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// What the sender sent, out of what is served.
fn as_sent(mut served: Value) -> Value {
    let fields = served.as_object_mut().unwrap();
    fields.remove("id");
    fields.remove("meta");
    let identifiers = fields["identifier"].as_array_mut().unwrap();
    identifiers.retain(|i| i["system"] != REFERRAL_REFERENCE);
    if identifiers.is_empty() {
        fields.remove("identifier");
    }
    served
}

/// Loads an affiliation of TESTA1 with a locality.
async fn affiliate(app: &TestApp, id: &str, locality: &str, changes: &Value) {
    let mut affiliation = json!({
        "resourceType": "OrganizationAffiliation", "id": id, "active": true,
        "organization": { "reference": "Organization/live-well" },
        "participatingOrganization": { "reference": "Organization/testa1" },
        "location": [{ "reference": format!("Location/{locality}") }],
    });
    affiliation.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    app.load(&json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": affiliation }] })).await;
}

async fn person_of(app: &TestApp, referral: &str) -> String {
    app.rows(&format!("select person from referral where id = '{referral}'")).await[0][0].as_str().unwrap().to_owned()
}

pub(crate) async fn sent(caller: &Caller, referral: &Value) -> String {
    caller.post("ServiceRequest", referral).await.expect(201).id()
}

on_each_database! {
    async fn a_referral_is_acknowledged_with_where_it_is_its_version_and_a_reference_to_read_out(app: TestApp) {
        let made = app.practice("TESTA1").await.post("ServiceRequest", &build::referral()).await.expect(201);
        let (id, base) = (made.id(), &app.base);
        assert_eq!(made.header("location"), format!("{base}/fhir/ServiceRequest/{id}/_history/1"));
        assert_eq!(made.header("etag"), "W/\"1\"");
        assert_eq!(made.body["meta"]["versionId"], "1");
        assert_eq!(made.body["meta"]["lastUpdated"], "2026-03-02T09:00:00.000Z");
        let reference = reference_of(&made.body);
        let groups: Vec<&str> = reference.split('-').collect();
        assert_eq!((groups[0], groups[1].len(), groups[2].len(), groups.len()), ("LW", 4, 4, 3), "{reference}");
        let kept = app.rows(&format!("select reference from referral where id = '{id}'")).await;
        assert_eq!(kept, [[json!(reference)]]);
    }

    async fn the_person_may_be_named_by_nhs_number_contained_known_or_in_the_same_bundle(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let by_number = sent(&practice, &build::referral()).await;
        let contained = sent(&practice, &build::referral_with(build::person(build::ADA))).await;

        let known = practice.post("Patient", &build::person(build::ADA)).await.expect(201).id();
        let mut to_known = build::referral();
        to_known["subject"] = json!({ "reference": format!("Patient/{known}") });
        let to_known = sent(&practice, &to_known).await;
        let mut absolute = build::referral();
        absolute["subject"] = json!({ "reference": format!("{}/fhir/Patient/{known}", app.base) });
        let absolute = sent(&practice, &absolute).await;

        let urn = build::urn();
        let mut bundled = build::referral();
        bundled["subject"] = json!({ "reference": urn });
        let bundle = build::transaction([(build::urn(), bundled), (urn, build::person(build::ADA))]);
        let made = practice.post("", &bundle).await.expect(200).made();
        let bundled = made[0].strip_prefix("ServiceRequest/").unwrap().to_owned();
        let read = practice.get(made[0].clone()).await.expect(200).body;
        assert_eq!(read["subject"], json!({ "reference": made[1] }));

        let person = person_of(&app, &by_number).await;
        for referral in [contained, to_known, absolute, bundled] {
            assert_eq!(person_of(&app, &referral).await, person);
        }
        assert_eq!(app.count("person").await, 1);
        assert_eq!(app.count("task where code = 'contact-patient'").await, 5);
    }

    async fn two_referrals_of_a_person_in_one_bundle_join_one_spell_and_each_has_its_first_task(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        // Of someone who is new, and of someone who is known.
        for referrals in [2, 4] {
            let all = [build::referral(), build::person(build::ADA), build::referral()];
            let made = practice.post("", &build::transaction(all.map(|one| (build::urn(), one)))).await.expect(200).made();
            assert_ne!(made[0], made[2]);
            assert_eq!((app.count("episode").await, app.count("referral").await), (1, referrals));
            assert_eq!(app.count("task where code = 'contact-patient'").await, referrals);
            let spells = app.system().await.get("EpisodeOfCare").await.expect(200).resources();
            assert_eq!(spells[0]["referralRequest"].as_array().unwrap().len() as i64, referrals);
        }
    }

    async fn entries_of_a_bundle_mean_each_other_by_the_senders_own_urls(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut person = build::person(build::ADA);
        person["id"] = json!("5");
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": "Patient/5" });
        referral["reasonReference"] = json!([{ "reference": "https://practice.example/fhir/Condition/6" }]);
        let condition = json!({ "resourceType": "Condition", "id": "6", "code": { "text": "Asthma" }, "subject": { "reference": "Patient/5" } });
        let at = |entry: &str| format!("https://practice.example/fhir/{entry}");
        let bundle = build::transaction([
            (at("ServiceRequest/7"), referral), (at("Patient/5"), person), (at("Condition/6"), condition),
        ]);
        let made = practice.post("", &bundle).await.expect(200).made();
        let read = practice.get(made[0].as_str()).await.expect(200).body;
        assert_eq!(read["subject"]["reference"], made[1]);
        assert_eq!(read["reasonReference"][0]["reference"], made[2]);
        let condition = practice.get(made[2].as_str()).await.expect(200).body;
        assert_eq!(condition["subject"]["reference"], made[1]);
        assert!(flags(&read).is_empty(), "{}", read["meta"]);
    }

    async fn the_first_contact_is_due_in_48_hours_and_in_24_above_routine(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for (priority, due) in [
            (None, "2026-03-04T09:00:00.000Z"),
            (Some("routine"), "2026-03-04T09:00:00.000Z"),
            (Some("urgent"), "2026-03-03T09:00:00.000Z"),
            (Some("asap"), "2026-03-03T09:00:00.000Z"),
            (Some("stat"), "2026-03-03T09:00:00.000Z"),
        ] {
            let mut referral = build::referral();
            if let Some(priority) = priority {
                referral["priority"] = json!(priority);
            }
            let id = sent(&practice, &referral).await;
            let task = task_of(&app, &id).await;
            assert_eq!(task["restriction"]["period"]["end"], due, "{priority:?}");
            assert_eq!(task["code"]["coding"][0]["code"], "contact-patient");
            assert_eq!(task["status"], "requested");
            assert_eq!(task["priority"], priority.unwrap_or("routine"));
            assert_eq!(task["performerType"][0]["coding"][0]["code"], "health-coach");
            assert_eq!(task["for"]["reference"], format!("Patient/{}", person_of(&app, &id).await));
            assert!(task["basedOn"][0]["reference"].as_str().unwrap().starts_with("CarePlan/"), "{task}");
            assert!(task.get("owner").is_none(), "{task}");
            let row = app.rows(&format!("select due from task where referral = '{id}'")).await;
            let due = due.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros();
            assert_eq!(row, [[json!(due)]]);
        }
    }

    async fn only_an_affiliation_with_us_that_holds_now_gives_a_locality(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for changes in [
            json!({ "active": false }),
            json!({ "period": { "start": "2025-01-01", "end": "2026-02-28" } }),
            json!({ "period": { "start": "2026-04-01" } }),
            json!({ "organization": { "reference": "Organization/testa2" } }),
        ] {
            affiliate(&app, "testa1-north", "north", &changes).await;
            let made = sent(&practice, &build::referral_of(&somebody())).await;
            assert!(task_of(&app, &made).await.get("location").is_none(), "{changes}");
        }
        // Another one counts, though the first by its id does not.
        affiliate(&app, "testa1-south", "south", &json!({ "period": { "start": "2026-03-01" } })).await;
        let made = sent(&practice, &build::referral_of(&somebody())).await;
        assert_eq!(task_of(&app, &made).await["location"]["reference"], "Location/south");
    }

    async fn the_locality_is_that_of_the_registered_practice_else_of_the_sender_else_none(app: TestApp) {
        let (first, fourth) = (app.practice("TESTA1").await, app.practice("TESTA4").await);
        let registered = sent(&first, &build::referral_with(build::person(build::BERT))).await;
        assert_eq!(task_of(&app, &registered).await["location"]["reference"], "Location/central");
        let in_small_letters = build::patient("9990000093", "Smalls", "1960-01-01");
        let at = format!(" {} ", build::BERT.4.to_lowercase());
        let in_small_letters = build::registered_at(in_small_letters, &at);
        let registered = sent(&first, &build::referral_with(in_small_letters)).await;
        assert_eq!(task_of(&app, &registered).await["location"]["reference"], "Location/central");
        let unknown = sent(&first, &build::referral_of(build::CLEO.0)).await;
        assert_eq!(task_of(&app, &unknown).await["location"]["reference"], "Location/north");
        let nowhere = sent(&fourth, &build::referral_with(build::person(build::DAN))).await;
        assert!(task_of(&app, &nowhere).await.get("location").is_none());
        // Nobody's locality is everybody's work.
        for coach in ["coach-north", "coach-south"] {
            let seen = app.staff(coach).await.get(format!("Task?focus=ServiceRequest/{nowhere}")).await.expect(200);
            assert_eq!(seen.resources().len(), 1, "{coach}");
        }
    }

    async fn what_was_sent_reads_back_as_it_was_to_the_last_digit(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let text = r##"{
            "resourceType": "ServiceRequest",
            "meta": { "profile": ["https://fhir.hl7.org.uk/StructureDefinition/UKCore-ServiceRequest"] },
            "implicitRules": "https://practice.example/rules",
            "language": "en-GB",
            "contained": [
                { "resourceType": "Patient", "id": "p", "identifier": [{ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018" }] },
                { "resourceType": "Observation", "id": "o", "status": "final", "code": { "text": "Weight" },
                  "valueQuantity": { "value": 70.10, "unit": "kg" } }
            ],
            "extension": [{ "url": "https://practice.example/unknown", "valueDecimal": 1.500 }],
            "identifier": [{ "system": "https://practice.example/Id/referral", "value": "r-1" }],
            "status": "active",
            "_status": { "extension": [{ "url": "https://practice.example/why", "valueString": "signed" }] },
            "intent": "order",
            "code": { "text": "Health coaching" },
            "quantityQuantity": { "value": 100.00000000000000000001, "comparator": "<" },
            "subject": { "reference": "#p", "display": "  Ada " },
            "_authoredOn": { "extension": [{ "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown" }] },
            "supportingInfo": [{ "reference": "#o" }, { "reference": "https://elsewhere.example/fhir/Condition/1" }],
            "reasonCode": [{ "text": "Caf\u00e9 \ud83d\ude42 \u201cquoted\u201d" }],
            "note": [{ "text": "One\nTwo\ttabbed" }]
        }"##;
        let mut expected: Value = serde_json::from_str(text).unwrap();
        expected.as_object_mut().unwrap().remove("meta");
        let made = practice.send(reqwest::Method::POST, "ServiceRequest").text("application/fhir+json", text).await.expect(201);
        assert_eq!(as_sent(made.body.clone()), expected);
        let read = practice.get(format!("ServiceRequest/{}", made.id())).await.expect(200);
        assert_eq!(as_sent(read.body.clone()), expected);
        assert_eq!(read.body["meta"]["profile"][0], "https://fhir.hl7.org.uk/StructureDefinition/UKCore-ServiceRequest");
        for digits in ["70.10", "1.500", "100.00000000000000000001"] {
            assert!(read.text.contains(digits), "{digits}");
        }
    }

    async fn xml_goes_in_and_comes_out_as_the_same_referral(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ServiceRequest xmlns="http://hl7.org/fhir">
              <identifier><system value="https://practice.example/Id/referral"/><value value="x-1"/></identifier>
              <status value="active"/><intent value="order"/>
              <quantityQuantity><value value="2.50"/></quantityQuantity>
              <subject><identifier><system value="https://fhir.nhs.uk/Id/nhs-number"/><value value="9990000018"/></identifier></subject>
              <reasonCode><text value="Tea &amp; company"/></reasonCode>
            </ServiceRequest>"#;
        let ask = practice.send(reqwest::Method::POST, "ServiceRequest").text("application/fhir+xml", xml);
        let made = ask.header("Accept", "application/fhir+xml").await.expect(201);
        assert!(made.header("content-type").starts_with("application/fhir+xml"), "{:?}", made.headers);
        assert!(made.text.contains(r#"<text value="Tea &amp; company"/>"#), "{}", made.text);
        let id = made.header("location").split('/').rev().nth(2).unwrap().to_owned();
        let json = practice.get(format!("ServiceRequest/{id}")).await.expect(200);
        assert_eq!(json.body["reasonCode"][0]["text"], "Tea & company");
        assert!(json.text.contains("2.50"));
        let again = practice.get(format!("ServiceRequest/{id}?_format=xml")).await.expect(200);
        assert!(again.text.contains(r#"<value value="2.50"/>"#), "{}", again.text);
        // The same in JSON is the same sending.
        let same = as_sent(json.body);
        assert_eq!(practice.post("ServiceRequest", &same).await.expect(200).id(), id);
    }

    async fn the_answer_carries_as_much_as_is_preferred(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let ask = |prefer: &str| practice.post("ServiceRequest", &build::referral()).header("Prefer", prefer);
        let minimal = ask("return=minimal").await.expect(201);
        assert_eq!(minimal.text, "");
        assert_eq!(minimal.header("etag"), "W/\"1\"");
        practice.get(format!("ServiceRequest/{}", minimal.id())).await.expect(200);
        assert_eq!(ask("return=representation").await.expect(201).body["resourceType"], "ServiceRequest");
        assert_eq!(ask("return=OperationOutcome").await.expect(201).body["resourceType"], "OperationOutcome");
    }

    async fn what_is_not_a_referral_to_us_is_kept_as_context_without_a_task(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let ours = sent(&practice, &build::referral()).await;
        let but = |change: fn(&mut Value)| {
            let mut request = build::referral();
            change(&mut request);
            request
        };
        let mut based = build::referral();
        based["basedOn"] = json!([{ "reference": format!("ServiceRequest/{ours}") }]);
        for context in [
            but(|r| r["status"] = json!("draft")),
            but(|r| r["status"] = json!("completed")),
            but(|r| r["status"] = json!("revoked")),
            but(|r| r["performer"] = json!([build::organization("TESTA2")])),
            based,
        ] {
            let made = practice.post("ServiceRequest", &context).await.expect(201);
            assert_eq!(as_sent(made.body.clone()), context);
            assert!(!made.text.contains(REFERRAL_REFERENCE), "{}", made.text);
            assert!(tasks_of(&app, &made.id()).await.is_empty());
            practice.get(format!("ServiceRequest/{}", made.id())).await.expect(200);
        }
        assert_eq!((app.count("referral").await, app.count("task").await), (1, 1));
        let to_us = but(|r| r["performer"] = json!([build::organization("TESTLW")]));
        reference_of(&practice.post("ServiceRequest", &to_us).await.expect(201).body);
    }

    async fn what_is_based_on_a_referral_is_context_only_to_who_may_see_the_referral(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let first = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let plan = task_of(&app, &first.id()).await["basedOn"][0].clone();
        let literal = |id: &str| json!({ "reference": format!("ServiceRequest/{id}") });
        let read_out = |value: &str| {
            json!({ "type": "ServiceRequest", "identifier": { "system": REFERRAL_REFERENCE, "value": value } })
        };
        let named = [literal(&first.id()), read_out(&reference_of(&first.body)), plan];
        let unknown = [literal("not-here"), read_out("LW-0000-0000"), json!({ "reference": "CarePlan/not-here" })];
        let based_on = |base: &Value| {
            let mut request = build::referral();
            request["basedOn"] = json!([base]);
            request
        };
        for base in &named {
            let made = practice.post("ServiceRequest", &based_on(base)).await.expect(201);
            assert_eq!(tasks_of(&app, &made.id()).await.len(), 0, "{base}");
            assert_eq!(made.body["basedOn"][0], *base);
        }
        for base in &unknown {
            sent(&practice, &based_on(base)).await;
        }
        // A practice that sees nothing of the person cannot tell the one from the other.
        let elsewhere = app.practice("TESTA3").await;
        elsewhere.get(format!("ServiceRequest/{}", first.id())).await.expect(404);
        for base in named.iter().chain(&unknown) {
            let mut request = based_on(base);
            request["subject"] = build::by_number(build::CLEO.0);
            let made = elsewhere.post("ServiceRequest", &request).await.expect(201);
            reference_of(&made.body);
            assert_eq!(tasks_of(&app, &made.id()).await.len(), 1, "{base}");
            assert_eq!(flags(&made.body).contains(&"dangling-reference"), base["reference"].is_string(), "{base}");
        }
    }

    async fn another_requester_than_the_sender_is_kept_and_flagged(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut own = build::referral();
        own["requester"] = build::organization("TESTA1");
        let own = practice.post("ServiceRequest", &own).await.expect(201);
        assert!(!flags(&own.body).contains(&"other-requester"));
        let mut other = build::referral();
        other["requester"] = build::organization("TESTA2");
        let made = practice.post("ServiceRequest", &other).await.expect(201);
        assert_eq!(made.body["requester"], other["requester"]);
        assert!(flags(&made.body).contains(&"other-requester"), "{}", made.body["meta"]);
        assert!(notes(&task_of(&app, &made.id()).await).contains("another organisation"));
        let sender = app.rows(&format!("select sender from referral where id = '{}'", made.id())).await;
        assert_eq!(sender, [[json!("TESTA1")]]);
    }

    async fn how_the_person_came_stands_on_the_task(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for route in ["ltc-review", "register-invitation", "self", "carer", "community", "hospital-discharge"] {
            let mut referral = build::referral();
            referral["category"] = json!([{ "coding": [{ "system": ENTRY_ROUTE, "code": route }] }]);
            let id = sent(&practice, &referral).await;
            assert!(notes(&task_of(&app, &id).await).contains(&route.replace('-', " ")), "{route}");
        }
        let mut unsaid = build::referral();
        unsaid.as_object_mut().unwrap().remove("category");
        let id = sent(&practice, &unsaid).await;
        assert!(notes(&task_of(&app, &id).await).contains("Came by: other."));
    }

    async fn nobody_is_turned_away_and_the_task_says_what_to_check(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let child = build::registered_at(build::patient("9990000050", "Youngtest", "2015-01-01"), "TESTA1");
        let elsewhere = build::registered_at(build::patient("9990000069", "Fartest", "1950-01-01"), "TESTZ9");
        let mut silent = build::referral_with(build::person(build::ADA));
        silent.as_object_mut().unwrap().remove("reasonCode");
        for (referral, flag, note) in [
            (build::referral_with(child), "not-eligible-age", "under 18"),
            (build::referral_with(elsewhere), "practice-not-in-area", "live in the area"),
            (build::referral_of("9990000077"), "no-practice", "practice is not known"),
            (build::referral_of("9990000085"), "birth-date-unknown", "birth date is not known"),
            (silent, "no-reason-stated", "No condition or reason"),
        ] {
            let made = practice.post("ServiceRequest", &referral).await.expect(201);
            assert!(flags(&made.body).contains(&flag), "{flag}: {}", made.body["meta"]);
            let task = task_of(&app, &made.id()).await;
            assert!(notes(&task).contains(note), "{flag}: {}", notes(&task));
        }
        let plain = practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        assert!(flags(&plain.body).is_empty(), "{}", plain.body["meta"]);
    }

    async fn referrals_of_one_person_share_the_open_spell_and_each_has_its_own_task(app: TestApp) {
        let first = sent(&app.practice("TESTA1").await, &build::referral()).await;
        let second = sent(&app.practice("TESTA2").await, &build::referral()).await;
        let other = sent(&app.practice("TESTA2").await, &build::referral_of(build::BERT.0)).await;
        let spell = app.system().await.get(format!("EpisodeOfCare?patient={}", person_of(&app, &first).await)).await;
        let spells = spell.expect(200).resources();
        assert_eq!(spells.len(), 1);
        let requests: Vec<&str> =
            spells[0]["referralRequest"].as_array().unwrap().iter().filter_map(|r| r["reference"].as_str()).collect();
        assert_eq!(requests, [format!("ServiceRequest/{first}"), format!("ServiceRequest/{second}")]);
        assert_eq!((spells[0]["status"].clone(), app.count("episode").await), (json!("active"), 2));
        let tasks = [task_of(&app, &first).await, task_of(&app, &second).await, task_of(&app, &other).await];
        assert_ne!(tasks[0]["id"], tasks[1]["id"]);
        assert_ne!(tasks[0]["basedOn"], tasks[1]["basedOn"]);
    }

    async fn what_became_of_a_request_that_is_no_referral_is_answered_with_what_it_is(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut draft = build::referral();
        draft["status"] = json!("draft");
        let draft = sent(&practice, &draft).await;
        let refused = practice.get(format!("ServiceRequest/{draft}/$status")).await.expect(422);
        assert_eq!((refused.issue(), refused.expression()), ("business-rule", "ServiceRequest"));
        assert!(refused.text.contains("no referral"), "{}", refused.text);
    }

    async fn a_transaction_is_answered_with_the_reference_of_each_referral(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut draft = build::referral();
        draft["status"] = json!("draft");
        let all = [build::referral(), build::person(build::ADA), draft, build::referral()];
        let bundle = build::transaction(all.map(|one| (build::urn(), one)));
        let first = practice.post("", &bundle).await.expect(200);
        let entries = first.body["entry"].as_array().unwrap();
        for (at, made) in first.made().into_iter().enumerate() {
            let outcome = &entries[at]["response"]["outcome"];
            if at == 1 || at == 2 {
                assert_eq!(outcome, &Value::Null, "{made} is no referral");
                continue;
            }
            let reference = reference_of(&practice.get(made).await.expect(200).body);
            assert_eq!(outcome["issue"].as_array().unwrap().len(), 1);
            let issue = &outcome["issue"][0];
            assert_eq!((&issue["severity"], &issue["code"]), (&json!("information"), &json!("informational")));
            assert_eq!(issue["diagnostics"], format!("The referral's reference is {reference}."));
        }
        assert_eq!(practice.post("", &bundle).await.expect(200).body, first.body, "a resend is told the same");
        // With whatever else is preferred, and in XML.
        let bundle = || build::transaction([(build::urn(), build::referral())]);
        for prefer in ["return=representation", "return=OperationOutcome", "return=minimal"] {
            let said = practice.post("", &bundle()).header("Prefer", prefer).await.expect(200).text;
            assert!(said.contains("The referral's reference is LW-"), "{prefer}: {said}");
        }
        let xml = practice.post("", &bundle()).header("Accept", "application/fhir+xml").await.expect(200).text;
        assert!(xml.contains("reference is LW-"), "{xml}");
    }
}
