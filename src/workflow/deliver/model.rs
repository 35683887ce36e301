//! The course of deliveries against a model: whatever happens in whatever order, nothing is sent twice unlooked, no stale
//! result counts, and each line keeps its order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::settle::{delivery_of, row_after};
use crate::pathway::delivery::{Delivery, DeliveryState, Pace, Reason, Verdict, Why};
use crate::store::{At, DatabaseSettings, DeliveryRow, Leased, NewDelivery, Store, Tx};

const LEASE: TimeDelta = TimeDelta::seconds(20);
const PEOPLE: usize = 3;

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    Create {
        person: usize,
    },
    /// A worker takes what is due.
    Claim {
        worker: usize,
        limit: i64,
    },
    /// A worker's oldest attempt ends so.
    End {
        worker: usize,
        how: How,
    },
    /// A worker dies, before or after the practice has written what it was sent.
    Crash {
        worker: usize,
        written: bool,
    },
    /// A worker that was thought dead settles what it had.
    Wake {
        how: How,
    },
    Pass {
        seconds: i64,
    },
    Replay {
        which: usize,
    },
    Cancel {
        which: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Delivered,
    /// Written, and the answer lost.
    Unknown,
    Retry,
    Refused,
    NeedsPerson,
}

fn event() -> impl Strategy<Value = Event> {
    let how = || {
        prop_oneof![
            4 => Just(How::Delivered),
            2 => Just(How::Unknown),
            2 => Just(How::Retry),
            1 => Just(How::Refused),
            1 => Just(How::NeedsPerson)
        ]
    };
    prop_oneof![
        5 => (0..PEOPLE).prop_map(|person| Event::Create { person }),
        6 => (0..2_usize, 1..4_i64).prop_map(|(worker, limit)| Event::Claim { worker, limit }),
        6 => (0..2_usize, how()).prop_map(|(worker, how)| Event::End { worker, how }),
        2 => (0..2_usize, any::<bool>()).prop_map(|(worker, written)| Event::Crash { worker, written }),
        1 => how().prop_map(|how| Event::Wake { how }),
        3 => prop_oneof![Just(1), Just(21), Just(600), Just(50_000)].prop_map(|seconds| Event::Pass { seconds }),
        2 => (0..40_usize).prop_map(|which| Event::Replay { which }),
        1 => (0..40_usize).prop_map(|which| Event::Cancel { which }),
    ]
}

/// The world of one case: a practice of its own in a store that all cases share.
struct World<'s> {
    store: &'s Store,
    practice: String,
    now: DateTime<Utc>,
    /// In the hands of each worker, oldest first.
    hands: [Vec<Leased>; 2],
    /// Left behind by workers that died.
    left: Vec<Leased>,
    /// What the practice has.
    there: BTreeSet<String>,
    made: Vec<String>,
}

