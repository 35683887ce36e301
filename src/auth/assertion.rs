//! Client assertions: the signed JWT with which a client proves who it is at the token endpoint (SMART App Launch,
//! client-confidential-asymmetric; RFC 7523; hardened after RFC 8725).
//!
//! The whole JWT is read here rather than by a JWT library: claims that are checked only if present, clock leeway of a
//! minute and lists accepted for `aud` are such libraries' defaults, and each has let assertions in somewhere.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::key_set::{Algorithm, Key, KeySet, is_kid};
use super::strict_json::{self, NotStrict, present};

/// The longest assertion that is looked at, in octets.
pub const MAX_OCTETS: usize = 8192;
/// How far ahead `exp` may lie, and how long ago `iat`, in seconds (SMART: "no more than five minutes in the future").
pub const MAX_LIFETIME_SECONDS: i64 = 300;
/// How far the clocks of client and service may differ, in seconds.
pub const CLOCK_SKEW_SECONDS: i64 = 5;
/// The longest `jti`, in characters.
pub const MAX_JTI: usize = 128;
/// The longest client id, in characters.
pub const MAX_CLIENT_ID: usize = 256;
/// Header members that change how a JWT is read, or bring a key of the sender's choice.
const REFUSED_HEADERS: [&str; 10] = ["crit", "b64", "zip", "enc", "cty", "jwk", "x5u", "x5c", "x5t", "x5t#S256"];

/// Why an assertion was refused: for the audit log only. The client hears `invalid_client` with one text for every
/// cause, so that nobody can ask which clients exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadAssertion {
    #[error("the assertion is longer than {MAX_OCTETS} octets")]
    TooLong,
    #[error("the assertion is not a JWS of three parts in unpadded base64url")]
    Encoding,
    #[error("the header is not a JSON object with the members a client assertion has")]
    Header,
    #[error("the header asks for a reading that is not offered, or brings its own key")]
    RefusedHeader,
    #[error("the payload is not a JSON object with the members a client assertion has")]
    Claims,
    #[error("the header or the payload says a member twice")]
    Repeated,
    #[error("alg is not RS384, ES384 or RS512")]
    Algorithm,
    #[error("typ is not JWT")]
    Type,
    #[error("kid is not 1 to 128 printable characters")]
    Kid,
    #[error("jku is not the registered URL of the client's key set")]
    KeySetUrl,
    /// The one that may be cured by fetching the client's key set again, which the caller limits.
    #[error("the client has no key with this kid for this algorithm")]
    UnknownKey,
    #[error("the signature is not by the client's key")]
    Signature,
    #[error("iss is not the client id")]
    Issuer,
    #[error("sub is not the client id")]
    Subject,
    #[error("the client_id of the request is not the one of the assertion")]
    ClientId,
    #[error("aud is not the token URL")]
    Audience,
    #[error("exp has passed")]
    Expired,
    #[error("exp is more than five minutes ahead")]
    TooLongLived,
    #[error("nbf has not come yet")]
    NotYet,
    #[error("iat is ahead of now")]
    IssuedAhead,
    #[error("iat is more than five minutes ago")]
    IssuedLongAgo,
    #[error("jti is not 1 to {MAX_JTI} characters, none of them a control character")]
    Jti,
}

impl BadAssertion {
    /// A stable word for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            BadAssertion::TooLong => "too-long",
            BadAssertion::Encoding => "encoding",
            BadAssertion::Header => "header",
            BadAssertion::RefusedHeader => "refused-header",
            BadAssertion::Claims => "claims",
            BadAssertion::Repeated => "repeated-member",
            BadAssertion::Algorithm => "alg",
            BadAssertion::Type => "typ",
            BadAssertion::Kid => "kid",
            BadAssertion::KeySetUrl => "jku",
            BadAssertion::UnknownKey => "unknown-key",
            BadAssertion::Signature => "signature",
            BadAssertion::Issuer => "iss",
            BadAssertion::Subject => "sub",
            BadAssertion::ClientId => "client-id",
            BadAssertion::Audience => "aud",
            BadAssertion::Expired => "expired",
            BadAssertion::TooLongLived => "lifetime",
            BadAssertion::NotYet => "nbf",
            BadAssertion::IssuedAhead => "iat-ahead",
            BadAssertion::IssuedLongAgo => "iat-old",
            BadAssertion::Jti => "jti",
        }
    }
}

/// What a good assertion must say, and the keys it must be signed with.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The registered client id: `iss` and `sub`.
    pub client_id: &'a str,
    /// The URL of the token endpoint as published, character for character: `aud`.
    pub audience: &'a str,
    /// The client's keys.
    pub keys: &'a KeySet,
    /// Where the client's key set is fetched from, if it is: the only `jku` that is allowed.
    pub jwks_url: Option<&'a str>,
    pub now: DateTime<Utc>,
}

/// A good assertion. It counts once: the caller stores (`client_id`, `jti`) in the same transaction as the token,
/// where it must be new, and keeps it until [`Assertion::remember_until`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    pub client_id: String,
    pub jti: String,
    pub expires_at: DateTime<Utc>,
}

impl Assertion {
    /// Until when this assertion would be accepted again if its `jti` were forgotten: `exp` and the clock skew.
    pub fn remember_until(&self) -> DateTime<Utc> {
        self.expires_at + TimeDelta::seconds(CLOCK_SKEW_SECONDS)
    }
}

