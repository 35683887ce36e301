//! The task queue: who gets which Task, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::journey::{claim, claim_next, open_tasks, parameters, read, refer, referred, refusal, version, work};
use crate::support::caller::Caller;
use crate::support::{TestApp, on_each_database};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The Task an answer hands out.
fn handed_out(answer: &crate::support::caller::Answer) -> Option<String> {
    match answer.status {
        200 => Some(format!("Task/{}", answer.body["id"].as_str().unwrap())),
        204 => None,
        other => panic!("$claim-next answered {other}: {}", answer.text),
    }
}

pub(crate) async fn next(caller: &Caller, role: &str) -> Option<String> {
    handed_out(&claim_next(caller, role).await)
}

async fn next_of(caller: &Caller, role: &str, name: &str, value: Value) -> crate::support::caller::Answer {
    let member = if value.is_object() { "valueReference" } else { "valueCode" };
    let of = json!({ "name": name, member: value });
    let asked = parameters(json!([{ "name": "role", "valueCode": role }, of]));
    caller.post("/fhir/Task/$claim-next", &asked).await
}

on_each_database! {
    async fn the_most_urgent_task_is_handed_out_first_and_then_the_one_due_soonest(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut tasks = Vec::new();
        for priority in ["routine", "", "urgent", "stat", "asap"] {
            tasks.push(refer(&app, &practice, "TESTA1", priority).await.task);
            app.clock.advance(Duration::from_secs(5));
        }
        let coach = app.staff("coach-north").await;
        for expected in [3, 4, 2, 0, 1] {
            assert_eq!(next(&coach, "health-coach").await.as_ref(), Some(&tasks[expected]));
        }
        assert_eq!(next(&coach, "health-coach").await, None, "204 when there is none");
    }

    async fn a_task_handed_out_is_accepted_and_the_callers(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let answer = claim_next(&coach, "health-coach").await;
        assert_eq!(handed_out(&answer).as_ref(), Some(&journey.task));
        assert_eq!(answer.body["status"], "accepted");
        assert_eq!(answer.body["owner"]["reference"], "PractitionerRole/coach-north");
        assert_eq!(read(&coach, &journey.task).await, answer.body);
        let claims = app.count(&format!("audit where interaction = '$claim-next' and target = '{}'", journey.task)).await;
        assert_eq!(claims, 1);
    }

    async fn a_coach_is_given_tasks_of_their_own_locality_and_of_none(app: TestApp) {
        let north = referred(&app, "TESTA1", "routine").await;
        let nowhere = referred(&app, "TESTA4", "routine").await;
        let south = app.staff("coach-south").await;
        assert_eq!(next(&south, "health-coach").await.as_ref(), Some(&nowhere.task), "a Task without locality is anyone's");
        assert_eq!(next(&south, "health-coach").await, None);
        let coach = app.staff("coach-north").await;
        assert_eq!(next(&coach, "health-coach").await.as_ref(), Some(&north.task));
    }

    async fn claim_next_is_narrowed_by_locality_and_by_practice(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let north = refer(&app, &practice, "TESTA1", "routine").await;
        let central = referred(&app, "TESTA2", "routine").await;
        let south = referred(&app, "TESTA3", "routine").await;
        let co_ordinator = app.staff("co-ordinator").await;
        let of_south = next_of(&co_ordinator, "health-coach", "location", json!({ "reference": "Location/south" })).await;
        assert_eq!(handed_out(&of_south), Some(south.task));
        let of_central = next_of(&co_ordinator, "health-coach", "practice", json!("TESTA2")).await;
        assert_eq!(handed_out(&of_central), Some(central.task));
        let none_left = next_of(&co_ordinator, "health-coach", "practice", json!("TESTA2")).await;
        assert_eq!(handed_out(&none_left), None);
        assert_eq!(next(&co_ordinator, "health-coach").await, Some(north.task));
    }

    async fn work_is_refused_to_another_role_another_locality_and_to_who_is_no_person(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let link = app.staff("link-north").await;
        claim_next(&link, "health-coach").await.expect(403);
        assert_eq!(next(&link, "link-worker").await, None);
        link.post(format!("/fhir/{}/$claim", journey.task), &parameters(json!([]))).await.expect(403);

        let south = app.staff("coach-south").await;
        next_of(&south, "health-coach", "location", json!({ "reference": "Location/north" })).await.expect(403);
        // What one may not see and what is not there answer alike.
        south.post(format!("/fhir/{}/$claim", journey.task), &parameters(json!([]))).await.expect(404);

        let system = app.system().await;
        claim_next(&system, "health-coach").await.expect(403);
        let practice = app.practice("TESTA1").await;
        claim_next(&practice, "health-coach").await.expect(403);
        practice.post(format!("/fhir/{}/$claim", journey.task), &parameters(json!([]))).await.expect(403);

        let coach = app.staff("coach-north").await;
        assert_eq!(version(&read(&coach, &journey.task).await), 1, "nobody changed it");
        coach.post("/fhir/Task/$claim-next", &parameters(json!([]))).await.expect(422);
    }

    async fn thirty_two_callers_share_the_queue_without_a_task_twice_or_left(app: TestApp) {
        let practice = app.practice("TESTA4").await;
        let mut tasks = BTreeSet::new();
        for _ in 0..48 {
            tasks.insert(refer(&app, &practice, "TESTA4", "routine").await.task);
        }
        let mut callers = Vec::new();
        for nth in 0..32 {
            let name = ["coach-north", "coach-central", "coach-south"][nth % 3];
            callers.push((name, app.staff(name).await));
        }
        let mut working = tokio::task::JoinSet::new();
        for (name, caller) in callers {
            working.spawn(async move {
                let mut mine = Vec::new();
                while let Some(task) = next(&caller, "health-coach").await {
                    mine.push((task, format!("PractitionerRole/{name}")));
                }
                mine
            });
        }
        let given = working.join_all().await.concat();
        let distinct: BTreeSet<String> = given.iter().map(|(task, _)| task.clone()).collect();
        assert_eq!(given.len(), distinct.len(), "no Task is handed out twice");
        assert_eq!(distinct, tasks, "none is left");
        for (task, owner) in given {
            let id = task.trim_start_matches("Task/");
            let one = app.count(&format!("task where id = '{id}' and owner = '{owner}' and version = 2")).await;
            assert_eq!(one, 1, "{task} belongs to the one who got it");
            let claims = app.count(&format!("audit where interaction = '$claim-next' and target = '{task}'")).await;
            assert_eq!(claims, 1);
        }
    }

    async fn a_repeated_claim_next_with_the_same_key_gets_the_same_task(app: TestApp) {
        let practice = app.practice("TESTA4").await;
        for _ in 0..4 {
            refer(&app, &practice, "TESTA4", "routine").await;
        }
        let coach = app.staff("coach-north").await;
        let asked = parameters(json!([{ "name": "role", "valueCode": "health-coach" }]));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (coach, asked) = (coach.clone(), asked.clone());
            calls.spawn(async move {
                handed_out(&coach.post("/fhir/Task/$claim-next", &asked).header("Idempotency-Key", "key-1").await)
            });
        }
        let given: BTreeSet<_> = calls.join_all().await.into_iter().collect();
        assert_eq!(given.len(), 1, "{given:?}");
        assert_eq!(app.count("task where owner <> ''").await, 1);
        let other = coach.post("/fhir/Task/$claim-next", &asked).header("Idempotency-Key", "key-2").await;
        assert!(!given.contains(&handed_out(&other)));
        // A key means one question: another under the same key is a mistake of the caller.
        let changed = parameters(json!([
            { "name": "role", "valueCode": "health-coach" }, { "name": "practice", "valueCode": "TESTA1" },
        ]));
        coach.post("/fhir/Task/$claim-next", &changed).header("Idempotency-Key", "key-1").await.expect(422);
        // Another client's key is its own.
        let south = app.staff("coach-south").await;
        let theirs = south.post("/fhir/Task/$claim-next", &asked).header("Idempotency-Key", "key-1").await;
        assert!(!given.contains(&handed_out(&theirs)));
    }

    async fn a_task_that_was_seen_is_still_handed_out(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let mut task = read(&coach, &journey.task).await;
        task["status"] = json!("received");
        coach.put(format!("/fhir/{}", journey.task), &task).if_match(1).await.expect(200);
        assert_eq!(next(&coach, "health-coach").await, Some(journey.task));
    }

    async fn a_review_is_handed_out_three_weeks_before_it_is_due_and_not_sooner(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        work(&app, &coach, &journey, &journey.task, "accepted").await;
        app.clock.advance(Duration::from_secs(60));
        let meeting = open_tasks(&app, &journey, "first-meeting").await.remove(0);
        work(&app, &coach, &journey, &meeting, "coaching").await;
        let session = open_tasks(&app, &journey, "session").await;
        assert_eq!(next(&coach, "health-coach").await.as_ref(), session.first());
        assert_eq!(next(&coach, "health-coach").await, None, "no review is anybody's work today");

        // First meeting 2 March 2026; due 2 June, 2 September, 2 December, 2 March 2027.
        app.clock.advance(365 * DAY - 22 * DAY);
        let coach = app.staff("coach-north").await;
        for code in ["review-3-months", "review-6-months", "review-9-months"] {
            let expected = open_tasks(&app, &journey, code).await;
            assert_eq!(next(&coach, "health-coach").await.as_ref(), expected.first(), "{code}");
        }
        assert_eq!(next(&coach, "health-coach").await, None, "22 days before it is due");
        app.clock.advance(DAY);
        let coach = app.staff("coach-north").await;
        let last = open_tasks(&app, &journey, "review-12-months").await;
        assert_eq!(next(&coach, "health-coach").await.as_ref(), last.first());
    }

    async fn a_task_that_is_owned_cannot_be_claimed_and_comes_back_by_release(app: TestApp) {
        let journey = referred(&app, "TESTA4", "routine").await;
        let north = app.staff("coach-north").await;
        let south = app.staff("coach-south").await;
        claim(&north, &journey.task).await;
        for (caller, said) in [(&south, "taken"), (&north, "yours already")] {
            let taken = caller.post(format!("/fhir/{}/$claim", journey.task), &parameters(json!([]))).await.expect(409);
            assert!(refusal(&taken).0.contains(said), "{}", taken.text);
        }
        let release = format!("/fhir/{}/$release", journey.task);
        south.post(&release, &parameters(json!([]))).await.expect(409);
        north.post(&release, &parameters(json!([]))).if_match(1).await.expect(412);
        let released = north.post(&release, &parameters(json!([]))).if_match(2).await.expect(200).body;
        assert_eq!((&released["status"], released.get("owner")), (&json!("requested"), None));
        north.post(&release, &parameters(json!([]))).await.expect(422);
        assert_eq!(next(&south, "health-coach").await, Some(journey.task), "it is in the queue again");
    }

    async fn a_claim_of_a_task_whose_work_has_ended_says_that_it_has(app: TestApp) {
        let journey = referred(&app, "TESTA4", "routine").await;
        let north = app.staff("coach-north").await;
        let south = app.staff("coach-south").await;
        work(&app, &north, &journey, &journey.task, "accepted").await;
        for caller in [&north, &south] {
            for operation in ["$claim", "$release"] {
                let ended = caller.post(format!("/fhir/{}/{operation}", journey.task), &parameters(json!([]))).await;
                let (text, expression) = refusal(&ended);
                assert!(matches!(ended.status, 409 | 422) && expression.starts_with("Task."), "{operation}: {}", ended.text);
                assert!(text.contains("completed") && !text.contains("owns it"), "{operation}: {text}");
            }
        }
        north.post(format!("/fhir/{}/$claim", journey.task), &parameters(json!([]))).await.expect(409);
    }

    async fn an_operation_without_parameters_reads_the_body_it_is_sent_and_takes_none_as_none(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let unknown = parameters(json!([{ "name": "role", "valueCode": "health-coach" }])).to_string();
        let another = read(&coach, &journey.referral).await.to_string();
        let json = "application/fhir+json";
        for (operation, nothing) in [
            (format!("{}/$claim", journey.task), ""),
            (format!("{}/$release", journey.task), "{}"),
            (format!("{}/$status", journey.referral), "null"),
            (format!("{}/$deliveries", journey.referral), r#"{"resourceType":"Parameters"}"#),
        ] {
            let before = read(&coach, &journey.task).await;
            let post = |media: &str, body: &str| coach.send(Method::POST, operation.as_str()).text(media, body);
            for (media, body, status) in [
                (json, "{", 400),
                (json, another.as_str(), 400),
                (json, unknown.as_str(), 400),
                ("text/plain", "claim", 415),
            ] {
                let refused = post(media, body).await.expect(status);
                assert_eq!(refused.body["resourceType"], "OperationOutcome", "{operation}: {}", refused.text);
            }
            assert_eq!(read(&coach, &journey.task).await, before, "{operation} changed something");
            post(json, nothing).await.expect(200);
        }
    }

    async fn of_many_who_claim_one_task_at_once_one_gets_it(app: TestApp) {
        let journey = referred(&app, "TESTA4", "routine").await;
        let mut calls = tokio::task::JoinSet::new();
        for nth in 0..32 {
            let coach = app.staff(["coach-north", "coach-central", "coach-south"][nth % 3]).await;
            let url = format!("/fhir/{}/$claim", journey.task);
            calls.spawn(async move {
                let answer = coach.post(url, &parameters(json!([]))).await;
                (answer.status, answer.body["owner"]["reference"].clone())
            });
        }
        let answers = calls.join_all().await;
        let (got, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 200);
        assert!(got.len() == 1 && refused.iter().all(|(status, _)| *status == 409), "{got:?} {refused:?}");
        let coach = app.staff("coach-north").await;
        let task = read(&coach, &journey.task).await;
        assert_eq!((&task["owner"]["reference"], version(&task)), (&got[0].1, 2));
    }
}
