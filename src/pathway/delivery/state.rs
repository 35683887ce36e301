//! The states of a delivery and what moves it from one to the next.

use std::time::Duration;

use chrono::{DateTime, Utc};
use thiserror::Error;

use super::acknowledgement::{Acknowledgement, Stage};
use super::schedule::{Failure, Pace, backoff};
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
    /// A transport took it; the practice has not answered.
    Sent,
    /// The practice's system can read it (infrastructure acknowledgement).
    Received,
    /// The practice knows the patient and has it (business acknowledgement). It may still be filed or rejected.
    Accepted,
    /// At the practice and read there, or filed there as the practice says.
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
    pub const ALL: [DeliveryState; 11] = [
        DeliveryState::Pending,
        DeliveryState::Retrying,
        DeliveryState::Unknown,
        DeliveryState::NeedsPerson,
        DeliveryState::Refused,
        DeliveryState::NoRoute,
        DeliveryState::Sent,
        DeliveryState::Received,
        DeliveryState::Accepted,
        DeliveryState::Delivered,
        DeliveryState::Cancelled,
    ];

    /// The word for it in columns, labels and answers.
    pub fn code(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Retrying => "retrying",
            DeliveryState::Unknown => "unknown",
            DeliveryState::Sent => "sent",
            DeliveryState::Received => "received",
            DeliveryState::Accepted => "accepted",
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

    /// Whether it was sent and the practice owes an answer. It is due again when that is late.
    pub fn awaits_acknowledgement(self) -> bool {
        matches!(self, DeliveryState::Sent | DeliveryState::Received)
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
        self.only_if(self.state.is_due_for_attempts() || self.state.awaits_acknowledgement(), "attempted")?;
        Ok(Delivery { attempts: self.attempts.saturating_add(1), ..self })
    }

    /// The attempt ended with `verdict` after `took`.
    ///
    /// An unclear outcome stays unclear until the entry is found or a person settles it: a later failure says nothing
    /// about the earlier sending. After the 72 hours from the first failure without success a person is asked.
    pub fn attempted(
        self,
        verdict: &Verdict,
        took: Duration,
        now: DateTime<Utc>,
        pace: Pace,
        random_unit: f64,
    ) -> Result<Delivery, NotPossible> {
        let awaits = self.state.awaits_acknowledgement();
        self.only_if(self.state.is_due_for_attempts() || awaits, "settled")?;
        let (state, failure) = match verdict {
            Verdict::Sent { within, .. } => return Ok(self.awaiting(now, *within)),
            Verdict::Delivered { .. } => return Ok(self.ended(DeliveryState::Delivered, None)),
            Verdict::Refused { .. } => return Ok(self.ended(DeliveryState::Refused, None)),
            Verdict::NeedsPerson { reason } => return Ok(self.ended(DeliveryState::NeedsPerson, Some(*reason))),
            Verdict::Unknown { why } => {
                let state = if awaits { self.state } else { DeliveryState::Unknown };
                (state, Failure { why: *why, retry_after: None, took })
            }
            Verdict::Retry { after, why } => {
                let stays = awaits || self.state == DeliveryState::Unknown;
                let state = if stays { self.state } else { DeliveryState::Retrying };
                (state, Failure { why: *why, retry_after: *after, took })
            }
        };
        // What waited its turn, or for us, was not being tried meanwhile.
        let queued_at = if self.failures == 0 { now } else { self.queued_at };
        let waited = now.signed_duration_since(queued_at).to_std().unwrap_or_default();
        if waited >= pace.patience() {
            let reason = match state {
                _ if awaits => Reason::AcknowledgementMissing,
                DeliveryState::Unknown => Reason::OutcomeUnknown,
                _ => Reason::RetriesExhausted,
            };
            return Ok(self.ended(DeliveryState::NeedsPerson, Some(reason)));
        }
        let failures = self.failures.saturating_add(1);
        let due_at = Some(now + backoff(failures, &failure, pace, random_unit));
        Ok(Delivery { state, failures, queued_at, due_at, reason: None, ..self })
    }

    /// The practice, or the transport, answered; `within` is the time it has for the next answer. None where this changes
    /// nothing: it says what is known, came twice, or came late.
    ///
    /// A stage that was passed stands: a later failure of it or of an earlier one is not believed, and a later success
    /// overrules an earlier failure. What was replayed meanwhile is not failed by what is said of the message before.
    pub fn acknowledged(
        self,
        acknowledgement: &Acknowledgement,
        now: DateTime<Utc>,
        within: Duration,
    ) -> Option<Delivery> {
        use DeliveryState::{Accepted, Delivered, NeedsPerson, Pending, Received, Refused, Retrying, Sent, Unknown};
        let sent = matches!(self.state, Sent | Received | Unknown | NeedsPerson);
        match acknowledgement {
            Acknowledgement::Passed(Stage::Transport) => None,
            Acknowledgement::Passed(Stage::Infrastructure) => match self.state {
                Sent => Some(Delivery { state: Received, ..self }),
                Unknown => Some(Delivery { state: Received, ..self.awaiting(now, within) }),
                _ => None,
            },
            Acknowledgement::Passed(Stage::Business) => {
                (!matches!(self.state, Accepted | Delivered)).then(|| self.ended(Accepted, None))
            }
            Acknowledgement::Passed(Stage::Filing) => (self.state != Delivered).then(|| self.ended(Delivered, None)),
            Acknowledgement::Failed { stage, .. } => {
                let passed = match self.state {
                    Received => *stage <= Stage::Infrastructure,
                    Accepted => *stage <= Stage::Business,
                    Delivered | Refused | Pending | Retrying => true,
                    _ => !sent,
                };
                (!passed).then(|| self.ended(Refused, None))
            }
        }
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

    /// Sent: due again when the practice's answer is late.
    fn awaiting(self, now: DateTime<Utc>, within: Duration) -> Delivery {
        let state = if self.state.awaits_acknowledgement() { self.state } else { DeliveryState::Sent };
        let due_at = Some(now + chrono::Duration::from_std(within).unwrap_or(chrono::Duration::MAX));
        Delivery { state, failures: 0, due_at, reason: None, ..self }
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
mod tests;