/// Who an assertion says it is, read without verifying: only good for looking the client up.
pub fn claimed_client(assertion: &str) -> Result<String, BadAssertion> {
    let parts = Parts::split(assertion)?;
    let claims: Claims = read(&parts.payload, BadAssertion::Claims)?;
    if claims.iss != claims.sub {
        return Err(BadAssertion::Subject);
    }
    if is_client_id(&claims.iss) { Ok(claims.iss) } else { Err(BadAssertion::Issuer) }
}

/// Whether a text can be a client id: 1 to [`MAX_CLIENT_ID`] printable ASCII characters (RFC 6749 appendix A.1).
/// Registration asks this too.
pub fn is_client_id(text: &str) -> bool {
    (1..=MAX_CLIENT_ID).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Checks an assertion: the form of its header, then the signature, and only then what it claims.
pub fn verify(assertion: &str, expected: &Expected) -> Result<Assertion, BadAssertion> {
    let parts = Parts::split(assertion)?;
    let header = Header::read(&parts.header)?;
    let (algorithm, key) = header.key(expected)?;
    if !key.verifies(algorithm, parts.signed.as_bytes(), &parts.signature) {
        return Err(BadAssertion::Signature);
    }
    let claims: Claims = read(&parts.payload, BadAssertion::Claims)?;
    claims.check(expected)
}

/// The three parts of a JWS in compact form (RFC 7515 section 3.1), decoded.
struct Parts<'a> {
    header: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// What the signature signs: header and payload as they came.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(assertion: &'a str) -> Result<Parts<'a>, BadAssertion> {
        if assertion.len() > MAX_OCTETS {
            return Err(BadAssertion::TooLong);
        }
        let (signed, signature) = assertion.rsplit_once('.').ok_or(BadAssertion::Encoding)?;
        let (header, payload) = signed.split_once('.').ok_or(BadAssertion::Encoding)?;
        // A dot is no base64url: four parts, or the five of a JWE, fail here.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadAssertion::Encoding);
        Ok(Parts { header: decode(header)?, payload: decode(payload)?, signature: decode(signature)?, signed })
    }
}

fn read<T: serde::de::DeserializeOwned>(part: &[u8], shape: BadAssertion) -> Result<T, BadAssertion> {
    strict_json::object(part).map_err(|fault| match fault {
        NotStrict::Repeated => BadAssertion::Repeated,
        NotStrict::Shape => shape,
    })
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
    #[serde(default, deserialize_with = "present")]
    jku: Option<String>,
}

impl Header {
    fn read(part: &[u8]) -> Result<Header, BadAssertion> {
        let members: serde_json::Map<String, Value> = read(part, BadAssertion::Header)?;
        if REFUSED_HEADERS.iter().any(|name| members.contains_key(*name)) {
            return Err(BadAssertion::RefusedHeader);
        }
        read(part, BadAssertion::Header)
    }

    /// The key that must have signed, chosen by `kid` and key type among the client's own.
    fn key<'a>(&self, expected: &Expected<'a>) -> Result<(Algorithm, &'a Key), BadAssertion> {
        let algorithm = Algorithm::named(&self.alg).ok_or(BadAssertion::Algorithm)?;
        if self.typ != "JWT" {
            return Err(BadAssertion::Type);
        }
        if !is_kid(&self.kid) {
            return Err(BadAssertion::Kid);
        }
        if self.jku.is_some() && self.jku.as_deref() != expected.jwks_url {
            return Err(BadAssertion::KeySetUrl);
        }
        let key = expected.keys.find(&self.kid, algorithm).ok_or(BadAssertion::UnknownKey)?;
        Ok((algorithm, key))
    }
}

/// The claims, typed: a list for a string, a string or a fraction for a time, or `null` is not read at all.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    jti: String,
    exp: i64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<i64>,
}

impl Claims {
    fn check(self, expected: &Expected) -> Result<Assertion, BadAssertion> {
        if self.iss != expected.client_id {
            return Err(BadAssertion::Issuer);
        }
        if self.sub != expected.client_id {
            return Err(BadAssertion::Subject);
        }
        if self.aud != expected.audience {
            return Err(BadAssertion::Audience);
        }
        self.check_times(expected.now.timestamp())?;
        // A control character has no place in a name, and PostgreSQL cannot store every one.
        if !(1..=MAX_JTI).contains(&self.jti.chars().count()) || self.jti.contains(char::is_control) {
            return Err(BadAssertion::Jti);
        }
        let expires_at = DateTime::from_timestamp(self.exp, 0).ok_or(BadAssertion::TooLongLived)?;
        Ok(Assertion { client_id: self.iss, jti: self.jti, expires_at })
    }

    /// Seconds since 1970 on both sides. Sums are made on `now` only: the claims may hold any number.
    fn check_times(&self, now: i64) -> Result<(), BadAssertion> {
        let (earliest, latest) = (now - CLOCK_SKEW_SECONDS, now + CLOCK_SKEW_SECONDS);
        if self.exp <= earliest {
            return Err(BadAssertion::Expired);
        }
        if self.exp > latest + MAX_LIFETIME_SECONDS {
            return Err(BadAssertion::TooLongLived);
        }
        if self.nbf.is_some_and(|nbf| nbf > latest) {
            return Err(BadAssertion::NotYet);
        }
        if self.iat.is_some_and(|iat| iat > latest) {
            return Err(BadAssertion::IssuedAhead);
        }
        if self.iat.is_some_and(|iat| iat < earliest - MAX_LIFETIME_SECONDS) {
            return Err(BadAssertion::IssuedLongAgo);
        }
        Ok(())
    }
}
