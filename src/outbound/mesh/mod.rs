//! The channel `mesh`: messages through NHS England's Message Exchange for Social Care and Health.
//!
//! A message is posted to MESH's outbox in chunks, and tracked by our local id when it is not clear whether it arrived;
//! what the practice's system answers, and what MESH itself could not hand over, comes to our inbox.

mod authorization;
mod inbox;
mod post;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Identity, Method, RequestBuilder, Url};
use thiserror::Error;

use super::OutboundSettings;
use super::fhir_rest::under;
use super::wire::{Answer, Lost, Wire};
use crate::config;
use crate::pathway::delivery::{Verdict, Why};

pub use inbox::{Heard, InboxMessage};
pub use post::MeshPost;

use authorization::authorization;

const ACCEPTED_TYPE: &str = "application/vnd.mesh.v2+json";

/// Our mailbox at MESH.
pub struct Mesh {
    wire: Wire,
    origin: Url,
    settings: config::Mesh,
    attempt_timeout: Duration,
}

/// MESH cannot be used as it is configured. The texts hold nothing of a secret.
#[derive(Debug, Error)]
pub enum MeshError {
    #[error("mesh.url is not a URL: give an origin such as https://mesh-sync.spineservices.nhs.uk")]
    NotAUrl,
    #[error("{0} cannot be read: {1}")]
    Unreadable(&'static str, std::io::Error),
    #[error(
        "{0} is not PEM that can be used: mesh.ca and mesh.certificate hold certificates, mesh.key a PKCS#8 private key"
    )]
    NotPem(&'static str),
    #[error("The TLS client for MESH could not be set up.")]
    NotSetUp,
}

impl Mesh {
    /// The mailbox that `settings` name; none where they name no MESH.
    pub fn open(settings: &config::Mesh, outbound: &OutboundSettings) -> Result<Option<Mesh>, MeshError> {
        let Some(url) = &settings.url else { return Ok(None) };
        let origin = Url::parse(url).map_err(|_| MeshError::NotAUrl)?;
        let mut client = Wire::client(outbound);
        if let Some(path) = &settings.ca {
            let pem = std::fs::read(path).map_err(|e| MeshError::Unreadable("mesh.ca", e))?;
            let issuers = Certificate::from_pem_bundle(&pem).map_err(|_| MeshError::NotPem("mesh.ca"))?;
            if issuers.is_empty() {
                return Err(MeshError::NotPem("mesh.ca"));
            }
            client = client.tls_certs_only(issuers);
        }
        if let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) {
            let mut pem = std::fs::read(certificate).map_err(|e| MeshError::Unreadable("mesh.certificate", e))?;
            pem.push(b'\n');
            pem.extend(std::fs::read(key).map_err(|e| MeshError::Unreadable("mesh.key", e))?);
            client = client.identity(Identity::from_pem(&pem).map_err(|_| MeshError::NotPem("mesh.certificate"))?);
        }
        let client = client.build().map_err(|_| MeshError::NotSetUp)?;
        Ok(Some(Mesh {
            wire: Wire::to_configured_address(client, outbound.response_limit),
            origin,
            settings: settings.clone(),
            attempt_timeout: outbound.attempt_timeout,
        }))
    }

    /// Our mailbox.
    pub fn mailbox(&self) -> &str {
        &self.settings.mailbox
    }

    /// How long a practice's system has to acknowledge a message.
    pub fn acknowledged_within(&self) -> Duration {
        Duration::from_secs(self.settings.acknowledged_within_hours * 3600)
    }

    /// How long it is from one look into the inbox to the next.
    pub fn looks_every(&self) -> Duration {
        Duration::from_secs(self.settings.poll_seconds)
    }

    /// Says to MESH that the mailbox is in use, which it wants once a day, and learns whether we are let in.
    pub async fn handshake(&self, now: DateTime<Utc>) -> Result<(), Why> {
        let answer = self.call(Method::POST, self.url(&[]), now, |request| request).await.map_err(|lost| lost.why)?;
        self.expect(&answer)
    }

    /// A URL below our mailbox.
    fn url(&self, path: &[&str]) -> Url {
        let mailbox = under(&self.origin, &["messageexchange", self.settings.mailbox.as_str()]);
        under(&mailbox, path)
    }

    /// Sends a signed request.
    async fn call(
        &self,
        method: Method,
        url: Url,
        now: DateTime<Utc>,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, Lost> {
        let request = self.wire.client.request(method, url.clone());
        let mut signed =
            HeaderValue::from_str(&authorization(&self.settings, &uuid::Uuid::new_v4().to_string(), 1, now))
                .map_err(|_| Lost { why: Why::RequestNotMade, sent: false })?;
        signed.set_sensitive(true);
        let request = request
            .header(AUTHORIZATION, signed)
            .header(ACCEPT, ACCEPTED_TYPE)
            .header("mex-clientversion", concat!("livewell-", env!("CARGO_PKG_VERSION")))
            .header("mex-osname", std::env::consts::OS)
            .header("mex-osversion", "unknown")
            .header("mex-osarchitecture", std::env::consts::ARCH);
        self.wire.send(&url, with(request)).await
    }

    /// Success, or why not.
    fn expect(&self, answer: &Answer) -> Result<(), Why> {
        match answer.status {
            200..=299 => Ok(()),
            401 | 403 => Err(Why::MeshAccessRefused),
            status => Err(Why::Status(status)),
        }
    }

    /// What an answer to a sending means that is not a success. That we are not let in is ours to put right, and then
    /// everything goes: no practice refused anything.
    fn refusal(&self, answer: &Answer, now: DateTime<Utc>) -> Verdict {
        match answer.status {
            401 | 403 => Verdict::Retry { after: None, why: Why::MeshAccessRefused },
            status if answer.may_pass() => Verdict::Retry { after: answer.retry_after(now), why: Why::Status(status) },
            status => {
                Verdict::Refused { why: Why::Status(status), outcome: answer.json().ok().and_then(|e| codes(&e)) }
            }
        }
    }
}

/// The codes in an error of MESH's, `SEND 12`; its descriptions are not kept.
fn codes(error: &serde_json::Value) -> Option<String> {
    let code = |value: &serde_json::Value| {
        let text = value.as_str()?;
        let fits = !text.is_empty() && text.len() <= 24 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits.then(|| text.to_owned())
    };
    let details = error.get("detail").and_then(serde_json::Value::as_array)?;
    let said = details.iter().filter_map(|d| Some(format!("{} {}", code(d.get("event")?)?, code(d.get("code")?)?)));
    let said: Vec<String> = said.take(5).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Prints the mailbox only.
impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("mailbox", &self.settings.mailbox).finish_non_exhaustive()
    }
}
