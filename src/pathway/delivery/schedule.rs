//! When to try again.

use std::time::Duration;

use super::verdict::Why;

/// How long a delivery is tried before a person is asked: 72 hours, so that a practice's system may be down over a
/// weekend. Clinical entries never expire silently.
const PATIENCE: Duration = Duration::from_secs(72 * 3600);

/// How fast the clocks of delivery run. Less than 1 shortens each of our own waits alike, so that a test sees in minutes
/// what takes days; what a practice asks for is never shortened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace(pub f64);

impl Pace {
    /// That of the world.
    pub const REAL: Pace = Pace(1.0);

    /// How long a nominal time takes.
    pub fn of(self, nominal: Duration) -> Duration {
        nominal.mul_f64(self.0)
    }

    /// How long a delivery is tried before a person is asked.
    pub fn patience(self) -> Duration {
        self.of(PATIENCE)
    }
}

/// Nominal waits after the first, second, ... failure; the last repeats until the 72 hours are used up. The curve is
/// Svix's (5 s to 10 h in seven steps) with a step at one minute, stretched to the 72 hours.
const WAITS: [u64; 8] = [5, 60, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 12 * 3600];

/// Nominal wait after a first failure that took less than [`FAST`]: most are a practice's system that restarts.
const QUICK: u64 = 1;
const FAST: Duration = Duration::from_secs(1);

/// Least wait after a 429 or a timeout: the practice is short of breath.
const BREATH: Duration = Duration::from_secs(60);

/// Limits within which a practice's `Retry-After` is honoured: not a busy loop, not past the next half-day.
const ASKED_MIN: Duration = Duration::from_secs(1);
const ASKED_MAX: Duration = Duration::from_secs(12 * 3600);

/// Jitter: a wait is between 80% and 120% of its nominal length.
const JITTER: f64 = 0.2;

/// How an attempt failed, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub why: Why,
    /// What the practice asked for in `Retry-After`.
    pub retry_after: Option<Duration>,
    /// How long the attempt took.
    pub took: Duration,
}

/// The wait before the next attempt, after `failures` failures in this run of the schedule (1 = the first has just
/// happened). `random_unit` is a uniform number from 0 to 1.
///
/// A `Retry-After` replaces the schedule and is never undercut: its jitter only adds.
pub fn backoff(failures: u32, failure: &Failure, pace: Pace, random_unit: f64) -> Duration {
    let unit = if random_unit.is_finite() { random_unit.clamp(0.0, 1.0) } else { 0.5 };
    if let Some(wanted) = failure.retry_after {
        return asked(wanted).mul_f64(1.0 + JITTER * unit);
    }
    let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let breathless = matches!(failure.why, Why::Timeout | Why::Status(429));
    let nominal = match WAITS.get(step) {
        Some(_) if step == 0 && failure.took < FAST && !breathless => QUICK,
        Some(seconds) => *seconds,
        None => WAITS[WAITS.len() - 1],
    };
    let wait = Duration::from_secs(nominal).mul_f64(1.0 - JITTER + 2.0 * JITTER * unit);
    pace.of(if breathless { wait.max(BREATH.mul_f64(1.0 + JITTER * unit)) } else { wait })
}

/// What is made of a `Retry-After`.
pub(super) fn asked(retry_after: Duration) -> Duration {
    retry_after.clamp(ASKED_MIN, ASKED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(why: Why) -> Failure {
        Failure { why, retry_after: None, took: Duration::from_secs(5) }
    }

    #[test]
    fn each_wait_lies_within_a_fifth_of_its_nominal_length() {
        for (at, nominal) in WAITS.iter().enumerate() {
            let failures = u32::try_from(at).expect("small") + 1;
            let nominal = Duration::from_secs(*nominal);
            for unit in [0.0, 0.25, 0.5, 0.99, 1.0] {
                let wait = backoff(failures, &failed(Why::Status(503)), Pace::REAL, unit);
                assert!(wait >= nominal.mul_f64(0.7999) && wait <= nominal.mul_f64(1.2001), "{failures} {unit}");
            }
            assert_ne!(
                backoff(failures, &failed(Why::Unreachable), Pace::REAL, 0.0),
                backoff(failures, &failed(Why::Unreachable), Pace::REAL, 1.0)
            );
        }
        assert_eq!(backoff(900, &failed(Why::Status(500)), Pace::REAL, 0.5), Duration::from_secs(12 * 3600));
        assert_eq!(backoff(u32::MAX, &failed(Why::Status(500)), Pace::REAL, 0.5), Duration::from_secs(12 * 3600));
    }

    #[test]
    fn a_first_failure_that_came_fast_is_tried_again_within_seconds() {
        let fast = Failure { took: Duration::from_millis(40), ..failed(Why::Unreachable) };
        assert!(backoff(1, &fast, Pace::REAL, 1.0) < Duration::from_secs(2));
        assert!(backoff(2, &fast, Pace::REAL, 0.0) > Duration::from_secs(40), "only the first");
    }

    #[test]
    fn a_throttled_or_slow_practice_is_left_alone_for_a_minute() {
        for why in [Why::Status(429), Why::Timeout] {
            let fast = Failure { took: Duration::from_millis(10), ..failed(why) };
            for unit in [0.0, 0.5, 1.0] {
                assert!(backoff(1, &fast, Pace::REAL, unit) >= Duration::from_secs(60));
            }
        }
    }

    #[test]
    fn retry_after_is_kept_within_limits_and_never_undercut() {
        let asked = |seconds| Failure { retry_after: Some(Duration::from_secs(seconds)), ..failed(Why::Status(429)) };
        for unit in [0.0, 0.5, 1.0] {
            let wait = backoff(1, &asked(120), Pace::REAL, unit);
            assert!(wait >= Duration::from_secs(120) && wait <= Duration::from_secs(144));
            assert!(backoff(1, &asked(0), Pace::REAL, unit) >= Duration::from_secs(1));
            assert!(backoff(1, &asked(u64::MAX), Pace::REAL, unit) <= Duration::from_secs(12 * 3600).mul_f64(1.2001));
        }
    }

    #[test]
    fn a_faster_pace_shortens_our_waits_and_not_what_a_practice_asks_for() {
        let fast = Pace(0.001);
        assert_eq!(fast.patience(), Duration::from_millis(259_200));
        assert_eq!(backoff(2, &failed(Why::Status(500)), fast, 0.5), Duration::from_millis(60));
        let asks = Failure { retry_after: Some(Duration::from_secs(7)), ..failed(Why::Status(503)) };
        assert!(backoff(1, &asks, fast, 0.0) >= Duration::from_secs(7));
    }

    #[test]
    fn a_broken_random_source_still_gives_a_wait() {
        for unit in [f64::NAN, f64::INFINITY, -3.0, 7.0] {
            let wait = backoff(3, &failed(Why::Status(500)), Pace::REAL, unit);
            assert!(wait >= Duration::from_secs(240) && wait <= Duration::from_secs(360));
        }
    }
}
