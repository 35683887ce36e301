//! Recording: what staff did hangs on the referral it came of, and is held to what it has to be.

use std::time::Duration;

use livewell::config::PamCutOffs;
use livewell::fhir::path;
use livewell::fhir::systems::{NHS_NUMBER, REFERRAL_FLAG, REFERRAL_REFERENCE};
use reqwest::Method;
use serde_json::{Value, json};

use crate::journey::{
    Journey, activation, claim, complete, encounter, goal, now, read, record, refer, referral_of, referred, refusal,
    send, sharing, somebody, together, transact, version,
};
use crate::support::app::run_with;
use crate::support::caller::Caller;
use crate::support::{Database, TestApp, on_each_database};

const JSON_PATCH: &str = "application/json-patch+json";
const MINUTE: Duration = Duration::from_secs(60);

/// The flags of ours that a resource carries.
fn flags(resource: &Value) -> Vec<String> {
    path::all(resource, "meta.tag.code").into_iter().map(|c| c.as_str().unwrap().to_owned()).collect()
}

/// A parameter of `$status`.
async fn status(caller: &Caller, journey: &Journey, name: &str) -> Vec<Value> {
    let said = caller.get(format!("/fhir/{}/$status", journey.referral)).await.expect(200).body;
    path::all(&said, "parameter").into_iter().filter(|p| p["name"] == name).cloned().collect()
}

/// The referral an id's row belongs to.
async fn belongs_to(app: &TestApp, reference: &str) -> String {
    let (kind, id) = reference.split_once('/').unwrap();
    let rows = app.rows(&format!("select referral from resource where kind = '{kind}' and id = '{id}'")).await;
    format!("ServiceRequest/{}", rows[0][0].as_str().unwrap())
}

