//! Three instances of the service on one PostgreSQL: nothing that one knows is its own.

use std::collections::BTreeSet;
use std::time::Duration;

use livewell::app::{self, Running};
use livewell::demo::practice::{Aim, Fault, Traffic};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::journey::{referral_of, somebody};
use crate::support::caller::{Answer, JWT_BEARER};
use crate::support::subscriber::Subscriber;
use crate::support::{Database, TestApp, app as harness, build};

/// The origins of three instances that callers reach under one name, the first being the harness's own.
pub(crate) async fn three(app: &TestApp) -> (Vec<String>, Vec<Running>) {
    let mut config = app.config.clone();
    config.http.base_url = Some(app.base.clone());
    let (mut origins, mut running) = (vec![app.base.clone()], Vec::new());
    let mut starting = JoinSet::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        origins.push(format!("http://{}", listener.local_addr().unwrap()));
        let (config, clock) = (config.clone(), app.clock.clone());
        starting.spawn(async move { app::start(&config, clock, listener).await.unwrap() });
    }
    running.extend(starting.join_all().await);
    (origins, running)
}

pub(crate) async fn stop(running: Vec<Running>) {
    for instance in running {
        instance.stop().await.unwrap();
    }
}

#[test]
fn a_token_of_one_instance_is_good_at_all_and_an_assertion_buys_one() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let (origins, running) = three(&app).await;
        let practice = app.practice("TESTA1").await;
        let made = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        for origin in &origins {
            practice.get(format!("{origin}/fhir/ServiceRequest/{}", made.id())).await.expect(200);
        }
        let assertion = practice.key.assertion(&practice.id, &format!("{}/oauth/token", app.base), app.clock.now());
        let mut asked = JoinSet::new();
        for n in 0..12 {
            let url = format!("{}/oauth/token", origins[n % 3]);
            let form = [
                ("grant_type", "client_credentials".to_owned()),
                ("client_assertion_type", JWT_BEARER.to_owned()),
                ("client_assertion", assertion.clone()),
                ("scope", "system/*.cruds".to_owned()),
            ];
            let request = app.http.post(url).form(&form);
            asked.spawn(async move { request.send().await.unwrap().status().as_u16() });
        }
        let answers = asked.join_all().await;
        assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|status| matches!(status, 200 | 400 | 401)), "{answers:?}");
        stop(running).await;
    });
}

#[test]
fn of_many_conditional_creates_at_three_instances_exactly_one_makes_it() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let (origins, running) = three(&app).await;
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let condition = crate::conditional::condition("one", "x");
        let criteria = "identifier=https://practice.example/Id/condition|one";
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [{
            "resource": condition, "request": { "method": "POST", "url": "Condition", "ifNoneExist": criteria } }] });
        let mut sent = JoinSet::new();
        for n in 0..32 {
            let origin = &origins[n % 3];
            // Half of them inside Bundles.
            let ask = match n.is_multiple_of(2) {
                true => practice.post(format!("{origin}/fhir/Condition"), &condition).header("If-None-Exist", criteria),
                false => practice.post(format!("{origin}/fhir"), &bundle),
            };
            sent.spawn(ask.into_future());
        }
        let answers: Vec<Answer> = sent.join_all().await;
        let alone = answers.iter().filter(|answer| answer.status == 201).count();
        let bundled = answers.iter().filter(|a| a.body["entry"][0]["response"]["status"] == "201 Created").count();
        assert_eq!(alone + bundled, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 201)));
        assert_eq!(app.count("resource where kind = 'Condition'").await, 1);
        stop(running).await;
    });
}

