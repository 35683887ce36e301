//! Write-back: queued with its cause, prepared when it is sent, settled when the practice has answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::systems::{NHS_NUMBER, ODS, REFERRAL_REFERENCE};
use crate::fhir::{Resource, path};
use crate::pathway::delivery::{Delivery, DeliveryState, Reason, Verdict};
use crate::pathway::write_back::{Contents, Logical, Outgoing, PracticeCopy, Record, detail, outgoing};
use crate::store::{
    At, AttemptRow, DeliveryItem, DeliveryRow, Leased, NewDelivery, PersonRow, PracticeCopyRow, Sight, Store,
    StoreError, Tx,
};

use super::submit::references;
use super::{Actor, Error, House, Result, Unit, tasks};

/// Waits for an Endpoint of the practice.
const NO_ENDPOINT: &str = "no-endpoint";
/// Waits for someone to say which practice the person has.
const NO_PRACTICE: &str = "no-practice";
/// Waits for the person's identity to be settled.
const NO_IDENTITY: &str = "no-identity";

/// Queues what was recorded for the practice whose record hears of it. Without one, or without a way there, it is held
/// and a co-ordinator is asked: nothing is dropped.
pub(super) async fn queue(unit: &mut Unit<'_>, person: &str, referral: &str, items: Vec<DeliveryItem>) -> Result<()> {
    let Some(person) = unit.tx.person(person).await? else { return Ok(()) };
    let practice = practice_of(unit, &person, referral).await?;
    let why = if person.nhs_number.is_none() {
        NO_IDENTITY
    } else if practice.is_empty() {
        NO_PRACTICE
    } else if endpoint(&mut unit.tx, &practice).await?.is_none() {
        NO_ENDPOINT
    } else {
        ""
    };
    let delivery = Delivery::queued(why.is_empty(), unit.now);
    unit.tx
        .insert_delivery(&NewDelivery {
            id: Unit::new_id(),
            practice: practice.clone(),
            person: person.id.clone(),
            referral: referral.to_owned(),
            items,
            author: unit.actor.staff.as_ref().map(|s| s.reference.clone()).unwrap_or_default(),
            state: delivery.state.code(),
            why,
            due_at: delivery.due_at.map_or(At::NEVER, At::from),
            created_at: unit.now.into(),
        })
        .await?;
    match why {
        NO_PRACTICE if !open_for_person(unit, &person, "find-practice").await? => {
            tasks::for_co_ordinator(unit, "find-practice", &person, "", referral).await
        }
        NO_ENDPOINT => ask_for_endpoint(unit, &practice).await,
        _ => Ok(()),
    }
}