on_each_database! {
    async fn an_encounter_hangs_on_a_referral(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        for element in ["basedOn", "subject", "period"] {
            let mut without = encounter(&app, &journey);
            without.as_object_mut().unwrap().remove(element);
            let answer = coach.post("/fhir/Encounter", &without).await.expect(422);
            assert_eq!(refusal(&answer).1, format!("Encounter.{element}"), "{}", answer.text);
        }
        let mut elsewhere = encounter(&app, &journey);
        elsewhere["basedOn"] = json!([{ "reference": "ServiceRequest/not-here" }]);
        let answer = coach.post("/fhir/Encounter", &elsewhere).await.expect(422);
        assert_eq!(refusal(&answer).1, "Encounter.basedOn");
        let mut never = encounter(&app, &journey);
        never["period"] = json!({ "end": now(&app) });
        let answer = coach.post("/fhir/Encounter", &never).await.expect(422);
        assert_eq!(refusal(&answer).1, "Encounter.period.start");
        assert_eq!(app.count("resource where kind = 'Encounter'").await, 0);
        assert_eq!(app.count("delivery").await, 0);
        record(&coach, &encounter(&app, &journey)).await;
    }

    async fn what_names_another_person_than_its_referral_is_refused(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let journey = refer(&app, &practice, "TESTA1", "routine").await;
        let other = refer(&app, &practice, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let mut mixed = encounter(&app, &journey);
        mixed["subject"] = json!({ "reference": other.person });
        let answer = coach.post("/fhir/Encounter", &mixed).await.expect(422);
        assert_eq!(refusal(&answer).1, "Encounter.subject");
        // Also by NHS number, and as an entry of a transaction, of which then nothing is kept.
        mixed["subject"] = json!({ "identifier": { "system": NHS_NUMBER, "value": other.nhs_number } });
        let bundle = together(&[encounter(&app, &journey), mixed]);
        let answer = coach.post("/fhir", &bundle).await.expect(422);
        assert_eq!(refusal(&answer).1, "Bundle.entry[1].resource.subject");
        assert_eq!(app.count("resource where kind = 'Encounter'").await, 0);

        let kept = record(&coach, &encounter(&app, &journey)).await;
        let mut moved = read(&coach, &kept).await;
        moved["subject"] = json!({ "reference": other.person });
        let answer = coach.put(format!("/fhir/{kept}"), &moved).if_match(1).await.expect(422);
        assert_eq!(refusal(&answer).1, "Encounter.subject");
    }

    async fn a_record_may_name_its_referral_by_the_reference_that_is_read_out(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let journey = refer(&app, &practice, "TESTA1", "routine").await;
        let other = refer(&app, &practice, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let read_out = async |journey: &Journey| {
            let request = read(&practice, &journey.referral).await;
            let identifiers = request["identifier"].as_array().unwrap();
            let ours = identifiers.iter().find(|i| i["system"] == REFERRAL_REFERENCE).unwrap();
            json!([{ "type": "ServiceRequest", "identifier": { "system": ours["system"], "value": ours["value"] } }])
        };
        let mut met = encounter(&app, &journey);
        met["basedOn"] = read_out(&journey).await;
        let kept = record(&coach, &met).await;
        assert_eq!(belongs_to(&app, &kept).await, journey.referral);
        let mut there = read(&coach, &kept).await;
        assert_eq!(there["basedOn"], met["basedOn"]);
        there["basedOn"] = read_out(&other).await;
        let answer = coach.put(format!("/fhir/{kept}"), &there).if_match(1).await.expect(422);
        assert_eq!(refusal(&answer).1, "Encounter.basedOn");
        there["basedOn"] = json!([{ "reference": journey.referral }]);
        coach.put(format!("/fhir/{kept}"), &there).if_match(1).await.expect(200);
        met["basedOn"][0]["identifier"]["value"] = json!("LW-0000-0000");
        let answer = coach.post("/fhir/Encounter", &met).await.expect(422);
        assert_eq!(refusal(&answer).1, "Encounter.basedOn");

        let onward = json!({
            "resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "subject": { "reference": journey.person }, "basedOn": read_out(&journey).await,
        });
        let kept = record(&coach, &onward).await;
        assert_eq!(belongs_to(&app, &kept).await, journey.referral);
        assert_eq!(app.count("referral").await, 2, "an onward referral is none to us");
    }

    async fn a_changed_record_is_held_to_what_a_new_one_is(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let journey = refer(&app, &practice, "TESTA1", "routine").await;
        let other = refer(&app, &practice, "TESTA1", "routine").await;
        let again = send(&app, &practice, &referral_of(&journey.nhs_number, "TESTA1", "routine")).await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        let theirs = record(&coach, &encounter(&app, &other)).await;
        let mut measure = activation(&app, &journey, "56.4", None);
        measure["encounter"] = json!({ "reference": kept });
        let measured = record(&coach, &measure).await;
        let (there, measured_there) = (read(&coach, &kept).await, read(&coach, &measured).await);
        let deliveries = app.count("delivery").await;
        let but = |before: &Value, element: &str, value: Value| {
            let mut changed = before.clone();
            changed.as_object_mut().unwrap().shift_remove(element);
            if !value.is_null() {
                changed[element] = value;
            }
            changed
        };
        let both = json!([{ "reference": journey.referral }, { "reference": other.referral }]);
        for (at, changed, element) in [
            (&kept, but(&there, "basedOn", json!([{ "reference": other.referral }])), "Encounter.basedOn"),
            (&kept, but(&there, "basedOn", both), "Encounter.basedOn"),
            (&kept, but(&there, "basedOn", json!([{ "reference": again.referral }])), "Encounter.basedOn"),
            (&kept, but(&there, "basedOn", json!([{ "reference": "ServiceRequest/not-here" }])), "Encounter.basedOn"),
            (&kept, but(&there, "basedOn", Value::Null), "Encounter.basedOn"),
            (&kept, but(&there, "period", Value::Null), "Encounter.period"),
            (&kept, but(&there, "period", json!({ "end": now(&app) })), "Encounter.period.start"),
            (&kept, but(&there, "subject", Value::Null), "Encounter.subject"),
            (&measured, but(&measured_there, "encounter", json!({ "reference": theirs })), "Observation.encounter"),
            (&measured, but(&measured_there, "subject", Value::Null), "Observation.subject"),
        ] {
            let answer = coach.put(format!("/fhir/{at}"), &changed).if_match(1).await.expect(422);
            assert_eq!(refusal(&answer).1, element, "{}", answer.text);
        }
        for element in ["subject", "period", "basedOn"] {
            let steps = json!([{ "op": "remove", "path": format!("/{element}") }]);
            let answer = coach.send(Method::PATCH, format!("/fhir/{kept}")).text(JSON_PATCH, steps.to_string()).await.expect(422);
            assert!(refusal(&answer).1.ends_with(element), "{}", answer.text);
        }
        assert_eq!((read(&coach, &kept).await, read(&coach, &measured).await), (there.clone(), measured_there));
        assert_eq!(app.count("delivery").await, deliveries);

        let mut wrong = there.clone();
        wrong["status"] = json!("entered-in-error");
        ["basedOn", "period"].iter().for_each(|element| drop(wrong.as_object_mut().unwrap().shift_remove(*element)));
        coach.put(format!("/fhir/{kept}"), &wrong).if_match(1).await.expect(200);
        assert_eq!(app.count("delivery").await, deliveries + 1, "the practice hears of it");
        // Nor is that a way round.
        wrong["basedOn"] = json!([{ "reference": other.referral }]);
        coach.put(format!("/fhir/{kept}"), &wrong).if_match(2).await.expect(200);
        let back = but(&there, "basedOn", wrong["basedOn"].clone());
        let answer = coach.put(format!("/fhir/{kept}"), &back).if_match(3).await.expect(422);
        assert_eq!(refusal(&answer).1, "Encounter.basedOn");
    }

    async fn the_first_record_puts_the_task_in_progress(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        claim(&coach, &journey.task).await;
        assert_eq!(status(&coach, &journey, "state").await[0]["valueCode"], "received");
        record(&coach, &encounter(&app, &journey)).await;
        let task = read(&coach, &journey.task).await;
        assert_eq!((&task["status"], version(&task)), (&json!("in-progress"), 3));
        assert_eq!(status(&coach, &journey, "state").await[0]["valueCode"], "contacting");
        record(&coach, &encounter(&app, &journey)).await;
        assert_eq!(read(&coach, &journey.task).await, task, "the second changes nothing");
    }

    async fn a_record_about_the_senders_patient_is_about_ours(app: TestApp) {
        let number = somebody();
        let practice = app.practice("TESTA1").await;
        let mut request = referral_of(&number, "TESTA1", "routine");
        let person = request["contained"][0].clone();
        request.as_object_mut().unwrap().remove("contained");
        request["subject"] = json!({ "reference": "urn:uuid:7d0c6a5e-8f0e-4f0c-9d0a-0f7f3a0a0001" });
        let mut bundle = together(&[request, person]);
        bundle["entry"][1]["fullUrl"] = json!("urn:uuid:7d0c6a5e-8f0e-4f0c-9d0a-0f7f3a0a0001");
        bundle["entry"][1]["resource"].as_object_mut().unwrap().remove("id");
        let answer = practice.post("/fhir", &bundle).await.expect(200).body;
        let made: Vec<String> = path::all(&answer, "entry.response.location")
            .iter()
            .map(|l| l.as_str().unwrap().split("/_history/").next().unwrap().to_owned())
            .collect();
        let (referral, theirs) = (&made[0], &made[1]);
        let sent = read(&practice, referral).await;
        assert_eq!(&sent["subject"]["reference"], theirs, "the referral stays as it was sent");

        let rows = app.rows("select id, person from task").await;
        let journey = Journey {
            referral: referral.clone(),
            person: theirs.clone(),
            nhs_number: number.clone(),
            task: format!("Task/{}", rows[0][0].as_str().unwrap()),
        };
        let ours = format!("Patient/{}", rows[0][1].as_str().unwrap());
        assert_ne!(&ours, theirs);
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        assert_eq!(read(&coach, &kept).await["subject"]["reference"], ours);
        let mut by_number = goal(&journey);
        by_number["subject"] = json!({ "identifier": { "system": NHS_NUMBER, "value": number } });
        let kept = record(&coach, &by_number).await;
        assert_eq!(read(&coach, &kept).await["subject"]["reference"], ours);
    }

    async fn what_is_recorded_without_a_link_belongs_to_the_open_spell(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let (pam, agreed) = (activation(&app, &journey, "56.4", Some(3)), sharing(&app, &journey, "permit"));
        for resource in [pam, goal(&journey), agreed] {
            let kept = record(&coach, &resource).await;
            assert_eq!(belongs_to(&app, &kept).await, journey.referral, "{kept}");
        }
        // What hangs on an Encounter belongs where the Encounter does.
        let meeting = record(&coach, &encounter(&app, &journey)).await;
        let mut linked = activation(&app, &journey, "60", None);
        linked["encounter"] = json!({ "reference": meeting });
        let kept = record(&coach, &linked).await;
        assert_eq!(belongs_to(&app, &kept).await, journey.referral);
        assert_eq!(app.count("delivery").await, 5, "each goes to the practice");
    }

    async fn a_pam_score_has_one_decimal_between_0_and_100_and_a_level_of_1_to_4(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        for score in ["0", "56.4", "100", "100.0"] {
            let kept = record(&coach, &activation(&app, &journey, score, None)).await;
            let read = coach.get(format!("/fhir/{kept}")).await.expect(200).text.clone();
            assert!(read.contains(&format!("\"value\":{score},")), "kept to the digit: {read}");
        }
        for wrong in ["100.1", "-0.1", "56.45", "1e2", "1000"] {
            let answer = coach.post("/fhir/Observation", &activation(&app, &journey, wrong, None)).await;
            assert_eq!(answer.status, 422, "{wrong}: {}", answer.text);
            assert_eq!(refusal(&answer).1, "Observation.valueQuantity.value", "{wrong}");
        }
        for level in [0, 5, -1] {
            let answer = coach.post("/fhir/Observation", &activation(&app, &journey, "56.4", Some(level))).await.expect(422);
            assert_eq!(refusal(&answer).1, "Observation.component[0].valueInteger", "{level}");
        }
        let mut percent = activation(&app, &journey, "56.4", None);
        percent["valueQuantity"]["code"] = json!("%");
        coach.post("/fhir/Observation", &percent).await.expect(422);
        assert_eq!(app.count("resource where kind = 'Observation'").await, 4);
    }

    async fn a_pam_level_that_disagrees_with_the_cut_offs_is_kept_and_flagged(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        // 67.1 to 72.4 is level 3 by the current cut-offs (B) and 4 by the older ones (A).
        let kept = record(&coach, &activation(&app, &journey, "70.0", Some(4))).await;
        let there = read(&coach, &kept).await;
        assert_eq!(there["component"][0]["valueInteger"], 4, "what was sent stands");
        assert!(flags(&there).contains(&"pam-level-disagrees".to_owned()), "{:?}", flags(&there));
        let agrees = record(&coach, &activation(&app, &journey, "70.0", Some(3))).await;
        assert_eq!(flags(&read(&coach, &agrees).await), Vec::<String>::new());

        app.clock.advance(MINUTE);
        record(&coach, &activation(&app, &journey, "47.1", None)).await;
        let practice = app.practice("TESTA1").await;
        let shown = status(&practice, &journey, "pam").await;
        let part = |name: &str| shown[0]["part"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap();
        assert_eq!((&part("level")["valueInteger"], &part("cut-offs")["valueCode"]), (&json!(2), &json!("B")));
        assert_eq!(part("score")["valueDecimal"].to_string(), "47.1");
    }

    async fn clinical_times_out_of_order_are_kept_and_flagged(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        for (start, expected) in [
            ("2026-03-02T09:00:00Z", None),
            ("2026-03-02", None),
            ("2026-03-02T09:30:00Z", Some("clinical-time-in-future")),
            ("2026-02-20T09:00:00Z", Some("clinical-time-before-receipt")),
        ] {
            let mut about = encounter(&app, &journey);
            about["period"] = json!({ "start": start });
            let kept = record(&coach, &about).await;
            let there = read(&coach, &kept).await;
            assert_eq!(there["period"]["start"], start);
            assert_eq!(flags(&there), expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{start}");
        }
    }

    async fn what_is_flagged_of_a_record_is_told_anew_when_it_is_changed(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        let mut met = read(&coach, &kept).await;
        for (start, end, expected) in [
            ("2026-03-02T09:00:00Z", "2026-03-02T09:20:00Z", vec!["clinical-time-in-future"]),
            ("2026-03-02T09:00:00Z", "2026-03-02T09:04:00Z", vec![]),
            ("2026-03-01T13:00:00Z", "2026-03-01T13:30:00Z", vec!["clinical-time-before-receipt"]),
            ("2026-03-01", "2026-03-03", vec!["clinical-time-before-receipt", "clinical-time-in-future"]),
            ("2026-03-02", "2026-03-02", vec![]),
        ] {
            met["period"] = json!({ "start": start, "end": end });
            // As it was read, with the flags of before.
            let builds_on = version(&met);
            met = coach.put(format!("/fhir/{kept}"), &met).if_match(builds_on).await.expect(200).body;
            assert_eq!(flags(&met), expected, "{start} to {end}");
        }
        assert!(met["meta"].get("tag").is_none(), "{}", met["meta"]);
        let mut planned = json!({
            "resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": { "reference": journey.person },
            "period": { "start": "2026-03-02", "end": "2027-03-02" },
        });
        planned["meta"] = json!({ "tag": [{ "system": REFERRAL_FLAG, "code": "clinical-time-in-future" }] });
        let planned = record(&coach, &planned).await;
        assert_eq!(flags(&read(&coach, &planned).await), Vec::<String>::new(), "a plan may end next year");

        let measured = record(&coach, &activation(&app, &journey, "70.0", Some(3))).await;
        let mut pam = read(&coach, &measured).await;
        for (level, expected) in [(4, vec!["pam-level-disagrees"]), (3, vec![])] {
            pam["component"][0]["valueInteger"] = json!(level);
            let builds_on = version(&pam);
            pam = coach.put(format!("/fhir/{measured}"), &pam).if_match(builds_on).await.expect(200).body;
            assert_eq!(flags(&pam), expected, "{level}");
        }
    }

    async fn a_record_is_kept_whole_or_not_at_all(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        claim(&coach, &journey.task).await;
        let wrong = activation(&app, &journey, "101", None);
        let bundle = together(&[encounter(&app, &journey), goal(&journey), wrong]);
        let answer = coach.post("/fhir", &bundle).await.expect(422);
        assert!(refusal(&answer).1.starts_with("Bundle.entry[2].resource"), "{}", answer.text);
        assert_eq!(app.count("resource where kind in ('Encounter', 'Goal', 'Observation')").await, 0);
        assert_eq!(app.count("delivery").await, 0);
        assert_eq!(read(&coach, &journey.task).await["status"], "accepted");

        let made = transact(&coach, &[encounter(&app, &journey), goal(&journey)]).await;
        assert_eq!(made.len(), 2);
        assert_eq!(app.count("delivery").await, 1, "one unit of work is one delivery");
        assert_eq!(read(&coach, &journey.task).await["status"], "in-progress");
    }

    async fn a_practice_records_nothing_on_live_wells_behalf(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let practice = app.practice("TESTA1").await;
        let answer = practice.post("/fhir/Encounter", &encounter(&app, &journey)).await;
        assert!(matches!(answer.status, 201 | 403), "{}", answer.text);
        assert_eq!(app.count("delivery").await, 0, "what a practice sends is not written back to it");
        let coach = app.staff("coach-north").await;
        claim(&coach, &journey.task).await;
        complete(&coach, &journey.task, "accepted").await.expect(422);
    }
}

#[test]
fn which_pam_cut_offs_hold_is_a_setting() {
    let older = |config: &mut livewell::config::Config| config.pathway.pam_cut_offs = PamCutOffs::A;
    run_with(Database::Sqlite, older, |app: TestApp| async move {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &activation(&app, &journey, "70.0", Some(4))).await;
        assert_eq!(flags(&read(&coach, &kept).await), Vec::<String>::new());
        let other = record(&coach, &activation(&app, &journey, "70.0", Some(3))).await;
        assert_eq!(flags(&read(&coach, &other).await), ["pam-level-disagrees"]);
    });
}
