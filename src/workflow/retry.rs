//! An act that lost a race is done again.

use std::future::Future;
use std::time::{Duration, Instant};

use super::{Error, Result};

/// How often an act is tried in all.
const TRIES: u32 = 5;

/// How long after its beginning an act is tried again: a caller waits for the answer.
const LONGEST: Duration = Duration::from_secs(8);

/// Does an act, and does it again from its beginning, in a new transaction, when someone else was faster: then it finds
/// what they wrote. Waits a random time between the tries, so that those who met do not meet again.
///
/// For every door through which someone acts. The act must change nothing but the database.
pub async fn retrying<T, F: Future<Output = Result<T>>>(mut act: impl FnMut() -> F) -> Result<T> {
    let (mut tries, begun) = (1, Instant::now());
    loop {
        match act().await {
            Err(Error::Store(why)) if why.is_race() && tries < TRIES && begun.elapsed() < LONGEST => {
                let most = f64::from(10 * (1 << tries));
                tracing::debug!(error = %why, tries, "someone else was faster; doing it again");
                tokio::time::sleep(Duration::from_secs_f64(rand::random::<f64>() * most / 1000.0)).await;
                tries += 1;
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::store::StoreError;

    #[tokio::test]
    async fn an_act_that_lost_a_race_is_done_again_and_others_are_not() {
        let tried = &Cell::new(0);
        let act = |loses: u32| {
            retrying(move || {
                tried.update(|n| n + 1);
                let lost = tried.get() <= loses;
                async move { if lost { Err(StoreError::Conflict.into()) } else { Ok(()) } }
            })
        };
        act(4).await.unwrap();
        assert_eq!(tried.replace(0), 5);
        assert!(matches!(act(5).await, Err(Error::Store(StoreError::Conflict))));
        assert_eq!(tried.replace(0), 5, "it gives up");
        let refused: Result<()> = retrying(|| {
            tried.update(|n| n + 1);
            async { Err(Error::NotFound) }
        })
        .await;
        assert!(matches!(refused, Err(Error::NotFound)) && tried.get() == 1);
    }
}
