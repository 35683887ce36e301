//! The key with which this service signs: client assertions to practices, and whatever else others verify with our key set.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// An ES384 signing key (P-384): one of the two algorithms every SMART Backend Services server knows.
pub struct ServiceKey {
    signing: EncodingKey,
    x: String,
    y: String,
    kid: String,
}

/// The key cannot be used. The texts hold nothing of the key.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("A signing key could not be made: the machine's random source or crypto library failed.")]
    NotMade,
    #[error(
        "The signing key is not PKCS#8 PEM (\"BEGIN PRIVATE KEY\"): convert it with `openssl pkcs8 -topk8 -nocrypt`."
    )]
    NotPem,
    #[error(
        "The signing key is not an EC key on P-384: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384`."
    )]
    NotP384,
    #[error("The token could not be signed.")]
    NotSigned(#[source] jsonwebtoken::errors::Error),
}

impl ServiceKey {
    /// A new key, as PKCS#8 PEM. Keep it in a file only the service reads (mode 0600), and load it with
    /// [`from_pem`](Self::from_pem).
    pub fn generate_pem() -> Result<String, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map_err(|_| KeyError::NotMade)?;
        let der = pair.to_pkcs8v1().map_err(|_| KeyError::NotMade)?;
        let text = STANDARD.encode(der.as_ref());
        let mut pem = format!("{BEGIN}\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str(END);
        pem.push('\n');
        Ok(pem)
    }

    /// The key in a PKCS#8 PEM text.
    pub fn from_pem(pem: &str) -> Result<ServiceKey, KeyError> {
        let (_, rest) = pem.split_once(BEGIN).ok_or(KeyError::NotPem)?;
        let (body, _) = rest.split_once(END).ok_or(KeyError::NotPem)?;
        let text: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let der = STANDARD.decode(text).map_err(|_| KeyError::NotPem)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &der).map_err(|_| KeyError::NotP384)?;
        // An uncompressed point: 4, then two coordinates of 48 bytes.
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y), 97) = (point.get(1..49), point.get(49..97), point.len()) else {
            return Err(KeyError::NotP384);
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let kid = thumbprint(&x, &y);
        Ok(ServiceKey { signing: EncodingKey::from_ec_der(&der), x, y, kid })
    }

    /// The key's id: its RFC 7638 thumbprint, so that it follows from the key and never has to be configured.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public JWK that others verify with.
    pub fn public_jwk(&self) -> Value {
        json!({
            "kty": "EC", "crv": "P-384", "x": self.x, "y": self.y,
            "use": "sig", "alg": "ES384", "kid": self.kid, "key_ops": ["verify"],
        })
    }

    /// The claims as a signed JWT (ES384, `typ` JWT, with `kid`).
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES384) };
        jsonwebtoken::encode(&header, claims, &self.signing).map_err(KeyError::NotSigned)
    }
}

/// Prints the public id only.
impl std::fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// RFC 7638: SHA-256 over the required members in lexical order, without spaces.
fn thumbprint(x: &str, y: &str) -> String {
    let members = format!(r#"{{"crv":"P-384","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members.as_bytes()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
    use jsonwebtoken::{DecodingKey, Validation};

    #[test]
    fn what_is_signed_verifies_with_the_published_key_and_no_other() {
        let key = ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap();
        let claims = json!({ "iss": "livewell", "exp": 4_000_000_000_u64 });
        let token = key.sign(&claims).unwrap();
        let verify = |key: &ServiceKey| {
            let jwk: Jwk = serde_json::from_value(key.public_jwk()).unwrap();
            jsonwebtoken::decode::<Value>(
                &token,
                &DecodingKey::from_jwk(&jwk).unwrap(),
                &Validation::new(Algorithm::ES384),
            )
        };
        let read = verify(&key).unwrap();
        assert_eq!(read.claims["iss"], "livewell");
        assert_eq!(read.header.kid.as_deref(), Some(key.kid()));
        let other = ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap();
        assert!(verify(&other).is_err());
    }

    #[test]
    fn the_kid_is_the_thumbprint_that_others_compute() {
        let key = ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap();
        let jwk: Jwk = serde_json::from_value(key.public_jwk()).unwrap();
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), key.kid());
    }

    #[test]
    fn nothing_private_is_published_or_printed() {
        let pem = ServiceKey::generate_pem().unwrap();
        let key = ServiceKey::from_pem(&pem).unwrap();
        assert!(key.public_jwk().get("d").is_none());
        let printed = format!("{key:?}");
        assert!(pem.lines().skip(1).take(3).all(|line| !printed.contains(line)) && printed.contains(key.kid()));
    }

    #[test]
    fn what_is_not_a_p384_key_is_refused_with_the_way_to_make_one() {
        let rubbish = format!("{BEGIN}\nAAAA\n{END}\n");
        for (pem, expected) in
            [("", "PKCS#8"), ("-----BEGIN EC PRIVATE KEY-----", "PKCS#8"), (rubbish.as_str(), "P-384")]
        {
            assert!(ServiceKey::from_pem(pem).unwrap_err().to_string().contains(expected), "{pem}");
        }
    }
}
