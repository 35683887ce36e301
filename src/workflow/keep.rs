//! What comes along: history, documents, organisations and people that a referral or a record brings. Kept as sent.

use std::collections::HashMap;

use crate::fhir::{Resource, path};
use crate::store::{Belongs, DeliveryItem};

use super::links::references;
use super::unit::flag;
use super::{Error, Result, Unit, Written, load};

/// Whom a submission is about, as it becomes known entry by entry, and what of it must reach a practice.
#[derive(Default)]
pub(super) struct Keeping {
    /// Our Patients, each once.
    people: Vec<String>,
    /// The referrals to us, each with its person.
    referrals: Vec<(String, String)>,
    /// What was recorded and must reach the practice.
    pub recorded: Vec<Recorded>,
}

/// Something recorded, with the person and the referral it belongs to.
pub(super) struct Recorded {
    pub person: String,
    pub referral: String,
    pub item: DeliveryItem,
}

impl Keeping {
    /// The submission is about this person, too.
    pub(super) fn concerns(&mut self, person: &str, referral: &str) {
        if !person.is_empty() && !self.people.iter().any(|p| p == person) {
            self.people.push(person.to_owned());
        }
        if !referral.is_empty() && !self.referrals.iter().any(|(r, _)| r == referral) {
            self.referrals.push((referral.to_owned(), person.to_owned()));
        }
    }

