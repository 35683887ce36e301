//! The channel `webhook`: a signed notification to a subscriber's address (Standard Webhooks 1.0).
//!
//! At least once: a notification whose answer was lost is sent again, and the subscriber knows it by its `webhook-id`,
//! which is the same in every attempt.

mod secret;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::Outbound;
use super::guard::AddressRefused;
use super::wire::Lost;
use crate::pathway::delivery::{Verdict, Why};

pub use secret::{NotASecret, NotRandom, WebhookSecret};

/// Standard Webhooks: "15 to 30 seconds".
const TIMEOUT: Duration = Duration::from_secs(20);

/// Of an answer only the status is used.
const ANSWER_LIMIT: usize = 16 * 1024;

/// One notification to one subscriber. Carries ids, never a person's data: what it is about is read with a token.
#[derive(Clone)]
pub struct Notification {
    /// `webhook-id`: the same in every attempt. Letters, digits, `-` and `_`; it is signed with a `.` after it.
    pub id: String,
    /// Where the subscriber wants it.
    pub address: String,
    /// The subscriber's secrets: several while one replaces another. An unsigned notification is not sent.
    pub secrets: Vec<WebhookSecret>,
    /// `application/fhir+json`, ...
    pub content_type: &'static str,
    pub payload: Vec<u8>,
    /// What the subscriber asked to be sent along (`Subscription.channel.header`). May not replace what is signed, nor
    /// what HTTP itself needs.
    pub headers: Vec<(String, String)>,
}

/// Prints the id only.
impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Outbound {
    /// Makes one attempt to notify. Delivered is any 2xx. Retry: no answer, 408, 425, 429 or 5xx. Refused: anything else,
    /// a redirect too; [`Verdict::is_gone`] says that the subscriber wants no more (410), so that it is to be disabled.
    pub async fn notify(&self, notification: &Notification, now: DateTime<Utc>) -> Verdict {
        let started = Instant::now();
        let verdict = self.notify_once(notification, now).await.unwrap_or_else(|verdict| verdict);
        let (outcome, why) = verdict.in_log();
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(notification.id = %notification.id, outcome, why, duration_ms, "notification attempted");
        verdict
    }

    async fn notify_once(&self, notification: &Notification, now: DateTime<Utc>) -> Result<Verdict, Verdict> {
        let refused = |_: AddressRefused| Verdict::Refused { why: Why::AddressRefused, outcome: None };
        let url = self.wire.guard.check(&notification.address).map_err(refused)?;
        let headers = headers(notification, now).ok_or(Verdict::Refused { why: Why::RequestNotMade, outcome: None })?;
        let request = self.wire.client.post(url.clone()).headers(headers).timeout(TIMEOUT);
        let request = request.body(notification.payload.clone());
        let answer = self.wire.send_within(&url, request, ANSWER_LIMIT).await.map_err(|lost| match lost {
            Lost { why: Why::AddressRefused, .. } => Verdict::Refused { why: Why::AddressRefused, outcome: None },
            Lost { why, .. } => Verdict::Retry { after: None, why },
        })?;
        let why = Why::Status(answer.status);
        Ok(match answer.status {
            200..=299 => Verdict::Delivered { receipts: Vec::new() },
            _ if answer.may_pass() => Verdict::Retry { after: answer.retry_after(now), why },
            _ => Verdict::Refused { why, outcome: None },
        })
    }
}

/// The headers of an attempt; none where they cannot be made.
fn headers(notification: &Notification, now: DateTime<Utc>) -> Option<HeaderMap> {
    let Notification { id, secrets, payload, .. } = notification;
    let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if secrets.is_empty() || !is_id {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in notification.headers.iter().filter(|(name, _)| is_free(name)) {
        let mut value = HeaderValue::from_str(value).ok()?;
        // Usually a credential of the subscriber's.
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    let timestamp = now.timestamp();
    let signatures: Vec<String> = secrets.iter().map(|secret| secret.sign(id, timestamp, payload)).collect();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(notification.content_type));
    headers.insert("webhook-id", HeaderValue::from_str(id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
    headers.insert("webhook-signature", HeaderValue::from_str(&signatures.join(" ")).ok()?);
    Some(headers)
}

/// Whether a subscriber may choose this header.
fn is_free(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let taken = ["host", "connection", "transfer-encoding", "te", "upgrade", "trailer", "expect", "user-agent"];
    !name.starts_with("webhook-") && !name.starts_with("content-") && !taken.contains(&name.as_str())
}
