//! Deliveries to a scripted practice on a real socket.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::*;
use crate::fhir::path;
use crate::outbound::scripted_practice::{Fault, Practice, patient};
use crate::outbound::{KeySetError, OutboundSettings, ServiceKey};
use crate::pathway::write_back::{PRACTICE_PATIENT, RECORD_SYSTEM, VERSION_SYSTEM, full_url};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn key() -> Arc<ServiceKey> {
    Arc::new(ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap())
}

fn outbound_with(allow: bool, key: Arc<ServiceKey>) -> Outbound {
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

#[tokio::test]
async fn a_write_back_arrives_once_and_is_seen_there() {
    let practice = Practice::open().await;
    let receipts = receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_once(&practice);
    assert_eq!(receipts.len(), 3);
    assert_eq!(receipts[0].key, "Encounter/e1");
    assert!(practice.told().stored.contains_key(&receipts[0].practice_reference));
    assert_eq!(receipts[0].practice_version.as_deref(), Some("1"));
    assert_eq!(
        path::text(&practice.told().stored[&receipts[1].practice_reference], "encounter.reference"),
        Some(receipts[0].practice_reference.as_str())
    );
    assert!(practice.told().seen.iter().all(|(_, path)| !path.contains("9990000018")), "no NHS number in a URL");
}

#[tokio::test]
async fn sending_again_doubles_nothing_with_or_without_looking() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    let looked = receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(first, looked);
    assert_eq!(practice.told().transactions.len(), 1, "what is there is not sent again");
    assert_once(&practice);
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_next_attempt_finds_it() {
    let practice = Practice::open().await;
    practice.fails([Fault::DropReply]);
    let outbound = outbound();
    let verdict = outbound.deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::Unknown { why: Why::ConnectionLost });
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await).len(), 3);
    assert_eq!(practice.told().transactions.len(), 1);
    assert_once(&practice);
}

#[tokio::test]
async fn a_request_lost_on_the_way_is_sent_again_after_looking() {
    let practice = Practice::open().await;
    practice.fails([Fault::DropRequest]);
    let outbound = outbound();
    assert!(matches!(outbound.deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { .. }));
    assert_eq!(practice.holds("Encounter"), 0);
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_once(&practice);
}

