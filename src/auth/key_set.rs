//! A client's public keys: a JSON Web Key Set (RFC 7517), checked key by key when it is read.

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The most keys a set may hold.
pub const MAX_KEYS: usize = 20;
/// The longest `kid`, in characters.
pub const MAX_KID: usize = 128;
/// RSA moduli that are accepted, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Octets of one P-384 coordinate.
const P384_OCTETS: usize = 48;
/// Members that only a private or shared key has (RFC 7518 sections 6.2.2, 6.3.2, 6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The signature algorithms a client assertion may use, and no other: SMART's RS384 and ES384 (SMART App Launch,
/// client-confidential-asymmetric), and RS512, which clients of the NHS API platform sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs384,
    Es384,
    Rs512,
}

impl Algorithm {
    /// All of them, as `token_endpoint_auth_signing_alg_values_supported` lists them.
    pub const ALL: [Algorithm; 3] = [Algorithm::Rs384, Algorithm::Es384, Algorithm::Rs512];

    /// The name on the wire (RFC 7518 section 3.1).
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs384 => "RS384",
            Algorithm::Es384 => "ES384",
            Algorithm::Rs512 => "RS512",
        }
    }

    /// The algorithm with exactly this name; letter case counts.
    pub fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// What is wrong with a key set, and with which key. Says nothing that the set contains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("a key set is a JSON object with a list `keys`")]
    NotAKeySet,
    #[error("the key set has no keys; give at least one public key")]
    Empty,
    #[error("the key set has {0} keys; at most {MAX_KEYS} are allowed")]
    TooMany(usize),
    /// `position` counts from 1.
    #[error("key {position} of the set: {fault}")]
    Key { position: usize, fault: KeyFault },
}

/// What is wrong with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("is not a JSON object")]
    NotAKey,
    #[error("is a shared secret (kty oct); register a public key, RSA or EC P-384")]
    Symmetric,
    #[error("contains a private key; make a new key pair and register only its public half")]
    Private,
    #[error("has a kty that is not RSA or EC")]
    KeyType,
    #[error("has no kid; every key needs one")]
    KidMissing,
    #[error("has a kid that is not 1 to {MAX_KID} printable ASCII characters")]
    KidMalformed,
    #[error("has the same kid as an earlier key")]
    KidRepeated,
    #[error("has a use other than sig, or key_ops without verify")]
    Use,
    #[error("has an alg that does not fit it: RSA keys sign with RS384 or RS512, EC keys with ES384")]
    Algorithm,
    #[error("is an RSA key of {0} bits; 2048 to 8192 are allowed")]
    RsaSize(usize),
    #[error("is an RSA key whose public exponent is not an odd number from 65537 to 2^32; make one with 65537")]
    RsaExponent,
    #[error("is on another curve than P-384")]
    Curve,
    #[error("has numbers that do not make a public key")]
    Numbers,
}

/// A checked key set: 1 to [`MAX_KEYS`] public keys, each with its own `kid`.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a key set and checks every key; one bad key refuses the set, so that its owner hears of it when it is
    /// registered and not when an assertion fails.
    pub fn parse(set: &Value) -> Result<KeySet, KeySetError> {
        let listed = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::NotAKeySet)?;
        match listed.len() {
            0 => return Err(KeySetError::Empty),
            count if count > MAX_KEYS => return Err(KeySetError::TooMany(count)),
            _ => {}
        }
        let mut keys: Vec<Key> = Vec::with_capacity(listed.len());
        for (index, jwk) in listed.iter().enumerate() {
            let fault = |fault| KeySetError::Key { position: index + 1, fault };
            let key = Key::parse(jwk).map_err(fault)?;
            if keys.iter().any(|earlier| earlier.kid == key.kid) {
                return Err(fault(KeyFault::KidRepeated));
            }
            keys.push(key);
        }
        Ok(KeySet { keys })
    }

    /// The one key with this `kid` whose type (and `alg`, where the key says one) fits the algorithm.
    pub fn find(&self, kid: &str, algorithm: Algorithm) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid == kid && key.can(algorithm))
    }
}

/// One public key, parsed and known to be a point on its curve or a modulus of an allowed size.
#[derive(Clone, Debug)]
pub struct Key {
    kid: String,
    /// The only algorithm its owner uses it with, where the key says so.
    only: Option<Algorithm>,
    public: Public,
}

