//! The states of a delivery and what moves it from one to the next.

use std::time::Duration;

use chrono::{DateTime, Utc};
use thiserror::Error;

use super::schedule::{Failure, backoff, patience};
use super::verdict::{Reason, Verdict};

/// Where a delivery stands. Being worked on is not a state: it is a lease, which ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Waiting for its first attempt.
    Pending,
    /// The last attempt failed; another will be made.
    Retrying,
    /// It may be at the practice: the next attempt looks there first.
    Unknown,
    /// At the practice, and read there.
    Delivered,
    /// The practice said no. A person may correct and replay.
    Refused,
    /// A person has to settle it.
    NeedsPerson,
    /// The practice has no Endpoint: held until it has one.
    NoRoute,
    /// Given up by a person.
    Cancelled,
}

impl DeliveryState {
    /// All of them, in the order in which a page lists them.
    pub const ALL: [DeliveryState; 8] = [
        DeliveryState::Pending,
        DeliveryState::Retrying,
        DeliveryState::Unknown,
        DeliveryState::NeedsPerson,
        DeliveryState::Refused,
        DeliveryState::NoRoute,
        DeliveryState::Delivered,
        DeliveryState::Cancelled,
    ];

    /// The word for it in columns, labels and answers.
    pub fn code(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Retrying => "retrying",
            DeliveryState::Unknown => "unknown",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Refused => "refused",
            DeliveryState::NeedsPerson => "needs-person",
            DeliveryState::NoRoute => "no-route",
            DeliveryState::Cancelled => "cancelled",
        }
    }

    /// The state whose [`code`](Self::code) this is.
    pub fn from_code(code: &str) -> Option<DeliveryState> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Whether the worker makes attempts in this state.
    pub fn is_due_for_attempts(self) -> bool {
        matches!(self, DeliveryState::Pending | DeliveryState::Retrying | DeliveryState::Unknown)
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, DeliveryState::Delivered | DeliveryState::Cancelled)
    }
}

/// A delivery as far as its course goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub state: DeliveryState,
    /// Attempts ever made.
    pub attempts: u32,
    /// Failures since `queued_at`: the place in the retry schedule.
    pub failures: u32,
    /// When this run of the schedule began: when it was first queued, found a route, or was replayed.
    pub queued_at: DateTime<Utc>,
    /// When the next attempt may be made; none where none will be.
    pub due_at: Option<DateTime<Utc>>,
    /// What a person has to settle, in state `needs-person`.
    pub reason: Option<Reason>,
}

/// What was wanted cannot happen to a delivery in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("A delivery that is {} cannot be {wanted}.", .state.code())]
pub struct NotPossible {
    pub state: DeliveryState,
    /// A past participle: `replayed`.
    pub wanted: &'static str,
}

impl Delivery {
    /// A new delivery: due at once where the practice has an Endpoint, else held.
    pub fn queued(has_route: bool, now: DateTime<Utc>) -> Delivery {
        Delivery {
            state: if has_route { DeliveryState::Pending } else { DeliveryState::NoRoute },
            attempts: 0,
            failures: 0,
            queued_at: now,
            due_at: has_route.then_some(now),
            reason: None,
        }
    }

    /// Of a delivery whose attempt has [`begun`](Self::begun): whether it has to look at the practice for our
    /// identifiers before it sends anything, because an earlier attempt was begun, also one that ended with the process.
    pub fn looks_first(&self) -> bool {
        self.attempts > 1
    }

    /// A lease was taken and an attempt begins. It is counted now, in the unit of work that takes the lease, and not when
    /// it ends: an attempt may end with the process after the practice has written.
    pub fn begun(self) -> Result<Delivery, NotPossible> {
        self.only_if(self.state.is_due_for_attempts(), "attempted")?;
        Ok(Delivery { attempts: self.attempts.saturating_add(1), ..self })
    }

    /// The attempt ended with `verdict` after `took`.
    ///
    /// An unclear outcome stays unclear until the entry is found or a person settles it: a later failure says nothing
    /// about the earlier sending. After [`patience`] from the first failure without success a person is asked.
    pub fn attempted(
        self,
        verdict: &Verdict,
        took: Duration,
        now: DateTime<Utc>,
        random_unit: f64,
    ) -> Result<Delivery, NotPossible> {
        self.only_if(self.state.is_due_for_attempts(), "settled")?;
        let (state, failure) = match verdict {
            Verdict::Delivered { .. } => return Ok(self.ended(DeliveryState::Delivered, None)),
            Verdict::Refused { .. } => return Ok(self.ended(DeliveryState::Refused, None)),
            Verdict::NeedsPerson { reason } => return Ok(self.ended(DeliveryState::NeedsPerson, Some(*reason))),
            Verdict::Unknown { why } => (DeliveryState::Unknown, Failure { why: *why, retry_after: None, took }),
            Verdict::Retry { after, why } => {
                let was_unknown = self.state == DeliveryState::Unknown;
                let state = if was_unknown { DeliveryState::Unknown } else { DeliveryState::Retrying };
                (state, Failure { why: *why, retry_after: *after, took })
            }
        };
        // What waited its turn, or for us, was not being tried meanwhile.
        let queued_at = if self.failures == 0 { now } else { self.queued_at };
        let waited = now.signed_duration_since(queued_at).to_std().unwrap_or_default();
        if waited >= patience() {
            let unknown = state == DeliveryState::Unknown;
            let reason = if unknown { Reason::OutcomeUnknown } else { Reason::RetriesExhausted };
            return Ok(self.ended(DeliveryState::NeedsPerson, Some(reason)));
        }
        let failures = self.failures.saturating_add(1);
        let due_at = Some(now + backoff(failures, &failure, random_unit));
        Ok(Delivery { state, failures, queued_at, due_at, reason: None, ..self })
    }

