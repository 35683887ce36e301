//! One practice cannot slow the others down: not by being dead, and not by having very much to be told.

use std::time::{Duration, Instant};

use livewell::demo::practice::{Aim, Fault, Traffic};

use crate::support::Database;
use crate::support::binary::{Binary, run};
use crate::support::practices::{Known, connected, record, refer};

const DEAD: &str = "TESTF00";
const FLOODING: &str = "TESTF01";

/// Milliseconds from recorded to delivered within which 95 of 100 deliveries to the other practices lie, of those queued
/// since `since` (microseconds).
async fn p95(service: &Binary, since: i64) -> i64 {
    let mut all: Vec<i64> = service
        .rows(&format!(
            "select settled_at - created_at from delivery where practice not in ('{DEAD}', '{FLOODING}') \
             and state = 'delivered' and created_at >= {since}"
        ))
        .await
        .iter()
        .map(|row| row[0].as_i64().unwrap() / 1000)
        .collect();
    all.sort_unstable();
    assert!(all.len() >= 96, "{}", all.len());
    all[all.len() * 95 / 100]
}

/// Two records for each of the other practices, one practice after the other, and all of them delivered.
async fn others(service: &Binary, known: &[Known]) {
    let mut token = None;
    for _ in 0..2 {
        for known in known.iter().filter(|k| k.practice != DEAD && k.practice != FLOODING) {
            record(service, &mut token, known).await;
        }
    }
    let waiting = format!("delivery where settled_at is null and practice not in ('{DEAD}', '{FLOODING}')");
    let until = Instant::now() + Duration::from_secs(60);
    while service.count(&waiting).await > 0 {
        assert!(Instant::now() < until, "they wait");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn now() -> i64 {
    livewell::time::Clock::System.now().timestamp_micros()
}

async fn a_dead_and_a_flooding_practice(database: Database) {
    let Some(mut service) = Binary::new(database).await else { return };
    let practices: Vec<String> = (0..50).map(|n| format!("TESTF{n:02}")).collect();
    let keys = service.url("/.well-known/jwks.json");
    let (stand_in, people) =
        connected(&mut service, &keys, &practices, |p| if [DEAD, FLOODING].contains(&p) { 10 } else { 1 }).await;
    service.start().await;
    let known = refer(&service, people).await;
    let of = |practice: &'static str| known.iter().filter(move |k| k.practice == practice);
    others(&service, &known).await;
    let began = now();
    others(&service, &known).await;
    let normal = p95(&service, began).await;

    // One is dead, with ten lines that wait for it; the other is told two hundred things at once.
    stand_in.faults().sometimes(1.0, Aim::at(Traffic::All).of(DEAD), Fault::Hang);
    let mut token = None;
    for known in of(DEAD) {
        record(&service, &mut token, known).await;
    }
    for _ in 0..20 {
        for known in of(FLOODING) {
            record(&service, &mut token, known).await;
        }
    }
    let began = now();
    others(&service, &known).await;
    let troubled = p95(&service, began).await;
    // All that can be are in its hands, and no more.
    let dead = service.count(&format!("delivery where practice = '{DEAD}' and lease_until > 0")).await;
    assert!((1..=4).contains(&dead), "the dead practice holds {dead}");
    println!("p95 of the others: {normal} ms, and {troubled} ms beside a dead and a flooding practice");
    // On a busy machine small times are noise.
    assert!(troubled <= (2 * normal).max(500), "{troubled} ms, normally {normal} ms");
    service.end().await;
}

#[test]
fn a_dead_and_a_flooding_practice_slow_nobody_on_sqlite() {
    run(a_dead_and_a_flooding_practice(Database::Sqlite));
}

#[test]
fn a_dead_and_a_flooding_practice_slow_nobody_on_postgresql() {
    run(a_dead_and_a_flooding_practice(Database::Postgres));
}
