//! Many callers at the same moment: what one would have got alone, on both databases.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

/// What `count` callers are answered that ask at the same moment.
async fn at_once(count: usize, ask: impl Fn(usize) -> crate::support::caller::Ask) -> Vec<Answer> {
    let mut asked = JoinSet::new();
    for n in 0..count {
        asked.spawn(ask(n).into_future());
    }
    asked.join_all().await
}

fn statuses(answers: &[Answer]) -> BTreeSet<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// How often a status was answered.
fn answered(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// Practices, with a token already, so that what they ask at once is what the test is about.
async fn practice(app: &TestApp) -> Caller {
    let practice = app.practice("TESTA1").await;
    practice.token().await;
    practice
}

on_each_database! {
    async fn thirty_two_resends_of_a_referral_make_one(app: TestApp) {
        let practice = practice(&app).await;
        let referral = build::referral();
        let answers = at_once(32, |_| practice.post("ServiceRequest", &referral)).await;
        assert_eq!((answered(&answers, 201), answered(&answers, 200)), (1, 31), "{:?}", statuses(&answers));
        let ids: BTreeSet<String> = answers.iter().map(Answer::id).collect();
        assert_eq!(ids.len(), 1);
        for (table, rows) in [("referral", 1), ("task", 1), ("person", 1), ("episode", 1), ("referral_identifier", 1)] {
            assert_eq!(app.count(table).await, rows, "{table}");
        }
    }

    async fn thirty_two_resends_of_a_bundle_make_one_and_hear_the_same(app: TestApp) {
        let practice = practice(&app).await;
        let patient = build::urn();
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": patient });
        let bundle = build::transaction([(patient, build::person(build::ADA)), (build::urn(), referral)]);
        let answers = at_once(32, |_| practice.post("", &bundle)).await;
        assert_eq!(statuses(&answers), BTreeSet::from([200]));
        let made: BTreeSet<Vec<String>> = answers.iter().map(Answer::made).collect();
        assert_eq!(made.len(), 1, "every resend hears of the same resources");
        for (table, rows) in [("referral", 1), ("task", 1), ("person", 1), ("resource where kind = 'Patient'", 2)] {
            assert_eq!(app.count(table).await, rows, "{table}");
        }
    }

    async fn one_idempotency_key_does_a_thing_once(app: TestApp) {
        let practice = practice(&app).await;
        let mut referral = build::referral();
        referral.as_object_mut().unwrap().shift_remove("identifier");
        let answers = at_once(16, |_| practice.post("ServiceRequest", &referral).header("Idempotency-Key", "once")).await;
        assert!(statuses(&answers).is_subset(&BTreeSet::from([200, 201])), "{:?}", statuses(&answers));
        assert_eq!(answers.iter().map(Answer::id).collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(app.count("referral").await, 1);
    }

    async fn referrals_of_one_person_at_once_join_one_spell(app: TestApp) {
        let practice = practice(&app).await;
        let answers = at_once(12, |_| practice.post("ServiceRequest", &build::referral())).await;
        assert_eq!(statuses(&answers), BTreeSet::from([201]));
        assert_eq!((app.count("person").await, app.count("episode").await), (1, 1));
        let episode = app.rows("select body from resource where kind = 'EpisodeOfCare'").await;
        let episode: Value = serde_json::from_str(episode[0][0].as_str().unwrap()).unwrap();
        assert_eq!(episode["referralRequest"].as_array().unwrap().len(), 12, "none was lost");
    }

    async fn if_none_exist_makes_one_of_many(app: TestApp) {
        let practice = practice(&app).await;
        let mut patient = build::person(build::ADA);
        let own = json!({ "system": "https://practice.example/Id/patient", "value": "17" });
        patient["identifier"].as_array_mut().unwrap().push(own);
        // Some say the system and some do not: all mean the same Patient.
        let criteria = ["identifier=https://practice.example/Id/patient|17", "identifier=17"];
        let answers =
            at_once(16, |n| practice.post("Patient", &patient).header("If-None-Exist", criteria[n % 2])).await;
        assert_eq!((answered(&answers, 201), answered(&answers, 200)), (1, 15), "{:?}", statuses(&answers));
        assert_eq!(app.count("resource where kind = 'Patient' and sender = 'TESTA1'").await, 1);
    }

    async fn of_many_changes_to_one_version_one_is_made(app: TestApp) {
        let practice = practice(&app).await;
        let mut referral = practice.post("ServiceRequest", &build::referral()).await.expect(201).body;
        referral["note"] = json!([{ "text": "Best in the mornings." }]);
        let path = format!("ServiceRequest/{}", referral["id"].as_str().unwrap());
        let answers = at_once(12, |_| practice.put(path.clone(), &referral).if_match(1)).await;
        assert_eq!((answered(&answers, 200), answered(&answers, 412)), (1, 11), "{:?}", statuses(&answers));
        assert_eq!(practice.get(path).await.expect(200).version(), 2);
    }

    async fn a_task_is_claimed_once(app: TestApp) {
        let practice = practice(&app).await;
        for _ in 0..10 {
            practice.post("ServiceRequest", &build::referral()).await.expect(201);
        }
        let role = app.rows("select distinct role from task").await;
        let wanted = build::parameters(&[("role", "valueCode", role[0][0].clone())]);
        let coach = app.staff("coach-north").await;
        coach.token().await;
        let answers = at_once(24, |_| coach.post("Task/$claim-next", &wanted)).await;
        let taken: Vec<String> = answers.iter().filter(|a| a.status == 200).map(Answer::id).collect();
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len(), "none is handed out twice");
        assert_eq!((taken.len(), answered(&answers, 204)), (10, 14), "{:?}", statuses(&answers));

        let task = app.rows("select id, version from task order by id limit 1").await;
        let (id, version) = (task[0][0].as_str().unwrap().to_owned(), task[0][1].as_i64().unwrap());
        let answers = at_once(8, |_| coach.send(Method::POST, format!("Task/{id}/$release")).if_match(version)).await;
        assert_eq!(answered(&answers, 200), 1, "{:?}", statuses(&answers));
    }

    async fn what_is_recorded_at_once_reaches_the_practice_in_one_order(app: TestApp) {
        let practice = practice(&app).await;
        let made = practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let person = app.rows("select id from person").await[0][0].as_str().unwrap().to_owned();
        let coach = app.staff("coach-north").await;
        coach.token().await;
        let encounter = build::encounter(&format!("ServiceRequest/{}", made.id()), &format!("Patient/{person}"));
        let answers = at_once(8, |_| coach.post("Encounter", &encounter)).await;
        assert_eq!(statuses(&answers), BTreeSet::from([201]));
        let places = app.rows("select place from delivery order by place").await;
        assert_eq!(places.iter().map(|row| row[0].as_i64().unwrap()).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        app.settled().await;
        assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 8);
    }

    /// The zero character is one that PostgreSQL cannot hold.
    async fn a_zero_character_is_refused_and_not_stumbled_over(app: TestApp) {
        let practice = practice(&app).await;
        for path in ["Patient?identifier=%00", "Patient?family=a%00b", "Task?_id=%00", "ServiceRequest/%00"] {
            let answer = practice.get(path).await;
            assert!(matches!(answer.status, 200 | 400 | 404), "{path}: {} {}", answer.status, answer.text);
        }
        let mut referral = build::referral();
        referral["reasonCode"][0]["text"] = json!("nothing\u{0}there");
        let answer = practice.post("ServiceRequest", &referral).await;
        assert!(matches!(answer.status, 400 | 422), "{} {}", answer.status, answer.text);
        let answer = practice.post("ServiceRequest", &build::referral()).header("Idempotency-Key", "a b").await;
        assert!(answer.status < 500, "{} {}", answer.status, answer.text);
    }
}
