//! Write-back: what was recorded arrives in the practice's record, each thing once, whatever goes wrong on the way.

mod arriving;
mod corrections;
mod faults;
mod own_words;
mod restarts;
mod routes;

use std::collections::BTreeMap;
use std::time::Duration;

use livewell::fhir::path;
use livewell::fhir::systems::RECORD;
use serde_json::{Value, json};

use crate::journey::Journey;
use crate::support::TestApp;
use crate::support::caller::Caller;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// What a write-back may be made of.
const KINDS: [&str; 7] =
    ["Encounter", "Observation", "Goal", "CarePlan", "Consent", "Communication", "QuestionnaireResponse"];

/// Our record id of a resource at a practice.
fn record_id(resource: &Value) -> Option<String> {
    let ours = path::all(resource, "identifier").into_iter().find(|i| i["system"] == RECORD)?;
    ours["value"].as_str().map(str::to_owned)
}

/// Everything of ours at a practice, by our id; fails when something is there twice.
fn ours_at(app: &TestApp, practice: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for resource in KINDS.iter().flat_map(|kind| app.stand_in.resources(practice, kind)) {
        if let Some(id) = record_id(&resource) {
            let twice = found.insert(id, resource);
            assert!(twice.is_none(), "twice at the practice: {}", twice.unwrap());
        }
    }
    found
}

/// The one resource at a practice that is our `Type/id`.
fn there(app: &TestApp, practice: &str, reference: &str) -> Value {
    let found = ours_at(app, practice).remove(reference.split_once('/').unwrap().1);
    found.unwrap_or_else(|| panic!("{reference} is not at {practice}"))
}

fn is_there(app: &TestApp, practice: &str, reference: &str) -> bool {
    ours_at(app, practice).contains_key(reference.split_once('/').unwrap().1)
}

/// As the practice's own staff do, changes something in its record.
async fn practice_writes(app: &TestApp, practice: &str, below: &str, resource: &Value) {
    let url = format!("{}/{below}", app.stand_in.base(practice));
    let mut request = app.http.put(url).bearer_auth(app.stand_in.staff_token(practice));
    if let Some(version) = path::text(resource, "meta.versionId") {
        request = request.header("if-match", format!("W/\"{version}\""));
    }
    let request = request.header("content-type", "application/fhir+json").body(resource.to_string());
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "the practice refuses its own staff: {}", answer.status());
}

/// State and reason of every delivery, in the order they were queued.
async fn deliveries(app: &TestApp) -> Vec<(String, String)> {
    let rows = app.rows("select state, why from delivery order by created_at, id").await;
    rows.iter().map(|r| (r[0].as_str().unwrap().to_owned(), r[1].as_str().unwrap().to_owned())).collect()
}

/// Lets `by` pass, and the worker look.
async fn later(app: &TestApp, by: Duration) {
    app.clock.advance(by);
    // Whatever is written wakes the worker, which else looks once a second.
    let nothing = json!({ "resourceType": "Bundle", "type": "transaction" });
    app.system().await.post("", &nothing).await.expect(200);
    app.settled().await;
}

/// Lets time pass, from one attempt to the next, until every delivery is settled or waits for something else than time.
async fn time_passes(app: &TestApp) {
    app.settled().await;
    for _ in 0..1000 {
        let now = app.clock.now().timestamp_micros();
        let unsettled = "delivery where settled_at is null and state <> 'no-route'";
        if app.count(unsettled).await == 0 {
            return;
        }
        let due = app.next_due().await.unwrap_or_else(|| panic!("nothing is due: {now}"));
        later(app, Duration::from_micros((due - now).try_into().unwrap())).await;
    }
    panic!("not settled after a thousand attempts: {:?}", deliveries(app).await);
}

/// The open Tasks of the co-ordinator with this code.
async fn asked_of_co_ordinator(app: &TestApp, code: &str) -> i64 {
    app.count(&format!("task where role = 'co-ordinator' and code = '{code}' and open")).await
}

/// The states of a referral's deliveries as `$status` says them.
async fn practice_sees(caller: &Caller, journey: &Journey) -> Vec<String> {
    let said = caller.get(format!("/fhir/{}/$status", journey.referral)).await.expect(200).body;
    let deliveries = path::all(&said, "parameter").into_iter().filter(|p| p["name"] == "delivery");
    let state = |d: &Value| d["part"].as_array().unwrap().iter().find(|p| p["name"] == "state").cloned();
    deliveries.map(|d| state(d).unwrap()["valueCode"].as_str().unwrap().to_owned()).collect()
}
