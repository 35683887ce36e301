//! How a destination is doing, and how much may be sent to it now: what it asked for, its circuit breaker, its token
//! bucket, and the room for more at once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::schedule::{Pace, asked};
use super::verdict::{Verdict, Why};

/// Failures in a row after which the breaker opens.
const OPENS_AFTER: u32 = 5;

/// While it is open, one delivery may try this often.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// What a destination is sent at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Deliveries under way at once, at all instances together.
    pub in_flight: u32,
    /// Attempts begun a minute, over time.
    pub per_minute: u32,
    /// Attempts begun at once after a quiet time.
    pub burst: u32,
}

/// A destination as far as sending to it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// In a row.
    pub failures: u32,
    /// Since when the breaker is open; none while it is closed.
    pub opened_at: Option<DateTime<Utc>>,
    /// While it is open: when the next delivery may try.
    pub probe_at: DateTime<Utc>,
    /// Until when it asked to be left alone.
    pub paused_until: DateTime<Utc>,
    /// When the bucket will be full again (generic cell rate algorithm: one time says all of it).
    pub full_at: DateTime<Utc>,
}

/// How much may be taken for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So many now; at least one.
    Now(u32),
    /// None before this time.
    Later(DateTime<Utc>),
    /// None before something that is under way has ended.
    Full,
}

/// How a destination stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Open,
    Paused,
    Working,
}

impl Standing {
    /// The word for it in labels and answers.
    pub fn code(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Paused => "paused",
            Standing::Working => "closed",
        }
    }
}

impl Destination {
    /// One that nothing was sent to yet.
    pub const NEW: Destination = Destination {
        failures: 0,
        opened_at: None,
        probe_at: DateTime::UNIX_EPOCH,
        paused_until: DateTime::UNIX_EPOCH,
        full_at: DateTime::UNIX_EPOCH,
    };

    /// How much may be taken while `in_flight` are under way. With the breaker open it is one, alone, and not often: the
    /// breaker is half open while that one is tried.
    pub fn room(&self, limits: &Limits, in_flight: u32, now: DateTime<Utc>) -> Room {
        if self.paused_until > now {
            return Room::Later(self.paused_until);
        }
        let most = match self.opened_at {
            Some(_) if self.probe_at > now => return Room::Later(self.probe_at),
            Some(_) => 1,
            None => limits.in_flight,
        };
        let free = most.saturating_sub(in_flight);
        if free == 0 {
            return Room::Full;
        }
        let interval = limits.interval();
        let spent = (self.full_at - now).max(TimeDelta::zero()).num_microseconds().unwrap_or(i64::MAX);
        let tokens = i64::from(limits.burst) - spent.saturating_add(interval - 1) / interval;
        match u32::try_from(tokens) {
            Ok(tokens @ 1..) => Room::Now(free.min(tokens)),
            _ => Room::Later(self.full_at - TimeDelta::microseconds(interval * (i64::from(limits.burst) - 1))),
        }
    }

    /// So many were taken.
    pub fn taken(self, many: u32, limits: &Limits, pace: Pace, now: DateTime<Utc>) -> Destination {
        let full_at = self.full_at.max(now) + TimeDelta::microseconds(limits.interval() * i64::from(many));
        let probe_at = if self.opened_at.is_some() { now + pace.of(PROBE_EVERY) } else { self.probe_at };
        Destination { full_at, probe_at, ..self }
    }

    /// An attempt ended with `verdict`.
    ///
    /// Whatever the destination decides about one delivery shows that it works. What says nothing about it changes
    /// nothing: our own defects, and access that was refused.
    pub fn heard(self, verdict: &Verdict, pace: Pace, now: DateTime<Utc>) -> Destination {
        match verdict {
            Verdict::Delivered { .. } | Verdict::Sent { .. } => self.working(),
            Verdict::NeedsPerson { reason } if reason.is_the_destinations() => self.working(),
            Verdict::Refused { why: Why::Status(_), .. } => self.working(),
            // It says itself when to come back.
            Verdict::Retry { after: Some(after), why: Why::Status(429 | 503) } => {
                Destination { paused_until: self.paused_until.max(now + asked(*after)), ..self }
            }
            Verdict::Retry { why, .. } | Verdict::Unknown { why } if is_trouble(*why) => self.failed(pace, now),
            Verdict::Retry { .. } | Verdict::Unknown { .. } | Verdict::Refused { .. } | Verdict::NeedsPerson { .. } => {
                self
            }
        }
    }

