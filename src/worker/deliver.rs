//! The delivery loop: takes as many as there are free hands, so that nothing that was taken ever waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Worker;
use super::held::Grip;
use super::notify::notify;
use crate::outbound::{MeshPost, PatientMatch, PracticeEndpoint, WriteBack};
use crate::pathway::delivery::{DeliveryState, Reason, Verdict, Why};
use crate::pathway::write_back::Outgoing;
use crate::store::Leased;
use crate::workflow::subscription;
use crate::workflow::{self, Actor, Attempted, Dispatch, Posting, Prepared, Route, Taken, Terms, retrying};

/// How often the loop looks without being told: also the sweep that finds the leases of a process that died.
const LOOK: Duration = Duration::from_secs(1);

/// Leases in a row that may end without a result before a person has to look: more than restarts explain.
const MOST_LAPSES: i64 = 12;

/// Takes and sends until stopped.
pub(super) async fn deliver(worker: Arc<Worker>, stop: CancellationToken, tasks: TaskTracker) {
    deliver_by(worker, stop, tasks, one).await;
}

/// The same, where `attempt` is what an attempt at a delivery does.
pub(super) async fn deliver_by<A, F>(worker: Arc<Worker>, stop: CancellationToken, tasks: TaskTracker, attempt: A)
where
    A: Fn(Arc<Worker>, Leased, Grip, DateTime<Utc>, Instant) -> F + Copy + Send + 'static,
    F: Future<Output = workflow::Result<()>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(worker.settings.workers.max(1)));
    while !stop.is_cancelled() {
        let told = worker.wake.notified();
        let wait = match take_and_send(&worker, &slots, &tasks, attempt).await {
            // There may be more.
            Ok((1.., _)) => continue,
            Ok((0, look_again)) => look_again.map_or(LOOK, |at| until(at, worker.clock.now()).min(LOOK)),
            Err(error) => {
                tracing::error!(error = %error, "deliveries could not be taken; trying again");
                LOOK
            }
        };
        tokio::select! {
            () = told => {}
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (at - now).to_std().unwrap_or_default().max(Duration::from_millis(1))
}

/// How many were taken, and when there may be more.
async fn take_and_send<A, F>(
    worker: &Arc<Worker>,
    slots: &Arc<Semaphore>,
    tasks: &TaskTracker,
    attempt: A,
) -> workflow::Result<(usize, Option<DateTime<Utc>>)>
where
    A: Fn(Arc<Worker>, Leased, Grip, DateTime<Utc>, Instant) -> F + Copy + Send + 'static,
    F: Future<Output = workflow::Result<()>> + Send + 'static,
{
    // Only this loop takes hands, so that those that are free now stay so.
    drop(slots.acquire().await.expect("the semaphore of the delivery loop is never closed"));
    let limits = |practice: &str| worker.settings.limits(practice);
    let terms = Terms {
        worker: &worker.id,
        lease: chrono::Duration::from_std(worker.lease()).unwrap_or(chrono::Duration::MAX),
        pace: worker.settings.pace(),
        limits: &limits,
    };
    let since = Instant::now();
    let Taken { leased, look_again } =
        workflow::take(&worker.store, &terms, worker.clock.now(), slots.available_permits()).await?;
    let taken = leased.len();
    for leased in leased {
        let hand = Arc::clone(slots).try_acquire_owned();
        let grip = worker.held.grip(&leased, since, worker.lease());
        let worker = Arc::clone(worker);
        tasks.spawn(async move {
            let (at, began, lost) = (worker.clock.now(), Instant::now(), grip.lost.clone());
            let attempt = attempt(Arc::clone(&worker), leased.clone(), grip, at, began);
            in_hand(&worker, &leased, attempt, &lost, at, began).await;
            drop(hand);
            // The next for the same person, or for the same practice, may go now.
            worker.wake.notify_one();
        });
    }
    Ok((taken, look_again))
}

/// One attempt with all its ends: also that of a panic, which would come again with every attempt and hold up what
/// waits behind, and that of a lost lease.
async fn in_hand(
    worker: &Worker,
    leased: &Leased,
    attempt: impl Future<Output = workflow::Result<()>> + Send + 'static,
    lost: &CancellationToken,
    at: DateTime<Utc>,
    began: Instant,
) {
    let attempt = tokio::spawn(attempt);
    let stop = attempt.abort_handle();
    tokio::select! {
        ended = attempt => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                delivery.id = leased.id, error = %error,
                "a delivery could not be settled; its lease will lapse"
            ),
            Err(_) => {
                tracing::error!(delivery.id = leased.id, "an attempt ended in a panic; a person has to look");
                let verdict = Verdict::Refused { why: Why::RequestNotMade, outcome: None };
                if let Err(error) = settle(worker, leased, &[], &verdict, at, began).await {
                    tracing::error!(delivery.id = leased.id, error = %error, "nor could it be settled");
                }
            }
        },
        () = lost.cancelled() => {
            stop.abort();
            tracing::warn!(delivery.id = leased.id, "a lease was lost; the attempt is given up");
        }
    }
}

