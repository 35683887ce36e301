//! Whose a Task is made: anyone takes one for themselves, and a co-ordinator gives it to who could take it.

use crate::fhir::{IssueCode, Resource};
use crate::pathway::role::{is_active, localities_of};
use crate::store::TaskRow;

use super::actor::Staff;
use super::tasks::staff;
use super::{Error, House, Result, Unit};

/// `Task.owner` as it stands in the queue, also where it was sent as our own URL.
pub(super) fn owner_of(house: &House, task: &Resource) -> Option<String> {
    let reference = task.text("owner.reference")?;
    Some(house.local(reference).map_or_else(|| reference.to_owned(), |(kind, id)| format!("{kind}/{id}")))
}

/// A Task is taken by oneself; a co-ordinator may give it to anyone on the staff who could take it.
pub(super) async fn may_be_given(unit: &mut Unit<'_>, row: &TaskRow, by: &str) -> Result<()> {
    let staff = staff(unit)?;
    if by == staff.reference {
        return Ok(());
    }
    let refuse = |text: String| Error::rule(IssueCode::BusinessRule, "Task.owner", text);
    let id = by.strip_prefix("PractitionerRole/").filter(|_| staff.co_ordinates()).unwrap_or_default();
    let Some(role) = unit.tx.directory_resource("PractitionerRole", id).await? else {
        let text = "You take Tasks for yourself. A co-ordinator may give one to another member of staff, by \
                    PractitionerRole/id.";
        return Err(refuse(text.to_owned()));
    };
    if !is_active(&role, unit.now) {
        return Err(refuse(
            "This PractitionerRole is not active. Give the Task to someone who works here now.".to_owned(),
        ));
    }
    if !unit.tx.is_at(&role, &unit.house.organization()).await? {
        let text = "This PractitionerRole is of another organisation. Give the Task to one of Live Well's own.";
        return Err(refuse(text.to_owned()));
    }
    let other = Staff {
        reference: role.reference(),
        roles: unit.house.roles.roles_of(&role),
        localities: localities_of(&role),
    };
    if !other.may_do_work_for(&row.role) {
        let text = format!(
            "This Task is for the role {}, which this PractitionerRole does not have. Give it to one that has.",
            row.role
        );
        return Err(refuse(text));
    }
    if !other.works_in(&row.locality) {
        let text = "This Task is in another locality than this PractitionerRole's. Give it to one that works there.";
        return Err(refuse(text.to_owned()));
    }
    Ok(())
}
