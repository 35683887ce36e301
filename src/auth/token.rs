//! Access tokens: opaque, short-lived, and stored only as their hash.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The longest an access token lives, in seconds (SMART Backend Services: `expires_in` "SHOULD NOT exceed 300").
pub const MAX_LIFETIME_SECONDS: u32 = 300;
/// What every token begins with, so that one that leaked can be recognised wherever it turns up.
pub const PREFIX: &str = "lw_";
/// Base64url characters of 32 octets.
const RANDOM_CHARS: usize = 43;

/// An access token as its client holds it. The service keeps only [`AccessToken::hash`].
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// Makes a token of 256 bits from a cryptographic random source.
    pub fn new(random: [u8; 32]) -> AccessToken {
        AccessToken(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The text that goes to the client, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The form in which it is stored and looked up.
    pub fn hash(&self) -> String {
        hash(&self.0)
    }
}

/// Says that it is a token, not which.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(redacted)")
    }
}

/// SHA-256 of a token's text, in lower-case hexadecimal. The token is random, so no salt is needed.
pub fn hash(token: &str) -> String {
    format!("{:x}", Sha256::digest(token))
}

/// Why an `Authorization` header is no use here: the answer is 401 with `WWW-Authenticate: Bearer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurToken {
    #[error("Send the access token as `Authorization: Bearer <token>`.")]
    Scheme,
    /// Also any JWT: the unsigned ones of GP Connect are an audit trail, never a proof.
    #[error("This is not an access token of this service; get one at the token endpoint.")]
    Form,
}

/// The token in the value of an `Authorization` header (RFC 6750 section 2.1), if it has the form of one of ours.
/// Whether it is one is for the store to say, by its [`hash`].
pub fn bearer(authorization: &str) -> Result<&str, NotOurToken> {
    let (scheme, token) = authorization.split_once(' ').ok_or(NotOurToken::Scheme)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(NotOurToken::Scheme);
    }
    let random = token.strip_prefix(PREFIX).ok_or(NotOurToken::Form)?;
    let well_formed = random.len() == RANDOM_CHARS
        && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if well_formed { Ok(token) } else { Err(NotOurToken::Form) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_stored_as_its_hash_and_never_printed() {
        let token = AccessToken::new([7; 32]);
        assert_eq!(token.reveal(), "lw_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        assert_eq!(token.hash(), hash(token.reveal()));
        assert!(!format!("{token:?}").contains("Bwc"));
        assert_ne!(AccessToken::new([8; 32]).hash(), token.hash());
        // FIPS 180-4's example "abc".
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn only_a_bearer_token_of_ours_is_looked_up() {
        let token = AccessToken::new([255; 32]);
        assert_eq!(bearer(&format!("Bearer {}", token.reveal())), Ok(token.reveal()));
        assert_eq!(bearer(&format!("bearer {}", token.reveal())), Ok(token.reveal()));
        for header in ["", "Bearer", "Basic bHc6bHc=", &format!("Token {}", token.reveal()), token.reveal()] {
            assert_eq!(bearer(header), Err(NotOurToken::Scheme), "{header}");
        }
        for text in ["", " ", "lw_", "eyJhbGciOiJub25lIn0.e30.", "lw_' or '1'='1", &format!("{}x", token.reveal())] {
            assert_eq!(bearer(&format!("Bearer {text}")), Err(NotOurToken::Form), "{text}");
        }
    }
}
