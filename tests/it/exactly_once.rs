//! Exactly one effect at the practice, and in order: faults of every kind there, and the real binary killed and stopped
//! here.
//!
//! `TEST_WRITE_BACKS=5000 cargo test --test it exactly_once` runs longer (the default is sized for two cores).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use livewell::demo::practice::{Aim, Fault, StandIn, Traffic};
use livewell::fhir::path;
use livewell::fhir::systems::RECORD;
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::Database;
use crate::support::binary::{Binary, run};
use crate::support::practices::{connected, record, refer};

const PRACTICES: [&str; 4] = ["TESTA1", "TESTA2", "TESTA3", "TESTA4"];
const KILLS: usize = 10;

/// How many write-backs, unless the environment says otherwise.
fn write_backs() -> usize {
    std::env::var("TEST_WRITE_BACKS").ok().and_then(|n| n.parse().ok()).unwrap_or(600)
}

/// Where our records are at a practice: our id, and the place in the order in which the practice wrote them.
fn there(stand_in: &StandIn, practice: &str) -> BTreeMap<String, u64> {
    let mut there = BTreeMap::new();
    for encounter in stand_in.resources(practice, "Encounter") {
        let ours = path::all(&encounter, "identifier").into_iter().find(|i| i["system"] == RECORD).unwrap();
        let place = encounter["id"].as_str().unwrap().parse().unwrap();
        let twice = there.insert(ours["value"].as_str().unwrap().to_owned(), place);
        assert_eq!(twice, None, "twice at the practice");
    }
    there
}

/// Everything recorded is at its practice, once, and for each person in the order in which it was recorded.
fn everything_is_there(stand_in: &StandIn, recorded: &[(String, Vec<String>)]) {
    for practice in PRACTICES {
        let there = there(stand_in, practice);
        let of_it: Vec<&Vec<String>> = recorded.iter().filter(|(at, _)| *at == practice).map(|(_, ids)| ids).collect();
        let wanted: BTreeSet<&String> = of_it.iter().copied().flatten().collect();
        assert_eq!(there.keys().collect::<BTreeSet<_>>(), wanted, "none missing, none too many");
        assert_eq!(stand_in.resources(practice, "Provenance").len(), wanted.len());
        for ids in of_it {
            let order: Vec<u64> = ids.iter().map(|id| there[id]).collect();
            assert!(order.is_sorted(), "{order:?}");
        }
    }
}

/// Says how far it is, where somebody waits for a long run: past the capture of the test harness.
fn say(said: std::fmt::Arguments<'_>) {
    if std::env::var_os("TEST_WRITE_BACKS").is_some() {
        let _ = writeln!(std::io::stderr(), "exactly once: {said}");
    }
}

async fn until_settled(service: &Binary, patience: Duration) {
    let (until, mut told) = (Instant::now() + patience, Instant::now());
    while service.count("delivery where settled_at is null").await > 0 {
        if told.elapsed() > Duration::from_secs(5) {
            let left = service.rows("select state, count(*) from delivery group by state order by state").await;
            say(format_args!("{left:?}"));
            told = Instant::now();
        }
        if Instant::now() > until {
            let left = service.rows("select state, why, count(*) from delivery group by state, why").await;
            panic!("not delivered: {left:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn through_faults_and_kills(database: Database) {
    let Some(service) = Binary::new(database).await else { return };
    // The waits between attempts a thousandth, so that all of it fits into a minute.
    let mut service = service
        .with("LIVEWELL_DELIVERY_PACE", "0.001")
        .with("LIVEWELL_DELIVERY_LEASE_SECONDS", "2")
        .with("LIVEWELL_DELIVERY_ATTEMPT_SECONDS", "2")
        .with("LIVEWELL_DELIVERY_PER_MINUTE", "60000");
    let keys = service.url("/.well-known/jwks.json");
    let (stand_in, people) = connected(&mut service, &keys, &PRACTICES, |_| 6).await;
    service.start().await;
    let known = refer(&service, people).await;

    let faults = stand_in.faults();
    faults.seed(rand::rng().random());
    let answer = |status, retry_after| Fault::Answer { status, retry_after };
    for (probability, traffic, fault) in [
        (0.05, Traffic::Writes, Fault::DropReply),
        (0.06, Traffic::Writes, answer(500, None)),
        (0.03, Traffic::All, answer(503, None)),
        (0.01, Traffic::All, answer(429, Some(1))),
        (0.02, Traffic::Writes, Fault::Hang),
        (0.05, Traffic::Writes, Fault::DropRequest),
        (0.20, Traffic::Writes, Fault::Delay(Duration::from_millis(50))),
    ] {
        faults.sometimes(probability, Aim::at(traffic), fault);
    }

    let (service, left) = (Arc::new(service), Arc::new(AtomicUsize::new(write_backs())));
    let mut recorders = tokio::task::JoinSet::new();
    for known in known {
        let (service, left) = (Arc::clone(&service), Arc::clone(&left));
        recorders.spawn(async move {
            let (mut ids, mut token) = (Vec::new(), None);
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                ids.push(record(&service, &mut token, &known).await);
            }
            (known.practice, ids)
        });
    }
    let began = Instant::now();
    for kill in 1..=KILLS {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(400..1500))).await;
        service.kill();
        service.start().await;
        say(format_args!("killed {kill} times, {} to record", left.load(Ordering::SeqCst)));
    }
    let recorded = recorders.join_all().await;
    say(format_args!("all recorded after {:.0?}", began.elapsed()));
    until_settled(&service, Duration::from_secs(200 + write_backs() as u64 / 10)).await;

    let total: usize = recorded.iter().map(|(_, ids)| ids.len()).sum();
    assert_eq!(total, write_backs());
    assert_eq!(service.count("delivery where state = 'delivered'").await, i64::try_from(total).unwrap());
    everything_is_there(&stand_in, &recorded);
    let again = service.count("delivery where lease > 1").await;
    let summary = format!(
        "{total} write-backs through {KILLS} kills and {} faults in {:.0?} on {database:?}, {again} of them in several attempts: each once, in order",
        faults.struck(),
        began.elapsed()
    );
    println!("{summary}");
    say(format_args!("{summary}"));
    service.end().await;
}

