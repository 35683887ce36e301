//! Whatever goes wrong at the practice, each thing is there once in the end, or a person is asked.

use std::time::Duration;

use livewell::demo::practice::{Aim, Fault, Traffic};
use serde_json::json;

use super::{
    HOUR, MINUTE, asked_of_co_ordinator, deliveries, is_there, later, ours_at, practice_sees, there, time_passes,
};
use crate::journey::{activation, encounter, goal, known, read, record, sharing, transact};
use crate::support::{TestApp, on_each_database};

on_each_database! {
    async fn a_practice_that_fails_for_a_while_has_each_thing_once_in_the_end(app: TestApp) {
        let faults = app.stand_in.faults();
        let answer = |status| Fault::Answer { status, retry_after: None };
        for (traffic, fault, count) in [
            (Traffic::Writes, answer(500), 1),
            (Traffic::Writes, answer(503), 3),
            (Traffic::Writes, answer(429), 1),
            (Traffic::Writes, Fault::DropReply, 1),
            (Traffic::Writes, Fault::DropReply, 2),
            (Traffic::Writes, Fault::DropRequest, 2),
            (Traffic::Reads, answer(502), 2),
            (Traffic::Reads, Fault::DropRequest, 3),
            (Traffic::Reads, answer(401), 1),
            (Traffic::Writes, answer(401), 1),
            (Traffic::Tokens, answer(503), 1),
            (Traffic::Tokens, Fault::DropReply, 1),
            (Traffic::All, answer(503), 4),
            (Traffic::All, Fault::DropReply, 5),
        ] {
            let said = format!("{count} x {traffic:?} {fault:?}");
            let journey = known(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            let struck = faults.struck();
            faults.next(count, Aim::at(traffic), fault);
            if traffic == Traffic::Tokens {
                // The token held is over, so that the practice is asked for a new one.
                app.clock.advance(HOUR);
            }
            let coach = if traffic == Traffic::Tokens { app.staff("coach-north").await } else { coach };
            let made = transact(&coach, &[encounter(&app, &journey), goal(&journey)]).await;
            time_passes(&app).await;
            assert!(faults.struck() > struck, "{said}: nothing failed");
            faults.clear();
            for kept in &made {
                assert!(is_there(&app, "TESTA1", kept), "{said}: {:?}", deliveries(&app).await);
            }
        }
        let provenances = app.stand_in.resources("TESTA1", "Provenance").len();
        assert_eq!(provenances, 14, "one for each unit of work");
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn a_practice_without_transactions_has_each_thing_once_though_it_broke_off_between_them(app: TestApp) {
        app.stand_in.take_transactions(false);
        let faults = app.stand_in.faults();
        let answer = |status| Fault::Answer { status, retry_after: None };
        let kinds = [answer(503), answer(429), answer(504), Fault::DropReply, Fault::DropRequest];
        for (seed, fault) in kinds.into_iter().enumerate() {
            let journey = known(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            faults.seed(seed as u64);
            faults.next(1, Aim::at(Traffic::Writes), fault.clone());
            faults.sometimes(0.5, Aim::at(Traffic::Writes), fault.clone());
            let struck = faults.struck();
            let mut set = [
                goal(&journey),
                activation(&app, &journey, "56.40", Some(3)),
                encounter(&app, &journey),
                sharing(&app, &journey, "permit"),
            ];
            set[1]["note"] = json!([{ "text": "Filled in together" }]);
            let made = transact(&coach, &set).await;
            app.settled().await;
            faults.clear();
            time_passes(&app).await;
            assert!(faults.struck() > struck, "{fault:?}: nothing failed");
            for kept in &made {
                assert!(is_there(&app, "TESTA1", kept), "{fault:?}: {:?}", deliveries(&app).await);
            }
            // A correction goes the same way.
            let mut wrong = read(&coach, &made[2]).await;
            wrong["status"] = json!("entered-in-error");
            coach.put(format!("/fhir/{}", made[2]), &wrong).await.expect(200);
            time_passes(&app).await;
            assert_eq!(there(&app, "TESTA1", &made[2])["status"], "entered-in-error");
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Provenance").len(), 10, "one for each unit of work");
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn a_refused_token_is_renewed_at_once(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let faults = app.stand_in.faults();
        faults.next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 401, retry_after: None });
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert_eq!(faults.struck(), 1);
        assert!(is_there(&app, "TESTA1", &kept), "{:?}", deliveries(&app).await);
        assert_eq!(app.count("delivery_attempt").await, 1, "within the one attempt");
    }

    async fn retry_after_is_kept(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let faults = app.stand_in.faults();
        faults.next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 503, retry_after: Some(600) });
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let practice = app.practice("TESTA1").await;
        assert_eq!(practice_sees(&practice, &journey).await, ["retrying"]);
        later(&app, Duration::from_secs(599)).await;
        assert_eq!(app.count("delivery_attempt").await, 1, "not a second sooner than asked");
        later(&app, Duration::from_secs(121)).await;
        assert!(is_there(&app, "TESTA1", &kept));
        let attempts = app.rows("select number, verdict, why from delivery_attempt order by number").await;
        assert_eq!(attempts[0][1..], [json!("retry"), json!("status-503")]);
        assert_eq!(attempts[1][1..], [json!("delivered"), json!("")]);
    }

    async fn a_practice_that_does_not_answer_in_time_has_each_thing_once_in_the_end(app: TestApp) {
        let (hung, slow) = (known(&app, "TESTA1", "routine").await, known(&app, "TESTA2", "routine").await);
        let faults = app.stand_in.faults();
        // The time limit of a request is 20 s, here in real time: one never answers, one has done it and answers late.
        faults.next(1, Aim::at(Traffic::Writes).of("TESTA1"), Fault::Hang);
        faults.next(1, Aim::at(Traffic::Writes).of("TESTA2"), Fault::Delay(Duration::from_secs(22)));
        let (north, central) = (app.staff("coach-north").await, app.staff("coach-central").await);
        let one = record(&north, &encounter(&app, &hung)).await;
        let other = record(&central, &encounter(&app, &slow)).await;
        for _ in 0..120 {
            if app.count("delivery_attempt where why = 'timeout'").await == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        assert_eq!(deliveries(&app).await, vec![("unknown".to_owned(), "timeout".to_owned()); 2]);
        assert!(!is_there(&app, "TESTA1", &one));
        let practice = app.practice("TESTA2").await;
        assert_eq!(practice_sees(&practice, &slow).await, ["unknown"], "an unclear outcome is not hidden");
        time_passes(&app).await;
        there(&app, "TESTA1", &one);
        there(&app, "TESTA2", &other);
    }

    async fn what_a_practice_refuses_stops_at_once_and_goes_to_a_person(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        app.stand_in.faults().next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 422, retry_after: None });
        record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert_eq!(deliveries(&app).await, [("refused".to_owned(), "status-422".to_owned())]);
        assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, 1);
        let practice = app.practice("TESTA1").await;
        assert_eq!(practice_sees(&practice, &journey).await, ["rejected"]);
        let answer = app.rows("select answer from delivery_attempt").await;
        assert_ne!(answer[0][0], "", "what the practice said is kept");
        for told in ["$status", "$deliveries"] {
            let said = practice.get(format!("/fhir/{}/{told}", journey.referral)).await.expect(200).body.to_string();
            assert!(said.contains(answer[0][0].as_str().unwrap()) && said.contains("rejected"), "and told: {said}");
        }
        later(&app, 24 * HOUR).await;
        assert_eq!(app.count("delivery_attempt").await, 1);
    }

    async fn what_a_practice_does_not_take_in_72_hours_goes_to_a_person(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        app.stand_in.faults().sometimes(1.0, Aim::at(Traffic::All), Fault::Answer { status: 503, retry_after: None });
        record(&coach, &encounter(&app, &journey)).await;
        let began = app.clock.now();
        time_passes(&app).await;
        let tried = app.clock.now() - began;
        assert!((72..87).contains(&tried.num_hours()), "given up after {tried}");
        assert_eq!(deliveries(&app).await, [("needs-person".to_owned(), "retries-exhausted".to_owned())]);
        assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, 1);
        let attempts = app.count("delivery_attempt").await;
        assert!((11..30).contains(&attempts), "{attempts}");
    }

    async fn through_every_fault_at_once_nothing_is_lost_doubled_or_out_of_order(app: TestApp) {
        let mut people = Vec::new();
        for nth in 0..8 {
            people.push(known(&app, ["TESTA1", "TESTA2"][nth % 2], "routine").await);
        }
        let faults = app.stand_in.faults();
        faults.seed(20_260_302);
        let answer = |status| Fault::Answer { status, retry_after: None };
        faults.sometimes(0.15, Aim::at(Traffic::Writes), Fault::DropReply);
        faults.sometimes(0.10, Aim::at(Traffic::Writes), Fault::DropRequest);
        faults.sometimes(0.10, Aim::at(Traffic::All), answer(503));
        faults.sometimes(0.05, Aim::at(Traffic::All), answer(429));
        faults.sometimes(0.05, Aim::at(Traffic::Reads), Fault::DropRequest);
        let (north, central) = (app.staff("coach-north").await, app.staff("coach-central").await);
        let mut recorded: Vec<Vec<String>> = vec![Vec::new(); people.len()];
        for _ in 0..5 {
            for (nth, journey) in people.iter().enumerate() {
                let coach = if nth % 2 == 0 { &north } else { &central };
                recorded[nth].push(record(coach, &encounter(&app, journey)).await);
            }
        }
        // An attempt that is under way when the clock leaps has lost its lease, and its result is dropped.
        app.settled().await;
        // Hours of it, and then the practices recover: within the days in which it is tried, everything gets there.
        for _ in 0..6 {
            later(&app, 60 * MINUTE).await;
        }
        assert!(faults.struck() > 20, "{}", faults.struck());
        faults.clear();
        time_passes(&app).await;
        assert_eq!(deliveries(&app).await, vec![("delivered".to_owned(), String::new()); 40]);
        for (nth, kept) in recorded.iter().enumerate() {
            let practice = ["TESTA1", "TESTA2"][nth % 2];
            let written: Vec<u64> =
                kept.iter().map(|k| there(&app, practice, k)["id"].as_str().unwrap().parse().unwrap()).collect();
            assert!(written.is_sorted(), "{written:?}");
        }
        assert_eq!(ours_at(&app, "TESTA1").len() + ours_at(&app, "TESTA2").len(), 40);
        let provenances =
            app.stand_in.resources("TESTA1", "Provenance").len() + app.stand_in.resources("TESTA2", "Provenance").len();
        assert_eq!(provenances, 40);
        let gaps = app.count("delivery where attempts <> (select count(*) from delivery_attempt a where a.delivery = delivery.id)").await;
        assert_eq!(gaps, 0, "every attempt has its row");
    }
}
