//! A key pair of a demo client and the assertions it signs (SMART Backend Services, `private_key_jwt`).

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use uuid::Uuid;

/// How long an assertion lasts, in seconds: well inside the five minutes that SMART allows.
const ASSERTION_SECONDS: i64 = 240;

/// An ES384 key pair, made at start and never written down.
pub struct DemoKey {
    kid: String,
    signing: EncodingKey,
    public: Value,
}

impl DemoKey {
    /// Makes a new key pair that calls itself `kid`.
    pub fn generate(kid: impl Into<String>) -> DemoKey {
        let kid = kid.into();
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("the system gives random bytes");
        let private = pair.to_pkcs8v1().expect("a fresh key pair has a PKCS#8 form");
        let signing = EncodingKey::from_ec_der(private.as_ref());
        let jwk = Jwk::from_encoding_key(&signing, Algorithm::ES384).expect("a P-384 key has a JWK form");
        let mut public = serde_json::to_value(jwk).expect("a JWK is JSON");
        public["kid"] = json!(kid);
        public["use"] = json!("sig");
        DemoKey { kid, signing, public }
    }

    /// The public half as a JSON Web Key Set (RFC 7517), to register with a token endpoint.
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.public] })
    }

    /// A client assertion for `token_endpoint`, issued `now`, with a `jti` of its own.
    pub fn assertion(&self, client_id: &str, token_endpoint: &str, now: DateTime<Utc>) -> String {
        self.sign(&json!({
            "iss": client_id,
            "sub": client_id,
            "aud": token_endpoint,
            "iat": now.timestamp(),
            "exp": now.timestamp() + ASSERTION_SECONDS,
            "jti": Uuid::new_v4().to_string(),
        }))
    }

    /// Signs any claims: what [`DemoKey::assertion`] builds on, and how a test makes a wrong assertion.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES384) };
        jsonwebtoken::encode(&header, claims, &self.signing).expect("a P-384 key signs")
    }
}

/// Says the key's name only.
impl std::fmt::Debug for DemoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DemoKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}
