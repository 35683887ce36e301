//! Who is who: one Patient of ours per person, beside what each sender says of them.

use livewell::fhir::systems::{NHS_NUMBER, REFERRAL_FLAG};
use serde_json::{Value, json};

use crate::referral::tasks_of;
use crate::support::{TestApp, build, on_each_database};

/// Our Patient of a referral.
async fn ours(app: &TestApp, referral: &str) -> Value {
    let person = app.rows(&format!("select person from referral where id = '{referral}'")).await;
    let path = format!("Patient/{}", person[0][0].as_str().unwrap());
    app.system().await.get(path).await.expect(200).body
}

fn is_flagged(resource: &Value, code: &str) -> bool {
    let tags = resource["meta"]["tag"].as_array().into_iter().flatten();
    tags.into_iter().any(|tag| tag["system"] == REFERRAL_FLAG && tag["code"] == code)
}

/// The open Tasks with this code.
async fn open(app: &TestApp, code: &str) -> i64 {
    app.count(&format!("task where code = '{code}' and open")).await
}

/// Records a telephone contact on a referral, as a member of staff.
async fn record(app: &TestApp, staff: &str, referral: &str) {
    let patient = ours(app, referral).await;
    let patient = format!("Patient/{}", patient["id"].as_str().unwrap());
    let encounter = build::encounter(&format!("ServiceRequest/{referral}"), &patient);
    app.staff(staff).await.post("Encounter", &encounter).await.expect(201);
}

/// Ada, as someone says who has another birth date for her NHS number.
fn other_ada() -> Value {
    build::registered_at(build::patient(build::ADA.0, "Elsewise", "1990-12-24"), "TESTA1")
}