#[tokio::test]
async fn whatever_goes_wrong_each_entry_exists_once_in_the_end() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let status = |s| Fault::Status(s, vec![], json!({}));
    practice.fails([
        status(503),
        Fault::DropRequest,
        status(500),
        Fault::DropReply,
        Fault::Body("<html>".into()),
        status(429),
    ]);
    let mut attempts = 0;
    let receipts = loop {
        attempts += 1;
        assert!(attempts < 10);
        match outbound.deliver(&job(&practice, set(), attempts > 1), now()).await {
            Verdict::Delivered { receipts } => break receipts,
            Verdict::Retry { .. } | Verdict::Unknown { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(receipts.len(), 3);
    assert_eq!(attempts, 5);
    assert_once(&practice);
}

#[tokio::test]
async fn a_2xx_that_says_nothing_usable_is_not_taken_for_delivered() {
    for (body, why) in [
        ("", Why::AnswerUnreadable),
        ("<html>ok</html>", Why::AnswerUnreadable),
        ("{}", Why::AnswerUnreadable),
        ("[]", Why::AnswerUnreadable),
        ("null", Why::AnswerUnreadable),
    ] {
        let practice = Practice::open().await;
        practice.fails([Fault::Body(body.into())]);
        assert_eq!(outbound().deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { why }, "{body}");
    }
    let practice = Practice::open().await;
    practice.fails([Fault::Endless]);
    assert_eq!(
        outbound().deliver(&job(&practice, set(), false), now()).await,
        Verdict::Unknown { why: Why::AnswerTooLarge }
    );
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    practice.fails([Fault::Body(deep)]);
    assert_eq!(
        outbound().deliver(&job(&practice, set(), false), now()).await,
        Verdict::Unknown { why: Why::AnswerUnreadable }
    );
}

#[tokio::test]
async fn an_answer_without_entries_is_completed_by_looking() {
    for body in [
        r#"{"resourceType":"Bundle","entry":[]}"#,
        r#"{"resourceType":"Bundle"}"#,
        r#"{"resourceType":"Bundle","entry":[{},{"response":null},7]}"#,
    ] {
        let practice = Practice::open().await;
        practice.fails([Fault::Body(body.into())]);
        assert_eq!(receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await).len(), 3, "{body}");
        assert_once(&practice);
    }
}

#[tokio::test]
async fn a_practice_without_a_smart_configuration_is_called_without_a_token() {
    let practice = Practice::open().await;
    let outbound = outbound();
    receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(practice.requests("GET", "/fhir/.well-known/"), 1, "asked once, then believed for a while");
    assert_eq!(practice.requests("POST", "/token"), 0);
}

#[tokio::test]
async fn a_token_is_got_once_kept_and_renewed_before_it_ends() {
    let practice = Practice::open().await;
    let key = key();
    practice.wants_tokens(key.public_jwks());
    let outbound = outbound_with(true, key);
    for (seconds, issued) in [(0, 1), (100, 1), (269, 1), (271, 2), (500, 2)] {
        receipts_of(outbound.deliver(&job(&practice, set(), true), now() + chrono::Duration::seconds(seconds)).await);
        assert_eq!(practice.told().issued, issued, "after {seconds} s");
    }
    assert_once(&practice);
}

#[tokio::test]
async fn a_401_renews_the_token_once_and_then_stops() {
    let practice = Practice::open().await;
    let key = key();
    practice.wants_tokens(key.public_jwks());
    let outbound = outbound_with(true, key);
    receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    practice.told().tokens.clear();
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(practice.told().issued, 2);
    practice.told().instead.insert("/fhir/Patient/_search".into(), (401, vec![], String::new()));
    let verdict = outbound.deliver(&job(&practice, set(), true), now()).await;
    assert_eq!(verdict, Verdict::Refused { why: Why::Status(401), outcome: None });
    assert_eq!(practice.told().issued, 3, "one renewal");
    practice.told().instead.clear();
    practice.fails([Fault::Status(401, vec![], json!({}))]);
    receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    assert_once(&practice);
}

#[tokio::test]
async fn what_the_token_endpoint_says_decides() {
    let cases = [
        (
            400,
            json!({ "error": "invalid_client", "error_description": "9990000018" }),
            Verdict::Refused { why: Why::TokenRefused, outcome: Some("invalid_client".into()) },
        ),
        (400, json!({ "error": "Núñez 9990000018" }), Verdict::Refused { why: Why::TokenRefused, outcome: None }),
        (503, json!({}), Verdict::Retry { after: None, why: Why::Status(503) }),
        (
            200,
            json!({ "access_token": "a\nb", "token_type": "bearer" }),
            Verdict::Retry { after: None, why: Why::AnswerUnreadable },
        ),
        (
            200,
            json!({ "access_token": "a", "token_type": "mac" }),
            Verdict::Retry { after: None, why: Why::AnswerUnreadable },
        ),
        (200, json!({}), Verdict::Retry { after: None, why: Why::AnswerUnreadable }),
        (302, json!({}), Verdict::Refused { why: Why::TokenRefused, outcome: None }),
    ];
    for (status, body, expected) in cases {
        let practice = Practice::open().await;
        practice.wants_tokens(json!({}));
        practice.told().token_answer = Some((status, body.clone()));
        assert_eq!(outbound().deliver(&job(&practice, set(), false), now()).await, expected, "{status} {body}");
        assert_eq!(practice.requests("POST", "/fhir"), 0);
    }
}

#[tokio::test]
async fn nothing_is_sent_to_another_origin_than_the_practices_own() {
    let (practice, canary) = (Practice::open().await, Practice::open().await);
    let key = key();
    practice.wants_tokens(key.public_jwks());
    let outbound = outbound_with(true, key.clone());
    // The practice says its entries are elsewhere.
    practice.fails([Fault::LocateAt(canary.base())]);
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await).len(), 3);
    // The practice sends us elsewhere.
    for (path, method_status) in [("/fhir/Patient/_search", 307), ("/fhir/Patient/_search", 302)] {
        let to = vec![("location", format!("{}/Patient", canary.base()))];
        practice.told().instead.insert(path.into(), (method_status, to, String::new()));
        let verdict = outbound.deliver(&job(&practice, set(), true), now()).await;
        assert_eq!(verdict, Verdict::Refused { why: Why::Status(method_status), outcome: None });
    }
    practice.told().instead.clear();
    practice.fails([Fault::Status(308, vec![("location", canary.base())], json!({}))]);
    let fresh = Outgoing {
        key: "Encounter/e9".into(),
        version: 1,
        resource: resource("Encounter", "e9", 1, json!({})),
        previous: None,
    };
    let verdict = outbound.deliver(&job(&practice, vec![fresh], false), now()).await;
    assert_eq!(verdict, Verdict::Refused { why: Why::Status(308), outcome: None });
    // The practice says that tokens are got elsewhere, without TLS.
    practice.told().smart = Some(json!({ "token_endpoint": format!("http://{}/token", canary.address) }));
    let stranger = outbound_with(true, key);
    let verdict = stranger.deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::Refused { why: Why::TokenEndpointUnusable, outcome: None });
    assert!(canary.told().seen.is_empty(), "{:?}", canary.told().seen);
}

