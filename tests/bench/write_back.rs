//! Write-back: from the answer to a recorded Encounter until it stands in the practice's record, over real HTTP to a
//! stand-in practice system in this process.

use std::path::Path;
use std::time::Duration;

use livewell::demo::practice::{PatientSeed, PracticeSeed, StandIn, StandInSettings};
use livewell::fhir::codes::CodeTable;
use livewell::fhir::systems::RECORD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::client::{Ask, Connection};
use super::load::Measured;
use super::population::practice;
use super::service::{Failed, Service, free_address};
use super::workloads::{Newcomers, referral};

/// Records `count` Encounters, one after the other, each for a referral of its own.
pub(crate) async fn write_back(folder: &Path, count: usize) -> Result<Measured, Failed> {
    let newcomers = Newcomers::new();
    let people: Vec<(String, u64)> = (0..count).map(|_| newcomers.next()).collect();
    let (address, ods) = (free_address()?, practice(0));
    let patients = people.iter().map(|(nhs_number, at)| PatientSeed {
        nhs_number: nhs_number.clone(),
        family: format!("Family{at}"),
        given: "Given".to_owned(),
        birth_date: "1957-03-04".to_owned(),
        gender: "female".to_owned(),
    });
    let settings = StandInSettings {
        clock: livewell::time::Clock::System,
        practices: vec![PracticeSeed { ods: ods.clone(), patients: patients.collect() }],
        client_jwks_url: format!("http://{address}/.well-known/jwks.json"),
        accepted_client_id: "livewell".to_owned(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stand_in = StandIn::start(listener, folder.join("practices"), settings).await?;
    let service = Service::start(folder, address, 1, Some((&ods, &stand_in.base(&ods)))).await?;
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
        let now = livewell::time::Clock::System.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let encounter = json!({
            "resourceType": "Encounter", "status": "finished",
            "class": CodeTable::embedded().coding("class-virtual"),
            "subject": task["for"], "basedOn": [{ "reference": format!("ServiceRequest/{id}") }],
            "period": { "start": now, "end": now },
        });
        let record = Ask::post("/fhir/Encounter", &self.coach, &encounter);
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