async fn open_for_person(unit: &mut Unit<'_>, person: &PersonRow, code: &str) -> Result<bool> {
    let stored = unit.tx.resources_of_person(&person.id, "Task").await?;
    for task in &stored {
        let task = task.resource()?;
        if task.text("code.coding.code") == Some(code) && task.text("status") == Some("requested") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The registered practice, else the practice that sent the referral.
async fn practice_of(unit: &mut Unit<'_>, person: &PersonRow, referral: &str) -> Result<String> {
    if !person.practice.is_empty() {
        return Ok(person.practice.clone());
    }
    Ok(unit.tx.referral(referral).await?.map(|r| r.practice).unwrap_or_default())
}

/// The FHIR base of a practice: the address of an active Endpoint that its Organization names.
async fn endpoint(tx: &mut Tx, practice: &str) -> Result<Option<String>> {
    let Some(organization) = tx.directory_organization(practice).await? else { return Ok(None) };
    for reference in organization.all("endpoint.reference").into_iter().filter_map(Value::as_str) {
        let Some(id) = reference.strip_prefix("Endpoint/") else { continue };
        if let Some(endpoint) = tx.directory_resource("Endpoint", id).await?
            && endpoint.text("status") == Some("active")
            && endpoint.text("connectionType.code") == Some("hl7-fhir-rest")
        {
            return Ok(endpoint.text("address").map(|address| address.trim_end_matches('/').to_owned()));
        }
    }
    Ok(None)
}

/// A person is known now: what waited for that goes.
pub(super) async fn identity_is_settled(unit: &mut Unit<'_>, person: &PersonRow) -> Result<()> {
    for why in [NO_IDENTITY, NO_PRACTICE] {
        for waiting in unit.tx.waiting_deliveries("", &person.id, why).await? {
            let practice = practice_of(unit, person, &waiting.referral).await?;
            if person.nhs_number.is_some() && !practice.is_empty() {
                unit.tx.release_delivery(&waiting.id, &practice, unit.now.into()).await?;
            }
        }
    }
    Ok(())
}

/// A practice's Endpoint is in the directory now: what waited for it goes.
pub(super) async fn route_is_known(unit: &mut Unit<'_>, practice: &str) -> Result<()> {
    if endpoint(&mut unit.tx, practice).await?.is_none() {
        return Ok(());
    }
    for waiting in unit.tx.waiting_deliveries(practice, "", NO_ENDPOINT).await? {
        unit.tx.release_delivery(&waiting.id, practice, unit.now.into()).await?;
    }
    Ok(())
}

/// A delivery in the hands of a worker, with what is to be sent.
pub struct Dispatch {
    pub leased: Leased,
    /// FHIR base of the practice.
    pub address: String,
    pub nhs_number: String,
    pub birth_date: Option<String>,
    pub family: Option<String>,
    /// Empty when consent lets nothing of it leave.
    pub outgoing: Vec<Outgoing>,
    /// An earlier attempt was made, so that what it sent may be there.
    pub look_first: bool,
}

/// Takes up to `limit` deliveries that are due, each for `lease` at most.
pub async fn lease(store: &Store, now: DateTime<Utc>, lease: chrono::Duration, limit: i64) -> Result<Vec<Leased>> {
    let mut tx = store.write().await?;
    let leased = tx.lease_deliveries(now.into(), (now + lease).into(), limit).await?;
    tx.commit().await?;
    Ok(leased)
}

/// Puts together what a leased delivery sends, from what is recorded and consented to now.
pub async fn prepare(store: &Store, house: &House, leased: Leased) -> Result<std::result::Result<Dispatch, Leased>> {
    let mut tx = store.read().await?;
    let person = tx.person(&leased.person).await?.ok_or(Error::NotFound)?;
    let (Some(nhs_number), Some(address)) = (person.nhs_number.clone(), endpoint(&mut tx, &leased.practice).await?)
    else {
        return Ok(Err(leased));
    };
    let mut resources = Vec::new();
    for item in leased.items()? {
        let row = tx.version(&item.kind, &item.id, item.version, &Sight::Everything).await?.ok_or(Error::NotFound)?;
        let value = serde_json::from_str(&row.body).map_err(|e| corrupt(&leased, &e.to_string()))?;
        resources.push((Resource::from_value(value)?, item.version));
    }
    let consents = tx.resources_of_person(&person.id, "Consent").await?;
    let consents = consents.iter().map(crate::store::Stored::resource).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut patients = BTreeSet::from([format!("Patient/{}", person.id)]);
    patients.extend(tx.resources_of_person(&person.id, "Patient").await?.iter().map(|p| format!("Patient/{}", p.id)));

    let mut copies = BTreeMap::new();
    let mut directory = BTreeMap::new();
    for (resource, _) in &resources {
        let mut keys = vec![resource.reference()];
        keys.extend(references(resource).into_iter().map(|(reference, _)| reference));
        for key in keys {
            if let Some(copy) = tx.practice_copy(&leased.practice, &key).await? {
                let version = (!copy.practice_version.is_empty()).then_some(copy.practice_version);
                copies.insert(key.clone(), PracticeCopy { reference: copy.practice_reference, version });
            }
            if let Some(logical) = logical(&mut tx, house, &key).await? {
                directory.insert(key, logical);
            }
        }
    }
    let organization = Logical {
        kind: "Organization".to_owned(),
        identifier: Some((ODS.to_owned(), house.organization())),
        display: tx
            .directory_organization(&house.organization())
            .await?
            .and_then(|o| o.text("name").map(str::to_owned)),
    };
    let author = match logical(&mut tx, house, &leased.author).await? {
        Some(author) => author,
        None => organization.clone(),
    };
    let records: Vec<Record<'_>> = resources
        .iter()
        .map(|(resource, version)| Record { resource, version: u64::try_from(*version).unwrap_or(1) })
        .collect();
    let outgoing = outgoing(&Contents {
        delivery_id: &leased.id,
        recorded: leased.created_at.time(),
        records: &records,
        person: &patients,
        copies: &copies,
        directory: &directory,
        author: &author,
        organization: &organization,
        detail: detail(&consents),
    });
    let look_first = leased.attempts > 1;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Ok(Dispatch {
        address,
        nhs_number,
        birth_date: some(&person.birth_date),
        family: some(&person.family),
        outgoing,
        look_first,
        leased,
    }))
}

fn corrupt(leased: &Leased, why: &str) -> Error {
    Error::Store(StoreError::Corrupt { table: "delivery", id: leased.id.clone(), why: why.to_owned() })
}

/// What a reference of ours means to a practice that has none of our resources: an identifier and a name.
async fn logical(tx: &mut Tx, house: &House, reference: &str) -> Result<Option<Logical>> {
    let Some((kind, id)) = house.local(reference) else { return Ok(None) };
    if kind == "ServiceRequest" {
        let identifier = tx.referral(id).await?.map(|r| (REFERRAL_REFERENCE.to_owned(), r.reference));
        return Ok(Some(Logical { kind: kind.to_owned(), display: None, identifier }));
    }
    if !matches!(
        kind,
        "PractitionerRole" | "Practitioner" | "Organization" | "Location" | "HealthcareService" | "CareTeam"
    ) {
        return Ok(None);
    }
    let Some(resource) = tx.directory_resource(kind, id).await? else { return Ok(None) };
    let mut display = name_of(&resource);
    if kind == "PractitionerRole"
        && let Some(id) = resource.text("practitioner.reference").and_then(|r| r.strip_prefix("Practitioner/"))
        && let Some(practitioner) = tx.directory_resource("Practitioner", id).await?
    {
        let role = resource.text("code.coding.display").or_else(|| resource.text("code.text")).map(str::to_lowercase);
        display = name_of(&practitioner).map(|name| match role {
            Some(role) => format!("{name}, {role}"),
            None => name,
        });
    }
    Ok(Some(Logical { kind: kind.to_owned(), identifier: first_identifier(&resource), display }))
}

fn name_of(resource: &Resource) -> Option<String> {
    if let Some(Value::String(name)) = resource.value().get("name") {
        return Some(name.clone());
    }
    let name = *resource.all("name").first()?;
    if let Some(text) = path::text(name, "text") {
        return Some(text.to_owned());
    }
    let given = path::text(name, "given").unwrap_or_default();
    let family = path::text(name, "family").unwrap_or_default();
    Some(format!("{given} {family}").trim().to_owned()).filter(|n| !n.is_empty())
}

fn first_identifier(resource: &Resource) -> Option<(String, String)> {
    resource
        .all("identifier")
        .into_iter()
        .filter(|i| path::text(i, "system") != Some(NHS_NUMBER))
        .find_map(|i| Some((path::text(i, "system")?.to_owned(), path::text(i, "value")?.to_owned())))
}

/// How an attempt ended.
pub struct Attempted<'a> {
    pub verdict: &'a Verdict,
    pub at: DateTime<Utc>,
    pub took: Duration,
    /// A uniform number from 0 to 1, for the jitter of the next attempt.
    pub random: f64,
}

