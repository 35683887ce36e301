//! Who may call: registered clients, their key sets, the tokens they hold, the assertions they have used.

use super::{At, StoreError, Tx};

/// A registered client. Its key set is public keys only.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct ClientRow {
    pub id: String,
    /// ODS code of the organisation it belongs to.
    pub organization: String,
    /// The scopes it may be granted.
    pub scopes: String,
    /// Its JWK Set, '' when it is fetched from `jwks_url`.
    pub jwks: String,
    pub jwks_url: String,
    /// The one member of staff it is (`PractitionerRole/id`), '' for none.
    pub staff: String,
    /// It names the acting person on each request.
    pub speaks_for_staff: bool,
    pub created_at: At,
    pub disabled_at: Option<At>,
}

/// An access token that was issued; only its hash is kept.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct TokenRow {
    pub hash: String,
    pub client: String,
    pub scopes: String,
    pub expires_at: At,
}

impl Tx {
    /// A client, disabled or not.
    pub async fn client(&mut self, id: &str) -> Result<Option<ClientRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select id, organization, scopes, jwks, jwks_url, staff, speaks_for_staff, created_at, disabled_at \
             from client where id = $1",
            id
        )
    }

    /// All clients, by id.
    pub async fn clients(&mut self) -> Result<Vec<ClientRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select id, organization, scopes, jwks, jwks_url, staff, speaks_for_staff, created_at, disabled_at \
             from client order by id"
        )
    }

    /// Registers a client, or replaces its registration; a disabled one is enabled again.
    pub async fn put_client(&mut self, client: &ClientRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into client (id, organization, scopes, jwks, jwks_url, staff, speaks_for_staff, created_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (id) do update set \
             organization = excluded.organization, scopes = excluded.scopes, jwks = excluded.jwks, \
             jwks_url = excluded.jwks_url, staff = excluded.staff, speaks_for_staff = excluded.speaks_for_staff, \
             disabled_at = null",
            &client.id,
            &client.organization,
            &client.scopes,
            &client.jwks,
            &client.jwks_url,
            &client.staff,
            client.speaks_for_staff,
            client.created_at
        )?;
        Ok(())
    }

    /// Disables a client: its tokens stop at once. False when there is no such client.
    pub async fn disable_client(&mut self, id: &str, now: At) -> Result<bool, StoreError> {
        let changed = sql!(self, execute, "update client set disabled_at = $2 where id = $1", id, now)?;
        sql!(self, execute, "delete from access_token where client = $1", id)?;
        Ok(changed == 1)
    }

    /// Uses an assertion up. False when it was used before.
    pub async fn use_assertion(&mut self, client: &str, jti: &str, expires_at: At) -> Result<bool, StoreError> {
        let inserted = sql!(
            self,
            execute,
            "insert into assertion_used (client, jti, expires_at) values ($1, $2, $3) on conflict do nothing",
            client,
            jti,
            expires_at
        )?;
        Ok(inserted == 1)
    }

    /// Keeps a token that was issued.
    pub async fn insert_token(&mut self, token: &TokenRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into access_token (hash, client, scopes, expires_at) values ($1, $2, $3, $4)",
            &token.hash,
            &token.client,
            &token.scopes,
            token.expires_at
        )?;
        Ok(())
    }

    /// Forgets tokens and used assertions that expired before `before`.
    pub async fn forget_expired_credentials(&mut self, before: At) -> Result<(), StoreError> {
        sql!(self, execute, "delete from access_token where expires_at < $1", before)?;
        sql!(self, execute, "delete from assertion_used where expires_at < $1", before)?;
        Ok(())
    }

    /// The key set last fetched from a URL, and when.
    pub async fn fetched_key_set(&mut self, url: &str) -> Result<Option<(String, At)>, StoreError> {
        sql!(self, fetch_optional, "select body, fetched_at from key_set where url = $1", url)
    }

    /// Keeps a key set that was fetched; '' keeps only that it was tried.
    pub async fn put_fetched_key_set(&mut self, url: &str, body: &str, now: At) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into key_set (url, body, fetched_at) values ($1, $2, $3) \
             on conflict (url) do update set body = excluded.body, fetched_at = excluded.fetched_at",
            url,
            body,
            now
        )?;
        Ok(())
    }
}
