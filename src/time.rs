//! What time it is: the one place that reads the machine's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

/// A clock that is handed to whoever needs the time, so that tests can set it.
///
/// Clones of a fixed clock show the same time: advancing one advances all.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock, in UTC.
    System,
    /// A clock that stands still until it is advanced. Holds microseconds since 1970.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that shows `at` until it is advanced.
    pub fn fixed(at: DateTime<Utc>) -> Clock {
        Clock::Fixed(Arc::new(AtomicI64::new(at.timestamp_micros())))
    }

    /// The time now, cut to microseconds.
    ///
    /// Microseconds are what PostgreSQL keeps of a `timestamptz`: a time with nanoseconds would read back as another one.
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Clock::System => machine_time().trunc_subsecs(6),
            Clock::Fixed(micros) => DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst))
                .expect("only times that were a DateTime go in"),
        }
    }

    /// Moves a fixed clock on by `by` (cut to microseconds).
    ///
    /// # Panics
    /// On the system clock, which nobody moves, and past the last year that chrono knows (262142).
    pub fn advance(&self, by: Duration) {
        let Clock::Fixed(micros) = self else { panic!("only a fixed clock can be advanced") };
        let later = self.now() + by;
        micros.store(later.timestamp_micros(), Ordering::SeqCst);
    }

    /// Sets a fixed clock back by `by`, as a machine's clock is that had run ahead.
    ///
    /// # Panics
    /// On the system clock, which nobody moves.
    pub fn set_back(&self, by: Duration) {
        let Clock::Fixed(micros) = self else { panic!("only a fixed clock can be set back") };
        let earlier = self.now() - by;
        micros.store(earlier.timestamp_micros(), Ordering::SeqCst);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
fn machine_time() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn a_fixed_clock_stands_still_and_moves_for_all_who_hold_it() {
        let at = Utc.timestamp_nanos(1_800_000_000_123_456_789);
        let clock = Clock::fixed(at);
        let other = clock.clone();
        assert_eq!(clock.now(), at.trunc_subsecs(6));
        other.advance(Duration::from_millis(1500));
        assert_eq!(clock.now(), at.trunc_subsecs(6) + Duration::from_millis(1500));
    }

    #[test]
    fn the_time_has_no_more_than_microseconds() {
        assert_eq!(Clock::System.now().timestamp_subsec_nanos() % 1000, 0);
    }
}
