//! Profiles on write: which a resource is checked against, and what becomes of one that breaks them, by mode and practice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use livewell::config::{Config, PracticeProfiles, ProfileMode};
use serde_json::{Value, json};

use crate::support::app::run_with;
use crate::support::caller::Caller;
use crate::support::{Database, TestApp, build};
use crate::test_data;

const PAM: &str = "https://livewell.example/StructureDefinition/LiveWell-PAMObservation";
const UK_PATIENT: &str = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient";

/// Runs a test on both databases, with a changed configuration.
fn on_both<F: Future<Output = ()> + 'static>(change: fn(&mut Config), test: fn(TestApp) -> F) {
    run_with(Database::Sqlite, change, test);
    run_with(Database::Postgres, change, test);
}

/// An Observation of Ada that claims to be a PAM score, whose unit a PAM score does not have.
fn claimed() -> Value {
    json!({
        "resourceType": "Observation", "meta": { "profile": [PAM] }, "status": "final", "code": { "text": "PAM" },
        "subject": build::by_number(build::ADA.0), "valueQuantity": { "value": 55.2, "system": "http://unitsofmeasure.org", "code": "kg" },
    })
}

/// What a practice is told when it sends this and wants to hear of it.
async fn told(caller: &Caller, resource: &Value) -> (u16, Vec<(String, String, String)>) {
    let kind = resource["resourceType"].as_str().unwrap();
    let answer = caller.post(kind, resource).header("Prefer", "return=OperationOutcome").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let issues = answer.body["issue"].as_array().into_iter().flatten();
    let said = issues.map(|i| (text(&i["severity"]), text(&i["expression"][0]), text(&i["details"]["text"])));
    (answer.status, said.filter(|(severity, ..)| severity != "information").collect())
}

#[test]
fn what_breaks_a_profile_is_taken_with_a_warning_that_names_element_and_profile() {
    on_both(
        |_| {},
        |app| async move {
            let practice = app.practice("TESTA1").await;
            practice.post("ServiceRequest", &build::referral()).await.expect(201);
            let (status, issues) = told(&practice, &claimed()).await;
            assert_eq!(status, 201);
            let [(severity, place, text)] = issues.as_slice() else { panic!("{issues:?}") };
            assert_eq!((severity.as_str(), place.as_str()), ("warning", "Observation.value.ofType(Quantity).code"));
            assert!(text.contains("LiveWell-PAMObservation") && text.contains("fixed"), "{text}");
        },
    );
}

#[test]
fn where_profiles_reject_nothing_of_what_breaks_one_is_stored() {
    on_both(
        |config| config.profiles.mode = ProfileMode::Reject,
        |app| async move {
            let practice = app.practice("TESTA1").await;
            practice.post("ServiceRequest", &build::referral()).await.expect(201);
            let before = app.stored().await;
            let (status, issues) = told(&practice, &claimed()).await;
            assert_eq!((status, issues.len()), (422, 1), "{issues:?}");
            assert_eq!(issues[0].1, "Observation.value.ofType(Quantity).code");
            let mut bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
                { "request": { "method": "POST", "url": "Observation" }, "resource": claimed() },
            ] });
            let answer = practice.post("", &bundle).await.expect(422);
            assert_eq!(answer.expression(), "Bundle.entry[0].resource.value.ofType(Quantity).code");
            assert_eq!(app.stored().await, before);
            bundle["entry"][0]["resource"]["valueQuantity"]["code"] = json!("{score}");
            practice.post("", &bundle).await.expect(200);
        },
    );
}

