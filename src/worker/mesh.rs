//! The inbox at MESH: looked into now and then, by one instance for all.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::outbound::{Heard, Mesh};
use crate::pathway::delivery::Why;
use crate::store::{At, MessageName};
use crate::workflow::{self, Heeded, retrying};

/// How often it is looked whether a turn is due.
const LOOK: Duration = Duration::from_secs(1);

/// How long one instance may take over a turn; one that died gives it up so.
const TURN: chrono::Duration = chrono::Duration::minutes(5);

/// MESH wants to hear from a mailbox once a day.
const HANDSHAKE: chrono::Duration = chrono::Duration::hours(24);

/// Listens until stopped.
pub(super) async fn listen(worker: Arc<Worker>, mesh: Arc<Mesh>, stop: CancellationToken) {
    let (mut greet, mut look) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MIN_UTC);
    loop {
        let now = worker.clock.now();
        if now >= greet {
            greet = now + HANDSHAKE;
            if taken(&worker, "mesh handshake", now, greet).await
                && let Err(why) = mesh.handshake(now).await
            {
                tracing::error!(mesh.mailbox = mesh.mailbox(), why = why.code(), "MESH does not let us in");
            }
        }
        if now >= look {
            look = now + chrono::Duration::from_std(mesh.looks_every()).unwrap_or(TURN);
            if taken(&worker, "mesh inbox", now, look).await
                && let Err(error) = inbox(&worker, &mesh).await
            {
                tracing::warn!(error = %error, "the inbox at MESH could not be read; trying again at the next turn");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Whether the turn is this instance's.
async fn taken(worker: &Worker, name: &str, now: DateTime<Utc>, next: DateTime<Utc>) -> bool {
    let take = || async {
        let mut tx = worker.store.write().await?;
        let taken = tx.take_turn(name, now.into(), At::from(now + TURN), next.into()).await?;
        tx.commit().await?;
        workflow::Result::Ok(taken)
    };
    retrying(take).await.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "whose turn it is could not be learned");
        false
    })
}

/// Why a look into the inbox ended before its end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("{0}")]
    Mesh(Why),
    #[error("{0}")]
    Work(#[from] workflow::Error),
}

/// Heeds what is in the inbox, one message after the other. One that cannot be handed out keeps none behind it waiting.
async fn inbox(worker: &Worker, mesh: &Mesh) -> Result<(), Stopped> {
    for id in mesh.inbox(worker.clock.now()).await.map_err(Stopped::Mesh)? {
        match one(worker, mesh, &id).await {
            Err(Stopped::Mesh(why @ (Why::Status(_) | Why::AnswerUnreadable | Why::AnswerTooLarge))) => {
                tracing::warn!(mesh.message = id, why = why.code(), "MESH does not hand out a message of the inbox");
            }
            done => done?,
        }
    }
    let mut tx = worker.store.write().await.map_err(workflow::Error::from)?;
    tx.end_turn("mesh inbox").await.map_err(workflow::Error::from)?;
    tx.commit().await.map_err(workflow::Error::from)?;
    // What waited behind what is settled now may go.
    worker.wake.notify_one();
    Ok(())
}

/// Heeds a message, and takes it out of the inbox after what it said is durable: one whose taking failed is read again,
/// which changes nothing.
async fn one(worker: &Worker, mesh: &Mesh, id: &str) -> Result<(), Stopped> {
    let now = worker.clock.now();
    let Some(message) = mesh.read(id, now).await.map_err(Stopped::Mesh)? else { return Ok(()) };
    if heed(worker, mesh, id, &message.heard).await? {
        mesh.taken(id, now).await.map_err(Stopped::Mesh)?;
    }
    Ok(())
}

/// Whether the message is done with and may be taken out.
async fn heed(worker: &Worker, mesh: &Mesh, id: &str, heard: &Heard) -> workflow::Result<bool> {
    let (name, said) = match heard {
        Heard::Report { message, local_id, acknowledgement } => (
            if message.is_empty() { MessageName::Local(local_id) } else { MessageName::Mesh(message) },
            acknowledgement,
        ),
        Heard::Answer(answered) => (MessageName::Identifier(&answered.message), &answered.acknowledgement),
        Heard::Other => return Ok(false),
        Heard::Unreadable { local_id } => {
            // Left there for somebody to look at; the delivery it may be about asks for a person when its time is up.
            tracing::error!(mesh.message = id, mesh.local_id = %local_id, "an acknowledgement cannot be read");
            return Ok(false);
        }
    };
    let (store, house, now) = (&worker.store, &*worker.house, worker.clock.now());
    let act = || workflow::acknowledge(store, house, now, name, said, mesh.acknowledged_within());
    let heeded = retrying(act).await?;
    if heeded == Heeded::Unknown {
        tracing::warn!(mesh.message = id, "an answer is about no message of ours");
    }
    Ok(true)
}
