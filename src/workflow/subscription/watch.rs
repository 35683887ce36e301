//! What is looked after without anything happening: heartbeats, subscriptions that end, events that are old.

use chrono::{DateTime, Duration, Utc};

use crate::store::{At, Store};

use super::super::{Actor, House, Result, Unit};
use super::{enter, queue};

/// How long events are kept for whoever asks for them again.
const KEPT: Duration = Duration::days(30);

/// Queues a heartbeat for each subscriber that has heard nothing for as long as it asked, switches off what has ended, and
/// forgets old events.
pub async fn watch(store: &Store, house: &House, now: DateTime<Utc>) -> Result<()> {
    let mut tx = store.read().await?;
    let listening = tx.listening_subscriptions().await?;
    drop(tx);
    if listening.is_empty() {
        return Ok(());
    }
    let actor = Actor::service(&house.organization());
    for row in listening.iter() {
        let ended = row.ends_at <= now.into();
        let quiet_until = row.heard_at.time() + Duration::seconds(row.heartbeat);
        let silent = row.state == "active" && row.heartbeat > 0 && quiet_until <= now;
        if !ended && !silent {
            continue;
        }
        let mut unit = Unit::begin(store, house, &actor, now, &row.id).await?;
        if ended {
            if let Some(row) = unit.tx.hold_subscription(&row.id).await?.filter(|row| row.state != "off") {
                enter(&mut unit, &row, "off", "").await?;
            }
        } else if unit.tx.break_silence(&row.id, row.heard_at, now.into()).await?
            // What still waits says more than a heartbeat would.
            && !unit.tx.notifications_wait(&row.id).await?
        {
            queue(&mut unit, &row.id).await?;
        }
        unit.commit().await?;
    }
    let mut tx = store.write().await?;
    tx.forget_events(At::from(now - KEPT)).await?;
    Ok(tx.commit().await?)
}