#[tokio::test]
async fn without_the_switch_no_local_listener_is_ever_reached() {
    let canary = Practice::open().await;
    let outbound = outbound_with(false, key());
    let port = canary.address.port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "0x7f000001",
        "2130706433",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "user@127.0.0.1",
        "localhost.",
    ];
    for scheme in ["http", "https"] {
        for host in hosts {
            let url = format!("{scheme}://{host}:{port}/fhir");
            let mut job = job(&canary, set(), false);
            job.endpoint.address = url.clone();
            let verdict = outbound.deliver(&job, now()).await;
            assert_eq!(verdict, Verdict::Refused { why: Why::AddressRefused, outcome: None }, "{url}");
            assert!(matches!(outbound.fetch_key_set(&url).await, Err(KeySetError::Address(_))), "{url}");
        }
    }
    assert!(canary.told().seen.is_empty());
}

#[tokio::test]
async fn the_wrong_patient_is_never_written_to() {
    let mut other = patient("p2");
    other["identifier"][0]["value"] = json!("9990000026");
    let mut left = patient("p3");
    left["active"] = json!(false);
    let with = |name: &str, value: Value| {
        let mut p = patient("p1");
        p[name] = value;
        p
    };
    let cases = [
        (vec![], Reason::PatientNotFound),
        (vec![other.clone()], Reason::PatientNotFound),
        (vec![left.clone()], Reason::PatientNotFound),
        (vec![with("id", json!("../Admin"))], Reason::PatientNotFound),
        (vec![patient("p1"), patient("p4")], Reason::SeveralPatients),
        (vec![with("birthDate", json!("1951-04-23"))], Reason::BirthDateDiffers),
        (vec![with("name", json!([{ "family": "Smith" }]))], Reason::FamilyNameDiffers),
    ];
    for (patients, reason) in cases {
        let practice = Practice::open().await;
        practice.told().patients = patients;
        practice.told().ignores_search = true;
        let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason });
        assert!(practice.told().transactions.is_empty());
    }
    let practice = Practice::open().await;
    practice.told().patients = vec![other, left, patient("p1")];
    practice.told().ignores_search = true;
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_once(&practice);
}

