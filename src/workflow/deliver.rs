//! Write-back: queued with its cause, prepared when it is sent, settled when the practice has answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::systems::{NHS_NUMBER, ODS, REFERRAL_REFERENCE};
use crate::fhir::{Resource, path};
use crate::pathway::delivery::{Delivery, DeliveryState, Reason, Verdict};
use crate::pathway::write_back::{Contents, Detail, Logical, Outgoing, PracticeCopy, Record, detail, outgoing};
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
    unit.hold_person(person).await?;
    let Some(person) = unit.tx.person(person).await? else { return Ok(()) };
    let practice = practice_of(unit, &person, referral).await?;
    let why = waits_for(unit, &person, &practice).await?;
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
    ask(unit, why, &person, &practice, referral).await
}

/// What a delivery about a person to a practice has to wait for; '' for nothing.
async fn waits_for(unit: &mut Unit<'_>, person: &PersonRow, practice: &str) -> Result<&'static str> {
    Ok(if person.nhs_number.is_none() {
        NO_IDENTITY
    } else if practice.is_empty() {
        NO_PRACTICE
    } else if has_no_route(unit, practice).await? {
        NO_ENDPOINT
    } else {
        ""
    })
}

/// Asks a co-ordinator for what is waited for, once while such a Task is open.
async fn ask(unit: &mut Unit<'_>, why: &str, person: &PersonRow, practice: &str, referral: &str) -> Result<()> {
    match why {
        NO_PRACTICE if !unit.tx.has_open_task_for_person(&person.id, "find-practice").await? => {
            tasks::for_co_ordinator(unit, "find-practice", person, "", referral).await
        }
        NO_ENDPOINT if !unit.tx.has_open_task_for_practice(practice, "no-route").await? => {
            let nobody = PersonRow { id: String::new(), ..person.clone() };
            tasks::for_co_ordinator(unit, "no-route", &nobody, practice, "").await
        }
        _ => Ok(()),
    }
}

/// Whether there is no way to a practice. Looked at again once nobody can be loading one.
async fn has_no_route(unit: &mut Unit<'_>, practice: &str) -> Result<bool> {
    if endpoint(&mut unit.tx, practice).await?.is_some() {
        return Ok(false);
    }
    unit.hold_practice(practice).await?;
    Ok(endpoint(&mut unit.tx, practice).await?.is_none())
}

/// The registered practice, else the practice that sent the referral.
async fn practice_of(unit: &mut Unit<'_>, person: &PersonRow, referral: &str) -> Result<String> {
    if !person.practice.is_empty() {
        return Ok(person.practice.clone());
    }
    Ok(unit.tx.referral(referral).await?.map(|r| r.practice).unwrap_or_default())
}

/// The FHIR base of a practice: the address of an active Endpoint that its Organization names.
pub(super) async fn endpoint(tx: &mut Tx, practice: &str) -> Result<Option<String>> {
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

/// More is known of a person now: what waited for that goes, or waits for the next thing.
pub(super) async fn identity_is_settled(unit: &mut Unit<'_>, person: &PersonRow) -> Result<()> {
    for waiting in unit.tx.waiting_deliveries("", &person.id).await? {
        let practice = practice_of(unit, person, &waiting.referral).await?;
        match waits_for(unit, person, &practice).await? {
            "" => unit.tx.release_delivery(&waiting.id, &practice, unit.now.into()).await?,
            why => {
                unit.tx.hold_delivery(&waiting.id, &practice, why).await?;
                ask(unit, why, person, &practice, &waiting.referral).await?;
            }
        }
    }
    Ok(())
}

/// Looks again for ways to practices that deliveries wait for: an Endpoint may have come by any door.
pub async fn look_for_routes(store: &Store, house: &House, now: DateTime<Utc>) -> Result<()> {
    let mut tx = store.read().await?;
    let mut found = Vec::new();
    for practice in tx.practices_waited_for(NO_ENDPOINT).await? {
        if endpoint(&mut tx, &practice).await?.is_some() {
            found.push(practice);
        }
    }
    drop(tx);
    let actor = Actor::service(&house.organization());
    for practice in found {
        let mut unit = Unit::begin(store, house, &actor, now, "routes").await?;
        route_is_known(&mut unit, &practice).await?;
        unit.commit().await?;
    }
    Ok(())
}

/// A practice's Endpoint is in the directory now: what waited for it goes.
pub(super) async fn route_is_known(unit: &mut Unit<'_>, practice: &str) -> Result<()> {
    if endpoint(&mut unit.tx, practice).await?.is_none() {
        return Ok(());
    }
    unit.hold_practice(practice).await?;
    for waiting in unit.tx.waiting_deliveries(practice, "").await?.into_iter().filter(|w| w.why == NO_ENDPOINT) {
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

/// What became of putting a delivery together.
pub enum Prepared {
    Ready(Box<Dispatch>),
    /// It has no way to go any more.
    Held {
        leased: Box<Leased>,
        why: &'static str,
    },
}

/// Takes up to `limit` deliveries that are due, each for `lease` at most.
pub async fn lease(store: &Store, now: DateTime<Utc>, lease: chrono::Duration, limit: i64) -> Result<Vec<Leased>> {
    let mut tx = store.write().await?;
    let leased = tx.lease_deliveries(now.into(), (now + lease).into(), limit).await?;
    tx.commit().await?;
    Ok(leased)
}

/// Puts together what a leased delivery sends, from what is recorded and consented to now.
pub async fn prepare(store: &Store, house: &House, leased: Leased) -> Result<Prepared> {
    let mut tx = store.read().await?;
    let person = tx.person(&leased.person).await?.ok_or(Error::NotFound)?;
    let Some(nhs_number) = person.nhs_number.clone() else {
        return Ok(Prepared::Held { leased: Box::new(leased), why: NO_IDENTITY });
    };
    let Some(address) = endpoint(&mut tx, &leased.practice).await? else {
        return Ok(Prepared::Held { leased: Box::new(leased), why: NO_ENDPOINT });
    };
    let mut resources = Vec::new();
    for item in leased.items()? {
        let key = format!("{}/{}", item.kind, item.id);
        let held = tx.practice_copy(&leased.practice, &key).await?;
        if held.is_some_and(|copy| copy.our_version >= item.version) {
            // A later version is there already: an older one must not replace it.
            continue;
        }
        let current = tx.resource(&item.kind, &item.id, &Sight::Everything).await?;
        if current.is_none_or(|current| current.person != leased.person) {
            return Err(corrupt(&leased, "it carries something that is not this person's"));
        }
        let row = tx.version(&item.kind, &item.id, item.version, &Sight::Everything).await?.ok_or(Error::NotFound)?;
        let value = serde_json::from_str(&row.body).map_err(|e| corrupt(&leased, &e.to_string()))?;
        resources.push((Resource::from_value(value)?, item.version));
    }
    let consents = consents(&mut tx, house, &person).await?;
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
    Ok(Prepared::Ready(Box::new(Dispatch {
        address,
        nhs_number,
        birth_date: some(&person.birth_date),
        family: some(&person.family),
        outgoing,
        look_first,
        leased,
    })))
}

/// What decides how much leaves: every Consent that Live Well recorded, and those of others that deny. A permission that
/// somebody else says they have is none.
async fn consents(tx: &mut Tx, house: &House, person: &PersonRow) -> Result<Vec<Resource>> {
    let mut consents = Vec::new();
    for stored in tx.resources_of_person(&person.id, "Consent").await? {
        let consent = stored.resource()?;
        if stored.sender == house.organization() || detail(std::slice::from_ref(&consent)) == Detail::CodedOnly {
            consents.push(consent);
        }
    }
    Ok(consents)
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
        && !unit.tx.has_open_task_for_person(&person.id, "delivery-failed").await?
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

/// Holds a leased delivery that has no way to go any more, and asks for one. That an outcome was unclear is kept.
pub async fn hold(store: &Store, house: &House, now: DateTime<Utc>, leased: &Leased, why: &str) -> Result<()> {
    let after = delivery_of(leased)?.route_lost().map_err(|e| corrupt(leased, &e.to_string()))?;
    let actor = Actor::service(&house.organization());
    let mut unit = Unit::begin(store, house, &actor, now, &leased.id).await?;
    if unit.tx.settle_delivery(&row_after(leased, &after, why, now)).await?
        && let Some(person) = unit.tx.person(&leased.person).await?
    {
        ask(&mut unit, why, &person, &leased.practice, &leased.referral).await?;
    }
    unit.commit().await?;
    Ok(())
}

/// Ends a leased delivery of which nothing may leave: consent forbids it, or the practice has it all already.
pub async fn nothing_to_send(store: &Store, now: DateTime<Utc>, leased: &Leased) -> Result<()> {
    let delivery = Delivery { state: DeliveryState::Pending, ..delivery_of(leased)? };
    let after = delivery.cancelled().map_err(|e| corrupt(leased, &e.to_string()))?;
    let mut tx = store.write().await?;
    tx.settle_delivery(&row_after(leased, &after, "nothing-to-send", now)).await?;
    Ok(tx.commit().await?)
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
