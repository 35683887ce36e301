//! The formats of R4's primitive types (<https://hl7.org/fhir/R4/datatypes.html#primitive>).

use serde_json::{Number, Value};

/// A primitive type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Primitive {
    Base64Binary,
    Boolean,
    Code,
    Date,
    DateTime,
    Decimal,
    Id,
    Instant,
    Integer,
    Markdown,
    Oid,
    PositiveInt,
    String,
    Time,
    UnsignedInt,
    /// uri, url, canonical: no space, never empty.
    Uri,
    Uuid,
    Xhtml,
}

/// Why a value is not of its primitive type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Another JSON kind: this is the one it must be.
    Shape(&'static str),
    /// The right JSON kind, the wrong content: this is what it must look like.
    Format(&'static str),
}

/// R4 limits a string to 1 MB.
const LONGEST_STRING: usize = 1024 * 1024;
/// More digits than any measurement has; keeps a million-digit number out of everything downstream.
const LONGEST_DECIMAL: usize = 64;
/// What a double can hold, which is what most receivers read a decimal into.
const LARGEST_EXPONENT: u32 = 308;

const DATE: &str = "a real date as YYYY, YYYY-MM or YYYY-MM-DD";
const DATE_TIME: &str = "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz, a real date, with seconds and a time zone if there is a time";
const INSTANT: &str = "YYYY-MM-DDThh:mm:ss+zz:zz, a real date, with seconds and a time zone";
const INTEGER: &str = "a whole number from -2147483648 to 2147483647";
const UNSIGNED: &str = "a whole number from 0 to 2147483647";
const POSITIVE: &str = "a whole number from 1 to 2147483647";

impl Primitive {
    /// The primitive with this R4 name; an unknown name is a string.
    pub(super) fn named(name: &str) -> Primitive {
        match name {
            "base64Binary" => Primitive::Base64Binary,
            "boolean" => Primitive::Boolean,
            "code" => Primitive::Code,
            "date" => Primitive::Date,
            "dateTime" => Primitive::DateTime,
            "decimal" => Primitive::Decimal,
            "id" => Primitive::Id,
            "instant" => Primitive::Instant,
            "integer" => Primitive::Integer,
            "markdown" => Primitive::Markdown,
            "oid" => Primitive::Oid,
            "positiveInt" => Primitive::PositiveInt,
            "time" => Primitive::Time,
            "unsignedInt" => Primitive::UnsignedInt,
            "uri" | "url" | "canonical" => Primitive::Uri,
            "uuid" => Primitive::Uuid,
            "xhtml" => Primitive::Xhtml,
            _ => Primitive::String,
        }
    }

    /// Whether a JSON value is of this type; the content of xhtml is looked at elsewhere.
    pub(super) fn check(self, value: &Value) -> Result<(), Fault> {
        match self {
            Primitive::Boolean => match value {
                Value::Bool(_) => Ok(()),
                _ => Err(Fault::Shape("true or false without quotes")),
            },
            Primitive::Decimal => number(value, "a number without quotes").and_then(decimal),
            Primitive::Integer => whole(value, i64::from(i32::MIN), INTEGER),
            Primitive::UnsignedInt => whole(value, 0, UNSIGNED),
            Primitive::PositiveInt => whole(value, 1, POSITIVE),
            _ => match value {
                Value::String(text) => self.check_text(text),
                _ => Err(Fault::Shape("a text in quotes")),
            },
        }
    }

    fn check_text(self, text: &str) -> Result<(), Fault> {
        let (right, says) = match self {
            Primitive::Code => (code(text), "a code: not empty, no space at either end, single spaces inside"),
            Primitive::Id => (id(text), "1 to 64 of A-Z, a-z, 0-9, - and ."),
            Primitive::Date => (is_date(text), DATE),
            Primitive::DateTime => (is_date_time(text), DATE_TIME),
            Primitive::Instant => (is_instant(text), INSTANT),
            Primitive::Time => (is_time(text), "hh:mm:ss"),
            Primitive::Uri => (uri(text), "a URI: not empty, no spaces"),
            Primitive::Oid => (oid(text), "urn:oid: and numbers parted by dots"),
            Primitive::Uuid => (text.strip_prefix("urn:uuid:").is_some_and(uuid), "urn:uuid: and a UUID in lower case"),
            Primitive::Base64Binary => (base64(text), "base64"),
            Primitive::Xhtml => (!text.is_empty(), "XHTML in a div"),
            Primitive::Markdown => (plain_text(text), "a text that is not empty and has no control characters"),
            _ => {
                let right = plain_text(text) && text.len() <= LONGEST_STRING;
                (right, "a text of at most 1 MB that is not empty and has no control characters")
            }
        };
        if right { Ok(()) } else { Err(Fault::Format(says)) }
    }
}

fn number<'a>(value: &'a Value, says: &'static str) -> Result<&'a Number, Fault> {
    match value {
        Value::Number(number) => Ok(number),
        _ => Err(Fault::Shape(says)),
    }
}

fn whole(value: &Value, least: i64, says: &'static str) -> Result<(), Fault> {
    let number = number(value, says)?;
    let right = number.as_i64().is_some_and(|n| n >= least && n <= i64::from(i32::MAX));
    if right { Ok(()) } else { Err(Fault::Format(says)) }
}

fn decimal(number: &Number) -> Result<(), Fault> {
    let text = number.as_str();
    let exponent = text.split_once(['e', 'E']).map(|(_, e)| e.trim_start_matches(['+', '-']).parse::<u32>());
    let right = text.len() <= LONGEST_DECIMAL && exponent.is_none_or(|e| e.is_ok_and(|e| e <= LARGEST_EXPONENT));
    if right { Ok(()) } else { Err(Fault::Format("a number of at most 64 characters with an exponent up to 308")) }
}

/// Not empty, no character below space except tab and line ends.
fn plain_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b >= b' ' || matches!(b, b'\t' | b'\n' | b'\r'))
}

