//! What of the person's own words goes to their practice: none, but where they agreed.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::fhir::Resource;
use crate::pathway::write_back::{OWN_WORDS, Reader, denies_detail, shares_own_words};
use crate::store::{DeliveryItem, Tx};

use super::super::links::references;
use super::super::{House, Result, Unit};

/// The Consents that decide how much leaves, of all about a person, each with its sender: every one that Live Well
/// recorded, and those of others that deny. A permission that somebody else says they have is none.
pub(super) fn that_count(house: &House, consents: Vec<(Resource, &str)>) -> Vec<Resource> {
    let ours = house.organization();
    let counts = |(consent, sender): &(Resource, &str)| *sender == ours || denies_detail(consent);
    consents.into_iter().filter(counts).map(|(consent, _)| consent).collect()
}

/// Which QuestionnaireResponses, of those that are sent or that what is sent refers to, this practice gets.
pub(super) fn shared(
    reader: &Reader,
    consents: &[Resource],
    resources: &[(Resource, i64)],
    now: DateTime<Utc>,
) -> BTreeSet<String> {
    let named = resources.iter().flat_map(|(r, _)| references(r).into_iter().map(|(reference, _)| reference));
    let words = resources
        .iter()
        .map(|(resource, _)| resource.reference())
        .chain(named)
        .filter(|reference| reference.strip_prefix(OWN_WORDS).is_some_and(|rest| rest.starts_with('/')))
        .map(|reference| reference.split("/_history/").next().unwrap_or_default().to_owned());
    words.filter(|reference| shares_own_words(consents, reference, reader, now)).collect()
}

/// The practice as a Consent may name it.
pub(super) async fn reader(tx: &mut Tx, practice: &str) -> Result<Reader> {
    let known = tx.directory_organization(practice).await?;
    Ok(Reader { ods: practice.to_owned(), organization: known.map(|organization| organization.reference()) })
}

/// What is to be queued, without those of the person's own words that they do not share, and, where a Consent is among it,
/// with those that they share now. Of what the practice has, that it was recorded in error is told whatever they share.
pub(super) async fn with_agreement(
    unit: &mut Unit<'_>,
    person: &str,
    practice: &str,
    items: Vec<DeliveryItem>,
) -> Result<Vec<DeliveryItem>> {
    let (words, mut kept): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.kind == OWN_WORDS);
    let agrees = kept.iter().any(|item| item.kind == "Consent");
    if words.is_empty() && !agrees {
        return Ok(kept);
    }
    let consents = unit.all_of_person("Consent", person).await?;
    let consents = consents.into_iter().map(|(consent, belongs, _)| (consent, belongs.sender)).collect::<Vec<_>>();
    let consents = that_count(unit.house, consents.iter().map(|(c, sender)| (c.clone(), sender.as_str())).collect());
    let (reader, ours) = (reader(&mut unit.tx, practice).await?, unit.house.organization());
    for (response, belongs, version) in unit.all_of_person(OWN_WORDS, person).await? {
        let id = response.id().unwrap_or_default();
        let recorded = words.iter().any(|item| item.id == id);
        if !(recorded || agrees) || belongs.sender != ours {
            continue;
        }
        let held = unit.tx.practice_copy(practice, &response.reference()).await?.map(|copy| copy.our_version);
        let shared = shares_own_words(&consents, &response.reference(), &reader, unit.now);
        let withdrawn = held.is_some() && response.text("status") == Some("entered-in-error");
        if (shared || withdrawn) && held.is_none_or(|held| held < version) {
            kept.push(DeliveryItem { kind: OWN_WORDS.to_owned(), id: id.to_owned(), version });
        }
    }
    Ok(kept)
}