#[derive(Clone, Debug)]
enum Public {
    Rsa { rs384: ParsedPublicKey, rs512: ParsedPublicKey },
    P384(ParsedPublicKey),
}

impl Key {
    /// The key's name in its set.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Whether `signature` (raw octets; for ES384 r and s of 48 octets each) signs `message`.
    /// False for an algorithm that does not fit the key.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let public = match (&self.public, algorithm) {
            (Public::Rsa { rs384, .. }, Algorithm::Rs384) => rs384,
            (Public::Rsa { rs512, .. }, Algorithm::Rs512) => rs512,
            (Public::P384(es384), Algorithm::Es384) => es384,
            _ => return false,
        };
        self.can(algorithm) && public.verify_sig(message, signature).is_ok()
    }

    fn can(&self, algorithm: Algorithm) -> bool {
        self.public.can(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    fn parse(jwk: &Value) -> Result<Key, KeyFault> {
        let jwk = jwk.as_object().ok_or(KeyFault::NotAKey)?;
        let kty = jwk.get("kty").and_then(Value::as_str);
        if kty == Some("oct") {
            return Err(KeyFault::Symmetric);
        }
        if PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
            return Err(KeyFault::Private);
        }
        let kid = match jwk.get("kid") {
            None => return Err(KeyFault::KidMissing),
            Some(kid) => kid.as_str().filter(|kid| is_kid(kid)).ok_or(KeyFault::KidMalformed)?,
        };
        check_use(jwk)?;
        let public = match kty {
            Some("RSA") => rsa(jwk)?,
            Some("EC") => p384(jwk)?,
            _ => return Err(KeyFault::KeyType),
        };
        let only = match jwk.get("alg") {
            None => None,
            Some(alg) => match alg.as_str().and_then(Algorithm::named) {
                Some(algorithm) if public.can(algorithm) => Some(algorithm),
                _ => return Err(KeyFault::Algorithm),
            },
        };
        Ok(Key { kid: kid.to_owned(), only, public })
    }
}

impl Public {
    fn can(&self, algorithm: Algorithm) -> bool {
        match self {
            Public::Rsa { .. } => matches!(algorithm, Algorithm::Rs384 | Algorithm::Rs512),
            Public::P384(_) => algorithm == Algorithm::Es384,
        }
    }
}

/// Whether a text can be the `kid` of a key: 1 to [`MAX_KID`] printable ASCII characters.
pub(super) fn is_kid(text: &str) -> bool {
    (1..=MAX_KID).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// `use` and `key_ops` (RFC 7517 sections 4.2, 4.3), where present, must say that the key verifies signatures.
fn check_use(jwk: &Map<String, Value>) -> Result<(), KeyFault> {
    let use_fits = jwk.get("use").is_none_or(|u| u == "sig");
    let ops_fit =
        jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
    if use_fits && ops_fit { Ok(()) } else { Err(KeyFault::Use) }
}

fn rsa(jwk: &Map<String, Value>) -> Result<Public, KeyFault> {
    let n = octets(jwk, "n")?;
    // Some libraries write a leading zero octet (RFC 7518 section 6.3.1.1).
    let n: &[u8] = n.strip_prefix(&[0]).unwrap_or(&n);
    let leading = n.first().filter(|octet| **octet != 0).ok_or(KeyFault::Numbers)?;
    let bits = n.len() * 8 - leading.leading_zeros() as usize;
    if !RSA_BITS.contains(&bits) {
        return Err(KeyFault::RsaSize(bits));
    }
    let e = octets(jwk, "e")?;
    // Odd and above 2^16 (FIPS 186-5 section 5.4); below 2^32, because a long one makes every verification slow.
    let exponent = if e.len() <= 4 { e.iter().fold(0, |value: u32, octet| value << 8 | u32::from(*octet)) } else { 0 };
    if exponent <= 1 << 16 || exponent % 2 == 0 {
        return Err(KeyFault::RsaExponent);
    }
    let components = RsaPublicKeyComponents { n, e: e.as_slice() };
    let rs384 = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA384).map_err(|_| KeyFault::Numbers)?;
    let rs512 = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA512).map_err(|_| KeyFault::Numbers)?;
    Ok(Public::Rsa { rs384, rs512 })
}