fn code(text: &str) -> bool {
    let mut after_space = true;
    for c in text.chars() {
        let space = c.is_whitespace();
        if (space && after_space) || c.is_control() {
            return false;
        }
        after_space = space;
    }
    !after_space
}

/// Whether a text is an R4 id.
pub(super) fn id(text: &str) -> bool {
    matches!(text.len(), 1..=64) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

fn uri(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn oid(text: &str) -> bool {
    let Some(arcs) = text.strip_prefix("urn:oid:") else { return false };
    let mut arcs = arcs.split('.');
    let root = matches!(arcs.next(), Some("0" | "1" | "2"));
    let mut further = 0;
    let right = arcs.all(|arc| {
        further += 1;
        !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
    });
    root && right && further > 0
}

fn uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn base64(text: &str) -> bool {
    let (mut digits, mut padding) = (0usize, 0usize);
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => digits += 1,
            b'=' => padding += 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => return false,
        }
    }
    digits > 0 && padding <= 2 && (digits + padding).is_multiple_of(4)
}

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

fn is_date(text: &str) -> bool {
    date_parts(text.as_bytes()).is_some_and(|(_, rest)| rest.is_empty())
}

fn is_time(text: &str) -> bool {
    after_time(text.as_bytes()).is_some_and(<[u8]>::is_empty)
}

fn is_instant(text: &str) -> bool {
    let rest = date_parts(text.as_bytes()).filter(|(parts, _)| *parts == 3).and_then(|(_, rest)| after(rest, b'T'));
    rest.and_then(after_time).is_some_and(is_zone)
}

fn is_date_time(text: &str) -> bool {
    is_date(text) || is_instant(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn right(name: &str, value: Value) -> bool {
        Primitive::named(name).check(&value).is_ok()
    }

    #[test]
    fn only_days_of_the_calendar_are_dates() {
        for date in ["2024", "2024-02", "2024-02-29", "2000-02-29", "0001-01-01"] {
            assert!(right("date", json!(date)), "{date}");
        }
        for no in [
            "2020-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-13",
            "2024-00-01",
            "2024-1-1",
            "24",
            "",
            "2024-01-01 ",
            "0000",
            "2024-",
        ] {
            assert!(!right("date", json!(no)), "{no}");
        }
    }

    #[test]
    fn a_time_of_day_needs_seconds_and_a_zone() {
        for yes in
            ["2024", "2024-05-01", "2024-05-01T10:00:00Z", "2024-05-01T10:00:00.123456+14:00", "2016-12-31T23:59:60Z"]
        {
            assert!(right("dateTime", json!(yes)), "{yes}");
        }
        for no in [
            "2024-05-01T10:00Z",
            "2024-05-01T10:00:00",
            "2024-05-01T24:00:00Z",
            "2024-05T10:00:00Z",
            "2024-05-01T10:00:00.Z",
            "2024-05-01T10:00:00+14:30",
            "2024-05-01T10:00:00z",
            "2024-02-30T10:00:00Z",
        ] {
            assert!(!right("dateTime", json!(no)), "{no}");
        }
        assert!(!right("instant", json!("2024-05-01")) && right("instant", json!("2024-05-01T10:00:00-01:00")));
        assert!(
            right("time", json!("10:00:00")) && !right("time", json!("10:00")) && !right("time", json!("10:00:00Z"))
        );
    }

    #[test]
    fn numbers_keep_within_what_a_receiver_can_hold() {
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert!(right("decimal", read("1.00e-7")) && right("decimal", read("-1.0000000000000000e245")));
        assert!(!right("decimal", read("1e400")) && !right("decimal", read(&"9".repeat(1_000_000))));
        assert!(!right("decimal", json!("1.0")));
        assert!(right("integer", json!(-2147483648i64)) && !right("integer", json!(2147483648i64)));
        assert!(!right("integer", read("1.0")) && !right("integer", read("1e2")));
        assert!(!right("positiveInt", json!(0)) && right("unsignedInt", json!(0)) && !right("unsignedInt", json!(-1)));
        assert!(!right("boolean", json!("true")) && right("boolean", json!(true)));
    }

    #[test]
    fn texts_follow_the_rules_of_their_type() {
        assert!(right("id", json!("a-1.B")) && !right("id", json!("a b/../c")) && !right("id", json!("a".repeat(65))));
        assert!(
            right("code", json!("in progress"))
                && !right("code", json!(" a"))
                && !right("code", json!("a  b"))
                && !right("code", json!(""))
        );
        assert!(right("uri", json!("urn:x")) && !right("uri", json!("http://a b")) && !right("canonical", json!("")));
        assert!(
            right("oid", json!("urn:oid:1.2.826"))
                && !right("oid", json!("1.2.3"))
                && !right("oid", json!("urn:oid:1.02"))
        );
        assert!(right("uuid", json!("urn:uuid:c757873d-ec9a-4326-a141-556f43239520")));
        assert!(!right("uuid", json!("urn:uuid:C757873D-EC9A-4326-A141-556F43239520")));
        assert!(
            right("base64Binary", json!("aGVs bG8=\n"))
                && !right("base64Binary", json!("aGVsbG8"))
                && !right("base64Binary", json!("a=bc"))
        );
        assert!(
            right("string", json!("line\nline")) && !right("string", json!("")) && !right("string", json!("a\u{0}"))
        );
        assert!(!right("string", json!(7)) && !right("string", json!(["a"])));
    }
}
