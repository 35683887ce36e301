//! What the health coach records.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::concept;
use super::referral::entry;

/// The person's PAM at the first meeting: score as it is written, and the level it falls in under both published cut-offs.
pub(super) const PAM: (&str, i64) = ("56.4", 3);

/// Whom and what the record is about, by the service's references.
pub(super) struct About<'a> {
    pub(super) person: &'a str,
    pub(super) referral: &'a str,
    pub(super) coach: &'a str,
}

/// The entries for a telephone contact. The demo's days pass in an instant: it begins and ends `now`.
pub(super) fn telephone_contact(about: &About<'_>, now: DateTime<Utc>) -> Vec<Value> {
    let encounter = encounter(about, "class-virtual", "telephone-encounter", now);
    vec![entry(&urn(), encounter)]
}

/// The entries for a first meeting: Encounter, PAM, Goal, Consent, in this order.
pub(super) fn first_meeting(about: &About<'_>, now: DateTime<Utc>) -> Vec<Value> {
    let meeting = urn();
    let encounter = encounter(about, "class-ambulatory", "activity-first-meeting", now);
    vec![
        entry(&meeting, encounter),
        entry(&urn(), activation(about, &meeting, now)),
        entry(&urn(), goal(about, now)),
        entry(&urn(), consent(about, now)),
    ]
}

fn encounter(about: &About<'_>, class: &str, kind: &str, now: DateTime<Utc>) -> Value {
    json!({
        "resourceType": "Encounter",
        "status": "finished",
        "class": concept(class)["coding"][0],
        "type": [concept(kind)],
        "subject": { "reference": about.person },
        "basedOn": [{ "reference": about.referral }],
        "participant": [{ "individual": { "reference": about.coach } }],
        "period": { "start": second(now), "end": second(now) },
    })
}

fn activation(about: &About<'_>, meeting: &str, now: DateTime<Utc>) -> Value {
    let (score, level) = PAM;
    let score: Value = serde_json::from_str(score).expect("a decimal is JSON");
    json!({
        "resourceType": "Observation",
        "status": "final",
        "category": [concept("category-survey")],
        "code": concept("pam-score"),
        "subject": { "reference": about.person },
        "encounter": { "reference": meeting },
        "effectiveDateTime": second(now),
        "performer": [{ "reference": about.coach }],
        "valueQuantity": {
            "value": score,
            "unit": "score",
            "system": "http://unitsofmeasure.org",
            "code": "{score}",
        },
        "component": [{ "code": concept("pam-level"), "valueInteger": level }],
    })
}

fn goal(about: &About<'_>, now: DateTime<Utc>) -> Value {
    json!({
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": { "text": "Walk to the library and back twice a week" },
        "subject": { "reference": about.person },
        "startDate": day(now),
        "target": [{ "dueDate": day(now + Duration::days(90)) }],
        "expressedBy": { "reference": about.person },
    })
}

/// The person takes part in the evaluation.
fn consent(about: &About<'_>, now: DateTime<Utc>) -> Value {
    json!({
        "resourceType": "Consent",
        "status": "active",
        "scope": concept("consent-research"),
        "category": [concept("consent-information-access")],
        "patient": { "reference": about.person },
        "dateTime": second(now),
        "policyRule": { "text": "Evaluation of the service, as explained to the person" },
        "provision": { "type": "permit" },
    })
}

fn urn() -> String {
    format!("urn:uuid:{}", Uuid::new_v4())
}

fn second(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}
