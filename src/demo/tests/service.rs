//! A service that keeps the contract as far as the walk can see, and the faults a test asks of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::demo::cast::DemoClient;
use crate::demo::keys::DemoKey;
use crate::demo::walk::client::Caller;
use crate::demo::{Serve, Served, Stage};
use crate::fhir::check::{Profiles, check};
use crate::fhir::systems::{NHS_NUMBER, RECORD, REFERRAL_REFERENCE};
use crate::fhir::{Resource, path};
use crate::time::Clock;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    Nothing,
    /// Writes nothing back.
    KeepsToItself,
    /// Refuses every $complete.
    RefusesToComplete,
    /// Contact is due in 24 hours.
    Hurries,
    /// Every $claim-next gives an older Task of somebody else first.
    HasOlderWork,
}

pub(super) struct Service {
    mistake: Mistake,
    base: String,
    practice: String,
    client: DemoClient,
    profiles: Profiles,
    held: Mutex<HashMap<String, Value>>,
}

/// The service, to be given to the demo.
pub(super) fn serve(mistake: Mistake) -> Serve {
    Box::new(move |stage, listener| Box::pin(start(mistake, stage, listener)))
}

async fn start(mistake: Mistake, stage: Stage, listener: TcpListener) -> Result<Served, String> {
    assert_eq!(stage.organization, "TESTLW");
    assert!(stage.clients.iter().all(|client| client.jwks["keys"][0]["kty"] == "EC"));
    assert_eq!(check(&Resource::from_value(stage.directory.clone()).unwrap(), 10), []);
    let address = listener.local_addr().unwrap();
    let key = DemoKey::generate("service");
    let (id, organization, scope) = ("livewell".into(), "TESTLW".into(), "system/*.cruds".into());
    let service = Arc::new(Service {
        mistake,
        base: format!("http://{address}/fhir"),
        practice: path::text(&stage.directory, "entry.resource.address").unwrap().to_owned(),
        client: DemoClient { id, organization, scope, staff: None, key },
        profiles: Profiles::from_resources(crate::fhir::profiles::resources()),
        held: Mutex::default(),
    });
    let routes = Router::new().fallback(answer).with_state(service);
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(Served { address, stop: Box::pin(async move { serving.abort() }) })
}

type Said = (StatusCode, Value);

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if asked.get("resourceType").is_some() {
        service.assert_valid(&asked);
    }
    let steps: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let if_match = headers.get("if-match").and_then(|value| value.to_str().ok());
    let (status, said) = match (method.as_str(), steps.as_slice()) {
        ("GET", [".well-known", "jwks.json"]) => (StatusCode::OK, service.client.key.jwks()),
        ("GET", ["fhir", ".well-known", _]) => {
            (StatusCode::OK, json!({ "token_endpoint": service.base.replace("/fhir", "/oauth/token") }))
        }
        ("POST", ["oauth", "token"]) => (StatusCode::OK, json!({ "access_token": "t", "expires_in": 300 })),
        _ if headers.get("authorization").is_none() => (StatusCode::UNAUTHORIZED, Value::Null),
        ("POST", ["fhir"]) => service.transact(&asked).await,
        ("POST", ["fhir", "Task", "$claim-next"]) => service.claim_next(&asked),
        ("POST", ["fhir", "Task", id, operation]) => service.operate(id, operation, if_match, &asked),
        ("POST", ["fhir", kind]) if asked["resourceType"] == *kind => service.create(asked),
        ("GET", ["fhir", "Task"]) => service.tasks(uri.query().unwrap_or_default()),
        ("GET", ["fhir", "ServiceRequest", id, "$status"]) => service.status(id),
        ("GET", ["fhir", kind, id]) => service.read(&format!("{kind}/{id}")),
        _ => refused(StatusCode::NOT_FOUND, "no such door"),
    };
    let named =
        path::text(&said, "id").map(|id| format!("{}/{}/{id}", service.base, said["resourceType"].as_str().unwrap()));
    let version = path::text(&said, "meta.versionId").map(|v| format!("W/\"{v}\"")).unwrap_or_default();
    (status, [("etag", version), ("location", named.unwrap_or_default())], said.to_string()).into_response()
}

fn refused(status: StatusCode, text: &str) -> Said {
    (
        status,
        crate::fhir::outcome::operation_outcome(&[crate::fhir::Issue::general(
            crate::fhir::IssueCode::Processing,
            text,
        )]),
    )
}

