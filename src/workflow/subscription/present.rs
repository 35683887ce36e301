//! What a subscriber may be told now: decided when something happens and again when it is sent, never remembered.

use chrono::{DateTime, Utc};

use crate::fhir::scope::{Interaction, Scopes};
use crate::pathway::role::{is_active, localities_of};
use crate::store::{Sight, SubscriptionRow, Tx};

use super::super::{House, Result};

/// What a subscriber may see and read now.
pub(super) struct Present {
    pub sight: Sight,
    scopes: Scopes,
}

impl Present {
    /// Whether it may read resources of this type.
    pub(super) fn may_read(&self, kind: &str) -> bool {
        self.scopes.allows(kind, Interaction::Read)
    }
}

/// The subscriber as it is registered now; `None` once it is shut out, belongs to another organisation, or acted for
/// someone who is not in the directory any more.
pub(super) async fn present(
    tx: &mut Tx,
    house: &House,
    row: &SubscriptionRow,
    now: DateTime<Utc>,
) -> Result<Option<Present>> {
    let client = tx.client(&row.client).await?;
    let Some(client) = client.filter(|c| c.disabled_at.is_none() && c.organization == row.organization) else {
        return Ok(None);
    };
    let Ok(scopes) = client.scopes.parse::<Scopes>() else { return Ok(None) };
    let ours = house.organization();
    let sight = if client.organization != ours || ours.is_empty() {
        Sight::Practice(client.organization)
    } else if row.staff.is_empty() {
        if !client.staff.is_empty() || client.speaks_for_staff {
            return Ok(None);
        }
        Sight::Everything
    } else {
        if client.staff != row.staff && !client.speaks_for_staff {
            return Ok(None);
        }
        let id = row.staff.strip_prefix("PractitionerRole/").unwrap_or(&row.staff);
        match tx.directory_resource("PractitionerRole", id).await?.filter(|role| is_active(role, now)) {
            Some(role) => Sight::of_staff(&house.roles.roles_of(&role), &localities_of(&role)),
            None => return Ok(None),
        }
    };
    Ok(Some(Present { sight, scopes }))
}
