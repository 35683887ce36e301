//! The load: a closed loop (each client sends its next request when it has its answer) and an open loop (requests come
//! at a fixed rate whether or not the service keeps up, and latency counts from when a request should have been sent).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::client::Connection;

/// One act of a caller; the number tells acts apart.
pub(crate) type Act = Arc<dyn for<'c> Fn(&'c mut Connection, u64) -> Done<'c> + Send + Sync>;
pub(crate) type Done<'c> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'c>>;

/// How long a workload runs.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// Not counted.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What was measured.
#[derive(Default)]
pub(crate) struct Measured {
    /// Of the acts that succeeded, ascending.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) errors: usize,
    pub(crate) first_error: Option<String>,
    pub(crate) took: Duration,
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency that this share of the acts stayed within.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(at.saturating_sub(1).min(last)).copied().unwrap_or_default()
    }

    pub(crate) fn note(&mut self, latency: Duration, result: Result<(), String>) {
        match result {
            Ok(()) => self.latencies.push(latency),
            Err(why) => {
                self.errors += 1;
                self.first_error.get_or_insert(why);
            }
        }
    }

    pub(crate) fn finish(mut self, took: Duration) -> Measured {
        self.latencies.sort_unstable();
        self.took = took;
        self
    }
}

/// `clients` callers, each with one connection, as fast as they are answered.
pub(crate) async fn closed(address: SocketAddr, clients: usize, span: Span, act: Act) -> Measured {
    let numbers = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let (counted, end) = (begun + span.warm_up, begun + span.warm_up + span.measured);
    let callers: Vec<_> = (0..clients)
        .map(|_| {
            let (act, numbers) = (Arc::clone(&act), Arc::clone(&numbers));
            tokio::spawn(async move {
                let mut connection = Connection::to(address);
                let mut all = Measured::default();
                while Instant::now() < end {
                    let sent = Instant::now();
                    let result = act(&mut connection, numbers.fetch_add(1, Ordering::Relaxed)).await;
                    let answered = Instant::now();
                    if answered > counted && answered <= end {
                        all.note(answered - sent, result);
                    }
                }
                all
            })
        })
        .collect();
    let mut all = Measured::default();
    for caller in callers {
        merge(&mut all, caller.await.unwrap_or_default());
    }
    all.finish(span.measured)
}

fn merge(all: &mut Measured, one: Measured) {
    all.latencies.extend(one.latencies);
    all.errors += one.errors;
    all.first_error = all.first_error.take().or(one.first_error);
}

/// Arrivals at `rate` a second, on at most `connections` connections.
pub(crate) async fn open(address: SocketAddr, rate: f64, connections: usize, span: Span, act: Act) -> Measured {
    let (arrive, arrivals) = mpsc::unbounded_channel::<(u64, Instant)>();
    let arrivals = Arc::new(Mutex::new(arrivals));
    let begun = Instant::now();
    let counted = begun + span.warm_up;
    let callers: Vec<_> = (0..connections)
        .map(|_| {
            let (act, arrivals) = (Arc::clone(&act), Arc::clone(&arrivals));
            tokio::spawn(async move {
                let mut connection = Connection::to(address);
                let mut all = Measured::default();
                loop {
                    let next = arrivals.lock().await.recv().await;
                    let Some((number, meant)) = next else { return all };
                    let result = act(&mut connection, number).await;
                    if meant >= counted {
                        all.note(meant.elapsed(), result);
                    }
                }
            })
        })
        .collect();
    let total = ((span.warm_up + span.measured).as_secs_f64() * rate) as u64;
    for number in 0..total {
        let meant = begun + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(meant).await;
        if arrive.send((number, meant)).is_err() {
            break;
        }
    }
    drop(arrive);
    let mut all = Measured::default();
    for caller in callers {
        merge(&mut all, caller.await.unwrap_or_default());
    }
    all.finish(counted.elapsed())
}
