//! The heartbeat: says every few seconds that what is in hand is still being worked on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::workflow;

/// How often it looks whether all is done, once the process is to stop.
const STOPPING: Duration = Duration::from_millis(100);

/// Beats until stopped, and on while anything is in hand. A lease lives for four beats, so that one beat that is late, or
/// a database that is away for a moment, loses nothing.
pub(super) async fn beat(worker: Arc<Worker>, stop: CancellationToken) {
    let every = worker.lease() / 4;
    while !(stop.is_cancelled() && worker.held.in_hand().is_empty()) {
        tokio::select! {
            () = tokio::time::sleep(if stop.is_cancelled() { every.min(STOPPING) } else { every }) => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
        if let Err(error) = renew(&worker).await {
            tracing::warn!(error = %error, "leases could not be kept; what is not kept in time is someone else's");
        }
    }
}

async fn renew(worker: &Worker) -> workflow::Result<()> {
    let in_hand = worker.held.in_hand();
    if in_hand.is_empty() {
        return Ok(());
    }
    let until = Instant::now() + worker.lease();
    let kept = {
        let until = worker.clock.now() + worker.lease();
        workflow::keep_leases(&worker.store, &worker.id, &in_hand, until).await?
    };
    worker.held.renewed(&in_hand, &kept, until);
    Ok(())
}
