//! Subscriptions: made and changed (`subscribe`), heard for in the transaction of each change (`notice`), sent as
//! deliveries (`notify`), looked after (`watch`) and asked about (`ask`).

mod ask;
mod notice;
mod notify;
mod present;
mod read;
mod subscribe;
mod watch;

use serde_json::json;

use crate::fhir::Resource;
use crate::pathway::delivery::DeliveryState;
use crate::store::{Leased, NewDelivery, SubscriptionRow};

use super::{Error, Result, Unit};

pub use ask::{Statuses, events, new_secret, statuses};
pub(super) use notice::notice;
pub use notify::{Notification, Prepared, end, prepare, settle};
pub(super) use subscribe::{change, create, delete};
pub use watch::watch;

/// The purpose of a delivery that tells a subscriber something.
const NOTIFICATION: &str = "notification";

/// The destination of a subscription's deliveries.
fn destination(id: &str) -> String {
    format!("Subscription/{id}")
}

/// Whether a delivery tells a subscriber something.
pub fn is_notification(delivery: &Leased) -> bool {
    delivery.purpose == NOTIFICATION
}

/// Queues something to be sent to a subscriber; answers the delivery's id.
async fn queue(unit: &mut Unit<'_>, subscription: &str) -> Result<String> {
    let id = Unit::new_id();
    unit.tx
        .insert_delivery(&NewDelivery {
            id: id.clone(),
            purpose: NOTIFICATION,
            practice: destination(subscription),
            person: String::new(),
            referral: String::new(),
            items: Vec::new(),
            author: String::new(),
            state: DeliveryState::Pending.code(),
            why: "",
            due_at: unit.now.into(),
            created_at: unit.now.into(),
        })
        .await?;
    Ok(id)
}

/// Puts a subscription into another state: the row, and the resource that callers read. What was still to be sent is
/// called off unless it is active.
async fn enter(unit: &mut Unit<'_>, row: &SubscriptionRow, state: &str, error: &str) -> Result<()> {
    let row = SubscriptionRow { state: state.to_owned(), error: error.to_owned(), ..row.clone() };
    unit.tx.put_subscription(&row).await?;
    if state != "active" {
        unit.tx.cancel_notifications(&row.id, state, unit.now.into()).await?;
    }
    let seen = unit.get("Subscription", &row.id).await?.ok_or(Error::NotFound)?;
    let mut resource = seen.resource;
    show(&mut resource, state, error);
    unit.audit(&format!("subscription {state}"), &resource.reference(), "");
    unit.change(resource).await
}

/// Says in a Subscription how it stands.
fn show(resource: &mut Resource, state: &str, error: &str) {
    let fields = resource.map_mut();
    fields.insert("status".to_owned(), json!(state));
    if error.is_empty() {
        fields.shift_remove("error");
    } else {
        fields.insert("error".to_owned(), json!(error));
    }
}
