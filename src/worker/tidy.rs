//! Forgets access tokens and used assertions that have expired.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::store::StoreError;

const EVERY: Duration = Duration::from_secs(60);

/// Tidies once a minute until stopped.
pub(super) async fn tidy(worker: Arc<Worker>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = forget(&worker).await {
            tracing::warn!(error = %error, "expired credentials could not be forgotten; trying again in a minute");
        }
    }
}

async fn forget(worker: &Worker) -> Result<(), StoreError> {
    let mut tx = worker.store.write().await?;
    tx.forget_expired_credentials(worker.clock.now().into()).await?;
    tx.commit().await
}
