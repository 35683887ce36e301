//! The client side of SMART Backend Services (SMART App Launch 2, `backend-services.html`): discovery, a signed client
//! assertion, and the token, kept until shortly before it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Duration, Utc};
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::Outbound;
use super::fhir_rest::{PracticeEndpoint, base_of, under};
use super::key_ring::KeyRing;
use super::wire::Wire;
use crate::pathway::delivery::{Verdict, Why};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Asked for where the practice does not say which scopes it knows.
const DEFAULT_SCOPE: &str = "system/*.cruds";

/// A client assertion may live five minutes at most (SMART App Launch 2).
const ASSERTION_SECONDS: i64 = 300;

/// A token is renewed this long before its end, so that none ends on the way.
const MARGIN_SECONDS: i64 = 30;

/// How long "needs no token" is believed, and the longest a token is kept whatever it says.
const OPEN_SECONDS: i64 = 300;
const LONGEST_SECONDS: i64 = 3600;

/// The tokens of all practices.
pub(super) struct Tokens {
    keys: Arc<KeyRing>,
    kept: Mutex<HashMap<(String, String), Access>>,
}

/// What a practice lets us in with.
#[derive(Clone)]
struct Access {
    /// `Authorization`, or nothing where the practice publishes no SMART configuration. Marked sensitive, so that it
    /// is never printed.
    header: Option<HeaderValue>,
    until: DateTime<Utc>,
}

impl Tokens {
    pub(super) fn new(keys: Arc<KeyRing>) -> Tokens {
        Tokens { keys, kept: Mutex::new(HashMap::new()) }
    }

    /// The `Authorization` for calls under `base`, from memory or fresh.
    pub(super) async fn authorization(
        &self,
        wire: &Wire,
        practice: &PracticeEndpoint,
        base: &Url,
        now: DateTime<Utc>,
    ) -> Result<Option<HeaderValue>, Verdict> {
        let name = (base.to_string(), practice.client_id.clone());
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(access) = known.filter(|access| access.until > now) {
            return Ok(access.header);
        }
        let access = match discover(wire, base, now).await? {
            Some(smart) => self.fetch(wire, practice, &smart, now).await?,
            None => Access { header: None, until: now + Duration::seconds(OPEN_SECONDS) },
        };
        let header = access.header.clone();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name, access);
        Ok(header)
    }

    /// Forgets what is known of a practice, after a 401.
    pub(super) fn forget(&self, practice: &PracticeEndpoint, base: &Url) {
        let name = (base.to_string(), practice.client_id.clone());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    }

    async fn fetch(
        &self,
        wire: &Wire,
        practice: &PracticeEndpoint,
        smart: &Smart,
        now: DateTime<Utc>,
    ) -> Result<Access, Verdict> {
        let assertion = self
            .keys
            .signing(now)
            .sign(&json!({
                "iss": practice.client_id,
                "sub": practice.client_id,
                "aud": smart.token_endpoint,
                "iat": now.timestamp(),
                "exp": now.timestamp() + ASSERTION_SECONDS,
                "jti": uuid::Uuid::new_v4().to_string(),
            }))
            .map_err(|_| Verdict::Retry { after: None, why: Why::RequestNotMade })?;
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", smart.scope.as_str()),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
        ];
        let request = wire.client.post(smart.url.clone()).header("accept", "application/json").form(&form);
        let answer = wire.send(&smart.url, request).await.map_err(not_got)?;
        if !answer.is_success() {
            let said =
                answer.json().ok().as_ref().and_then(|v| v.get("error")).and_then(Value::as_str).and_then(oauth_code);
            return Err(if answer.may_pass() {
                Verdict::Retry { after: answer.retry_after(now), why: Why::Status(answer.status) }
            } else {
                Verdict::Refused { why: Why::TokenRefused, outcome: said }
            });
        }
        let body = answer.json().map_err(|why| Verdict::Retry { after: None, why })?;
        access(&body, now).ok_or(Verdict::Retry { after: None, why: Why::AnswerUnreadable })
    }
}

