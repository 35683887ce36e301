//! Whom a Patient names, by what it says of them.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::nhs_number::{Checking, NhsNumber, NhsNumberError};
use crate::fhir::systems::NHS_NUMBER;
use crate::fhir::when::Interval;
use crate::fhir::{Resource, path};

/// What the NHS numbers of a Patient come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Number {
    /// None is in use.
    Unknown,
    /// One is, however often it is said.
    One(NhsNumber),
    /// Two that differ are: nobody can tell whose the record is. `second` is the place of the other identifier.
    Differing { second: usize },
}

/// Reads the NHS numbers of a Patient, each held to the format of one.
///
/// # Errors
/// The place of an identifier that is no NHS number, and why.
pub fn number(patient: &Resource, checking: Checking, now: DateTime<Utc>) -> Result<Number, (usize, NhsNumberError)> {
    let mut found = Number::Unknown;
    for (at, identifier) in patient.all("identifier").into_iter().enumerate() {
        let Some(text) = path::text(identifier, "value") else { continue };
        if path::text(identifier, "system") != Some(NHS_NUMBER) {
            continue;
        }
        let number = NhsNumber::parse_as(text, checking).map_err(|why| (at, why))?;
        if !is_in_use(identifier, now) {
            continue;
        }
        found = match found {
            Number::Unknown => Number::One(number),
            Number::One(first) if first != number => Number::Differing { second: at },
            known => known,
        };
    }
    Ok(found)
}

/// Whether an identifier identifies anybody now: it is not said to be `old`, and its period has not ended.
pub fn is_in_use(identifier: &Value, now: DateTime<Utc>) -> bool {
    let end = path::text(identifier, "period.end").and_then(Interval::parse);
    let ended = end.is_some_and(|end| end.high <= now.timestamp_micros());
    path::text(identifier, "use") != Some("old") && !ended
}

/// An ODS code as it is compared: what is sent has small letters and blanks around it now and then.
pub fn ods_code(text: &str) -> String {
    text.trim().to_ascii_uppercase()
}

/// Whether a Patient says anything by which the person can be found or called.
pub fn names_somebody(patient: &Resource) -> bool {
    patient.text("identifier.value").is_some()
        || patient.text("telecom.value").is_some()
        || !patient.all("name").is_empty()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    const ADA: &str = "9990000018";
    const BERT: &str = "9990000026";

    fn read(identifiers: &[Value]) -> Result<Number, (usize, NhsNumberError)> {
        let patient = Resource::from_value(json!({ "resourceType": "Patient", "identifier": identifiers })).unwrap();
        number(&patient, Checking::Strict, "2026-03-02T09:00:00Z".parse().unwrap())
    }

    fn one(number: &str) -> Result<Number, (usize, NhsNumberError)> {
        Ok(Number::One(NhsNumber::parse(number).unwrap()))
    }

    fn with(number: &str, more: Value) -> Value {
        let mut identifier = json!({ "system": NHS_NUMBER, "value": number });
        identifier.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        identifier
    }

    fn plain(number: &str) -> Value {
        with(number, json!({}))
    }

    #[test]
    fn a_number_that_is_old_or_whose_period_has_ended_identifies_nobody() {
        for before in [
            json!({ "use": "old" }),
            json!({ "period": { "end": "2026-03-01" } }),
            json!({ "period": { "start": "2020", "end": "2026-03-02T08:59:59Z" } }),
        ] {
            assert_eq!(read(&[with(BERT, before.clone())]), Ok(Number::Unknown), "{before}");
            assert_eq!(read(&[plain(ADA), with(BERT, before.clone())]), one(ADA), "{before}");
            assert_eq!(read(&[with(BERT, before.clone()), plain(ADA)]), one(ADA), "{before}");
        }
        // A day, a month and a year last until their end.
        for now in [
            json!({ "use": "official" }),
            json!({ "period": { "start": "2020" } }),
            json!({ "period": { "end": "2026-03-02" } }),
            json!({ "period": { "end": "2026-03" } }),
        ] {
            assert_eq!(read(&[with(ADA, now.clone())]), one(ADA), "{now}");
        }
    }

    #[test]
    fn two_numbers_in_use_that_differ_identify_nobody_and_one_said_twice_is_one() {
        let local = json!({ "system": "https://practice.example/Id/local", "value": "77" });
        assert_eq!(read(&[plain(ADA), local, plain(BERT)]), Ok(Number::Differing { second: 2 }));
        assert_eq!(read(&[plain(ADA), plain(BERT), plain(ADA)]), Ok(Number::Differing { second: 1 }));
        assert_eq!(read(&[plain(ADA), plain("999 000 0018")]), one(ADA));
        assert_eq!(read(&[]), Ok(Number::Unknown));
    }

    #[test]
    fn a_patient_without_identifier_name_and_telecom_names_nobody() {
        let names = |said: Value| {
            let mut patient = json!({ "resourceType": "Patient", "gender": "female", "birthDate": "1957-03-04" });
            patient.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            names_somebody(&Resource::from_value(patient).unwrap())
        };
        for nothing in [
            json!({}),
            json!({ "identifier": [{ "system": NHS_NUMBER }] }),
            json!({ "telecom": [{ "system": "phone" }] }),
        ] {
            assert!(!names(nothing.clone()), "{nothing}");
        }
        for somebody in [
            json!({ "identifier": [{ "value": "77" }] }),
            json!({ "telecom": [{ "system": "phone", "value": "01632 960001" }] }),
            json!({ "name": [{ "text": "Ada" }] }),
        ] {
            assert!(names(somebody.clone()), "{somebody}");
        }
    }

    #[test]
    fn an_old_number_is_held_to_the_format_too() {
        let old = with("9990000019", json!({ "use": "old" }));
        assert_eq!(read(&[plain(ADA), old]), Err((1, NhsNumberError::CheckDigit)));
    }
}
