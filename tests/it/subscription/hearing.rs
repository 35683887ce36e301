//! What a subscriber hears of, and what it never does.

use std::future::IntoFuture;
use std::time::Duration;

use livewell::fhir::{Resource, check};
use serde_json::{Value, json};

use super::{BACKPORT, HOUR, SECRET, TOPIC, WHSEC, reaches, refers, status, subscribed, subscription, with};
use crate::support::app::{run, run_with};
use crate::support::subscriber::{Got, Subscriber, numbers, said};
use crate::support::{Database, TestApp, build, on_each_database};

on_each_database! {
    async fn a_subscription_is_active_once_its_endpoint_answered_and_then_tells_of_each_referral_by_id(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let wanted = with(subscription("referral-received", &subscriber.url), SECRET, "valueString", json!(WHSEC));
        let made = practice.post("Subscription", &wanted).await.expect(201);
        assert_eq!(made.body["status"], "requested");
        let handshake = subscriber.wait_for("handshake", 1).await.remove(0);
        assert_eq!((handshake.says("status"), handshake.says("events-since-subscription-start")), ("requested".to_owned(), "0".to_owned()));
        assert!(handshake.is_signed_with(WHSEC) && handshake.numbers().is_empty());
        reaches(&practice, &made.id(), "active").await;

        let first = refers(&practice).await;
        let second = refers(&practice).await;
        let told = subscriber.wait_for("event-notification", 2).await;
        for (got, id) in told.iter().zip([&first, &second]) {
            assert_eq!(got.foci(), [format!("{}/fhir/ServiceRequest/{id}", app.base)]);
            assert_eq!(got.headers["content-type"], "application/fhir+json");
            assert!(got.is_signed_with(WHSEC));
            let bundle = Resource::from_value(got.body.clone()).unwrap();
            assert_eq!(check::check(&bundle, 10), []);
            // By id only: nothing about the person leaves.
            assert!(!got.text.contains(build::ADA.0) && !got.text.contains("Lonely"), "{}", got.text);
        }
        assert_eq!(subscriber.numbers(), [1, 2]);
        let status = status(&practice, &made.id()).await;
        assert_eq!((said(&status, "status"), said(&status, "events-since-subscription-start")), ("active".to_owned(), "2".to_owned()));
        assert_eq!(said(&status, "topic"), format!("{TOPIC}referral-received"));
    }

    async fn what_another_practice_sends_is_never_heard_of(app: TestApp) {
        let (one, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        let (hears_one, hears_other, hears_all) =
            (Subscriber::start().await, Subscriber::start().await, Subscriber::start().await);
        let first = subscribed(&one, &subscription("task-changed", &hears_one.url)).await;
        subscribed(&other, &subscription("Task?status=requested", &hears_other.url)).await;
        let system = app.system().await;
        subscribed(&system, &subscription("task-changed", &hears_all.url)).await;
        one.post("ServiceRequest", &build::referral()).await.expect(201);
        other.post("ServiceRequest", &build::referral_of(build::BERT.0)).await.expect(201);
        other.post("ServiceRequest", &build::referral_of(build::BERT.0)).await.expect(201);
        hears_all.wait_for("event-notification", 3).await;
        hears_other.wait_for("event-notification", 2).await;
        hears_one.wait_for("event-notification", 1).await;
        app.settled().await;
        assert_eq!((hears_one.numbers(), hears_other.numbers(), hears_all.numbers()), (vec![1], vec![1, 2], vec![1, 2, 3]));
        // Nor is it told on asking, nor may the Subscription itself be seen.
        let events = one.get(format!("Subscription/{first}/$events")).await.expect(200);
        assert_eq!(numbers(&events.body), [1]);
        for path in [format!("Subscription/{first}"), format!("Subscription/{first}/$status"), format!("Subscription/{first}/$events")] {
            other.get(path).await.expect(404);
        }
        assert_eq!(other.get("Subscription/$status").await.expect(200).body["total"], 1);
        app.staff("coach-north").await.get(format!("Subscription/{first}")).await.expect(404);
    }

    async fn a_client_that_is_shut_out_or_lost_its_right_is_sent_nothing_more(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let narrow = app.client("narrow", "TESTA1", "system/Subscription.cruds system/Task.rs").await;
        let (wide, less, staff) = (Subscriber::start().await, Subscriber::start().await, Subscriber::start().await);
        let watcher = app.client("watcher", "TESTA1", "system/*.cruds").await;
        let shut_out = subscribed(&watcher, &subscription("task-changed", &wide.url)).await;
        subscribed(&narrow, &subscription("task-changed", &less.url)).await;
        subscribed(&app.staff("coach-south").await, &subscription("task-changed", &staff.url)).await;
        refers(&practice).await;
        wide.wait_for("event-notification", 1).await;
        less.wait_for("event-notification", 1).await;

        // What happened is queued while the endpoint is away; the right is lost before it is sent.
        wide.answers(503);
        less.answers(503);
        refers(&practice).await;
        while wide.all().len() < 3 || less.all().len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut tx = app.store().write().await.unwrap();
        tx.disable_client("watcher", app.clock.now().into()).await.unwrap();
        let mut registration = tx.client("narrow").await.unwrap().unwrap();
        registration.scopes = "system/Subscription.cruds".to_owned();
        tx.put_client(&registration).await.unwrap();
        tx.commit().await.unwrap();
        wide.answers(200);
        less.answers(200);
        refers(&practice).await;
        app.clock.advance(Duration::from_secs(24 * HOUR));
        app.settled().await;
        refers(&practice).await;
        app.settled().await;
        assert_eq!((wide.numbers(), less.numbers()), (vec![1], vec![1]));
        // A coach hears of their own locality only, and TESTA1 is not in the south.
        assert_eq!(staff.numbers(), [0; 0]);
        let state = app.rows(&format!("select state from subscription where id = '{shut_out}'")).await;
        assert_eq!(state[0][0], "off");
    }

    async fn a_person_who_changes_practice_is_heard_of_no_more_by_the_old_one(app: TestApp) {
        let system = app.system().await;
        let old = app.practice("TESTA1").await;
        let hears = Subscriber::start().await;
        let id = subscribed(&old, &subscription("record-added", &hears.url)).await;
        let sender = app.practice("TESTA2").await;
        let made = sender.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let person = app.rows("select id from person").await[0][0].as_str().unwrap().to_owned();
        let encounter = build::encounter(&format!("ServiceRequest/{}", made.id()), &format!("Patient/{person}"));
        system.post("Encounter", &encounter).await.expect(201);
        let encounters = || hears.taken("event-notification").iter().flat_map(Got::foci).filter(|f| f.contains("/Encounter/")).count();
        app.settled().await;
        assert_eq!(encounters(), 1);
        let mut tx = app.store().write().await.unwrap();
        let mut row = tx.person(&person).await.unwrap().unwrap();
        row.practice = "TESTA2".to_owned();
        tx.update_person(&row).await.unwrap();
        tx.commit().await.unwrap();
        system.post("Encounter", &encounter).await.expect(201);
        app.settled().await;
        assert_eq!(encounters(), 1);
        // What it heard of before is not told again either.
        let events = old.get(format!("Subscription/{id}/$events")).await.expect(200);
        assert_eq!(numbers(&events.body), [0; 0]);
    }

    async fn numbers_have_no_gap_however_many_write_at_once(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let wanted = with(subscription("referral-received", &subscriber.url), "backport-max-count", "valuePositiveInt", json!(5));
        subscribed(&practice, &wanted).await;
        let mut sent = tokio::task::JoinSet::new();
        for _ in 0..16 {
            sent.spawn(practice.post("ServiceRequest", &build::referral()).into_future());
        }
        assert!(sent.join_all().await.iter().all(|answer| answer.status == 201));
        app.settled().await;
        assert_eq!(subscriber.numbers(), (1..=16).collect::<Vec<_>>());
    }

    async fn filters_narrow_a_topic_and_are_refused_where_they_would_be_passed_over(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let filtered = |filters: &[&str]| {
            let mut wanted = subscription("task-changed", &subscriber.url);
            let extensions: Vec<Value> = filters
                .iter()
                .map(|filter| json!({ "url": format!("{BACKPORT}backport-filter-criteria"), "valueString": filter }))
                .collect();
            wanted["_criteria"] = json!({ "extension": extensions });
            wanted
        };
        for wrong in ["Task?colour=red", "Task?authored-on=gt2026", "Encounter?status=finished", "Task?_has:x:y:z=1", "nonsense"] {
            let refused = practice.post("Subscription", &filtered(&[wrong])).await.expect(422);
            assert_eq!(refused.expression(), "Subscription.criteria", "{wrong}");
        }
        subscribed(&practice, &filtered(&["Task?status=accepted"])).await;
        let id = refers(&practice).await;
        let coach = app.staff("coach-north").await;
        let claim = build::parameters(&[("role", "valueCode", json!("health-coach"))]);
        let task = coach.post("Task/$claim-next", &claim).await.expect(200);
        let told = subscriber.wait_for("event-notification", 1).await.remove(0);
        assert_eq!((told.foci(), told.numbers()), (vec![format!("{}/fhir/Task/{}", app.base, task.id())], vec![1]));
        assert!(told.text.contains(&format!("ServiceRequest/{id}")), "the referral is named beside it");
    }

    async fn several_events_go_in_one_notification_where_the_subscriber_wants_that(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let wanted = with(subscription("referral-received", &subscriber.url), "backport-max-count", "valuePositiveInt", json!(10));
        subscribed(&practice, &wanted).await;
        subscriber.answers(503);
        refers(&practice).await;
        while subscriber.all().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..5 {
            refers(&practice).await;
        }
        subscriber.answers(200);
        app.clock.advance(Duration::from_secs(HOUR));
        subscriber.wait_for("event-notification", 2).await;
        app.settled().await;
        let told = subscriber.taken("event-notification");
        assert_eq!(told.iter().map(|got| got.numbers()).collect::<Vec<_>>(), [vec![1], vec![2, 3, 4, 5, 6]]);
    }
}

#[test]
fn a_notification_carries_what_it_is_about_only_where_the_service_is_set_so() {
    let full = |url: &str| {
        let mut wanted = subscription("task-changed", url);
        wanted["channel"]["_payload"]["extension"][0]["valueCode"] = json!("full-resource");
        wanted
    };
    run(Database::Sqlite, move |app: TestApp| async move {
        let refused =
            app.practice("TESTA1").await.post("Subscription", &full("http://127.0.0.1:9/hook")).await.expect(422);
        assert_eq!(refused.expression(), "Subscription.channel.payload");
    });
    for database in [Database::Sqlite, Database::Postgres] {
        run_with(
            database,
            |config| config.subscription.full_resource = true,
            move |app: TestApp| async move {
                let (practice, system) = (app.practice("TESTA1").await, app.system().await);
                let (own, all) = (Subscriber::start().await, Subscriber::start().await);
                subscribed(&practice, &full(&own.url)).await;
                subscribed(&system, &full(&all.url)).await;
                let referral = refers(&practice).await;
                let told = own.wait_for("event-notification", 1).await.remove(0);
                let carried = &told.body["entry"][1]["resource"];
                assert_eq!(
                    (&carried["resourceType"], &carried["focus"]["reference"]),
                    (&json!("Task"), &json!(format!("ServiceRequest/{referral}")))
                );
                let bundle = Resource::from_value(told.body.clone()).unwrap();
                assert_eq!(check::check(&bundle, 10), []);
                assert_eq!(
                    carried,
                    &practice.get(format!("Task/{}", carried["id"].as_str().unwrap())).await.expect(200).body
                );
                // What another practice sent is carried to who may see it, and to nobody else.
                app.practice("TESTA2")
                    .await
                    .post("ServiceRequest", &build::referral_of(build::BERT.0))
                    .await
                    .expect(201);
                all.wait_for("event-notification", 2).await;
                app.settled().await;
                assert_eq!((own.numbers(), all.numbers()), (vec![1], vec![1, 2]));
            },
        );
    }
}
