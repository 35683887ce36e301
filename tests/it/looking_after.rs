//! Deliveries looked after: from the terminal, by integrators, in numbers; and what no attempt can ever deliver.

use std::process::Command;
use std::time::Duration;

use livewell::demo::practice::{Aim, Fault, Traffic};
use serde_json::Value;

use crate::support::caller::Caller;
use crate::support::{TestApp, build, on_each_database};

/// `livewell delivery ...` on the database of a running service: what it said, and whether it went well.
fn terminal(app: &TestApp, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livewell"));
    command.arg("delivery").args(arguments).env("LIVEWELL_DATABASE_URL", &app.config.database.url.0);
    command.env("LIVEWELL_SERVICE_ORGANIZATION", app.organization()).env("LIVEWELL_TELEMETRY_LEVEL", "error");
    command.env("USER", "olga").env_remove("SUDO_USER");
    let ended = command.stdin(std::process::Stdio::null()).output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (ended.status.success(), said)
}

/// Ada's referral, with a practice and a coach.
async fn referred(app: &TestApp) -> (Caller, Caller, String, String) {
    let practice = app.practice("TESTA1").await;
    let made = practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
    let id = app.rows(&format!("select id from person where nhs_number = '{}'", build::ADA.0)).await;
    let patient = format!("Patient/{}", id[0][0].as_str().unwrap());
    (practice, app.staff("coach-north").await, format!("ServiceRequest/{}", made.id()), patient)
}

