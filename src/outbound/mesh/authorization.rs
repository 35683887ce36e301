//! The `NHSMESH` authorization of a request: an HMAC over who asks, once, and when.

use std::fmt::Write;

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};

use crate::config;

/// `NHSMESH <mailbox>:<nonce>:<count>:<YYYYMMDDHHMM>:<hex of HMAC-SHA256>` (MESH API, "Authentication"). The password goes
/// into the HMAC and nowhere else.
pub(super) fn authorization(settings: &config::Mesh, nonce: &str, count: u32, now: DateTime<Utc>) -> String {
    let mailbox = &settings.mailbox;
    let timestamp = now.format("%Y%m%d%H%M");
    let signed = format!("{mailbox}:{nonce}:{count}:{}:{timestamp}", settings.password.expose());
    let key = hmac::Key::new(hmac::HMAC_SHA256, settings.shared_key.expose().as_bytes());
    let mut said = format!("NHSMESH {mailbox}:{nonce}:{count}:{timestamp}:");
    for byte in hmac::sign(&key, signed.as_bytes()).as_ref() {
        let _never_fails = write!(said, "{byte:02x}");
    }
    said
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_the_sandboxs_own_function_makes() {
        // mesh_sandbox.common.generate_cipher_text("BackBone", "X26ABC1", "password", "201511201038", "nonce", "1")
        let settings = config::Mesh {
            mailbox: "X26ABC1".into(),
            password: "password".into(),
            shared_key: "BackBone".into(),
            ..config::Mesh::default()
        };
        let now = DateTime::parse_from_rfc3339("2015-11-20T10:38:59Z").unwrap().to_utc();
        assert_eq!(
            authorization(&settings, "nonce", 1, now),
            "NHSMESH X26ABC1:nonce:1:201511201038:c0c494c6314319d76dec805f62fef055dd860fe938a2083bb55eb171dc189432"
        );
    }
}
