//! What a good assertion is, to the second and to the character.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use chrono::DateTime;
use serde_json::json;

use super::assertion::{Assertion, BadAssertion, Expected, claimed_client, verify};
use super::key_set::KeySet;
use super::test_keys::{EC, RSA, TestKey, b64};

pub(super) const CLIENT: &str = "practice-system";
pub(super) const AUDIENCE: &str = "https://livewell.example/oauth/token";
pub(super) const JWKS_URL: &str = "https://practice.example/jwks.json";
/// 2027-01-15T08:00:00Z.
pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const RS384: &str = r#"{"alg":"RS384","kid":"rsa","typ":"JWT"}"#;

fn keys() -> KeySet {
    KeySet::parse(&json!({"keys": [RSA.jwk, EC.jwk]})).unwrap()
}

pub(super) fn check(assertion: &str, jwks_url: Option<&str>) -> Result<Assertion, BadAssertion> {
    let now = DateTime::from_timestamp(NOW, 999_999_999).unwrap();
    verify(assertion, &Expected { client_id: CLIENT, audience: AUDIENCE, keys: &keys(), jwks_url, now })
}

/// The claims of a good assertion, with members replaced (or, where the text is empty, left out).
pub(super) fn claims(changes: &[(&str, &str)]) -> String {
    let (client, audience) = (format!("\"{CLIENT}\""), format!("\"{AUDIENCE}\""));
    let exp = (NOW + 240).to_string();
    let good = [("iss", client.as_str()), ("sub", &client), ("aud", &audience), ("jti", "\"one\""), ("exp", &exp)];
    let new = changes.iter().filter(|(name, _)| good.iter().all(|(known, _)| known != name));
    let members = good
        .iter()
        .map(|(name, value)| changes.iter().find(|(changed, _)| changed == name).unwrap_or(&(name, value)).to_owned());
    let text: Vec<String> = members
        .chain(new.copied())
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", text.join(","))
}

pub(super) fn signed_by(key: &TestKey, algorithm: &str, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(payload));
    let signature = b64(key.sign(algorithm, &message));
    format!("{message}.{signature}")
}

/// Signed by the client's own key with RS384, whatever the header says.
pub(super) fn signed(header: &str, payload: &str) -> String {
    signed_by(&RSA, "RS384", header, payload)
}

/// A header with RS384, the client's key and one member more.
pub(super) fn header_with(member: &str) -> String {
    format!(r#"{{"alg":"RS384","kid":"rsa","typ":"JWT",{member}}}"#)
}

#[test]
fn the_three_algorithms_are_accepted() {
    for (key, kid, alg) in [(&RSA, "rsa", "RS384"), (&EC, "ec", "ES384"), (&RSA, "rsa", "RS512")] {
        let header = format!(r#"{{"typ":"JWT","kid":"{kid}","alg":"{alg}"}}"#);
        let assertion = signed_by(key, alg, &header, &claims(&[]));
        let read = check(&assertion, None).unwrap();
        assert_eq!((read.client_id.as_str(), read.jti.as_str()), (CLIENT, "one"));
        assert_eq!(read.expires_at.timestamp(), NOW + 240);
        assert_eq!(read.remember_until().timestamp(), NOW + 245);
        assert_eq!(claimed_client(&assertion), Ok(CLIENT.to_owned()));
    }
}

#[test]
fn the_edges_of_the_rules_are_inside() {
    let number = |n: i64| n.to_string();
    let quoted = |text: String| format!("\"{text}\"");
    for (name, value) in [
        ("exp", number(NOW + 305)),
        ("exp", number(NOW + 1)),
        ("exp", number(NOW - 4)),
        ("nbf", number(NOW + 5)),
        ("nbf", number(0)),
        ("iat", number(NOW + 5)),
        ("iat", number(NOW - 305)),
        ("jti", quoted("j".repeat(128))),
        ("jti", quoted("\u{e4}".repeat(128))),
        ("scope", quoted("something else a client says".into())),
    ] {
        assert!(check(&signed(RS384, &claims(&[(name, &value)])), None).is_ok(), "{name} {value}");
    }
    // A header member without meaning here is passed over (RFC 7515 section 4).
    assert!(check(&signed(&header_with(r#""vendor":"1""#), &claims(&[])), None).is_ok());
}

#[test]
fn a_jku_is_accepted_only_where_it_is_the_registered_url() {
    let assertion = signed(&header_with(&format!(r#""jku":"{JWKS_URL}""#)), &claims(&[]));
    assert!(check(&assertion, Some(JWKS_URL)).is_ok());
    assert_eq!(check(&assertion, None), Err(BadAssertion::KeySetUrl));
    assert_eq!(check(&assertion, Some("https://other.example/jwks.json")), Err(BadAssertion::KeySetUrl));
}

#[test]
fn changing_any_one_character_spoils_an_assertion() {
    for (key, header) in [(&RSA, RS384), (&EC, r#"{"alg":"ES384","kid":"ec","typ":"JWT"}"#)] {
        let good = signed_by(key, "RS384", header, &claims(&[]));
        assert!(check(&good, None).is_ok());
        let keys = keys();
        let now = DateTime::from_timestamp(NOW, 0).unwrap();
        let expected = Expected { client_id: CLIENT, audience: AUDIENCE, keys: &keys, jwks_url: None, now };
        for position in 0..good.len() {
            let mut spoilt = good.clone().into_bytes();
            spoilt[position] = if spoilt[position] == b'A' { b'B' } else { b'A' };
            let spoilt = String::from_utf8(spoilt).unwrap();
            assert!(verify(&spoilt, &expected).is_err(), "character {position}");
            assert!(verify(&good[..position], &expected).is_err(), "cut at {position}");
        }
    }
}

#[test]
fn a_claimed_client_is_read_without_trust_and_only_where_issuer_and_subject_agree() {
    let unsigned = |payload: &str| format!("{}.{}.AA", b64("{}"), b64(payload));
    assert_eq!(claimed_client(&unsigned(&claims(&[]))), Ok(CLIENT.to_owned()));
    let other = claims(&[("sub", "\"other\"")]);
    assert_eq!(claimed_client(&unsigned(&other)), Err(BadAssertion::Subject));
    for client in [String::new(), "c".repeat(257), "a\\u0000".into(), "\u{e4}".into()] {
        let client = format!("\"{client}\"");
        let payload = claims(&[("iss", &client), ("sub", &client)]);
        assert_eq!(claimed_client(&unsigned(&payload)), Err(BadAssertion::Issuer), "{client}");
    }
    assert_eq!(claimed_client(""), Err(BadAssertion::Encoding));
    assert_eq!(claimed_client(&"A".repeat(8193)), Err(BadAssertion::TooLong));
}
