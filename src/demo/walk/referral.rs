//! The referrals as practices send them.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::concept;
use crate::demo::cast::{Door, Sample};
use crate::fhir::systems::{ENTRY_ROUTE, NHS_NUMBER, ODS};

/// What goes to the door: one resource, or the entries of a transaction with the ServiceRequest first.
pub(super) enum Referral {
    Alone(Value),
    Together(Vec<Value>),
}

/// The referral of a sample, with a business identifier of its own.
pub(super) fn referral(sample: &Sample, now: DateTime<Utc>) -> Referral {
    let number = json!({ "system": NHS_NUMBER, "value": sample.person.nhs_number });
    match sample.door {
        Door::ByNumber => {
            let subject = json!({ "type": "Patient", "identifier": number });
            Referral::Alone(request(sample, subject, now))
        }
        Door::Contained => {
            let mut request = request(sample, json!({ "reference": "#person" }), now);
            let mut person = patient(sample);
            person["id"] = json!("person");
            request["contained"] = json!([person]);
            Referral::Alone(request)
        }
        Door::Transaction => Referral::Together(together(sample, now)),
    }
}

fn together(sample: &Sample, now: DateTime<Utc>) -> Vec<Value> {
    let person = format!("urn:uuid:{}", Uuid::new_v4());
    let condition = format!("urn:uuid:{}", Uuid::new_v4());
    let mut request = request(sample, json!({ "reference": person }), now);
    request["reasonReference"] = json!([{ "reference": condition }]);
    let long_term = json!({
        "resourceType": "Condition",
        "clinicalStatus": { "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
            "code": "active",
        }]},
        "code": { "text": "Long-term condition" },
        "subject": { "reference": person },
    });
    vec![
        entry(&format!("urn:uuid:{}", Uuid::new_v4()), request),
        entry(&person, patient(sample)),
        entry(&condition, long_term),
    ]
}

/// One entry of a transaction that creates `resource`.
pub(super) fn entry(full_url: &str, resource: Value) -> Value {
    let kind = resource["resourceType"].clone();
    json!({ "fullUrl": full_url, "resource": resource, "request": { "method": "POST", "url": kind } })
}

fn request(sample: &Sample, subject: Value, now: DateTime<Utc>) -> Value {
    let practice = &sample.practice;
    json!({
        "resourceType": "ServiceRequest",
        "identifier": [{
            "system": format!("https://{}.example/Id/referral", practice.ods.to_lowercase()),
            "value": Uuid::new_v4().to_string(),
        }],
        "status": "active",
        "intent": "order",
        "category": [{ "coding": [{
            "system": ENTRY_ROUTE,
            "code": sample.route,
        }]}],
        "priority": sample.priority,
        "code": concept("social-prescribing-referral"),
        "subject": subject,
        "authoredOn": now.to_rfc3339_opts(SecondsFormat::Secs, true),
        "requester": {
            "type": "Organization",
            "identifier": { "system": ODS, "value": practice.ods },
            "display": practice.name,
        },
        "reasonCode": [{ "text": sample.reason }],
    })
}

fn patient(sample: &Sample) -> Value {
    let person = &sample.person;
    json!({
        "resourceType": "Patient",
        "identifier": [{ "system": NHS_NUMBER, "value": person.nhs_number }],
        "name": [{ "use": "official", "family": person.family, "given": [person.given] }],
        "gender": person.gender,
        "birthDate": person.birth_date,
        "generalPractitioner": [{
            "type": "Organization",
            "identifier": { "system": ODS, "value": sample.practice.ods },
        }],
    })
}
