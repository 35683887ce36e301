//! What comes along: history, documents, organisations and people that a referral or a record brings. Kept as sent.

use crate::fhir::{Resource, path};
use crate::store::{Belongs, DeliveryItem};

use super::submit::references;
use super::unit::flag;
use super::{Error, Result, Unit, Written, load};

/// What a submission is about, as it becomes known entry by entry.
#[derive(Default)]
pub(super) struct Keeping {
    /// Our Patient.
    pub person: Option<String>,
    /// The referral, ours.
    pub referral: Option<String>,
    /// What was recorded and must reach the practice.
    pub recorded: Vec<DeliveryItem>,
}

/// Keeps a resource as context, as its sender's own.
pub(super) async fn keep(unit: &mut Unit<'_>, resource: Resource, keeping: &Keeping) -> Result<()> {
    if unit.actor.ours && unit.actor.staff.is_none() && load::DIRECTORY.contains(&resource.kind()) {
        unit.audit("create", &resource.reference(), "");
        unit.create(resource, Belongs::default());
        return Ok(());
    }
    let person = match about(unit, &resource).await? {
        Some(person) => person,
        None => keeping.person.clone().unwrap_or_default(),
    };
    let belongs = Belongs {
        sender: unit.actor.organization.clone(),
        referral: if Some(&person) == keeping.person.as_ref() {
            keeping.referral.clone().unwrap_or_default()
        } else {
            String::new()
        },
        person,
    };
    unit.audit("create", &resource.reference(), &belongs.person);
    unit.create(resource, belongs);
    Ok(())
}

/// A new version of something that was kept, by the organisation whose own it is.
pub(super) async fn change_kept(unit: &mut Unit<'_>, resource: Resource) -> Result<()> {
    let seen = unit.see(resource.kind(), resource.id().unwrap_or_default()).await?.ok_or(Error::NotFound)?;
    let own = seen.belongs.sender == unit.actor.organization && !seen.belongs.sender.is_empty();
    let directory = seen.belongs == Belongs::default() && unit.actor.ours && load::DIRECTORY.contains(&resource.kind());
    if !own && !directory {
        return Err(Error::Forbidden(format!(
            "This {} is not your organisation's own, so you cannot change it.",
            resource.kind()
        )));
    }
    unit.audit("update", &resource.reference(), &seen.belongs.person);
    unit.change(resource).await
}

/// Our Patient that a resource says it is about.
pub(super) async fn about(unit: &mut Unit<'_>, resource: &Resource) -> Result<Option<String>> {
    for element in ["subject", "patient", "for", "beneficiary", "individual"] {
        let Some(value) = resource.value().get(element) else { continue };
        let reference = path::text(value, "reference").unwrap_or_default();
        if let Some(("Patient", id)) = unit.house.local(reference)
            && let Some(seen) = unit.see("Patient", id).await?
        {
            return Ok(Some(seen.belongs.person));
        }
        if path::text(value, "identifier.system") == Some(crate::fhir::systems::NHS_NUMBER)
            && let Some(number) = path::text(value, "identifier.value")
            && let Some(person) = unit.tx.person_by_nhs_number(number).await?
        {
            return Ok(Some(person.id));
        }
    }
    Ok(None)
}

/// Notes on what was written that some of its references mean nothing here. National messages are full of them, so
/// they are kept and recorded, never refused.
pub(super) async fn note_dangling(unit: &mut Unit<'_>, written: &Written) -> Result<()> {
    if !written.created {
        return Ok(());
    }
    let Some(seen) = unit.get(&written.kind, &written.id).await? else { return Ok(()) };
    for (reference, _) in references(&seen.resource) {
        if dangles(unit, &reference).await? {
            let mut resource = seen.resource;
            flag(&mut resource, "dangling-reference");
            return unit.change(resource).await;
        }
    }
    Ok(())
}

async fn dangles(unit: &mut Unit<'_>, reference: &str) -> Result<bool> {
    if reference.starts_with('#') {
        return Ok(false);
    }
    match unit.house.local(reference) {
        Some((kind, id)) => Ok(unit.see(kind, id).await?.is_none()),
        // Somewhere else's absolute URL is not ours to resolve; a urn: or a bare word means an entry that is not there.
        None => Ok(!reference.starts_with("http://") && !reference.starts_with("https://")),
    }
}
