//! The stand-in over real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;
use std::time::Duration;

use axum::{Json, Router, routing::get};
use chrono::{DateTime, Utc};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::demo::keys::DemoKey;
use crate::time::Clock;

const ODS: &str = "TESTP1";
const NUMBER: &str = "9990000018";
const OURS: &str = crate::fhir::systems::RECORD;

/// A stand-in, the client it accepts, and a token of the practice's own staff.
struct Stage {
    stand_in: StandIn,
    folder: TempDir,
    key: DemoKey,
    jwks_url: String,
    http: reqwest::Client,
    token: String,
}

impl Stage {
    async fn set() -> Stage {
        let key = DemoKey::generate("service-1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks_url = format!("http://{}/.well-known/jwks.json", listener.local_addr().unwrap());
        let keys = key.jwks();
        let router = Router::new().route("/.well-known/jwks.json", get(move || async move { Json(keys) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = TempDir::new().unwrap();
        let stand_in = open(folder.path(), &jwks_url).await;
        let token = stand_in.staff_token(ODS);
        let http = crate::demo::plain_http(Duration::from_secs(30)).unwrap();
        Stage { stand_in, folder, key, jwks_url, http, token }
    }

    async fn restart(self) -> Stage {
        let Stage { stand_in, folder, key, jwks_url, http, .. } = self;
        stand_in.stop().await;
        let stand_in = open(folder.path(), &jwks_url).await;
        let token = stand_in.staff_token(ODS);
        Stage { stand_in, folder, key, jwks_url, http, token }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.stand_in.base(ODS));
        self.http.request(method, url).bearer_auth(&self.token).header("content-type", "application/fhir+json")
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).body(body.to_string()).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        body(self.request(Method::GET, path).send().await.unwrap()).await
    }

    fn endpoint(&self) -> String {
        self.stand_in.base(ODS).replace("/fhir", "/oauth/token")
    }

    async fn ask_token(&self, assertion: &str) -> Response {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
            ("scope", "system/*.cruds"),
        ];
        self.http.post(self.endpoint()).form(&form).send().await.unwrap()
    }

    fn patient(&self) -> String {
        let patient = &self.stand_in.resources(ODS, "Patient")[0];
        search::reference_to(patient)
    }
}

async fn open(folder: &Path, jwks_url: &str) -> StandIn {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let patient = PatientSeed {
        nhs_number: NUMBER.to_owned(),
        family: "Testperson".to_owned(),
        given: "Ada".to_owned(),
        birth_date: "1957-03-04".to_owned(),
        gender: "female".to_owned(),
    };
    let settings = StandInSettings {
        practices: vec![
            PracticeSeed { ods: ODS.to_owned(), patients: vec![patient] },
            PracticeSeed { ods: "TESTP2".to_owned(), patients: Vec::new() },
        ],
        client_jwks_url: jwks_url.to_owned(),
        accepted_client_id: "livewell".to_owned(),
        clock: Clock::System,
    };
    StandIn::start(listener, folder.to_owned(), settings).await.unwrap()
}

async fn body(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn encounter(patient: &str, value: &str) -> Value {
    json!({
        "resourceType": "Encounter",
        "identifier": [{ "system": OURS, "value": value }],
        "status": "finished",
        "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR" },
        "subject": { "reference": patient },
    })
}

fn conditional(resource: Value, full_url: &str, value: &str) -> Value {
    let url = resource["resourceType"].clone();
    json!({
        "fullUrl": full_url,
        "resource": resource,
        "request": { "method": "POST", "url": url, "ifNoneExist": format!("identifier={OURS}|{value}") },
    })
}

fn transaction(entries: Vec<Value>) -> Value {
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

#[tokio::test]
async fn a_registered_client_gets_a_token_and_finds_the_patient_by_nhs_number() {
    let stage = Stage::set().await;
    let assertion = stage.key.assertion("livewell", &stage.endpoint(), Clock::System.now());
    let answer = stage.ask_token(&assertion).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let token = body(answer).await;
    assert_eq!(token["expires_in"], 300);
    let found = stage
        .http
        .post(format!("{}/Patient/_search", stage.stand_in.base(ODS)))
        .bearer_auth(token["access_token"].as_str().unwrap())
        .form(&[("identifier", format!("{NHS_NUMBER}|{NUMBER}"))])
        .send()
        .await
        .unwrap();
    let found = body(found).await;
    assert_eq!(found["total"], 1);
    assert_eq!(found["entry"][0]["resource"]["birthDate"], "1957-03-04");
    let elsewhere = stage.stand_in.base("TESTP2") + "/Patient";
    let other = stage.http.get(elsewhere).bearer_auth(token["access_token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED, "a token of one practice opens no other");
}

#[tokio::test]
async fn an_assertion_is_accepted_once_and_only_by_whom_it_names() {
    let stage = Stage::set().await;
    let good = stage.key.assertion("livewell", &stage.endpoint(), Clock::System.now());
    assert_eq!(stage.ask_token(&good).await.status(), StatusCode::OK);
    let replayed = stage.ask_token(&good).await;
    assert_eq!(replayed.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(body(replayed).await["error"], "invalid_client");
    let wrong = [
        stage.key.assertion("livewell", "http://127.0.0.1:1/oauth/token", Clock::System.now()),
        stage.key.assertion("somebody-else", &stage.endpoint(), Clock::System.now()),
        stage.key.assertion("livewell", &stage.endpoint(), Clock::System.now() - chrono::Duration::hours(1)),
        stage.key.assertion("livewell", &stage.endpoint(), Clock::System.now() + chrono::Duration::hours(1)),
        DemoKey::generate("service-1").assertion("livewell", &stage.endpoint(), Clock::System.now()),
        DemoKey::generate("other").assertion("livewell", &stage.endpoint(), Clock::System.now()),
        "not.a.token".to_owned(),
    ];
    for assertion in wrong {
        assert_eq!(stage.ask_token(&assertion).await.status(), StatusCode::UNAUTHORIZED);
    }
}

#[test]
fn a_token_ends_after_five_minutes_and_a_reader_writes_nothing() {
    let now: DateTime<Utc> = "2026-05-01T10:00:00Z".parse().unwrap();
    let mut tokens = Tokens::default();
    let token = tokens.grant(ODS, Right::Read, now + chrono::Duration::seconds(300));
    assert_eq!(tokens.right(&token, ODS, now + chrono::Duration::seconds(299)), Some(Right::Read));
    assert_eq!(tokens.right(&token, ODS, now + chrono::Duration::seconds(300)), None);
    assert!(Right::Read < Right::Write);
}

#[tokio::test]
async fn nothing_is_read_or_written_without_a_token_that_may() {
    let stage = Stage::set().await;
    let url = format!("{}/Patient", stage.stand_in.base(ODS));
    let answer = stage.http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(body(answer).await["resourceType"], "OperationOutcome");
    let reader = stage.stand_in.reader_token(ODS);
    let answer = stage.http.get(&url).bearer_auth(&reader).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let write = stage.http.post(&url).bearer_auth(&reader).header("content-type", "application/fhir+json");
    let answer = write.body(json!({ "resourceType": "Patient" }).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_conditional_create_sent_twice_makes_one() {
    let stage = Stage::set().await;
    let sent = transaction(vec![conditional(encounter(&stage.patient(), "e-1"), "urn:uuid:e", "e-1")]);
    let first = body(stage.post("", &sent).await).await;
    let second = body(stage.post("", &sent).await).await;
    assert_eq!(first["entry"][0]["response"]["status"], "201 Created");
    assert_eq!(second["entry"][0]["response"]["status"], "200 OK");
    assert_eq!(first["entry"][0]["response"]["location"], second["entry"][0]["response"]["location"]);
    let condition = format!("identifier={OURS}|e-1");
    let third = stage.request(Method::POST, "/Encounter").header("if-none-exist", condition);
    let third = third.body(encounter(&stage.patient(), "e-1").to_string()).send().await.unwrap();
    assert_eq!(third.status(), StatusCode::OK);
    assert_eq!(stage.stand_in.resources(ODS, "Encounter").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conditional_creates_at_the_same_moment_make_one() {
    let stage = Stage::set().await;
    let sent = transaction(vec![conditional(encounter(&stage.patient(), "e-1"), "urn:uuid:e", "e-1")]);
    let (a, b, c, d) =
        tokio::join!(stage.post("", &sent), stage.post("", &sent), stage.post("", &sent), stage.post("", &sent));
    for answer in [a, b, c, d] {
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(stage.stand_in.resources(ODS, "Encounter").len(), 1);
}

#[tokio::test]
async fn references_between_entries_lead_to_the_resources_made() {
    let stage = Stage::set().await;
    let observation = json!({
        "resourceType": "Observation",
        "identifier": [{ "system": OURS, "value": "o-1" }],
        "status": "final",
        "code": { "text": "activation" },
        "subject": { "reference": stage.patient() },
        "encounter": { "reference": "urn:uuid:e" },
        "valueQuantity": { "value": 56.40 },
    });
    let sent = transaction(vec![
        conditional(observation, "urn:uuid:o", "o-1"),
        conditional(encounter(&stage.patient(), "e-1"), "urn:uuid:e", "e-1"),
    ]);
    assert_eq!(stage.post("", &sent).await.status(), StatusCode::OK);
    let patient = stage.patient();
    let found = stage.get(&format!("/Observation?patient={patient}")).await;
    let encounter = &stage.stand_in.resources(ODS, "Encounter")[0];
    assert_eq!(found["entry"][0]["resource"]["encounter"]["reference"], search::reference_to(encounter));
    assert_eq!(stage.get("/Observation?patient=Patient/1").await["total"], 0);
}

#[tokio::test]
async fn a_transaction_with_one_bad_entry_leaves_nothing() {
    let stage = Stage::set().await;
    let good = conditional(encounter(&stage.patient(), "e-1"), "urn:uuid:e", "e-1");
    let cases = [
        (encounter("urn:uuid:nobody", "e-2"), StatusCode::BAD_REQUEST),
        (encounter("Patient/unknown", "e-2"), StatusCode::UNPROCESSABLE_ENTITY),
    ];
    for (bad, status) in cases {
        let sent = transaction(vec![good.clone(), conditional(bad, "urn:uuid:f", "e-2")]);
        let answer = stage.post("", &sent).await;
        assert_eq!(answer.status(), status);
        assert_eq!(body(answer).await["issue"][0]["expression"][0], "Bundle.entry[1].resource");
        assert!(stage.stand_in.resources(ODS, "Encounter").is_empty());
    }
}

#[tokio::test]
async fn a_dropped_reply_was_applied_and_a_dropped_request_was_not() {
    let stage = Stage::set().await;
    let sent = transaction(vec![conditional(encounter(&stage.patient(), "e-1"), "urn:uuid:e", "e-1")]);
    let faults = stage.stand_in.faults();
    faults.next(1, Aim::at(Traffic::Writes), Fault::DropRequest);
    faults.next(1, Aim::at(Traffic::Writes), Fault::DropReply);
    let lost = stage.request(Method::POST, "").body(sent.to_string()).send().await;
    assert!(lost.is_err());
    assert!(stage.stand_in.resources(ODS, "Encounter").is_empty());
    let unheard = stage.request(Method::POST, "").body(sent.to_string()).send().await;
    assert!(unheard.is_err());
    assert_eq!(stage.stand_in.resources(ODS, "Encounter").len(), 1);
    assert_eq!(stage.post("", &sent).await.status(), StatusCode::OK);
    assert_eq!(stage.stand_in.resources(ODS, "Encounter").len(), 1);
    assert_eq!(faults.struck(), 2);
}

#[tokio::test]
async fn faults_strike_what_they_aim_at() {
    let stage = Stage::set().await;
    let faults = stage.stand_in.faults();
    let busy = Fault::Answer { status: 503, retry_after: Some(7) };
    faults.next(1, Aim::at(Traffic::Writes).of("TESTP2"), busy.clone());
    faults.next(1, Aim::at(Traffic::Reads).of(ODS), busy.clone());
    assert_eq!(stage.post("/Basic", &json!({ "resourceType": "Basic" })).await.status(), StatusCode::CREATED);
    let answer = stage.request(Method::GET, "/Basic").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(stage.request(Method::GET, "/Basic").send().await.unwrap().status(), StatusCode::OK);
    faults.clear();
    faults.sometimes(1.0, Aim::at(Traffic::All), Fault::Hang);
    let waited = tokio::time::timeout(Duration::from_millis(50), stage.request(Method::GET, "/Basic").send()).await;
    assert!(waited.is_err(), "a hanging practice answers nothing");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let stage = Stage::set().await;
    let faults = stage.stand_in.faults();
    faults.sometimes(0.5, Aim::at(Traffic::All), Fault::DropRequest);
    let uri: axum::http::Uri = "/TESTP1/fhir/Basic".parse().unwrap();
    let run = || {
        faults.seed(42);
        (0..64).map(|_| faults.draw(&axum::http::Method::GET, &uri).is_some()).collect::<Vec<bool>>()
    };
    let first = run();
    assert_eq!(first, run());
    assert!(first.contains(&true) && first.contains(&false));
}

#[tokio::test]
async fn an_update_of_an_older_version_is_refused() {
    let stage = Stage::set().await;
    let made = stage.post("/Encounter", &encounter(&stage.patient(), "e-1")).await;
    assert_eq!(made.headers()["etag"], "W/\"1\"");
    let mut resource = body(made).await;
    let path = format!("/{}", search::reference_to(&resource));
    resource["status"] = json!("entered-in-error");
    let put = |version: &'static str| {
        stage.request(Method::PUT, &path).header("if-match", version).body(resource.to_string()).send()
    };
    assert_eq!(put("W/\"1\"").await.unwrap().status(), StatusCode::OK);
    assert_eq!(put("W/\"1\"").await.unwrap().status(), StatusCode::PRECONDITION_FAILED);
    let bare = stage.request(Method::PUT, &path).body(resource.to_string()).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::PRECONDITION_REQUIRED);
    let entry = |version: &str| {
        let request = json!({ "method": "PUT", "url": &path[1..], "ifMatch": version });
        transaction(vec![json!({ "resource": resource, "request": request })])
    };
    assert_eq!(stage.post("", &entry("W/\"1\"")).await.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(stage.post("", &entry("W/\"2\"")).await.status(), StatusCode::OK);
    assert_eq!(stage.get(&path).await["meta"]["versionId"], "3");
    assert_eq!(stage.get(&format!("{path}/_history/1")).await["status"], "finished");
}

#[tokio::test]
async fn provenance_is_found_by_target_and_tag() {
    let stage = Stage::set().await;
    let made = body(stage.post("/Encounter", &encounter(&stage.patient(), "e-1")).await).await;
    let target = search::reference_to(&made);
    let provenance = json!({
        "resourceType": "Provenance",
        "meta": { "tag": [{ "system": OURS, "code": "p-1" }] },
        "target": [{ "reference": target }],
        "recorded": "2026-05-01T10:00:00Z",
        "agent": [{ "who": { "display": "Live Well" } }],
    });
    assert_eq!(stage.post("/Provenance", &provenance).await.status(), StatusCode::CREATED);
    assert_eq!(stage.get(&format!("/Provenance?target={target}&_tag={OURS}|p-1")).await["total"], 1);
    assert_eq!(stage.get(&format!("/Provenance?target={target}&_tag={OURS}|p-2")).await["total"], 0);
    let refused = stage.request(Method::GET, "/Provenance?agent=x").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "a parameter that is not offered is not ignored");
}

#[tokio::test]
async fn the_record_survives_a_restart_and_a_torn_last_line() {
    let stage = Stage::set().await;
    let sent = transaction(vec![conditional(encounter(&stage.patient(), "e-1"), "urn:uuid:e", "e-1")]);
    stage.post("", &sent).await;
    let before = (stage.stand_in.resources(ODS, "Encounter"), stage.patient());
    let journal = stage.folder.path().join(format!("{ODS}.ndjson"));
    let mut torn = std::fs::read(&journal).unwrap();
    torn.extend_from_slice(b"[{\"resourceType\":\"Encounter\",\"id\":\"1000");
    std::fs::write(&journal, torn).unwrap();
    let stage = stage.restart().await;
    assert_eq!((stage.stand_in.resources(ODS, "Encounter"), stage.patient()), before);
    let again = body(stage.post("", &sent).await).await;
    assert_eq!(again["entry"][0]["response"]["status"], "200 OK");
    stage.post("/Encounter", &encounter(&stage.patient(), "e-2")).await;
    let stage = stage.restart().await;
    assert_eq!(stage.stand_in.resources(ODS, "Encounter").len(), 2);
    assert_eq!(stage.stand_in.resources(ODS, "Patient").len(), 1, "the seeded patient is not added twice");
}

#[tokio::test]
async fn it_says_what_it_offers_without_a_token() {
    let stage = Stage::set().await;
    let base = stage.stand_in.base(ODS);
    let smart = body(stage.http.get(format!("{base}/.well-known/smart-configuration")).send().await.unwrap()).await;
    assert_eq!(smart["token_endpoint"], stage.endpoint());
    let metadata = body(stage.http.get(format!("{base}/metadata")).send().await.unwrap()).await;
    assert_eq!(metadata["fhirVersion"], "4.0.1");
    let elsewhere = base.replace(ODS, "TESTNO") + "/metadata";
    assert_eq!(stage.http.get(elsewhere).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}
