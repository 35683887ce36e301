//! Dates, numbers and quantities: what a prefix and a value ask of an interval
//! (<https://hl7.org/fhir/R4/search.html#prefix>).

use super::criterion::{Span, Unit};
use crate::fhir::when::{ALWAYS_AFTER, ALWAYS_BEFORE, Interval};

/// `eq`, `ne`, `gt` and their like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Equal,
    NotEqual,
    Greater,
    Less,
    AtLeast,
    AtMost,
    StartsAfter,
    EndsBefore,
    Approximately,
}

/// The prefix of a value and the rest of it; a value without one is to be equal.
pub(super) fn prefixed(value: &str) -> (Prefix, &str) {
    let prefix = match value.get(..2) {
        Some("eq") => Prefix::Equal,
        Some("ne") => Prefix::NotEqual,
        Some("gt") => Prefix::Greater,
        Some("lt") => Prefix::Less,
        Some("ge") => Prefix::AtLeast,
        Some("le") => Prefix::AtMost,
        Some("sa") => Prefix::StartsAfter,
        Some("eb") => Prefix::EndsBefore,
        Some("ap") => Prefix::Approximately,
        _ => return (Prefix::Equal, value),
    };
    (prefix, value.get(2..).unwrap_or_default())
}

const ANY_TIME: (i64, i64) = (ALWAYS_BEFORE, ALWAYS_AFTER);
const ANY_NUMBER: (f64, f64) = (f64::MIN, f64::MAX);

/// Where an interval may lie; one of the answers has to hold.
///
/// An approximate date is within a tenth of its distance from now, and within its own precision.
pub(super) fn times(value: &str, now: i64) -> Option<Vec<Span<i64>>> {
    let (prefix, text) = prefixed(value);
    let Interval { low, high } = Interval::parse(text)?;
    let within = Span { low: (low, ALWAYS_AFTER), high: (ALWAYS_BEFORE, high) };
    let later = Span { low: ANY_TIME, high: (high.saturating_add(1), ALWAYS_AFTER) };
    let earlier = Span { low: (ALWAYS_BEFORE, low.saturating_sub(1)), high: ANY_TIME };
    Some(match prefix {
        Prefix::Equal => vec![within],
        Prefix::NotEqual => vec![earlier, later],
        Prefix::Greater => vec![later],
        Prefix::Less => vec![earlier],
        Prefix::AtLeast => vec![later, within],
        Prefix::AtMost => vec![earlier, within],
        Prefix::StartsAfter => vec![Span { low: (high, ALWAYS_AFTER), high: ANY_TIME }],
        Prefix::EndsBefore => vec![Span { low: ANY_TIME, high: (ALWAYS_BEFORE, low) }],
        Prefix::Approximately => {
            let gap = now.saturating_sub(low).saturating_abs() / 10;
            let (low, high) = (low.saturating_sub(gap), high.saturating_add(gap));
            vec![Span { low: (ALWAYS_BEFORE, high.saturating_sub(1)), high: (low.saturating_add(1), ALWAYS_AFTER) }]
        }
    })
}

/// From and before, for a parameter on a single moment.
pub(super) fn moments(value: &str, now: i64) -> Option<Vec<(i64, i64)>> {
    let (prefix, text) = prefixed(value);
    let Interval { low, high } = Interval::parse(text)?;
    Some(match prefix {
        Prefix::Equal => vec![(low, high)],
        Prefix::NotEqual => vec![(ALWAYS_BEFORE, low), (high, ALWAYS_AFTER)],
        Prefix::Greater | Prefix::StartsAfter => vec![(high, ALWAYS_AFTER)],
        Prefix::AtLeast => vec![(low, ALWAYS_AFTER)],
        Prefix::Less | Prefix::EndsBefore => vec![(ALWAYS_BEFORE, low)],
        Prefix::AtMost => vec![(ALWAYS_BEFORE, high)],
        Prefix::Approximately => {
            let gap = now.saturating_sub(low).saturating_abs() / 10;
            vec![(low.saturating_sub(gap), high.saturating_add(gap))]
        }
    })
}

