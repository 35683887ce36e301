//! Something is deleted: it answers 410 from then on, and its history is kept. What others rely on is not deleted but
//! withdrawn, or marked as entered in error.

use crate::fhir::Resource;

use super::{Error, Result, Unit, keep, record, subscription};

/// Deletes a resource that the caller sees, if it is theirs to delete.
pub(super) async fn remove(unit: &mut Unit<'_>, kind: &str, id: &str) -> Result<()> {
    let seen = unit.see(kind, id).await?.ok_or(Error::NotFound)?;
    if kind == "Subscription" {
        return subscription::delete(unit, id).await;
    }
    unit.hold_person(&seen.belongs.person).await?;
    keep::is_the_callers(unit, &seen.resource, &seen.belongs)?;
    if let Some(instead) = instead(unit, &seen.resource, &seen.belongs.person).await? {
        return Err(Error::conflict(kind, instead));
    }
    unit.audit("delete", &format!("{kind}/{id}"), &seen.belongs.person);
    unit.delete(kind, id).await
}

/// What to do instead of deleting this; `None` where it may be deleted.
async fn instead(unit: &mut Unit<'_>, resource: &Resource, person: &str) -> Result<Option<&'static str>> {
    let id = resource.id().unwrap_or_default();
    Ok(match resource.kind() {
        "ServiceRequest" if unit.tx.referral(id).await?.is_some() => Some(
            "A referral is withdrawn, not deleted. PUT it with status revoked, or entered-in-error if it was never meant.",
        ),
        "Task" if unit.tx.task(id).await?.is_some() => Some(
            "A Task of Live Well's queue is ended, not deleted. Complete it, or PUT it with status cancelled or rejected.",
        ),
        "Patient" if is_referred(unit, person).await? => Some(
            "You referred this person, and the referral names this Patient. Withdraw the referral, or PUT the Patient \
             as it should be.",
        ),
        // Practices hold copies of it, and people acted on it.
        kind if unit.actor.ours && record::RECORDED.contains(&kind) => Some(
            "What was recorded stays in the record. PUT it with status entered-in-error, and the practice that holds a \
             copy hears of it.",
        ),
        _ => None,
    })
}

async fn is_referred(unit: &mut Unit<'_>, person: &str) -> Result<bool> {
    let sender = unit.actor.organization.clone();
    Ok(unit.tx.referrals_of_person(person).await?.iter().any(|referral| referral.sender == sender))
}