#[test]
fn one_practice_can_be_held_to_more_or_less_than_the_others() {
    on_both(
        |config| {
            config.profiles.mode = ProfileMode::Reject;
            let mode = |mode| PracticeProfiles { mode };
            config.profiles.practice = BTreeMap::from([
                ("TESTA2".to_owned(), mode(ProfileMode::Warn)),
                ("TESTA3".to_owned(), mode(ProfileMode::Off)),
            ]);
        },
        |app| async move {
            for (ods, person, expected) in
                [("TESTA1", build::ADA, 422), ("TESTA2", build::BERT, 201), ("TESTA3", build::CLEO, 201)]
            {
                let practice = app.practice(ods).await;
                practice.post("ServiceRequest", &build::referral_of(person.0)).await.expect(201);
                let mut sent = claimed();
                sent["subject"] = build::by_number(person.0);
                let (status, issues) = told(&practice, &sent).await;
                assert_eq!(status, expected, "{ods}: {issues:?}");
                assert_eq!(issues.len(), usize::from(ods != "TESTA3"), "{ods}: {issues:?}");
            }
        },
    );
}

#[test]
fn a_referral_is_held_to_our_profile_though_it_does_not_claim_it() {
    on_both(
        |config| config.profiles.mode = ProfileMode::Reject,
        |app| async move {
            let practice = app.practice("TESTA1").await;
            let mut referral = build::referral();
            let route = referral["category"][0].clone();
            referral["category"] = json!([route, route]);
            let (status, issues) = told(&practice, &referral).await;
            assert_eq!(status, 422, "{issues:?}");
            assert_eq!(issues[0].1, "ServiceRequest.category");
            assert!(issues[0].2.contains("entryRoute") && issues[0].2.contains("LiveWell-Referral"), "{issues:?}");
        },
    );
}

/// A folder with one profile in it: a Basic has an author.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("profiles-on-write");
    std::fs::create_dir_all(&folder).unwrap();
    let profile = json!({
        "resourceType": "StructureDefinition", "url": "https://example.org/StructureDefinition/signed-basic", "name": "Signed",
        "status": "active", "kind": "resource", "abstract": false, "type": "Basic", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
        "differential": { "element": [{ "id": "Basic.author", "path": "Basic.author", "min": 1 }] },
    });
    // In one step: tests that run at the same time read it.
    let made = tempfile::NamedTempFile::new_in(&folder).unwrap();
    std::fs::write(made.path(), profile.to_string()).unwrap();
    made.persist(folder.join("signed-basic.json")).unwrap();
    folder
}

#[test]
fn a_deployment_says_which_profile_of_its_own_a_type_is_checked_against() {
    on_both(
        |config| {
            config.profiles.dir = Some(folder());
            config.profiles.mode = ProfileMode::Reject;
            let canonical = "https://example.org/StructureDefinition/signed-basic".to_owned();
            config.profiles.types = BTreeMap::from([("Basic".to_owned(), vec![canonical])]);
        },
        |app| async move {
            let system = app.system().await;
            let (status, issues) = told(&system, &json!({ "resourceType": "Basic", "code": { "text": "x" } })).await;
            assert_eq!((status, issues[0].1.as_str()), (422, "Basic.author"), "{issues:?}");
            assert!(issues[0].2.contains("signed-basic"), "{issues:?}");
        },
    );
}

#[test]
fn uk_core_holds_where_its_definitions_are_given() {
    if test_data::present("uk-core/structuredefinitions-json-derived").is_none() {
        return;
    }
    on_both(
        |config| {
            config.profiles.dir = Some(test_data::folder().join("uk-core"));
            config.profiles.mode = ProfileMode::Reject;
            config.profiles.types = BTreeMap::from([("Patient".to_owned(), vec![UK_PATIENT.to_owned()])]);
        },
        |app| async move {
            let practice = app.practice("TESTA1").await;
            let mut patient = build::person(build::ADA);
            let number = patient["identifier"][0].clone();
            practice.post("Patient", &patient).await.expect(201);
            patient["identifier"] = json!([number, number]);
            let (status, issues) = told(&practice, &patient).await;
            assert_eq!((status, issues[0].1.as_str()), (422, "Patient.identifier"), "{issues:?}");
            assert!(issues[0].2.contains("nhsNumber") && issues[0].2.contains("UKCore-Patient"), "{issues:?}");
        },
    );
}
