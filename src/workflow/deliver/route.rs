//! Which practice hears of what was recorded, and the way there. What has none waits, and somebody is asked for it.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::Resource;
use crate::fhir::systems::CONNECTION_TYPE;
use crate::pathway::delivery::Delivery;
use crate::store::{At, DeliveryItem, DeliveryRow, NewDelivery, PersonRow, Store, Tx};

use super::super::{Actor, House, Result, Unit, tasks};
use super::own_words;

/// Waits for an Endpoint of the practice.
pub(super) const NO_ENDPOINT: &str = "no-endpoint";
/// Waits for someone to say which practice the person has.
pub(super) const NO_PRACTICE: &str = "no-practice";
/// Waits for the person's identity to be settled.
pub(super) const NO_IDENTITY: &str = "no-identity";

/// Queues what was recorded for the practice whose record hears of it. Without one, or without a way there, it is held
/// and a co-ordinator is asked: nothing is dropped but the person's own words, where they did not agree.
pub(in crate::workflow) async fn queue(
    unit: &mut Unit<'_>,
    person: &str,
    referral: &str,
    items: Vec<DeliveryItem>,
) -> Result<()> {
    unit.hold_person(person).await?;
    let Some(person) = unit.tx.person(person).await? else { return Ok(()) };
    let practice = practice_of(unit, &person, referral).await?;
    for (earlier, corrections) in corrected_elsewhere(unit, &person.id, &practice, &items).await? {
        queue_for(unit, &person, &earlier, referral, corrections).await?;
    }
    let items = own_words::with_agreement(unit, &person.id, &practice, items).await?;
    queue_for(unit, &person, &practice, referral, items).await
}

