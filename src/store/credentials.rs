//! What a request is admitted by: its token, the client it was issued to, and whom that client is.
//!
//! Read from the database for every request, so that a client that is shut out, a token taken back or a role that ended
//! counts at once, on every instance. Requests that come while one is being read for are read for together.

use std::sync::{Arc, Weak};

use super::gathered::{Waiting, until_told};
use super::query::Query;
use super::{At, Store, StoreError, Tx, directory, postgres, sqlite};
use crate::fhir::Resource;

/// A token that was issued to a client that is not disabled.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct Credentials {
    /// Of the token.
    pub hash: String,
    pub scopes: String,
    pub expires_at: At,
    pub client: String,
    /// ODS code of the client's organisation.
    pub organization: String,
    /// The one member of staff the client is (`PractitionerRole/id`), '' for none.
    pub staff: String,
    /// Their PractitionerRole (JSON) in the directory, '' where there is none.
    role: String,
    pub speaks_for_staff: bool,
}

impl Credentials {
    /// The PractitionerRole that the client is, where it is one of the directory.
    pub fn role(&self) -> Result<Option<Resource>, StoreError> {
        if self.role.is_empty() {
            return Ok(None);
        }
        let id = self.staff.trim_start_matches("PractitionerRole/");
        directory::read("PractitionerRole", id, &self.role).map(Some)
    }
}

/// Tokens that are read for at once; more are read for in turn.
const AT_ONCE: usize = 64;

impl Store {
    /// The credentials of a token, expired or not, by its hash.
    pub async fn credentials(&self, hash: &str) -> Result<Option<Credentials>, StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.credentials.ask(hash.to_owned()).await,
            Store::Postgres(postgres) => postgres.credentials.ask(hash.to_owned()).await,
        }
    }

    fn asked_for(&self) -> (Vec<String>, Vec<Waiting<Option<Credentials>>>) {
        match self {
            Store::Sqlite(sqlite) => sqlite.credentials.take(),
            Store::Postgres(postgres) => postgres.credentials.take(),
        }
    }

    async fn answer_credentials(&self) {
        let (hashes, waiting) = self.asked_for();
        let mut waiting = waiting.into_iter();
        for some in hashes.chunks(AT_ONCE) {
            let found = async { self.look().await?.credentials(some).await }.await;
            for (hash, one) in some.iter().zip(&mut waiting) {
                let answer = match &found {
                    Ok(found) => Ok(found.iter().find(|c| c.hash == *hash).cloned()),
                    Err(error) => {
                        tracing::warn!(error = %error, "credentials cannot be read");
                        Err(StoreError::Unavailable(None))
                    }
                };
                let _ = one.send(answer);
            }
        }
    }
}

/// A database, without keeping it open.
pub(super) enum Weakly {
    Sqlite(Weak<sqlite::Sqlite>),
    Postgres(Weak<postgres::Postgres>),
}

impl Weakly {
    fn store(&self) -> Option<Store> {
        match self {
            Weakly::Sqlite(sqlite) => sqlite.upgrade().map(Store::Sqlite),
            Weakly::Postgres(postgres) => postgres.upgrade().map(Store::Postgres),
        }
    }
}

/// Answers until the database is closed.
pub(super) async fn answer(database: Weakly, come: Arc<tokio::sync::Notify>) {
    loop {
        until_told(&come).await;
        let Some(store) = database.store() else { return };
        store.answer_credentials().await;
    }
}

impl Tx {
    /// The credentials of tokens, by their hashes.
    pub async fn credentials(&mut self, hashes: &[String]) -> Result<Vec<Credentials>, StoreError> {
        let Some(last) = hashes.last() else { return Ok(Vec::new()) };
        let mut query = Query::new(
            "select t.hash, t.scopes, t.expires_at, c.id as client, c.organization, c.staff, \
             coalesce(r.body, '') as role, c.speaks_for_staff from access_token t join client c on c.id = t.client \
             left join resource r on r.kind = 'PractitionerRole' and c.staff <> '' \
             and r.id = replace(c.staff, 'PractitionerRole/', '') and r.sender = '' and r.person = '' and not r.deleted \
             where c.disabled_at is null and t.hash in (",
        );
        // A power of two of them, so that few texts stand for all numbers.
        for at in 0..hashes.len().next_power_of_two() {
            query.push(if at == 0 { "" } else { ", " }).bind(hashes.get(at).unwrap_or(last).as_str());
        }
        query.push(")");
        self.rows(query).await
    }
}
