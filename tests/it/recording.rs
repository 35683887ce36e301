//! Recording: what staff did hangs on the referral it came of, and moves its pathway on.

use std::time::Duration;

use livewell::config::PamCutOffs;
use livewell::fhir::path;
use livewell::fhir::systems::{NHS_NUMBER, TASK_CODE, TASK_OUTCOME};
use serde_json::{Value, json};

use crate::journey::{
    Journey, activation, claim, complete, completed, encounter, goal, known, now, open_codes, open_tasks, parameters,
    read, record, refer, referral_of, referred, refusal, send, sharing, somebody, together, transact, version, work,
};
use crate::support::app::run_with;
use crate::support::build::concept;
use crate::support::caller::Caller;
use crate::support::{Database, TestApp, on_each_database};

const DAY: Duration = Duration::from_secs(24 * 3600);
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

/// The end of a Task's due period.
fn due(task: &Value) -> String {
    path::text(task, "restriction.period.end").unwrap().to_owned()
}

/// The referral an id's row belongs to.
async fn belongs_to(app: &TestApp, reference: &str) -> String {
    let (kind, id) = reference.split_once('/').unwrap();
    let rows = app.rows(&format!("select referral from resource where kind = '{kind}' and id = '{id}'")).await;
    format!("ServiceRequest/{}", rows[0][0].as_str().unwrap())
}