async fn queue_for(
    unit: &mut Unit<'_>,
    person: &PersonRow,
    practice: &str,
    referral: &str,
    items: Vec<DeliveryItem>,
) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let why = waits_for(unit, person, practice).await?;
    let delivery = Delivery::queued(why.is_empty(), unit.now);
    unit.tx
        .insert_delivery(&NewDelivery {
            id: Unit::new_id(),
            purpose: "write-back",
            practice: practice.to_owned(),
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
    ask(unit, why, person, practice, referral).await
}

/// What of this corrects what other practices have, or are about to have: somebody who moved on left a copy behind, which
/// would stay wrong.
async fn corrected_elsewhere(
    unit: &mut Unit<'_>,
    person: &str,
    practice: &str,
    items: &[DeliveryItem],
) -> Result<Vec<(String, Vec<DeliveryItem>)>> {
    let mut changed = Vec::new();
    for item in items.iter().filter(|item| item.version > 1) {
        if is_correction(unit, item).await? {
            changed.push(item);
        }
    }
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let mut elsewhere = Vec::new();
    for other in unit.tx.practices_told_of(person).await?.into_iter().filter(|other| other != practice) {
        let on_the_way = on_the_way(unit, &other, person).await?;
        let mut corrections = Vec::new();
        for item in &changed {
            let is_this = |sent: &DeliveryItem| (&sent.kind, &sent.id) == (&item.kind, &item.id);
            if on_the_way.iter().any(is_this) || has_copy(unit, &other, item).await? {
                corrections.push((*item).clone());
            }
        }
        let mut agreed = own_words::with_agreement(unit, person, &other, corrections.clone()).await?;
        // What they share only now is for the practice they have now.
        agreed.retain(|item| corrections.contains(item));
        elsewhere.push((other, agreed));
    }
    Ok(elsewhere)
}

/// Whether a change says that what was recorded was wrong. How a goal, a plan or an agreement goes on is for the practice
/// that the person has now.
async fn is_correction(unit: &mut Unit<'_>, item: &DeliveryItem) -> Result<bool> {
    if matches!(item.kind.as_str(), "Encounter" | "Observation" | "Communication") {
        return Ok(true);
    }
    let seen = unit.get(&item.kind, &item.id).await?;
    let status = seen.as_ref().and_then(|seen| seen.resource.text("status").or(seen.resource.text("lifecycleStatus")));
    Ok(status == Some("entered-in-error"))
}

/// What is going to a practice about a person, and has not arrived.
async fn on_the_way(unit: &mut Unit<'_>, practice: &str, person: &str) -> Result<Vec<DeliveryItem>> {
    let mut items = Vec::new();
    for open in unit.tx.open_deliveries(practice, person).await? {
        items.extend(open.items()?);
    }
    Ok(items)
}

async fn has_copy(unit: &mut Unit<'_>, practice: &str, item: &DeliveryItem) -> Result<bool> {
    let record = format!("{}/{}", item.kind, item.id);
    Ok(unit.tx.practice_copy(practice, &record).await?.is_some())
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
pub(super) async fn ask(
    unit: &mut Unit<'_>,
    why: &str,
    person: &PersonRow,
    practice: &str,
    referral: &str,
) -> Result<()> {
    match why {
        NO_IDENTITY if !unit.tx.has_open_task_for_person(&person.id, "resolve-identity").await? => {
            tasks::for_co_ordinator(unit, "resolve-identity", person, "", referral).await
        }
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

/// The way to a practice's record, as its Endpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Its FHIR base.
    FhirRest { address: String },
    /// Its MESH mailbox.
    Mesh { mailbox: String },
}

impl Route {
    /// The channel's name in columns and answers.
    pub fn channel(&self) -> &'static str {
        match self {
            Route::FhirRest { .. } => "fhir-rest",
            Route::Mesh { .. } => "mesh",
        }
    }

    /// The FHIR base or the mailbox.
    pub fn address(&self) -> &str {
        match self {
            Route::FhirRest { address } => address,
            Route::Mesh { mailbox } => mailbox,
        }
    }
}

/// The way to a practice: the first active Endpoint that its Organization names and that is of a kind we know.
pub(in crate::workflow) async fn endpoint(tx: &mut Tx, practice: &str) -> Result<Option<Route>> {
    let Some(organization) = tx.directory_organization(practice).await? else { return Ok(None) };
    for reference in organization.all("endpoint.reference").into_iter().filter_map(Value::as_str) {
        let Some(id) = reference.strip_prefix("Endpoint/") else { continue };
        if let Some(endpoint) = tx.directory_resource("Endpoint", id).await?
            && endpoint.text("status") == Some("active")
            && let Some(route) = route(&endpoint)
        {
            return Ok(Some(route));
        }
    }
    Ok(None)
}

fn route(endpoint: &Resource) -> Option<Route> {
    let address = endpoint.text("address").map(str::trim).filter(|address| !address.is_empty())?;
    match (endpoint.text("connectionType.system"), endpoint.text("connectionType.code")?) {
        (Some(CONNECTION_TYPE), "mesh") => Some(Route::Mesh { mailbox: address.to_owned() }),
        (_, "hl7-fhir-rest") => Some(Route::FhirRest { address: address.trim_end_matches('/').to_owned() }),
        _ => None,
    }
}

/// More is known of a person now: what waited for that goes, or waits for the next thing.
pub(in crate::workflow) async fn identity_is_settled(unit: &mut Unit<'_>, person: &PersonRow) -> Result<()> {
    if person.nhs_number.is_some() {
        tasks::ask_no_longer(unit, &person.id, "resolve-identity").await?;
    }
    for waiting in unit.tx.waiting_deliveries("", &person.id).await? {
        let practice = match corrects(unit, &waiting).await? {
            true => waiting.practice.clone(),
            false => practice_of(unit, person, &waiting.referral).await?,
        };
        match waits_for(unit, person, &practice).await? {
            "" => unit.tx.release_delivery(&waiting, &practice, unit.now.into()).await?,
            why => {
                unit.tx.hold_delivery(&waiting, &practice, why).await?;
                ask(unit, why, person, &practice, &waiting.referral).await?;
            }
        }
    }
    Ok(())
}

/// Whether a delivery corrects what its practice has: it goes there, wherever the person is registered by now.
async fn corrects(unit: &mut Unit<'_>, delivery: &DeliveryRow) -> Result<bool> {
    for item in delivery.items()? {
        if !has_copy(unit, &delivery.practice, &item).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Looks again for ways to practices that deliveries wait for, and for what they wait to know of people: either may have
/// come by any door.
pub async fn look_for_routes(store: &Store, house: &House, now: DateTime<Utc>) -> Result<()> {
    let mut tx = store.read().await?;
    let mut found = Vec::new();
    for practice in tx.practices_waited_for(NO_ENDPOINT).await? {
        if endpoint(&mut tx, &practice).await?.is_some() {
            found.push(practice);
        }
    }
    let people = tx.people_waited_for().await?;
    drop(tx);
    let actor = Actor::service(&house.organization());
    for practice in found {
        let mut unit = Unit::begin(store, house, &actor, now, "routes").await?;
        route_is_known(&mut unit, &practice).await?;
        unit.commit().await?;
    }
    for person in people {
        let mut unit = Unit::begin(store, house, &actor, now, "routes").await?;
        unit.hold_person(&person).await?;
        if let Some(person) = unit.tx.person(&person).await? {
            identity_is_settled(&mut unit, &person).await?;
        }
        unit.commit().await?;
    }
    Ok(())
}

/// A practice's Endpoint is in the directory now: what waited for it goes.
pub(in crate::workflow) async fn route_is_known(unit: &mut Unit<'_>, practice: &str) -> Result<()> {
    if endpoint(&mut unit.tx, practice).await?.is_none() {
        return Ok(());
    }
    unit.hold_practice(practice).await?;
    for waiting in unit.tx.waiting_deliveries(practice, "").await?.into_iter().filter(|w| w.why == NO_ENDPOINT) {
        unit.tx.release_delivery(&waiting, practice, unit.now.into()).await?;
    }
    Ok(())
}
