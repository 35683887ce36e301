//! A request body that ends: after so many bytes, and after so long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::EXPECT;
use axum::http::request::Parts;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

/// A body over the limit is read on and thrown away up to this many times the limit, because a caller that is still
/// sending when the connection closes never sees the answer.
const DRAIN_FACTOR: usize = 16;

/// How a body ended, for whoever answers the request.
#[derive(Clone, Default)]
pub(super) struct Fate(Arc<Ended>);

#[derive(Default)]
struct Ended {
    how: AtomicU8,
    when: Notify,
}

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;
const BROKEN: u8 = 3;

impl Fate {
    pub(super) fn too_large(&self) -> bool {
        self.0.how.load(Ordering::Acquire) == TOO_LARGE
    }

    pub(super) fn too_slow(&self) -> bool {
        self.0.how.load(Ordering::Acquire) == TOO_SLOW
    }

    /// It ended before its end, or is not framed as HTTP says.
    pub(super) fn broken(&self) -> bool {
        self.0.how.load(Ordering::Acquire) == BROKEN
    }

    /// Completes when the body is in, or will not be read any more.
    pub(super) async fn done(&self) {
        self.0.when.notified().await;
    }
}

/// `body` with bounds, and the place to ask how it ended.
pub(super) fn bounded(head: &Parts, body: Body, limit: usize, time: Duration) -> (Body, Fate) {
    let fate = Fate::default();
    if body.is_end_stream() {
        fate.0.when.notify_one();
        return (body, fate);
    }
    // A caller that waits to be told to go on has sent nothing yet: nothing to throw away.
    let drain = if head.headers.contains_key(EXPECT) { 0 } else { limit.saturating_mul(DRAIN_FACTOR) };
    let announced = body.size_hint().lower();
    let over = announced > limit as u64;
    let drain = if announced > drain as u64 { 0 } else { drain };
    let bounded = Bounded { inner: body, read: 0, limit, drain, over, time: Box::pin(sleep(time)), fate: fate.clone() };
    (Body::new(bounded), fate)
}

struct Bounded {
    inner: Body,
    read: usize,
    limit: usize,
    drain: usize,
    /// Over the limit, as announced or as counted: what still comes is thrown away.
    over: bool,
    time: Pin<Box<Sleep>>,
    fate: Fate,
}

#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the body is larger than the limit")]
    TooLarge,
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the caller went away in the middle of the body, or framed it wrongly")]
    Broken(#[source] axum::Error),
}

impl Bounded {
    fn cut(&self, how: u8, why: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.fate.0.how.store(how, Ordering::Release);
        Poll::Ready(Some(Err(why)))
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if self.over && self.read >= self.drain {
                return self.cut(TOO_LARGE, Cut::TooLarge);
            }
            let polled = Pin::new(&mut self.inner).poll_frame(cx);
            if polled.is_pending() && self.time.as_mut().poll(cx).is_ready() {
                return if self.over { self.cut(TOO_LARGE, Cut::TooLarge) } else { self.cut(TOO_SLOW, Cut::TooSlow) };
            }
            match ready!(polled) {
                Some(Ok(frame)) => {
                    self.read = self.read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
                    self.over |= self.read > self.limit;
                    if !self.over {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Some(Err(error)) => return self.cut(BROKEN, Cut::Broken(error)),
                None if self.over => return self.cut(TOO_LARGE, Cut::TooLarge),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.over && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Readers reserve what is announced: never more than the limit.
        if self.over { SizeHint::default() } else { self.inner.size_hint() }
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        self.fate.0.when.notify_one();
    }
}
