//! Who subscribes hears of what they may see, in order, without a gap, until they may not or do not want to.

use std::future::IntoFuture;
use std::time::Duration;

use livewell::fhir::{Resource, check};
use livewell::store::At;
use serde_json::{Value, json};

use crate::support::app::{run, run_with};
use crate::support::caller::Caller;
use crate::support::subscriber::{Got, Subscriber, numbers, said};
use crate::support::{Database, TestApp, build, on_each_database};

const TOPIC: &str = "https://livewell.example/SubscriptionTopic/";
const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";
const SECRET: &str = "https://livewell.example/StructureDefinition/webhook-secret";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HOUR: u64 = 3600;

/// A Subscription to a topic (or a plain criteria), with its endpoint.
fn subscription(criteria: &str, endpoint: &str) -> Value {
    let criteria = if criteria.contains('?') { criteria.to_owned() } else { format!("{TOPIC}{criteria}") };
    json!({
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "Tells the practice's system",
        "criteria": criteria,
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
            "_payload": { "extension": [{ "url": format!("{BACKPORT}backport-payload-content"), "valueCode": "id-only" }] },
        },
    })
}

/// Adds an extension to the channel.
fn with(mut subscription: Value, name: &str, member: &str, value: Value) -> Value {
    let url = if name.contains("://") { name.to_owned() } else { format!("{BACKPORT}{name}") };
    let extension = json!({ "url": url, member: value });
    match subscription["channel"]["extension"].as_array_mut() {
        Some(there) => there.push(extension),
        None => subscription["channel"]["extension"] = json!([extension]),
    }
    subscription
}

/// Subscribes, and waits until it is active.
async fn subscribed(caller: &Caller, wanted: &Value) -> String {
    let made = caller.post("Subscription", wanted).await.expect(201);
    reaches(caller, &made.id(), "active").await;
    made.id()
}

