//! What this process has in hand, and whether it still has: a lease that nobody keeps ends by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::outbound::Lease;
use crate::store::Leased;

/// The leases of this process, by delivery.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<String, Holding>>);

struct Holding {
    lease: i64,
    until: Instant,
    lost: CancellationToken,
}

/// One delivery in hand; let go when dropped.
pub(super) struct Grip {
    held: Arc<Held>,
    id: String,
    lease: i64,
    /// Cancelled when the delivery is someone else's.
    pub(super) lost: CancellationToken,
}

impl Held {
    /// Takes a delivery in hand, for `lease` from `since`, when it was asked for.
    pub(super) fn grip(self: &Arc<Held>, leased: &Leased, since: Instant, lease: Duration) -> Grip {
        let lost = CancellationToken::new();
        let holding = Holding { lease: leased.lease, until: since + lease, lost: lost.clone() };
        self.all().insert(leased.id.clone(), holding);
        Grip { held: Arc::clone(self), id: leased.id.clone(), lease: leased.lease, lost }
    }

    /// What is in hand now: the id and lease number of each.
    pub(super) fn in_hand(&self) -> Vec<(String, i64)> {
        self.all().iter().map(|(id, holding)| (id.clone(), holding.lease)).collect()
    }

    /// Of what was `asked` to be kept, only `kept` was: those go on until `until`, the others are lost.
    pub(super) fn renewed(&self, asked: &[(String, i64)], kept: &[(String, i64)], until: Instant) {
        let mut all = self.all();
        for one in asked {
            let Some(holding) = all.get_mut(&one.0).filter(|holding| holding.lease == one.1) else { continue };
            if kept.contains(one) {
                holding.until = until;
            } else {
                holding.lost.cancel();
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grip {
    /// Says whether the delivery is still in hand. A process that was stopped for longer than its lease finds that it is
    /// not, before anybody tells it.
    pub(super) fn lease(&self) -> Lease {
        let (held, id, number) = (Arc::clone(&self.held), self.id.clone(), self.lease);
        Lease::asked(move || {
            let all = held.all();
            all.get(&id).is_some_and(|h| h.lease == number && !h.lost.is_cancelled() && Instant::now() < h.until)
        })
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        let mut all = self.held.all();
        if all.get(&self.id).is_some_and(|holding| holding.lease == self.lease) {
            all.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::At;

    fn leased(id: &str, lease: i64) -> Leased {
        Leased {
            id: id.to_owned(),
            practice: String::new(),
            person: String::new(),
            referral: String::new(),
            place: 1,
            items: "[]".to_owned(),
            author: String::new(),
            state: "pending".to_owned(),
            why: String::new(),
            failures: 0,
            queued_at: At(0),
            created_at: At(0),
            due_at: At(0),
            attempts: 1,
            lease,
            lease_until: At(0),
            settled_at: None,
            channel: String::new(),
            purpose: "write-back".to_owned(),
            worker: String::new(),
            behind: false,
            lapses: 0,
        }
    }

    #[test]
    fn a_lease_that_is_not_kept_is_lost_and_one_that_is_goes_on() {
        let (held, now) = (Arc::new(Held::default()), Instant::now());
        let lapsed = now.checked_sub(Duration::from_secs(30)).unwrap_or(now);
        let (a, b) = (
            held.grip(&leased("a", 1), now, Duration::from_secs(20)),
            held.grip(&leased("b", 1), lapsed, Duration::from_secs(20)),
        );
        assert!(a.lease().is_held() && !b.lease().is_held(), "the time of b has passed, and nobody had to say so");

        let asked = held.in_hand();
        // Taken in hand after it was asked what to keep: nothing is said of it.
        let c = held.grip(&leased("c", 4), now, Duration::from_secs(20));
        held.renewed(&asked, &[("b".to_owned(), 1)], now + Duration::from_secs(20));
        assert!(a.lost.is_cancelled() && !a.lease().is_held());
        assert!(!b.lost.is_cancelled() && b.lease().is_held());
        assert!(!c.lost.is_cancelled() && c.lease().is_held());
    }

    #[test]
    fn a_new_lease_of_the_same_delivery_is_not_the_old_ones() {
        let (held, now) = (Arc::new(Held::default()), Instant::now());
        let old = held.grip(&leased("a", 1), now, Duration::from_secs(20));
        let old_lease = old.lease();
        let new = held.grip(&leased("a", 2), now, Duration::from_secs(20));
        assert!(!old_lease.is_held() && new.lease().is_held());
        drop(old);
        assert!(new.lease().is_held(), "letting the old one go takes nothing from the new");
        drop(new);
        assert!(held.in_hand().is_empty());
    }
}
