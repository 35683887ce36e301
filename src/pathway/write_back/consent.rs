//! How much of what was recorded the practice may see.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::own_words::{Reader, conditions_hold};
use crate::fhir::when::Interval;
use crate::fhir::{Resource, path};

/// How much leaves with a write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Coded entries, what staff noted, and a short narrative: direct care, with no Consent to the contrary.
    Full,
    /// Coded entries only: no narrative, notes or other free text.
    CodedOnly,
}

/// How much the person's Consents let the practice see.
///
/// A denial is an `active` Consent with a `deny` provision anywhere in it, or a `rejected` one; it stands until a later
/// `active` Consent of the same scope that permits all of it to this practice, and only permits. Of the same day, where one
/// does not say the time, the denial stands. Scope `research` is about the evaluation, not about the practice.
pub fn detail(consents: &[Resource], reader: &Reader, now: DateTime<Utc>) -> Detail {
    let stands = |denial: &&Resource| {
        let lifts = |other: &&Resource| {
            permits_all(other, reader, now) && scope(other) == scope(denial) && is_later(other, denial)
        };
        !consents.iter().any(|other| lifts(&other))
    };
    let denied = consents.iter().filter(|c| denies_detail(c)).any(|c| stands(&c));
    if denied { Detail::CodedOnly } else { Detail::Full }
}

/// Whether a Consent keeps detail from the practice, for as long as no later one permits it.
pub fn denies_detail(consent: &Resource) -> bool {
    denies(consent) && !is_research(consent)
}

/// Whether a Consent permits this practice everything now. One about some of it only, about somebody else, or with a
/// condition that is not understood here does not; nor does one that says nothing of what it permits.
fn permits_all(consent: &Resource, reader: &Reader, now: DateTime<Utc>) -> bool {
    let begun = consent.text("dateTime").and_then(Interval::parse).is_some_and(|at| at.low <= now.timestamp_micros());
    permits(consent)
        && begun
        && consent.value().get("modifierExtension").is_none()
        && consent.value().get("provision").is_some_and(|provision| {
            path::text(provision, "type") == Some("permit")
                && provision.get("class").is_none()
                && provision.get("data").is_none()
                && conditions_hold(provision, reader, now)
        })
}

pub(super) fn denies(consent: &Resource) -> bool {
    match consent.text("status") {
        Some("rejected") => true,
        Some("active") => consent.value().get("provision").is_some_and(has_denial),
        _ => false,
    }
}

pub(super) fn permits(consent: &Resource) -> bool {
    consent.text("status") == Some("active") && consent.value().get("provision").is_none_or(|p| !has_denial(p))
}

fn has_denial(provision: &Value) -> bool {
    path::all(provision, "type").into_iter().any(|t| t == "deny")
        || path::all(provision, "provision").into_iter().any(has_denial)
}

pub(super) fn is_research(consent: &Resource) -> bool {
    scope(consent) == Some("research")
}

fn scope(consent: &Resource) -> Option<&str> {
    consent.text("scope.coding.code")
}