/// Where a number may lie. `100` is anything that rounds to it; the other comparisons take it as it stands.
pub(super) fn numbers(value: &str) -> Option<Vec<Span<f64>>> {
    let (prefix, text) = prefixed(value);
    let (exact, low, below) = precision(text)?;
    let high = below.next_down();
    let above = |from: f64| Span { low: ANY_NUMBER, high: (from, f64::MAX) };
    let under = |to: f64| Span { low: (f64::MIN, to), high: ANY_NUMBER };
    Some(match prefix {
        Prefix::Equal => vec![Span { low: (low, f64::MAX), high: (f64::MIN, high) }],
        Prefix::NotEqual => vec![under(low.next_down()), above(below)],
        Prefix::Greater => vec![above(exact.next_up())],
        Prefix::AtLeast => vec![above(exact)],
        Prefix::Less => vec![under(exact.next_down())],
        Prefix::AtMost => vec![under(exact)],
        Prefix::StartsAfter => vec![Span { low: (exact.next_up(), f64::MAX), high: ANY_NUMBER }],
        Prefix::EndsBefore => vec![Span { low: ANY_NUMBER, high: (f64::MIN, exact.next_down()) }],
        Prefix::Approximately => {
            let tenth = exact.abs() / 10.0;
            vec![Span { low: (f64::MIN, exact + tenth), high: (exact - tenth, f64::MAX) }]
        }
    })
}

/// A quantity: `number`, `number|system|code` or `number||code`. Units are compared as they are written, not converted.
pub(super) fn quantity(value: &str) -> Option<(Vec<Span<f64>>, Unit)> {
    let mut words = value.split('|');
    let spans = numbers(words.next()?)?;
    let (system, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if words.next().is_some() {
        return None;
    }
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some((spans, Unit { system: said(system), code: said(code) }))
}

/// The number, and the half-open range of what rounds to it: to the last digit written.
fn precision(text: &str) -> Option<(f64, f64, f64)> {
    let shape = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    if text.is_empty() || text.len() > 40 || !text.chars().all(shape) {
        return None;
    }
    let exact: f64 = text.parse().ok().filter(|n: &f64| n.is_finite())?;
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let power = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_sub(1)?;
    // Through text, so that the ends are the very numbers that a resource would have there.
    let end = |half: i128| format!("{}e{power}", mantissa.checked_mul(10)?.checked_add(half)?).parse::<f64>().ok();
    let (low, high) = (end(-5)?, end(5)?);
    (low.is_finite() && high.is_finite()).then_some((exact, low, high))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::fhir::search::rows::{Range, Real};

    #[test]
    fn a_number_means_all_that_rounds_to_it() {
        let holds = |search: &str, value: f64| {
            let range = Range { low: Real(value), high: Real(value) };
            numbers(search).unwrap().iter().any(|span| span.holds(&range))
        };
        for (search, value, is) in [
            ("100", 99.5, true),
            ("100", 100.4, true),
            ("100", 100.5, false),
            ("100.00", 100.004, true),
            ("100.00", 100.01, false),
            ("5.4", 5.35, true),
            ("5.4", 5.45, false),
            ("1e2", 149.0, true),
            ("1e2", 150.0, false),
            ("-2", -2.4, true),
            ("ne100", 100.4, false),
            ("ne100", 101.0, true),
            ("gt5.4", 5.4, false),
            ("gt5.4", 5.41, true),
            ("ge5.4", 5.4, true),
            ("lt5.4", 5.4, false),
            ("le5.4", 5.4, true),
            ("ap100", 109.0, true),
            ("ap100", 111.0, false),
        ] {
            assert_eq!(holds(search, value), is, "{search} and {value}");
        }
        for wrong in ["", "many", "1.2.3", "--1", "1e999", "NaN", "inf", "0x10"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_date_is_compared_by_all_it_covers() {
        let holds = |search: &str, value: &str| {
            let Interval { low, high } = Interval::parse(value).unwrap();
            times(search, 0).unwrap().iter().any(|span| span.holds(low, high))
        };
        for (search, value, is) in [
            ("2026-03", "2026-03-14", true),
            ("2026-03-14", "2026-03", false),
            ("ne2026-03-14", "2026-03", true),
            ("gt2026-03", "2026-03-31", false),
            ("gt2026-03-15", "2026-03", true),
            ("lt2026-03-15", "2026-03", true),
            ("ge2026-03", "2026-03-31", true),
            ("le2026-03", "2026-03-01", true),
            ("sa2026-03-15", "2026-03", false),
            ("sa2026-03-15", "2026-04", true),
            ("eb2026-03-15", "2026-03", false),
            ("eb2026-03-15", "2026-02", true),
            ("ap2026-03-15", "2026-03-16", true),
        ] {
            assert_eq!(holds(search, value), is, "{search} and {value}");
        }
    }
}
