//! Write-back: from the answer to a recorded Encounter until it stands in the practice's record, over real HTTP to a
//! stand-in practice system in this process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use livewell::demo::practice::{PatientSeed, PracticeSeed, StandIn, StandInSettings};
use livewell::fhir::codes::CodeTable;
use livewell::fhir::systems::{NHS_NUMBER, RECORD};
use livewell::store::{DeliveryFilter, Store};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::client::{Ask, Connection};
use super::load::Measured;
use super::population::{LOCALITIES, practice};
use super::service::{Failed, Service, free_address, opened};
use super::target::Target;
use super::workloads::{Newcomers, referral};

/// Records `count` Encounters, one after the other, each for a referral of its own.
pub(crate) async fn write_back(folder: &Path, count: usize) -> Result<Measured, Failed> {
    let folder = &folder.join("idle");
    std::fs::create_dir_all(folder)?;
    let newcomers = Newcomers::new();
    let people: Vec<(String, u64)> = (0..count).map(|_| newcomers.next()).collect();
    let (address, ods) = (free_address()?, practice(0));
    let seed = PracticeSeed { ods: ods.clone(), patients: people.iter().map(patient).collect() };
    let stand_in = stand_in(folder, address, vec![seed]).await?;
    let service = Service::start(folder, address, 1, &[(ods.clone(), stand_in.base(&ods))], &Target::Sqlite).await?;
    let (practices, coaches) = (service.practices().await?, service.coaches().await?);
    let mut caller = Caller {
        service: Connection::to(address),
        practice: Connection::to(stand_in.address()),
        sender: practices[0].clone(),
        coach: coaches[0].clone(),
        reader: stand_in.reader_token(&ods),
        ods,
    };
    let mut all = Measured::default();
    let begun = Instant::now();
    for (nhs_number, at) in &people {
        match caller.once(nhs_number, *at).await {
            Ok(latency) => all.note(latency, Ok(())),
            Err(why) => all.note(Duration::ZERO, Err(why)),
        }
    }
    let all = all.finish(begun.elapsed());
    stand_in.stop().await;
    Ok(all)
}

fn patient((nhs_number, at): &(String, u64)) -> PatientSeed {
    PatientSeed {
        nhs_number: nhs_number.clone(),
        family: format!("Family{at}"),
        given: "Given".to_owned(),
        birth_date: "1957-03-04".to_owned(),
        gender: "female".to_owned(),
    }
}

