//! What a ServiceRequest or a record says it is based on, as far as the caller may know of it.

use serde_json::Value;

use crate::fhir::{Resource, path};
use crate::store::ReferralRow;

use super::{Result, Unit};

/// The referrals to us that `basedOn` names.
pub(super) async fn referrals(unit: &mut Unit<'_>, resource: &Resource) -> Result<Vec<ReferralRow>> {
    let mut found = Vec::new();
    for base in resource.all("basedOn") {
        found.extend(referral(unit, base).await?);
    }
    Ok(found)
}

/// The referral to us that a Reference names.
async fn referral(unit: &mut Unit<'_>, base: &Value) -> Result<Option<ReferralRow>> {
    let Some(("ServiceRequest", id)) = unit.house.local(path::text(base, "reference").unwrap_or_default()) else {
        return Ok(None);
    };
    match unit.see("ServiceRequest", id).await? {
        Some(_) => Ok(unit.tx.referral(id).await?),
        None => Ok(None),
    }
}