#[test]
fn every_write_back_has_one_effect_through_faults_and_kills_on_sqlite() {
    run(through_faults_and_kills(Database::Sqlite));
}

#[test]
fn every_write_back_has_one_effect_through_faults_and_kills_on_postgresql() {
    run(through_faults_and_kills(Database::Postgres));
}

/// Answers every request with this.
async fn shown(listener: tokio::net::TcpListener, body: String) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ";
    while let Ok((mut socket, _)) = listener.accept().await {
        let _ = socket.read(&mut [0; 4096]).await;
        let _ = socket.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await;
    }
}

/// With the real lease of 20 seconds.
#[test]
fn a_process_that_stood_still_past_its_lease_settles_nothing_that_another_has_done() {
    run(async {
        let Some(service) = Binary::new(Database::Postgres).await else { return };
        let mut service = service.with("LIVEWELL_DELIVERY_IN_FLIGHT", "8");
        let other = service.beside();
        // The practices look for the service's keys where neither of the two has to answer.
        let keys = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("http://{}/", keys.local_addr().unwrap());
        let (stand_in, people) = connected(&mut service, &place, &PRACTICES, |_| 5).await;
        service.start().await;
        tokio::spawn(shown(keys, service.get("/.well-known/jwks.json").await));
        let known = refer(&service, people).await;
        // The practices know us, and one attempt each is under way and unanswered when the process is stopped.
        let faults = stand_in.faults();
        let mut token = None;
        let mut recorded = Vec::new();
        faults.sometimes(1.0, Aim::at(Traffic::Writes), Fault::Delay(Duration::from_secs(15)));
        for known in &known {
            recorded.push((known.practice.clone(), vec![record(&service, &mut token, known).await]));
        }
        let until = Instant::now() + Duration::from_secs(30);
        while service.count("delivery where lease > 0 and settled_at is null").await < 20 {
            assert!(Instant::now() < until, "they are not sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service.signal("STOP");
        let stopped = Instant::now();
        other.start().await;
        faults.clear();
        let until = stopped + Duration::from_secs(40);
        while service.count("delivery where lease > 1").await < 20 {
            assert!(Instant::now() < until, "not rescued");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let rescued = stopped.elapsed();
        until_settled(&other, Duration::from_secs(30)).await;
        let before = service.rows("select id, state, lease, worker, settled_at from delivery order by id").await;

        // It comes back in the middle of twenty attempts that are someone else's and done.
        service.signal("CONT");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = service.rows("select id, state, lease, worker, settled_at from delivery order by id").await;
        assert_eq!(before, after, "a stale completion was taken");
        assert_eq!(service.count("delivery_attempt where number = 1").await, 0, "of what was lost nothing is written");
        assert_eq!(service.count("delivery_attempt where number = 2 and verdict = 'delivered'").await, 20);
        everything_is_there(&stand_in, &recorded);
        assert!(rescued <= Duration::from_secs(25), "{rescued:?}");
        println!("20 deliveries rescued within {rescued:?}");
        other.kill();
        service.end().await;
    });
}