    /// A person wants it tried again, from the start of the schedule.
    pub fn replayed(self, now: DateTime<Utc>) -> Result<Delivery, NotPossible> {
        let may = matches!(
            self.state,
            DeliveryState::Refused
                | DeliveryState::NeedsPerson
                | DeliveryState::Retrying
                | DeliveryState::Unknown
                | DeliveryState::Cancelled
        );
        self.only_if(may, "replayed")?;
        let unclear = self.state == DeliveryState::Unknown || self.reason == Some(Reason::OutcomeUnknown);
        let state = if unclear { DeliveryState::Unknown } else { DeliveryState::Pending };
        Ok(self.due(state, now))
    }

    /// A person gives it up. Not while it may be at the practice and is still being looked for.
    pub fn cancelled(self) -> Result<Delivery, NotPossible> {
        let may = matches!(
            self.state,
            DeliveryState::Pending
                | DeliveryState::Retrying
                | DeliveryState::Refused
                | DeliveryState::NeedsPerson
                | DeliveryState::NoRoute
        );
        self.only_if(may, "cancelled")?;
        let reason = self.reason;
        Ok(self.ended(DeliveryState::Cancelled, reason))
    }

    /// The practice has an Endpoint now: the schedule begins.
    pub fn route_found(self, now: DateTime<Utc>) -> Result<Delivery, NotPossible> {
        self.only_if(self.state == DeliveryState::NoRoute, "given a route")?;
        let state =
            if self.reason == Some(Reason::OutcomeUnknown) { DeliveryState::Unknown } else { DeliveryState::Pending };
        Ok(self.due(state, now))
    }

    /// The practice has no Endpoint any more: held. That an outcome was unclear is kept.
    pub fn route_lost(self) -> Result<Delivery, NotPossible> {
        self.only_if(self.state.is_due_for_attempts(), "held")?;
        let reason = (self.state == DeliveryState::Unknown).then_some(Reason::OutcomeUnknown);
        Ok(self.ended(DeliveryState::NoRoute, reason))
    }

    fn due(self, state: DeliveryState, now: DateTime<Utc>) -> Delivery {
        Delivery { state, failures: 0, queued_at: now, due_at: Some(now), reason: None, ..self }
    }

    fn ended(self, state: DeliveryState, reason: Option<Reason>) -> Delivery {
        Delivery { state, due_at: None, reason, ..self }
    }

