//! Deliveries to a scripted practice on a real socket.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod corrections;
mod exactly_once;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::*;
use crate::fhir::path;
use crate::outbound::scripted_practice::{Fault, Practice, patient};
use crate::outbound::{KeyRing, KeySetError, OutboundSettings, ServiceKey};
use crate::pathway::write_back::{PRACTICE_PATIENT, RECORD_SYSTEM, VERSION_SYSTEM, full_url};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn key() -> Arc<KeyRing> {
    Arc::new(KeyRing::one(ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap()))
}

fn outbound_with(allow: bool, key: Arc<KeyRing>) -> Outbound {
    let settings = OutboundSettings {
        allow_private_addresses: allow,
        connect_timeout: Duration::from_millis(500),
        request_timeout: Duration::from_millis(600),
        attempt_timeout: Duration::from_secs(10),
        response_limit: 100_000,
    };
    Outbound::new(settings, key).unwrap()
}

fn outbound() -> Outbound {
    outbound_with(true, key())
}

fn resource(kind: &str, id: &str, version: u64, extra: Value) -> Value {
    let mut value = json!({
        "resourceType": kind, "status": "final", "subject": { "reference": PRACTICE_PATIENT },
        "meta": { "tag": [{ "system": VERSION_SYSTEM, "code": version.to_string() }] },
        "identifier": [{ "system": RECORD_SYSTEM, "value": id }]
    });
    for (name, v) in extra.as_object().unwrap() {
        value[name] = v.clone();
    }
    value
}

fn set() -> Vec<Outgoing> {
    let outgoing = |key: &str, resource: Value| Outgoing { key: key.into(), version: 1, resource, previous: None };
    vec![
        outgoing("Encounter/e1", resource("Encounter", "e1", 1, json!({}))),
        outgoing(
            "Observation/o1",
            resource("Observation", "o1", 1, json!({ "encounter": { "reference": full_url("Encounter/e1") } })),
        ),
        outgoing(
            "Provenance/d1",
            json!({
                "resourceType": "Provenance", "meta": { "tag": [{ "system": RECORD_SYSTEM, "code": "d1" }] },
                "target": [{ "reference": full_url("Encounter/e1") }, { "reference": full_url("Observation/o1") }],
                "recorded": "2026-05-03T09:00:00.000Z"
            }),
        ),
    ]
}

fn job(practice: &Practice, outgoing: Vec<Outgoing>, look_first: bool) -> WriteBack {
    WriteBack {
        endpoint: PracticeEndpoint {
            organization: "TEST01".into(),
            address: practice.base(),
            client_id: "livewell".into(),
        },
        patient: PatientMatch {
            nhs_number: "9990000018".into(),
            birth_date: Some("1951-04-22".into()),
            family: Some("NUNEZ".into()),
        },
        outgoing,
        look_first,
        request_id: "d1".into(),
        lease: Lease::asked(|| true),
    }
}

fn receipts_of(verdict: Verdict) -> Vec<Receipt> {
    match verdict {
        Verdict::Delivered { receipts } => receipts,
        other => panic!("{other:?}"),
    }
}

/// Each of the set is there exactly once, and points at the practice's own entries.
fn assert_once(practice: &Practice) {
    for kind in ["Encounter", "Observation", "Provenance"] {
        assert_eq!(practice.holds(kind), 1, "{kind}");
    }
    let told = practice.told();
    let text = serde_json::to_string(&told.stored).unwrap();
    assert!(!text.contains("urn:"), "{text}");
    for stored in told.stored.values().filter(|r| r["resourceType"] != "Provenance") {
        assert_eq!(stored["subject"]["reference"], "Patient/p1");
    }
}

/// An entry that is in no set.
fn another() -> Outgoing {
    Outgoing {
        key: "Encounter/e9".into(),
        version: 1,
        resource: resource("Encounter", "e9", 1, json!({})),
        previous: None,
    }
}
