//! Work lists: Tasks are searched, ranked and paged.

use std::collections::BTreeSet;
use std::time::Duration;

use livewell::fhir::path;
use serde_json::Value;

use crate::journey::{claim, known, open_tasks, refer, send, somebody, work};
use crate::queue::next;
use crate::support::caller::Caller;
use crate::support::{TestApp, on_each_database};

const DAY: Duration = Duration::from_secs(24 * 3600);

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