async fn stand_in(folder: &Path, service: SocketAddr, practices: Vec<PracticeSeed>) -> Result<StandIn, Failed> {
    let settings = StandInSettings {
        clock: livewell::time::Clock::System,
        practices,
        client_jwks_url: format!("http://{service}/.well-known/jwks.json"),
        accepted_client_id: "livewell".to_owned(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(StandIn::start(listener, folder.join("practices"), settings).await?)
}

/// What a drained backlog came to.
pub(crate) struct Drained {
    /// The time of each write-back from the moment that the practices could be reached.
    pub(crate) measured: Measured,
    pub(crate) most_in_flight: f64,
    pub(crate) most_a_minute: f64,
}

/// Lets `count` write-backs wait for twenty practices that have no Endpoint, gives them one each, and waits until all are
/// delivered, with the limits that a practice has by default.
pub(crate) async fn drain(folder: &Path, count: usize) -> Result<Drained, Failed> {
    const PRACTICES: usize = 20;
    const PEOPLE: usize = 25;
    let folder = &folder.join("drain");
    std::fs::create_dir_all(folder)?;
    let (newcomers, address) = (Newcomers::new(), free_address()?);
    let people: Vec<Vec<(String, u64)>> =
        (0..PRACTICES).map(|_| (0..PEOPLE).map(|_| newcomers.next()).collect()).collect();
    let seeds = people.iter().enumerate();
    let seeds = seeds.map(|(at, all)| PracticeSeed { ods: practice(at), patients: all.iter().map(patient).collect() });
    let stand_in = stand_in(folder, address, seeds.collect()).await?;
    let mut service = Service::start(folder, address, 1, &[], &Target::Sqlite).await?;
    let (senders, coaches) = (service.practices().await?, service.coaches().await?);
    let mut recorders = tokio::task::JoinSet::new();
    for (at, people) in people.into_iter().enumerate() {
        let (sender, coach) = (senders[at].clone(), coaches[at % LOCALITIES].clone());
        recorders.spawn(async move {
            let mut door = Connection::to(address);
            for (person, (nhs_number, number)) in people.iter().enumerate() {
                let sent = Ask::post("/fhir/ServiceRequest", &sender, &referral(&practice(at), nhs_number, *number));
                let id = text(&door.send(&sent).await?.expect(201)?.json(), "id");
                let subject = json!({ "type": "Patient", "identifier": { "system": NHS_NUMBER, "value": nhs_number } });
                let record = Ask::post("/fhir/Encounter", &coach, &encounter(&subject, &id));
                let place = at * PEOPLE + person;
                for _ in (place..count).step_by(PRACTICES * PEOPLE) {
                    door.send(&record).await?.expect(201)?;
                }
            }
            Ok::<_, String>(())
        });
    }
    for recorded in recorders.join_all().await {
        recorded?;
    }
    let reached: Vec<(String, String)> =
        (0..PRACTICES).map(|at| (practice(at), stand_in.base(&practice(at)))).collect();
    service.reach(&reached).await?;
    let store = opened(&service.url).await?;
    let begun = Instant::now();
    let began_at = livewell::time::Clock::System.now();
    let open = DeliveryFilter::default();
    loop {
        let left: i64 = store.read().await?.delivery_depths(&open).await?.iter().map(|depth| depth.count).sum();
        if left == 0 {
            break;
        }
        if begun.elapsed() > Duration::from_secs(600) {
            return Err(format!("{left} were not delivered in ten minutes").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = begun.elapsed();
    let drained = drained(&store, began_at, took).await?;
    stand_in.stop().await;
    Ok(drained)
}

/// What the rows say of a drain that began at `began`.
async fn drained(store: &Store, began: DateTime<Utc>, took: Duration) -> Result<Drained, Failed> {
    let delivered = DeliveryFilter { states: vec!["delivered".to_owned()], ..DeliveryFilter::default() };
    let mut tx = store.read().await?;
    let mut measured = Measured::default();
    let mut attempts: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for row in tx.find_deliveries(&delivered, i64::MAX).await? {
        let settled = row.settled_at.map_or(began, |at| at.time());
        measured.note((settled - began).to_std().unwrap_or_default(), Ok(()));
        for attempt in tx.attempts(&row.id).await? {
            let began = attempt.at.0 / 1000;
            attempts.entry(row.practice.clone()).or_default().push((began, began + attempt.duration_ms));
        }
    }
    let most = |one: fn(&[(i64, i64)]) -> usize| attempts.values().map(|all| one(all)).max().unwrap_or(0) as f64;
    Ok(Drained { measured: measured.finish(took), most_in_flight: most(in_flight), most_a_minute: most(a_minute) })
}

/// Most of these spans (milliseconds) at one moment.
fn in_flight(spans: &[(i64, i64)]) -> usize {
    let at_once = |moment: i64| spans.iter().filter(|(from, to)| *from <= moment && moment < *to).count();
    spans.iter().map(|(from, _)| at_once(*from)).max().unwrap_or(0)
}

/// Most of these that begin within a minute.
fn a_minute(spans: &[(i64, i64)]) -> usize {
    let within = |moment: i64| spans.iter().filter(|(from, _)| (moment..moment + 60_000).contains(from)).count();
    spans.iter().map(|(from, _)| within(*from)).max().unwrap_or(0)
}

fn encounter(subject: &Value, referral: &str) -> Value {
    let now = livewell::time::Clock::System.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    json!({
        "resourceType": "Encounter", "status": "finished",
        "class": CodeTable::embedded().coding("class-virtual"),
        "subject": subject, "basedOn": [{ "reference": format!("ServiceRequest/{referral}") }],
        "period": { "start": now, "end": now },
    })
}

struct Caller {
    service: Connection,
    practice: Connection,
    sender: String,
    coach: String,
    reader: String,
    ods: String,
}

impl Caller {
    async fn once(&mut self, nhs_number: &str, at: u64) -> Result<Duration, String> {
        let sent = Ask::post("/fhir/ServiceRequest", &self.sender, &referral(&self.ods, nhs_number, at));
        let id = text(&self.service.send(&sent).await?.expect(201)?.json(), "id");
        let tasks = Ask::get(format!("/fhir/Task?focus=ServiceRequest/{id}"), &self.coach);
        let task = self.service.send(&tasks).await?.expect(200)?.json()["entry"][0]["resource"].clone();
        let none = json!({ "resourceType": "Parameters" });
        let claim = Ask::post(format!("/fhir/Task/{}/$claim", text(&task, "id")), &self.coach, &none);
        self.service.send(&claim).await?.expect(200)?;
        let record = Ask::post("/fhir/Encounter", &self.coach, &encounter(&task["for"], &id));
        let recorded = text(&self.service.send(&record).await?.expect(201)?.json(), "id");
        let accepted = Instant::now();
        let look = Ask::get(format!("/{}/fhir/Encounter?identifier={RECORD}|{recorded}", self.ods), &self.reader);
        while accepted.elapsed() < Duration::from_secs(10) {
            let found = self.practice.send(&look).await?.expect(200)?.json();
            if found["entry"].as_array().is_some_and(|entries| entries.iter().any(is_match)) {
                return Ok(accepted.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err("not in the practice's record after 10 s".to_owned())
    }
}

fn is_match(entry: &Value) -> bool {
    entry["search"]["mode"] != "outcome"
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