on_each_database! {
    async fn a_person_is_one_patient_of_ours_whoever_sends_them(app: TestApp) {
        let mut people = Vec::new();
        for (practice, referral) in [
            ("TESTA1", build::referral()),
            ("TESTA2", build::referral_with(build::person(build::ADA))),
            ("TESTA3", build::referral_of("999 000 0018")),
        ] {
            let made = app.practice(practice).await.post("ServiceRequest", &referral).await.expect(201);
            people.push(ours(&app, &made.id()).await["id"].clone());
        }
        assert_eq!((&people[0], app.count("person").await), (&people[1], 1));
        assert_eq!(people[0], people[2]);
        // What the first did not say, the second did; but which practice is theirs is not a second sender's to say.
        let known = app.rows("select birth_date, family, practice, locality from person").await;
        assert_eq!(known, [[json!(build::ADA.3), json!(build::ADA.1), json!(""), json!("")]]);
        assert_eq!(app.count("task where code = 'find-practice' and open").await, 1);
    }

    async fn nobody_is_the_registered_practice_by_a_patient_alone(app: TestApp) {
        let (theirs, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        let said = build::registered_at(build::patient(build::ADA.0, build::ADA.1, build::ADA.3), "TESTA2");
        other.post("Patient", &said).await.expect(201);
        let mut history = build::referral_with(said);
        history["status"] = json!("completed");
        other.post("ServiceRequest", &history).await.expect(201);
        let made = theirs.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        assert!(!is_flagged(&made.body, "practice-in-doubt"), "{}", made.text);
        assert_eq!(ours(&app, &made.id()).await["generalPractitioner"][0]["identifier"]["value"], "TESTA1");
        other.get(format!("ServiceRequest/{}", made.id())).await.expect(404);
        // Once they are referred by it, what the Patient says counts.
        let patient = other.post("Patient", &build::person(build::BERT)).await.expect(201);
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": format!("Patient/{}", patient.id()) });
        let made = other.post("ServiceRequest", &referral).await.expect(201);
        assert_eq!(ours(&app, &made.id()).await["generalPractitioner"][0]["identifier"]["value"], "TESTA2");
    }

    async fn referrals_of_one_person_at_the_same_moment_make_one_person(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let practice = practice.clone();
                tokio::spawn(async move { practice.post("ServiceRequest", &build::referral()).await.status })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), 201);
        }
        assert_eq!((app.count("person").await, app.count("episode").await, app.count("referral").await), (1, 1, 8));
    }

    async fn the_same_number_with_another_birth_date_is_not_merged_but_settled_by_a_person(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let first = practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let before = ours(&app, &first.id()).await;
        let made = practice.post("ServiceRequest", &build::referral_with(other_ada())).await.expect(201);
        let other = ours(&app, &made.id()).await;
        assert_ne!(other["id"], before["id"]);
        assert!(other.get("identifier").is_none(), "the number is the other's: {other}");
        assert_eq!(ours(&app, &first.id()).await, before);
        assert!(is_flagged(&made.body, "identity-conflict"));
        let codes: Vec<Value> =
            tasks_of(&app, &made.id()).await.iter().map(|task| task["code"]["coding"][0]["code"].clone()).collect();
        assert_eq!(codes.len(), 2, "{codes:?}");
        assert!(codes.contains(&json!("contact-patient")) && codes.contains(&json!("resolve-identity")));
        let asked = app.rows("select role, priority, locality from task where code = 'resolve-identity'").await;
        assert_eq!((asked.len(), &asked[0][0]), (1, &json!("co-ordinator")));
    }

    async fn a_disputed_person_in_a_bundle_is_flagged_on_the_referral_and_asked_about_once(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let urn = build::urn();
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": urn });
        let bundle = build::transaction([(build::urn(), referral), (urn, other_ada())]);
        let made = practice.post("", &bundle).await.expect(200).made();
        let sent = practice.get(made[0].as_str()).await.expect(200).body;
        assert!(is_flagged(&sent, "identity-conflict"), "{}", sent["meta"]);
        assert_eq!(app.count("person").await, 2);
        assert_eq!(open(&app, "resolve-identity").await, 1);
        assert_eq!(open(&app, "contact-patient").await, 2);
    }

    async fn without_a_number_the_work_begins_and_the_write_back_waits_until_staff_know_who_it_is(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut someone = build::patient(build::ADA.0, build::ADA.1, build::ADA.3);
        someone.as_object_mut().unwrap().remove("identifier");
        let made = practice.post("ServiceRequest", &build::referral_with(someone)).await.expect(201);
        assert!(is_flagged(&made.body, "no-nhs-number"), "{}", made.body["meta"]);
        let tasks = tasks_of(&app, &made.id()).await;
        assert_eq!((tasks.len(), tasks[0]["code"]["coding"][0]["code"].clone()), (1, json!("contact-patient")));
        record(&app, "coach-north", &made.id()).await;
        app.settled().await;
        assert!(app.stand_in.resources("TESTA1", "Encounter").is_empty());
        assert_eq!(app.rows("select why from delivery where settled_at is null").await, [[json!("no-identity")]]);

        let mut person = ours(&app, &made.id()).await;
        person["identifier"] = json!([{ "system": NHS_NUMBER, "value": build::ADA.0 }]);
        let path = format!("Patient/{}", person["id"].as_str().unwrap());
        practice.put(path.as_str(), &person).await.expect(404);
        let version = person["meta"]["versionId"].as_str().unwrap().to_owned();
        app.staff("coach-north").await.put(path.as_str(), &person).if_match(version).await.expect(200);
        app.settled().await;
        assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 1);
        assert_eq!(app.count("delivery where settled_at is null").await, 0);
        let known = app.rows("select nhs_number from person").await;
        assert_eq!(known, [[json!(build::ADA.0)]]);
        // From now on the number means this person.
        let next = app.practice("TESTA2").await.post("ServiceRequest", &build::referral()).await.expect(201);
        assert_eq!(ours(&app, &next.id()).await["id"], person["id"]);
    }

    async fn staff_cannot_give_one_number_to_two_people(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let made = practice.post("ServiceRequest", &build::referral_with(other_ada())).await.expect(201);
        let mut person = ours(&app, &made.id()).await;
        person["identifier"] = json!([{ "system": NHS_NUMBER, "value": build::ADA.0 }]);
        let path = format!("Patient/{}", person["id"].as_str().unwrap());
        let refused = app.staff("coach-north").await.put(path.as_str(), &person).await.expect(409);
        assert!(!refused.text.contains(build::ADA.0), "{}", refused.text);
        assert_eq!(app.count("person where nhs_number is not null").await, 1);
    }

    async fn what_a_sender_calls_patient_is_kept_beside_ours_and_never_overwrites_it(app: TestApp) {
        let (first, second) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        let made = first.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let before = ours(&app, &made.id()).await;
        let refer = json!({ "other": { "reference": format!("Patient/{}", before["id"].as_str().unwrap()) }, "type": "refer" });

        let mut theirs = build::patient(build::ADA.0, "Marriedname", build::ADA.3);
        theirs["telecom"] = json!([{ "system": "phone", "value": "01632 960001" }]);
        theirs["identifier"].as_array_mut().unwrap().push(json!({ "system": "https://practice.example/Id/local", "value": "77" }));
        let kept = second.post("Patient", &theirs).await.expect(201);
        assert_ne!(kept.body["id"], before["id"]);
        assert_eq!(kept.body["link"], json!([refer]));
        for element in ["name", "telecom", "identifier", "birthDate"] {
            assert_eq!(kept.body[element], theirs[element]);
        }
        assert_eq!(ours(&app, &made.id()).await, before);

        let mut changed = kept.body.clone();
        changed.as_object_mut().unwrap().remove("link");
        changed["name"][0]["family"] = json!("Othername");
        let path = format!("Patient/{}", kept.id());
        let put = second.put(path.as_str(), &changed).if_match(1).await.expect(200);
        assert_eq!((put.body["name"][0]["family"].clone(), put.body["link"].clone()), (json!("Othername"), json!([refer])));
        assert_eq!(ours(&app, &made.id()).await, before);
        // Nor does anyone write over what another sent.
        first.put(path.as_str(), &changed).if_match(2).await.expect(403);
        assert_eq!(app.count("person").await, 1);
    }

    async fn a_number_of_before_identifies_nobody(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let before = [
            json!({ "use": "old", "system": NHS_NUMBER, "value": build::BERT.0 }),
            json!({ "system": NHS_NUMBER, "value": build::BERT.0, "period": { "end": "2026-03-01" } }),
        ];
        for old in before {
            for at in [0, 1] {
                let mut ada = build::person(build::ADA);
                ada["identifier"].as_array_mut().unwrap().insert(at, old.clone());
                practice.post("ServiceRequest", &build::referral_with(ada)).await.expect(201);
            }
        }
        assert_eq!(app.rows("select nhs_number from person").await, [[json!(build::ADA.0)]]);
        assert_eq!(open(&app, "resolve-identity").await, 0);
        // One that says no other has none; one that is in use until tonight has it.
        let mut ada = build::person(build::ADA);
        ada["identifier"][0]["use"] = json!("old");
        let made = practice.post("ServiceRequest", &build::referral_with(ada.clone())).await.expect(201);
        assert!(is_flagged(&made.body, "no-nhs-number"), "{}", made.body["meta"]);
        ada["identifier"][0]["use"] = json!("official");
        ada["identifier"][0]["period"] = json!({ "end": "2026-03-02" });
        let made = practice.post("ServiceRequest", &build::referral_with(ada)).await.expect(201);
        assert!(!is_flagged(&made.body, "no-nhs-number"), "{}", made.body["meta"]);
        let mut referral = build::referral();
        referral["subject"]["identifier"]["use"] = json!("old");
        let refused = practice.post("ServiceRequest", &referral).await.expect(422);
        assert_eq!(refused.expression(), "ServiceRequest.subject.identifier");
    }

    async fn of_two_numbers_that_differ_neither_is_taken_and_a_person_settles_whose_they_are(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let other = json!({ "system": NHS_NUMBER, "value": build::BERT.0 });
        let mut both = build::person(build::ADA);
        both["identifier"].as_array_mut().unwrap().push(other.clone());
        let made = practice.post("ServiceRequest", &build::referral_with(both.clone())).await.expect(201);
        assert_eq!(app.rows("select nhs_number from person").await, [[Value::Null]]);
        assert!(is_flagged(&made.body, "identity-conflict"), "{}", made.body["meta"]);
        assert_eq!(open(&app, "resolve-identity").await, 1);
        let tasks = tasks_of(&app, &made.id()).await;
        let contact = tasks.iter().find(|task| task["code"]["coding"][0]["code"] == "contact-patient").unwrap();
        assert!(contact["note"].to_string().contains("Two NHS numbers"), "{}", contact["note"]);

        // In a Bundle it is doubted as well, and asked about once.
        let urn = build::urn();
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": urn });
        let bundle = build::transaction([(build::urn(), referral), (urn, both)]);
        let made = practice.post("", &bundle).await.expect(200).made();
        let sent = practice.get(made[0].as_str()).await.expect(200).body;
        assert!(is_flagged(&sent, "identity-conflict"), "{}", sent["meta"]);
        assert_eq!(open(&app, "resolve-identity").await, 2);

        // The same number twice is one.
        let mut same = build::person(build::ADA);
        same["identifier"].as_array_mut().unwrap().push(json!({ "system": NHS_NUMBER, "value": "999 000 0018" }));
        let made = practice.post("ServiceRequest", &build::referral_with(same)).await.expect(201);
        let mut ada = ours(&app, &made.id()).await;
        assert_eq!(ada["identifier"][0]["value"], build::ADA.0);

        // Nor does a new version of a Patient bring in a second number.
        ada["identifier"].as_array_mut().unwrap().push(other.clone());
        let path = format!("Patient/{}", ada["id"].as_str().unwrap());
        let refused = app.staff("coach-north").await.put(path.as_str(), &ada).await.expect(422);
        assert_eq!(refused.expression(), "Patient.identifier[1]");
        ada["identifier"][1]["use"] = json!("old");
        app.staff("coach-north").await.put(path.as_str(), &ada).await.expect(200);
        let mut theirs = practice.post("Patient", &build::person(build::ADA)).await.expect(201).body;
        theirs["identifier"].as_array_mut().unwrap().push(other);
        let path = format!("Patient/{}", theirs["id"].as_str().unwrap());
        practice.put(path.as_str(), &theirs).if_match(1).await.expect(409);
    }

    async fn a_senders_patient_that_comes_to_have_two_numbers_is_doubted_once(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut someone = build::patient(build::ADA.0, build::ADA.1, build::ADA.3);
        someone.as_object_mut().unwrap().remove("identifier");
        let kept = practice.post("Patient", &someone).await.expect(201);
        let number = |number: &str| json!({ "system": NHS_NUMBER, "value": number });
        let mut changed = kept.body.clone();
        changed["identifier"] = json!([number(build::ADA.0), number(build::BERT.0)]);
        let path = format!("Patient/{}", kept.id());
        let first = practice.put(path.as_str(), &changed).await.expect(200);
        assert!(is_flagged(&first.body, "identity-conflict"), "{}", first.body["meta"]);
        changed["gender"] = json!("female");
        let second = practice.put(path.as_str(), &changed).await.expect(200);
        assert!(is_flagged(&second.body, "identity-conflict"), "{}", second.body["meta"]);
        assert_eq!(open(&app, "resolve-identity").await, 1);
    }

    async fn a_number_in_dispute_is_not_said_to_be_missing(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let made = practice.post("ServiceRequest", &build::referral_with(other_ada())).await.expect(201);
        assert!(is_flagged(&made.body, "identity-conflict") && !is_flagged(&made.body, "no-nhs-number"));
        let tasks = tasks_of(&app, &made.id()).await;
        let contact = tasks.iter().find(|task| task["code"]["coding"][0]["code"] == "contact-patient").unwrap();
        let notes = contact["note"].to_string();
        assert!(notes.contains("another birth date") && !notes.contains("no NHS number"), "{notes}");
    }
}
