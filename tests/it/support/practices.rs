//! Practices whose systems are played by one stand-in, for a service that runs as the real binary.

use livewell::demo::directory::Directory;
use livewell::demo::practice::{PatientSeed, PracticeSeed, StandIn, StandInSettings};
use livewell::fhir::systems::ODS;
use livewell::time::Clock;
use serde_json::{Value, json};

use super::binary::Binary;
use super::build;
use crate::journey::{referral_of, somebody};

/// A person, their practice, and the referral of theirs that is worked on.
pub(crate) struct Known {
    pub(crate) number: String,
    pub(crate) practice: String,
    pub(crate) referral: String,
}

/// The practices, with so many people of `each` (NHS number, practice), and the service loaded with its directory. `keys` is
/// where the practices find the service's public keys.
pub(crate) async fn connected(
    service: &mut Binary,
    keys: &str,
    practices: &[impl AsRef<str>],
    each: impl Fn(&str) -> usize,
) -> (StandIn, Vec<(String, String)>) {
    let people: Vec<(String, String)> =
        practices.iter().flat_map(|p| (0..each(p.as_ref())).map(|_| (somebody(), p.as_ref().to_owned()))).collect();
    let seed = |number: &String| PatientSeed {
        nhs_number: number.clone(),
        family: "Example".to_owned(),
        given: "Pat".to_owned(),
        birth_date: "1951-04-22".to_owned(),
        gender: "female".to_owned(),
    };
    let of = |ods: &str| people.iter().filter(|(_, at)| at == ods).map(|(number, _)| seed(number)).collect();
    let seeds = practices.iter().map(|p| PracticeSeed { ods: p.as_ref().to_owned(), patients: of(p.as_ref()) });
    let settings = StandInSettings {
        practices: seeds.collect(),
        client_jwks_url: keys.to_owned(),
        accepted_client_id: "livewell".to_owned(),
        clock: Clock::System,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stand_in = StandIn::start(listener, service.folder.path().join("practices"), settings).await.unwrap();
    let directory = directory(practices).with_endpoints(|ods| stand_in.base(ods)).unwrap();
    let directory = service.file("directory.json", &directory);
    service.does(&["load", directory.to_str().unwrap()]);
    service.register("sender", "TESTA1", &[]);
    service.register("recorder", "TESTLW", &[]);
    (stand_in, people)
}

/// The demo directory, with those of the practices that it does not have.
fn directory(practices: &[impl AsRef<str>]) -> Directory {
    let mut bundle: Value = serde_json::from_str(include_str!("../../../fhir-profiles/demo/directory.json")).unwrap();
    let known = Directory::embedded().unwrap().practices().unwrap();
    for ods in practices.iter().map(AsRef::as_ref).filter(|ods| known.iter().all(|k| k.ods != **ods)) {
        let id = ods.to_lowercase();
        let organization = json!({
            "resourceType": "Organization", "id": id, "active": true, "name": format!("Surgery {ods}"),
            "identifier": [{ "system": ODS, "value": ods }],
        });
        bundle["entry"].as_array_mut().unwrap().push(json!({
            "fullUrl": format!("https://livewell.example/fhir/Organization/{id}"),
            "resource": organization,
            "request": { "method": "PUT", "url": format!("Organization/{id}") },
        }));
    }
    Directory::read(&bundle.to_string()).unwrap()
}

/// Refers each of them.
pub(crate) async fn refer(service: &Binary, people: Vec<(String, String)>) -> Vec<Known> {
    let (mut known, mut token) = (Vec::new(), None);
    for (number, practice) in people {
        let referral = referral_of(&number, &practice, "routine");
        let referral = service.send("sender", &mut token, "/fhir/ServiceRequest", &referral).await;
        known.push(Known { number, practice, referral });
    }
    known
}

/// Records one Encounter, until it is acknowledged.
pub(crate) async fn record(service: &Binary, token: &mut Option<String>, known: &Known) -> String {
    let mut encounter = build::encounter(&format!("ServiceRequest/{}", known.referral), "");
    encounter["subject"] = build::by_number(&known.number);
    service.send("recorder", token, "/fhir/Encounter", &encounter).await
}
