//! Who looks after a person in their spell with us.

use serde_json::json;

use crate::store::TaskRow;

use super::{Result, Unit};

/// Whoever begins a Task of the pathway looks after the person from then on, until somebody else begins one. A co-ordinator
/// settles what is in the way, and does not.
pub(super) async fn takes_over(unit: &mut Unit<'_>, task: &TaskRow) -> Result<()> {
    let is_theirs = |staff: &&super::Staff| staff.reference == task.owner && staff.roles.contains(&task.role);
    let Some(staff) = unit.actor.staff.as_ref().filter(is_theirs) else { return Ok(()) };
    if task.role == "co-ordinator" {
        return Ok(());
    }
    let Some(referral) = unit.tx.referral(&task.referral).await? else { return Ok(()) };
    let Some(seen) = unit.get("EpisodeOfCare", &referral.episode).await? else { return Ok(()) };
    let mut episode = seen.resource;
    if episode.text("careManager.reference") != Some(&staff.reference) {
        let manager = json!({ "type": "PractitionerRole", "reference": staff.reference });
        episode.map_mut().insert("careManager".to_owned(), manager);
        unit.change(episode).await?;
    }
    Ok(())
}