    /// How it stands.
    pub fn standing(&self, now: DateTime<Utc>) -> Standing {
        match self.opened_at {
            Some(_) => Standing::Open,
            None if self.paused_until > now => Standing::Paused,
            None => Standing::Working,
        }
    }

    fn working(self) -> Destination {
        Destination { failures: 0, opened_at: None, ..self }
    }

    fn failed(self, pace: Pace, now: DateTime<Utc>) -> Destination {
        let failures = self.failures.saturating_add(1);
        if failures < OPENS_AFTER {
            return Destination { failures, ..self };
        }
        let opened_at = Some(self.opened_at.unwrap_or(now));
        // Those that were under way when it opened do not put the next probe off.
        let probe_at = if self.opened_at.is_some() { self.probe_at } else { now + pace.of(PROBE_EVERY) };
        Destination { failures, opened_at, probe_at, ..self }
    }
}

impl Limits {
    /// Microseconds in which one token drips into the bucket.
    fn interval(&self) -> i64 {
        60_000_000 / i64::from(self.per_minute.max(1))
    }
}

/// Whether a failure is one of the whole destination.
fn is_trouble(why: Why) -> bool {
    match why {
        Why::Timeout | Why::Unreachable | Why::ConnectionLost | Why::AnswerTooLarge | Why::AnswerUnreadable => true,
        Why::Status(status) => matches!(status, 408 | 425 | 429 | 500..=599),
        _ => false,
    }
}

