//! A population that is the same every run: practices, coaches, people, a year of referrals and their Tasks.
//!
//! The directory goes in as `livewell load` puts it in. People, referrals and Tasks are written by SQL in the form the
//! service writes them, because a million through the door would take an hour.

use std::path::Path;

use livewell::fhir::systems::{ODS, ROLE};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions};

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

/// Writes people, referrals and Tasks. Two in five Tasks wait to be claimed, one in twenty is a coach's, the rest is
/// done; one in ten of the waiting ones is a review that is not to be handed out yet.
pub(crate) async fn populate(database: &Path, tasks: u64, now: i64) -> Result<(), sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .disable_statement_logging()
        .connect()
        .await?;
    let year = 365_i64 * 86_400_000_000;
    for text in STATEMENTS {
        let text = text
            .replace("{practices}", &PRACTICES.to_string())
            .replace("{localities}", &LOCALITIES.to_string())
            .replace("{each}", &TASKS_EACH.to_string());
        sqlx::query("begin immediate").execute(&mut connection).await?;
        sqlx::query(AssertSqlSafe(text))
            .bind(i64::try_from(tasks).unwrap_or(i64::MAX))
            .bind(now)
            .bind(year)
            .execute(&mut connection)
            .await?;
        sqlx::query("commit").execute(&mut connection).await?;
    }
    sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut connection).await?;
    Ok(())
}

/// $1 Tasks in all, $2 now, $3 a year in microseconds. `i` counts referrals, `t` Tasks; a multiplication by a prime
/// shuffles what would otherwise go in step.
const STATEMENTS: [&str; 8] = [
    "create temp table r as with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < ?1 / {each}) \
     select i, printf('018f%08x-referral', i) as id, printf('018f%08x-person', i) as person, \
     printf('TESTB%02d', i * 7919 % {practices}) as practice, \
     printf('locality-%d', i * 7919 % {practices} % {localities}) as locality, \
     printf('LW-P%07d', i) as reference, ?2 - i * 104729 % 31536000 * (?3 / 31536000) as received from n",
    "insert into person select person, case when c < 10 then printf('%d%d', 999000000 + i, c) end, printf('19%02d-%02d-%02d', 30 + i % 60, 1 + i % 12, 1 + i % 28), \
     printf('Family%d', i % 5003), practice, locality from (select r.*, \
     (11 - (243 + i / 100000 % 10 * 7 + i / 10000 % 10 * 6 + i / 1000 % 10 * 5 + i / 100 % 10 * 4 + i / 10 % 10 * 3 \
     + i % 10 * 2) % 11) % 11 as c from r) where ?1 + ?2 + ?3 is not null",
    "insert into referral select id, reference, practice, printf('%064x', i), '', person, practice, locality, \
     printf('018f%08x-episode', i), printf('018f%08x-plan', i), case when i % 5 < 2 then 'received' else 'closed' end, '', \
     received, received from r where ?1 + ?2 + ?3 is not null",
    "insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body) select 'Patient', person, 1, received, false, '', person, '', 101, json_object('resourceType', \
     'Patient', 'id', person, 'meta', json_object('versionId', '1', 'lastUpdated', '2026-01-01T00:00:00.000Z'), 'active', \
     json('true'), 'name', json_array(json_object('family', printf('Family%d', i % 5003), 'given', json_array('Given'))), \
     'gender', 'female', 'generalPractitioner', json_array(json_object('type', 'Organization', 'identifier', json_object( \
     'system', 'https://fhir.nhs.uk/Id/ods-organization-code', 'value', practice)))) from r where ?1 + ?2 + ?3 is not null",
    "insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body) select 'ServiceRequest', id, 1, received, false, practice, person, id, 101, json_object( \
     'resourceType', 'ServiceRequest', 'id', id, 'meta', json_object('versionId', '1', 'lastUpdated', \
     '2026-01-01T00:00:00.000Z'), 'identifier', json_array(json_object('use', 'secondary', 'system', \
     'https://livewell.example/Id/referral-reference', 'value', reference)), 'status', 'active', 'intent', 'order', \
     'priority', 'routine', 'code', json_object('text', 'Social prescribing'), 'subject', json_object('reference', \
     'Patient/' || person), 'authoredOn', '2026-01-01', 'requester', json_object('type', 'Organization', 'identifier', \
     json_object('system', 'https://fhir.nhs.uk/Id/ods-organization-code', 'value', practice)), 'reasonCode', \
     json_array(json_object('text', 'Lives alone since the summer, would like company.'))) from r \
     where ?1 + ?2 + ?3 is not null",
    "insert into lookup select 'ServiceRequest', 'identifier', reference, \
     'https://livewell.example/Id/referral-reference', id from r where ?1 + ?2 + ?3 is not null \
     union all select 'ServiceRequest', 'status', 'active', '', id from r \
     union all select 'Patient', 'family', printf('family%d', i % 5003), '', person from r \
     union all select 'Patient', 'gender', 'female', '', person from r",
    "insert into task with recursive n(t) as (select 0 union all select t + 1 from n where t + 1 < ?1), \
     s as (select t, t * 48271 % 20 as k from n) \
     select printf('018f%08x-task', t), 1, case when k < 8 then 'requested' when k = 8 then 'accepted' else 'completed' \
     end, case t % {each} when 0 then 'contact-patient' when 1 then 'first-meeting' else 'review' end, 'health-coach', \
     r.locality, r.practice, case when k = 8 then 'PractitionerRole/' || replace(r.locality, 'locality', 'coach') else '' \
     end, case when t * 7919 % 50 = 0 then 2 else 3 end, \
     case when t % 10 = 3 then ?2 + ?3 / 2 else r.received end, \
     case when t % 10 = 3 then ?2 + ?3 else r.received + 172800000000 end, r.id, r.person, r.received, k < 9, 0 \
     from s join r on r.i = s.t / {each}",
    "insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, indexed, body) select 'Task', id, 1, created_at, false, practice, person, referral, 101, json_object('resourceType', \
     'Task', 'id', id, 'meta', json_object('versionId', '1', 'lastUpdated', '2026-01-01T00:00:00.000Z'), 'status', status, \
     'intent', 'order', 'priority', case priority when 2 then 'urgent' else 'routine' end, 'code', json_object('coding', \
     json_array(json_object('system', 'https://livewell.example/CodeSystem/task-code', 'code', code))), 'focus', \
     json_object('reference', 'ServiceRequest/' || referral), 'for', json_object('reference', 'Patient/' || person), \
     'authoredOn', '2026-01-01T00:00:00.000Z', 'lastModified', '2026-01-01T00:00:00.000Z', 'performerType', json_array( \
     json_object('coding', json_array(json_object('system', 'https://livewell.example/CodeSystem/role', 'code', role)))), \
     'location', json_object('reference', 'Location/' || locality), 'restriction', json_object('period', \
     json_object('end', '2026-01-03T00:00:00.000Z')), 'description', 'Speak with the person and find out what matters') \
     from task where ?1 + ?2 + ?3 is not null",
];
