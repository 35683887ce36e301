//! The loop in one breath: whether there is a service at all.

use crate::support::{TestApp, build, on_each_database};

on_each_database! {
    async fn a_referral_is_acknowledged_and_waits_in_the_queue(app: TestApp) {
        let made = app.practice("TESTA1").await.post("ServiceRequest", &build::referral()).await.expect(201);
        assert_eq!(app.count("referral").await, 1);
        let coach = app.staff("coach-north").await;
        let tasks = coach.get(format!("Task?focus=ServiceRequest/{}", made.id())).await.expect(200);
        assert_eq!(tasks.resources().len(), 1, "{}", tasks.text);
        app.settled().await;
    }

    async fn a_service_that_was_killed_comes_back_with_what_it_had(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        app.kill();
        app.restart().await;
        assert_eq!(practice.get(format!("ServiceRequest/{}", made.id())).await.expect(200).body, made.body);
        app.restart().await;
        practice.get(format!("ServiceRequest/{}", made.id())).await.expect(200);
    }
}
