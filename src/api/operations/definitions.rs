//! The definition that a terminology operation is about: at hand, or kept here as a resource.

use std::sync::Arc;

use serde_json::Value;

use super::Operation;
use crate::api::error::Error;
use crate::api::resources::disclose;
use crate::api::state::Call;
use crate::fhir::path;
use crate::fhir::terminology::{Terminology, parts_of};
use crate::workflow;

/// A definition that is meant by its id.
pub(super) enum OfId {
    /// At hand: its canonical.
    AtHand(String),
    /// Kept as a resource.
    Kept(Value),
}

/// The definition with this id, if the caller may see it.
pub(super) async fn of_id(call: &Call, operation: &Operation, kind: &str, id: &str) -> Result<OfId, Error> {
    if let Some(canonical) = call.doors.house.terminology.canonical(kind, id) {
        return Ok(OfId::AtHand(canonical.to_owned()));
    }
    let mut tx = call.doors.store.read().await?;
    let stored = tx.resource(kind, id, &call.actor.sight).await?.ok_or(workflow::Error::NotFound)?;
    drop(tx);
    disclose(call, &format!("${}", operation.name), &format!("{kind}/{id}"), &stored.person).await?;
    if stored.deleted {
        return Err(workflow::Error::Gone.into());
    }
    Ok(OfId::Kept(stored.resource()?.into_value()))
}

/// What is at hand, with a definition that was given or is kept, and what that one is made of.
pub(super) async fn with(call: &Call, definition: &Value) -> Result<Arc<Terminology>, Error> {
    let terminology = call.terminology(parts_of(definition)).await?;
    // A value set is listed as it stands; a code system is looked into by its URI.
    Ok(match path::text(definition, "resourceType") {
        Some("CodeSystem") => Arc::new(terminology.with([definition])),
        _ => terminology,
    })
}
