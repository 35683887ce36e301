//! The service ends in the middle, and another goes on.

use std::time::Duration;

use livewell::demo::practice::{Aim, Fault, Traffic};

use super::{deliveries, is_there, there, time_passes};
use crate::journey::{encounter, goal, known, record, transact};
use crate::support::{TestApp, on_each_database};

on_each_database! {
    async fn a_restart_in_the_middle_loses_and_doubles_nothing(app: TestApp) {
        let faults = app.stand_in.faults();
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        for fault in [Fault::Delay(Duration::from_millis(400)), Fault::DropReply, Fault::DropRequest] {
            let struck = faults.struck();
            faults.next(1, Aim::at(Traffic::Writes), fault.clone());
            let made = transact(&coach, &[encounter(&app, &journey), goal(&journey)]).await;
            under_way(&app, struck).await;
            app.restart().await;
            let waiting = record(&coach, &encounter(&app, &journey)).await;
            time_passes(&app).await;
            for kept in made.iter().chain([&waiting]) {
                there(&app, "TESTA1", kept);
            }
            assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"), "{fault:?}");
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Provenance").len(), 6);
    }

    async fn a_service_that_ends_within_an_attempt_is_followed_by_one_that_looks_first(app: TestApp) {
        let faults = app.stand_in.faults();
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        // Once the practice has done it when we end, and once it has not.
        let mut leased_again = 0;
        for fault in [Fault::Delay(Duration::from_millis(400)), Fault::Hang] {
            let struck = faults.struck();
            faults.next(1, Aim::at(Traffic::Writes), fault.clone());
            let one = record(&coach, &encounter(&app, &journey)).await;
            under_way(&app, struck).await;
            app.kill();
            app.restart().await;
            let two = record(&coach, &goal(&journey)).await;
            assert!(!is_there(&app, "TESTA1", &two), "the lease of the one before it still runs");
            assert_eq!(app.count("delivery where settled_at is null and lease = 1").await, 1);
            app.clock.advance(Duration::from_secs(91));
            time_passes(&app).await;
            let order: Vec<u64> =
                [&one, &two].map(|k| there(&app, "TESTA1", k)["id"].as_str().unwrap().parse().unwrap()).into();
            assert!(order.is_sorted(), "{fault:?}: {order:?}");
            leased_again += 1;
            assert_eq!(app.count("delivery where lease = 2").await, leased_again, "taken up again, once");
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Provenance").len(), 4);
    }
}

/// Waits until one more request has met a fault at the practice.
async fn under_way(app: &TestApp, struck: usize) {
    for _ in 0..1000 {
        if app.stand_in.faults().struck() > struck {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was sent");
}
