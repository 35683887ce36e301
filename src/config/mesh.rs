//! `[mesh]`: the mailbox through which practices without a FHIR endpoint are reached.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[mesh]`: our mailbox at MESH (NHS England's Message Exchange for Social Care and Health). Without `url` no MESH is used.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mesh {
    /// Origin of the MESH API: `https://mesh-sync.spineservices.nhs.uk` live, `https://msg.intspineservices.nhs.uk` for
    /// integration. No default: MESH is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Id of our mailbox.
    pub mailbox: String,
    /// Password of our mailbox.
    pub password: Secret,
    /// The shared key of the environment, with which each request is signed.
    pub shared_key: Secret,
    /// PEM file with the certificates of MESH's issuers. Default: the machine's root certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate (and its chain) by which MESH knows this service, and one with its private key (PKCS#8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Workflow id of what is sent; acknowledgements come under the same with `_ACK`. Default `LIVEWELL_WRITE_BACK`.
    pub workflow: String,
    /// Seconds between two looks into the inbox, whatever the number of instances. Default and least 300.
    pub poll_seconds: u64,
    /// Bytes of one chunk of a message, as sent. Default 20000000; MESH takes up to 100 MB, 20 MB over the internet.
    pub chunk_bytes: usize,
    /// Whether messages are compressed (gzip). Default true.
    pub compress: bool,
    /// Hours that a practice's system has to acknowledge a message; then a co-ordinator is asked. Default 72.
    pub acknowledged_within_hours: u64,
}

impl Default for Mesh {
    fn default() -> Mesh {
        Mesh {
            url: None,
            mailbox: String::new(),
            password: Secret::default(),
            shared_key: Secret::default(),
            ca: None,
            certificate: None,
            key: None,
            workflow: "LIVEWELL_WRITE_BACK".to_owned(),
            poll_seconds: 300,
            chunk_bytes: 20_000_000,
            compress: true,
            acknowledged_within_hours: 72,
        }
    }
}

impl Mesh {
    /// What is wrong with the section, a sentence each. `plain` lets plain http be used, for test systems.
    pub(super) fn check(&self, wrong: &mut Vec<String>, plain: bool) {
        super::validate::range(wrong, "mesh.poll_seconds", self.poll_seconds, 300, 86_400);
        super::validate::range(wrong, "mesh.chunk_bytes", self.chunk_bytes as u64, 1_000, 100_000_000);
        super::validate::range(wrong, "mesh.acknowledged_within_hours", self.acknowledged_within_hours, 1, 720);
        let Some(url) = &self.url else {
            if !self.mailbox.is_empty() {
                wrong.push(
                    "mesh.mailbox is set, but not mesh.url: give the address of MESH, or take both away".to_owned(),
                );
            }
            return;
        };
        let may_be_called = url.starts_with("https://") || (plain && url.starts_with("http://"));
        if !may_be_called {
            wrong.push(
                "mesh.url is no https address: give one, or set delivery.allow_private_addresses for a test system"
                    .to_owned(),
            );
        }
        let texts = [
            ("mesh.mailbox", self.mailbox.as_str()),
            ("mesh.password", self.password.expose()),
            ("mesh.shared_key", self.shared_key.expose()),
            ("mesh.workflow", self.workflow.as_str()),
        ];
        for (key, value) in texts {
            if value.trim().is_empty() {
                wrong.push(format!("{key} is empty: MESH needs it (or take mesh.url away)"));
            } else if !value.bytes().all(|b| b.is_ascii_graphic()) {
                wrong.push(format!("{key} has characters that MESH does not take: use letters, digits and signs"));
            }
        }
        if self.certificate.is_some() != self.key.is_some() {
            wrong.push("mesh.certificate and mesh.key belong together: set both, or neither".to_owned());
        }
    }
}

/// A text that is printed nowhere.
#[derive(Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

/// Says whether there is one, and no more.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"[redacted]\"" })
    }
}
