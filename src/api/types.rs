//! Which resource types are served.

use super::error::Error;
use crate::fhir::check;
use crate::workflow;

/// Types that are messages, answers or definitions of the API itself and not kept as resources of their own.
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

/// The types that are served, in their order.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    check::resource_types().filter(|kind| served(kind).is_ok())
}
