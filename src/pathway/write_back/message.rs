//! The write-back as a message Bundle, for practices that are reached by messaging: a MessageHeader with the event, the
//! person by whom they know them, and the entries as a transaction would carry them.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::references::logical;
use super::{Logical, Outgoing, PRACTICE_PATIENT, full_url, name_references};
use crate::fhir::codes::Code;
use crate::fhir::systems::{NHS_NUMBER, ODS};

/// Identifier system of our messages, `Bundle.identifier`.
const MESSAGE_SYSTEM: &str = "https://livewell.example/Id/message";

/// From whom to whom, and what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Addressing<'a> {
    /// The message's own id: `Bundle.id`, `Bundle.identifier` and `MessageHeader.id`, which an answer names.
    pub message: &'a str,
    pub written: DateTime<Utc>,
    pub event: &'a Code,
    pub author: &'a Logical,
    pub organization: &'a Logical,
    /// Our mailbox.
    pub source: &'a str,
    /// The practice's mailbox.
    pub destination: &'a str,
    /// The practice's ODS code.
    pub practice: &'a str,
}

/// By what the practice finds its own Patient. All of it is for cross-checking (GP Connect), nothing to be filed.
#[derive(Clone, Copy)]
pub struct Person<'a> {
    /// NHS number, ten digits.
    pub nhs_number: &'a str,
    pub birth_date: Option<&'a str>,
    pub family: Option<&'a str>,
}

/// The message Bundle (R4 messaging, <https://hl7.org/fhir/R4/messaging.html>): MessageHeader first, all entries with
/// `urn:uuid` addresses that follow from our records, so that the same content makes the same message.
pub fn message(outgoing: &[Outgoing], addressing: &Addressing<'_>, person: &Person<'_>) -> Value {
    let patient = full_url(&format!("Patient/{}", addressing.message));
    let names = BTreeMap::from([(PRACTICE_PATIENT.to_owned(), patient.clone())]);
    let header_id = full_url(&format!("MessageHeader/{}", addressing.message));
    let mut entries = vec![
        json!({ "fullUrl": header_id, "resource": header(outgoing, addressing) }),
        json!({ "fullUrl": patient, "resource": patient_of(person) }),
    ];
    entries.extend(outgoing.iter().map(|o| {
        let mut resource = o.resource.clone();
        name_references(&mut resource, &names);
        json!({ "fullUrl": full_url(&o.key), "resource": resource })
    }));
    json!({
        "resourceType": "Bundle",
        "id": addressing.message,
        "identifier": { "system": MESSAGE_SYSTEM, "value": addressing.message },
        "type": "message",
        "timestamp": addressing.written.to_rfc3339_opts(SecondsFormat::Millis, true),
        "entry": entries,
    })
}

fn header(outgoing: &[Outgoing], addressing: &Addressing<'_>) -> Value {
    let Addressing { event, author, organization, .. } = addressing;
    let focus: Vec<Value> = outgoing
        .iter()
        .filter(|o| !o.key.starts_with("Provenance/"))
        .map(|o| json!({ "reference": full_url(&o.key) }))
        .collect();
    let mut header = json!({
        "resourceType": "MessageHeader",
        "id": addressing.message,
        "eventCoding": { "system": event.system, "code": event.code, "display": event.display },
        "destination": [{
            "endpoint": addressing.destination,
            "receiver": {
                "type": "Organization",
                "identifier": { "system": ODS, "value": addressing.practice },
            },
        }],
        "sender": logical(organization),
        "source": {
            "name": organization.display.as_deref().unwrap_or("Live Well"),
            "software": "livewell",
            "version": env!("CARGO_PKG_VERSION"),
            "endpoint": addressing.source,
        },
        "responsible": logical(organization),
        "focus": focus,
    });
    // R4 lets only people be the author.
    if author.kind != "Organization" {
        header["author"] = logical(author);
    }
    header
}

fn patient_of(person: &Person<'_>) -> Value {
    let mut patient = json!({
        "resourceType": "Patient",
        "identifier": [{ "system": NHS_NUMBER, "value": person.nhs_number }],
    });
    if let Some(family) = person.family {
        patient["name"] = json!([{ "family": family }]);
    }
    if let Some(birth_date) = person.birth_date {
        patient["birthDate"] = json!(birth_date);
    }
    patient
}
