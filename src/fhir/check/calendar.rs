//! R4's dates and times (<https://hl7.org/fhir/R4/datatypes.html#dateTime>): days of the calendar only.

/// A number of exactly `length` digits at the start, and what follows it.
fn digits(text: &[u8], length: usize) -> Option<(u32, &[u8])> {
    let (here, rest) = text.split_at_checked(length)?;
    let mut number = 0;
    for b in here {
        number = number * 10 + u32::from(b.checked_sub(b'0').filter(|d| *d <= 9)?);
    }
    Some((number, rest))
}

fn after(text: &[u8], sign: u8) -> Option<&[u8]> {
    text.split_first().filter(|(first, _)| **first == sign).map(|(_, rest)| rest)
}

/// How much of a date there is, and what follows it; nothing where there is no real date.
fn date_parts(text: &[u8]) -> Option<(u8, &[u8])> {
    let (year, rest) = digits(text, 4).filter(|(year, _)| *year > 0)?;
    let Some(rest) = after(rest, b'-') else { return Some((1, rest)) };
    let (month, rest) = digits(rest, 2).filter(|(month, _)| (1..=12).contains(month))?;
    let Some(rest) = after(rest, b'-') else { return Some((2, rest)) };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let (_, rest) = digits(rest, 2).filter(|(day, _)| (1..=last).contains(day))?;
    Some((3, rest))
}

/// What follows `hh:mm:ss` and its fraction.
fn after_time(text: &[u8]) -> Option<&[u8]> {
    let (_, rest) = digits(text, 2).filter(|(hour, _)| *hour < 24)?;
    let (_, rest) = digits(after(rest, b':')?, 2).filter(|(minute, _)| *minute < 60)?;
    let (_, rest) = digits(after(rest, b':')?, 2).filter(|(second, _)| *second <= 60)?;
    let Some(fraction) = after(rest, b'.') else { return Some(rest) };
    let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 { None } else { fraction.get(length..) }
}

fn is_zone(text: &[u8]) -> bool {
    let (sign, rest) = match text.split_first() {
        Some((b'Z', [])) => return true,
        Some((sign, rest)) => (*sign, rest),
        None => return false,
    };
    let parts = digits(rest, 2).and_then(|(hours, rest)| Some((hours, digits(after(rest, b':')?, 2)?)));
    let in_range = |hours: u32, minutes: u32| (hours < 14 && minutes < 60) || (hours == 14 && minutes == 0);
    matches!(sign, b'+' | b'-')
        && parts.is_some_and(|(hours, (minutes, rest))| rest.is_empty() && in_range(hours, minutes))
}

/// Whether a text is an R4 date: a year, a month or a real day.
pub(super) fn is_date(text: &str) -> bool {
    date_parts(text.as_bytes()).is_some_and(|(_, rest)| rest.is_empty())
}

/// Whether a text is an R4 time of day: seconds, no zone.
pub(super) fn is_time(text: &str) -> bool {
    after_time(text.as_bytes()).is_some_and(<[u8]>::is_empty)
}

/// Whether a text is an R4 instant: a real day, a time with seconds, a zone.
pub(super) fn is_instant(text: &str) -> bool {
    let rest = date_parts(text.as_bytes()).filter(|(parts, _)| *parts == 3).and_then(|(_, rest)| after(rest, b'T'));
    rest.and_then(after_time).is_some_and(is_zone)
}

/// Whether a text is an R4 dateTime: a date or an instant.
pub(super) fn is_date_time(text: &str) -> bool {
    is_date(text) || is_instant(text)
}
