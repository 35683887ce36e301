//! The keys the service signs with, as one takes the place of another: each is published before it signs and for a while
//! after, so that whoever verifies never meets a signature of a key that they cannot know.

use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::service_key::{KeyError, ServiceKey};

/// How long a new key is published before it signs. Our key set says that it may be kept for a quarter of an hour, and
/// every instance follows the database within seconds.
pub const PUBLISHED_BEFORE: TimeDelta = TimeDelta::hours(1);

/// How long a key is published after another took its place: what it signed ends within five minutes, and an instance
/// that stood still meanwhile is allowed for.
pub const PUBLISHED_AFTER: TimeDelta = TimeDelta::hours(24);

/// A key, and when it begins to sign by itself.
#[derive(Clone, Debug)]
pub struct HeldKey {
    pub key: Arc<ServiceKey>,
    /// Never, where it is only to be known.
    pub signs_from: Option<DateTime<Utc>>,
}

impl HeldKey {
    /// A key that is published since `made`.
    pub fn made(pem: &str, made: DateTime<Utc>) -> Result<HeldKey, KeyError> {
        let key = Arc::new(ServiceKey::from_pem(pem)?);
        Ok(HeldKey { key, signs_from: made.checked_add_signed(PUBLISHED_BEFORE) })
    }
}

/// What a key is to others at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It signs.
    Signs,
    /// Published, and not signing before this moment, or not by itself.
    Published { signs_from: Option<DateTime<Utc>> },
    /// Another took its place; published until this moment.
    Replaced { until: DateTime<Utc> },
    /// Nobody needs it any more.
    Over,
}

/// The keys, oldest first; never empty.
#[derive(Debug)]
pub struct KeyRing(RwLock<Vec<HeldKey>>);

impl KeyRing {
    /// The key that was there first, and those that came `later`, oldest first.
    pub fn new(first: HeldKey, later: Vec<HeldKey>) -> KeyRing {
        KeyRing(RwLock::new(std::iter::once(first).chain(later).collect()))
    }

    /// One key for good.
    pub fn one(key: ServiceKey) -> KeyRing {
        KeyRing::new(HeldKey { key: Arc::new(key), signs_from: None }, Vec::new())
    }

    /// Takes over what was rotated meanwhile, oldest first. Nothing at all changes nothing: there is always a key.
    pub fn replace(&self, held: Vec<HeldKey>) {
        if !held.is_empty() {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = held;
        }
    }

    /// Each key with what it is now, oldest first.
    pub fn standings(&self, now: DateTime<Utc>) -> Vec<(Arc<ServiceKey>, Standing)> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let times: Vec<_> = held.iter().map(|held| held.signs_from).collect();
        held.iter().map(|held| Arc::clone(&held.key)).zip(standings(&times, now)).collect()
    }

    /// The key that signs now.
    pub fn signing(&self, now: DateTime<Utc>) -> Arc<ServiceKey> {
        let mut standings = self.standings(now).into_iter();
        let signs = standings.find(|(_, standing)| *standing == Standing::Signs);
        signs.map(|(key, _)| key).expect("a ring is never empty, and one of its keys signs")
    }

    /// The public JWK Set (`/.well-known/jwks.json`): the key that signs, those that will, and those that lately did.
    pub fn public_jwks(&self, now: DateTime<Utc>) -> Value {
        let published = self.standings(now).into_iter().filter(|(_, standing)| *standing != Standing::Over);
        json!({ "keys": published.map(|(key, _)| key.public_jwk()).collect::<Vec<_>>() })
    }
}

/// What each of some keys is, by when it begins to sign. The newest whose time has come signs, else the oldest: somebody
/// has to.
fn standings(signs_from: &[Option<DateTime<Utc>>], now: DateTime<Utc>) -> Vec<Standing> {
    let signs = signs_from.iter().rposition(|from| from.is_some_and(|from| from <= now)).unwrap_or(0);
    let each = signs_from.iter().enumerate().map(|(at, from)| match at.cmp(&signs) {
        std::cmp::Ordering::Equal => Standing::Signs,
        std::cmp::Ordering::Greater => Standing::Published { signs_from: *from },
        std::cmp::Ordering::Less => {
            let replaced = signs_from.get(at + 1).copied().flatten().unwrap_or(now);
            match replaced.checked_add_signed(PUBLISHED_AFTER) {
                Some(until) if until > now => Standing::Replaced { until },
                _ => Standing::Over,
            }
        }
    });
    each.collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::hours(hours)
    }

    #[test]
    fn a_key_is_published_then_signs_then_is_published_a_while_longer_and_is_over() {
        use Standing::{Over, Published, Replaced, Signs};
        // One from long ago, one made at hour 0, one made at hour 2.
        let times = [Some(at(-1000)), Some(at(1)), Some(at(3))];
        let (second, third) = (Published { signs_from: Some(at(1)) }, Published { signs_from: Some(at(3)) });
        let (first_until, second_until) = (Replaced { until: at(25) }, Replaced { until: at(27) });
        for (now, expected) in [
            (0, [Signs, second, third]),
            (1, [first_until, Signs, third]),
            (3, [first_until, second_until, Signs]),
            (24, [first_until, second_until, Signs]),
            (25, [Over, second_until, Signs]),
            (27, [Over, Over, Signs]),
            (9000, [Over, Over, Signs]),
        ] {
            assert_eq!(standings(&times, at(now)), expected, "hour {now}");
        }
    }

    #[test]
    fn one_key_signs_from_its_first_moment_and_one_that_is_only_to_be_known_never_does() {
        assert_eq!(standings(&[Some(at(1))], at(0)), [Standing::Signs]);
        let known = Standing::Published { signs_from: None };
        assert_eq!(standings(&[None, None, None], at(9000)), [Standing::Signs, known, known]);
    }

    #[test]
    fn a_ring_signs_with_what_it_took_over_and_keeps_what_it_has_when_there_is_nothing() {
        let made = |hours| HeldKey::made(&ServiceKey::generate_pem().unwrap(), at(hours)).unwrap();
        let (one, other) = (made(-90), made(0));
        let ring = KeyRing::new(one.clone(), Vec::new());
        ring.replace(Vec::new());
        assert_eq!(ring.signing(at(5)).kid(), one.key.kid());
        ring.replace(vec![one.clone(), other.clone()]);
        assert_eq!((ring.signing(at(0)).kid(), ring.signing(at(1)).kid()), (one.key.kid(), other.key.kid()));
        let published = |hours| ring.public_jwks(at(hours))["keys"].as_array().unwrap().len();
        assert_eq!((published(0), published(24), published(25)), (2, 2, 1));
    }
}