/// Writes down what an attempt came to, and what follows from it. False when the lease was lost meanwhile: another
/// worker has it then, and nothing is written.
pub async fn settle(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    leased: &Leased,
    sent: &[Outgoing],
    attempted: &Attempted<'_>,
) -> Result<bool> {
    let mut unit = Unit::begin(store, house, actor, now, &leased.id).await?;
    let after = delivery_of(leased)?
        .attempted(attempted.verdict, attempted.took, now, attempted.random)
        .map_err(|e| corrupt(leased, &e.to_string()))?;
    let (name, why, answer) = said(attempted.verdict);
    let why = after.reason.map_or(why, |reason| reason.code().to_owned());
    if !unit.tx.settle_delivery(&row_after(leased, &after, &why, now)).await? {
        return Ok(false);
    }
    unit.tx
        .insert_attempt(&AttemptRow {
            delivery: leased.id.clone(),
            number: leased.attempts,
            at: attempted.at.into(),
            duration_ms: i64::try_from(attempted.took.as_millis()).unwrap_or(i64::MAX),
            verdict: name.to_owned(),
            why: why.clone(),
            answer,
        })
        .await?;
    if let Verdict::Delivered { receipts } = attempted.verdict {
        for receipt in receipts {
            let our_version =
                sent.iter().find(|o| o.key == receipt.key).map_or(0, |o| i64::try_from(o.version).unwrap_or(0));
            unit.tx
                .put_practice_copy(&PracticeCopyRow {
                    practice: leased.practice.clone(),
                    record: receipt.key.clone(),
                    practice_reference: receipt.practice_reference.clone(),
                    practice_version: receipt.practice_version.clone().unwrap_or_default(),
                    our_version,
                })
                .await?;
        }
    }
    if matches!(after.state, DeliveryState::NeedsPerson | DeliveryState::Refused)
        && let Some(person) = unit.tx.person(&leased.person).await?
        && !open_for_person(&mut unit, &person, "delivery-failed").await?
    {
        tasks::for_co_ordinator(&mut unit, "delivery-failed", &person, &leased.practice, &leased.referral).await?;
    }
    unit.audit(
        &format!("delivery {}", after.state.code()),
        &format!("Organization/{}", leased.practice),
        &leased.person,
    );
    unit.commit().await?;
    Ok(true)
}

