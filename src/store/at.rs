//! A moment as the database holds it.

use chrono::{DateTime, TimeZone, Utc};

/// Microseconds since 1970 UTC: the finest both databases keep, eight bytes in every index, and the same order on both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, sqlx_macros::Type)]
#[sqlx(transparent)]
pub struct At(pub i64);

impl At {
    /// Later than any moment that is ever stored.
    pub const NEVER: At = At(i64::MAX);

    /// The moment.
    pub fn time(self) -> DateTime<Utc> {
        Utc.timestamp_micros(self.0).single().unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl From<DateTime<Utc>> for At {
    fn from(time: DateTime<Utc>) -> At {
        At(time.timestamp_micros())
    }
}
