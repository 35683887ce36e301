//! A length of time as a pathway gives it: a FHIR Duration in whole hours, days, weeks or months.

use chrono::{DateTime, Months, TimeDelta, Utc};
use serde_json::Value;

use crate::fhir::systems;

/// A whole number of hours, days, weeks or calendar months.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Hours(u16),
    Days(u16),
    Weeks(u16),
    Months(u16),
}

impl Span {
    /// Reads a Duration: a whole value up to 65,535 and the UCUM code `h`, `d`, `wk` or `mo`.
    pub fn from_duration(duration: &Value) -> Option<Span> {
        if duration.get("system").and_then(Value::as_str) != Some(systems::UCUM) {
            return None;
        }
        let value = u16::try_from(duration.get("value")?.as_u64()?).ok()?;
        match duration.get("code")?.as_str()? {
            "h" => Some(Span::Hours(value)),
            "d" => Some(Span::Days(value)),
            "wk" => Some(Span::Weeks(value)),
            "mo" => Some(Span::Months(value)),
            _ => None,
        }
    }

    /// The time this long after `at`. Months are calendar months, and the last day stands for one that a month has not:
    /// three months after 30 November is the end of February.
    pub fn after(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let later = match self {
            Span::Hours(hours) => at.checked_add_signed(TimeDelta::hours(i64::from(hours))),
            Span::Days(days) => at.checked_add_signed(TimeDelta::days(i64::from(days))),
            Span::Weeks(weeks) => at.checked_add_signed(TimeDelta::weeks(i64::from(weeks))),
            Span::Months(months) => at.checked_add_months(Months::new(u32::from(months))),
        };
        later.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}
