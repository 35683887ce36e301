//! A request's own task, in which it is worked to its end whether or not its caller waits.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::header::CONTENT_ENCODING;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use super::body::{Fate, bounded};
use super::{Edge, EdgeSettings, RequestIds, refusal};

/// The answer to `request`, or to a caller that should wait no longer.
pub(super) async fn run(edge: &Edge, ids: &RequestIds, request: Request, next: Next) -> Response {
    let span = span(ids, &request);
    // A process is not dead because it is busy: that door is never shed.
    let permit = edge.permits.clone().try_acquire_owned().ok();
    if permit.is_none() && request.uri().path() != "/livez" {
        span.in_scope(|| tracing::warn!(status = 503, "too many requests at once"));
        return refusal::busy();
    }
    let settings = &edge.settings;
    let (head, body) = request.into_parts();
    let (body, fate) = bounded(&head, body, settings.max_body, settings.body_timeout);
    let request = Request::from_parts(head, body);
    let (ids, bounds, ended) = (ids.clone(), settings.clone(), fate.clone());
    let work = async move {
        let _permit = permit;
        answer(ids, bounds, ended, request, next).await
    };
    let mut worked = settings.work.spawn(work.instrument(span.clone()));
    let patience = async {
        let _ = timeout(settings.body_timeout, fate.done()).await;
        sleep(settings.request_timeout).await;
    };
    tokio::select! {
        // The task catches panics itself; it fails only when the runtime is going down.
        response = &mut worked => response.unwrap_or_else(|_| refusal::busy()),
        () = patience => {
            span.in_scope(|| tracing::warn!(status = 503, "answered before the work was done"));
            refusal::still_working()
        }
    }
}

/// Runs the handler and says what came of it, in one line of the log.
async fn answer(ids: RequestIds, bounds: EdgeSettings, fate: Fate, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let encoded = request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    let response = if encoded {
        refusal::compressed()
    } else {
        match caught(next.run(request)).await {
            Ok(_) if fate.too_large() => refusal::too_large(bounds.max_body),
            Ok(_) if fate.too_slow() => refusal::too_slow(bounds.body_timeout.as_secs()),
            Ok(response) if refusal::is_bare(&response) && fate.broken() => refusal::broken(),
            Ok(response) if refusal::is_bare(&response) => refusal::unreadable(response.status()),
            Ok(response) => response,
            Err(Panicked) => refusal::failed(&ids),
        }
    };
    let status = response.status().as_u16();
    let duration_ms = started.elapsed().as_micros() as f64 / 1000.0;
    tracing::info!(status, duration_ms, "answered");
    response
}

/// Who asked for what, as far as a log may know: the matched route, never the path or the query.
fn span(ids: &RequestIds, request: &Request) -> tracing::Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    tracing::info_span!(
        "request",
        request.id = ids.request,
        correlation.id = ids.correlation,
        method = request.method().as_str(),
        route
    )
}

struct Panicked;

/// The output of `work`, or the news that it panicked. After a panic nothing of it is polled again.
async fn caught<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}
