//! A person's way through the pathway, walked over HTTP as practices and staff walk it.

use std::sync::atomic::{AtomicU32, Ordering};

use livewell::fhir::path;
use livewell::fhir::systems::{NHS_NUMBER, ODS, TASK_OUTCOME};
use serde_json::{Value, json};

use crate::support::build::concept;
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build};

/// A referral that was sent, with what the service made of it.
#[derive(Clone, Debug)]
pub(crate) struct Journey {
    /// `ServiceRequest/…`.
    pub(crate) referral: String,
    /// Our Patient, `Patient/…`.
    pub(crate) person: String,
    pub(crate) nhs_number: String,
    /// The first Task, `Task/…`.
    pub(crate) task: String,
}

/// The nth NHS number of the test range with a valid check digit (modulus 11).
pub(crate) fn nhs_number(nth: u32) -> String {
    let valid = (0..).filter_map(|n: u32| {
        let nine = format!("999{n:06}");
        let sum: u32 = nine.bytes().zip((2..=10).rev()).map(|(d, weight)| u32::from(d - b'0') * weight).sum();
        match 11 - sum % 11 {
            10 => None,
            11 => Some(format!("{nine}0")),
            check => Some(format!("{nine}{check}")),
        }
    });
    valid.into_iter().nth(nth as usize).unwrap()
}

/// An NHS number that nobody had yet in this process.
pub(crate) fn somebody() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(100);
    nhs_number(NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A referral of a person registered at `registered` (ODS; '' for nowhere), the Patient contained.
pub(crate) fn referral_of(nhs_number: &str, registered: &str, priority: &str) -> Value {
    let mut person = json!({
        "resourceType": "Patient",
        "id": "person",
        "identifier": [{ "system": NHS_NUMBER, "value": nhs_number }],
        "name": [{ "use": "official", "family": "Example", "given": ["Pat"] }],
        "birthDate": "1951-04-22",
    });
    if !registered.is_empty() {
        person["generalPractitioner"] =
            json!([{ "type": "Organization", "identifier": { "system": ODS, "value": registered } }]);
    }
    let mut request = json!({
        "resourceType": "ServiceRequest",
        "contained": [person],
        "status": "active",
        "intent": "order",
        "code": concept("social-prescribing-referral"),
        "subject": { "reference": "#person" },
        "reasonCode": [{ "text": "Lonely since retirement" }],
    });
    if !priority.is_empty() {
        request["priority"] = json!(priority);
    }
    request
}

/// Sends a referral of somebody new, registered at the practice that sends it.
pub(crate) async fn referred(app: &TestApp, practice: &str, priority: &str) -> Journey {
    let caller = app.practice(practice).await;
    refer(app, &caller, practice, priority).await
}

/// The same, by a caller that has signed in already.
pub(crate) async fn refer(app: &TestApp, caller: &Caller, practice: &str, priority: &str) -> Journey {
    send(app, caller, &referral_of(&somebody(), practice, priority)).await
}

/// Somebody referred by a practice that has them in its record.
pub(crate) async fn known(app: &TestApp, practice: &str, priority: &str) -> Journey {
    let journey = referred(app, practice, priority).await;
    registered(app, practice, &journey.nhs_number, "Example", "1951-04-22").await;
    journey
}

/// Puts somebody into a practice's own record.
pub(crate) async fn registered(app: &TestApp, practice: &str, nhs_number: &str, family: &str, birth_date: &str) {
    app.register_at_practice(practice, &build::patient(nhs_number, family, birth_date)).await;
}

/// Sends this referral.
pub(crate) async fn send(app: &TestApp, caller: &Caller, referral: &Value) -> Journey {
    let nhs_number = path::text(&referral["contained"][0], "identifier.value").unwrap_or_default().to_owned();
    let made = caller.post("/fhir/ServiceRequest", referral).await.expect(201);
    let id = made.body["id"].as_str().unwrap().to_owned();
    let task = app.rows(&format!("select id, person from task where referral = '{id}'")).await;
    assert_eq!(task.len(), 1, "a referral has one first Task");
    let text = |at: usize| task[0][at].as_str().unwrap().to_owned();
    Journey {
        referral: format!("ServiceRequest/{id}"),
        person: format!("Patient/{}", text(1)),
        nhs_number,
        task: format!("Task/{}", text(0)),
    }
}

/// The ids of a referral's open Tasks with this code, in the order they were made.
pub(crate) async fn open_tasks(app: &TestApp, journey: &Journey, code: &str) -> Vec<String> {
    let referral = journey.referral.trim_start_matches("ServiceRequest/");
    let rows = app
        .rows(&format!(
            "select id from task where referral = '{referral}' and code = '{code}' and open order by created_at, id"
        ))
        .await;
    rows.iter().map(|row| format!("Task/{}", row[0].as_str().unwrap())).collect()
}

/// The codes of a referral's open steps, sorted; what a co-ordinator has to settle beside them is left out.
pub(crate) async fn open_codes(app: &TestApp, journey: &Journey) -> Vec<String> {
    let referral = journey.referral.trim_start_matches("ServiceRequest/");
    let rows = app
        .rows(&format!(
            "select code from task where referral = '{referral}' and open \
             and code not in ('delivery-failed', 'resolve-identity', 'find-practice', 'no-route') order by code"
        ))
        .await;
    rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

/// The version an answer's resource has.
pub(crate) fn version(resource: &Value) -> i64 {
    path::text(resource, "meta.versionId").unwrap().parse().unwrap()
}

/// A list of operation parameters as a resource.
pub(crate) fn parameters(parameter: Value) -> Value {
    match parameter.as_array().is_some_and(Vec::is_empty) {
        true => json!({ "resourceType": "Parameters" }),
        false => json!({ "resourceType": "Parameters", "parameter": parameter }),
    }
}

/// `$claim-next` for a role.
pub(crate) async fn claim_next(caller: &Caller, role: &str) -> Answer {
    let asked = parameters(json!([{ "name": "role", "valueCode": role }]));
    caller.post("/fhir/Task/$claim-next", &asked).await
}

/// Takes a Task (`Task/…`).
pub(crate) async fn claim(caller: &Caller, task: &str) -> Value {
    caller.post(format!("/fhir/{task}/$claim"), &parameters(json!([]))).await.expect(200).body
}

/// `$complete` with an outcome.
pub(crate) async fn complete(caller: &Caller, task: &str, outcome: &str) -> Answer {
    let said = parameters(json!([{ "name": "outcome", "valueCode": outcome }]));
    caller.post(format!("/fhir/{task}/$complete"), &said).await
}

pub(crate) async fn read(caller: &Caller, reference: &str) -> Value {
    caller.get(format!("/fhir/{reference}")).await.expect(200).body
}

/// An Encounter with the person, just now.
pub(crate) fn encounter(app: &TestApp, journey: &Journey) -> Value {
    json!({
        "resourceType": "Encounter",
        "status": "finished",
        "class": concept("class-virtual")["coding"][0],
        "type": [concept("telephone-encounter")],
        "subject": { "reference": journey.person },
        "basedOn": [{ "reference": journey.referral }],
        "reasonCode": [{ "text": "Talked about the garden" }],
        "period": { "start": now(app), "end": now(app) },
    })
}

/// A PAM score, and a level where one is said.
pub(crate) fn activation(app: &TestApp, journey: &Journey, score: &str, level: Option<i64>) -> Value {
    let score: Value = serde_json::from_str(score).unwrap();
    let mut observation = json!({
        "resourceType": "Observation",
        "status": "final",
        "code": concept("pam-score"),
        "subject": { "reference": journey.person },
        "effectiveDateTime": now(app),
        "valueQuantity": { "value": score, "system": "http://unitsofmeasure.org", "code": "{score}" },
    });
    if let Some(level) = level {
        observation["component"] = json!([{ "code": concept("pam-level"), "valueInteger": level }]);
    }
    observation
}

pub(crate) fn goal(journey: &Journey) -> Value {
    json!({
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": { "text": "Walk to the library twice a week" },
        "subject": { "reference": journey.person },
    })
}

/// A Consent about sharing detail with the practice: `permit` or `deny`.
pub(crate) fn sharing(app: &TestApp, journey: &Journey, provision: &str) -> Value {
    json!({
        "resourceType": "Consent",
        "status": "active",
        "scope": concept("consent-privacy"),
        "category": [concept("consent-information-access")],
        "patient": { "reference": journey.person },
        "dateTime": now(app),
        "policyRule": { "text": "Sharing of detail, as explained to the person" },
        "provision": { "type": provision },
    })
}

/// A transaction Bundle that creates these.
pub(crate) fn together(resources: &[Value]) -> Value {
    let entry: Vec<Value> = resources
        .iter()
        .map(|r| json!({ "resource": r, "request": { "method": "POST", "url": r["resourceType"] } }))
        .collect();
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entry })
}

