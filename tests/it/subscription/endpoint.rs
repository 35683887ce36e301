//! An endpoint that is away, slow or gone, and a service that dies: nothing is lost, and nobody is left to think there was nothing.

use std::time::Duration;

use serde_json::json;

use super::{HOUR, reaches, refers, status, subscribed, subscription, with};
use crate::support::subscriber::{Subscriber, numbers, said};
use crate::support::{TestApp, on_each_database};

on_each_database! {
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
}
