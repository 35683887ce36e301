//! Answers that a resend gets again.

use super::{At, StoreError, Tx};

/// A submission and the answer it got.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct SubmissionRow {
    pub id: String,
    pub client: String,
    /// The `Idempotency-Key`, '' for none.
    pub key: String,
    /// Digest of what was sent.
    pub digest: String,
    /// The HTTP status it was answered with.
    pub status: i64,
    /// The resource answered (JSON), or `Type/id` of the resource made.
    pub answer: String,
    pub created_at: At,
}

impl Tx {
    /// The submission a client made under an `Idempotency-Key`.
    pub async fn submission_by_key(&mut self, client: &str, key: &str) -> Result<Option<SubmissionRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select id, client, key, digest, status, answer, created_at from submission \
             where client = $1 and key = $2 and key <> ''",
            client,
            key
        )
    }

    /// A submission by id.
    pub async fn submission(&mut self, id: &str) -> Result<Option<SubmissionRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select id, client, key, digest, status, answer, created_at from submission where id = $1",
            id
        )
    }

    /// Keeps a submission and its answer. Put off: [`StoreError::Conflict`] comes with the commit when the key was used
    /// meanwhile.
    pub async fn insert_submission(&mut self, submission: &SubmissionRow) -> Result<(), StoreError> {
        let row = vec![
            submission.id.as_str().into(),
            submission.client.as_str().into(),
            submission.key.as_str().into(),
            submission.digest.as_str().into(),
            submission.status.into(),
            submission.answer.as_str().into(),
            submission.created_at.into(),
        ];
        let insert = "submission (id, client, key, digest, status, answer, created_at)";
        self.put_off(insert, [row], "").await
    }
}