#[tokio::test]
async fn a_practice_without_post_search_is_asked_by_get() {
    let practice = Practice::open().await;
    practice.told().no_post_search = true;
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_eq!(practice.requests("GET", "/fhir/Patient?identifier="), 1);
}

#[tokio::test]
async fn each_status_has_its_consequence() {
    let asked = |after: &str| vec![("retry-after", after.to_owned())];
    let retry =
        |after: Option<u64>, status| Verdict::Retry { after: after.map(Duration::from_secs), why: Why::Status(status) };
    let date = (now() + chrono::Duration::seconds(90)).to_rfc2822().replace("+0000", "GMT");
    let cases = [
        (429, asked("120"), retry(Some(120), 429)),
        (503, asked(&date), retry(Some(90), 503)),
        (503, asked("soon"), retry(None, 503)),
        (500, vec![], retry(None, 500)),
        (408, vec![], retry(None, 408)),
        (425, vec![], retry(None, 425)),
        (409, vec![], retry(None, 409)),
        (502, vec![], Verdict::Unknown { why: Why::Status(502) }),
        (504, vec![], Verdict::Unknown { why: Why::Status(504) }),
        (400, vec![], Verdict::Refused { why: Why::Status(400), outcome: None }),
        (403, vec![], Verdict::Refused { why: Why::Status(403), outcome: None }),
        (422, vec![], Verdict::Refused { why: Why::Status(422), outcome: None }),
        (501, vec![], Verdict::Refused { why: Why::Status(501), outcome: None }),
        (412, vec![], Verdict::NeedsPerson { reason: Reason::SeveralCopies }),
    ];
    for (status, headers, expected) in cases {
        let practice = Practice::open().await;
        practice.fails([Fault::Status(status, headers.clone(), json!({})), Fault::Status(status, headers, json!({}))]);
        assert_eq!(outbound().deliver(&job(&practice, set(), false), now()).await, expected, "{status}");
        assert_eq!(practice.holds("Encounter"), 0);
    }
}

#[tokio::test]
async fn a_conflict_is_reconciled_by_looking() {
    let practice = Practice::open().await;
    practice.fails([Fault::Status(409, vec![], json!({}))]);
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_once(&practice);
}

