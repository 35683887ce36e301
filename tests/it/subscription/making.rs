//! A Subscription is made, changed, refused and ended.

use std::time::Duration;

use livewell::store::At;
use serde_json::{Value, json};

use super::{HOUR, SECRET, TOPIC, WHSEC, reaches, refers, status, subscribed, subscription, with};
use crate::support::subscriber::Subscriber;
use crate::support::{TestApp, build, on_each_database};

on_each_database! {
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
