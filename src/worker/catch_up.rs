//! The search index of what an earlier release stored, or is still storing beside this one, is written anew.
//!
//! What is behind says so itself, a column of the resource, so that this can be interrupted anywhere and goes on where it
//! was; several instances share the work. Until it is done, a search by a parameter that the earlier release did not know
//! does not find what that release stored: `/readyz` says so, and `livewell_search_index_behind` counts it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

/// Resources in one transaction: others want to write too.
const AT_ONCE: i64 = 50;

/// How long to wait where nothing is behind.
const LOOK: Duration = Duration::from_secs(10);
/// A breath between transactions, for those who wait to write.
const BREATH: Duration = Duration::from_millis(5);

/// Catches up until stopped.
pub(super) async fn catch_up(store: Store, stop: CancellationToken) {
    loop {
        let pause = match some(&store).await {
            Ok(0) => LOOK,
            Ok(_) => BREATH,
            Err(error) => {
                tracing::warn!(error = %error, "the search index could not be brought up to date; trying again");
                LOOK
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn some(store: &Store) -> Result<usize, StoreError> {
    let mut tx = store.read().await?;
    let behind = tx.index_behind(1).await?;
    drop(tx);
    if behind == 0 {
        return Ok(0);
    }
    let mut tx = store.write().await?;
    let done = tx.catch_up_index(AT_ONCE).await?;
    tx.commit().await?;
    Ok(done)
}
