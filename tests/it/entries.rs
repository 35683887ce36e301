//! What is written into a practice's record, event by event, with and without agreement to share detail.

use livewell::fhir::systems::{ODS, RECORD, REFERRAL_REFERENCE, TASK_OUTCOME};
use livewell::fhir::{path, when};
use livewell::pathway::write_back::Share;
use serde_json::{Value, json};

use crate::journey::{
    Journey, activation, claim, complete, encounter, goal, known, now, open_tasks, read, record, sharing, work,
};
use crate::support::app::run_with;
use crate::support::build::concept;
use crate::support::{Database, TestApp, on_each_database};

/// What nobody may read where the person does not agree.
const WORDS: &str = "PRIVATE-WORDS";

/// Something that staff record, by the name of the event.
fn events(app: &TestApp, journey: &Journey) -> Vec<(&'static str, Value)> {
    let subject = json!({ "reference": journey.person });
    let met = |kind: &str, status: &str| {
        let mut met = encounter(app, journey);
        met["type"] = json!([concept(kind)]);
        met["status"] = json!(status);
        met["reasonCode"] = json!([{ "text": WORDS }]);
        met
    };
    let mut aim = goal(journey);
    aim["description"] = json!({ "coding": [{ "system": "https://livewell.example/CodeSystem/five-ways", "code": "connect" }], "text": WORDS });
    let mut score = activation(app, journey, "56.40", Some(3));
    score["note"] = json!([{ "text": WORDS }]);
    let plan = json!({
        "resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": subject, "title": WORDS,
        "period": { "start": now(app) }, "activity": [{ "detail": { "status": "scheduled", "description": "PARTICULARS" } }],
    });
    let onward = json!({
        "resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": subject,
        "basedOn": [{ "reference": journey.referral }], "code": concept("social-prescribing-referral"),
        "authoredOn": now(app), "note": [{ "text": WORDS }],
        "performer": [{ "type": "Organization", "display": "Men's shed" }],
    });
    let signpost = json!({
        "resourceType": "Communication", "status": "completed", "subject": subject,
        "basedOn": [{ "reference": journey.referral }], "topic": concept("activity-signposting"), "sent": now(app),
        "payload": [{ "contentString": WORDS }],
    });
    vec![
        ("contact made", met("telephone-encounter", "finished")),
        ("contact failed", met("failed-encounter-no-answer", "cancelled")),
        ("declined", met("social-prescribing-declined", "finished")),
        ("did not attend", met("did-not-attend", "cancelled")),
        ("first meeting", met("activity-first-meeting", "finished")),
        ("session", met("activity-health-coaching", "finished")),
        ("measure", score),
        ("goal", aim),
        ("plan", plan),
        ("consent", sharing(app, journey, "permit")),
        ("onward referral", onward),
        ("signpost", signpost),
        ("review", met("activity-service-review", "finished")),
    ]
}

/// The one resource at the practice that is our `Type/id`.
fn there(app: &TestApp, reference: &str) -> Option<Value> {
    let (kind, id) = reference.split_once('/').unwrap();
    let mut found = app
        .stand_in
        .resources("TESTA1", kind)
        .into_iter()
        .filter(|r| path::all(r, "identifier").into_iter().any(|i| i["system"] == RECORD && i["value"] == id));
    let one = found.next();
    assert!(found.next().is_none(), "{reference} is there twice");
    one
}

/// Who says so, for whom, and when, of an entry at the practice.
fn provenance_of(app: &TestApp, entry: &Value) -> Value {
    let reference = format!("{}/{}", entry["resourceType"].as_str().unwrap(), entry["id"].as_str().unwrap());
    let all = app.stand_in.resources("TESTA1", "Provenance").into_iter();
    let mut ours = all.filter(|p| path::all(p, "target.reference").into_iter().any(|t| *t == json!(reference)));
    ours.next().unwrap_or_else(|| panic!("nobody says who recorded {reference}"))
}

