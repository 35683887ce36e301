//! A population that is the same every run: practices, coaches, people, a year of referrals, their Tasks, what was recorded
//! and delivered.
//!
//! The directory goes in as `livewell load` puts it in. The rest is written by SQL in the form the service writes it
//! (`population.sql`), because a million through the door would take an hour.

use std::path::Path;

use livewell::fhir::systems::{ODS, ROLE};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

pub(crate) const OURS: &str = "TESTLW";
pub(crate) const LOCALITIES: usize = 8;
pub(crate) const PRACTICES: usize = 40;
/// Tasks of one referral.
const TASKS_EACH: u64 = 4;

pub(crate) fn practice(at: usize) -> String {
    format!("TESTB{at:02}")
}

pub(crate) fn locality(at: usize) -> String {
    format!("locality-{at}")
}

pub(crate) fn coach(at: usize) -> String {
    format!("coach-{at}")
}

/// The id of the ServiceRequest of a referral of the population.
pub(crate) fn referral(at: u64) -> String {
    format!("018f{at:08x}-referral")
}

/// How many referrals a population of so many Tasks has.
pub(crate) fn referrals(tasks: u64) -> u64 {
    tasks / TASKS_EACH
}

/// NHS numbers of the test range that nobody of the population has.
pub(crate) fn free_nhs_numbers() -> impl Iterator<Item = String> {
    (999_500_000_u64..=999_999_999).filter_map(|nine| {
        let digits = nine.to_string();
        let sum: u32 =
            digits.chars().zip((2..=10).rev()).filter_map(|(c, weight)| Some(c.to_digit(10)? * weight)).sum();
        let check = (11 - sum % 11) % 11;
        (check < 10).then(|| format!("{digits}{check}"))
    })
}

/// Organisations, localities and coaches. `reached` are practices, each with the address of its system.
pub(crate) fn directory(reached: &[(String, String)]) -> Vec<Value> {
    let organization = |id: &str, ods: &str| {
        json!({ "resourceType": "Organization", "id": id, "active": true, "name": format!("Organisation {ods}"),
            "identifier": [{ "system": ODS, "value": ods }] })
    };
    let mut all = vec![organization("live-well", OURS)];
    for at in 0..LOCALITIES {
        all.push(json!({ "resourceType": "Location", "id": locality(at), "status": "active", "name": locality(at),
            "managingOrganization": { "reference": "Organization/live-well" } }));
        all.push(json!({ "resourceType": "Practitioner", "id": coach(at), "active": true,
            "name": [{ "family": format!("Coach{at}") }] }));
        all.push(json!({ "resourceType": "PractitionerRole", "id": coach(at), "active": true,
            "practitioner": { "reference": format!("Practitioner/{}", coach(at)) },
            "organization": { "reference": "Organization/live-well" },
            "code": [{ "coding": [{ "system": ROLE, "code": "health-coach" }] }],
            "location": [{ "reference": format!("Location/{}", locality(at)) }] }));
    }
    for at in 0..PRACTICES {
        let (ods, id) = (practice(at), practice(at).to_lowercase());
        let mut surgery = organization(&id, &ods);
        if let Some((_, address)) = reached.iter().find(|(code, _)| *code == ods) {
            all.push(endpoint(&id, address));
            surgery["endpoint"] = json!([{ "reference": format!("Endpoint/{id}") }]);
        }
        all.push(surgery);
        all.push(json!({ "resourceType": "OrganizationAffiliation", "id": id, "active": true,
            "organization": { "reference": "Organization/live-well" },
            "participatingOrganization": { "reference": format!("Organization/{id}") },
            "location": [{ "reference": format!("Location/{}", locality(at % LOCALITIES)) }] }));
    }
    all
}

fn endpoint(id: &str, address: &str) -> Value {
    json!({ "resourceType": "Endpoint", "id": id, "status": "active",
        "connectionType": { "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "hl7-fhir-rest" },
        "managingOrganization": { "reference": format!("Organization/{id}") },
        "payloadType": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type",
            "code": "any" }] }],
        "address": address })
}

/// Writes people, a year of their referrals, Tasks, what was recorded, and its deliveries.
pub(crate) async fn populate(database: &Path, tasks: u64, now: i64) -> Result<(), sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .disable_statement_logging()
        .connect()
        .await?;
    let rows = include_str!("population.sql")
        .replace("{tasks}", &tasks.to_string())
        .replace("{now}", &now.to_string())
        .replace("{year}", &(365_i64 * 86_400_000_000).to_string())
        .replace("{practices}", &PRACTICES.to_string())
        .replace("{localities}", &LOCALITIES.to_string())
        .replace("{each}", &TASKS_EACH.to_string());
    let all = format!("begin immediate; {rows}; commit; pragma wal_checkpoint(truncate)");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(all))).await?;
    Ok(())
}
