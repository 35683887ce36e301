//! The task queue: who gets which Task when, and what can become of it.

use std::collections::BTreeSet;
use std::time::Duration;

use livewell::fhir::path;
use serde_json::{Value, json};

use crate::journey::{
    claim, claim_next, complete, completed, encounter, known, open_codes, open_tasks, parameters, read, record, refer,
    referred, refusal, send, somebody, version, work,
};
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

async fn next(caller: &Caller, role: &str) -> Option<String> {
    handed_out(&claim_next(caller, role).await)
}

async fn next_of(caller: &Caller, role: &str, name: &str, value: Value) -> crate::support::caller::Answer {
    let member = if value.is_object() { "valueReference" } else { "valueCode" };
    let of = json!({ "name": name, member: value });
    let asked = parameters(json!([{ "name": "role", "valueCode": role }, of]));
    caller.post("/fhir/Task/$claim-next", &asked).await
}

/// Every match of a search, over all its pages, in order.
async fn found(caller: &Caller, search: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut url = Some(format!("/fhir/Task?{search}"));
    while let Some(this) = url {
        let page = caller.get(&this).await.expect(200).body;
        all.extend(path::all(&page, "entry.resource").into_iter().cloned());
        url = next_page(&page);
    }
    all
}

fn next_page(page: &Value) -> Option<String> {
    let links = page["link"].as_array()?;
    let next = links.iter().find(|l| l["relation"] == "next")?["url"].as_str()?.to_owned();
    Some(format!("/fhir/{}", next.rsplit_once("/fhir/").unwrap().1))
}