impl World<'_> {
    async fn happen(&mut self, event: Event) {
        match event {
            Event::Create { person } => self.create(person).await,
            Event::Claim { worker, limit } => self.claim(worker, limit).await,
            Event::End { worker, how } => {
                if !self.hands[worker].is_empty() {
                    let leased = self.hands[worker].remove(0);
                    self.end(&leased, how).await;
                }
            }
            Event::Crash { worker, written } => {
                for leased in std::mem::take(&mut self.hands[worker]) {
                    // What it had in hand when its lease had lapsed it does not send any more.
                    if written && leased.lease_until.time() > self.now {
                        self.write(&leased).await;
                    }
                    self.left.push(leased);
                }
            }
            Event::Wake { how } => {
                if let Some(leased) = self.left.pop() {
                    self.settle(&leased, how).await;
                }
            }
            Event::Pass { seconds } => self.now += TimeDelta::seconds(seconds),
            Event::Replay { which } => self.look_after(which, true).await,
            Event::Cancel { which } => self.look_after(which, false).await,
        }
        self.holds().await;
    }

    async fn create(&mut self, person: usize) {
        let id = uuid::Uuid::new_v4().to_string();
        let mut tx = self.store.write().await.unwrap();
        tx.insert_delivery(&NewDelivery {
            id: id.clone(),
            purpose: "write-back",
            practice: self.practice.clone(),
            person: format!("person-{person}"),
            referral: String::new(),
            items: Vec::new(),
            author: String::new(),
            state: DeliveryState::Pending.code(),
            why: "",
            due_at: self.now.into(),
            created_at: self.now.into(),
        })
        .await
        .unwrap();
        tx.commit().await.unwrap();
        self.made.push(id);
    }

    async fn claim(&mut self, worker: usize, limit: i64) {
        let mut tx = self.store.write().await.unwrap();
        let until = At::from(self.now + LEASE);
        let name = format!("worker-{worker}");
        let leased = tx.lease_deliveries(&self.practice, &name, self.now.into(), until, limit).await.unwrap();
        tx.commit().await.unwrap();
        // Taken from another whose time had passed: that one knows, and sends nothing more.
        for taken in &leased {
            for hand in &mut self.hands {
                if let Some(at) = hand.iter().position(|mine| mine.id == taken.id) {
                    self.left.push(hand.remove(at));
                }
            }
        }
        self.hands[worker].extend(leased);
    }

    /// Sends it: only where nothing before it in its line is unsettled, and not unlooked where it may be there.
    async fn write(&mut self, leased: &Leased) {
        let looks = delivery_of(leased).unwrap().looks_first();
        assert!(looks || !self.there.contains(&leased.id), "sent again without looking");
        let line = self.line(&leased.person).await;
        assert!(line.first().is_some_and(|first| first.id == leased.id), "sent before its turn");
        self.there.insert(leased.id.clone());
    }

    async fn end(&mut self, leased: &Leased, how: How) {
        let held = leased.lease_until.time() > self.now;
        if held && matches!(how, How::Delivered | How::Unknown) {
            self.write(leased).await;
        }
        // Without its lease it has sent nothing.
        self.settle(leased, if held { how } else { How::Retry }).await;
    }

    async fn settle(&mut self, leased: &Leased, how: How) {
        let verdict = match how {
            How::Delivered if self.there.contains(&leased.id) => Verdict::Delivered { receipts: Vec::new() },
            How::Unknown | How::Delivered => Verdict::Unknown { why: Why::ConnectionLost },
            How::Retry => Verdict::Retry { after: None, why: Why::Status(503) },
            How::Refused => Verdict::Refused { why: Why::Status(422), outcome: None },
            How::NeedsPerson => Verdict::NeedsPerson { reason: Reason::PatientNotFound },
        };
        let before = delivery_of(leased).unwrap();
        let after = before.attempted(&verdict, Duration::from_secs(2), self.now, Pace::REAL, 0.5).unwrap();
        let mut tx = self.store.write().await.unwrap();
        let current = tx.delivery(&leased.id).await.unwrap().unwrap();
        let taken = tx.settle_delivery(&row_after(leased, &after, "", self.now)).await.unwrap();
        tx.commit().await.unwrap();
        let ours = current.lease == leased.lease && current.settled_at.is_none();
        assert_eq!(taken, ours, "a stale result was taken, or a good one dropped");
    }

    async fn look_after(&mut self, which: usize, replay: bool) {
        let Some(id) = self.made.get(which % self.made.len().max(1)).cloned() else { return };
        let mut tx = self.store.write().await.unwrap();
        let before = tx.delivery(&id).await.unwrap().unwrap();
        let course: Delivery = delivery_of(&before).unwrap();
        let after = if replay { course.replayed(self.now) } else { course.cancelled() };
        let Ok(after) = after else { return };
        if before.lease_until.time() > self.now {
            return;
        }
        let row = row_after(&before, &after, "", self.now);
        let to_the_end = before.settled_at.is_some() && row.settled_at.is_none();
        assert!(tx.change_delivery(&before, &row, to_the_end).await.unwrap());
        tx.commit().await.unwrap();
    }

    async fn line(&self, person: &str) -> Vec<DeliveryRow> {
        let mut tx = self.store.read().await.unwrap();
        let mut line = self.all(&mut tx).await;
        line.retain(|row| row.person == person && row.settled_at.is_none());
        line.sort_by_key(|row| row.place);
        line
    }

    async fn all(&self, tx: &mut Tx) -> Vec<DeliveryRow> {
        let mut all = Vec::new();
        for id in &self.made {
            all.extend(tx.delivery(id).await.unwrap());
        }
        all
    }

    /// What is true at every moment.
    async fn holds(&self) {
        let mut tx = self.store.read().await.unwrap();
        let all = self.all(&mut tx).await;
        let mut lines: BTreeMap<&str, Vec<&DeliveryRow>> = BTreeMap::new();
        for row in &all {
            if row.settled_at.is_none() {
                lines.entry(&row.person).or_default().push(row);
            }
            if row.state == "delivered" {
                assert!(self.there.contains(&row.id), "delivered and not there");
            }
        }
        for line in lines.values_mut() {
            line.sort_by_key(|row| row.place);
            let behind: Vec<bool> = line.iter().map(|row| row.behind).collect();
            let wanted: Vec<bool> = (0..line.len()).map(|at| at > 0).collect();
            assert_eq!(behind, wanted, "the first of a line goes, and the others wait");
            let held = line.iter().filter(|row| row.lease_until.time() > self.now).count();
            assert!(held <= 1, "two of one line are under way");
        }
    }

    /// With time and a practice that works everything ends, and what may be sent is there.
    async fn comes_to_an_end(&mut self) {
        self.happen(Event::Crash { worker: 0, written: false }).await;
        self.happen(Event::Crash { worker: 1, written: false }).await;
        for _ in 0..=2 * self.made.len() {
            self.happen(Event::Pass { seconds: 50_000 }).await;
            self.happen(Event::Claim { worker: 0, limit: 100 }).await;
            while !self.hands[0].is_empty() {
                self.happen(Event::End { worker: 0, how: How::Delivered }).await;
            }
        }
        let mut tx = self.store.read().await.unwrap();
        let open: Vec<_> = self.all(&mut tx).await.into_iter().filter(|row| row.settled_at.is_none()).collect();
        assert!(open.is_empty(), "{} never end", open.len());
    }
}

#[test]
fn whatever_happens_each_line_keeps_its_order_and_nothing_is_sent_twice_or_settled_late() {
    let cases = std::env::var("TEST_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("model.db").display());
    let store = runtime.block_on(async {
        let store = Store::open(&DatabaseSettings { url, connections: 2 }).await.unwrap();
        store.migrate().await.unwrap();
        store
    });
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in prop::collection::vec(event(), 1..60))| {
        runtime.block_on(async {
            let mut world = World {
                store: &store,
                practice: uuid::Uuid::new_v4().to_string(),
                now: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
                hands: [Vec::new(), Vec::new()],
                left: Vec::new(),
                there: BTreeSet::new(),
                made: Vec::new(),
            };
            for event in events {
                world.happen(event).await;
            }
            world.comes_to_an_end().await;
        });
    });
}
