//! The person's own words stay theirs until they agree that their practice gets them.

use std::time::Duration;

use livewell::fhir::path;
use livewell::fhir::systems::RECORD;
use serde_json::{Value, json};

use super::{deliveries, is_there, practice_sees, there};
use crate::journey::{
    Journey, encounter, known, now, read, record, referral_of, registered, send, sharing, somebody, transact, version,
};
use crate::support::{TestApp, on_each_database};

/// The person's wellbeing plan, as they wrote it.
fn green_book(app: &TestApp, journey: &Journey) -> Value {
    json!({
        "resourceType": "QuestionnaireResponse", "status": "completed", "subject": { "reference": journey.person },
        "source": { "reference": journey.person }, "authored": now(app),
        "item": [{ "linkId": "keeps-me-well", "answer": [{ "valueString": "Singing" }] }],
    })
}

/// What the person agrees to when their practice is to have their own words.
fn agreement() -> Value {
    json!([{ "system": "http://hl7.org/fhir/resource-types", "code": "QuestionnaireResponse" }])
}

/// Everything at the practice, as text.
fn all_there(app: &TestApp) -> String {
    let kinds = ["Encounter", "Consent", "Observation", "QuestionnaireResponse", "Provenance"];
    kinds.iter().flat_map(|kind| app.stand_in.resources("TESTA1", kind)).map(|r| r.to_string()).collect()
}

on_each_database! {
    async fn without_agreement_to_it_the_persons_own_words_stay_theirs_and_are_not_mentioned(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let words = record(&coach, &green_book(&app, &journey)).await;
        assert_eq!(app.count("delivery").await, 0);
        // Detail may be shared, and something that goes names them.
        let mut score = crate::journey::activation(&app, &journey, "56.4", Some(3));
        score["derivedFrom"] = json!([{ "reference": words }]);
        transact(&coach, &[sharing(&app, &journey, "permit"), score, encounter(&app, &journey)]).await;
        let mut corrected = read(&coach, &words).await;
        corrected["item"][0]["answer"][0]["valueString"] = json!("Singing in a choir");
        coach.put(format!("/fhir/{words}"), &corrected).if_match(version(&corrected)).await.expect(200);
        app.settled().await;
        assert_eq!(deliveries(&app).await, [("delivered".to_owned(), String::new())]);
        let there = all_there(&app);
        assert!(there.contains("garden") && !there.contains("Singing") && !there.contains("Questionnaire"), "{there}");
        let practice = app.practice("TESTA1").await;
        for told in ["$status", "$deliveries"] {
            let said = practice.get(format!("/fhir/{}/{told}", journey.referral)).await.expect(200).body.to_string();
            assert!(said.contains("Encounter/") && !said.contains("Questionnaire"), "{said}");
        }
    }

    async fn an_agreement_that_live_well_did_not_record_is_none(app: TestApp) {
        // The practice itself says that the person agreed.
        let practice = app.practice("TESTA1").await;
        let number = somebody();
        registered(&app, "TESTA1", &number, "Example", "1951-04-22").await;
        let journey = send(&app, &practice, &referral_of(&number, "TESTA1", "routine")).await;
        let mut theirs = sharing(&app, &journey, "permit");
        theirs["patient"] = json!({ "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": number } });
        theirs["provision"]["class"] = agreement();
        record(&practice, &theirs).await;
        let coach = app.staff("coach-north").await;
        record(&coach, &green_book(&app, &journey)).await;
        app.settled().await;
        assert_eq!(app.count("resource where kind = 'Consent'").await, 1);
        assert_eq!(app.count("delivery").await, 0);
        assert!(!all_there(&app).contains("Singing"));
    }

    async fn with_agreement_they_arrive_with_their_corrections_until_it_is_taken_back(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let before = record(&coach, &green_book(&app, &journey)).await;
        let mut agreed = sharing(&app, &journey, "permit");
        agreed["provision"]["class"] = agreement();
        let agreed = record(&coach, &agreed).await;
        app.settled().await;
        // What was written before the person agreed goes with their agreement, and what is written after by itself.
        let after = record(&coach, &green_book(&app, &journey)).await;
        app.settled().await;
        for words in [&before, &after] {
            let kept = there(&app, "TESTA1", words);
            assert_eq!(path::text(&kept, "item.answer.valueString"), Some("Singing"));
            assert_eq!(kept["identifier"]["system"], RECORD);
            assert!(kept["subject"]["reference"].as_str().unwrap().starts_with("Patient/"), "{kept}");
            assert!(!kept.to_string().contains(&journey.person));
        }
        assert!(is_there(&app, "TESTA1", &agreed));
        let practice = app.practice("TESTA1").await;
        assert_eq!(practice_sees(&practice, &journey).await, ["filed", "filed"]);

        let change = async |reference: &str, element: &str, value: Value| {
            let mut changed = read(&coach, reference).await;
            changed[element] = value;
            coach.put(format!("/fhir/{reference}"), &changed).if_match(version(&changed)).await.expect(200);
            app.settled().await;
        };
        let said = |text: &str| json!([{ "linkId": "keeps-me-well", "answer": [{ "valueString": text }] }]);
        change(&before, "item", said("Singing in a choir")).await;
        assert!(there(&app, "TESTA1", &before).to_string().contains("choir"), "a correction is a new version there");

        app.clock.advance(Duration::from_secs(60));
        change(&agreed, "status", json!("inactive")).await;
        assert_eq!(there(&app, "TESTA1", &agreed)["status"], "inactive", "the practice hears that it was taken back");
        change(&before, "item", said("Nobody's business")).await;
        let more = record(&coach, &green_book(&app, &journey)).await;
        app.settled().await;
        assert!(!is_there(&app, "TESTA1", &more) && !all_there(&app).contains("business"));
        change(&after, "status", json!("entered-in-error")).await;
        let withdrawn = there(&app, "TESTA1", &after);
        assert_eq!(withdrawn["status"], "entered-in-error");
        assert!(withdrawn.get("item").is_none(), "{withdrawn}");
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"), "{:?}", deliveries(&app).await);
    }
}
