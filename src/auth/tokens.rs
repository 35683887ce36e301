//! The token endpoint's work: an assertion in, an access token out, each assertion once.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use serde_json::Value;

use super::assertion::{self, Assertion, BadAssertion, Expected};
use super::key_set::KeySet;
use super::oauth::{OAuthError, TokenRequest, token_answer};
use super::scope::Scopes;
use super::token::AccessToken;
use crate::outbound::Outbound;
use crate::store::{AuditRow, ClientRow, Store, StoreError, TokenRow, audit_id};

/// How long a fetched key set is used before it is fetched again.
const KEY_SET_AGE: Duration = Duration::minutes(10);

/// How soon a key set may be fetched again because of a key id it does not have: once a minute for each URL, so that
/// made-up ids cannot be turned into load on someone else's server.
const REFETCH_AFTER: Duration = Duration::seconds(60);

/// Why no token was issued.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// What the caller hears.
    #[error("refused")]
    Refused(OAuthError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<OAuthError> for NoToken {
    fn from(error: OAuthError) -> NoToken {
        NoToken::Refused(error)
    }
}

/// Issues access tokens.
pub struct TokenEndpoint {
    pub store: Store,
    pub outbound: Arc<Outbound>,
    /// The exact URL that assertions name as `aud`.
    pub audience: String,
    /// How long a token lives.
    pub lifetime: Duration,
}

impl TokenEndpoint {
    /// Answers a token request. The reason of a refusal is logged and never told: `invalid_client` is the same for all.
    /// That a client that is known was refused is on the audit trail.
    pub async fn issue(&self, request: &TokenRequest, now: DateTime<Utc>, request_id: &str) -> Result<Value, NoToken> {
        let claimed = request.claimed_client().map_err(|why| refused(&why))?;
        if claimed.contains(char::is_control) {
            return Err(refused(&BadAssertion::UnknownKey));
        }
        let mut tx = self.store.read().await?;
        let client = tx.client(&claimed).await?;
        drop(tx);
        let Some(client) = client else { return Err(refused(&BadAssertion::UnknownKey)) };
        let issued = self.issue_to(&client, request, now).await;
        if let Err(NoToken::Refused(error)) = &issued {
            self.store.refuse(AuditRow {
                id: audit_id(now.into()),
                at: now.into(),
                client: client.id,
                organization: client.organization,
                actor: String::new(),
                interaction: "token".to_owned(),
                target: String::new(),
                person: String::new(),
                request_id: request_id.to_owned(),
                outcome: error.status().to_string(),
                times: 1,
            });
        }
        issued
    }

    async fn issue_to(&self, client: &ClientRow, request: &TokenRequest, now: DateTime<Utc>) -> Result<Value, NoToken> {
        if client.disabled_at.is_some() {
            return Err(refused(&BadAssertion::UnknownKey));
        }
        let assertion = self.verified(request, client, now).await?.map_err(|why| refused(&why))?;
        let registered = client.scopes.parse::<Scopes>().map_err(|_| OAuthError::nothing_granted())?;
        let requested = Scopes::parse(&request.scope).map_err(OAuthError::from)?;
        let granted = requested.granted(&registered).ok_or_else(OAuthError::nothing_granted)?;
        let token = AccessToken::new(rand::random::<[u8; 32]>());
        let mut tx = self.store.write().await?;
        if !tx.use_assertion(&client.id, &assertion.jti, assertion.remember_until().into()).await? {
            tracing::info!(client.id = %client.id, reason = "replayed", "a client assertion was refused");
            return Err(NoToken::Refused(OAuthError::InvalidClient));
        }
        tx.insert_token(&TokenRow {
            hash: token.hash(),
            client: client.id.clone(),
            scopes: granted.to_string(),
            expires_at: (now + self.lifetime).into(),
        })
        .await?;
        tx.commit().await?;
        let seconds = u32::try_from(self.lifetime.num_seconds()).unwrap_or(0);
        Ok(token_answer(&token, seconds, &granted))
    }

    async fn verified(
        &self,
        request: &TokenRequest,
        client: &ClientRow,
        now: DateTime<Utc>,
    ) -> Result<Result<Assertion, BadAssertion>, StoreError> {
        let verify = |keys: &KeySet| {
            let jwks_url = (!client.jwks_url.is_empty()).then_some(client.jwks_url.as_str());
            let expected = Expected { client_id: &client.id, audience: &self.audience, keys, jwks_url, now };
            assertion::verify(&request.assertion, &expected)
        };
        if client.jwks_url.is_empty() {
            return Ok(read(&client.jwks).map_or(Err(BadAssertion::UnknownKey), |keys| verify(&keys)));
        }
        let mut tx = self.store.read().await?;
        let kept = tx.fetched_key_set(&client.jwks_url).await?;
        drop(tx);
        let age = kept.as_ref().map_or(Duration::MAX, |(_, at)| now - at.time());
        if age < KEY_SET_AGE
            && let Some((body, _)) = &kept
        {
            let answer = read(body).map_or(Err(BadAssertion::UnknownKey), |keys| verify(&keys));
            if age < REFETCH_AFTER || !matches!(answer, Err(BadAssertion::UnknownKey)) {
                return Ok(answer);
            }
        }
        let old = kept.map(|(body, _)| body).unwrap_or_default();
        let fetched = self.fetch(&client.jwks_url, old, now).await?;
        Ok(fetched.map_or(Err(BadAssertion::UnknownKey), |keys| verify(&keys)))
    }

    /// Fetches a key set and keeps it. After a failure the old one is kept, as if fetched now: it is not tried again at
    /// once, and a client whose server is away for a while is not shut out.
    async fn fetch(&self, url: &str, old: String, now: DateTime<Utc>) -> Result<Option<KeySet>, StoreError> {
        let body = match self.outbound.fetch_key_set(url).await {
            Ok(fetched) => fetched.document.to_string(),
            Err(error) => {
                tracing::warn!(error = %error, "a client's key set could not be fetched");
                old
            }
        };
        let mut tx = self.store.write().await?;
        tx.put_fetched_key_set(url, &body, now.into()).await?;
        tx.commit().await?;
        Ok(read(&body))
    }
}

fn refused(why: &BadAssertion) -> NoToken {
    tracing::info!(reason = why.code(), "a client assertion was refused");
    NoToken::Refused(OAuthError::from(*why))
}

fn read(jwks: &str) -> Option<KeySet> {
    let document: Value = serde_json::from_str(jwks).ok()?;
    KeySet::parse(&document).ok()
}
