//! What can become of a Task, and who may change it.

use livewell::fhir::systems::ROLE;
use serde_json::{Value, json};

use crate::journey::{
    claim, complete, completed, encounter, open_codes, parameters, read, record, refer, referred, refusal, version,
};
use crate::queue::next;
use crate::support::caller::Caller;
use crate::support::{TestApp, on_each_database};

on_each_database! {
    async fn changing_a_task_needs_the_version_it_builds_on(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let mut task = read(&coach, &journey.task).await;
        task["note"] = json!([{ "text": "Prefers mornings" }]);
        let url = format!("/fhir/{}", journey.task);
        coach.put(&url, &task).await.expect(428);
        coach.put(&url, &task).if_match(7).await.expect(412);
        coach.put(&url, &task).if_match(1).await.expect(200);
        coach.put(&url, &task).if_match(1).await.expect(412);
        assert_eq!(version(&read(&coach, &journey.task).await), 2);
        let claim = format!("{url}/$claim");
        coach.post(&claim, &parameters(json!([]))).if_match(1).await.expect(412);
        coach.post(&claim, &parameters(json!([]))).if_match(2).await.expect(200);
        let done = parameters(json!([{ "name": "outcome", "valueCode": "accepted" }]));
        coach.post(format!("{url}/$complete"), &done).if_match(2).await.expect(412);
    }

    async fn of_two_changes_at_once_one_is_kept(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let task = read(&coach, &journey.task).await;
        let mut calls = tokio::task::JoinSet::new();
        for nth in 0..8 {
            let (coach, mut task, url) = (coach.clone(), task.clone(), format!("/fhir/{}", journey.task));
            task["note"] = json!([{ "text": format!("note {nth}") }]);
            calls.spawn(async move { coach.put(&url, &task).if_match(1).await.status });
        }
        let mut statuses = calls.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    }

    async fn a_put_can_do_what_the_state_machine_allows_and_nothing_else(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        for from in STATES {
            let mut kept = None;
            for to in STATES.into_iter().chain(["draft", "ready"]) {
                let allowed = from == to || allowed_from(from).contains(&to);
                let task = match kept.take() {
                    Some(task) => task,
                    None => in_state(&app, &practice, &coach, from).await,
                };
                let reference = format!("Task/{}", task["id"].as_str().unwrap());
                let answer = coach
                    .put(format!("/fhir/{reference}"), &changed_to(&task, to))
                    .if_match(version(&task))
                    .await;
                if allowed {
                    assert_eq!((answer.status, &answer.body["status"]), (200, &json!(to)), "{from} to {to}: {}", answer.text);
                } else {
                    assert_eq!(answer.status, 422, "{from} to {to}: {}", answer.text);
                    let (text, expression) = refusal(&answer);
                    assert!(expression == "Task.status" && !text.is_empty(), "{from} to {to}: {}", answer.text);
                    let now = read(&coach, &reference).await;
                    assert_eq!(now, task, "{from} to {to} changed something");
                    kept = Some(task);
                }
            }
        }
    }

    async fn a_task_stays_due_when_a_put_leaves_out_when_that_is(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let begun = in_state(&app, &practice, &coach, "in-progress").await;
        let url = format!("/fhir/Task/{}", begun["id"].as_str().unwrap());
        let mut paused = changed_to(&begun, "on-hold");
        paused.as_object_mut().unwrap().remove("restriction");
        let held = coach.put(&url, &paused).if_match(version(&begun)).await.expect(200).body;
        assert_eq!(held["restriction"], begun["restriction"]);
        let resumed = changed_to(&held, "in-progress");
        let resumed = coach.put(&url, &resumed).if_match(version(&held)).await.expect(200).body;
        assert_eq!(resumed["restriction"], begun["restriction"]);

        let mut far = resumed.clone();
        far["restriction"]["period"]["end"] = json!("9999-12-31");
        let refused = coach.put(&url, &far).if_match(version(&resumed)).await.expect(422);
        assert_eq!(refusal(&refused).1, "Task.restriction.period.end");
    }

    async fn a_pause_that_is_ended_in_the_wrong_way_says_the_right_one(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let held = in_state(&app, &practice, &coach, "on-hold").await;
        let url = format!("/fhir/Task/{}", held["id"].as_str().unwrap());
        let refused = coach.put(&url, &changed_to(&held, "accepted")).if_match(version(&held)).await.expect(422);
        let (text, expression) = refusal(&refused);
        assert!(expression == "Task.status" && text.contains("in-progress"), "{text}");
        assert!(!text.contains("taken") && !text.contains("Choose another"), "{text}");
        coach.put(&url, &changed_to(&held, "in-progress")).if_match(version(&held)).await.expect(200);
    }

    async fn what_keeps_a_task_from_being_complete_is_said_in_the_order_in_which_it_is_put_right(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let nobodys = complete(&coach, &journey.task, "nonsense").await.expect(422);
        assert!(refusal(&nobodys).0.contains("$claim"), "{}", nobodys.text);
        claim(&coach, &journey.task).await;
        let unknown = complete(&coach, &journey.task, "nonsense").await.expect(422);
        assert!(refusal(&unknown).1.contains("outcome"), "{}", unknown.text);
        let unrecorded = complete(&coach, &journey.task, "accepted").await.expect(422);
        assert_eq!(refusal(&unrecorded).1, "Task.output", "{}", unrecorded.text);
        record(&coach, &encounter(&app, &journey)).await;
        complete(&coach, &journey.task, "accepted").await.expect(200);
    }

    async fn what_the_pathway_sets_on_a_task_cannot_be_changed(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let other = referred(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let task = read(&coach, &journey.task).await;
        for (element, value) in [
            ("code", json!({ "text": "close" })),
            ("for", json!({ "reference": other.person })),
            ("focus", json!({ "reference": other.referral })),
            ("performerType", json!([{ "text": "anyone" }])),
            ("location", json!({ "reference": "Location/south" })),
            ("requester", json!({ "display": "somebody else" })),
            ("basedOn", json!([{ "reference": "CarePlan/another" }])),
            ("intent", json!("plan")),
            ("authoredOn", json!("2020-01-01")),
            ("description", json!("Do nothing")),
            ("input", Value::Null),
            ("partOf", json!([{ "reference": other.task }])),
        ] {
            let mut wanted = task.clone();
            match value {
                Value::Null => drop(wanted.as_object_mut().unwrap().remove(element)),
                value => wanted[element] = value,
            }
            let answer = coach.put(format!("/fhir/{}", journey.task), &wanted).if_match(1).await.expect(422);
            assert_eq!(refusal(&answer).1, format!("Task.{element}"));
        }
        let mut wanted = task.clone();
        wanted["priority"] = json!("stat");
        wanted["note"] = json!([{ "text": "The daughter rang" }]);
        coach.put(format!("/fhir/{}", journey.task), &wanted).if_match(1).await.expect(200);
        let now = read(&coach, &journey.task).await;
        assert_eq!((&now["priority"], &now["note"][0]["text"]), (&json!("stat"), &json!("The daughter rang")));
        assert_eq!(next(&coach, "health-coach").await, Some(journey.task), "the urgent one comes first now");
        assert_eq!(next(&coach, "health-coach").await, Some(other.task));
    }

    async fn a_practice_reads_its_tasks_and_changes_none(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let practice = app.practice("TESTA1").await;
        let mut task = read(&practice, &journey.task).await;
        task["status"] = json!("cancelled");
        practice.put(format!("/fhir/{}", journey.task), &task).if_match(1).await.expect(403);
        practice.post(format!("/fhir/{}/$complete", journey.task), &done("declined")).await.expect(403);
        let other = app.practice("TESTA2").await;
        other.get(format!("/fhir/{}", journey.task)).await.expect(404);
        let coach = app.staff("coach-north").await;
        assert_eq!(version(&read(&coach, &journey.task).await), 1);
    }

    async fn a_colleagues_task_is_theirs_until_they_release_it(app: TestApp) {
        let journey = referred(&app, "TESTA4", "routine").await;
        let north = app.staff("coach-north").await;
        let south = app.staff("coach-south").await;
        claim(&north, &journey.task).await;
        record(&north, &encounter(&app, &journey)).await;
        let task = read(&south, &journey.task).await;
        let url = format!("/fhir/{}", journey.task);
        complete(&south, &journey.task, "declined").await.expect(409);
        let mut held = task.clone();
        held["status"] = json!("on-hold");
        south.put(&url, &held).if_match(version(&task)).await.expect(409);
        let mut taken = task.clone();
        taken["owner"] = json!({ "reference": "PractitionerRole/coach-south" });
        south.put(&url, &taken).if_match(version(&task)).await.expect(422);
        assert_eq!(read(&north, &journey.task).await, task);
        // The co-ordinator allocates: they may release what is anybody's.
        let co_ordinator = app.staff("co-ordinator").await;
        co_ordinator.post(format!("{url}/$release"), &parameters(json!([]))).await.expect(200);
        claim(&south, &journey.task).await;
    }

    async fn a_co_ordinator_gives_a_task_to_one_who_could_take_it_and_to_nobody_else(app: TestApp) {
        let journey = referred(&app, "TESTA1", "routine").await;
        let co_ordinator = app.staff("co-ordinator").await;
        let coach = |id: &str, changes: Value| {
            let mut role = json!({
                "resourceType": "PractitionerRole", "id": id, "active": true,
                "organization": { "reference": "Organization/live-well" },
                "code": [{ "coding": [{ "system": ROLE, "code": "health-coach" }] }],
                "location": [{ "reference": "Location/north" }],
            });
            role.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            json!({ "resource": role })
        };
        let another = json!({ "organization": { "reference": "Organization/testa2" } });
        let staff = [coach("gone", json!({ "active": false })), coach("another", another), coach("new", json!({}))];
        app.load(&json!({ "resourceType": "Bundle", "type": "collection", "entry": staff })).await;
        let task = read(&co_ordinator, &journey.task).await;
        let url = format!("/fhir/{}", journey.task);
        let given = |to: String| {
            let mut given = changed_to(&task, "accepted");
            given["owner"] = json!({ "reference": to });
            given
        };
        for (to, why) in [
            ("gone", "not active"),
            ("another", "another organisation"),
            ("link-north", "the role health-coach"),
            ("coach-south", "another locality"),
            ("nobody", "PractitionerRole/id"),
        ] {
            let given = given(format!("PractitionerRole/{to}"));
            let refused = co_ordinator.put(&url, &given).if_match(1).await.expect(422);
            let (text, expression) = refusal(&refused);
            assert!(expression == "Task.owner" && text.contains(why), "{to}: {}", refused.text);
        }
        assert_eq!(read(&co_ordinator, &journey.task).await, task);
        // Our own URL means the same.
        let absolute = given(format!("{}/fhir/PractitionerRole/new", app.base));
        let kept = co_ordinator.put(&url, &absolute).if_match(1).await.expect(200).body;
        assert_eq!(kept["owner"]["reference"], "PractitionerRole/new");
        let mut noted = kept.clone();
        noted["owner"] = absolute["owner"].clone();
        noted["note"] = json!([{ "text": "Prefers mornings" }]);
        let kept = co_ordinator.put(&url, &noted).if_match(2).await.expect(200).body;
        assert_eq!(kept["owner"]["reference"], "PractitionerRole/new");
    }
}

const STATES: [&str; 10] = [
    "requested",
    "received",
    "accepted",
    "in-progress",
    "on-hold",
    "completed",
    "failed",
    "rejected",
    "cancelled",
    "entered-in-error",
];

/// The NHS workflow's state machine with a queue's additions (design, Task queue).
fn allowed_from(state: &str) -> &'static [&'static str] {
    match state {
        "requested" => &["received", "accepted", "rejected", "cancelled", "entered-in-error"],
        "received" => &["accepted", "rejected", "cancelled", "entered-in-error"],
        "accepted" => &["requested", "in-progress", "on-hold", "completed", "cancelled", "entered-in-error"],
        "in-progress" => &["requested", "on-hold", "completed", "failed", "cancelled", "entered-in-error"],
        "on-hold" => &["requested", "in-progress", "cancelled", "entered-in-error"],
        "rejected" => &["cancelled", "entered-in-error"],
        "completed" | "failed" | "cancelled" => &["entered-in-error"],
        _ => &[],
    }
}

