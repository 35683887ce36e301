//! Fetching a caller's key set, for those who verify what callers sign.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::Outbound;
use super::guard::AddressRefused;
use crate::pathway::delivery::Why;

const TIMEOUT: Duration = Duration::from_secs(5);
const LIMIT: usize = 64 * 1024;
const MOST_KEYS: usize = 20;

/// A JWK Set as its owner publishes it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySet {
    /// The whole document: an object with `keys`, an array of at most 20 objects. The keys themselves are not judged here.
    pub document: Value,
    /// How long the owner lets it be kept (`Cache-Control`), where it says so.
    pub max_age: Option<Duration>,
}

/// The key set was not got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeySetError {
    #[error(transparent)]
    Address(#[from] AddressRefused),
    #[error("The key set could not be fetched ({}): check that its address answers with JSON within 5 seconds.", .0.code())]
    NotFetched(Why),
    #[error(
        "The key set is not a JWK Set of at most 20 keys and 64 kB: publish {{\"keys\": [...]}} as application/json."
    )]
    NotAKeySet,
}

impl Outbound {
    /// Fetches the key set at `url`: https only (unless private addresses are allowed), within 5 s, at most 64 kB, no
    /// redirects.
    pub async fn fetch_key_set(&self, url: &str) -> Result<KeySet, KeySetError> {
        let url = self.wire.guard.check(url)?;
        let request = self.wire.client.get(url.clone()).header("accept", "application/json").timeout(TIMEOUT);
        let answer = match self.wire.send_within(&url, request, LIMIT).await {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => return Err(KeySetError::NotFetched(Why::Status(answer.status))),
            Err(lost) => return Err(KeySetError::NotFetched(lost.why)),
        };
        let document = answer.json().map_err(|why| match why {
            Why::AnswerUnreadable | Why::AnswerTooLarge => KeySetError::NotAKeySet,
            other => KeySetError::NotFetched(other),
        })?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::NotAKeySet)?;
        if keys.len() > MOST_KEYS || !keys.iter().all(Value::is_object) {
            return Err(KeySetError::NotAKeySet);
        }
        Ok(KeySet { max_age: answer.max_age(), document })
    }
}