pub(super) fn is_later(one: &Resource, other: &Resource) -> bool {
    let (Some(a), Some(b)) = (one.text("dateTime"), other.text("dateTime")) else { return false };
    match (instant(a), instant(b)) {
        (Some(a), Some(b)) => a > b,
        // At least one is a date, a month or a year: compare as far as both say.
        _ => {
            let shorter = a.len().min(b.len()).min(10);
            match (a.get(..shorter), b.get(..shorter)) {
                (Some(a), Some(b)) => a > b,
                _ => false,
            }
        }
    }
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.to_utc())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn consent(status: &str, scope: &str, provision: Value, at: &str) -> Resource {
        let mut value = json!({
            "resourceType": "Consent", "status": status, "scope": { "coding": [{ "code": scope }] }, "provision": provision
        });
        if !at.is_empty() {
            value["dateTime"] = json!(at);
        }
        Resource::from_value(value).unwrap()
    }

    fn deny(at: &str) -> Resource {
        consent("active", "patient-privacy", json!({ "type": "deny" }), at)
    }

    fn permit(at: &str) -> Resource {
        consent("active", "patient-privacy", json!({ "type": "permit" }), at)
    }

    fn detail(consents: &[Resource]) -> Detail {
        let reader = Reader { ods: "TESTA1".into(), organization: Some("Organization/a1".into()) };
        super::detail(consents, &reader, "2027-06-01T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn no_consent_on_record_lets_detail_go() {
        assert_eq!(detail(&[]), Detail::Full);
        assert_eq!(detail(&[permit("2026-05-03")]), Detail::Full);
        let inactive = consent("inactive", "patient-privacy", json!({ "type": "deny" }), "2026-05-03");
        assert_eq!(detail(&[inactive]), Detail::Full);
    }

    #[test]
    fn a_denial_anywhere_in_a_consent_keeps_detail_here() {
        assert_eq!(detail(&[deny("2026-05-03")]), Detail::CodedOnly);
        let nested =
            json!({ "type": "permit", "provision": [{ "type": "permit", "provision": [{ "type": "deny" }] }] });
        assert_eq!(detail(&[consent("active", "patient-privacy", nested, "")]), Detail::CodedOnly);
        let refused = consent("rejected", "patient-privacy", json!({ "type": "permit" }), "2026-05-03");
        assert_eq!(detail(&[refused]), Detail::CodedOnly);
    }

    #[test]
    fn declining_the_evaluation_does_not_keep_detail_from_the_practice() {
        assert_eq!(detail(&[consent("active", "research", json!({ "type": "deny" }), "2026-05-03")]), Detail::Full);
    }

    #[test]
    fn a_denial_stands_until_a_later_permission_of_the_same_scope() {
        let cases = [
            ("2026-05-03", "2026-05-04", Detail::Full),
            ("2026-05-03", "2026-05-02", Detail::CodedOnly),
            ("2026-05-03", "2026-05-03", Detail::CodedOnly),
            ("2026-05-03", "2026-05-03T09:00:00Z", Detail::CodedOnly),
            ("2026-05-03T10:30:00+01:00", "2026-05-03T09:45:00Z", Detail::Full),
            ("2026-05-03T10:30:00+01:00", "2026-05-03T09:15:00Z", Detail::CodedOnly),
            ("2026-05", "2026-05-20", Detail::CodedOnly),
            ("2026", "2027-01-01", Detail::Full),
            ("", "2026-05-04", Detail::CodedOnly),
            ("2026-05-03", "", Detail::CodedOnly),
        ];
        for (denied, permitted, expected) in cases {
            assert_eq!(detail(&[permit(permitted), deny(denied)]), expected, "{denied} {permitted}");
        }
        let other = consent("active", "treatment", json!({ "type": "permit" }), "2027-01-01");
        assert_eq!(detail(&[deny("2026-05-03"), other]), Detail::CodedOnly);
    }

    #[test]
    fn a_permission_of_less_than_all_lifts_no_denial() {
        let lifted = |provision: Value| {
            let later = consent("active", "patient-privacy", provision, "2026-06-01");
            detail(&[deny("2026-05-03"), later]) == Detail::Full
        };
        let actor = |reference: &str| json!([{ "role": {}, "reference": { "reference": reference } }]);
        assert!(lifted(json!({ "type": "permit" })));
        assert!(lifted(
            json!({ "type": "permit", "period": { "start": "2026-06-01" }, "actor": actor("Organization/a1") })
        ));
        for less in [
            json!({}),
            json!({ "type": "permit", "actor": actor("Organization/charity") }),
            json!({ "type": "permit", "period": { "end": "2026-12-31" } }),
            json!({ "type": "permit", "period": { "start": "2027-06-02" } }),
            json!({ "type": "permit", "class": [{ "code": "QuestionnaireResponse" }] }),
            json!({ "type": "permit", "data": [{ "meaning": "instance", "reference": { "reference": "Goal/1" } }] }),
            json!({ "type": "permit", "purpose": [{ "code": "HRESCH" }] }),
        ] {
            assert!(!lifted(less.clone()), "{less}");
        }
        let mut silent = permit("2026-06-01").value().clone();
        silent.as_object_mut().unwrap().remove("provision");
        assert_eq!(detail(&[deny("2026-05-03"), Resource::from_value(silent).unwrap()]), Detail::CodedOnly);
        assert_eq!(detail(&[deny("2026-05-03"), permit("2099-01-01")]), Detail::CodedOnly);
    }
}
