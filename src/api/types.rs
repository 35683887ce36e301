//! Which resource types are served.

use std::collections::BTreeSet;

use super::error::Error;
use super::search::TRAIL;
use crate::auth::scope::Interaction;
use crate::config::Fhir;
use crate::fhir::check;
use crate::workflow;

/// Types that are not kept as resources of their own: messages, answers, definitions of the API itself, and AuditEvent,
/// which is put together from the audit trail when it is asked for.
const NOT_KEPT: [&str; 7] =
    ["AuditEvent", "Binary", "Bundle", "CapabilityStatement", "MessageHeader", "OperationOutcome", "Parameters"];

/// Refuses a type that is not one of R4, or is not served.
pub(super) fn served(kind: &str) -> Result<(), Error> {
    if !check::is_resource_type(kind) {
        return Err(workflow::Error::NotFound.into());
    }
    if NOT_KEPT.contains(&kind) {
        return Err(workflow::Error::NotSupported(format!(
            "{kind} is not served here as a resource of its own. /fhir/metadata lists what is."
        ))
        .into());
    }
    Ok(())
}

/// Refuses a type that is neither served nor, like the audit trail, there to be read and searched.
pub(super) fn readable(kind: &str) -> Result<(), Error> {
    if kind == TRAIL { Ok(()) } else { served(kind) }
}

/// Refuses a type that nobody writes.
pub(super) fn kept(kind: &str) -> Result<(), Error> {
    if kind == TRAIL { Err(read_only(kind)) } else { served(kind) }
}

fn read_only(kind: &str) -> Error {
    Error::NotAllowed(format!("{kind} is served here to be read, and is not written by callers."))
}

/// What this deployment serves of the types that can be.
pub struct Types {
    read_only: BTreeSet<String>,
    off: BTreeSet<String>,
}

impl Types {
    /// The types as configured.
    pub fn new(config: &Fhir) -> Types {
        Types { read_only: config.read_only.iter().cloned().collect(), off: config.off.iter().cloned().collect() }
    }

    /// The types that are kept, in their order.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.readable().filter(|kind| served(kind).is_ok())
    }

    /// The types that are read: those that are kept, and the audit trail.
    pub(super) fn readable(&self) -> impl Iterator<Item = &'static str> {
        check::resource_types().filter(|kind| readable(kind).is_ok() && !self.off.contains(*kind))
    }

    /// Whether callers write this type.
    pub(super) fn is_written(&self, kind: &str) -> bool {
        kind != TRAIL && !self.read_only.contains(kind)
    }

    /// Refuses an interaction that this deployment does not have with this type.
    pub(super) fn have(&self, kind: &str, interaction: Interaction) -> Result<(), Error> {
        if self.off.contains(kind) {
            return Err(workflow::Error::NotSupported(format!(
                "{kind} is not served here. /fhir/metadata lists what is."
            ))
            .into());
        }
        let writes = matches!(interaction, Interaction::Create | Interaction::Update | Interaction::Delete);
        if writes && !self.is_written(kind) {
            return Err(read_only(kind));
        }
        Ok(())
    }
}