/// Hands out `hands` to those who have `rooms`, one to each in turn, the first first: how many each gets.
pub fn shared_out(mut hands: usize, rooms: &[u32]) -> Vec<u32> {
    let mut given = vec![0; rooms.len()];
    while hands > 0 {
        let before = hands;
        for (given, room) in given.iter_mut().zip(rooms) {
            if *given < *room && hands > 0 {
                *given += 1;
                hands -= 1;
            }
        }
        if hands == before {
            break;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Reason;
    use super::*;

    const LIMITS: Limits = Limits { in_flight: 4, per_minute: 60, burst: 3 };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000 + seconds)
    }

    fn failed() -> Verdict {
        Verdict::Retry { after: None, why: Why::Timeout }
    }

    fn opened() -> Destination {
        (0..5).fold(Destination::NEW, |d, n| d.heard(&failed(), Pace::REAL, at(n)))
    }

    #[test]
    fn every_verdict_says_something_of_the_destination_or_nothing() {
        let delivered = Verdict::Delivered { receipts: Vec::new() };
        let refused = |why| Verdict::Refused { why, outcome: None };
        let unknown = |why| Verdict::Unknown { why };
        let retry = |why| Verdict::Retry { after: None, why };
        let person = |reason| Verdict::NeedsPerson { reason };
        let troubled = Destination { failures: 3, ..Destination::NEW };
        for (verdict, failures) in [
            (delivered, 0),
            (refused(Why::Status(422)), 0),
            (person(Reason::PatientNotFound), 0),
            (retry(Why::Status(503)), 4),
            (retry(Why::Status(429)), 4),
            (retry(Why::Unreachable), 4),
            (unknown(Why::ConnectionLost), 4),
            (unknown(Why::Status(504)), 4),
            (unknown(Why::Status(409)), 3),
            (retry(Why::RequestNotMade), 3),
            (refused(Why::AddressRefused), 3),
            (refused(Why::TokenRefused), 3),
            (person(Reason::RetriesExhausted), 3),
        ] {
            assert_eq!(troubled.heard(&verdict, Pace::REAL, at(0)).failures, failures, "{verdict:?}");
        }
    }

    #[test]
    fn the_breaker_opens_after_five_failures_in_a_row_and_lets_one_try_each_minute() {
        let four = (0..4).fold(Destination::NEW, |d, n| d.heard(&failed(), Pace::REAL, at(n)));
        assert_eq!((four.standing(at(4)), four.room(&LIMITS, 0, at(4))), (Standing::Working, Room::Now(3)));
        let works = four.heard(&Verdict::Delivered { receipts: Vec::new() }, Pace::REAL, at(4));
        assert_eq!(works.heard(&failed(), Pace::REAL, at(5)).standing(at(5)), Standing::Working, "not in a row");

        let open = opened();
        assert_eq!((open.opened_at, open.standing(at(4))), (Some(at(4)), Standing::Open));
        assert_eq!(open.room(&LIMITS, 0, at(63)), Room::Later(at(64)));
        assert_eq!(open.room(&LIMITS, 2, at(64)), Room::Full, "one, alone");
        assert_eq!(open.room(&LIMITS, 0, at(64)), Room::Now(1));

        let half_open = open.taken(1, &LIMITS, Pace::REAL, at(64));
        assert_eq!(half_open.room(&LIMITS, 1, at(70)), Room::Later(at(124)), "one probe at a time");
        let again = half_open.heard(&failed(), Pace::REAL, at(84));
        assert_eq!((again.opened_at, again.room(&LIMITS, 0, at(84))), (Some(at(4)), Room::Later(at(124))));
        assert_eq!(again.room(&LIMITS, 0, at(124)), Room::Now(1));
        let closed = half_open.heard(&Verdict::Refused { why: Why::Status(422), outcome: None }, Pace::REAL, at(65));
        assert_eq!((closed.standing(at(65)), closed.failures), (Standing::Working, 0));
    }

    #[test]
    fn a_probe_whose_worker_died_does_not_keep_the_breaker_open() {
        let half_open = opened().taken(1, &LIMITS, Pace::REAL, at(64));
        // Its lease has lapsed, so nothing is under way.
        assert_eq!(half_open.room(&LIMITS, 0, at(124)), Room::Now(1));
    }

    #[test]
    fn retry_after_pauses_the_destination_and_is_no_failure() {
        let asks =
            |seconds, status| Verdict::Retry { after: Some(Duration::from_secs(seconds)), why: Why::Status(status) };
        let paused = Destination::NEW.heard(&asks(120, 429), Pace::REAL, at(0));
        assert_eq!((paused.failures, paused.standing(at(119))), (0, Standing::Paused));
        assert_eq!(paused.room(&LIMITS, 0, at(119)), Room::Later(at(120)));
        assert_eq!(paused.room(&LIMITS, 0, at(120)), Room::Now(3));
        let sooner = paused.heard(&asks(10, 503), Pace::REAL, at(1));
        assert_eq!(sooner.paused_until, at(120), "the later time stands");
        let other = Destination::NEW.heard(&asks(120, 500), Pace::REAL, at(0));
        assert_eq!((other.failures, other.standing(at(0))), (1, Standing::Working), "of this one delivery alone");
        let absurd = Destination::NEW.heard(&asks(u64::MAX, 503), Pace::REAL, at(0));
        assert_eq!(absurd.paused_until, at(12 * 3600));
    }

    #[test]
    fn the_bucket_holds_a_burst_and_fills_drop_by_drop() {
        let wide = Limits { in_flight: 100, ..LIMITS };
        assert_eq!(Destination::NEW.room(&wide, 0, at(0)), Room::Now(3));
        let one_left = Destination::NEW.taken(2, &wide, Pace::REAL, at(0));
        assert_eq!(one_left.room(&wide, 0, at(0)), Room::Now(1));
        let empty = one_left.taken(1, &wide, Pace::REAL, at(0));
        assert_eq!(empty.room(&wide, 0, at(0)), Room::Later(at(1)));
        assert_eq!(empty.room(&wide, 0, at(1)), Room::Now(1));
        assert_eq!(empty.room(&wide, 0, at(2)), Room::Now(2));
        assert_eq!(empty.room(&wide, 0, at(900)), Room::Now(3), "no more than a burst");
    }

    #[test]
    fn over_an_hour_no_more_is_taken_than_the_rate_and_one_burst() {
        let limits = Limits { in_flight: 1000, per_minute: 90, burst: 20 };
        let (mut destination, mut taken) = (Destination::NEW, 0);
        for tenth in 0..36_000 {
            let now = at(0) + TimeDelta::milliseconds(100 * tenth);
            if let Room::Now(room) = destination.room(&limits, 0, now) {
                destination = destination.taken(room, &limits, Pace::REAL, now);
                taken += room;
            }
        }
        assert!((90 * 60..=90 * 60 + 20).contains(&taken), "{taken}");
    }

    #[test]
    fn hands_are_shared_out_one_to_each_in_turn() {
        assert_eq!(shared_out(5, &[4, 4, 4]), [2, 2, 1]);
        assert_eq!(shared_out(2, &[4, 4, 4]), [1, 1, 0]);
        assert_eq!(shared_out(9, &[1, 4, 0]), [1, 4, 0]);
        assert_eq!(shared_out(9, &[]), Vec::<u32>::new());
        assert_eq!(shared_out(0, &[3]), [0]);
    }
}
