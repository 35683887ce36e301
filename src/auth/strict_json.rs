//! JSON that says each thing once.
//!
//! Two readers of `{"iss":"a","iss":"b"}` may each see another member, so a document that repeats one is refused
//! (RFC 8725 section 2.4, RFC 7519 section 4).

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};

/// Why a text is not an object that says each thing once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotStrict {
    /// An object, at any depth, says a member twice.
    Repeated,
    /// Not JSON, not an object, or not the shape that was asked for.
    Shape,
}

/// Reads one JSON object into `T`. A member repeated at any depth, also by way of an escape, is an error.
pub(super) fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, NotStrict> {
    // A derived `Deserialize` would take an array for an object, member by position.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(NotStrict::Shape);
    }
    match serde_json::from_slice::<EachOnce>(text) {
        Ok(EachOnce(true)) => serde_json::from_slice(text).map_err(|_| NotStrict::Shape),
        Ok(EachOnce(false)) => Err(NotStrict::Repeated),
        Err(_) => Err(NotStrict::Shape),
    }
}

/// Reads a member that, where it is present, must be a `T`: `null` is not the same as absent.
pub(super) fn present<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(from).map(Some)
}

/// Whether no object in a JSON value repeats a member.
struct EachOnce(bool);

impl<'de> Deserialize<'de> for EachOnce {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<EachOnce, D::Error> {
        from.deserialize_any(Walk).map(EachOnce)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let mut each_once = true;
        while let Some(EachOnce(inner)) = items.next_element()? {
            each_once &= inner;
        }
        Ok(each_once)
    }

    // Numbers come here too: with serde_json's arbitrary_precision they are maps of one private member.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut seen = HashSet::new();
        let mut each_once = true;
        while let Some((name, EachOnce(inner))) = members.next_entry::<String, EachOnce>()? {
            each_once &= inner && seen.insert(name);
        }
        Ok(each_once)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_object_that_says_each_thing_once_is_read_with_its_numbers_to_the_digit() {
        let value: Value = object(br#" {"a":1.50,"b":[{"a":null},{"a":true}],"c":"a"} "#).unwrap();
        assert_eq!(value.to_string(), r#"{"a":1.50,"b":[{"a":null},{"a":true}],"c":"a"}"#);
    }

    #[test]
    fn a_repeated_member_is_refused_at_any_depth_and_through_escapes() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"x":[0,[{"a":1,"a":2}]]}"#,
            r#"{"x":1,"y":{"z":{}},"x":{}}"#,
        ] {
            assert_eq!(object::<Value>(text.as_bytes()), Err(NotStrict::Repeated), "{text}");
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in
            ["", " ", "null", "1", "\"a\"", "[]", "[{}]", "{", "{}{}", "{} x", "{'a':1}", "{\"a\":1,}", "\u{feff}{}"]
        {
            assert_eq!(object::<Value>(text.as_bytes()), Err(NotStrict::Shape), "{text}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
        assert_eq!(object::<Value>(deep.as_bytes()), Err(NotStrict::Shape));
        assert_eq!(object::<Value>(b"{\"a\":\"\xff\"}"), Err(NotStrict::Shape));
    }
}
