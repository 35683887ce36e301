//! FHIR dates and times as the intervals they cover: `2026-05` is all of May.

use chrono::{DateTime, Days, Duration, Months, NaiveDate, NaiveTime, Utc};
use serde_json::Value;

use super::path;

/// From `low` to before `high`, in microseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub low: i64,
    pub high: i64,
}

/// Before every moment.
pub const ALWAYS_BEFORE: i64 = i64::MIN;
/// After every moment.
pub const ALWAYS_AFTER: i64 = i64::MAX;

impl Interval {
    /// What a FHIR date, dateTime or instant covers; `None` when it is not one. A date without a zone is taken as UTC.
    pub fn parse(text: &str) -> Option<Interval> {
        let (low, high) = match text.len() {
            4 => {
                let first = NaiveDate::from_ymd_opt(text.parse().ok()?, 1, 1)?;
                (first, first.checked_add_months(Months::new(12))?)
            }
            7 => {
                let first = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()?;
                (first, first.checked_add_months(Months::new(1))?)
            }
            10 => {
                let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
                (day, day.checked_add_days(Days::new(1))?)
            }
            _ => return Interval::of_time(text),
        };
        let micros = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        Some(Interval { low: micros(low), high: micros(high) })
    }

    fn of_time(text: &str) -> Option<Interval> {
        let seconds = text.get(..19).or(text.get(..16))?;
        let zoned = text.get(19..).is_some_and(|rest| rest.contains(['Z', '+', '-'])) || text.ends_with('Z');
        let full = match (zoned, text.len()) {
            (true, 17) => format!("{}:00Z", text.get(..16)?),
            (true, _) => text.to_owned(),
            (false, 16) => format!("{seconds}:00Z"),
            (false, _) => format!("{text}Z"),
        };
        let low = DateTime::parse_from_rfc3339(&full).ok()?.with_timezone(&Utc);
        let width = match text.split_once('.') {
            Some((_, fraction)) => {
                let digits = fraction.bytes().take_while(u8::is_ascii_digit).count().min(6);
                Duration::microseconds(10_i64.pow(6 - u32::try_from(digits).ok()?))
            }
            None if !zoned && text.len() == 16 || zoned && text.len() == 17 => Duration::minutes(1),
            None => Duration::seconds(1),
        };
        Some(Interval { low: low.timestamp_micros(), high: (low + width).timestamp_micros() })
    }

    /// What an element covers: a date, or a Period open at either end.
    pub fn of_element(value: &Value) -> Option<Interval> {
        if let Some(text) = value.as_str() {
            return Interval::parse(text);
        }
        let start = path::text(value, "start").and_then(Interval::parse);
        let end = path::text(value, "end").and_then(Interval::parse);
        if start.is_none() && end.is_none() {
            return None;
        }
        Some(Interval { low: start.map_or(ALWAYS_BEFORE, |i| i.low), high: end.map_or(ALWAYS_AFTER, |i| i.high) })
    }
}

/// A moment as a FHIR instant with milliseconds.
pub fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The moment a FHIR dateTime begins.
pub fn start_of(text: &str) -> Option<DateTime<Utc>> {
    Interval::parse(text).and_then(|i| DateTime::from_timestamp_micros(i.low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_date_covers_all_it_could_mean() {
        let width = |text: &str| Interval::parse(text).map(|i| (i.high - i.low) / 1_000_000);
        assert_eq!(width("2024"), Some(366 * 86_400));
        assert_eq!(width("2026-02"), Some(28 * 86_400));
        assert_eq!(width("2026-02-03"), Some(86_400));
        assert_eq!(width("2026-02-03T10:00"), Some(60));
        assert_eq!(width("2026-02-03T10:00:00Z"), Some(1));
        assert_eq!(width("2026-02-03T10:00:00+01:00"), Some(1));
        assert_eq!(Interval::parse("2026-02-03T10:00:00.5Z").map(|i| i.high - i.low), Some(100_000));
        assert_eq!(Interval::parse("2026-02-30"), None);
        assert_eq!(Interval::parse("never"), None);
        assert_eq!(Interval::parse("épinards de juin"), None);
        assert_eq!(Interval::parse("2026-02-03T10:00ééé"), None);
    }

    #[test]
    fn a_zone_moves_the_moment() {
        let at = |text: &str| Interval::parse(text).map(|i| i.low);
        assert_eq!(at("2026-02-03T10:00:00+01:00"), at("2026-02-03T09:00:00Z"));
    }
}
