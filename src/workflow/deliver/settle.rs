//! A delivery is settled: what an attempt came to, and what follows from it for the delivery, its destination and people.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::pathway::delivery::{Delivery, DeliveryState, Pace, Reason, Verdict};
use crate::pathway::write_back::Outgoing;
use crate::store::{At, AttemptRow, DeliveryRow, Leased, PersonRow, PracticeCopyRow, Store};

use super::super::{Actor, House, Result, Unit, tasks};
use super::route::ask;
use super::take::{destination_of, row_of};
use super::{corrupt, message};

/// How an attempt ended.
#[derive(Clone, Copy)]
pub struct Attempted<'a> {
    pub verdict: &'a Verdict,
    pub at: DateTime<Utc>,
    pub took: Duration,
    /// A uniform number from 0 to 1, for the jitter of the next attempt.
    pub random: f64,
    pub pace: Pace,
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
    if asks_a_person(after(leased, attempted, now)?.state) {
        unit.hold_person(&leased.person).await?;
    }
    let Some(after) = conclude(&mut unit, leased, attempted).await? else { return Ok(false) };
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
    message::attempted(&mut unit, leased, attempted.verdict).await?;
    if asks_a_person(after) {
        ask_about_failure(&mut unit, leased).await?;
    }
    unit.audit(&format!("delivery {}", after.code()), &format!("Organization/{}", leased.practice), &leased.person);
    unit.commit().await?;
    house.attempts.count(&leased.practice, attempted.verdict.in_log().0);
    Ok(true)
}

/// Writes down an attempt, what its destination learns of it, and the state it leaves the delivery in; `None` when the lease
/// was lost meanwhile.
pub(in super::super) async fn conclude(
    unit: &mut Unit<'_>,
    leased: &Leased,
    attempted: &Attempted<'_>,
) -> Result<Option<DeliveryState>> {
    tell_destination(unit, leased, attempted).await?;
    let after = after(leased, attempted, unit.now)?;
    let (name, why) = attempted.verdict.in_log();
    let answer = match attempted.verdict {
        Verdict::Refused { outcome, .. } => outcome.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let why = after.reason.map_or(why, |reason| reason.code().to_owned());
    if !unit.tx.settle_delivery(&row_after(leased, &after, &why, unit.now)).await? {
        return Ok(None);
    }
    unit.tx
        .insert_attempt(&AttemptRow {
            delivery: leased.id.clone(),
            number: leased.attempts,
            at: attempted.at.into(),
            duration_ms: i64::try_from(attempted.took.as_millis()).unwrap_or(i64::MAX),
            verdict: name.to_owned(),
            why,
            answer,
        })
        .await?;
    Ok(Some(after.state))
}

/// Where the attempt leaves the delivery.
fn after(leased: &Leased, attempted: &Attempted<'_>, now: DateTime<Utc>) -> Result<Delivery> {
    delivery_of(leased)?
        .attempted(attempted.verdict, attempted.took, now, attempted.pace, attempted.random)
        .map_err(|e| corrupt(leased, &e.to_string()))
}

fn asks_a_person(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::NeedsPerson | DeliveryState::Refused)
}

/// The destination learns how the attempt went. It is held only where that changes something: most of the time it works,
/// and did before.
async fn tell_destination(unit: &mut Unit<'_>, leased: &Leased, attempted: &Attempted<'_>) -> Result<()> {
    let (practice, now) = (&leased.practice, unit.now);
    let heard = |row: &_| destination_of(row).heard(attempted.verdict, attempted.pace, now);
    let Some(seen) = unit.tx.destination(practice).await? else { return Ok(()) };
    if heard(&seen) == destination_of(&seen) {
        return Ok(());
    }
    let Some(row) = unit.tx.hold_destination_in_turn(practice).await? else { return Ok(()) };
    let (before, after) = (destination_of(&row), heard(&row));
    unit.tx.update_destination(&row_of(&row, &after)).await?;
    match (before.opened_at, after.opened_at) {
        (Some(_), None) => {
            tracing::info!(practice.code = %practice, "the destination works again; what waited for it goes");
            unit.tx.hurry(practice, now.into()).await?;
        }
        (None, Some(_)) => {
            tracing::warn!(practice.code = %practice, "the destination fails; one delivery tries now and then");
        }
        (Some(since), Some(_)) if now - since >= patience(attempted.pace) => ask_about(unit, leased).await?,
        _ => {}
    }
    Ok(())
}

/// Asks a co-ordinator to settle what came to nothing, once while such a Task is open about the person.
pub(super) async fn ask_about_failure(unit: &mut Unit<'_>, delivery: &DeliveryRow) -> Result<()> {
    if let Some(person) = unit.tx.person(&delivery.person).await?
        && !unit.tx.has_open_task_for_person(&person.id, "delivery-failed").await?
    {
        tasks::for_co_ordinator(unit, "delivery-failed", &person, &delivery.practice, &delivery.referral).await?;
    }
    Ok(())
}

/// Takes back what a co-ordinator was asked about a person's deliveries, where none of them needs anybody any more.
pub(super) async fn ask_no_longer(unit: &mut Unit<'_>, person: &str) -> Result<()> {
    if person.is_empty() || unit.tx.has_parked_delivery(person).await? {
        return Ok(());
    }
    tasks::ask_no_longer(unit, person, "delivery-failed").await
}

fn patience(pace: Pace) -> chrono::Duration {
    chrono::Duration::from_std(pace.patience()).unwrap_or(chrono::Duration::MAX)
}

/// Asks a co-ordinator about a practice that has been out of reach for as long as a delivery is tried: most of what waits
/// for it was not even tried so often, and nothing waits in silence.
async fn ask_about(unit: &mut Unit<'_>, leased: &Leased) -> Result<()> {
    unit.hold_practice(&leased.practice).await?;
    if leased.person.is_empty() || unit.tx.has_open_task_for_practice(&leased.practice, "practice-unreachable").await? {
        return Ok(());
    }
    let Some(person) = unit.tx.person(&leased.person).await? else { return Ok(()) };
    let nobody = PersonRow { id: String::new(), ..person };
    tasks::for_co_ordinator(unit, "practice-unreachable", &nobody, &leased.practice, "").await
}

/// Holds a leased delivery that has no way to go any more, and asks for one. That an outcome was unclear is kept.
pub async fn hold(store: &Store, house: &House, now: DateTime<Utc>, leased: &Leased, why: &str) -> Result<()> {
    let after = delivery_of(leased)?.route_lost().map_err(|e| corrupt(leased, &e.to_string()))?;
    let actor = Actor::service(&house.organization());
    let mut unit = Unit::begin(store, house, &actor, now, &leased.id).await?;
    unit.hold_person(&leased.person).await?;
    unit.hold_practice(&leased.practice).await?;
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

pub(super) fn delivery_of(row: &DeliveryRow) -> Result<Delivery> {
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

pub(super) fn row_after(leased: &DeliveryRow, after: &Delivery, why: &str, now: DateTime<Utc>) -> DeliveryRow {
    let settled = after.due_at.is_none() && after.state != DeliveryState::NoRoute;
    DeliveryRow {
        state: after.state.code().to_owned(),
        why: why.to_owned(),
        failures: i64::from(after.failures),
        queued_at: after.queued_at.into(),
        due_at: after.due_at.map_or(At::NEVER, At::from),
        settled_at: settled.then(|| now.into()),
        ..leased.clone()
    }
}
