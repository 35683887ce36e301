//! What has no way to a practice waits, asks once, and goes when there is one.

use livewell::fhir::systems::{NHS_NUMBER, ODS};
use serde_json::{Value, json};

use super::{HOUR, asked_of_co_ordinator, deliveries, later, practice_sees, there};
use crate::journey::{encounter, goal, read, record, referral_of, registered, send, somebody, version};
use crate::support::{TestApp, build, on_each_database};

on_each_database! {
    async fn a_practice_without_endpoint_is_asked_for_once_and_gets_all_when_it_has_one(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let mut kept = Vec::new();
        for _ in 0..2 {
            let number = somebody();
            let journey = send(&app, &practice, &referral_of(&number, "TESTZ9", "routine")).await;
            // The new practice's system is one that stands here already.
            registered(&app, "TESTA2", &number, "Example", "1951-04-22").await;
            kept.push(record(&coach, &encounter(&app, &journey)).await);
            kept.push(record(&coach, &goal(&journey)).await);
            assert_eq!(practice_sees(&practice, &journey).await, ["no-route", "no-route"]);
        }
        app.settled().await;
        assert_eq!(deliveries(&app).await, vec![("no-route".to_owned(), "no-endpoint".to_owned()); 4]);
        assert_eq!(asked_of_co_ordinator(&app, "no-route").await, 1, "one Task for the practice");
        later(&app, 100 * HOUR).await;
        assert_eq!(app.count("delivery where state = 'no-route'").await, 4, "it does not expire");

        app.load(&practice_with_endpoint("TESTZ9", &app.stand_in.base("TESTA2"))).await;
        app.settled().await;
        for kept in &kept {
            there(&app, "TESTA2", kept);
        }
        let order: Vec<u64> =
            kept[..2].iter().map(|k| there(&app, "TESTA2", k)["id"].as_str().unwrap().parse().unwrap()).collect();
        assert!(order.is_sorted(), "in the order recorded: {order:?}");
    }

    async fn what_has_no_practice_waits_until_somebody_says_which(app: TestApp) {
        // A practice that is not affiliated does not make itself the receiver of its referrals.
        let sender = app.practice("TESTA4").await;
        let journey = send(&app, &sender, &referral_of(&somebody(), "", "routine")).await;
        let coach = app.staff("coach-north").await;
        let kept = [record(&coach, &encounter(&app, &journey)).await, record(&coach, &goal(&journey)).await];
        assert_eq!(deliveries(&app).await, vec![("no-route".to_owned(), "no-practice".to_owned()); 2]);
        assert_eq!(asked_of_co_ordinator(&app, "find-practice").await, 1, "one Task for the person");

        registered(&app, "TESTA2", &journey.nhs_number, "Example", "1951-04-22").await;
        let co_ordinator = app.staff("co-ordinator").await;
        let mut person = read(&co_ordinator, &journey.person).await;
        person["generalPractitioner"] = json!([{ "type": "Organization", "identifier": { "system": ODS, "value": "TESTA2" } }]);
        let system = app.system().await;
        system.put(format!("/fhir/{}", journey.person), &person).if_match(version(&person)).await.expect(200);
        app.settled().await;
        for kept in &kept {
            there(&app, "TESTA2", kept);
        }
    }

    async fn what_has_no_practice_goes_when_a_later_referral_says_which(app: TestApp) {
        let sender = app.practice("TESTA4").await;
        let journey = send(&app, &sender, &referral_of(&somebody(), "", "routine")).await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        registered(&app, "TESTA2", &journey.nhs_number, "Example", "1951-04-22").await;
        send(&app, &sender, &referral_of(&journey.nhs_number, "TESTA2", "routine")).await;
        app.settled().await;
        there(&app, "TESTA2", &kept);
    }

    async fn a_practice_found_that_has_no_endpoint_is_asked_for_too(app: TestApp) {
        let sender = app.practice("TESTA4").await;
        let journey = send(&app, &sender, &referral_of(&somebody(), "", "routine")).await;
        let coach = app.staff("coach-north").await;
        record(&coach, &encounter(&app, &journey)).await;
        let system = app.system().await;
        let mut person = read(&system, &journey.person).await;
        person["generalPractitioner"] = json!([{ "type": "Organization", "identifier": { "system": ODS, "value": "TESTZ9" } }]);
        system.put(format!("/fhir/{}", journey.person), &person).if_match(version(&person)).await.expect(200);
        app.settled().await;
        assert_eq!(deliveries(&app).await, [("no-route".to_owned(), "no-endpoint".to_owned())]);
        assert_eq!(asked_of_co_ordinator(&app, "no-route").await, 1, "nothing waits in silence");
    }

    async fn without_an_nhs_number_write_back_waits_for_identity(app: TestApp) {
        let sender = app.practice("TESTA1").await;
        let mut request = referral_of("", "TESTA1", "routine");
        request["contained"][0].as_object_mut().unwrap().remove("identifier");
        let journey = send(&app, &sender, &request).await;
        let coach = app.staff("coach-north").await;
        assert_eq!(asked_of_co_ordinator(&app, "resolve-identity").await, 0, "nothing waits for it yet");
        let kept = record(&coach, &encounter(&app, &journey)).await;
        record(&coach, &goal(&journey)).await;
        app.settled().await;
        assert_eq!(deliveries(&app).await, vec![("no-route".to_owned(), "no-identity".to_owned()); 2]);
        assert_eq!(asked_of_co_ordinator(&app, "resolve-identity").await, 1, "one Task for the person");
        let number = somebody();
        registered(&app, "TESTA1", &number, "Example", "1951-04-22").await;
        let system = app.system().await;
        let mut person = read(&system, &journey.person).await;
        person["identifier"] = json!([{ "system": NHS_NUMBER, "value": number }]);
        system.put(format!("/fhir/{}", journey.person), &person).if_match(version(&person)).await.expect(200);
        app.settled().await;
        there(&app, "TESTA1", &kept);
        assert_eq!(asked_of_co_ordinator(&app, "resolve-identity").await, 0, "it is answered");
    }

    async fn whoever_is_in_dispute_already_is_not_asked_about_twice(app: TestApp) {
        let sender = app.practice("TESTA1").await;
        let number = somebody();
        send(&app, &sender, &referral_of(&number, "TESTA1", "routine")).await;
        let mut other = referral_of(&number, "TESTA1", "routine");
        other["contained"][0]["birthDate"] = json!("1977-07-07");
        let made = sender.post("/fhir/ServiceRequest", &other).await.expect(201);
        assert_eq!(asked_of_co_ordinator(&app, "resolve-identity").await, 1);
        let person = app.rows(&format!("select person from referral where id = '{}'", made.id())).await;
        let person = person[0][0].as_str().unwrap();
        let written = build::encounter(&format!("ServiceRequest/{}", made.id()), &format!("Patient/{person}"));
        record(&app.staff("coach-north").await, &written).await;
        assert_eq!(deliveries(&app).await, [("no-route".to_owned(), "no-identity".to_owned())]);
        assert_eq!(asked_of_co_ordinator(&app, "resolve-identity").await, 1);
    }
}

/// A directory with one more practice of the North, whose system is at `address`.
fn practice_with_endpoint(ods: &str, address: &str) -> Value {
    let id = ods.to_lowercase();
    json!({ "resourceType": "Bundle", "type": "collection", "entry": [
        { "resource": {
            "resourceType": "Endpoint", "id": format!("fhir-{id}"), "status": "active",
            "connectionType": {
                "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest",
            },
            "payloadType": [{ "text": "FHIR R4" }],
            "address": address,
        }},
        { "resource": {
            "resourceType": "Organization", "id": id, "active": true, "name": "A new surgery",
            "identifier": [{ "system": ODS, "value": ods }],
            "endpoint": [{ "reference": format!("Endpoint/fhir-{id}") }],
        }},
    ]})
}
