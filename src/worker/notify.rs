//! A notification to a subscriber: put together, sent, settled.

use std::time::Instant;

use chrono::{DateTime, Utc};

use super::Worker;
use super::deliver::settle;
use crate::outbound::{Notification, WebhookSecret};
use crate::pathway::delivery::{Verdict, Why};
use crate::store::Leased;
use crate::workflow;
use crate::workflow::subscription::{self, Prepared};

/// The channel by which it leaves.
const WEBHOOK: &str = "webhook";

/// Makes one attempt at a leased notification.
pub(super) async fn notify(worker: &Worker, leased: Leased, at: DateTime<Utc>, began: Instant) -> workflow::Result<()> {
    let (store, house) = (&worker.store, &*worker.house);
    let leased = Leased { channel: WEBHOOK.to_owned(), ..leased };
    let sent = match subscription::prepare(store, house, at, &leased).await? {
        Prepared::Nothing => return workflow::nothing_to_send(store, at, &leased).await,
        Prepared::End => return subscription::end(store, house, at, &leased).await,
        Prepared::Send(notification) => *notification,
    };
    let patience = sent.timeout;
    let attempt = send(worker, sent);
    let verdict = match patience {
        Some(patience) => {
            tokio::time::timeout(patience, attempt).await.unwrap_or(Verdict::Retry { after: None, why: Why::Timeout })
        }
        None => attempt.await,
    };
    settle(worker, &leased, &[], &verdict, at, began).await
}

async fn send(worker: &Worker, sent: subscription::Notification) -> Verdict {
    let secrets = sent.secrets.iter().filter_map(|secret| WebhookSecret::parse(secret).ok()).collect();
    let notification = Notification {
        id: sent.id,
        address: sent.address,
        secrets,
        content_type: "application/fhir+json",
        payload: sent.payload,
        headers: sent.headers,
    };
    worker.outbound.notify(&notification, worker.clock.now()).await
}