fn p384(jwk: &Map<String, Value>) -> Result<Public, KeyFault> {
    if jwk.get("crv").and_then(Value::as_str) != Some("P-384") {
        return Err(KeyFault::Curve);
    }
    let (x, y) = (octets(jwk, "x")?, octets(jwk, "y")?);
    if x.len() != P384_OCTETS || y.len() != P384_OCTETS {
        return Err(KeyFault::Numbers);
    }
    // The uncompressed point (SEC 1 section 2.3.3); parsing refuses one that is not on the curve.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map(Public::P384).map_err(|_| KeyFault::Numbers)
}

fn octets(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, KeyFault> {
    let text = jwk.get(member).and_then(Value::as_str).ok_or(KeyFault::Numbers)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Numbers)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::test_keys::{EC, OTHER_EC, P256, RSA, b64};

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(&json!({ "keys": keys }))
    }

    /// The key with members replaced; `null` takes one out.
    fn changed(key: &Value, changes: Value) -> Value {
        let mut key = key.as_object().unwrap().clone();
        for (member, value) in changes.as_object().unwrap() {
            if value.is_null() {
                key.remove(member);
            } else {
                key.insert(member.clone(), value.clone());
            }
        }
        Value::Object(key)
    }

    /// An RSA key with a modulus of this many bits.
    fn rsa_of(bits: usize) -> Value {
        let mut n = vec![0xFF; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        json!({"kty": "RSA", "kid": "rsa", "n": b64(n), "e": "AQAB"})
    }

    #[test]
    fn a_key_is_found_by_its_name_and_by_what_it_can_sign() {
        let only_512 =
            changed(&RSA.jwk, json!({"kid": "only-512", "alg": "RS512", "use": "sig", "key_ops": ["verify"]}));
        let keys = set(&[RSA.jwk.clone(), EC.jwk.clone(), only_512]).unwrap();
        use Algorithm::*;
        for (kid, algorithm, found) in [
            ("rsa", Rs384, true),
            ("rsa", Rs512, true),
            ("rsa", Es384, false),
            ("ec", Es384, true),
            ("ec", Rs384, false),
            ("only-512", Rs512, true),
            ("only-512", Rs384, false),
            ("RSA", Rs384, false),
            ("", Rs384, false),
        ] {
            let key = keys.find(kid, algorithm);
            assert_eq!(key.is_some(), found, "{kid} {algorithm:?}");
            assert!(key.is_none_or(|key| key.kid() == kid));
        }
        // Asked for an algorithm that does not fit, a key verifies nothing.
        let signature = RSA.sign("RS384", "message");
        assert!(keys.find("rsa", Rs384).unwrap().verifies(Rs384, b"message", &signature));
        assert!(!keys.find("ec", Es384).unwrap().verifies(Rs384, b"message", &signature));
        assert!(!keys.find("only-512", Rs512).unwrap().verifies(Rs384, b"message", &signature));
    }

    #[test]
    fn a_set_holds_one_to_twenty_keys_with_a_name_each() {
        let named = |count: usize| -> Vec<Value> {
            (0..count).map(|i| changed(&EC.jwk, json!({"kid": format!("key {i}")}))).collect()
        };
        assert!(set(&named(20)).is_ok());
        assert_eq!(set(&named(21)).unwrap_err(), KeySetError::TooMany(21));
        assert_eq!(set(&[]).unwrap_err(), KeySetError::Empty);
        for other in [json!({}), json!([]), json!({"keys": {}}), json!("keys"), EC.jwk.clone(), json!(null)] {
            assert_eq!(KeySet::parse(&other).unwrap_err(), KeySetError::NotAKeySet, "{other}");
        }
        let same_kid = changed(&EC.jwk, json!({"kid": "rsa"}));
        let error = set(&[RSA.jwk.clone(), same_kid]).unwrap_err();
        assert_eq!(error, KeySetError::Key { position: 2, fault: KeyFault::KidRepeated });
        assert_eq!(error.to_string(), "key 2 of the set: has the same kid as an earlier key");
    }

    #[test]
    fn keys_that_must_not_be_trusted_are_refused_and_say_why() {
        use KeyFault::*;
        let (rsa, ec) = (&RSA.jwk, &EC.jwk);
        let mut cases = vec![
            (json!("key"), NotAKey),
            (json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}), Symmetric),
            (json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": b64([1; 32])}), KeyType),
            (changed(rsa, json!({"kty": "rsa"})), KeyType),
            (changed(rsa, json!({"kty": null})), KeyType),
            (changed(rsa, json!({"kid": null})), KidMissing),
            (changed(rsa, json!({"kid": ""})), KidMalformed),
            (changed(rsa, json!({"kid": 1})), KidMalformed),
            (changed(rsa, json!({"kid": "k".repeat(129)})), KidMalformed),
            (changed(rsa, json!({"kid": "a\nb"})), KidMalformed),
            (changed(rsa, json!({"kid": "\u{e4}"})), KidMalformed),
            (changed(rsa, json!({"use": "enc"})), Use),
            (changed(rsa, json!({"use": ["sig"]})), Use),
            (changed(rsa, json!({"key_ops": ["sign"]})), Use),
            (changed(rsa, json!({"key_ops": "verify"})), Use),
            (changed(rsa, json!({"alg": "RS256"})), KeyFault::Algorithm),
            (changed(rsa, json!({"alg": "PS384"})), KeyFault::Algorithm),
            (changed(rsa, json!({"alg": "ES384"})), KeyFault::Algorithm),
            (changed(rsa, json!({"alg": 384})), KeyFault::Algorithm),
            (changed(ec, json!({"alg": "RS384"})), KeyFault::Algorithm),
            (changed(ec, json!({"alg": "ES256"})), KeyFault::Algorithm),
            (rsa_of(1024), RsaSize(1024)),
            (rsa_of(2047), RsaSize(2047)),
            (rsa_of(8193), RsaSize(8193)),
            (rsa_of(16384), RsaSize(16384)),
            (changed(rsa, json!({"n": ""})), Numbers),
            (changed(rsa, json!({"n": b64([0; 256])})), Numbers),
            (changed(rsa, json!({"n": null})), Numbers),
            (changed(rsa, json!({"n": 3})), Numbers),
            (changed(rsa, json!({"n": "not base64!"})), Numbers),
            (changed(rsa, json!({"e": null})), Numbers),
            (changed(rsa, json!({"e": b64([1])})), RsaExponent),
            (changed(rsa, json!({"e": b64([3])})), RsaExponent),
            (changed(rsa, json!({"e": b64([1, 0, 0])})), RsaExponent),
            (changed(rsa, json!({"e": b64([0, 0, 3])})), RsaExponent),
            (changed(rsa, json!({"e": ""})), RsaExponent),
            (changed(rsa, json!({"e": b64([1; 5])})), RsaExponent),
            (changed(rsa, json!({"e": b64([1; 40])})), RsaExponent),
            (P256.jwk.clone(), Curve),
            (changed(ec, json!({"crv": "P-256"})), Curve),
            (changed(ec, json!({"crv": "P-521"})), Curve),
            (changed(ec, json!({"crv": "secp256k1"})), Curve),
            (changed(ec, json!({"crv": null})), Curve),
            (changed(&P256.jwk, json!({"crv": "P-384"})), Numbers),
            (changed(ec, json!({"x": OTHER_EC.jwk["x"]})), Numbers),
            (changed(ec, json!({"x": b64([0; 48]), "y": b64([0; 48])})), Numbers),
            (changed(ec, json!({"x": b64([255; 48])})), Numbers),
            (changed(ec, json!({"y": null})), Numbers),
        ];
        for member in PRIVATE_MEMBERS {
            cases.push((changed(rsa, json!({member: "AQAB"})), Private));
            cases.push((changed(ec, json!({member: ""})), Private));
        }
        for (key, fault) in cases {
            let error = set(std::slice::from_ref(&key)).unwrap_err();
            assert_eq!(error, KeySetError::Key { position: 1, fault }, "{key}");
        }
    }

    #[test]
    fn the_largest_and_smallest_rsa_keys_are_read_also_with_a_leading_zero() {
        assert!(set(&[rsa_of(2048)]).is_ok());
        assert!(set(&[rsa_of(8192)]).is_ok());
        let n = URL_SAFE_NO_PAD.decode(RSA.jwk["n"].as_str().unwrap()).unwrap();
        let padded = changed(&RSA.jwk, json!({"n": b64([&[0], n.as_slice()].concat())}));
        let keys = set(&[padded]).unwrap();
        let key = keys.find("rsa", Algorithm::Rs384).unwrap();
        assert!(key.verifies(Algorithm::Rs384, b"message", &RSA.sign("RS384", "message")));
    }
}
