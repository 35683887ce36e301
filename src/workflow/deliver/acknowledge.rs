//! A practice's system, or MESH, says what became of a message.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::pathway::delivery::{Acknowledgement, DeliveryState, Stage};
use crate::store::{DeliveryRow, MeshMessageRow, MessageName, PracticeCopyRow, Store, StoreError};

use super::super::{Actor, House, Result, Unit};
use super::settle::{ask_about_failure, ask_no_longer, delivery_of, row_after};

/// What an answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeded {
    /// The delivery stands elsewhere now.
    Changed,
    /// It says what is known, came twice, or came late.
    Unchanged,
    /// No message of ours has that name.
    Unknown,
}

/// Writes down an answer about a message and what follows from it, in one unit of work. `within` is the time that the
/// practice has for the next answer.
pub async fn acknowledge(
    store: &Store,
    house: &House,
    now: DateTime<Utc>,
    name: MessageName<'_>,
    said: &Acknowledgement,
    within: Duration,
) -> Result<Heeded> {
    let actor = Actor::service(&house.organization());
    let mut unit = Unit::begin(store, house, &actor, now, "mesh").await?;
    let Some(message) = unit.tx.mesh_message_named(name).await? else { return Ok(Heeded::Unknown) };
    let Some(delivery) = unit.tx.delivery(&message.delivery).await? else { return Ok(Heeded::Unknown) };
    unit.hold_person(&delivery.person).await?;
    unit.tx.hold_line(&delivery.practice, &delivery.person).await?;
    // As they are now that nobody else changes them.
    let Some(message) = unit.tx.mesh_message_named(name).await? else { return Ok(Heeded::Unknown) };
    let Some(delivery) = unit.tx.delivery(&message.delivery).await? else { return Ok(Heeded::Unknown) };
    let is_last = unit.tx.mesh_message(&delivery.id).await?.is_some_and(|last| last.number == message.number);
    unit.tx.update_mesh_message(&noted(message.clone(), said, now)).await?;
    let failed = matches!(said, Acknowledgement::Failed { .. });
    // What is said against a message that another one has replaced is not said against that.
    let after = if failed && !is_last { None } else { delivery_of(&delivery)?.acknowledged(said, now, within) };
    let Some(after) = after else {
        unit.commit().await?;
        return Ok(Heeded::Unchanged);
    };
    let why = match said {
        Acknowledgement::Failed { why, .. } => why.as_str(),
        Acknowledgement::Passed(_) => "",
    };
    if !unit.tx.answer_delivery(&delivery, &row_after(&delivery, &after, why, now)).await? {
        return Err(StoreError::Conflict.into());
    }
    if matches!(after.state, DeliveryState::Accepted | DeliveryState::Delivered) {
        there(&mut unit, &delivery, &message).await?;
        // It may have been asked about before this answer came.
        ask_no_longer(&mut unit, &delivery.person).await?;
    }
    if after.state == DeliveryState::Refused {
        ask_about_failure(&mut unit, &delivery).await?;
    }
    unit.audit(
        &format!("delivery {}", after.state.code()),
        &format!("Organization/{}", delivery.practice),
        &delivery.person,
    );
    unit.commit().await?;
    Ok(Heeded::Changed)
}

/// The message with what was said of it. What was noted first stands.
fn noted(mut message: MeshMessageRow, said: &Acknowledgement, now: DateTime<Utc>) -> MeshMessageRow {
    match said {
        Acknowledgement::Passed(stage) => {
            // Whoever answers has it, whether or not we heard that it was sent.
            message.sent_at.get_or_insert(now.into());
            match stage {
                Stage::Transport => {}
                Stage::Infrastructure => _ = message.received_at.get_or_insert(now.into()),
                Stage::Business => _ = message.accepted_at.get_or_insert(now.into()),
                Stage::Filing => _ = message.filed_at.get_or_insert(now.into()),
            }
        }
        Acknowledgement::Failed { why, said, .. } if message.failed_at.is_none() => {
            message.failed_at = Some(now.into());
            message.why.clone_from(why);
            message.said.clone_from(said);
        }
        Acknowledgement::Failed { .. } => {}
    }
    message
}

/// The practice has what the message carried: under which ids it does not say.
async fn there(unit: &mut Unit<'_>, delivery: &DeliveryRow, message: &MeshMessageRow) -> Result<()> {
    for item in message.records()? {
        let record = format!("{}/{}", item.kind, item.id);
        let known = unit.tx.practice_copy(&delivery.practice, &record).await?;
        if known.as_ref().is_some_and(|copy| copy.our_version >= item.version) {
            continue;
        }
        let (practice_reference, practice_version) = match known {
            Some(copy) => (copy.practice_reference, String::new()),
            None => (String::new(), String::new()),
        };
        let practice = delivery.practice.clone();
        let copy =
            PracticeCopyRow { practice, record, practice_reference, practice_version, our_version: item.version };
        unit.tx.put_practice_copy(&copy).await?;
    }
    Ok(())
}
