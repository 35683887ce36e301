//! A person looks after a delivery: it is sent again from the start of the schedule, or given up.

use chrono::{DateTime, Utc};

use super::super::{Actor, Error, House, Result, Unit};
use super::settle::{ask_no_longer, delivery_of, row_after};
use crate::pathway::delivery::{Delivery, DeliveryState, NotPossible};
use crate::store::{DeliveryRow, Store, StoreError};

/// What is wanted of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Try again, with what is configured now. What the practice already has is found there and not doubled.
    Replay,
    /// Give it up, for this reason.
    Cancel { reason: &'a str },
}

impl Wish<'_> {
    /// The states in which it is possible.
    pub fn possible_in(self) -> impl Iterator<Item = DeliveryState> {
        DeliveryState::ALL.into_iter().filter(move |state| {
            let delivery = Delivery { state: *state, ..Delivery::queued(true, DateTime::UNIX_EPOCH) };
            self.of(delivery, DateTime::UNIX_EPOCH).is_ok()
        })
    }

    fn of(self, delivery: Delivery, now: DateTime<Utc>) -> std::result::Result<Delivery, NotPossible> {
        match self {
            Wish::Replay => delivery.replayed(now),
            Wish::Cancel { .. } => delivery.cancelled(),
        }
    }

    fn interaction(self) -> &'static str {
        match self {
            Wish::Replay => "delivery replay",
            Wish::Cancel { .. } => "delivery cancel",
        }
    }
}

/// Does it, with the end of the co-ordinator's Task where nothing else of the person's needs one, in one transaction.
/// What fails again asks anew.
///
/// # Errors
/// There is no such delivery; it is being sent at this moment; or it is in a state in which this cannot be.
pub async fn look_after(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    id: &str,
    wish: Wish<'_>,
) -> Result<DeliveryRow> {
    let mut unit = Unit::begin(store, house, actor, now, id).await?;
    let before = unit.tx.delivery(id).await?.ok_or(Error::NotFound)?;
    unit.hold_person(&before.person).await?;
    if before.lease_until.time() > now {
        return Err(Error::conflict("Communication", "It is being sent at this moment. Look again in a minute."));
    }
    let after =
        wish.of(delivery_of(&before)?, now).map_err(|why| Error::conflict("Communication.status", why.to_string()))?;
    let why = match wish {
        Wish::Replay => "",
        Wish::Cancel { reason } => reason,
    };
    let mut row = row_after(&before, &after, why, now);
    row.lapses = 0;
    // What was settled has let those behind it pass.
    if !unit.tx.change_delivery(&before, &row, before.settled_at.is_some() && row.settled_at.is_none()).await? {
        return Err(StoreError::Conflict.into());
    }
    ask_no_longer(&mut unit, &before.person).await?;
    unit.audit(wish.interaction(), &target(&before), &before.person);
    unit.commit().await?;
    Ok(row)
}

fn target(row: &DeliveryRow) -> String {
    if row.purpose == "notification" { row.practice.clone() } else { format!("Organization/{}", row.practice) }
}
