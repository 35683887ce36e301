//! Questions of many callers that are answered together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::StoreError;

/// Who waits for an answer.
pub(super) type Waiting<A> = oneshot::Sender<Result<A, StoreError>>;

/// Questions that have come and were not taken up yet. Whoever answers takes all there are: each answer is as fresh as
/// if it had been asked for alone, and under load one round trip to the database answers many.
pub(super) struct Gathered<Q, A> {
    questions: Mutex<Vec<(Q, Waiting<A>)>>,
    come: Arc<Notify>,
}

impl<Q, A> Gathered<Q, A> {
    /// Nothing yet. `come` is told of every question.
    pub(super) fn told(come: Arc<Notify>) -> Gathered<Q, A> {
        Gathered { questions: Mutex::default(), come }
    }

    /// The answer, of a moment after this was called.
    pub(super) async fn ask(&self, question: Q) -> Result<A, StoreError> {
        self.ask_or(question, StoreError::Unavailable).await
    }

    /// The same, where `unanswered` is what it comes to when whoever answers is no more.
    pub(super) async fn ask_or(
        &self,
        question: Q,
        unanswered: fn(Option<sqlx::Error>) -> StoreError,
    ) -> Result<A, StoreError> {
        let (sender, answer) = oneshot::channel();
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push((question, sender));
        self.come.notify_one();
        answer.await.unwrap_or(Err(unanswered(None)))
    }

    /// The same without waiting for an answer: what comes of it is in the log.
    pub(super) fn tell(&self, question: Q) {
        let (sender, _) = oneshot::channel();
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push((question, sender));
        self.come.notify_one();
    }

    /// All that have come.
    pub(super) fn take(&self) -> (Vec<Q>, Vec<Waiting<A>>) {
        std::mem::take(&mut *self.questions.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().unzip()
    }
}

/// Waits until something came; looks up now and then, so that a task that waits here sees its database closed.
pub(super) async fn until_told(come: &Notify) {
    let _ = tokio::time::timeout(Duration::from_secs(5), come.notified()).await;
}
