//! What is due is taken: fairly among the destinations, and for each no more than it may be sent now.

use chrono::{DateTime, Utc};

use super::super::Result;
use crate::pathway::delivery::{Destination, Limits, Pace, Room, shared_out};
use crate::store::{At, DestinationRow, Leased, Store, Tx};

/// On whose behalf, for how long and within which limits deliveries are taken.
pub struct Terms<'a> {
    /// This process, so that its leases can be told from others'.
    pub worker: &'a str,
    pub lease: chrono::Duration,
    pub pace: Pace,
    /// The limits of a destination.
    pub limits: &'a (dyn Fn(&str) -> Limits + Sync),
}

/// What was taken.
pub struct Taken {
    pub leased: Vec<Leased>,
    /// When a destination that may be sent nothing now may be sent something again.
    pub look_again: Option<DateTime<Utc>>,
}

/// Takes up to `hands` deliveries that are due, one for each destination in turn, who was served longest ago first.
pub async fn take(store: &Store, terms: &Terms<'_>, now: DateTime<Utc>, hands: usize) -> Result<Taken> {
    let mut taken = Taken { leased: Vec::new(), look_again: None };
    let mut tx = store.read().await?;
    let due = tx.destinations_due(now.into()).await?;
    drop(tx);
    if due.is_empty() {
        return Ok(taken);
    }
    let mut tx = store.write().await?;
    let mut ready = Vec::new();
    for practice in due {
        if ready.len() == hands {
            break;
        }
        let limits = (terms.limits)(&practice);
        // A destination that is held is being looked after by another instance.
        let Some(row) = tx.hold_destination(&practice).await? else { continue };
        let in_flight = u32::try_from(tx.in_flight(&practice, now.into()).await?).unwrap_or(u32::MAX);
        match destination_of(&row).room(&limits, in_flight, now) {
            Room::Now(room) => ready.push((row, limits, room)),
            Room::Later(at) => taken.look_again = Some(taken.look_again.map_or(at, |other| other.min(at))),
            Room::Full => {}
        }
    }
    let rooms: Vec<u32> = ready.iter().map(|(_, _, room)| *room).collect();
    for ((row, limits, _), share) in ready.iter().zip(shared_out(hands, &rooms)) {
        let until = At::from(now + terms.lease);
        let leased = tx.lease_deliveries(&row.practice, terms.worker, now.into(), until, i64::from(share)).await?;
        note_taken(&mut tx, row, limits, terms.pace, leased.len(), now).await?;
        taken.leased.extend(leased);
    }
    tx.commit().await?;
    Ok(taken)
}

async fn note_taken(
    tx: &mut Tx,
    row: &DestinationRow,
    limits: &Limits,
    pace: Pace,
    many: usize,
    now: DateTime<Utc>,
) -> Result<()> {
    if many == 0 {
        return Ok(());
    }
    let after = destination_of(row).taken(u32::try_from(many).unwrap_or(u32::MAX), limits, pace, now);
    let served = DestinationRow { served_at: now.into(), ..row_of(row, &after) };
    Ok(tx.update_destination(&served).await?)
}

/// Keeps what a worker has in hand until `until`: the id and lease number of each that is still its own.
pub async fn keep_leases(
    store: &Store,
    worker: &str,
    in_hand: &[(String, i64)],
    until: DateTime<Utc>,
) -> Result<Vec<(String, i64)>> {
    let mut tx = store.write().await?;
    let kept = tx.keep_leases(worker, in_hand, until.into()).await?;
    tx.commit().await?;
    Ok(kept)
}

/// The destination that a row holds.
pub fn destination_of(row: &DestinationRow) -> Destination {
    Destination {
        failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
        opened_at: (row.opened_at != At(0)).then(|| row.opened_at.time()),
        probe_at: row.probe_at.time(),
        paused_until: row.paused_until.time(),
        full_at: row.full_at.time(),
    }
}

/// The row as it is after a change of the destination.
pub(super) fn row_of(before: &DestinationRow, after: &Destination) -> DestinationRow {
    DestinationRow {
        failures: i64::from(after.failures),
        opened_at: after.opened_at.map_or(At(0), At::from),
        probe_at: after.probe_at.into(),
        paused_until: after.paused_until.into(),
        full_at: after.full_at.into(),
        ..before.clone()
    }
}
