//! The edge: what every request passes, whatever its door.
//!
//! Outermost first: compression, refusals in the format that is asked for, ids, headers for caches and browsers, load
//! shedding, then a task of its own in which the request is worked to its end, inside a tracing span, with panics caught
//! and the body bounded in size and time.
//! What a door does not know (404, 405) is answered here too.

mod body;
mod ids;
mod refusal;
mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower_http::compression::CompressionLayer;

use super::format::refusals_as_wanted;
use crate::config::{Http, Limits};

pub use ids::RequestIds;

/// The bounds of [`layers`].
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Bytes of a request body; a larger one is answered 413.
    pub max_body: usize,
    /// Requests worked on at once; the next are answered 503 with `Retry-After`.
    pub max_requests: usize,
    /// In what time a body must arrive; a slower one is answered 408.
    pub body_timeout: Duration,
    /// How long a caller waits for work once its body is in; then the answer is 503, and the work goes on.
    pub request_timeout: Duration,
    /// Holds every request that is worked on, also those whose caller has gone.
    pub work: TaskTracker,
}

impl EdgeSettings {
    /// The bounds that the configuration sets, with `work` as the tracker of requests under way.
    pub fn new(http: &Http, limits: &Limits, work: TaskTracker) -> EdgeSettings {
        EdgeSettings {
            max_body: limits.bytes,
            max_requests: http.max_requests,
            body_timeout: Duration::from_secs(http.body_seconds),
            request_timeout: Duration::from_secs(http.request_seconds),
            work,
        }
    }
}

/// The settings, with what is shared by all requests.
struct Edge {
    settings: EdgeSettings,
    permits: Arc<Semaphore>,
}

/// `router` behind the edge. Call it last, when all routes are in: it answers what they do not match.
///
/// Handlers find [`RequestIds`] in the request's extensions. They may read the body by any extractor: a body over a
/// bound ends in an error there, and whatever the handler makes of it, the caller is answered 413 or 408.
/// A handler runs to its end even when its caller goes away or has been answered 503, so that no unit of work is
/// dropped half way (sqlx's `begin` is not cancel-safe on PostgreSQL: transact-rs/sqlx issue 4385).
pub fn layers<S>(router: Router<S>, settings: EdgeSettings) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let permits = Arc::new(Semaphore::new(settings.max_requests.min(Semaphore::MAX_PERMITS)));
    let edge = Arc::new(Edge { settings, permits });
    router
        .fallback(refusal::nothing_here)
        .method_not_allowed_fallback(refusal::not_that_method)
        // The edge has its own limit, which answers as an OperationOutcome.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(edge, pass))
        .layer(from_fn(refusals_as_wanted))
        .layer(CompressionLayer::new())
}

async fn pass(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let ids = RequestIds::of(request.headers());
    request.extensions_mut().insert(ids.clone());
    let mut response = work::run(&edge, &ids, request, next).await;
    ids.echo(response.headers_mut());
    protect(response.headers_mut());
    response
}

/// No answer is kept by a cache unless its handler says so, and none is taken for another type than it says.
fn protect(headers: &mut HeaderMap) {
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