async fn ids(caller: &Caller, search: &str) -> Vec<String> {
    found(caller, search).await.iter().map(|t| format!("Task/{}", t["id"].as_str().unwrap())).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
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
        for caller in [&south, &north] {
            let taken = caller.post(format!("/fhir/{}/$claim", journey.task), &parameters(json!([]))).await.expect(409);
            assert!(refusal(&taken).0.contains("taken"), "{}", taken.text);
        }
        let release = format!("/fhir/{}/$release", journey.task);
        south.post(&release, &parameters(json!([]))).await.expect(409);
        north.post(&release, &parameters(json!([]))).if_match(1).await.expect(412);
        let released = north.post(&release, &parameters(json!([]))).if_match(2).await.expect(200).body;
        assert_eq!((&released["status"], released.get("owner")), (&json!("requested"), None));
        north.post(&release, &parameters(json!([]))).await.expect(422);
        assert_eq!(next(&south, "health-coach").await, Some(journey.task), "it is in the queue again");
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

    async fn tasks_are_found_by_each_of_their_parameters(app: TestApp) {
        let north = known(&app, "TESTA1", "urgent").await;
        app.clock.advance(Duration::from_secs(60));
        let central = known(&app, "TESTA2", "routine").await;
        let worked = known(&app, "TESTA1", "stat").await;
        let coach = app.staff("coach-north").await;
        work(&app, &coach, &worked, &worked.task, "accepted").await;
        let meeting = open_tasks(&app, &worked, "first-meeting").await.remove(0);
        claim(&coach, &meeting).await;
        let system = app.system().await;

        let (n, c, w, m) = (&north.task, &central.task, &worked.task, &meeting);
        let id = |reference: &str| reference.split_once('/').unwrap().1.to_owned();
        let due = |day: &str| format!("due={day}");
        for (search, expected) in [
            (format!("_id={}", id(n)), vec![n]),
            ("status=requested".to_owned(), vec![n, c]),
            ("status=requested,accepted".to_owned(), vec![n, c, m]),
            ("status=completed".to_owned(), vec![w]),
            ("status:not=completed".to_owned(), vec![n, c, m]),
            ("code=first-meeting".to_owned(), vec![m]),
            ("code=https://livewell.example/CodeSystem/task-code|contact-patient".to_owned(), vec![n, c, w]),
            ("owner=PractitionerRole/coach-north".to_owned(), vec![w, m]),
            ("owner=coach-north".to_owned(), vec![w, m]),
            ("owner=PractitionerRole/coach-south".to_owned(), vec![]),
            ("owner:missing=true".to_owned(), vec![n, c]),
            ("owner:missing=false".to_owned(), vec![w, m]),
            ("performer=health-coach".to_owned(), vec![n, c, w, m]),
            ("performer=link-worker".to_owned(), vec![]),
            (format!("focus={}", central.referral), vec![c]),
            (format!("focus={}", id(&worked.referral)), vec![w, m]),
            (format!("patient={}", north.person), vec![n]),
            (format!("patient={}", id(&worked.person)), vec![w, m]),
            (format!("patient.identifier=https://fhir.nhs.uk/Id/nhs-number|{}", central.nhs_number), vec![c]),
            ("patient=Patient/nobody".to_owned(), vec![]),
            ("location=Location/central".to_owned(), vec![c]),
            ("location=north&status=requested".to_owned(), vec![n]),
            ("priority=urgent".to_owned(), vec![n]),
            ("priority=stat".to_owned(), vec![w, m]),
            // Contact is due after 24 h above routine, after 48 h else; the first meeting after 14 days.
            (due("2026-03-03"), vec![n, w]),
            (due("lt2026-03-04"), vec![n, w]),
            (due("ge2026-03-04"), vec![c, m]),
            (due("gt2026-03-04"), vec![m]),
            (due("le2026-03-04"), vec![n, c, w]),
            ("due=ge2026-03-03&due=lt2026-03-05".to_owned(), vec![n, c, w]),
            (due("eq2026-03-03T09:00:00Z"), vec![n]),
            ("overdue=true".to_owned(), vec![]),
            ("status=requested&status=completed".to_owned(), vec![]),
            ("code=first-meeting&status=requested".to_owned(), vec![]),
        ] {
            let expected: Vec<String> = expected.into_iter().cloned().collect();
            assert_eq!(sorted(ids(&system, &search).await), sorted(expected), "{search}");
        }

        app.clock.advance(3 * DAY);
        let system = app.system().await;
        assert_eq!(sorted(ids(&system, "overdue=true").await), sorted(vec![n.clone(), c.clone()]));
        assert_eq!(sorted(ids(&system, "overdue=false").await), sorted(vec![w.clone(), m.clone()]));

        let unknown = system.get("/fhir/Task?colour=red").await.expect(400);
        assert!(unknown.text.contains("colour"), "{}", unknown.text);
        for wrong in ["due=yesterday", "owner:missing=perhaps", "overdue=1", "_sort=patient", "_count=many"] {
            assert_eq!(system.get(format!("/fhir/Task?{wrong}")).await.status, 400, "{wrong}");
        }
    }

    async fn a_work_list_ranks_by_priority_and_then_by_due_time(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut tasks = Vec::new();
        for priority in ["routine", "urgent", "", "stat", "asap", "urgent"] {
            tasks.push(refer(&app, &practice, "TESTA1", priority).await.task);
            app.clock.advance(Duration::from_secs(3));
        }
        let expected: Vec<String> = [3, 4, 1, 5, 0, 2].map(|at: usize| tasks[at].clone()).to_vec();
        let coach = app.staff("coach-north").await;
        assert_eq!(ids(&coach, "_sort=-priority,due").await, expected);
        assert_eq!(ids(&coach, "_sort=-priority,due&_count=2").await, expected, "over pages too");
        let first = coach.get("/fhir/Task?_count=2&_total=accurate").await.expect(200).body;
        assert_eq!(first["total"], 6);
        assert_eq!(path::all(&first, "entry").len(), 2);
        let untold = coach.get("/fhir/Task?_count=2").await.expect(200).body;
        assert_eq!(untold.get("total"), None, "counting costs, so it is asked for");
    }

    async fn paging_through_ties_repeats_and_skips_nothing_while_others_write(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut before = BTreeSet::new();
        for _ in 0..30 {
            before.insert(refer(&app, &practice, "TESTA1", "routine").await.task);
        }
        let due: BTreeSet<String> =
            app.rows("select distinct due from task").await.iter().map(|r| r[0].to_string()).collect();
        assert_eq!(due.len(), 1, "they are all due at once");
        let (coach, system) = (app.staff("coach-north").await, app.system().await);
        let mut seen = Vec::new();
        let mut url = Some("/fhir/Task?code=contact-patient&_count=7".to_owned());
        while let Some(this) = url {
            let page = system.get(&this).await.expect(200).body;
            let found = path::all(&page, "entry.resource.id").into_iter();
            seen.extend(found.map(|id| format!("Task/{}", id.as_str().unwrap())));
            url = next_page(&page);
            // Meanwhile one is taken, one is begun, and another referral comes in.
            next(&coach, "health-coach").await.unwrap();
            refer(&app, &practice, "TESTA1", "routine").await;
        }
        let distinct: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "nothing twice");
        assert!(before.is_subset(&distinct), "nothing skipped");
    }

    async fn a_page_link_says_nothing_of_the_person_and_is_its_callers_own(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let number = somebody();
        for _ in 0..3 {
            send(&app, &practice, &crate::journey::referral_of(&number, "TESTA1", "routine")).await;
        }
        let search = format!("patient.identifier=https://fhir.nhs.uk/Id/nhs-number|{number}&_count=1");
        let system = app.system().await;
        let page = system.get(format!("/fhir/Task?{search}")).await.expect(200);
        let links = page.body["link"].to_string();
        assert!(!links.contains(&number), "{links}");
        assert_eq!(ids(&system, &search).await.len(), 3);
        let coach = app.staff("coach-north").await;
        coach.get(next_page(&page.body).unwrap()).await.expect(400);
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