async fn refused_ones(app: &TestApp, coach: &Caller, referral: &str, patient: &str, many: usize) -> Vec<String> {
    let no = Fault::Answer { status: 422, retry_after: None };
    app.stand_in.faults().next(many, Aim::at(Traffic::Writes), no);
    for _ in 0..many {
        coach.post("Encounter", &build::encounter(referral, patient)).await.expect(201);
        app.settled().await;
    }
    let ids = app.rows("select id from delivery where state = 'refused' order by created_at, id").await;
    ids.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

async fn metrics(app: &TestApp) -> String {
    app.http.get(format!("{}/metrics", app.base)).send().await.unwrap().text().await.unwrap()
}

on_each_database! {
    async fn what_was_refused_is_listed_shown_and_sent_again_and_its_task_is_closed(app: TestApp) {
        let (_, coach, referral, patient) = referred(&app).await;
        let ids = refused_ones(&app, &coach, &referral, &patient, 3).await;
        assert_eq!(ids.len(), 3);
        assert_eq!(app.count("task where code = 'delivery-failed' and open").await, 1);

        let (_, said) = terminal(&app, &["list", "--state", "refused", "--practice", "TESTA1", "--json"]);
        let listed: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(listed.iter().map(|v| v["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
        assert!(listed.iter().all(|v| v["why"] == "status-422" && v["attempts"] == 1), "{listed:?}");
        assert!(terminal(&app, &["list", "--practice", "TESTA2"]).1.contains("No such deliveries"));
        // The service's clock stands in March; the terminal's is the machine's, so that all are old.
        assert_eq!(terminal(&app, &["list", "--older-than", "1h"]).1.lines().count(), 3);
        let (_, said) = terminal(&app, &["show", &ids[0]]);
        assert!(said.contains("refused status-422") && said.contains(&referral), "{said}");
        assert!(!said.contains("Testperson") && !said.contains(build::ADA.0), "{said}");

        // Many are counted before they are sent, and nobody is asked where nobody is.
        let (well, said) = terminal(&app, &["replay", "--practice", "TESTA1", "--dry-run"]);
        assert!(well && said.contains("3 would be replayed"), "{said}");
        let (well, said) = terminal(&app, &["replay", "--practice", "TESTA1"]);
        assert!(!well && said.contains("--yes"), "{said}");
        assert_eq!(app.count("delivery where state = 'refused'").await, 3, "nothing was changed");

        let (well, said) = terminal(&app, &["replay", &ids[0]]);
        assert!(well && said.contains("1 replayed"), "{said}");
        assert_eq!(app.count("task where code = 'delivery-failed' and open").await, 1, "two still need it");
        let (well, said) = terminal(&app, &["replay", "--practice", "TESTA1", "--yes"]);
        assert!(well && said.contains("2 replayed"), "{said}");
        assert_eq!(app.count("task where code = 'delivery-failed' and status = 'cancelled'").await, 1);
        assert_eq!(app.count("audit where interaction = 'delivery replay' and client = 'terminal:olga'").await, 3);
        // The terminal's clock is ahead of the service's.
        app.clock.advance(Duration::from_secs(3600 * 24 * 365));
        app.settled().await;
        assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 3);
        assert_eq!(app.count("delivery where state = 'delivered'").await, 3);
    }

    async fn what_is_given_up_is_over_and_says_why(app: TestApp) {
        let (_, coach, referral, patient) = referred(&app).await;
        let ids = refused_ones(&app, &coach, &referral, &patient, 1).await;
        let (well, said) = terminal(&app, &["cancel", &ids[0], "--reason", "filed by hand"]);
        assert!(well && said.contains("1 cancelled"), "{said}");
        let row = app.rows("select state, why from delivery").await;
        assert_eq!((row[0][0].as_str(), row[0][1].as_str()), (Some("cancelled"), Some("filed by hand")));
        assert_eq!(app.count("task where code = 'delivery-failed' and open").await, 0);
        assert_eq!(app.count("audit where interaction = 'delivery cancel'").await, 1);
        let (well, said) = terminal(&app, &["cancel", &ids[0], "--reason", "again"]);
        assert!(!well && said.contains("cannot be cancelled"), "{said}");
        assert!(!terminal(&app, &["replay", "nothing-like-it"]).0);
    }

    async fn an_integrator_sees_what_went_to_their_own_practice(app: TestApp) {
        let (practice, coach, referral, patient) = referred(&app).await;
        refused_ones(&app, &coach, &referral, &patient, 1).await;
        coach.post("Encounter", &build::encounter(&referral, &patient)).await.expect(201);
        app.settled().await;
        let path = format!("{referral}/$deliveries");
        let seen = practice.get(path.clone()).await.expect(200);
        let told: Vec<(Value, Value)> = seen
            .resources()
            .iter()
            .map(|c| (c["status"].clone(), c["statusReason"]["coding"][0]["code"].clone()))
            .collect();
        assert_eq!(told, [("not-done".into(), "rejected".into()), ("completed".into(), "filed".into())]);
        assert!(seen.resources().iter().all(|c| c["resourceType"] == "Communication"
            && c["basedOn"][0]["reference"] == referral.as_str()
            && c["recipient"][0]["identifier"]["value"] == "TESTA1"));
        assert_eq!(coach.get(path.clone()).await.expect(200).resources().len(), 2);
        // Not theirs, and not there, answer alike.
        let other = app.practice("TESTA2").await;
        assert_eq!(other.get(path).await.status, 404);
        assert_eq!(other.get("ServiceRequest/nothing/$deliveries").await.status, 404);
        assert_eq!(app.count("audit where interaction = '$deliveries' and outcome = 'success'").await, 2);
    }

    async fn depth_and_age_are_told_for_every_state_also_what_is_paused_or_waits_in_line(app: TestApp) {
        let (_, coach, referral, patient) = referred(&app).await;
        refused_ones(&app, &coach, &referral, &patient, 1).await;
        let tired = Fault::Answer { status: 503, retry_after: Some(600) };
        app.stand_in.faults().next(1, Aim::at(Traffic::Writes), tired);
        for _ in 0..3 {
            coach.post("Encounter", &build::encounter(&referral, &patient)).await.expect(201);
        }
        app.settled().await;
        app.clock.advance(Duration::from_secs(100));
        let said = metrics(&app).await;
        for line in [
            "livewell_deliveries{practice=\"TESTA1\",state=\"refused\",waits_for=\"person\"} 1",
            "livewell_deliveries{practice=\"TESTA1\",state=\"retrying\",waits_for=\"pause\"} 1",
            "livewell_deliveries{practice=\"TESTA1\",state=\"pending\",waits_for=\"line\"} 2",
            "livewell_delivery_oldest_seconds{practice=\"TESTA1\",state=\"retrying\",waits_for=\"pause\"} 100",
            "livewell_deliveries_need_person{practice=\"TESTA1\"} 1",
            "livewell_destination_paused{practice=\"TESTA1\"} 1",
            "livewell_destination_open{practice=\"TESTA1\"} 0",
            "livewell_delivery_attempts_total{practice=\"TESTA1\",verdict=\"refused\"} 1",
        ] {
            assert!(said.lines().any(|l| l == line), "{line} is missing from\n{said}");
        }
        let (_, said) = terminal(&app, &["list", "--state", "pending"]);
        assert!(said.contains("waits behind another"), "{said}");
    }

    async fn what_cannot_be_sent_is_parked_and_the_rest_goes_on(app: TestApp) {
        let (_, coach, referral, patient) = referred(&app).await;
        app.stand_in.faults().next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 503, retry_after: Some(60) });
        for _ in 0..6 {
            coach.post("Encounter", &build::encounter(&referral, &patient)).await.expect(201);
        }
        app.settled().await;
        // What no code of ours could have written, and one that has ended the process a dozen times.
        for (place, spoilt) in [(2, "items = 'rubbish'"), (3, "items = '[{\"kind\":\"Encounter\",\"id\":\"nowhere\",\"version\":1}]'"), (4, "lapses = 12")] {
            app.rows(&format!("update delivery set {spoilt} where place = {place}")).await;
        }
        app.clock.advance(Duration::from_secs(90));
        app.settled().await;
        let states = app.rows("select state, why from delivery order by place").await;
        let states: Vec<&str> = states.iter().map(|row| row[0].as_str().unwrap()).collect();
        assert_eq!(states, ["delivered", "refused", "refused", "needs-person", "delivered", "delivered"]);
        assert_eq!(app.count("delivery_attempt where verdict in ('refused', 'needs-person')").await, 3, "with their causes");
        assert_eq!(app.count("task where code = 'delivery-failed' and open").await, 1);
        assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 3);
    }

    async fn a_practice_out_of_reach_for_three_days_is_a_persons_to_look_into(app: TestApp) {
        let down = Fault::Answer { status: 500, retry_after: None };
        app.stand_in.faults().sometimes(1.0, Aim::at(Traffic::Reads), down);
        let (_, coach, referral, patient) = referred(&app).await;
        for _ in 0..2 {
            coach.post("Encounter", &build::encounter(&referral, &patient)).await.expect(201);
        }
        for hours in [0, 1, 2, 4, 8, 80] {
            app.clock.advance(Duration::from_secs(3600 * hours));
            app.settled().await;
        }
        let of_practice = "task where code = 'practice-unreachable' and practice = 'TESTA1' and person = '' and open";
        assert_eq!(app.count(of_practice).await, 1);
        // The one that was tried so long is parked by itself, and the one behind it goes on being tried.
        let states = app.rows("select state, why from delivery order by place").await;
        assert_eq!(states[0], ["needs-person", "retries-exhausted"]);
        assert!(["pending", "retrying"].contains(&states[1][0].as_str().unwrap()), "{states:?}");
        app.clock.advance(Duration::from_secs(3600));
        app.settled().await;
        assert_eq!(app.count(of_practice).await, 1, "once is enough");
    }

    async fn a_dead_practice_is_left_alone_but_for_one_that_tries_and_hurries_when_it_is_back(app: TestApp) {
        let down = Fault::Answer { status: 500, retry_after: None };
        app.stand_in.faults().sometimes(1.0, Aim::at(Traffic::Reads), down);
        let (_, coach, referral, patient) = referred(&app).await;
        for _ in 0..3 {
            coach.post("Encounter", &build::encounter(&referral, &patient)).await.expect(201);
        }
        // Its schedule alone would have it tried after 1 s, 60 s, 5 min, 30 min; the fifth failure opens the breaker.
        for minutes in [0, 2, 7, 40, 160] {
            app.clock.advance(Duration::from_secs(60 * minutes));
            app.settled().await;
        }
        assert_eq!(app.count("destination where practice = 'TESTA1' and opened_at > 0").await, 1);
        app.stand_in.faults().clear();
        app.clock.advance(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(app.count("delivery where state = 'delivered'").await, 0, "its minute is not over");
        // The next attempt of the first would be due in hours: whoever is due tries for all.
        let probe = app.staff("coach-north").await;
        assert_eq!(app.count("delivery where attempts = 5").await, 1);
        app.clock.advance(Duration::from_secs(6 * 3600));
        app.settled().await;
        probe.post("Encounter", &build::encounter(&referral, &patient)).await.expect(201);
        app.settled().await;
        assert_eq!(app.count("delivery where state = 'delivered'").await, 4);
        assert_eq!(app.count("destination where opened_at > 0 or failures > 0").await, 0, "closed again");
    }
}