impl Service {
    /// Against R4, and each resource against our profile for its type.
    fn assert_valid(&self, asked: &Value) {
        let sent = Resource::from_value(asked.clone()).unwrap();
        assert_eq!(check(&sent, 10), []);
        for resource in path::all(asked, "entry.resource").into_iter().chain([asked]) {
            let resource = Resource::from_value(resource.clone()).unwrap();
            let profile = match resource.kind() {
                "ServiceRequest" => "Referral",
                "Observation" => "PAMObservation",
                kind => kind,
            };
            let canonical = format!("https://livewell.example/StructureDefinition/LiveWell-{profile}");
            if self.profiles.knows(&canonical) {
                assert_eq!(self.profiles.check(&canonical, &resource, 10), []);
            }
        }
    }

    fn keep(&self, mut resource: Value) -> Value {
        let mut held = self.held.lock().unwrap();
        let kind = resource["resourceType"].as_str().unwrap().to_owned();
        if resource.get("id").is_none() {
            resource["id"] = json!(uuid::Uuid::new_v4().to_string());
        }
        let version = path::text(&resource, "meta.versionId").map_or(0, |v| v.parse::<u64>().unwrap());
        resource["meta"] = json!({ "versionId": (version + 1).to_string() });
        held.insert(format!("{kind}/{}", resource["id"].as_str().unwrap()), resource.clone());
        resource
    }

    fn get(&self, reference: &str) -> Option<Value> {
        self.held.lock().unwrap().get(reference).cloned()
    }

    fn read(&self, reference: &str) -> Said {
        self.get(reference).map_or_else(|| refused(StatusCode::NOT_FOUND, "not here"), |found| (StatusCode::OK, found))
    }

    fn create(&self, mut resource: Value) -> Said {
        if resource["resourceType"] == "ServiceRequest" {
            assert_eq!(resource["status"], "active");
            let identifier = json!({ "system": REFERRAL_REFERENCE, "value": "LW-TEST-0001" });
            resource["identifier"].as_array_mut().unwrap().push(identifier);
        }
        let kept = self.keep(resource);
        if kept["resourceType"] == "ServiceRequest" {
            let hours = if self.mistake == Mistake::Hurries { 24 } else { 48 };
            self.plan("contact-patient", &format!("ServiceRequest/{}", kept["id"].as_str().unwrap()), hours);
        }
        (StatusCode::CREATED, kept)
    }

    fn plan(&self, code: &str, focus: &str, hours: i64) {
        let now = Clock::System.now();
        self.keep(json!({
            "resourceType": "Task", "status": "requested", "authoredOn": now.to_rfc3339(),
            "code": { "coding": [{ "code": code }] }, "focus": { "reference": focus }, "for": { "reference": "Patient/ours" },
            "location": { "reference": "Location/north" },
            "restriction": { "period": { "end": (now + TimeDelta::hours(hours)).to_rfc3339() } },
        }));
    }