/// The Task as a caller sends it to bring it to `to`.
fn changed_to(task: &Value, to: &str) -> Value {
    let mut wanted = if to == "completed" { completed(task.clone(), "accepted") } else { task.clone() };
    wanted["status"] = json!(to);
    match to {
        "requested" | "received" => drop(wanted.as_object_mut().unwrap().remove("owner")),
        "accepted" | "in-progress" | "on-hold" => {
            wanted["owner"] = json!({ "reference": "PractitionerRole/coach-north" });
        }
        _ => {}
    }
    wanted
}

fn done(outcome: &str) -> Value {
    parameters(json!([{ "name": "outcome", "valueCode": outcome }]))
}

/// A Task of a new referral, brought to this state by PUTs.
async fn in_state(app: &TestApp, practice: &Caller, coach: &Caller, state: &str) -> Value {
    let journey = refer(app, practice, "TESTA1", "routine").await;
    // Recorded before the Task is claimed, so that it can be completed from accepted.
    record(coach, &encounter(app, &journey)).await;
    let way: &[&str] = match state {
        "requested" => &[],
        "in-progress" => &["accepted", "in-progress"],
        "on-hold" => &["accepted", "on-hold"],
        "completed" => &["accepted", "completed"],
        "failed" => &["accepted", "in-progress", "failed"],
        "received" => &["received"],
        "accepted" => &["accepted"],
        "rejected" => &["rejected"],
        "cancelled" => &["cancelled"],
        _ => &["entered-in-error"],
    };
    let mut task = read(coach, &journey.task).await;
    for step in way {
        let wanted = changed_to(&task, step);
        task = coach.put(format!("/fhir/{}", journey.task), &wanted).if_match(version(&task)).await.expect(200).body;
    }
    if state == "completed" {
        assert_eq!(open_codes(app, &journey).await, ["first-meeting"], "a PUT completes as $complete does");
    }
    task
}