#[test]
fn three_instances_hand_each_task_out_once_and_make_one_referral_of_a_resend() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let (origins, running) = three(&app).await;
        let practice = app.practice("TESTA1").await;
        let again = build::referral();
        let mut sent = JoinSet::new();
        for n in 0..24 {
            // Half are one referral sent again and again, the others each their own.
            let referral = if n % 2 == 0 { again.clone() } else { build::referral() };
            sent.spawn(practice.post(format!("{}/fhir/ServiceRequest", origins[n % 3]), &referral).into_future());
        }
        let answers = sent.join_all().await;
        assert!(answers.iter().all(|a| matches!(a.status, 200 | 201)), "{answers:?}");
        assert_eq!((app.count("referral").await, app.count("task").await), (13, 13));

        let coach = app.staff("coach-north").await;
        coach.token().await;
        let role = app.rows("select distinct role from task").await;
        let wanted = build::parameters(&[("role", "valueCode", role[0][0].clone())]);
        let mut claims = JoinSet::new();
        for n in 0..18 {
            claims.spawn(coach.post(format!("{}/fhir/Task/$claim-next", origins[n % 3]), &wanted).into_future());
        }
        let answers = claims.join_all().await;
        let taken: Vec<String> = answers.iter().filter(|a| a.status == 200).map(Answer::id).collect();
        assert_eq!(taken.len(), 13, "{answers:?}");
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 13);
        stop(running).await;
    });
}

#[test]
fn three_instances_tell_a_subscriber_each_event_once_and_in_order() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let (origins, running) = three(&app).await;
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let wanted = serde_json::json!({
            "resourceType": "Subscription", "status": "requested", "reason": "All of it",
            "criteria": "https://livewell.example/SubscriptionTopic/referral-received",
            "channel": { "type": "rest-hook", "endpoint": subscriber.url, "payload": "application/fhir+json" },
        });
        practice.post("Subscription", &wanted).await.expect(201);
        subscriber.wait_for("handshake", 1).await;
        app.settled().await;
        let mut sent = JoinSet::new();
        for n in 0..18 {
            let url = format!("{}/fhir/ServiceRequest", origins[n % 3]);
            sent.spawn(practice.post(url, &build::referral()).into_future());
        }
        assert!(sent.join_all().await.iter().all(|answer| answer.status == 201));
        app.settled().await;
        assert_eq!(subscriber.numbers(), (1..=18).collect::<Vec<_>>());
        stop(running).await;
    });
}

#[test]
fn pages_go_on_at_another_instance() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let (origins, running) = three(&app).await;
        let practice = app.practice("TESTA1").await;
        for _ in 0..7 {
            practice.post("ServiceRequest", &build::referral()).await.expect(201);
        }
        let mut seen = Vec::new();
        let mut next = format!("{}/fhir/ServiceRequest?_count=2", origins[0]);
        for n in 1.. {
            let page = practice.get(next).await.expect(200);
            seen.extend(page.resources().iter().map(|r| r["id"].as_str().unwrap().to_owned()));
            let links = page.body["link"].as_array().cloned().unwrap_or_default();
            let Some(link) = links.iter().find(|l| l["relation"] == "next") else { break };
            next = link["url"].as_str().unwrap().replace(&app.base, &origins[n % 3]);
        }
        assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (7, 7));
        stop(running).await;
    });
}

/// Records an Encounter for each of four people, whose practices then have to be told.
async fn record_for_four(app: &TestApp) {
    let coach = app.staff("coach-north").await.clone();
    for person in [build::ADA, build::BERT, build::CLEO] {
        let practice = app.practice(person.4).await;
        let made = practice.post("ServiceRequest", &build::referral_with(build::person(person))).await.expect(201);
        let id = app.rows(&format!("select id from person where nhs_number = '{}'", person.0)).await;
        let encounter = build::encounter(
            &format!("ServiceRequest/{}", made.id()),
            &format!("Patient/{}", id[0][0].as_str().unwrap()),
        );
        let recorder = if person == build::ADA { coach.clone() } else { app.system().await };
        recorder.post("Encounter", &encounter).await.expect(201);
    }
}

fn encounters(app: &TestApp) -> usize {
    ["TESTA1", "TESTA2", "TESTA3"].iter().map(|ods| app.stand_in.resources(ods, "Encounter").len()).sum()
}

#[test]
fn three_instances_send_each_delivery_once() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let (_, running) = three(&app).await;
        record_for_four(&app).await;
        record_for_four(&app).await;
        app.settled().await;
        assert_eq!(encounters(&app), 6);
        let attempts = app.rows("select attempts, lease, state from delivery").await;
        assert!(attempts.iter().all(|row| row == &[1.into(), 1.into(), Value::from("delivered")]), "{attempts:?}");
        assert_eq!(app.count("delivery_attempt").await, 6);
        stop(running).await;
    });
}

