//! Calls to practices, subscribers and key sets: the only room that opens connections.
//!
//! Nothing a practice answers is trusted: answers are bounded in size and time, redirects are not followed, addresses
//! are checked when the connection is made, and a token goes to no other origin than the practice's own.

mod fhir_rest;
mod guard;
mod key_ring;
mod key_set;
mod lease;
mod mesh;
#[cfg(test)]
mod scripted_practice;
mod service_key;
mod token;
mod webhook;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use fhir_rest::{PatientMatch, PracticeEndpoint, WriteBack};
pub use guard::{AddressRefused, Guard};
pub use key_ring::{HeldKey, KeyRing, PUBLISHED_AFTER, PUBLISHED_BEFORE, Standing};
pub use key_set::{KeySet, KeySetError};
pub use lease::Lease;
pub use mesh::{Heard, InboxMessage, Mesh, MeshError, MeshPost};
pub use service_key::{KeyError, ServiceKey};
pub use webhook::{NotASecret, NotRandom, Notification, WebhookSecret};

use fhir_rest::Capabilities;
use token::Tokens;
use wire::Wire;

/// What the calls of this service may do and for how long.
#[derive(Clone, Debug)]
pub struct OutboundSettings {
    /// Lets plain http, loopback and private addresses be called: `delivery.allow_private_addresses`.
    pub allow_private_addresses: bool,
    /// Time to connect, name and TLS included.
    pub connect_timeout: Duration,
    /// Time for one request and its whole answer.
    pub request_timeout: Duration,
    /// Time for one attempt at a delivery, which is several requests. Keep it under the worker's lease.
    pub attempt_timeout: Duration,
    /// Longest answer that is read, in bytes.
    pub response_limit: usize,
}

impl Default for OutboundSettings {
    fn default() -> OutboundSettings {
        OutboundSettings {
            allow_private_addresses: false,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(20),
            attempt_timeout: Duration::from_secs(60),
            response_limit: 1024 * 1024,
        }
    }
}

/// This service's calls to the outside. Made once and shared: it keeps connections and tokens.
pub struct Outbound {
    wire: Wire,
    tokens: Tokens,
    capabilities: Capabilities,
    attempt_timeout: Duration,
}

/// Outbound calls cannot be made at all.
#[derive(Debug, Error)]
#[error(
    "The TLS client could not be set up: check that the machine has root certificates (on Debian, the ca-certificates package)."
)]
pub struct OutboundError(#[source] reqwest::Error);

impl Outbound {
    /// Sets up the client; `keys` sign the client assertions of SMART Backend Services.
    pub fn new(settings: OutboundSettings, keys: Arc<KeyRing>) -> Result<Outbound, OutboundError> {
        let wire = Wire::new(&settings).map_err(OutboundError)?;
        Ok(Outbound {
            wire,
            tokens: Tokens::new(keys),
            capabilities: Capabilities::default(),
            attempt_timeout: settings.attempt_timeout,
        })
    }
}

/// Prints nothing of its tokens and keys.
impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbound")
    }
}