    /// The one person it is about; `None` while there is none, or when there are several and nobody can tell.
    pub(super) fn only_person(&self) -> Option<&str> {
        match self.people.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The one referral of a person in it.
    pub(super) fn only_referral(&self, person: &str) -> Option<&str> {
        let mut of_person = self.referrals.iter().filter(|(_, p)| p == person);
        match (of_person.next(), of_person.next()) {
            (Some((only, _)), None) => Some(only),
            _ => None,
        }
    }

    /// Whom what names nobody comes along with: the person of the one referral, else the one person.
    fn companion(&self) -> Option<&str> {
        match self.referrals.as_slice() {
            [(_, person)] => Some(person),
            _ => self.only_person(),
        }
    }
}

/// Keeps a resource as context, as its sender's own.
pub(super) async fn keep(unit: &mut Unit<'_>, resource: Resource, keeping: &Keeping) -> Result<()> {
    if is_directory_work(unit, &resource) {
        unit.audit("create", &resource.reference(), "");
        unit.create(resource, Belongs::default());
        return Ok(());
    }
    let person = match about(unit, &resource).await? {
        Some(person) => person,
        // What names someone who is not known here is nobody's: it is not the referral's person because it came along.
        None if names_someone(&resource) => String::new(),
        None => keeping.companion().unwrap_or_default().to_owned(),
    };
    let belongs = Belongs {
        sender: unit.actor.organization.clone(),
        referral: keeping.only_referral(&person).unwrap_or_default().to_owned(),
        person,
    };
    unit.audit("create", &resource.reference(), &belongs.person);
    unit.create(resource, belongs);
    Ok(())
}

/// The directory is the business of Live Well's own systems, not of its staff: who could change it could give themselves
/// any role and send what is written back anywhere.
pub(super) fn is_directory_work(unit: &Unit<'_>, resource: &Resource) -> bool {
    unit.actor.ours && unit.actor.staff.is_none() && load::DIRECTORY.contains(&resource.kind())
}

/// A new version of something that was kept, by the organisation whose own it is.
pub(super) async fn change_kept(unit: &mut Unit<'_>, resource: Resource) -> Result<()> {
    let kind = resource.kind().to_owned();
    let seen = unit.see(&kind, resource.id().unwrap_or_default()).await?.ok_or(Error::NotFound)?;
    is_the_callers(unit, &resource, &seen.belongs)?;
    stays_with_person(unit, &resource, &seen.belongs.person).await?;
    unit.audit("update", &resource.reference(), &seen.belongs.person);
    unit.change(resource).await
}

/// A new version of what was deleted, by whoever could have deleted it.
pub(super) async fn restore(unit: &mut Unit<'_>, resource: Resource) -> Result<()> {
    let (kind, id) = (resource.kind().to_owned(), resource.id().unwrap_or_default().to_owned());
    let sight = unit.actor.sight.clone();
    let belongs = unit.tx.resource(&kind, &id, &sight).await?.ok_or(Error::NotFound)?.belongs();
    is_the_callers(unit, &resource, &belongs)?;
    if kind == "Subscription" {
        // Its secret, its headers and its events went with it.
        return Err(Error::conflict(kind, "A Subscription that was deleted does not come back. POST a new one."));
    }
    stays_with_person(unit, &resource, &belongs.person).await?;
    unit.audit("update", &resource.reference(), &belongs.person);
    unit.change(resource).await
}

/// Refuses what is not the organisation's own, nor the directory's in the hands of those who keep it.
pub(super) fn is_the_callers(unit: &Unit<'_>, resource: &Resource, belongs: &Belongs) -> Result<()> {
    let own = belongs.sender == unit.actor.organization && !belongs.sender.is_empty();
    let directory = *belongs == Belongs::default() && is_directory_work(unit, resource);
    if own || directory {
        return Ok(());
    }
    let kind = resource.kind();
    Err(Error::Forbidden(format!("This {kind} is not your organisation's own, so you cannot change it.")))
}

/// Refuses a new version that is about someone else.
pub(super) async fn stays_with_person(unit: &mut Unit<'_>, resource: &Resource, person: &str) -> Result<()> {
    match about(unit, resource).await? {
        Some(other) if other != person => Err(Error::conflict(
            resource.kind(),
            "A resource stays with the person it is about. Send a new one for another person.",
        )),
        _ => Ok(()),
    }
}

/// The elements that say whom a resource is about.
pub(super) const ABOUT: [&str; 5] = ["subject", "patient", "for", "beneficiary", "individual"];

fn names_someone(resource: &Resource) -> bool {
    ABOUT.iter().any(|element| resource.value().get(*element).is_some())
}

/// Our Patient that a resource says it is about, where the caller may know of them.
pub(super) async fn about(unit: &mut Unit<'_>, resource: &Resource) -> Result<Option<String>> {
    for element in ABOUT {
        let Some(value) = resource.value().get(element) else { continue };
        let reference = path::text(value, "reference").unwrap_or_default();
        if let Some(("Patient", id)) = unit.house.local(reference)
            && let Some(seen) = unit.see("Patient", id).await?
        {
            return Ok(Some(seen.belongs.person));
        }
        if path::text(value, "identifier.system") == Some(crate::fhir::systems::NHS_NUMBER)
            && let Some(number) = path::text(value, "identifier.value")
            && let Some(person) = unit.person_by_nhs_number(number).await?
            && may_know(unit, &person.id).await?
        {
            return Ok(Some(person.id));
        }
    }
    Ok(None)
}

/// Whether the caller may know that Live Well knows this person: they see our Patient, referred them, or sent a Patient
/// that is them.
async fn may_know(unit: &mut Unit<'_>, person: &str) -> Result<bool> {
    if unit.see("Patient", person).await?.is_some() {
        return Ok(true);
    }
    let sender = unit.actor.organization.clone();
    if unit.tx.referrals_of_person(person).await?.iter().any(|referral| referral.sender == sender) {
        return Ok(true);
    }
    Ok(unit.all_of_person("Patient", person).await?.iter().any(|(_, belongs, _)| belongs.sender == sender))
}

/// Notes on what was written that some of its references mean nothing here. National messages are full of them, so
/// they are kept and recorded, never refused.
pub(super) async fn note_dangling(unit: &mut Unit<'_>, written: &[Option<Written>]) -> Result<()> {
    let mut known: HashMap<String, bool> = HashMap::new();
    for place in written.iter().flatten().filter(|w| w.created) {
        let Some(seen) = unit.get(&place.kind, &place.id).await? else { continue };
        // The link of a Patient to ours is the service's own, whether or not its sender may see ours.
        let ours = (place.kind == "Patient").then(|| format!("Patient/{}", seen.belongs.person));
        let all = references(&seen.resource).into_iter().filter(|(reference, _)| Some(reference) != ours.as_ref());
        for (reference, _) in all {
            let dangling = match known.get(&reference) {
                Some(dangling) => *dangling,
                None => dangles(unit, &reference).await?,
            };
            known.insert(reference, dangling);
            if dangling {
                let mut resource = seen.resource;
                flag(&mut resource, "dangling-reference");
                unit.change(resource).await?;
                break;
            }
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
