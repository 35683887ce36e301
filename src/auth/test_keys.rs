//! Key pairs for tests, made afresh in each run: no private key is kept in the repository.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The client's RSA key, `kid` `rsa`.
pub(super) static RSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa("rsa"));
/// The client's P-384 key, `kid` `ec`.
pub(super) static EC: LazyLock<TestKey> = LazyLock::new(|| TestKey::ec("ec", &ECDSA_P384_SHA384_FIXED_SIGNING));
/// An attacker's keys, which call themselves what the client's do.
pub(super) static OTHER_RSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa("rsa"));
pub(super) static OTHER_EC: LazyLock<TestKey> = LazyLock::new(|| TestKey::ec("ec", &ECDSA_P384_SHA384_FIXED_SIGNING));
/// A P-256 key, which is not accepted.
pub(super) static P256: LazyLock<TestKey> = LazyLock::new(|| TestKey::ec("ec", &ECDSA_P256_SHA256_FIXED_SIGNING));

pub(super) struct TestKey {
    /// The public half as a JWK.
    pub(super) jwk: Value,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl TestKey {
    fn rsa(kid: &str) -> TestKey {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key can be made");
        let n = b64(pair.public_key().modulus().big_endian_without_leading_zero());
        let e = b64(pair.public_key().exponent().big_endian_without_leading_zero());
        TestKey { jwk: json!({"kty": "RSA", "kid": kid, "n": n, "e": e}), pair: Pair::Rsa(pair) }
    }

    fn ec(kid: &str, algorithm: &'static EcdsaSigningAlgorithm) -> TestKey {
        let pair = EcdsaKeyPair::generate(algorithm).expect("an EC key can be made");
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let crv = if x.len() == 48 { "P-384" } else { "P-256" };
        let jwk = json!({"kty": "EC", "kid": kid, "crv": crv, "x": b64(x), "y": b64(y)});
        TestKey { jwk, pair: Pair::Ec(pair) }
    }

    /// The raw signature; an EC key signs in its own way whatever the name.
    pub(super) fn sign(&self, algorithm: &str, message: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message.as_bytes()).expect("an EC key signs").as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &dyn RsaEncoding = match algorithm {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA384,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message.as_bytes(), &mut signature).expect("an RSA key signs");
                signature
            }
        }
    }
}

/// Base64url without padding.
pub(super) fn b64(octets: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}