impl Outbound {
    /// Whether the practice whose FHIR base this is publishes a SMART configuration, so that it is called with a token.
    ///
    /// # Errors
    /// Nobody answers there, or not with something that can be used; or the address is one that is not called.
    pub async fn publishes_smart(&self, base: &str, now: DateTime<Utc>) -> Result<bool, Why> {
        let base = self.wire.guard.check(base).map_err(|_| Why::AddressRefused)?;
        match discover(&self.wire, &base_of(base), now).await {
            Ok(found) => Ok(found.is_some()),
            Err(Verdict::Retry { why, .. } | Verdict::Refused { why, .. } | Verdict::Unknown { why }) => Err(why),
            Err(Verdict::Delivered { .. } | Verdict::Sent { .. } | Verdict::NeedsPerson { .. }) => {
                Err(Why::AnswerUnreadable)
            }
        }
    }
}

/// What a practice's SMART configuration says, as far as it is used.
struct Smart {
    /// As published: it is the assertion's audience to the letter.
    token_endpoint: String,
    url: Url,
    scope: String,
}

/// Reads `<base>/.well-known/smart-configuration`; none where the practice publishes none, or none that says where tokens
/// come from.
async fn discover(wire: &Wire, base: &Url, now: DateTime<Utc>) -> Result<Option<Smart>, Verdict> {
    let url = under(base, &[".well-known", "smart-configuration"]);
    let request = wire.client.get(url.clone()).header("accept", "application/json");
    let answer = wire.send(&url, request).await.map_err(not_got)?;
    match answer.status {
        200 => {}
        404 | 410 => return Ok(None),
        status if answer.may_pass() => {
            return Err(Verdict::Retry { after: answer.retry_after(now), why: Why::Status(status) });
        }
        status => return Err(Verdict::Refused { why: Why::Status(status), outcome: None }),
    }
    let body = answer.json().map_err(|why| Verdict::Retry { after: None, why })?;
    let unusable = || Verdict::Refused { why: Why::TokenEndpointUnusable, outcome: None };
    // helios-hfs publishes one without a token endpoint where its authentication is off: whoever wants a token after all
    // answers 401.
    let Some(said) = body.get("token_endpoint") else { return Ok(None) };
    let said = said.as_str().ok_or_else(unusable)?;
    let endpoint = wire.guard.check(said).map_err(|_| unusable())?;
    // Plain http is for test systems, and there only on the practice's own origin.
    if endpoint.scheme() != "https" && endpoint.origin() != base.origin() {
        return Err(unusable());
    }
    Ok(Some(Smart { token_endpoint: said.to_owned(), url: endpoint, scope: scope(&body) }))
}

/// The scope to ask for: all of `system/` that the practice offers, the wildcard where it has one.
fn scope(configuration: &Value) -> String {
    let offered = configuration.get("scopes_supported").and_then(Value::as_array);
    let offered: Vec<&str> = offered.into_iter().flatten().filter_map(Value::as_str).collect();
    for wildcard in [DEFAULT_SCOPE, "system/*.*"] {
        if offered.contains(&wildcard) {
            return wildcard.to_owned();
        }
    }
    let ours: Vec<&str> = offered.into_iter().filter(|s| s.starts_with("system/") && s.len() <= 100).take(50).collect();
    if ours.is_empty() { DEFAULT_SCOPE.to_owned() } else { ours.join(" ") }
}

fn access(body: &Value, now: DateTime<Utc>) -> Option<Access> {
    let token = body.get("access_token").and_then(Value::as_str).filter(|t| !t.is_empty() && t.len() <= 8192)?;
    let bearer = body.get("token_type").and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case("bearer"));
    if !bearer || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    // Not said: short, because it is not known.
    let lives = body.get("expires_in").and_then(Value::as_i64).unwrap_or(60).clamp(0, LONGEST_SECONDS);
    Some(Access { header: Some(header), until: now + Duration::seconds(lives - MARGIN_SECONDS) })
}

/// An OAuth error code as RFC 6749 spells them, and nothing else a practice might put there.
fn oauth_code(said: &str) -> Option<String> {
    let fits = said.len() <= 40 && said.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (fits && !said.is_empty()).then(|| said.to_owned())
}

/// Nothing of the patient was sent yet, so trying again is safe.
fn not_got(lost: super::wire::Lost) -> Verdict {
    match lost.why {
        Why::AddressRefused => Verdict::Refused { why: Why::AddressRefused, outcome: None },
        why => Verdict::Retry { after: None, why },
    }
}