#[tokio::test]
async fn a_refusal_keeps_what_the_practice_said_without_the_patient() {
    let practice = Practice::open().await;
    let outcome = json!({
        "resourceType": "OperationOutcome",
        "text": { "div": "Núñez" },
        "issue": [
            { "severity": "error", "code": "invalid", "diagnostics": "Núñez 9990000018", "details": { "text": "Núñez" },
              "expression": ["Encounter.class", "Patient.where(name='Núñez')", "Patient.identifier9990000018"] },
            { "severity": "Núñez", "code": "value" }
        ]
    });
    practice.fails([Fault::Status(422, vec![], outcome)]);
    let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
    let said = "error invalid at Encounter.class; ? value".to_owned();
    assert_eq!(verdict, Verdict::Refused { why: Why::Status(422), outcome: Some(said) });
    let many: Vec<Value> = (0..5000).map(|_| json!({ "severity": "error", "code": "invalid" })).collect();
    practice.fails([Fault::Status(422, vec![], json!({ "resourceType": "OperationOutcome", "issue": many[..1500] }))]);
    match outbound().deliver(&job(&practice, set(), false), now()).await {
        Verdict::Refused { outcome: Some(said), .. } => assert!(said.len() <= 2048 && said.len() > 1900),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn slow_and_absent_practices_are_told_apart() {
    let practice = Practice::open().await;
    practice.fails([Fault::Slow(Duration::from_millis(1500))]);
    let outbound = outbound();
    assert_eq!(outbound.deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { why: Why::Timeout });
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_once(&practice);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut absent = job(&practice, set(), false);
    absent.endpoint.address = format!("http://{}/fhir", gone.local_addr().unwrap());
    drop(gone);
    assert_eq!(outbound.deliver(&absent, now()).await, Verdict::Retry { after: None, why: Why::Unreachable });
}

#[tokio::test]
async fn an_attempt_ends_within_its_limit_and_says_whether_it_had_sent() {
    let practice = Practice::open().await;
    let settings = OutboundSettings {
        allow_private_addresses: true,
        attempt_timeout: Duration::from_millis(300),
        ..OutboundSettings::default()
    };
    let outbound = Outbound::new(settings, key()).unwrap();
    practice.fails([Fault::Slow(Duration::from_secs(20))]);
    assert_eq!(outbound.deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { why: Why::Timeout });
    // Accepts connections, never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut waiting = job(&practice, set(), false);
    waiting.endpoint.address = format!("http://{}/fhir", silent.local_addr().unwrap());
    assert_eq!(outbound.deliver(&waiting, now()).await, Verdict::Retry { after: None, why: Why::Timeout });
}

/// The Encounter of the set in its second version, a correction of where the first one is.
fn corrected(version: Option<&str>, reference: &str) -> Vec<Outgoing> {
    let resource = resource("Encounter", "e1", 2, json!({ "status": "entered-in-error" }));
    let previous = Some(PracticeCopy { reference: reference.into(), version: version.map(str::to_owned) });
    vec![Outgoing { key: "Encounter/e1".into(), version: 2, resource, previous }]
}

#[tokio::test]
async fn a_correction_replaces_the_entry_and_is_not_made_twice() {
    for version in [Some("1"), None] {
        let practice = Practice::open().await;
        let outbound = outbound();
        let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
        let place = first[0].practice_reference.clone();
        practice.fails([Fault::DropReply]);
        let correction = corrected(version, &place);
        assert!(matches!(
            outbound.deliver(&job(&practice, correction.clone(), false), now()).await,
            Verdict::Unknown { .. }
        ));
        let receipts = receipts_of(outbound.deliver(&job(&practice, correction, true), now()).await);
        assert_eq!(receipts[0].practice_reference, place);
        assert_eq!(receipts[0].practice_version.as_deref(), Some("2"));
        assert_eq!(practice.told().stored[&place]["status"], "entered-in-error");
        assert_once(&practice);
    }
}

#[tokio::test]
async fn a_correction_never_overwrites_what_the_practice_changed() {
    for looks in [false, true] {
        let practice = Practice::open().await;
        let outbound = outbound();
        let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
        let place = first[0].practice_reference.clone();
        practice.told().stored.get_mut(&place).unwrap()["meta"]["versionId"] = json!("2");
        practice.told().stored.get_mut(&place).unwrap()["note"] = json!("by the GP");
        let verdict = outbound.deliver(&job(&practice, corrected(Some("1"), &place), looks), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::VersionConflict });
        practice.told().stored.remove(&place);
        let verdict = outbound.deliver(&job(&practice, corrected(Some("1"), &place), true), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::VersionConflict });
    }
}

#[tokio::test]
async fn a_correction_finds_a_first_version_whose_arrival_was_never_known() {
    for looks in [false, true] {
        let practice = Practice::open().await;
        let outbound = outbound();
        receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
        let mut correction = corrected(None, "");
        correction[0].previous = None;
        let receipts = receipts_of(outbound.deliver(&job(&practice, correction, looks), now()).await);
        assert_eq!(receipts[0].practice_version.as_deref(), Some("2"));
        assert_eq!(practice.told().stored[&receipts[0].practice_reference]["status"], "entered-in-error");
        assert_once(&practice);
    }
}

#[tokio::test]
async fn an_older_version_never_replaces_a_newer_one() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    let place = first[0].practice_reference.clone();
    receipts_of(outbound.deliver(&job(&practice, corrected(Some("1"), &place), false), now()).await);
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(practice.told().stored[&place]["status"], "entered-in-error");
}