async fn the_one(app: &TestApp, journey: &Journey, code: &str) -> String {
    let mut tasks = open_tasks(app, journey, code).await;
    assert_eq!(tasks.len(), 1, "one open {code}");
    tasks.remove(0)
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

    async fn a_task_is_complete_when_what_it_requires_is_recorded(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        complete(&coach, &journey.task, "accepted").await.expect(422);
        claim(&coach, &journey.task).await;
        let missing = complete(&coach, &journey.task, "accepted").await.expect(422);
        assert!(refusal(&missing).0.contains("Encounter"), "it names what is missing: {}", missing.text);

        record(&coach, &encounter(&app, &journey)).await;
        let unknown = complete(&coach, &journey.task, "delighted").await.expect(422);
        for outcome in ["accepted", "declined", "no-answer", "unreachable", "signposted"] {
            assert!(refusal(&unknown).0.contains(outcome), "{}", unknown.text);
        }
        let said = parameters(json!([
            { "name": "outcome", "valueCode": "accepted" },
            { "name": "output", "valueReference": { "reference": "Encounter/not-here" } },
        ]));
        coach.post(format!("/fhir/{}/$complete", journey.task), &said).await.expect(422);
        let task = read(&coach, &journey.task).await;
        assert_eq!(task["status"], "in-progress", "nothing of it happened");
        assert_eq!(open_codes(&app, &journey).await, ["contact-patient"]);
    }

    async fn what_was_recorded_for_somebody_else_completes_nothing(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let journey = refer(&app, &practice, "TESTA1", "routine").await;
        let other = refer(&app, &practice, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let theirs = record(&coach, &encounter(&app, &other)).await;
        claim(&coach, &journey.task).await;
        let said = parameters(json!([
            { "name": "outcome", "valueCode": "accepted" },
            { "name": "output", "valueReference": { "reference": theirs } },
        ]));
        coach.post(format!("/fhir/{}/$complete", journey.task), &said).await.expect(422);
        // Nor does what was recorded and then taken back as an error.
        let kept = record(&coach, &encounter(&app, &journey)).await;
        let mut wrong = read(&coach, &kept).await;
        wrong["status"] = json!("entered-in-error");
        coach.put(format!("/fhir/{kept}"), &wrong).if_match(1).await.expect(200);
        complete(&coach, &journey.task, "accepted").await.expect(422);
    }

    async fn accepting_leads_to_the_first_meeting(app: TestApp) {
        let journey = known(&app, "TESTA1", "urgent").await;
        let coach = app.staff("coach-north").await;
        claim(&coach, &journey.task).await;
        let contact = record(&coach, &encounter(&app, &journey)).await;
        let said = parameters(json!([
            { "name": "outcome", "valueCode": "accepted" },
            { "name": "output", "valueReference": { "reference": contact } },
            { "name": "note", "valueString": "Would like to come with a friend" },
        ]));
        let done = coach.post(format!("/fhir/{}/$complete", journey.task), &said).await.expect(200).body;
        assert_eq!(done["status"], "completed");
        assert_eq!(path::text(&done, "businessStatus.coding.code"), Some("accepted"));
        assert_eq!(path::text(&done, "output.valueReference.reference"), Some(contact.as_str()));
        assert!(done["note"].to_string().contains("with a friend"), "{}", done["note"]);
        assert_eq!(path::text(&done, "executionPeriod.end").map(|t| &t[..16]), Some("2026-03-02T09:00"));

        let meeting = read(&coach, &the_one(&app, &journey, "first-meeting").await).await;
        assert_eq!(due(&meeting), "2026-03-16T09:00:00.000Z");
        assert_eq!(path::text(&meeting, "code.coding.system"), Some(TASK_CODE));
        for element in ["focus", "for", "basedOn", "location", "requester", "instantiatesCanonical"] {
            assert_eq!(meeting[element], done[element], "{element}");
        }
        assert_eq!((&meeting["status"], meeting.get("owner")), (&json!("requested"), None));
        assert_eq!(meeting["priority"], "urgent", "it stays as urgent as the referral");
        let practice = app.practice("TESTA1").await;
        assert_eq!(status(&practice, &journey, "state").await[0]["valueCode"], "active");
        let next = status(&practice, &journey, "next").await;
        assert!(next.len() == 1 && next[0].to_string().contains("first-meeting"), "{next:?}");
        complete(&coach, &journey.task, "accepted").await.expect(422);
        assert_eq!(open_codes(&app, &journey).await, ["first-meeting"], "completing again adds nothing");
    }

    async fn declining_ends_the_referral_its_plan_and_its_spell(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        work(&app, &coach, &journey, &journey.task, "accepted").await;
        app.clock.advance(MINUTE);
        let meeting = the_one(&app, &journey, "first-meeting").await;
        work(&app, &coach, &journey, &meeting, "coaching").await;
        app.clock.advance(MINUTE);
        assert_eq!(open_codes(&app, &journey).await.len(), 5);
        let session = the_one(&app, &journey, "session").await;
        work(&app, &coach, &journey, &session, "declined").await;

        assert_eq!(open_codes(&app, &journey).await, Vec::<String>::new());
        assert_eq!(app.count("task where status = 'cancelled' and code like 'review-%'").await, 4);
        let practice = app.practice("TESTA1").await;
        let request = read(&practice, &journey.referral).await;
        assert_eq!(request["status"], "completed");
        assert_eq!(request["reasonCode"][0]["text"], "Lonely since retirement", "the rest is as it was sent");
        let rows = app.rows("select kind, body from resource where kind in ('CarePlan', 'EpisodeOfCare') order by kind").await;
        let ended: Vec<Value> = rows.iter().map(|r| serde_json::from_str(r[1].as_str().unwrap()).unwrap()).collect();
        assert_eq!((&ended[0]["status"], &ended[1]["status"]), (&json!("completed"), &json!("finished")));
        assert!(ended.iter().all(|r| r["period"]["end"].is_string()), "{ended:?}");
        assert_eq!(app.count("episode where open").await, 0);
        assert_eq!(status(&practice, &journey, "state").await[0]["valueCode"], "closed");
        assert_eq!(status(&practice, &journey, "outcome").await[0]["valueCode"], "declined");
        assert_eq!(status(&practice, &journey, "next").await, Vec::<Value>::new());
    }

    async fn after_three_attempts_that_reached_nobody_a_letter_goes_and_then_it_closes(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        for attempt in 1..=3 {
            let coach = app.staff("coach-north").await;
            let task = the_one(&app, &journey, "contact-patient").await;
            claim(&coach, &task).await;
            let mut tried = encounter(&app, &journey);
            tried["status"] = json!("cancelled");
            tried["type"] = json!([concept("failed-encounter-no-answer")]);
            record(&coach, &tried).await;
            let done = complete(&coach, &task, "no-answer").await.expect(200).body;
            let counted = if attempt == 3 { "unreachable" } else { "no-answer" };
            assert_eq!(path::text(&done, "businessStatus.coding.code"), Some(counted), "attempt {attempt}");
            let open = if attempt == 3 { "send-letter" } else { "contact-patient" };
            assert_eq!(open_codes(&app, &journey).await, [open], "attempt {attempt}");
            let practice = app.practice("TESTA1").await;
            assert_eq!(status(&practice, &journey, "attempts").await[0]["valueInteger"], attempt);
            app.clock.advance(DAY);
        }
        let coach = app.staff("co-ordinator").await;
        let letter = the_one(&app, &journey, "send-letter").await;
        claim(&coach, &letter).await;
        let missing = complete(&coach, &letter, "sent").await.expect(422);
        assert!(refusal(&missing).0.contains("Communication"), "{}", missing.text);
        let sent = json!({
            "resourceType": "Communication", "status": "completed", "subject": { "reference": journey.person },
            "sent": now(&app), "medium": [concept("letter-to-patient")],
            "payload": [{ "contentString": "We tried to ring you." }],
        });
        record(&coach, &sent).await;
        complete(&coach, &letter, "sent").await.expect(200);
        let close = the_one(&app, &journey, "close").await;
        assert_eq!(due(&read(&coach, &close).await), "2026-04-02T09:00:00.000Z", "28 days after the letter");
        claim(&coach, &close).await;
        complete(&coach, &close, "unreachable").await.expect(200);
        let practice = app.practice("TESTA1").await;
        assert_eq!(status(&practice, &journey, "outcome").await[0]["valueCode"], "unreachable");
    }

    async fn the_first_meeting_brings_a_session_and_reviews_after_3_6_9_and_12_calendar_months(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        work(&app, &coach, &journey, &journey.task, "accepted").await;
        // The meeting is on 30 November: three months later has no 30th.
        app.clock.advance(273 * DAY);
        let coach = app.staff("coach-north").await;
        let meeting = the_one(&app, &journey, "first-meeting").await;
        work(&app, &coach, &journey, &meeting, "coaching").await;
        for (code, expected) in [
            ("session", "2026-12-14T09:00:00.000Z"),
            ("review-3-months", "2027-02-28T09:00:00.000Z"),
            ("review-6-months", "2027-05-30T09:00:00.000Z"),
            ("review-9-months", "2027-08-30T09:00:00.000Z"),
            ("review-12-months", "2027-11-30T09:00:00.000Z"),
        ] {
            assert_eq!(due(&read(&coach, &the_one(&app, &journey, code).await).await), expected, "{code}");
        }
    }

    async fn the_whole_pathway_is_walked_to_its_closure_and_begins_anew_after_a_re_referral(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let mut walked = vec![("contact-patient", "accepted", 0), ("first-meeting", "coaching", 10)];
        walked.extend([("session", "another-session", 14), ("session", "link-worker", 14), ("link-work", "completed", 14)]);
        walked.extend([("review-3-months", "continue", 40), ("review-6-months", "continue", 92)]);
        walked.extend([("review-9-months", "continue", 91), ("review-12-months", "moving-on", 90)]);
        for (code, outcome, days) in walked {
            app.settled().await;
            app.clock.advance(days * DAY);
            let staff = app.staff(if code == "link-work" { "link-north" } else { "coach-north" }).await;
            let task = the_one(&app, &journey, code).await;
            work(&app, &staff, &journey, &task, outcome).await;
        }
        let coach = app.staff("coach-north").await;
        assert_eq!(open_codes(&app, &journey).await, ["close"]);
        let close = the_one(&app, &journey, "close").await;
        claim(&coach, &close).await;
        complete(&coach, &close, "goals-achieved").await.expect(200);
        let practice = app.practice("TESTA1").await;
        assert_eq!(status(&practice, &journey, "state").await[0]["valueCode"], "closed");
        assert_eq!(status(&practice, &journey, "outcome").await[0]["valueCode"], "goals-achieved");
        app.settled().await;
        assert_eq!(app.rows("select code, status from task where open").await, Vec::<Vec<Value>>::new());
        assert_eq!(app.rows("select state, why from delivery where state <> 'delivered'").await, Vec::<Vec<Value>>::new());
        assert_eq!(app.count("task where status = 'completed'").await, 10);

        app.clock.advance(DAY);
        let practice = app.practice("TESTA1").await;
        let again = send(&app, &practice, &referral_of(&journey.nhs_number, "TESTA1", "routine")).await;
        assert_eq!(again.person, journey.person, "one person stays one person");
        assert_eq!(open_codes(&app, &again).await, ["contact-patient"]);
        let episodes = app.rows("select open from episode order by started_at").await;
        assert_eq!(episodes.len(), 2, "a new spell");
        assert_eq!(app.count("episode where open").await, 1);
        let coach = app.staff("coach-north").await;
        let goal = record(&coach, &goal(&again)).await;
        assert_eq!(belongs_to(&app, &goal).await, again.referral, "what comes now is of the new spell");
    }

    async fn what_a_co_ordinator_has_to_settle_neither_holds_a_pathway_up_nor_ends_with_it(app: TestApp) {
        // The practice does not know this person, so that the write-back needs somebody.
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        work(&app, &coach, &journey, &journey.task, "signposted").await;
        app.settled().await;
        let failed = "task where code = 'delivery-failed' and open";
        assert_eq!(app.count(failed).await, 1);
        let advice = the_one(&app, &journey, "signpost").await;
        let link = app.staff("link-north").await;
        work(&app, &link, &journey, &advice, "completed").await;
        app.settled().await;
        assert_eq!(app.count(failed).await, 1, "once is enough while nobody has taken it");
        assert_eq!(open_codes(&app, &journey).await, ["close"], "nothing else of the pathway is open");
        let close = the_one(&app, &journey, "close").await;
        claim(&coach, &close).await;
        complete(&coach, &close, "signposted").await.expect(200);
        assert_eq!(app.count(failed).await, 1, "the GP record still lacks what was done");
        let co_ordinator = app.staff("co-ordinator").await;
        let task = crate::journey::claim_next(&co_ordinator, "co-ordinator").await.expect(200).body;
        assert_eq!(path::text(&task, "code.coding.code"), Some("delivery-failed"));
    }

    async fn two_referrals_of_a_person_share_a_spell_that_ends_with_the_last(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let first = refer(&app, &practice, "TESTA1", "routine").await;
        let second = send(&app, &practice, &referral_of(&first.nhs_number, "TESTA1", "routine")).await;
        assert_eq!((&first.person, app.count("episode").await), (&second.person, 1));
        let coach = app.staff("coach-north").await;
        work(&app, &coach, &first, &first.task, "declined").await;
        assert_eq!(app.count("episode where open").await, 1);
        assert_eq!(open_codes(&app, &second).await, ["contact-patient"], "the other goes on");
        work(&app, &coach, &second, &second.task, "declined").await;
        assert_eq!(app.count("episode where open").await, 0);
    }

    async fn a_put_that_completes_a_task_does_what_complete_does(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let mut left = Vec::new();
        for by_put in [true, false] {
            let journey = refer(&app, &practice, "TESTA1", "routine").await;
            claim(&coach, &journey.task).await;
            let contact = record(&coach, &encounter(&app, &journey)).await;
            let url = format!("/fhir/{}", journey.task);
            if by_put {
                let task = read(&coach, &journey.task).await;
                let mut wanted = task.clone();
                wanted["status"] = json!("completed");
                let unsaid = coach.put(&url, &wanted).if_match(version(&task)).await.expect(422);
                assert_eq!(refusal(&unsaid).1, "Task.businessStatus");
                coach.put(&url, &completed(task.clone(), "delighted")).if_match(version(&task)).await.expect(422);
                let mut wanted = completed(task.clone(), "accepted");
                wanted["output"] = json!([{
                    "type": { "text": "contact" }, "valueReference": { "reference": contact },
                }]);
                let mut notes = task["note"].as_array().cloned().unwrap_or_default();
                notes.push(json!({ "text": "Rang at nine" }));
                wanted["note"] = json!(notes);
                coach.put(&url, &wanted).if_match(version(&task)).await.expect(200);
            } else {
                let said = parameters(json!([
                    { "name": "outcome", "valueCode": "accepted" },
                    { "name": "output", "valueReference": { "reference": contact } },
                    { "name": "note", "valueString": "Rang at nine" },
                ]));
                coach.post(format!("{url}/$complete"), &said).await.expect(200);
            }
            let task = read(&coach, &journey.task).await;
            let notes = path::all(&task, "note.text").len();
            assert!(task["note"].to_string().contains("Rang at nine"), "{}", task["note"]);
            let output = path::text(&task, "output.valueReference.reference") == Some(contact.as_str());
            let business = path::all(&task, "businessStatus.coding").into_iter().cloned().collect::<Vec<_>>();
            assert_eq!(business, [json!({ "system": TASK_OUTCOME, "code": "accepted" })]);
            left.push((task["status"].clone(), task["owner"].clone(), notes, output, open_codes(&app, &journey).await));
        }
        assert_eq!(left[0], left[1]);
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
