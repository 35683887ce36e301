//! The accept loop: connections in, within bounds; drained at the end.
//!
//! `axum::serve` sets no timer, so that hyper's header timeout does nothing and a few hundred half-open sockets hold a
//! server (tokio-rs/axum issue 2741). Here every wait for a caller has an end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::Http;

/// The bounds of [`serve`].
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Connections at once; the next wait in the system's queue until one ends.
    pub max_connections: usize,
    /// How long the head of a request may take, from connecting or from the answer before it.
    /// HTTP/1 connections idle for so long are closed too.
    pub header_timeout: Duration,
    /// How long an HTTP/2 connection may be without a request, and how long an answer may take to be read.
    pub idle_timeout: Duration,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
    /// The requests being worked on, also those whose caller has gone: the same tracker as in
    /// [`EdgeSettings`](super::edge::EdgeSettings), so that a stop waits for them.
    pub work: TaskTracker,
}

impl ServeSettings {
    /// The bounds that the configuration sets, with `work` as the tracker of requests under way.
    pub fn new(http: &Http, work: TaskTracker) -> ServeSettings {
        ServeSettings {
            max_connections: http.max_connections,
            header_timeout: Duration::from_secs(http.header_seconds),
            idle_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(http.drain_seconds),
            work,
        }
    }
}

/// Serves `app` on `listener` until `shutdown` completes, then stops accepting and waits for what is under way.
///
/// HTTP/1.1 and HTTP/2 on one port, told apart by their first bytes. Handlers find the peer as
/// `ConnectInfo<SocketAddr>`.
///
/// # Errors
/// `TimedOut` when requests were still under way after `settings.drain`; they are cut off.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    settings: ServeSettings,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let protocols = protocols(settings.header_timeout);
    let permits = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            (accept(&listener).await, permit)
        };
        let ((stream, peer), permit) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let connection = connection(protocols.clone(), stream, peer, app.clone(), settings.clone(), stop.clone());
        let cut = cut.clone();
        connections.spawn(async move {
            cut.run_until_cancelled(connection).await;
            drop(permit);
        });
    }
    // Closed before the drain, so that a balancer's next try goes to another instance at once.
    drop(listener);
    stop.cancel();
    connections.close();
    settings.work.close();
    let drained = timeout(settings.drain, async {
        connections.wait().await;
        settings.work.wait().await;
    });
    if drained.await.is_ok() {
        return Ok(());
    }
    cut.cancel();
    let left = settings.work.len();
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{left} requests were still under way and were cut off")))
}

/// Completes when the process is asked to stop: SIGTERM (service managers) or SIGINT (Ctrl-C).
///
/// # Errors
/// When the system refuses to install the signal handlers.
pub async fn asked_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// HTTP/1 and HTTP/2 with a timer and with limits on what one caller can make us hold.
fn protocols(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(32 * 1024)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// The next connection. Out of file descriptors is a reason to wait, not to die.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn connection(
    protocols: Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    settings: ServeSettings,
    stop: CancellationToken,
) {
    // Answers are written whole, so waiting to fill a packet would only delay them. A failure costs speed alone.
    let _ = stream.set_nodelay(true);
    let (requests, seen) = watch::channel(Requests::default());
    let service = service_fn(|mut request: Request<Incoming>| {
        let under_way = UnderWay::begin(requests.clone());
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = app.clone().oneshot(request);
        async move {
            let answer: Result<Response<axum::body::Body>, Infallible> = answer.await;
            drop(under_way);
            answer
        }
    });
    let mut served = pin!(protocols.serve_connection(TokioIo::new(stream), service));
    let grace = tokio::select! {
        // How a connection fails is the caller's affair: it went away, spoke no HTTP, or was too slow.
        _ = served.as_mut() => return,
        () = stop.cancelled() => settings.drain,
        () = idle(seen, settings.header_timeout, settings.idle_timeout) => settings.header_timeout,
    };
    served.as_mut().graceful_shutdown();
    let _ = timeout(grace, served).await;
}

/// How many requests a connection has now, and whether it ever had one.
#[derive(Clone, Copy, Default)]
struct Requests {
    now: usize,
    ever: bool,
}

/// Counts a request as under way until dropped.
struct UnderWay(watch::Sender<Requests>);

impl UnderWay {
    fn begin(requests: watch::Sender<Requests>) -> UnderWay {
        requests.send_modify(|r| *r = Requests { now: r.now + 1, ever: true });
        UnderWay(requests)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|r| r.now -= 1);
    }
}

/// Completes when there has been no request for `first` since connecting, or for `later` since the last one.
///
/// hyper's own header timeout covers neither the bytes by which HTTP/1 and HTTP/2 are told apart nor HTTP/2.
async fn idle(mut seen: watch::Receiver<Requests>, first: Duration, later: Duration) {
    loop {
        let requests = *seen.borrow_and_update();
        let patience = match requests {
            Requests { now: 0, ever: false } => first,
            Requests { now: 0, ever: true } => later,
            _ => Duration::MAX,
        };
        if !matches!(timeout(patience, seen.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}
