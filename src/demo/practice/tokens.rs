//! The stand-in's token endpoint: SMART Backend Services, `client_credentials` by `private_key_jwt`.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// How long a token lasts, in seconds (SMART: should not exceed 300).
const TOKEN_SECONDS: i64 = 300;
/// How far ahead an assertion may expire, in seconds (SMART: five minutes).
const LONGEST_ASSERTION: i64 = 300;
/// How far two clocks may differ, in seconds.
const SKEW: i64 = 5;
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS384, Algorithm::ES384, Algorithm::RS512];
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a bearer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    Read,
    Write,
}

/// Tokens issued and assertions seen. In memory only: after a restart everybody asks again.
#[derive(Default)]
pub(super) struct Tokens {
    issued: HashMap<String, Issued>,
    seen: HashMap<String, DateTime<Utc>>,
    signers: BTreeSet<String>,
}

struct Issued {
    practice: String,
    right: Right,
    until: DateTime<Utc>,
}

/// The OAuth error object (RFC 6749 5.2).
#[derive(Debug, PartialEq)]
pub(super) struct TokenError {
    pub(super) status: u16,
    error: &'static str,
    text: &'static str,
}

impl TokenError {
    pub(super) fn body(&self) -> Value {
        json!({ "error": self.error, "error_description": self.text })
    }
}

fn invalid_request(text: &'static str) -> TokenError {
    TokenError { status: 400, error: "invalid_request", text }
}

/// One text for every cause, so that the endpoint tells nobody what is registered.
pub(super) const INVALID_CLIENT: TokenError =
    TokenError { status: 401, error: "invalid_client", text: "The client assertion was not accepted." };

/// The parts of a token request that matter once its form is right.
pub(super) struct TokenRequest {
    assertion: String,
    scope: String,
}

impl TokenRequest {
    /// Checks the form: each parameter exactly once, the grant and assertion type that SMART names.
    pub(super) fn read(form: &[(String, String)]) -> Result<TokenRequest, TokenError> {
        let once = |name: &str| {
            let mut given = form.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone());
            let first = given.next().ok_or(invalid_request("A parameter is missing."))?;
            if given.next().is_some() { Err(invalid_request("A parameter is repeated.")) } else { Ok(first) }
        };
        if once("grant_type")? != "client_credentials" {
            let text = "Only client_credentials is offered.";
            return Err(TokenError { status: 400, error: "unsupported_grant_type", text });
        }
        if once("client_assertion_type")? != ASSERTION_TYPE {
            return Err(invalid_request("Only a signed JWT is accepted as client assertion."));
        }
        let scope = once("scope")?;
        if !scope.split(' ').any(|s| s.starts_with("system/")) {
            let text = "Ask for at least one system/ scope.";
            return Err(TokenError { status: 400, error: "invalid_scope", text });
        }
        Ok(TokenRequest { assertion: once("client_assertion")?, scope })
    }

    /// The key that the assertion says it is signed with.
    pub(super) fn kid(&self) -> Option<String> {
        decode_header(&self.assertion).ok()?.kid
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    iat: Option<i64>,
    nbf: Option<i64>,
    jti: String,
}

impl Tokens {
    /// Issues a token for the FHIR endpoint of `practice`, if the assertion is the client's own, fresh and unused.
    /// `keys` is the client's JSON Web Key Set, `endpoint` the token endpoint's own address.
    pub(super) fn issue(
        &mut self,
        request: &TokenRequest,
        keys: &Value,
        client_id: &str,
        endpoint: &str,
        practice: &str,
        now: DateTime<Utc>,
    ) -> Result<Value, TokenError> {
        let claims = verified(&request.assertion, keys).ok_or(INVALID_CLIENT)?;
        let at = now.timestamp();
        let names = claims.iss == client_id && claims.sub == client_id && claims.aud == endpoint;
        let fresh = claims.exp > at - SKEW && claims.exp <= at + LONGEST_ASSERTION + SKEW;
        let begun = claims.iat.max(claims.nbf).is_none_or(|from| from <= at + SKEW);
        if !(names && fresh && begun && (1..=128).contains(&claims.jti.len())) {
            return Err(INVALID_CLIENT);
        }
        self.seen.retain(|_, until| *until > now);
        let until = now + Duration::seconds(LONGEST_ASSERTION + 2 * SKEW);
        if self.seen.insert(claims.jti, until).is_some() {
            return Err(INVALID_CLIENT);
        }
        self.issued.retain(|_, issued| issued.until > now);
        self.signers.extend(request.kid());
        let token = self.grant(practice, Right::Write, now + Duration::seconds(TOKEN_SECONDS));
        Ok(json!({
            "access_token": token,
            "token_type": "bearer",
            "expires_in": TOKEN_SECONDS,
            "scope": request.scope,
        }))
    }

    /// The keys (`kid`) by which tokens were got.
    pub(super) fn signers(&self) -> BTreeSet<String> {
        self.signers.clone()
    }

    /// A token without asking, for the practice's own staff.
    pub(super) fn grant(&mut self, practice: &str, right: Right, until: DateTime<Utc>) -> String {
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        self.issued.insert(token.clone(), Issued { practice: practice.to_owned(), right, until });
        token
    }

    /// What the bearer of this token may do at this practice; nothing when it is unknown or over.
    pub(super) fn right(&self, token: &str, practice: &str, now: DateTime<Utc>) -> Option<Right> {
        let issued = self.issued.get(token)?;
        (issued.practice == practice && issued.until > now).then_some(issued.right)
    }
}

/// The keys of a set with this `kid`.
pub(super) fn named<'k>(keys: &'k Value, kid: &str) -> Vec<&'k Value> {
    let all = keys.get("keys").and_then(Value::as_array).into_iter().flatten();
    all.filter(|key| key.get("kid").and_then(Value::as_str) == Some(kid)).collect()
}

/// The claims, if exactly one registered key has the header's `kid` and its signature is right.
fn verified(assertion: &str, keys: &Value) -> Option<Claims> {
    let header = decode_header(assertion).ok()?;
    if !ALGORITHMS.contains(&header.alg) {
        return None;
    }
    let mut matching = named(keys, &header.kid?);
    let (Some(key), None) = (matching.pop(), matching.pop()) else { return None };
    if !matches!(key.get("kty").and_then(Value::as_str), Some("RSA" | "EC")) {
        return None;
    }
    let key = DecodingKey::from_jwk(&serde_json::from_value::<Jwk>(key.clone()).ok()?).ok()?;
    // Times and audience are checked by the caller: against its own clock, and as one exact string.
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    decode::<Claims>(assertion, &key, &validation).ok().map(|data| data.claims)
}
