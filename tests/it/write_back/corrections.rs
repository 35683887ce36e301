//! Corrections are new versions of the same entry, and never overwrite what the practice wrote itself.

use livewell::demo::practice::{Aim, Fault, Traffic};
use serde_json::json;

use super::{asked_of_co_ordinator, deliveries, is_there, practice_writes, there, time_passes};
use crate::journey::{Journey, encounter, goal, known, read, record, registered, version};
use crate::support::{TestApp, build, on_each_database};

on_each_database! {
    async fn a_correction_is_a_new_version_at_the_practice(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let first = there(&app, "TESTA1", &kept);
        for (nth, change) in ["Talked about the bus", "entered-in-error"].into_iter().enumerate() {
            let mut corrected = read(&coach, &kept).await;
            match change {
                "entered-in-error" => corrected["status"] = json!(change),
                text => corrected["reasonCode"] = json!([{ "text": text }]),
            }
            let builds_on = version(&corrected);
            coach.put(format!("/fhir/{kept}"), &corrected).if_match(builds_on).await.expect(200);
            app.settled().await;
            let now = there(&app, "TESTA1", &kept);
            assert!(now.to_string().contains(change), "{now}");
            assert_eq!((&now["id"], version(&now)), (&first["id"], version(&first) + i64::try_from(nth).unwrap() + 1));
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 1);
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn a_correction_whose_reply_is_lost_is_made_once(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let mut corrected = read(&coach, &kept).await;
        corrected["reasonCode"] = json!([{ "text": "Talked about the bus" }]);
        app.stand_in.faults().next(1, Aim::at(Traffic::Writes), Fault::DropReply);
        coach.put(format!("/fhir/{kept}"), &corrected).if_match(1).await.expect(200);
        time_passes(&app).await;
        let now = there(&app, "TESTA1", &kept);
        assert_eq!(version(&now), 2);
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn what_the_practice_changed_itself_is_never_overwritten(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let mut edited = there(&app, "TESTA1", &kept);
        edited["reasonCode"] = json!([{ "text": "The doctor's own words" }]);
        let below = format!("Encounter/{}", edited["id"].as_str().unwrap());
        practice_writes(&app, "TESTA1", &below, &edited).await;
        let mut corrected = read(&coach, &kept).await;
        corrected["reasonCode"] = json!([{ "text": "Talked about the bus" }]);
        coach.put(format!("/fhir/{kept}"), &corrected).if_match(1).await.expect(200);
        app.settled().await;
        assert_eq!(there(&app, "TESTA1", &kept)["reasonCode"][0]["text"], "The doctor's own words");
        assert_eq!(deliveries(&app).await[1], ("needs-person".to_owned(), "version-conflict".to_owned()));
        assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, 1);
    }

    async fn a_correction_reaches_the_practice_that_has_a_copy_wherever_the_person_is_registered_now(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let wrong = record(&coach, &encounter(&app, &journey)).await;
        let aim = record(&coach, &goal(&journey)).await;
        app.settled().await;
        registered(&app, "TESTA2", &journey.nhs_number, "Example", "1951-04-22").await;
        moves(&app, &journey, "TESTA2").await;
        let later = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert!(!is_there(&app, "TESTA1", &later), "what is new is for the practice they have now");
        let mut reached = read(&coach, &aim).await;
        reached["lifecycleStatus"] = json!("completed");
        coach.put(format!("/fhir/{aim}"), &reached).if_match(1).await.expect(200);
        app.settled().await;
        assert_eq!(there(&app, "TESTA2", &aim)["lifecycleStatus"], "completed");
        assert_eq!(there(&app, "TESTA1", &aim)["lifecycleStatus"], "active", "how it goes on is not theirs to know");
        for (nth, kept) in [&wrong, &later].into_iter().enumerate() {
            let mut corrected = read(&coach, kept).await;
            corrected["status"] = json!("entered-in-error");
            coach.put(format!("/fhir/{kept}"), &corrected).if_match(1).await.expect(200);
            app.settled().await;
            assert_eq!(there(&app, "TESTA2", kept)["status"], "entered-in-error");
            assert_eq!(there(&app, "TESTA1", &wrong)["status"], "entered-in-error");
            assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 1, "correction {nth}");
        }
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn what_was_on_its_way_to_the_earlier_practice_is_followed_by_its_correction(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        registered(&app, "TESTA2", &journey.nhs_number, "Example", "1951-04-22").await;
        let coach = app.staff("coach-north").await;
        app.stand_in.faults().next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 503, retry_after: None });
        let wrong = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert!(!is_there(&app, "TESTA1", &wrong));
        moves(&app, &journey, "TESTA2").await;
        let mut corrected = read(&coach, &wrong).await;
        corrected["status"] = json!("entered-in-error");
        coach.put(format!("/fhir/{wrong}"), &corrected).if_match(1).await.expect(200);
        time_passes(&app).await;
        let now = there(&app, "TESTA1", &wrong);
        assert_eq!((now["status"].as_str(), version(&now)), (Some("entered-in-error"), 2));
    }
}

/// The person is registered at another practice from now on.
async fn moves(app: &TestApp, journey: &Journey, practice: &str) {
    let system = app.system().await;
    let mut person = read(&system, &journey.person).await;
    person["generalPractitioner"] = json!([build::organization(practice)]);
    system.put(format!("/fhir/{}", journey.person), &person).if_match(version(&person)).await.expect(200);
}