/// Sends a transaction and gives the reference (`Type/id`) that each entry got.
pub(crate) async fn transact(caller: &Caller, resources: &[Value]) -> Vec<String> {
    let answer = caller.post("/fhir", &together(resources)).await.expect(200);
    let places = path::all(&answer.body, "entry.response.location").into_iter();
    places.map(|l| l.as_str().unwrap().split("/_history/").next().unwrap().to_owned()).collect()
}

/// Records one resource and gives its reference.
pub(crate) async fn record(caller: &Caller, resource: &Value) -> String {
    let kind = resource["resourceType"].as_str().unwrap();
    let made = caller.post(format!("/fhir/{kind}"), resource).await.expect(201);
    format!("{kind}/{}", made.body["id"].as_str().unwrap())
}

/// Claims a Task, records an Encounter for it, and completes it.
pub(crate) async fn work(app: &TestApp, caller: &Caller, journey: &Journey, task: &str, outcome: &str) -> Value {
    claim(caller, task).await;
    record(caller, &encounter(app, journey)).await;
    complete(caller, task, outcome).await.expect(200).body
}

/// A Task with `businessStatus` and status as a PUT that completes it says them.
pub(crate) fn completed(mut task: Value, outcome: &str) -> Value {
    task["status"] = json!("completed");
    task["businessStatus"] = json!({ "coding": [{ "system": TASK_OUTCOME, "code": outcome }] });
    task
}

/// The time of the service, as a FHIR dateTime.
pub(crate) fn now(app: &TestApp) -> String {
    livewell::fhir::when::instant(app.clock.now())
}

/// The first issue's text and expression of a refusal.
pub(crate) fn refusal(answer: &Answer) -> (String, String) {
    let text = path::text(&answer.body, "issue.details.text").or_else(|| path::text(&answer.body, "issue.diagnostics"));
    let expression = path::text(&answer.body, "issue.expression").unwrap_or_default();
    (text.unwrap_or_default().to_owned(), expression.to_owned())
}
