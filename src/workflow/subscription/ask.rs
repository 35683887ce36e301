//! What a subscriber asks: how its subscriptions stand, what happened since, and for another secret.

use chrono::Duration;
use serde_json::{Value, json};

use crate::pathway::notification::{self, Content, Event, Kind, Status};
use crate::store::{EventRow, SubscriptionRow};

use super::super::{Asking, Error, House, Result, Unit};
use super::present::present;
use super::subscribe::{new_secret as make_secret, own};

/// Events in one answer at most; whoever wants more asks on from the last number.
const MOST: i64 = 1000;
/// How long the secret before still signs too.
const OVERLAP: Duration = Duration::hours(24);

/// Which subscriptions are asked about; empty lists do not restrict.
#[derive(Default)]
pub struct Statuses {
    pub ids: Vec<String>,
    pub states: Vec<String>,
}

/// How subscriptions of this client stand. One that it did not make answers like one that is not there.
pub async fn statuses(asking: Asking<'_>, of: &Statuses) -> Result<Value> {
    let mut tx = asking.store.read().await?;
    let base = base(asking.house);
    let rows = tx.subscriptions_of(&asking.actor.client).await?;
    let asked = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
    let found: Vec<&SubscriptionRow> =
        rows.iter().filter(|row| asked(&of.ids, &row.id) && asked(&of.states, &row.state)).collect();
    let all: Vec<Status<'_>> = found.iter().map(|row| status_of(&base, row)).collect();
    Ok(notification::statuses(&base, asking.now, &all))
}

/// What happened for a subscription of this client, from one event number to another, as it may be told now.
pub async fn events(asking: Asking<'_>, id: &str, (from, to): (i64, i64), content: Option<Content>) -> Result<Value> {
    let mut tx = asking.store.read().await?;
    let row = tx.subscription(id).await?.filter(|row| row.client == asking.actor.client).ok_or(Error::NotFound)?;
    let rows = tx.events(id, from, to, MOST).await?;
    let told = may_be_told(&mut tx, asking.house, &row, asking.now, rows).await?;
    drop(tx);
    asking.disclose("$events", &format!("Subscription/{id}"), "").await?;
    let content = match content {
        Some(Content::Empty) => Content::Empty,
        _ => Content::IdOnly,
    };
    let told: Vec<Event> = told.into_iter().map(event_of).collect();
    let base = base(asking.house);
    Ok(notification::bundle(&Unit::new_id(), asking.now, Kind::QueryEvent, &status_of(&base, &row), &told, content))
}

/// A new secret for a subscription of this client, told once. The one before signs too for a day.
pub async fn new_secret(asking: Asking<'_>, id: &str) -> Result<Value> {
    let Asking { store, house, actor, now, request_id } = asking;
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let row = own(&mut unit, id).await?;
    let secret = make_secret(&unit)?;
    let row = SubscriptionRow {
        old_secret: row.secret.clone(),
        old_until: (now + OVERLAP).into(),
        secret: secret.clone(),
        ..row
    };
    unit.tx.put_subscription(&row).await?;
    unit.audit("$new-secret", &format!("Subscription/{id}"), "");
    unit.commit().await?;
    Ok(json!({ "resourceType": "Parameters", "parameter": [{ "name": "secret", "valueString": secret }] }))
}

/// The FHIR base as subscribers know it.
pub(super) fn base(house: &House) -> String {
    format!("{}/fhir", house.base_url)
}

pub(super) fn status_of<'a>(base: &'a str, row: &'a SubscriptionRow) -> Status<'a> {
    Status { base, subscription: &row.id, topic: &row.topic, state: &row.state, error: &row.error, events: row.events }
}

pub(super) fn event_of(row: EventRow) -> Event {
    Event {
        number: row.number,
        at: row.at.time(),
        focus: row.focus,
        interaction: row.interaction,
        context: row.context.split(' ').filter(|c| !c.is_empty()).map(str::to_owned).collect(),
        resource: None,
    }
}

/// Of some events those that the subscriber may hear of now.
pub(super) async fn may_be_told(
    tx: &mut crate::store::Tx,
    house: &House,
    row: &SubscriptionRow,
    now: chrono::DateTime<chrono::Utc>,
    events: Vec<EventRow>,
) -> Result<Vec<EventRow>> {
    let Some(present) = present(tx, house, row, now).await? else { return Ok(Vec::new()) };
    let keys: Vec<(&str, &str)> = events.iter().filter_map(|e| e.focus.split_once('/')).collect();
    let keys: Vec<(&str, &str)> = keys.into_iter().filter(|(kind, _)| present.may_read(kind)).collect();
    let seen = tx.visible(&keys, &present.sight).await?;
    let told = |event: &EventRow| {
        event.focus.split_once('/').is_some_and(|(kind, id)| seen.contains(&(kind.to_owned(), id.to_owned())))
    };
    Ok(events.into_iter().filter(|event| told(event)).collect())
}
