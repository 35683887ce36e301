//! The keys the service signs with, and the secret of its page links: of all instances, so kept here.

use super::{At, StoreError, Tx};

/// A key the service signs with, before, now or next. It is never printed.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct ServiceKeyRow {
    pub id: String,
    /// PKCS#8 PEM, private.
    pub pem: String,
    /// Since when it is published.
    pub created_at: At,
}

impl Tx {
    /// The keys of the service, oldest first.
    pub async fn service_keys(&mut self) -> Result<Vec<ServiceKeyRow>, StoreError> {
        sql!(self, fetch_all, "select id, pem, created_at from service_key order by created_at, id")
    }

    /// Keeps a key for the service to sign with. False when there is one with this id.
    pub async fn insert_service_key(&mut self, key: &ServiceKeyRow) -> Result<bool, StoreError> {
        let inserted = sql!(
            self,
            execute,
            "insert into service_key (id, pem, created_at) values ($1, $2, $3) on conflict do nothing",
            &key.id,
            &key.pem,
            key.created_at
        )?;
        Ok(inserted == 1)
    }

    /// Forgets a key.
    pub async fn delete_service_key(&mut self, id: &str) -> Result<(), StoreError> {
        sql!(self, execute, "delete from service_key where id = $1", id)?;
        Ok(())
    }

    /// The secret of page links: the one that is kept, else this one, which is kept from now on.
    pub async fn page_secret(&mut self, new: &str) -> Result<String, StoreError> {
        sql!(self, execute, "insert into page_secret (id, secret) values ('pages', $1) on conflict do nothing", new)?;
        let (secret,): (String,) = sql!(self, fetch_one, "select secret from page_secret where id = 'pages'")?;
        Ok(secret)
    }
}