async fn one(
    worker: Arc<Worker>,
    leased: Leased,
    grip: Grip,
    at: DateTime<Utc>,
    began: Instant,
) -> workflow::Result<()> {
    let (store, house) = (&worker.store, &*worker.house);
    if leased.lapses >= MOST_LAPSES {
        let verdict = Verdict::NeedsPerson { reason: Reason::NeverEnds };
        return settle(&worker, &leased, &[], &verdict, at, began).await;
    }
    if subscription::is_notification(&leased) {
        return notify(&worker, leased, at, began).await;
    }
    if DeliveryState::from_code(&leased.state).is_some_and(DeliveryState::awaits_acknowledgement) {
        let late = Verdict::NeedsPerson { reason: Reason::AcknowledgementMissing };
        return settle(&worker, &leased, &[], &late, at, began).await;
    }
    let dispatch = match workflow::prepare(store, house, at, leased.clone()).await {
        Ok(Prepared::Ready(dispatch)) => *dispatch,
        Ok(Prepared::Held { leased, why }) => {
            return retrying(|| workflow::hold(store, house, at, &leased, why)).await;
        }
        Err(workflow::Error::Store(why)) if why.may_pass() => return Err(why.into()),
        Err(why) => {
            // It would fail the same way for ever, with everything for this person waiting behind it.
            tracing::error!(delivery.id = leased.id, error = %why, "a delivery cannot be put together; a person has to look");
            let verdict = Verdict::Refused { why: Why::RequestNotMade, outcome: None };
            return settle(&worker, &leased, &[], &verdict, at, began).await;
        }
    };
    let leased = dispatch.leased.clone();
    if dispatch.outgoing.is_empty() {
        return retrying(|| workflow::nothing_to_send(store, worker.clock.now(), &leased)).await;
    }
    let (verdict, sent) = match dispatch.route.clone() {
        Route::FhirRest { address } => {
            let job = job(&worker, dispatch, address, &grip);
            (worker.outbound.deliver(&job, at).await, job.outgoing)
        }
        Route::Mesh { mailbox } => match by_mesh(&worker, &dispatch, mailbox, &grip, at).await? {
            Some(verdict) => (verdict, dispatch.outgoing),
            None => return Ok(()),
        },
    };
    settle(&worker, &leased, &sent, &verdict, at, began).await
}

/// Posts the message that carries the delivery. None when the lease was lost before anything left.
async fn by_mesh(
    worker: &Worker,
    dispatch: &Dispatch,
    mailbox: String,
    grip: &Grip,
    at: DateTime<Utc>,
) -> workflow::Result<Option<Verdict>> {
    let Some(mesh) = &worker.mesh else {
        return Ok(Some(Verdict::Retry { after: None, why: Why::MeshNotConfigured }));
    };
    let post = || workflow::post(&worker.store, &worker.house, at, dispatch, (mesh.mailbox(), &mailbox));
    let Some(Posting { local_id, body, look_first }) = retrying(post).await? else { return Ok(None) };
    if !grip.lease().is_held() {
        return Ok(None);
    }
    Ok(Some(mesh.post(&MeshPost { local_id, to: mailbox.clone(), body, look_first }, at).await))
}

pub(super) async fn settle(
    worker: &Worker,
    leased: &Leased,
    sent: &[Outgoing],
    verdict: &Verdict,
    at: DateTime<Utc>,
    began: Instant,
) -> workflow::Result<()> {
    let (store, house) = (&worker.store, &*worker.house);
    let (random, pace) = (rand::random::<f64>(), worker.settings.pace());
    let attempted = Attempted { verdict, at, took: began.elapsed(), random, pace };
    let actor = Actor::service(&house.organization());
    let settle = || async {
        let now = worker.clock.now();
        match subscription::is_notification(leased) {
            true => subscription::settle(store, house, &actor, now, leased, &attempted).await,
            false => workflow::settle(store, house, &actor, now, leased, sent, &attempted).await,
        }
    };
    if !retrying(settle).await? {
        tracing::warn!(
            delivery.id = leased.id,
            "a lease was lost before its attempt was settled; the result is dropped"
        );
    }
    Ok(())
}

fn job(worker: &Worker, dispatch: Dispatch, address: String, grip: &Grip) -> WriteBack {
    let organization = dispatch.leased.practice.clone();
    WriteBack {
        endpoint: PracticeEndpoint {
            client_id: worker.settings.client_id(&organization).to_owned(),
            address,
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
        lease: grip.lease(),
    }
}
