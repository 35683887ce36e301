//! What of a referral is refused: named where it stands, and nothing of it kept.

use livewell::fhir::systems::NHS_NUMBER;
use serde_json::{Value, json};

use crate::referral::{flags, sent};
use crate::support::{TestApp, build, on_each_database};

on_each_database! {
    async fn a_reference_to_nothing_is_refused_for_the_subject_only(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let before = app.stored().await;
        let mut lost = build::referral();
        lost["subject"] = json!({ "reference": "Patient/nobody" });
        let refused = practice.post("ServiceRequest", &lost).await.expect(422);
        assert_eq!(refused.expression(), "ServiceRequest.subject");
        let mut nobody = build::referral();
        nobody["subject"] = build::by_number("9990000019");
        let refused = practice.post("ServiceRequest", &nobody).await.expect(422);
        assert_eq!(refused.expression(), "ServiceRequest.subject.identifier.value");
        assert!(!refused.text.contains("9990000019"), "{}", refused.text);
        assert_eq!(app.stored().await, before);
        let mut loose = build::referral();
        loose["supportingInfo"] = json!([{ "reference": "Condition/nowhere" }]);
        let made = practice.post("ServiceRequest", &loose).await.expect(201);
        assert_eq!(made.body["supportingInfo"], loose["supportingInfo"]);
        assert!(flags(&made.body).contains(&"dangling-reference"), "{}", made.body["meta"]);
    }

    async fn a_bundle_with_one_bad_entry_leaves_nothing_behind(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let before = app.stored().await;
        let bundle = |bad: Value| {
            let urn = build::urn();
            let mut referral = build::referral();
            referral["subject"] = json!({ "reference": urn });
            build::transaction([(build::urn(), referral), (urn, build::person(build::ADA)), (build::urn(), bad)])
        };
        let mut lost = build::referral();
        lost["subject"] = json!({ "reference": "Patient/nobody" });
        let refused = practice.post("", &bundle(lost)).await.expect(422);
        assert_eq!(refused.expression(), "Bundle.entry[2].resource.subject");
        let unknown = json!({ "resourceType": "Condition", "subject": { "display": "x" }, "nonsense": 1 });
        let refused = practice.post("", &bundle(unknown)).await;
        assert!((400..500).contains(&refused.status), "{}", refused.text);
        assert!(refused.expression().starts_with("Bundle.entry[2].resource"), "{}", refused.text);
        let person = build::patient("9990000019", "Wrongdigit", "1950-01-01");
        let refused = practice.post("", &bundle(person)).await.expect(422);
        assert!(refused.expression().starts_with("Bundle.entry[2].resource.identifier"), "{}", refused.text);
        assert_eq!(app.stored().await, before);
    }

    async fn a_person_whom_nobody_could_find_or_call_is_no_subject(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let stored = app.stored().await;
        let mut without = build::referral();
        without["subject"]["identifier"].as_object_mut().unwrap().remove("value");
        let refused = practice.post("ServiceRequest", &without).await.expect(422);
        assert_eq!(refused.expression(), "ServiceRequest.subject.identifier.value");
        let bundle = build::transaction([(build::urn(), without)]);
        let refused = practice.post("", &bundle).await.expect(422);
        assert_eq!(refused.expression(), "Bundle.entry[0].resource.subject.identifier.value");

        let nobody = json!({ "resourceType": "Patient", "gender": "female", "birthDate": "1957-03-04",
            "identifier": [{ "system": NHS_NUMBER }] });
        let refused = practice.post("ServiceRequest", &build::referral_with(nobody.clone())).await.expect(422);
        assert_eq!(refused.expression(), "ServiceRequest.contained[0]");
        assert_eq!(app.stored().await, stored);
        for (element, said) in [
            ("name", json!([{ "text": "Ada" }])),
            ("telecom", json!([{ "system": "phone", "value": "01632 960001" }])),
            ("identifier", json!([{ "system": "https://practice.example/Id/local", "value": "77" }])),
        ] {
            let mut somebody = nobody.clone();
            somebody[element] = said;
            sent(&practice, &build::referral_with(somebody)).await;
        }
    }

    async fn what_is_wrong_with_a_contained_person_is_named_where_it_stands(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut wrong = build::person(build::ADA);
        wrong["identifier"][0]["value"] = json!("9990000019");
        let referral = build::referral_with(wrong);
        let refused = practice.post("ServiceRequest", &referral).await.expect(422);
        assert_eq!(refused.expression(), "ServiceRequest.contained[0].identifier[0].value");
        let bundle = build::transaction([(build::urn(), build::referral()), (build::urn(), referral)]);
        let refused = practice.post("", &bundle).await.expect(422);
        assert_eq!(refused.expression(), "Bundle.entry[1].resource.contained[0].identifier[0].value");
    }

    async fn two_contained_resources_of_one_id_are_refused_for_which_is_meant_nobody_can_say(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut twice = build::referral_with(build::person(build::ADA));
        let mut other = build::person(build::BERT);
        other["id"] = json!("person");
        twice["contained"].as_array_mut().unwrap().push(other);
        let refused = practice.post("ServiceRequest", &twice).await.expect(400);
        assert_eq!(refused.expression(), "ServiceRequest.contained[1].id");
    }
}
