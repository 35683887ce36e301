//! Exports that were asked for are counted, by whichever instance is free.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::workflow;

/// How often the loop looks for one.
const LOOK: Duration = Duration::from_millis(500);

/// Counts until stopped; what is under way then is taken up by another when its lease has lapsed.
pub(super) async fn export(worker: Arc<Worker>, stop: CancellationToken) {
    let clock = worker.clock.clone();
    let now = move || clock.now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            worked = workflow::export::work(&worker.store, &worker.house, &now) => match worked {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %error, "an export could not be counted on; it will be taken up again"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
    }
}
