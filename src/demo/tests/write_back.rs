//! The service's own calls to practices, against the stand-in.

use std::sync::Arc;

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::demo::practice::{Aim, Fault, PatientSeed, PracticeSeed, StandIn, StandInSettings, Traffic};
use crate::fhir::systems::RECORD;
use crate::outbound::{
    KeyRing, Lease, Outbound, OutboundSettings, PatientMatch, PracticeEndpoint, ServiceKey, WriteBack,
};
use crate::pathway::delivery::Verdict;
use crate::pathway::write_back::{Outgoing, PRACTICE_PATIENT, PracticeCopy, VERSION_SYSTEM, full_url};
use crate::time::Clock;

const ODS: &str = "TESTA1";

struct Practice {
    stand_in: StandIn,
    outbound: Outbound,
    _folder: TempDir,
}

impl Practice {
    async fn open() -> Practice {
        let key = ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap();
        let key = Arc::new(KeyRing::one(key));
        let keys = key.public_jwks(Clock::System.now());
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client_jwks_url = format!("http://{}/.well-known/jwks.json", service.local_addr().unwrap());
        let routes = Router::new().route("/.well-known/jwks.json", get(move || async move { Json(keys) }));
        tokio::spawn(async move { axum::serve(service, routes).await });
        let folder = TempDir::new().unwrap();
        let person = PatientSeed {
            nhs_number: "9990000018".into(),
            family: "Testperson".into(),
            given: "Ada".into(),
            birth_date: "1957-03-04".into(),
            gender: "female".into(),
        };
        let settings = StandInSettings {
            practices: vec![PracticeSeed { ods: ODS.into(), patients: vec![person] }],
            client_jwks_url,
            accepted_client_id: "livewell".into(),
            clock: Clock::System,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn::start(listener, folder.path().to_owned(), settings).await.unwrap();
        let settings = OutboundSettings { allow_private_addresses: true, ..OutboundSettings::default() };
        Practice { stand_in, outbound: Outbound::new(settings, key).unwrap(), _folder: folder }
    }

    async fn deliver(&self, outgoing: Vec<Outgoing>, look_first: bool) -> Verdict {
        let job = WriteBack {
            endpoint: PracticeEndpoint {
                organization: ODS.into(),
                address: self.stand_in.base(ODS),
                client_id: "livewell".into(),
            },
            patient: PatientMatch {
                nhs_number: "9990000018".into(),
                birth_date: Some("1957-03-04".into()),
                family: Some("Testperson".into()),
            },
            outgoing,
            look_first,
            request_id: "d1".into(),
            lease: Lease::asked(|| true),
        };
        self.outbound.deliver(&job, Clock::System.now()).await
    }

    fn holds(&self) -> [usize; 3] {
        ["Encounter", "Observation", "Provenance"].map(|kind| self.stand_in.resources(ODS, kind).len())
    }
}

fn outgoing(kind: &str, id: &str, version: u64, extra: Value) -> Outgoing {
    let mut resource = json!({
        "resourceType": kind, "status": "final", "subject": { "reference": PRACTICE_PATIENT },
        "meta": { "tag": [{ "system": VERSION_SYSTEM, "code": version.to_string() }] },
        "identifier": [{ "system": RECORD, "value": id }],
    });
    extra.as_object().unwrap().iter().for_each(|(name, value)| resource[name] = value.clone());
    Outgoing { key: format!("{kind}/{id}"), version, resource, previous: None }
}

fn write_back() -> Vec<Outgoing> {
    let observed = json!({ "encounter": { "reference": full_url("Encounter/e1") } });
    let provenance = json!({
        "resourceType": "Provenance", "meta": { "tag": [{ "system": RECORD, "code": "d1" }] },
        "target": [{ "reference": full_url("Encounter/e1") }], "recorded": "2026-05-03T09:00:00.000Z",
    });
    vec![
        outgoing("Encounter", "e1", 1, json!({})),
        outgoing("Observation", "o1", 1, observed),
        Outgoing { key: "Provenance/d1".into(), version: 1, resource: provenance, previous: None },
    ]
}

#[tokio::test]
async fn a_write_back_is_filed_once_however_often_it_is_sent() {
    let practice = Practice::open().await;
    let Verdict::Delivered { receipts } = practice.deliver(write_back(), false).await else { panic!("not delivered") };
    assert_eq!(receipts.len(), 3);
    assert!(matches!(practice.deliver(write_back(), true).await, Verdict::Delivered { .. }));
    assert_eq!(practice.holds(), [1, 1, 1]);
    let observation = &practice.stand_in.resources(ODS, "Observation")[0];
    assert_eq!(observation["encounter"]["reference"], receipts[0].practice_reference.as_str());
}

#[tokio::test]
async fn a_write_back_whose_reply_was_lost_is_found_and_not_doubled() {
    let practice = Practice::open().await;
    practice.stand_in.faults().next(1, Aim::at(Traffic::Writes).of(ODS), Fault::DropReply);
    assert!(matches!(practice.deliver(write_back(), false).await, Verdict::Unknown { .. }));
    assert!(matches!(practice.deliver(write_back(), true).await, Verdict::Delivered { .. }));
    assert_eq!(practice.holds(), [1, 1, 1]);
}

#[tokio::test]
async fn a_practice_out_of_order_is_tried_again_and_one_that_changed_the_entry_is_not_overwritten() {
    let practice = Practice::open().await;
    let busy = Fault::Answer { status: 503, retry_after: Some(7) };
    practice.stand_in.faults().next(1, Aim::at(Traffic::Tokens), busy);
    let Verdict::Retry { after, .. } = practice.deliver(write_back(), false).await else { panic!("not to be retried") };
    assert_eq!(after.unwrap().as_secs(), 7);
    let Verdict::Delivered { receipts } = practice.deliver(write_back(), false).await else { panic!("not delivered") };
    let corrected = |previous: &str| {
        let mut correction = outgoing("Encounter", "e1", 2, json!({ "status": "entered-in-error" }));
        let reference = receipts[0].practice_reference.clone();
        correction.previous = Some(PracticeCopy { reference, version: Some(previous.into()) });
        vec![correction]
    };
    assert!(matches!(practice.deliver(corrected("7"), false).await, Verdict::NeedsPerson { .. }));
    assert!(matches!(practice.deliver(corrected("1"), false).await, Verdict::Delivered { .. }));
    assert_eq!(practice.stand_in.resources(ODS, "Encounter")[0]["meta"]["versionId"], "2");
}