/// Holds a leased delivery that has no way to go any more, and asks a co-ordinator for one.
pub async fn hold(store: &Store, house: &House, actor: &Actor, now: DateTime<Utc>, leased: &Leased) -> Result<()> {
    let mut unit = Unit::begin(store, house, actor, now, &leased.id).await?;
    let after = delivery_of(leased)?.route_lost().map_err(|e| corrupt(leased, &e.to_string()))?;
    if unit.tx.settle_delivery(&row_after(leased, &after, NO_ENDPOINT, now)).await? {
        ask_for_endpoint(&mut unit, &leased.practice).await?;
        unit.commit().await?;
    }
    Ok(())
}

/// One open Task for a practice that has no Endpoint.
async fn ask_for_endpoint(unit: &mut Unit<'_>, practice: &str) -> Result<()> {
    if unit.tx.has_open_task_for_practice(practice, "no-route").await? {
        return Ok(());
    }
    tasks::for_co_ordinator(unit, "no-route", &nobody(), practice, "").await
}

/// Stands where a Task is about no person.
fn nobody() -> PersonRow {
    let [id, birth_date, family, practice, locality] = [const { String::new() }; 5];
    PersonRow { id, nhs_number: None, birth_date, family, practice, locality }
}

fn delivery_of(row: &DeliveryRow) -> Result<Delivery> {
    let state = DeliveryState::from_code(&row.state).ok_or_else(|| corrupt(row, "its state is unknown"))?;
    Ok(Delivery {
        state,
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
        queued_at: row.queued_at.time(),
        due_at: Some(row.due_at.time()),
        reason: (row.why == Reason::OutcomeUnknown.code()).then_some(Reason::OutcomeUnknown),
    })
}

fn row_after(leased: &Leased, after: &Delivery, why: &str, now: DateTime<Utc>) -> Leased {
    let settled = after.due_at.is_none() && after.state != DeliveryState::NoRoute;
    Leased {
        state: after.state.code().to_owned(),
        why: why.to_owned(),
        failures: i64::from(after.failures),
        queued_at: after.queued_at.into(),
        due_at: after.due_at.map_or(At::NEVER, At::from),
        settled_at: settled.then(|| now.into()),
        ..leased.clone()
    }
}

/// The verdict in a word, why, and the practice's redacted answer.
fn said(verdict: &Verdict) -> (&'static str, String, String) {
    match verdict {
        Verdict::Delivered { .. } => ("delivered", String::new(), String::new()),
        Verdict::Retry { why, .. } => ("retry", why.code(), String::new()),
        Verdict::Refused { why, outcome } => ("refused", why.code(), outcome.clone().unwrap_or_default()),
        Verdict::Unknown { why } => ("unknown", why.code(), String::new()),
        Verdict::NeedsPerson { reason } => ("needs-person", reason.code().to_owned(), String::new()),
    }
}
