//! Somebody asks the service itself something: who, when, and under which request id it is written down.

use chrono::{DateTime, Utc};

use crate::store::{Store, Stored, Tx};

use super::{Actor, Error, House, Result, audit_row};

/// A question to the service, as acts that only answer take it.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub store: &'a Store,
    pub house: &'a House,
    pub actor: &'a Actor,
    pub now: DateTime<Utc>,
    pub request_id: &'a str,
}

impl Asking<'_> {
    /// The ServiceRequest that is asked about, if this caller may see it.
    pub(super) async fn request(&self, tx: &mut Tx, id: &str) -> Result<Stored> {
        let stored = tx.resource("ServiceRequest", id, &self.actor.sight).await?;
        stored.filter(|stored| !stored.deleted).ok_or(Error::NotFound)
    }

    /// Puts the answer on the audit trail; only then does it leave.
    pub(super) async fn disclose(&self, interaction: &str, target: &str, person: &str) -> Result<()> {
        let row = audit_row(self.actor, self.now, self.request_id, interaction, target, person, "success");
        Ok(self.store.disclose(row).await?)
    }
}
