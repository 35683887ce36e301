//! Where the next page of a search begins, sealed: a link that we make carries no patient data, and nobody can forge one.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Seals and opens page tokens. Every instance opens what another sealed.
pub struct PageSeal {
    key: RandomizedNonceKey,
}

impl PageSeal {
    /// The secret that follows from a private key of the service (PEM) and tells nothing of it.
    pub fn secret_of(pem: &str) -> String {
        let mut hash = Sha256::new();
        hash.update("livewell search pages\n");
        hash.update(pem);
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    /// The seal with such a secret; `None` when it is not one.
    pub fn from_secret(secret: &str) -> Option<PageSeal> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &URL_SAFE_NO_PAD.decode(secret).ok()?).ok()?;
        Some(PageSeal { key })
    }

    /// A token that says `text` to us and nothing to anyone else. It is good for `client` only.
    pub fn seal(&self, client: &str, text: &str) -> Option<String> {
        let mut sealed = text.as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(client.as_bytes()), &mut sealed).ok()?;
        let mut token = nonce.as_ref().to_vec();
        token.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    /// What a token of this client says; `None` when it is not one of ours.
    pub fn open(&self, client: &str, token: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        if bytes.len() < NONCE_LEN {
            return None;
        }
        let mut sealed = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(client.as_bytes()), &mut sealed).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_page_link_says_nothing_and_serves_only_the_client_it_was_made_for() {
        let seal = |pem| PageSeal::from_secret(&PageSeal::secret_of(pem)).unwrap();
        let (seal, other) = (seal("secret"), seal("other"));
        let token = seal.seal("practice", "identifier=9990000018").unwrap();
        assert!(!token.contains("9990000018"));
        assert_eq!(seal.open("practice", &token).as_deref(), Some("identifier=9990000018"));
        assert_eq!(seal.open("another", &token), None);
        assert_eq!(other.open("practice", &token), None);
        assert!(PageSeal::from_secret("AAAA").is_none());
        assert_eq!(seal.open("practice", "AAAA"), None);
        assert_eq!(seal.open("practice", "not base64!"), None);
    }
}