/// Records something about each of twelve people of one practice, who do not wait for each other.
async fn record_for_twelve_of_one(app: &TestApp) {
    let (practice, system) = (app.practice("TESTA1").await, app.system().await);
    for _ in 0..12 {
        let number = somebody();
        let made = practice.post("ServiceRequest", &referral_of(&number, "TESTA1", "routine")).await.expect(201);
        let mut encounter = build::encounter(&format!("ServiceRequest/{}", made.id()), "");
        encounter["subject"] = build::by_number(&number);
        system.post("Encounter", &encounter).await.expect(201);
    }
}

/// Waits until there are so many, and then long enough for each instance to look again, and make it too many.
async fn reaches(app: &TestApp, rows: &str, wanted: i64) {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while app.count(rows).await < wanted {
        assert!(std::time::Instant::now() < until, "there are never {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(app.count(rows).await, wanted);
}

#[test]
fn three_instances_together_have_no_more_under_way_to_a_practice_than_it_may_have() {
    harness::run(Database::Postgres, async |app: TestApp| {
        app.stand_in.faults().sometimes(1.0, Aim::at(Traffic::All), Fault::Hang);
        let (_, running) = three(&app).await;
        record_for_twelve_of_one(&app).await;
        reaches(&app, "delivery where lease_until > 0", 4).await;
        assert_eq!(app.count("delivery where attempts > 0").await, 4);
        // Not stopped in order: what is under way waits for answers that never come.
        drop(running);
    });
}

#[test]
fn three_instances_together_begin_no_more_than_the_bucket_of_a_practice_holds() {
    let five = |config: &mut livewell::config::Config| config.delivery.burst = 5;
    harness::run_with(Database::Postgres, five, async |app: TestApp| {
        let (_, running) = three(&app).await;
        record_for_twelve_of_one(&app).await;
        // The clock stands still: nothing drips into the bucket.
        reaches(&app, "delivery_attempt", 5).await;
        // 1200 a minute are one in 50 ms.
        app.clock.advance(Duration::from_millis(100));
        reaches(&app, "delivery_attempt", 7).await;
        stop(running).await;
    });
}

#[test]
fn the_breaker_that_one_instance_opens_is_open_at_all_and_one_tries() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let down = Fault::Answer { status: 500, retry_after: None };
        app.stand_in.faults().sometimes(1.0, Aim::at(Traffic::All), down);
        let (_, running) = three(&app).await;
        record_for_twelve_of_one(&app).await;
        app.settled().await;
        // Those that were under way when it opened ended too.
        let tried = app.count("delivery_attempt").await;
        assert!((5..=8).contains(&tried), "{tried}");
        assert_eq!(app.count("destination where opened_at > 0").await, 1);
        for minute in 1..=3 {
            app.clock.advance(Duration::from_secs(61));
            tokio::time::sleep(Duration::from_millis(1500)).await;
            app.settled().await;
            assert_eq!(app.count("delivery_attempt").await, tried + minute, "one a minute");
        }
        stop(running).await;
    });
}

/// The lease is 20 seconds: until it has lapsed nobody else touches what the killed instance had in hand.
#[test]
fn what_a_killed_instance_had_in_hand_is_taken_up_by_another() {
    harness::run(Database::Postgres, async |app: TestApp| {
        app.stand_in.faults().next(3, Aim::at(Traffic::All), Fault::Hang);
        record_for_four(&app).await;
        while app.count("delivery where lease > 0").await < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        app.kill();
        let (_, running) = three(&app).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(app.count("delivery where lease > 1").await, 0, "taken from someone who may still hold it");
        app.stand_in.faults().clear();
        // Its address too: there the practices look for the keys of the service.
        app.restart().await;
        app.clock.advance(Duration::from_secs(21));
        app.settled().await;
        assert_eq!(encounters(&app), 3);
        assert_eq!(app.count("delivery where state = 'delivered' and lease = 2").await, 3);
        stop(running).await;
    });
}
