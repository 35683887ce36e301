//! The delivery loop: leases as many as there are free hands, so that nothing leased ever waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Worker;
use crate::outbound::{PatientMatch, PracticeEndpoint, WriteBack};
use crate::pathway::delivery::{Verdict, Why};
use crate::pathway::write_back::Outgoing;
use crate::store::Leased;
use crate::workflow::{self, Actor, Attempted, Dispatch, Prepared, retrying};

/// How long a delivery is in one worker's hands. An attempt ends before that.
const LEASE: chrono::Duration = chrono::Duration::seconds(90);

/// How often the loop looks without being told.
const LOOK: Duration = Duration::from_secs(1);

/// Leases and sends until stopped.
pub(super) async fn deliver(worker: Arc<Worker>, slots: Arc<Semaphore>, stop: CancellationToken, tasks: TaskTracker) {
    while !stop.is_cancelled() {
        let told = worker.wake.notified();
        let sent = match lease_and_send(&worker, &slots, &tasks).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::error!(error = %error, "deliveries could not be leased; trying again");
                0
            }
        };
        if sent > 0 {
            continue;
        }
        tokio::select! {
            () = told => {}
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn lease_and_send(worker: &Arc<Worker>, slots: &Arc<Semaphore>, tasks: &TaskTracker) -> workflow::Result<usize> {
    let mut hands = vec![free_hand(slots).await];
    while let Ok(hand) = Arc::clone(slots).try_acquire_owned() {
        hands.push(hand);
    }
    let limit = i64::try_from(hands.len()).unwrap_or(i64::MAX);
    let leased = workflow::lease(&worker.store, worker.clock.now(), LEASE, limit).await?;
    let sent = leased.len();
    for (leased, hand) in leased.into_iter().zip(hands) {
        let worker = Arc::clone(worker);
        tasks.spawn(async move {
            let id = leased.id.clone();
            if let Err(error) = one(&worker, leased).await {
                // The lease lapses and someone takes it up again.
                tracing::error!(delivery.id = id, error = %error, "a delivery could not be settled; its lease will lapse");
            }
            drop(hand);
            // The next for the same person may go now.
            worker.wake.notify_one();
        });
    }
    Ok(sent)
}

async fn free_hand(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(slots).acquire_owned().await.expect("the semaphore of the delivery loop is never closed")
}

async fn one(worker: &Worker, leased: Leased) -> workflow::Result<()> {
    let (store, house) = (&worker.store, &*worker.house);
    let (at, began) = (worker.clock.now(), Instant::now());
    let dispatch = match workflow::prepare(store, house, leased.clone()).await {
        Ok(Prepared::Ready(dispatch)) => *dispatch,
        Ok(Prepared::Held { leased, why }) => return workflow::hold(store, house, at, &leased, why).await,
        Err(workflow::Error::Store(why)) if why.may_pass() => return Err(why.into()),
        Err(why) => {
            // It would fail the same way for ever, with everything for this person waiting behind it.
            tracing::error!(delivery.id = leased.id, error = %why, "a delivery cannot be put together; a person has to look");
            let verdict = Verdict::Refused { why: Why::RequestNotMade, outcome: None };
            return settle(worker, &leased, &[], &verdict, at, began).await;
        }
    };
    let leased = dispatch.leased.clone();
    let job = job(worker, dispatch);
    if job.outgoing.is_empty() {
        return workflow::nothing_to_send(store, worker.clock.now(), &leased).await;
    }
    let verdict = worker.outbound.deliver(&job, at).await;
    settle(worker, &leased, &job.outgoing, &verdict, at, began).await
}

async fn settle(
    worker: &Worker,
    leased: &Leased,
    sent: &[Outgoing],
    verdict: &Verdict,
    at: DateTime<Utc>,
    began: Instant,
) -> workflow::Result<()> {
    let (store, house) = (&worker.store, &*worker.house);
    let attempted = Attempted { verdict, at, took: began.elapsed(), random: rand::random::<f64>() };
    let actor = Actor::service(&house.organization());
    let settle = || workflow::settle(store, house, &actor, worker.clock.now(), leased, sent, &attempted);
    if !retrying(settle).await? {
        tracing::warn!(
            delivery.id = leased.id,
            "a lease was lost before its attempt was settled; the result is dropped"
        );
    }
    Ok(())
}

fn job(worker: &Worker, dispatch: Dispatch) -> WriteBack {
    let organization = dispatch.leased.practice.clone();
    WriteBack {
        endpoint: PracticeEndpoint {
            client_id: worker.settings.client_id(&organization).to_owned(),
            address: dispatch.address,
            organization,
        },
        patient: PatientMatch {
            nhs_number: dispatch.nhs_number,
            birth_date: dispatch.birth_date,
            family: dispatch.family,
        },
        outgoing: dispatch.outgoing,
        look_first: dispatch.look_first,
        request_id: dispatch.leased.id,
    }
}