on_each_database! {
    async fn each_event_is_written_with_who_and_when_and_with_no_words_where_the_person_does_not_agree(app: TestApp) {
        for agrees in [true, false] {
            let journey = known(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            if !agrees {
                record(&coach, &sharing(&app, &journey, "deny")).await;
            }
            for (event, resource) in events(&app, &journey) {
                if event == "consent" && !agrees {
                    continue;
                }
                let kept = record(&coach, &resource).await;
                app.settled().await;
                let entry = match (there(&app, &kept), event, agrees) {
                    (Some(entry), ..) => entry,
                    (None, ..) => panic!("{event} did not arrive (agrees: {agrees})"),
                };
                let text = entry.to_string();
                let words = agrees && !matches!(event, "consent");
                assert_eq!(text.contains(WORDS), words, "{event} (agrees: {agrees}): {text}");
                assert_eq!(entry.get("text").is_some(), agrees, "{event}: a narrative goes with agreement");
                assert!(!text.contains("PARTICULARS"), "a plan goes in summary");
                assert!(!text.contains(&journey.person) && !text.contains(&journey.nhs_number), "{event}: {text}");
                let said = provenance_of(&app, &entry);
                assert_eq!(said["agent"][0]["who"]["identifier"]["value"], "coach-north", "{event}");
                assert_eq!(said["agent"][0]["onBehalfOf"]["identifier"], json!({ "system": ODS, "value": "TESTLW" }));
                assert_eq!(path::text(&said, "recorded").and_then(when::start_of), Some(app.clock.now()), "{event}");
                if entry["resourceType"] == "Encounter" {
                    let roles = path::all(&entry, "participant.type.coding.code");
                    assert!(roles.contains(&&json!("R9807")), "{event}: {roles:?}");
                    assert!(entry["class"]["code"] == "VR" && entry["period"]["start"].is_string(), "{event}");
                    assert_eq!(entry["basedOn"][0]["identifier"]["system"], REFERRAL_REFERENCE);
                }
                // A correction reaches the practice too, as a version of the same entry.
                let mut wrong = read(&coach, &kept).await;
                let status = if entry["resourceType"] == "Goal" { "lifecycleStatus" } else { "status" };
                wrong[status] = json!("entered-in-error");
                coach.put(format!("/fhir/{kept}"), &wrong).await.expect(200);
                app.settled().await;
                let corrected = there(&app, &kept).unwrap();
                assert_eq!(corrected[status], "entered-in-error", "{event}");
                assert_eq!(corrected["id"], entry["id"], "{event}");
            }
        }
    }

    async fn the_practice_sees_how_the_support_ended(app: TestApp) {
        for (agrees, outcome, term) in [(true, "declined", "Declined"), (false, "declined", "Declined")] {
            let journey = known(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            if !agrees {
                record(&coach, &sharing(&app, &journey, "deny")).await;
            }
            work(&app, &coach, &journey, &journey.task, outcome).await;
            app.settled().await;
            let patient = app.stand_in.resources("TESTA1", "Patient").into_iter()
                .find(|p| p.to_string().contains(&journey.nhs_number)).unwrap();
            let subject = json!(format!("Patient/{}", patient["id"].as_str().unwrap()));
            let mut told = app.stand_in.resources("TESTA1", "Communication");
            told.retain(|c| c["subject"]["reference"] == subject);
            assert_eq!(told.len(), 1);
            let coding = json!({ "system": TASK_OUTCOME, "code": outcome, "display": term });
            assert_eq!(told[0]["reasonCode"][0]["coding"][0], coding);
            assert_eq!(path::text(&told[0], "topic.coding.code"), Some("service-closed"));
            assert_eq!(told[0]["basedOn"][0]["identifier"]["system"], REFERRAL_REFERENCE);
            assert_eq!(told[0].get("text").is_some(), agrees);
        }
    }

    async fn an_onward_referral_is_no_referral_to_us(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let tasks = app.count("task").await;
        let onward = events(&app, &journey).into_iter().find(|(event, _)| *event == "onward referral").unwrap().1;
        let kept = record(&coach, &onward).await;
        assert_eq!(app.count("task").await, tasks);
        assert_eq!(app.count("referral").await, 1);
        let practice = app.practice("TESTA1").await;
        assert_eq!(read(&practice, &kept).await["basedOn"][0]["reference"], journey.referral);
        let task = open_tasks(&app, &journey, "contact-patient").await.remove(0);
        claim(&coach, &task).await;
        record(&coach, &encounter(&app, &journey)).await;
        complete(&coach, &task, "declined").await.expect(200);
        assert_eq!(read(&practice, &kept).await["status"], "active", "it is another's, and goes on");
    }
}

fn with_preferences(database: Database) {
    run_with(
        database,
        |config| {
            let practice = config.delivery.practice.entry("TESTA1".to_owned()).or_default();
            practice.entries.goals = Share::None;
            practice.entries.attempts = Share::None;
            practice.entries.plan = Share::Full;
            practice.entries.measures = Share::Summary;
        },
        |app| async move {
            let journey = known(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            for (event, resource) in events(&app, &journey) {
                let kept = record(&coach, &resource).await;
                app.settled().await;
                let entry = there(&app, &kept);
                match event {
                    "goal" | "did not attend" | "contact failed" => assert!(entry.is_none(), "{event}"),
                    "plan" => assert!(entry.unwrap().to_string().contains("PARTICULARS")),
                    "measure" => {
                        let entry = entry.unwrap();
                        assert_eq!(entry["valueQuantity"]["value"].to_string(), "56.40");
                        assert!(entry.get("note").is_none() && entry["component"][0]["valueInteger"] == 3);
                    }
                    _ => assert!(entry.is_some(), "{event}"),
                }
            }
            let states = app.rows("select distinct state, why from delivery order by state").await;
            let expected = [vec![json!("cancelled"), json!("nothing-to-send")], vec![json!("delivered"), json!("")]];
            assert_eq!(states, expected);
        },
    );
}

#[test]
fn a_practice_gets_the_kinds_of_entry_it_wants_sqlite() {
    with_preferences(Database::Sqlite);
}

#[test]
fn a_practice_gets_the_kinds_of_entry_it_wants_postgres() {
    with_preferences(Database::Postgres);
}
