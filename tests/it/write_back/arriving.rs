//! What was recorded arrives: once, whole, in order, about the right person, and no more of it than the person agreed to.

use std::collections::BTreeSet;

use livewell::demo::practice::{Aim, Fault, Traffic};
use livewell::fhir::path;
use livewell::fhir::systems::{ODS, RECORD, REFERRAL_REFERENCE};
use serde_json::json;

use super::{MINUTE, asked_of_co_ordinator, deliveries, is_there, later, ours_at, practice_sees, there};
use crate::journey::{activation, encounter, goal, known, read, record, refer, registered, sharing, transact};
use crate::support::{TestApp, on_each_database};

on_each_database! {
    async fn everything_recorded_arrives_once_as_the_practices_own_patients(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let theirs = app.stand_in.resources("TESTA1", "Patient").into_iter()
            .find(|p| p.to_string().contains(&journey.nhs_number)).unwrap();
        let patient = format!("Patient/{}", theirs["id"].as_str().unwrap());
        let coach = app.staff("coach-north").await;
        let mut meeting = encounter(&app, &journey);
        meeting["participant"] = json!([{ "individual": { "reference": "PractitionerRole/coach-north" } }]);
        let made = transact(&coach, &[
            meeting,
            activation(&app, &journey, "56.40", Some(3)),
            goal(&journey),
            sharing(&app, &journey, "permit"),
        ]).await;
        app.settled().await;

        let practice = app.practice("TESTA1").await;
        let request = read(&practice, &journey.referral).await;
        let reference = path::all(&request, "identifier").into_iter().find(|i| i["system"] == REFERRAL_REFERENCE);
        let reference = reference.unwrap()["value"].clone();
        let found = ours_at(&app, "TESTA1");
        assert_eq!(found.len(), 4);
        for kept in &made {
            let (kind, id) = kept.split_once('/').unwrap();
            let there = &found[id];
            assert_eq!(there["resourceType"], kind);
            let subject = if kind == "Consent" { "patient" } else { "subject" };
            assert_eq!(there[subject]["reference"], patient, "{kind}");
            let text = there.to_string();
            assert!(!text.contains(&journey.person) && !text.contains(&journey.nhs_number), "{kind}: {text}");
            assert_eq!(there["text"]["status"], "generated", "{kind} has a short narrative");
        }
        let meeting = there(&app, "TESTA1", &made[0]);
        assert_eq!(meeting["basedOn"][0]["identifier"]["value"], reference);
        assert_eq!(meeting["basedOn"][0].get("reference"), None, "the practice has none of our ids");
        let who = &meeting["participant"][0]["individual"];
        assert!(who["identifier"]["value"] == "coach-north" && who["display"].to_string().contains("Coachnorth"), "{who}");
        assert_eq!(there(&app, "TESTA1", &made[1])["valueQuantity"]["value"].to_string(), "56.40");

        let provenance = app.stand_in.resources("TESTA1", "Provenance");
        assert_eq!(provenance.len(), 1, "one for what came together");
        let targets: BTreeSet<String> =
            path::all(&provenance[0], "target.reference").iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        let expected: BTreeSet<String> = found.values()
            .map(|r| format!("{}/{}", r["resourceType"].as_str().unwrap(), r["id"].as_str().unwrap())).collect();
        assert_eq!(targets, expected);
        let delivery = app.rows("select id from delivery").await;
        let tag = path::all(&provenance[0], "meta.tag").into_iter().find(|t| t["system"] == RECORD).unwrap();
        assert_eq!(tag["code"], delivery[0][0]);
        let agent = &provenance[0]["agent"][0];
        assert_eq!(agent["who"]["identifier"]["value"], "coach-north");
        assert_eq!(agent["onBehalfOf"]["identifier"], json!({ "system": ODS, "value": "TESTLW" }));

        assert_eq!(practice_sees(&practice, &journey).await, ["filed"]);
        assert_eq!(app.count("delivery_attempt where verdict = 'delivered'").await, 1);
        assert_eq!(app.count("audit where interaction = 'delivery delivered' and target = 'Organization/TESTA1'").await, 1);
        assert_eq!(app.count("practice_copy where practice = 'TESTA1'").await, 5);
    }

    async fn without_agreement_to_share_detail_only_coded_entries_go(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let made = transact(&coach, &[
            encounter(&app, &journey),
            activation(&app, &journey, "56.4", Some(3)),
            goal(&journey),
            sharing(&app, &journey, "deny"),
        ]).await;
        app.settled().await;
        let meeting = there(&app, "TESTA1", &made[0]);
        assert!(!meeting.to_string().contains("garden") && meeting.get("text").is_none(), "{meeting}");
        assert_eq!(path::text(&meeting, "type.coding.code"), Some("185317003"));
        assert_eq!(there(&app, "TESTA1", &made[1])["valueQuantity"]["value"].to_string(), "56.4");
        assert!(!is_there(&app, "TESTA1", &made[2]), "a goal in words alone is no coded entry");
        assert!(app.stand_in.resources("TESTA1", "Goal").iter().all(|g| !g.to_string().contains("library")));
        // What is recorded later keeps to it too, until the person says otherwise.
        let later = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert!(!there(&app, "TESTA1", &later).to_string().contains("garden"));
        app.clock.advance(MINUTE);
        let coach = app.staff("coach-north").await;
        let mut of_less = sharing(&app, &journey, "permit");
        of_less["provision"]["actor"] = json!([{ "role": { "text": "recipient" }, "reference": { "display": "A charity" } }]);
        record(&coach, &of_less).await;
        let later = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert!(!there(&app, "TESTA1", &later).to_string().contains("garden"), "somebody else may have it");
        record(&coach, &sharing(&app, &journey, "permit")).await;
        let open = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert!(there(&app, "TESTA1", &open).to_string().contains("garden"));
    }

    async fn what_is_of_one_person_arrives_in_order_and_holds_up_nobody_else(app: TestApp) {
        let (first, other) = (known(&app, "TESTA1", "routine").await, known(&app, "TESTA1", "routine").await);
        let coach = app.staff("coach-north").await;
        let faults = app.stand_in.faults();
        // Not a 503: with that a practice asks for a pause of everything.
        faults.next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 500, retry_after: Some(600) });
        let one = record(&coach, &encounter(&app, &first)).await;
        app.settled().await;
        let two = record(&coach, &encounter(&app, &first)).await;
        let three = record(&coach, &goal(&first)).await;
        let theirs = record(&coach, &encounter(&app, &other)).await;
        app.settled().await;
        assert!(is_there(&app, "TESTA1", &theirs), "another person's does not wait");
        for kept in [&one, &two, &three] {
            assert!(!is_there(&app, "TESTA1", kept), "{kept} waits for the first");
        }
        later(&app, 20 * MINUTE).await;
        let written: Vec<u64> = [&one, &two, &three]
            .map(|kept| there(&app, "TESTA1", kept)["id"].as_str().unwrap().parse().unwrap()).to_vec();
        assert!(written.is_sorted(), "{written:?}");
    }

    async fn a_person_the_practice_does_not_know_so_is_a_persons_to_settle(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let (mut expected, mut numbers) = (Vec::new(), Vec::new());
        for (nth, reason) in ["patient-not-found", "birth-date-differs", "family-name-differs", "several-patients"].into_iter().enumerate() {
            let journey = refer(&app, &practice, "TESTA1", "routine").await;
            let number = &journey.nhs_number;
            numbers.push(number.clone());
            match reason {
                "birth-date-differs" => registered(&app, "TESTA1", number, "Example", "1961-04-22").await,
                "family-name-differs" => registered(&app, "TESTA1", number, "Otherwise", "1951-04-22").await,
                "several-patients" => {
                    registered(&app, "TESTA1", number, "Example", "1951-04-22").await;
                    registered(&app, "TESTA1", number, "Example", "1951-04-22").await;
                }
                _ => {}
            }
            record(&coach, &encounter(&app, &journey)).await;
            app.settled().await;
            expected.push(("needs-person".to_owned(), reason.to_owned()));
            assert_eq!(deliveries(&app).await, expected);
            assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, i64::try_from(nth).unwrap() + 1, "{reason}");
            assert_eq!(practice_sees(&practice, &journey).await, ["needs-person"]);
        }
        assert_eq!(ours_at(&app, "TESTA1").len(), 0, "nothing was written to anybody's record");
        let co_ordinator = app.staff("co-ordinator").await;
        let task = crate::journey::claim_next(&co_ordinator, "co-ordinator").await.expect(200).body;
        assert_eq!(path::text(&task, "code.coding.code"), Some("delivery-failed"));
        let text = task.to_string();
        assert!(!numbers.iter().any(|number| text.contains(number.as_str())) && !text.contains("Example"), "{text}");
    }

    async fn cause_delivery_and_audit_are_one_unit_of_work(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let before = app.count("audit").await;
        let made = transact(&coach, &[encounter(&app, &journey), goal(&journey)]).await;
        let rows = app.rows("select items, created_at from delivery").await;
        for kept in &made {
            let (kind, id) = kept.split_once('/').unwrap();
            assert!(rows[0][0].as_str().unwrap().contains(id));
            let at = app.rows(&format!("select updated_at from resource where kind = '{kind}' and id = '{id}'")).await;
            assert_eq!(at[0][0], rows[0][1], "of one moment");
            assert_eq!(app.count(&format!("audit where interaction = 'create' and target = '{kept}'")).await, 1);
        }
        assert!(app.count("audit").await > before);
        // A refused one leaves none of the three.
        let (deliveries, audited) = (app.count("delivery").await, app.count("audit where interaction = 'create'").await);
        let mut wrong = encounter(&app, &journey);
        wrong["basedOn"] = json!([{ "reference": "ServiceRequest/none" }]);
        coach.post("/fhir/Encounter", &wrong).await.expect(422);
        assert_eq!(app.count("delivery").await, deliveries);
        assert_eq!(app.count("audit where interaction = 'create'").await, audited);
    }
}
