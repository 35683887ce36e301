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
    #[error("is an RSA key whose public exponent is even, or below 65537")]
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
    let ops_fit = jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
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
    let sound = match e.as_slice() {
        // 65537 and its odd successors (FIPS 186-5 section 5.4: 2^16 < e, odd).
        [first, .., last] => *first != 0 && e.len() >= 3 && last % 2 == 1,
        _ => false,
    };
    if !sound {
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
