//! What callers do, as acts of the load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use livewell::fhir::systems::{NHS_NUMBER, ODS};
use serde_json::{Value, json};

use super::client::{Answer, Ask, Connection};
use super::load::Act;
use super::population::{self, LOCALITIES, PRACTICES, free_nhs_numbers, locality, practice};

/// A request made for each number, and the status it must be answered with.
pub(crate) fn act(status: u16, ask: impl Fn(u64) -> Ask + Send + Sync + 'static) -> Act {
    act_with(ask, move |answer| answer.expect(status).map(drop))
}

fn act_with(
    ask: impl Fn(u64) -> Ask + Send + Sync + 'static,
    check: impl Fn(Answer) -> Result<(), String> + Send + Sync + 'static,
) -> Act {
    let (ask, check) = (Arc::new(ask), Arc::new(check));
    Arc::new(move |connection: &mut Connection, number| {
        let (ask, check) = (Arc::clone(&ask), Arc::clone(&check));
        Box::pin(async move { check(connection.send(&ask(number)).await?) })
    })
}

/// Makes people nobody knows yet, over all workloads of a run.
#[derive(Clone)]
pub(crate) struct Newcomers {
    numbers: Arc<Vec<String>>,
    next: Arc<AtomicU64>,
}

impl Newcomers {
    pub(crate) fn new() -> Newcomers {
        Newcomers { numbers: Arc::new(free_nhs_numbers().take(400_000).collect()), next: Arc::default() }
    }

    /// An NHS number and a number of its own.
    pub(crate) fn next(&self) -> (String, u64) {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        (self.numbers[at as usize % self.numbers.len()].clone(), at)
    }
}

/// A referral as a practice sends it: the person contained, a business identifier of the sender's.
pub(crate) fn referral(ods: &str, nhs_number: &str, at: u64) -> Value {
    json!({
        "resourceType": "ServiceRequest",
        "contained": [{
            "resourceType": "Patient", "id": "person",
            "identifier": [{ "system": NHS_NUMBER, "value": nhs_number }],
            "name": [{ "use": "official", "family": format!("Family{at}"), "given": ["Given"] }],
            "gender": "female", "birthDate": "1957-03-04",
            "generalPractitioner": [{ "type": "Organization", "identifier": { "system": ODS, "value": ods } }],
        }],
        "identifier": [{ "system": "https://practice.example/Id/referral", "value": format!("bench-{at}") }],
        "status": "active", "intent": "order", "priority": "routine",
        "code": { "text": "Social prescribing" },
        "subject": { "reference": "#person" },
        "authoredOn": "2026-03-02T09:00:00Z",
        "requester": { "type": "Organization", "identifier": { "system": ODS, "value": ods } },
        "reasonCode": [{ "text": "Lives alone since the summer, would like company and to become more active." }],
    })
}

/// A complete referral: authenticated, validated, stored with person, spell, plan, Task, index and audit.
pub(crate) fn refer(practices: Vec<String>, newcomers: &Newcomers) -> Act {
    let newcomers = newcomers.clone();
    act(201, move |number| {
        let at = number as usize % PRACTICES;
        let (nhs_number, unique) = newcomers.next();
        Ask::post("/fhir/ServiceRequest", &practices[at], &referral(&practice(at), &nhs_number, unique))
    })
}

/// A practice's own Patient, of someone nobody knows yet.
fn patient(nhs_number: &str, unique: u64) -> Value {
    json!({
        "resourceType": "Patient",
        "identifier": [{ "system": NHS_NUMBER, "value": nhs_number }],
        "name": [{ "family": format!("Family{unique}"), "given": ["Given"] }],
        "birthDate": "1957-03-04",
    })
}

/// A single create: a practice's own Patient.
pub(crate) fn create(practices: Vec<String>, newcomers: &Newcomers) -> Act {
    let newcomers = newcomers.clone();
    act(201, move |number| {
        let at = number as usize % PRACTICES;
        let (nhs_number, unique) = newcomers.next();
        Ask::post("/fhir/Patient", &practices[at], &patient(&nhs_number, unique))
    })
}

/// A Patient and the practice whose own it is.
type Own = (Value, usize);

/// Patients to be updated, each by one caller at a time.
pub(crate) async fn patients(
    connection: &mut Connection,
    practices: &[String],
    newcomers: &Newcomers,
    count: usize,
) -> Result<Arc<Mutex<Vec<Own>>>, String> {
    let mut made = Vec::new();
    for at in 0..count {
        let (nhs_number, unique) = newcomers.next();
        let ask = Ask::post("/fhir/Patient", &practices[at % PRACTICES], &patient(&nhs_number, unique));
        made.push((connection.send(&ask).await?.expect(201)?.json(), at % PRACTICES));
    }
    Ok(Arc::new(Mutex::new(made)))
}