    fn only_if(&self, possible: bool, wanted: &'static str) -> Result<(), NotPossible> {
        if possible { Ok(()) } else { Err(NotPossible { state: self.state, wanted }) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::verdict::Why;
    use super::*;
    use DeliveryState::*;

    const TOOK: Duration = Duration::from_millis(300);

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap()
    }

    fn in_state(state: DeliveryState) -> Delivery {
        Delivery { state, attempts: 2, failures: 2, queued_at: start(), due_at: None, reason: None }
    }

    fn verdicts() -> Vec<Verdict> {
        vec![
            Verdict::Delivered { receipts: Vec::new() },
            Verdict::Retry { after: None, why: Why::Status(503) },
            Verdict::Refused { why: Why::Status(422), outcome: None },
            Verdict::Unknown { why: Why::ConnectionLost },
            Verdict::NeedsPerson { reason: Reason::PatientNotFound },
        ]
    }

    #[test]
    fn every_state_meets_every_verdict() {
        let table = [
            (Pending, Some([Delivered, Retrying, Refused, Unknown, NeedsPerson])),
            (Retrying, Some([Delivered, Retrying, Refused, Unknown, NeedsPerson])),
            (Unknown, Some([Delivered, Unknown, Refused, Unknown, NeedsPerson])),
            (Delivered, None),
            (Refused, None),
            (NeedsPerson, None),
            (NoRoute, None),
            (Cancelled, None),
        ];
        assert_eq!(table.len(), DeliveryState::ALL.len());
        for (from, to) in table {
            for (at, verdict) in verdicts().iter().enumerate() {
                let next = in_state(from).attempted(verdict, TOOK, start(), 0.5);
                match to {
                    Some(row) => {
                        let next = next.unwrap();
                        assert_eq!(next.state, row[at], "{from:?} {verdict:?}");
                        assert_eq!(next.due_at.is_some(), next.state.is_due_for_attempts(), "{from:?} {verdict:?}");
                        assert_eq!(next.reason.is_some(), next.state == NeedsPerson);
                    }
                    None => assert_eq!(next.unwrap_err().state, from),
                }
            }
        }
    }

    #[test]
    fn every_state_meets_every_act_of_a_person() {
        // replayed, cancelled, route found, route lost, begun
        let table = [
            (Pending, [None, Some(Cancelled), None, Some(NoRoute), Some(Pending)]),
            (Retrying, [Some(Pending), Some(Cancelled), None, Some(NoRoute), Some(Retrying)]),
            (Unknown, [Some(Unknown), None, None, Some(NoRoute), Some(Unknown)]),
            (Delivered, [None, None, None, None, None]),
            (Refused, [Some(Pending), Some(Cancelled), None, None, None]),
            (NeedsPerson, [Some(Pending), Some(Cancelled), None, None, None]),
            (NoRoute, [None, Some(Cancelled), Some(Pending), None, None]),
            (Cancelled, [Some(Pending), None, None, None, None]),
        ];
        for (from, row) in table {
            let results = [
                in_state(from).replayed(start()),
                in_state(from).cancelled(),
                in_state(from).route_found(start()),
                in_state(from).route_lost(),
                in_state(from).begun(),
            ];
            for (result, expected) in results.into_iter().zip(row) {
                assert_eq!(result.ok().map(|d| d.state), expected, "{from:?}");
            }
        }
    }

    #[test]
    fn an_unclear_outcome_is_never_forgotten() {
        let unclear = in_state(Unknown);
        let held = unclear.clone().route_lost().unwrap();
        assert_eq!(held.route_found(start()).unwrap().state, Unknown);
        let late = start() + chrono::Duration::hours(80);
        let given_up = unclear.attempted(&verdicts()[1], TOOK, late, 0.5).unwrap();
        assert_eq!((given_up.state, given_up.reason), (NeedsPerson, Some(Reason::OutcomeUnknown)));
        let again = given_up.replayed(late).unwrap();
        assert_eq!((again.state, again.queued_at, again.failures), (Unknown, late, 0));
        assert!(again.begun().unwrap().looks_first());
    }

    #[test]
    fn an_attempt_that_ended_with_the_process_makes_the_next_one_look_first() {
        let first = Delivery::queued(true, start()).begun().unwrap();
        assert!(!first.looks_first());
        assert!(first.begun().unwrap().looks_first());
        assert_eq!(Delivery::queued(false, start()).state, NoRoute);
    }

    #[test]
    fn a_dead_practice_is_tried_for_72_hours_and_then_a_person_is_asked() {
        // A small linear congruential sequence: any spread of jitter will do, and the run is the same each time.
        let mut seed: u32 = 7;
        for _ in 0..1000 {
            let mut now = start();
            let mut delivery = Delivery::queued(true, now);
            let mut attempts = 0;
            while delivery.state.is_due_for_attempts() {
                now = delivery.due_at.unwrap();
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let unit = f64::from(seed >> 8) / f64::from(1 << 24);
                let verdict = Verdict::Retry { after: None, why: Why::Unreachable };
                delivery = delivery.begun().unwrap().attempted(&verdict, TOOK, now, unit).unwrap();
                attempts += 1;
                assert!(attempts < 30);
            }
            assert_eq!((delivery.state, delivery.reason), (NeedsPerson, Some(Reason::RetriesExhausted)));
            let spanned = now - start();
            assert!(spanned >= chrono::Duration::hours(72) && spanned < chrono::Duration::hours(87), "{spanned}");
            assert!(attempts >= 11, "{attempts}");
        }
    }

    #[test]
    fn the_72_hours_begin_with_the_first_failure_and_not_with_the_wait_behind_others() {
        let late = start() + chrono::Duration::hours(100);
        let failed = Verdict::Retry { after: None, why: Why::Status(503) };
        let first = Delivery::queued(true, start()).begun().unwrap().attempted(&failed, TOOK, late, 0.5).unwrap();
        assert_eq!((first.state, first.queued_at, first.failures), (Retrying, late, 1));
        let second = first.begun().unwrap().attempted(&failed, TOOK, late + chrono::Duration::hours(73), 0.5).unwrap();
        assert_eq!((second.state, second.reason), (NeedsPerson, Some(Reason::RetriesExhausted)));
    }

    #[test]
    fn every_state_and_reason_is_found_by_its_word() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_code(state.code()), Some(state));
        }
        assert_eq!(DeliveryState::from_code("sent"), None);
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
    }
}
