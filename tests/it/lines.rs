//! Lines: what concerns one person at one practice goes one after the other, however many lines there are, and however many
//! workers take from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use livewell::app;
use livewell::config::Config;
use livewell::pathway::delivery::{Limits, Pace, Verdict, Why};
use livewell::store::{At, Leased, NewDelivery, PersonRow, Store};
use livewell::workflow::{self, Actor, Attempted, House, Terms};
use rand::RngExt;
use tokio::task::JoinSet;

use crate::database::Database;
use crate::support::database::Made;

const PRACTICES: usize = 20;
const PEOPLE: usize = 25;
const VERSIONS: usize = 10;
const WORKERS: usize = 4;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn delivery(practice: &str, person: &str, version: usize) -> NewDelivery {
    NewDelivery {
        id: format!("{practice}/{person}/{version:02}"),
        purpose: "write-back",
        practice: practice.to_owned(),
        person: person.to_owned(),
        referral: String::new(),
        items: Vec::new(),
        author: String::new(),
        state: "pending",
        why: "",
        due_at: now().into(),
        created_at: now().into(),
    }
}

async fn queue(store: &Store, deliveries: &[NewDelivery]) {
    for some in deliveries.chunks(250) {
        let mut tx = store.write().await.unwrap();
        for one in some {
            tx.insert_delivery(one).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
}

async fn people(store: &Store, ids: impl Iterator<Item = String>) {
    let mut tx = store.write().await.unwrap();
    for id in ids {
        let [birth_date, family, practice, locality] = [const { String::new() }; 4];
        tx.insert_person(&PersonRow { id, nhs_number: None, birth_date, family, practice, locality }).await.unwrap();
    }
    tx.commit().await.unwrap();
}

fn terms<'a>(worker: &'a str, limits: &'a (dyn Fn(&str) -> Limits + Sync)) -> Terms<'a> {
    Terms { worker, lease: chrono::Duration::seconds(20), pace: Pace::REAL, limits }
}

fn wide(_practice: &str) -> Limits {
    Limits { in_flight: 100, per_minute: 1_000_000, burst: 1_000_000 }
}

/// What the practices have, in the order in which it came, and what is under way to them.
#[derive(Default)]
struct Practices {
    there: BTreeMap<String, Vec<String>>,
    under_way: BTreeSet<String>,
}

fn line(leased: &Leased) -> String {
    format!("{}/{}", leased.practice, leased.person)
}

/// Takes and sends until nothing is due at this moment. Attempts are refused for a while, end unanswered before and after
/// the practice has written, and end with the worker.
async fn work(store: Store, house: Arc<House>, worker: String, at: DateTime<Utc>, practices: Arc<Mutex<Practices>>) {
    let actor = Actor::service("TESTLW");
    loop {
        let taken = workflow::take(&store, &terms(&worker, &wide), at, 40).await;
        let Ok(taken) = taken else { continue };
        if taken.leased.is_empty() {
            return;
        }
        for leased in taken.leased {
            let chance: f64 = rand::rng().random();
            let verdict = {
                let mut practices = practices.lock().unwrap();
                assert!(practices.under_way.insert(line(&leased)), "two of one line are under way: {}", leased.id);
                let there = practices.there.entry(line(&leased)).or_default();
                // An attempt after another looks first.
                if chance > 0.03 && !(leased.attempts > 1 && there.contains(&leased.id)) {
                    there.push(leased.id.clone());
                }
                practices.under_way.remove(&line(&leased));
                match chance {
                    0.0..0.03 => Verdict::Retry { after: None, why: Why::Status(503) },
                    0.03..0.06 => Verdict::Unknown { why: Why::ConnectionLost },
                    // The worker ends with what it had in hand: its lease lapses.
                    0.06..0.08 => continue,
                    _ => Verdict::Delivered { receipts: Vec::new() },
                }
            };
            let attempted = Attempted { verdict: &verdict, at, took: Duration::ZERO, random: 0.5, pace: Pace::REAL };
            let settle = || workflow::settle(&store, &house, &actor, at, &leased, &[], &attempted);
            assert!(workflow::retrying(settle).await.unwrap(), "nobody else had it");
        }
    }
}

on_each_store! {
    async fn of_five_hundred_lines_of_ten_each_keeps_its_order_and_loses_nothing(database: Database) {
        let store = database.open().await;
        let names: Vec<(String, String)> = (0..PRACTICES)
            .flat_map(|practice| (0..PEOPLE).map(move |person| (format!("TEST{practice:02}"), format!("p{practice:02}{person:02}"))))
            .collect();
        people(&store, names.iter().map(|(_, person)| person.clone())).await;
        // As they are recorded over time: the first of everybody, then the second of everybody.
        let all: Vec<NewDelivery> = (0..VERSIONS)
            .flat_map(|version| names.iter().map(move |(practice, person)| delivery(practice, person, version)))
            .collect();
        queue(&store, &all).await;

        let house = Arc::new(app::house(&Config::default(), "http://127.0.0.1".to_owned()).unwrap());
        let practices = Arc::new(Mutex::new(Practices::default()));
        let mut at = now();
        for round in 0.. {
            assert!(round < 60, "it does not come to an end");
            let mut workers = JoinSet::new();
            for worker in 0..WORKERS {
                let (store, house, practices) = (store.clone(), Arc::clone(&house), Arc::clone(&practices));
                workers.spawn(work(store, house, format!("worker {worker}"), at, practices));
            }
            while let Some(ended) = workers.join_next().await {
                ended.unwrap();
            }
            let depths = store.read().await.unwrap().delivery_depths(&Default::default()).await.unwrap();
            if depths.is_empty() {
                break;
            }
            // Past what is waited for, and past every lease.
            at += chrono::Duration::hours(13);
        }
        let there = std::mem::take(&mut practices.lock().unwrap().there);
        assert_eq!(there.len(), PRACTICES * PEOPLE);
        for (line, there) in &there {
            let wanted: Vec<String> = (0..VERSIONS).map(|version| format!("{line}/{version:02}")).collect();
            assert_eq!(*there, wanted, "each once, in the order recorded");
        }
        let mut tx = store.read().await.unwrap();
        for one in &all {
            let row = tx.delivery(&one.id).await.unwrap().unwrap();
            assert_eq!((row.state.as_str(), row.behind), ("delivered", false), "{}", one.id);
            assert!(!tx.attempts(&one.id).await.unwrap().is_empty());
        }
    }

    /// A release that knows nothing of `behind` settles the first of a line, and leaves the one after it waiting for nothing.
    async fn a_line_whose_first_an_earlier_release_settled_goes_on(database: Database) {
        let store = database.open().await;
        people(&store, ["ada", "bea", "cyd"].map(str::to_owned).into_iter()).await;
        let all: Vec<NewDelivery> = ["ada", "bea", "cyd"]
            .iter()
            .flat_map(|person| (0..3).map(move |version| delivery("TESTA1", person, version)))
            .chain((0..2).map(|version| delivery("Subscription/1", "", version)))
            .collect();
        queue(&store, &all).await;
        let waits = async |id: &str| {
            let mut tx = store.read().await.unwrap();
            let row = tx.delivery(id).await.unwrap().unwrap();
            row.settled_at.is_none() && row.behind
        };
        // As the earlier release writes it: all that a settled delivery has, and nothing of those behind it.
        let settled = |row: &Leased| Leased { state: "delivered".to_owned(), settled_at: Some(At::from(now())), ..row.clone() };
        for id in ["TESTA1/ada/00", "Subscription/1//00"] {
            let settle = format!("update delivery set state = 'delivered', settled_at = 1 where id = '{id}'");
            Made::at(&database.url).rows(&settle).await;
        }
        assert!(waits("TESTA1/ada/01").await && waits("Subscription/1//01").await, "nothing tells them to go");
        let ids = |taken: workflow::Taken| {
            let ids: BTreeSet<String> = taken.leased.into_iter().map(|leased| leased.id).collect();
            ids
        };
        let take = async |at: DateTime<Utc>| ids(workflow::take(&store, &terms("one", &wide), at, 40).await.unwrap());
        assert_eq!(take(now()).await, BTreeSet::from(["TESTA1/bea/00", "TESTA1/cyd/00"].map(str::to_owned)));

        let free = async || {
            let mut tx = store.write().await.unwrap();
            let freed = tx.free_stuck_lines().await.unwrap();
            tx.commit().await.unwrap();
            freed
        };
        assert_eq!(free().await, 2, "one of each line that stood still, and none of those that wait for something");
        assert!(!waits("TESTA1/ada/01").await && waits("TESTA1/ada/02").await && waits("TESTA1/bea/01").await);
        assert_eq!(take(now()).await, BTreeSet::from(["TESTA1/ada/01", "Subscription/1//01"].map(str::to_owned)));
        assert_eq!(free().await, 0, "what moves is left alone");
        let mut tx = store.write().await.unwrap();
        let row = tx.delivery("TESTA1/ada/01").await.unwrap().unwrap();
        assert!(tx.settle_delivery(&settled(&row)).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(take(now()).await, BTreeSet::from(["TESTA1/ada/02".to_owned()]), "and the line goes on by itself");
    }
}
