//! What is looked after now and then: expired credentials are forgotten, what waited for the directory goes, subscribers
//! who heard nothing hear that nothing happened, refusals that were only counted are told.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::workflow;

const EVERY: Duration = Duration::from_secs(10);

/// How many looks there are between two at lines that wait for nothing.
const LINES: u32 = 30;

/// Looks every ten seconds until stopped.
pub(super) async fn tidy(worker: Arc<Worker>, stop: CancellationToken) {
    for round in 1_u32.. {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        look(&worker, round.is_multiple_of(LINES)).await;
    }
}

/// Each by itself: one that fails keeps no other waiting.
async fn look(worker: &Worker, lines: bool) {
    let (store, house, now) = (&worker.store, &worker.house, worker.clock.now());
    said("counted refusals", store.write_counted_refusals(Some(now.into())).await.map_err(Into::into));
    said("the directory", house.learn_organization(store).await);
    said("what deliveries wait for", workflow::look_for_routes(store, house, now).await);
    said("subscriptions", workflow::subscription::watch(store, house, now).await);
    said("what has expired", forget(worker, lines).await);
}

fn said(of: &str, looked: workflow::Result<()>) {
    if let Err(error) = looked {
        tracing::warn!(of, error = %error, "looking after what waits failed; trying again in ten seconds");
    }
}

async fn forget(worker: &Worker, lines: bool) -> workflow::Result<()> {
    let mut tx = worker.store.write().await?;
    tx.forget_expired_credentials(worker.clock.now().into()).await?;
    tx.forget_exports("", worker.clock.now().into()).await?;
    if lines && tx.free_stuck_lines().await? > 0 {
        worker.wake.notify_one();
    }
    Ok(tx.commit().await?)
}