    async fn transact(&self, bundle: &Value) -> Said {
        let mut text = bundle["entry"].to_string();
        let mut made = Vec::new();
        for n in 0..bundle["entry"].as_array().unwrap().len() {
            let entries: Value = serde_json::from_str(&text).unwrap();
            let resource = entries[n]["resource"].clone();
            let full_url = entries[n]["fullUrl"].as_str().unwrap().to_owned();
            let (_, kept) = self.create(resource);
            let reference = format!("{}/{}", kept["resourceType"].as_str().unwrap(), kept["id"].as_str().unwrap());
            text = text.replace(&full_url, &reference);
            let location = format!("{reference}/_history/1");
            made.push(json!({ "response": { "status": "201 Created", "location": location, "etag": "W/\"1\"" } }));
            if self.mistake != Mistake::KeepsToItself && kept["resourceType"] != "ServiceRequest" {
                self.write_back(kept).await;
            }
        }
        (StatusCode::OK, json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": made }))
    }

    async fn write_back(&self, mut resource: Value) {
        if !matches!(resource["resourceType"].as_str().unwrap(), "Encounter" | "Observation" | "Goal" | "Consent") {
            return;
        }
        let http = crate::demo::plain_http(Duration::from_secs(5)).unwrap();
        let (practice, _) = Caller::sign_in(&http, &self.practice, &self.client).await.unwrap();
        let people = practice.search("Patient", &[("identifier", &format!("{NHS_NUMBER}|9990000018"))]).await.unwrap();
        let person = json!({ "reference": format!("Patient/{}", people[0]["id"].as_str().unwrap()) });
        let fields = resource.as_object_mut().unwrap();
        let id = fields.shift_remove("id").unwrap();
        for ours in ["basedOn", "participant", "performer", "encounter", "expressedBy"] {
            fields.shift_remove(ours);
        }
        let subject = if fields["resourceType"] == "Consent" { "patient" } else { "subject" };
        fields.insert(subject.to_owned(), person);
        fields.insert("identifier".to_owned(), json!([{ "system": RECORD, "value": id }]));
        let kind = resource["resourceType"].clone();
        let entry = json!({ "resource": resource, "request": { "method": "POST", "url": kind } });
        practice.transact(vec![entry]).await.unwrap();
    }

    fn tasks(&self, query: &str) -> Said {
        let focus = query.strip_prefix("focus=").unwrap().replace("%2F", "/");
        let held = self.held.lock().unwrap();
        let found = held.values().filter(|resource| path::text(resource, "focus.reference") == Some(&focus));
        let entry: Vec<Value> = found.map(|task| json!({ "resource": task, "search": { "mode": "match" } })).collect();
        (StatusCode::OK, json!({ "resourceType": "Bundle", "type": "searchset", "entry": entry }))
    }

    fn claim_next(&self, asked: &Value) -> Said {
        assert_eq!(asked["parameter"][0]["valueCode"], "health-coach");
        if self.mistake == Mistake::HasOlderWork {
            self.plan("contact-patient", "ServiceRequest/older", 1);
        }
        let held = self.held.lock().unwrap().clone();
        let open = held.values().filter(|task| path::text(task, "status") == Some("requested"));
        let next = open.min_by_key(|task| path::text(task, "restriction.period.end").unwrap().to_owned());
        self.own(next.unwrap().clone())
    }

    fn own(&self, mut task: Value) -> Said {
        task["status"] = json!("accepted");
        task["owner"] = json!({ "reference": "PractitionerRole/coach-north" });
        (StatusCode::OK, self.keep(task))
    }

    fn operate(&self, id: &str, operation: &str, if_match: Option<&str>, asked: &Value) -> Said {
        let mut task = self.get(&format!("Task/{id}")).unwrap();
        if if_match != Some(&format!("W/\"{}\"", path::text(&task, "meta.versionId").unwrap())) {
            return refused(StatusCode::PRECONDITION_FAILED, "the Task has changed");
        }
        match operation {
            "$claim" => self.own(task),
            "$release" => {
                task["status"] = json!("requested");
                (StatusCode::OK, self.keep(task))
            }
            _ => self.complete(task, asked),
        }
    }

    fn complete(&self, mut task: Value, asked: &Value) -> Said {
        let of =
            |name: &str| asked["parameter"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone();
        let output = of("output")["valueReference"]["reference"].as_str().unwrap().to_owned();
        if self.mistake == Mistake::RefusesToComplete {
            return refused(StatusCode::UNPROCESSABLE_ENTITY, "Record the contact first.");
        }
        assert!(output.starts_with("Encounter/") && self.get(&output).is_some());
        let focus = path::text(&task, "focus.reference").unwrap().to_owned();
        match of("outcome")["valueCode"].as_str().unwrap() {
            "accepted" => self.plan("first-meeting", &focus, 14 * 24),
            _ => {
                self.plan("session", &focus, 14 * 24);
                [3, 6, 9, 12]
                    .iter()
                    .for_each(|months| self.plan(&format!("review-{months}-months"), &focus, months * 730));
            }
        }
        task["status"] = json!("completed");
        (StatusCode::OK, self.keep(task))
    }

    fn status(&self, _id: &str) -> Said {
        let state = if self.mistake == Mistake::KeepsToItself { "retrying" } else { "filed" };
        (
            StatusCode::OK,
            json!({ "resourceType": "Parameters", "parameter": [
                { "name": "reference", "valueString": "LW-TEST-0001" },
                { "name": "state", "valueCode": "coaching" },
                { "name": "next", "valueCode": "session" },
                { "name": "pam", "part": [{ "name": "score", "valueDecimal": 56.4 }, { "name": "level", "valueInteger": 3 }] },
                { "name": "delivery", "part": [{ "name": "state", "valueCode": state }] },
            ]}),
        )
    }
}
