//! The pathway: what is recorded completes a Task, and what comes next follows from its outcome.

use std::time::Duration;

use livewell::fhir::path;
use livewell::fhir::systems::{TASK_CODE, TASK_OUTCOME};
use serde_json::{Value, json};

use crate::journey::{
    Journey, claim, complete, completed, encounter, goal, known, now, open_codes, open_tasks, parameters, read, record,
    refer, referral_of, referred, refusal, send, version, work,
};
use crate::support::build::concept;
use crate::support::caller::Caller;
use crate::support::{TestApp, on_each_database};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

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

    async fn a_meeting_that_did_not_take_place_completes_nothing_that_needs_one(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        claim(&coach, &journey.task).await;
        let mut of_status = encounter(&app, &journey);
        for (status, outcome) in [("planned", "accepted"), ("planned", "no-answer"), ("cancelled", "accepted")] {
            of_status["status"] = json!(status);
            let kept = record(&coach, &of_status).await;
            let said = parameters(json!([
                { "name": "outcome", "valueCode": outcome },
                { "name": "output", "valueReference": { "reference": kept } },
            ]));
            let missing = coach.post(format!("/fhir/{}/$complete", journey.task), &said).await.expect(422);
            assert!(refusal(&missing).0.contains("planned"), "{status}: {}", missing.text);
            complete(&coach, &journey.task, "signposted").await.expect(422);
        }
        // What was planned then took place.
        let planned = record(&coach, &of_status).await;
        let mut met = read(&coach, &planned).await;
        met["status"] = json!("in-progress");
        coach.put(format!("/fhir/{planned}"), &met).if_match(1).await.expect(200);
        complete(&coach, &journey.task, "accepted").await.expect(200);
    }

    async fn reviews_count_from_the_meeting_however_it_is_named(app: TestApp) {
        let coach = app.staff("coach-north").await;
        let practice = app.practice("TESTA1").await;
        let mut journeys = Vec::new();
        for _ in 0..5 {
            let journey = refer(&app, &practice, "TESTA1", "routine").await;
            work(&app, &coach, &journey, &journey.task, "accepted").await;
            journeys.push(journey);
        }
        app.clock.advance(30 * DAY);
        let coach = app.staff("coach-north").await;
        for (at, journey) in journeys.iter().enumerate() {
            let task = the_one(&app, journey, "first-meeting").await;
            claim(&coach, &task).await;
            let mut met = encounter(&app, journey);
            met["period"] = json!({ "start": "2026-03-12T09:00:00Z", "end": "2026-03-12T10:00:00Z" });
            let kept = record(&coach, &met).await;
            let output = json!({ "reference": match at {
                0 => kept.clone(),
                1 | 3 => format!("{}/fhir/{kept}", app.base),
                _ => format!("{kept}/_history/1"),
            }});
            let done = if at < 3 {
                let said = parameters(json!([
                    { "name": "outcome", "valueCode": "coaching" }, { "name": "output", "valueReference": output },
                ]));
                coach.post(format!("/fhir/{task}/$complete"), &said).await.expect(200).body
            } else {
                let claimed = read(&coach, &task).await;
                let mut wanted = completed(claimed.clone(), "coaching");
                wanted["output"] = json!([{ "type": { "text": "meeting" }, "valueReference": output }]);
                coach.put(format!("/fhir/{task}"), &wanted).if_match(version(&claimed)).await.expect(200).body
            };
            assert_eq!(path::text(&done, "output.valueReference.reference"), Some(kept.as_str()));
            let review = the_one(&app, journey, "review-3-months").await;
            assert_eq!(due(&read(&coach, &review).await), "2026-06-12T09:00:00.000Z", "{output}");
        }
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
    async fn the_care_manager_of_a_spell_is_who_last_began_a_step_of_the_pathway(app: TestApp) {
        let journey = referred(&app, "TESTA4", "routine").await;
        let (north, south) = (app.staff("coach-north").await, app.staff("coach-south").await);
        let co_ordinator = app.staff("co-ordinator").await;
        let manager = async || {
            let referral = journey.referral.trim_start_matches("ServiceRequest/");
            let found = app.rows(&format!("select episode from referral where id = '{referral}'")).await;
            read(&north, &format!("EpisodeOfCare/{}", found[0][0].as_str().unwrap())).await["careManager"].clone()
        };
        claim(&north, &journey.task).await;
        assert_eq!(manager().await, Value::Null, "nothing is done yet");
        record(&north, &encounter(&app, &journey)).await;
        assert_eq!(manager().await["reference"], "PractitionerRole/coach-north");
        complete(&north, &journey.task, "accepted").await.expect(200);

        let meeting = the_one(&app, &journey, "first-meeting").await;
        claim(&co_ordinator, &meeting).await;
        record(&co_ordinator, &encounter(&app, &journey)).await;
        assert_eq!(manager().await["reference"], "PractitionerRole/coach-north", "a co-ordinator only helps out");
        co_ordinator.post(format!("/fhir/{meeting}/$release"), &parameters(json!([]))).await.expect(200);
        claim(&south, &meeting).await;
        record(&south, &encounter(&app, &journey)).await;
        assert_eq!(manager().await["reference"], "PractitionerRole/coach-south");
    }
}
