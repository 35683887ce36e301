//! The secret that a subscriber shares with us, and what is signed with it (Standard Webhooks 1.0, `v1`: HMAC-SHA256).

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

const PREFIX: &str = "whsec_";

/// A secret has 24 to 64 bytes (Standard Webhooks 1.0, "Signature scheme").
const LEAST: usize = 24;
const MOST: usize = 64;

/// A symmetric secret of one subscriber. Printed nowhere.
#[derive(Clone)]
pub struct WebhookSecret {
    key: hmac::Key,
}

/// The text is no secret that can be used. Does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("A webhook secret is `whsec_` and the base64 of 24 to 64 random bytes: make a new one.")]
pub struct NotASecret;

/// The machine's random source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("A webhook secret could not be made: the machine's random source failed.")]
pub struct NotRandom;

impl WebhookSecret {
    /// A new secret of 32 bytes as text, to be shown to the subscriber and kept.
    pub fn generate() -> Result<String, NotRandom> {
        let mut bytes = [0_u8; 32];
        rand::fill(&mut bytes).map_err(|_| NotRandom)?;
        Ok(format!("{PREFIX}{}", STANDARD.encode(bytes)))
    }

    /// The secret in a text `whsec_…`; the prefix may be left out.
    pub fn parse(text: &str) -> Result<WebhookSecret, NotASecret> {
        let text = text.trim();
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| NotASecret)?;
        if !(LEAST..=MOST).contains(&bytes.len()) {
            return Err(NotASecret);
        }
        Ok(WebhookSecret { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// `v1,<base64>` over id, time (seconds since 1970) and payload.
    pub(super) fn sign(&self, id: &str, timestamp: i64, payload: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(payload);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// Prints nothing of the secret.
impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_published_examples_are_signed_as_published() {
        // The libraries of Standard Webhooks, and the documentation of Svix (whose secret is shorter than the standard's).
        let published = [
            (
                "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "plJ3nmyCDGBKInavdOK15jsl",
                "msg_loFOjxBNrRLzqYUf",
                1_731_705_121,
                r#"{"event_type":"ping","data":{"success":true}}"#,
                "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
            ),
        ];
        for (secret, id, timestamp, payload, signature) in published {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
            assert_eq!(WebhookSecret { key }.sign(id, timestamp, payload.as_bytes()), signature);
        }
    }
}