/// An update: the next version of a Patient, built on the one before.
pub(crate) fn update(practices: Vec<String>, patients: Arc<Mutex<Vec<Own>>>) -> Act {
    let practices = Arc::new(practices);
    Arc::new(move |connection: &mut Connection, number| {
        let (practices, patients) = (Arc::clone(&practices), Arc::clone(&patients));
        Box::pin(async move {
            let (mut own, at) =
                patients.lock().map_err(|e| e.to_string())?.pop().ok_or("every Patient is being updated")?;
            own["name"][0]["given"] = json!([format!("Given{number}")]);
            let ask = put(&own, &practices[at]);
            let changed = connection.send(&ask).await?.expect(200)?.json();
            patients.lock().map_err(|e| e.to_string())?.push((changed, at));
            Ok(())
        })
    })
}

fn put(resource: &Value, token: &str) -> Ask {
    let version = resource["meta"]["versionId"].as_str().and_then(|v| v.parse().ok()).unwrap_or(1);
    let (kind, id) = (&resource["resourceType"], &resource["id"]);
    Ask::put(
        format!("/fhir/{}/{}", kind.as_str().unwrap_or_default(), id.as_str().unwrap_or_default()),
        token,
        resource,
        version,
    )
}

/// Create, read, update, as other servers' CRUD benchmarks go (`k6/crud.js` of Health Samurai), of a Patient.
pub(crate) fn create_read_update(practices: Vec<String>, newcomers: &Newcomers) -> Act {
    let (practices, newcomers) = (Arc::new(practices), newcomers.clone());
    Arc::new(move |connection: &mut Connection, number| {
        let (practices, newcomers) = (Arc::clone(&practices), newcomers.clone());
        Box::pin(async move {
            let token = &practices[number as usize % PRACTICES];
            let (nhs_number, unique) = newcomers.next();
            let create = Ask::post("/fhir/Patient", token, &patient(&nhs_number, unique));
            let made = connection.send(&create).await?.expect(201)?.json();
            let path = format!("/fhir/Patient/{}", made["id"].as_str().unwrap_or_default());
            let mut read = connection.send(&Ask::get(path, token)).await?.expect(200)?.json();
            read["name"][0]["given"] = json!(["Changed"]);
            connection.send(&put(&read, token)).await?.expect(200)?;
            Ok(())
        })
    })
}

/// The mix of a working day: of twenty requests eight read, four look at the work list, three ask `$status`, three
/// refer, two take a Task.
pub(crate) fn day(read: Act, list: Act, status: Act, refer: Act, claim: Act) -> Act {
    Arc::new(move |connection: &mut Connection, number| {
        let act = match number % 20 {
            0 | 7 | 13 => &refer,
            3 | 11 => &claim,
            5 | 9 | 17 => &status,
            1 | 6 | 12 | 18 => &list,
            _ => &read,
        };
        act(connection, number)
    })
}

/// The `number`th referral in a shuffled order, with the practice that sent it.
fn some_referral(number: u64, tasks: u64) -> (String, usize) {
    let all = population::referrals(tasks).max(1);
    let at = number.wrapping_mul(48_271) % all;
    (population::referral(at), (at * 7919 % PRACTICES as u64) as usize)
}

/// A read: the sender reads its referral; authenticated, filtered by row, audited before the answer leaves.
pub(crate) fn read(practices: Vec<String>, tasks: u64) -> Act {
    act(200, move |number| {
        let (id, sender) = some_referral(number, tasks);
        Ask::get(format!("/fhir/ServiceRequest/{id}"), &practices[sender])
    })
}

/// `$status` of a referral by its sender.
pub(crate) fn status(practices: Vec<String>, tasks: u64) -> Act {
    act(200, move |number| {
        let (id, sender) = some_referral(number, tasks);
        Ask::get(format!("/fhir/ServiceRequest/{id}/$status"), &practices[sender])
    })
}

/// The work list of a coach: Tasks of their role and locality that nobody has, most urgent first, 20 a page.
pub(crate) fn work_list(coaches: Vec<String>) -> Act {
    let ask = move |number: u64| {
        let at = number as usize % LOCALITIES;
        let place = locality(at);
        let path = format!(
            "/fhir/Task?status=requested&performer=health-coach&location=Location/{place}&_sort=-priority,due&_count=20"
        );
        Ask::get(path, &coaches[at])
    };
    act_with(ask, |answer| {
        let found = answer.expect(200)?.json();
        match found["entry"].as_array().map(Vec::len) {
            Some(20) => Ok(()),
            other => Err(format!("a page of {other:?} where 20 were expected")),
        }
    })
}

/// `$claim-next` by coaches of all localities; each Task must be given once.
pub(crate) fn claim_next(coaches: Vec<String>, given: Arc<std::sync::Mutex<std::collections::HashSet<String>>>) -> Act {
    let role = json!({ "resourceType": "Parameters", "parameter": [{ "name": "role", "valueCode": "health-coach" }] });
    let ask = move |number: u64| Ask::post("/fhir/Task/$claim-next", &coaches[number as usize % LOCALITIES], &role);
    act_with(ask, move |answer| {
        let task = answer.expect(200)?.json();
        let id = task["id"].as_str().unwrap_or_default().to_owned();
        let first = given.lock().map_err(|e| e.to_string())?.insert(id);
        if first { Ok(()) } else { Err("the same Task was given twice".to_owned()) }
    })
}
