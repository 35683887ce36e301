//! A Subscription is made, changed, ended: who may, and what the machine keeps of it.

use crate::fhir::scope::Interaction;
use crate::fhir::{IssueCode, Resource};
use crate::store::{At, Belongs, SubscriptionRow};

use super::super::{Error, Result, Unit};
use super::read::{Wanted, origin, take};
use super::{queue, show};

/// Subscriptions of one client that are not off, at most: each is looked at in every change.
const MOST: usize = 50;

/// Makes a Subscription: its endpoint is tried first, and it is active once that answered.
pub(in super::super) async fn create(unit: &mut Unit<'_>, mut resource: Resource, expression: &str) -> Result<()> {
    let wanted = take(unit.house, &mut resource, expression)?;
    may_hear(unit, &wanted)?;
    let state = match resource.text("status") {
        Some("off") => "off",
        Some("requested" | "active") => "requested",
        _ => return Err(wrong_status(expression)),
    };
    let of_client = unit.tx.subscriptions_of(&unit.actor.client).await?;
    if state != "off" && of_client.iter().filter(|row| row.state != "off").count() >= MOST {
        return Err(Error::rule(
            IssueCode::TooLong,
            expression,
            format!("A client has at most {MOST} Subscriptions. Switch one off, or let one hear of more."),
        ));
    }
    let id = resource.id().unwrap_or_default().to_owned();
    let secret = match &wanted.secret {
        Some(secret) => secret.clone(),
        None => new_secret(unit)?,
    };
    let mut row = SubscriptionRow {
        id: id.clone(),
        client: unit.actor.client.clone(),
        organization: unit.actor.organization.clone(),
        staff: unit.actor.staff.as_ref().map(|staff| staff.reference.clone()).unwrap_or_default(),
        topic: String::new(),
        filters: String::new(),
        state: state.to_owned(),
        error: String::new(),
        content: String::new(),
        endpoint: String::new(),
        headers: "[]".to_owned(),
        secret,
        old_secret: String::new(),
        old_until: At(0),
        heartbeat: 0,
        timeout: 0,
        max_count: 1,
        events: 0,
        handshake: String::new(),
        ends_at: At::NEVER,
        heard_at: unit.now.into(),
    };
    asked_for(&mut row, wanted);
    if state == "requested" {
        row.handshake = queue(unit, &id).await?;
    }
    unit.tx.put_subscription(&row).await?;
    show(&mut resource, state, "");
    unit.audit("create", &resource.reference(), "");
    let belongs = Belongs { sender: unit.actor.organization.clone(), ..Belongs::default() };
    unit.create(resource, belongs);
    Ok(())
}

/// A new version of a Subscription by the client that made it. Headers and secret that are not sent stay, as long as the
/// endpoint stays with the same system.
pub(in super::super) async fn change(unit: &mut Unit<'_>, mut resource: Resource, expression: &str) -> Result<()> {
    let id = resource.id().unwrap_or_default().to_owned();
    let mut row = own(unit, &id).await?;
    let wanted = take(unit.house, &mut resource, expression)?;
    may_hear(unit, &wanted)?;
    let moved = wanted.endpoint != row.endpoint;
    if origin(&wanted.endpoint) != origin(&row.endpoint) {
        row.headers = "[]".to_owned();
        row.old_secret = String::new();
        if wanted.secret.is_none() {
            row.secret = new_secret(unit)?;
        }
    }
    if let Some(secret) = &wanted.secret {
        row.secret.clone_from(secret);
    }
    let state = match resource.text("status") {
        Some("off") => "off",
        Some("active") if row.state == "active" && !moved => "active",
        Some("requested" | "active") => "requested",
        _ => return Err(wrong_status(expression)),
    };
    asked_for(&mut row, wanted);
    row.error = String::new();
    state.clone_into(&mut row.state);
    if state != "active" {
        unit.tx.cancel_notifications(&id, state, unit.now.into()).await?;
    }
    if state == "requested" {
        row.handshake = queue(unit, &id).await?;
    }
    unit.tx.put_subscription(&row).await?;
    show(&mut resource, state, "");
    unit.audit("update", &resource.reference(), "");
    unit.change(resource).await
}

/// Deletes a Subscription of the client that made it: nothing more is heard, and what was still to be sent is called off.
pub(in super::super) async fn delete(unit: &mut Unit<'_>, id: &str) -> Result<()> {
    own(unit, id).await?;
    unit.tx.cancel_notifications(id, "off", unit.now.into()).await?;
    unit.tx.forget_subscription(id).await?;
    unit.audit("delete", &format!("Subscription/{id}"), "");
    unit.delete("Subscription", id).await
}

/// The row of a Subscription that this caller made.
pub(super) async fn own(unit: &mut Unit<'_>, id: &str) -> Result<SubscriptionRow> {
    unit.see("Subscription", id).await?.ok_or(Error::NotFound)?;
    let row = unit.tx.hold_subscription(id).await?.ok_or(Error::NotFound)?;
    if row.client == unit.actor.client {
        return Ok(row);
    }
    Err(Error::Forbidden("Another client made this Subscription; only that client changes it.".to_owned()))
}

pub(super) fn new_secret(unit: &Unit<'_>) -> Result<String> {
    (unit.house.webhooks.new_secret)().ok_or(Error::Store(crate::store::StoreError::Unavailable(None)))
}

/// Who hears of a thing must be able to read it.
fn may_hear(unit: &Unit<'_>, wanted: &Wanted) -> Result<()> {
    for kind in &wanted.kinds {
        if !unit.actor.scopes.allows(kind, Interaction::Read) {
            return Err(Error::Forbidden(format!(
                "Who hears of {kind} resources must be able to read them: this needs the scope system/{kind}.r, which the \
                 access token does not carry."
            )));
        }
    }
    Ok(())
}

fn wrong_status(expression: &str) -> Error {
    Error::rule(
        IssueCode::Value,
        format!("{expression}.status"),
        "Send a Subscription as requested, and switch it off with off. The other states are the service's to set.",
    )
}

fn asked_for(row: &mut SubscriptionRow, wanted: Wanted) {
    row.topic = wanted.topic;
    row.filters = serde_json::to_string(&wanted.filters).expect("a list of texts");
    row.content = wanted.content.code().to_owned();
    row.endpoint = wanted.endpoint;
    if let Some(headers) = wanted.headers {
        row.headers = serde_json::to_string(&headers).expect("a list of texts");
    }
    row.heartbeat = wanted.heartbeat;
    row.timeout = wanted.timeout;
    row.max_count = wanted.max_count;
    row.ends_at = wanted.ends_at.map_or(At::NEVER, At::from);
}