#[tokio::test]
async fn without_tags_content_tells_whether_it_is_ours() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    for stored in practice.told().stored.values_mut() {
        stored["meta"].as_object_mut().unwrap().remove("tag");
        stored["addedByTheServer"] = json!(true);
    }
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await), first);
    let place = first[0].practice_reference.clone();
    practice.told().stored.get_mut(&place).unwrap()["status"] = json!("changed by the GP");
    let verdict = outbound.deliver(&job(&practice, set(), true), now()).await;
    assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::VersionConflict });
}

#[tokio::test]
async fn a_practice_that_drops_identifiers_or_holds_copies_needs_a_person() {
    let practice = Practice::open().await;
    practice.fails([Fault::LoseIdentifiers]);
    let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::IdentifierNotKept });
    let practice = Practice::open().await;
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    let copy = practice.told().stored.values().find(|r| r["resourceType"] == "Encounter").cloned().unwrap();
    let mut second = copy.clone();
    second["id"] = json!("again");
    practice.told().stored.insert("Encounter/again".into(), second);
    for looks in [false, true] {
        let verdict = outbound().deliver(&job(&practice, set(), looks), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::SeveralCopies });
    }
}

#[tokio::test]
async fn a_practice_that_cannot_search_provenance_still_gets_each_thing_once() {
    let practice = Practice::open().await;
    let outbound = outbound();
    receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    practice.told().instead.insert("/fhir/Provenance".into(), (400, vec![], String::new()));
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await).len(), 2);
    assert_once(&practice);
}

#[tokio::test]
async fn a_written_entry_that_is_not_there_afterwards_is_not_delivered() {
    let practice = Practice::open().await;
    let said = json!({ "resourceType": "Bundle", "entry": [
        { "response": { "status": "201", "location": "Encounter/none" } },
        { "response": { "status": "201", "location": "Observation/none" } },
        { "response": { "status": "201", "location": "Provenance/none" } },
    ] });
    practice.fails([Fault::Status(200, vec![], said)]);
    let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::Unknown { why: Why::NotThereAfterwards });
}

#[tokio::test]
async fn a_key_set_is_fetched_within_its_limits() {
    let owner = Practice::open().await;
    let outbound = outbound();
    let url = format!("http://{}/keys", owner.address);
    let put = |status: u16, headers: Vec<(&'static str, String)>, body: String| {
        owner.told().instead.insert("/keys".into(), (status, headers, body));
    };
    put(200, vec![("cache-control", "public, max-age=120".into())], key().public_jwks().to_string());
    let got = outbound.fetch_key_set(&url).await.unwrap();
    assert_eq!(got.document["keys"][0]["kty"], "EC");
    assert_eq!(got.max_age, Some(Duration::from_secs(120)));
    let keys = |n: usize| json!({ "keys": vec![json!({ "kty": "EC" }); n] }).to_string();
    put(200, vec![], keys(20));
    assert!(outbound.fetch_key_set(&url).await.is_ok());
    for body in [
        keys(21),
        "{}".into(),
        "[]".into(),
        "x".into(),
        r#"{"keys":["x"]}"#.into(),
        format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(70_000)),
    ] {
        put(200, vec![], body);
        assert_eq!(outbound.fetch_key_set(&url).await.unwrap_err(), KeySetError::NotAKeySet);
    }
    put(302, vec![("location", url.replace("/keys", "/other"))], String::new());
    assert_eq!(outbound.fetch_key_set(&url).await.unwrap_err(), KeySetError::NotFetched(Why::Status(302)));
    assert_eq!(owner.requests("GET", "/other"), 0);
}

#[test]
fn nothing_of_a_patient_or_a_key_is_printed() {
    let outbound = format!("{:?}", outbound());
    assert_eq!(outbound, "Outbound");
    let match_ = PatientMatch { nhs_number: "9990000018".into(), birth_date: None, family: Some("Núñez".into()) };
    let printed = format!("{:?} {:?}", match_, set());
    assert!(
        !printed.contains("9990000018") && !printed.contains("Núñez") && !printed.contains("identifier"),
        "{printed}"
    );
}