/// Waits until a Subscription is in a state, and answers it.
async fn reaches(caller: &Caller, id: &str, state: &str) -> Value {
    for _ in 0..1500 {
        let read = caller.get(format!("Subscription/{id}")).await.expect(200).body;
        if read["status"] == state {
            return read;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not become {state}");
}

async fn refers(caller: &Caller) -> String {
    caller.post("ServiceRequest", &build::referral()).await.expect(201).id()
}

/// The status that `$status` tells.
async fn status(caller: &Caller, id: &str) -> Value {
    let told = caller.get(format!("Subscription/{id}/$status")).await.expect(200);
    told.body["entry"][0]["resource"].clone()
}

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

    async fn an_endpoint_that_is_away_for_a_day_gets_everything_then_in_order_and_without_a_gap(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let id = subscribed(&practice, &subscription("referral-received", &subscriber.url)).await;
        subscriber.answers(503);
        for hour in 0..24 {
            if hour % 4 == 0 {
                refers(&practice).await;
            }
            app.clock.advance(Duration::from_secs(HOUR));
            app.settled().await;
        }
        assert_eq!(subscriber.numbers(), [0; 0]);
        let status = status(&practice, &id).await;
        assert_eq!((said(&status, "status"), said(&status, "events-since-subscription-start")), ("active".to_owned(), "6".to_owned()));
        app.restart().await;
        subscriber.answers(200);
        // The longest wait of the schedule, with its jitter.
        app.clock.advance(Duration::from_secs(15 * HOUR));
        subscriber.wait_for("event-notification", 6).await;
        assert_eq!(subscriber.numbers(), [1, 2, 3, 4, 5, 6]);
        // The same notification is the same message, however often it was tried.
        let ids: Vec<_> = subscriber.all().iter().filter(|g| g.numbers() == [1]).map(|g| g.headers["webhook-id"].clone()).collect();
        assert!(ids.len() > 2 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    async fn what_happened_before_the_process_died_is_told_once_it_is_back(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let id = subscribed(&practice, &subscription("referral-received", &subscriber.url)).await;
        for round in 1..=4 {
            refers(&practice).await;
            // Committed, and sent or not: nobody knows.
            app.kill();
            app.restart().await;
            app.clock.advance(Duration::from_secs(91));
            app.settled().await;
            let told = status(&practice, &id).await;
            assert_eq!(said(&told, "events-since-subscription-start"), round.to_string());
        }
        let mut numbers = subscriber.numbers();
        assert!(numbers.is_sorted(), "{numbers:?}");
        // At least once; the same message where it came twice.
        numbers.dedup();
        assert_eq!(numbers, [1, 2, 3, 4]);
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

    async fn an_endpoint_that_is_away_for_three_days_ends_in_error_and_at_a_co_ordinator_and_can_go_on(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let id = subscribed(&practice, &subscription("referral-received", &subscriber.url)).await;
        subscriber.answers(404);
        refers(&practice).await;
        for _ in 0..100 {
            app.settled().await;
            app.clock.advance(Duration::from_secs(HOUR));
        }
        let read = reaches(&practice, &id, "error").await;
        assert!(read["error"].as_str().unwrap().contains("status-404"), "{read}");
        assert_eq!(app.count("task where code = 'delivery-failed' and open and practice = 'TESTA1'").await, 1);
        assert_eq!(said(&status(&practice, &id).await, "status"), "error");
        // What happens meanwhile is counted, and told to who asks.
        refers(&practice).await;
        let events = practice.get(format!("Subscription/{id}/$events?eventsSinceNumber=2")).await.expect(200);
        assert_eq!(numbers(&events.body), [2]);
        subscriber.answers(204);
        let mut again = read;
        again["status"] = json!("requested");
        practice.put(format!("Subscription/{id}"), &again).await.expect(200);
        // The endpoint failed for so long that it is tried now and then only.
        app.clock.advance(Duration::from_secs(120));
        let read = reaches(&practice, &id, "active").await;
        assert!(read.get("error").is_none());
        refers(&practice).await;
        subscriber.wait_for("event-notification", 1).await;
        assert_eq!(subscriber.numbers(), [3]);
    }

    async fn an_endpoint_that_does_not_answer_the_handshake_is_not_active(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        for status in [500, 404, 302] {
            subscriber.answers(status);
            let made = practice.post("Subscription", &subscription("task-changed", &subscriber.url)).await.expect(201);
            let read = reaches(&practice, &made.id(), "error").await;
            assert!(read["error"].as_str().unwrap().contains(&status.to_string()), "{read}");
        }
        assert_eq!(subscriber.all().len(), 3);
        subscriber.answers(200);
        let id = subscribed(&practice, &subscription("task-changed", &subscriber.url)).await;
        subscriber.answers(410);
        refers(&practice).await;
        let read = reaches(&practice, &id, "off").await;
        assert!(read["error"].as_str().unwrap().contains("410"));
    }

    async fn who_heard_nothing_for_as_long_as_they_asked_hears_that_nothing_happened(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let wanted = with(subscription("task-changed", &subscriber.url), "backport-heartbeat-period", "valueUnsignedInt", json!(600));
        subscribed(&practice, &wanted).await;
        app.clock.advance(Duration::from_secs(601));
        let heartbeat = subscriber.wait_for("heartbeat", 1).await.remove(0);
        assert_eq!((heartbeat.says("events-since-subscription-start"), heartbeat.numbers()), ("0".to_owned(), vec![]));
        refers(&practice).await;
        subscriber.wait_for("event-notification", 1).await;
        assert_eq!(subscriber.taken("heartbeat").len(), 1);
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

    async fn headers_and_secrets_are_told_to_the_endpoint_and_to_nobody_else(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let mut wanted = with(subscription("referral-received", &subscriber.url), SECRET, "valueString", json!(WHSEC));
        wanted["channel"]["header"] = json!(["Authorization: Bearer canary-7c1e"]);
        let made = practice.post("Subscription", &wanted).await.expect(201);
        let id = made.id();
        reaches(&practice, &id, "active").await;
        let mut read = practice.get(format!("Subscription/{id}")).await.expect(200);
        read.body["reason"] = json!("Another reason");
        let changed = practice.put(format!("Subscription/{id}"), &read.body).await.expect(200);
        refers(&practice).await;
        let told = subscriber.wait_for("event-notification", 1).await.remove(0);
        assert_eq!(told.headers["authorization"], "Bearer canary-7c1e");
        assert!(told.is_signed_with(WHSEC), "what is not sent again stays");

        let history = practice.get(format!("Subscription/{id}/_history")).await.expect(200);
        let found = practice.get("Subscription").await.expect(200);
        let status = practice.get(format!("Subscription/{id}/$status")).await.expect(200);
        for text in [&made.text, &read.text, &changed.text, &history.text, &found.text, &status.text, &told.text] {
            assert!(!text.contains("canary-7c1e") && !text.contains(WHSEC), "{text}");
        }
        let kept = app.rows("select body from resource where kind = 'Subscription'").await;
        assert!(!kept[0][0].as_str().unwrap().contains("canary-7c1e"));

        // Another secret: for a day both sign.
        let nothing = build::parameters(&[]);
        let new = practice.post(format!("Subscription/{id}/$new-secret"), &nothing).await.expect(200);
        let new = new.body["parameter"][0]["valueString"].as_str().unwrap().to_owned();
        refers(&practice).await;
        let told = subscriber.wait_for("event-notification", 2).await.remove(1);
        assert!(told.is_signed_with(WHSEC) && told.is_signed_with(&new));
        app.clock.advance(Duration::from_secs(25 * HOUR));
        refers(&practice).await;
        let told = subscriber.wait_for("event-notification", 3).await.remove(2);
        assert!(!told.is_signed_with(WHSEC) && told.is_signed_with(&new));

        // Elsewhere they do not follow.
        let elsewhere = Subscriber::start().await;
        let mut moved = practice.get(format!("Subscription/{id}")).await.expect(200).body;
        moved["channel"]["endpoint"] = json!(elsewhere.url);
        practice.put(format!("Subscription/{id}"), &moved).await.expect(200);
        let handshake = elsewhere.wait_for("handshake", 1).await.remove(0);
        assert!(handshake.headers.get("authorization").is_none());
        assert!(!handshake.is_signed_with(&new));
    }

    async fn only_the_client_that_made_it_changes_it_and_who_may_not_read_may_not_subscribe(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let id = subscribed(&practice, &subscription("task-changed", &subscriber.url)).await;
        let colleague = app.client("colleague", "TESTA1", "system/*.cruds").await;
        let mut read = colleague.get(format!("Subscription/{id}")).await.expect(200).body;
        read["status"] = json!("off");
        colleague.put(format!("Subscription/{id}"), &read).await.expect(403);
        colleague.get(format!("Subscription/{id}/$events")).await.expect(404);
        let poor = app.client("poor", "TESTA1", "system/Subscription.cruds system/ServiceRequest.rs").await;
        let refused = poor.post("Subscription", &subscription("task-changed", &subscriber.url)).await.expect(403);
        assert!(refused.text.contains("system/Task.r"), "{}", refused.text);
        poor.post("Subscription", &subscription("referral-received", &subscriber.url)).await.expect(201);
        let none = app.client("none", "TESTA1", "system/Task.rs").await;
        none.post("Subscription", &subscription("task-changed", &subscriber.url)).await.expect(403);

        practice.put(format!("Subscription/{id}"), &read).await.expect(200);
        refers(&practice).await;
        app.settled().await;
        assert_eq!(subscriber.taken("event-notification").iter().filter(|g| g.says("topic").ends_with("task-changed")).count(), 0);
    }

    async fn what_cannot_be_done_is_refused_with_its_element_and_leaves_nothing(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let before = app.stored().await;
        let wanted = || subscription("task-changed", "https://subscriber.example.org/hook");
        let changed = |path: &str, value: Value| {
            let mut wanted = wanted();
            *wanted.pointer_mut(path).unwrap() = value;
            wanted
        };
        for (wrong, at) in [
            (changed("/criteria", json!("https://elsewhere.example/topic")), "Subscription.criteria"),
            (changed("/criteria", json!("Task?_has:x=1")), "Subscription.criteria"),
            (changed("/criteria", json!("task")), "Subscription.criteria"),
            (changed("/status", json!("error")), "Subscription.status"),
            (changed("/channel/type", json!("email")), "Subscription.channel.type"),
            (changed("/channel/type", json!("websocket")), "Subscription.channel.type"),
            (changed("/channel/payload", json!("text/plain")), "Subscription.channel.payload"),
            (changed("/channel/_payload/extension/0/valueCode", json!("full-resource")), "Subscription.channel.payload"),
            (changed("/channel/_payload/extension/0/valueCode", json!("some")), "Subscription.channel.payload"),
            (changed("/channel/endpoint", json!("file:///etc/passwd")), "Subscription.channel.endpoint"),
            (changed("/channel/endpoint", json!("https://user:pass@subscriber.example.org/")), "Subscription.channel.endpoint"),
            (with(wanted(), SECRET, "valueString", json!("whsec_short")), "Subscription.channel.extension"),
            (with(wanted(), "backport-heartbeat-period", "valueUnsignedInt", json!(1)), "Subscription.channel.extension"),
        ] {
            let refused = practice.post("Subscription", &wrong).await.expect(422);
            assert_eq!(refused.expression(), at, "{wrong}");
        }
        let mut header = wanted();
        for line in ["no colon", "X-Y: a\u{7f}b", ": x"] {
            header["channel"]["header"] = json!([line]);
            practice.post("Subscription", &header).await.expect(422);
        }
        assert_eq!((app.stored().await, app.count("subscription").await), (before, 0));
    }

    async fn topics_are_named_where_r4_names_them(app: TestApp) {
        let statement = app.system().await.get("metadata").await.expect(200).body;
        let resources = statement["rest"][0]["resource"].as_array().unwrap().clone();
        let said = resources.iter().find(|r| r["type"] == "Subscription").unwrap();
        let topics: Vec<&str> = said["extension"].as_array().unwrap().iter().filter_map(|e| e["valueCanonical"].as_str()).collect();
        assert_eq!(topics.len(), 4);
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        for topic in topics {
            let wanted = subscription(topic.rsplit('/').next().unwrap(), &subscriber.url);
            subscribed(&practice, &wanted).await;
        }
    }

    async fn topics_are_read_whole_by_everyone_and_written_by_nobody(app: TestApp) {
        let (practice, system) = (app.practice("TESTA1").await, app.system().await);
        let found = practice.get("Basic?code=http://hl7.org/fhir/fhir-types|SubscriptionTopic").await.expect(200).resources();
        let r5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.url";
        let url = |topic: &Value| {
            let extensions = topic["extension"].as_array().unwrap().iter();
            extensions.filter(|e| e["url"] == r5).map(|e| e["valueUri"].as_str().unwrap().to_owned()).next().unwrap()
        };
        let mut urls: Vec<String> = found.iter().map(url).collect();
        urls.sort();
        let named = ["record-added", "referral-received", "referral-status-changed", "task-changed"];
        assert_eq!(urls, named.map(|name| format!("{TOPIC}{name}")));
        let topic = practice.get("Basic/task-changed").await.expect(200).body;
        for caller in [&practice, &system] {
            caller.put("Basic/task-changed", &topic).if_match(1).await.expect(403);
            caller.send(reqwest::Method::DELETE, "Basic/task-changed").await.expect(403);
        }
        assert_eq!(practice.get("Basic/task-changed").await.expect(200).body, topic);
    }

    async fn who_deletes_a_subscription_hears_nothing_more_and_leaves_no_secret_behind(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let wanted = with(subscription("referral-received", &subscriber.url), SECRET, "valueString", json!(WHSEC));
        let id = subscribed(&practice, &wanted).await;
        let at = format!("Subscription/{id}");
        refers(&practice).await;
        subscriber.wait_for("event-notification", 1).await;
        // What still waits is not sent.
        subscriber.answers(503);
        refers(&practice).await;
        while subscriber.all().len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let colleague = app.client("colleague", "TESTA1", "system/*.cruds").await;
        colleague.send(reqwest::Method::DELETE, at.as_str()).await.expect(403);
        let stranger = app.practice("TESTA2").await;
        stranger.send(reqwest::Method::DELETE, at.as_str()).await.expect(204);
        assert_eq!(status(&practice, &id).await["resourceType"], "Parameters");
        practice.send(reqwest::Method::DELETE, at.as_str()).await.expect(204);
        subscriber.answers(200);
        app.clock.advance(Duration::from_secs(24 * HOUR));
        refers(&practice).await;
        app.settled().await;
        assert_eq!(subscriber.numbers(), [1]);
        practice.get(at.as_str()).await.expect(410);
        practice.get(format!("{at}/$status")).await.expect(404);
        practice.get(format!("{at}/$events")).await.expect(404);
        assert_eq!(practice.get("Subscription").await.expect(200).resources().len(), 0);
        assert_eq!(app.count("subscription").await + app.count("subscription_event").await, 0);
        // It does not come back by itself; a new one does.
        let mut again = wanted.clone();
        again["id"] = json!(id);
        practice.put(at.as_str(), &again).await.expect(409);
        subscribed(&practice, &wanted).await;
    }

    async fn an_endpoint_is_waited_for_as_long_as_the_subscriber_says(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let wanted = with(subscription("referral-received", &subscriber.url), "backport-timeout", "valueUnsignedInt", json!(1));
        let id = subscribed(&practice, &wanted).await;
        subscriber.waits(Duration::from_secs(3));
        let begun = std::time::Instant::now();
        refers(&practice).await;
        let failed = "delivery_attempt a join delivery d on d.id = a.delivery where d.purpose = 'notification' and a.verdict <> 'delivered'";
        while app.count(failed).await == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "no attempt ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        subscriber.waits(Duration::ZERO);
        app.clock.advance(Duration::from_secs(HOUR));
        app.settled().await;
        assert!(subscriber.numbers().contains(&1));
        let read = practice.get(format!("Subscription/{id}")).await.expect(200).body;
        assert_eq!(read["channel"]["extension"][0]["valueUnsignedInt"], 1);
        let longer = with(subscription("referral-received", &subscriber.url), "backport-timeout", "valueUnsignedInt", json!(100_000));
        practice.post("Subscription", &longer).await.expect(422);
    }

    async fn a_subscription_ends_when_it_said_it_would(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let subscriber = Subscriber::start().await;
        let mut wanted = subscription("referral-received", &subscriber.url);
        wanted["end"] = json!((app.clock.now() + chrono::TimeDelta::hours(1)).to_rfc3339());
        let id = subscribed(&practice, &wanted).await;
        app.clock.advance(Duration::from_secs(2 * HOUR));
        refers(&practice).await;
        reaches(&practice, &id, "off").await;
        app.settled().await;
        assert_eq!(subscriber.numbers(), [0; 0]);
    }
}

/// Addresses are refused when the Subscription is made, and again when the connection is: a name may lead elsewhere then.
#[test]
fn no_private_address_is_subscribed_or_called() {
    let refused = "http://subscriber.example.org/ https://127.0.0.1/ https://localhost/ https://[::1]/ \
        https://169.254.169.254/latest/meta-data/ https://0x7f000001/ https://2130706433/ https://10.0.0.1/ \
        https://192.168.1.1/ https://[::ffff:127.0.0.1]/ https://[64:ff9b::7f00:1]/ https://x.internal/ \
        https://subscriber.example.org:22/ https://user@subscriber.example.org/ gopher://subscriber.example.org/";
    let strict = |config: &mut livewell::config::Config| config.http.header_seconds = 10;
    crate::support::app::run_with(crate::support::Database::Sqlite, strict, move |mut app: TestApp| async move {
        let canary = Subscriber::start().await;
        app.kill();
        app.config.delivery.allow_private_addresses = false;
        app.restart().await;
        let practice = app.practice("TESTA1").await;
        for endpoint in refused.split_whitespace().chain([canary.url.as_str()]) {
            let answer = practice.post("Subscription", &subscription("task-changed", endpoint)).await.expect(422);
            assert_eq!(answer.expression(), "Subscription.channel.endpoint", "{endpoint}");
        }
        assert_eq!(app.count("subscription").await, 0);

        // A good name that leads to a private address by the time it is called.
        let made =
            practice.post("Subscription", &subscription("task-changed", "https://subscriber.example.org/")).await;
        let id = made.expect(201).id();
        let mut tx = app.store().write().await.unwrap();
        let mut row = tx.subscription(&id).await.unwrap().unwrap();
        row.endpoint.clone_from(&canary.url);
        row.state = "active".to_owned();
        row.heard_at = At(0);
        tx.put_subscription(&row).await.unwrap();
        tx.commit().await.unwrap();
        refers(&practice).await;
        reaches(&practice, &id, "error").await;
        assert!(canary.all().is_empty());
    });
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
