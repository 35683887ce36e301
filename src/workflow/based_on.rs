//! What a ServiceRequest or a record says it is based on, as far as the caller may know of it.

use serde_json::Value;

use crate::fhir::systems::REFERRAL_REFERENCE;
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

/// Whether a Reference of `basedOn` names a referral to us, or a CarePlan of Live Well's.
pub(super) async fn is_ours(unit: &mut Unit<'_>, base: &Value) -> Result<bool> {
    if let Some(("CarePlan", id)) = unit.house.local(literal(base)) {
        let plan = unit.see("CarePlan", id).await?;
        return Ok(plan.is_some_and(|seen| seen.belongs.sender == unit.house.organization()));
    }
    Ok(referral(unit, base).await?.is_some())
}

/// The referral to us that a Reference names: by its id, or by the reference that people read out. One that the caller may
/// not see is as unknown as one that is not there.
async fn referral(unit: &mut Unit<'_>, base: &Value) -> Result<Option<ReferralRow>> {
    let found = match unit.house.local(literal(base)) {
        Some(("ServiceRequest", id)) => unit.tx.referral(id).await?,
        Some(_) => None,
        None => match path::text(base, "identifier.value") {
            Some(value) if path::text(base, "identifier.system") == Some(REFERRAL_REFERENCE) => {
                unit.tx.referral_by_reference(value).await?
            }
            _ => None,
        },
    };
    let Some(found) = found else { return Ok(None) };
    Ok(unit.see("ServiceRequest", &found.id).await?.map(|_| found))
}

fn literal(base: &Value) -> &str {
    path::text(base, "reference").unwrap_or_default()
}
