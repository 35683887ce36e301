//! Each resource once: what two entries would do to one nobody could order.

use std::collections::{HashMap, HashSet};

use crate::fhir::{IssueCode, Resource};

use super::super::refer;
use super::super::submit::{Ask, Entry};
use super::{Does, Error, Result, Step, criteria_at};

/// Every entry by the references that mean it: its fullUrl, the id it came with, the id it now has.
pub(super) fn by_reference(entries: &[Entry], steps: &[Step]) -> Result<HashMap<String, usize>> {
    let mut by_reference = HashMap::new();
    for (at, (entry, step)) in entries.iter().zip(steps).enumerate() {
        if !entry.full_url.is_empty() && by_reference.insert(entry.full_url.clone(), at).is_some() {
            return Err(Error::rule(
                IssueCode::Invariant,
                format!("Bundle.entry[{at}].fullUrl"),
                "Two entries have the same fullUrl. Give each entry its own, for example urn:uuid: and a new UUID.",
            ));
        }
        let kind = &entry.kind;
        if let Some(old) = entry.resource().and_then(Resource::id) {
            by_reference.entry(format!("{kind}/{old}")).or_insert(at);
        }
        // A relative reference means what it means on the server that the fullUrls are of.
        if let Some((_, tail)) = entry.full_url.rsplit_once(&format!("/{kind}/")) {
            by_reference.entry(format!("{kind}/{tail}")).or_insert(at);
        }
        if !step.id.is_empty() {
            by_reference.insert(format!("{kind}/{}", step.id), at);
        }
    }
    Ok(by_reference)
}

/// Refuses a second entry that asks for the same: which of the two is meant to last nobody can say
/// (<https://hl7.org/fhir/R4/http.html#trules>).
pub(super) fn once(entries: &[Entry]) -> Result<()> {
    let mut asked = HashSet::new();
    for (at, entry) in entries.iter().enumerate() {
        let kind = &entry.kind;
        let (means, what) = match (&entry.ask, &entry.criteria, &entry.id) {
            (Ask::Read, ..) => continue,
            (Ask::Create(_), Some(criteria), _) => (format!("{kind}?{criteria}"), "create on the same condition"),
            (_, Some(criteria), _) => (format!("{kind}?{criteria}"), "change the same resource"),
            (_, None, Some(id)) => (format!("{kind}/{id}"), "change the same resource"),
            (_, None, None) => continue,
        };
        if !asked.insert(means) {
            return Err(Error::rule(
                IssueCode::Invariant,
                criteria_at(entry, at),
                format!("Two entries {what}. Send one of them, and let others refer to it by its fullUrl."),
            ));
        }
    }
    Ok(())
}

/// Refuses two entries that came to the same resource by different ways.
pub(super) fn distinct(steps: &[Step]) -> Result<()> {
    let mut seen: HashMap<(&str, &str), bool> = HashMap::new();
    for (at, step) in steps.iter().enumerate() {
        let writes = match step.does {
            Does::Look | Does::Nothing => continue,
            Does::Found(_) => false,
            Does::Make(_) | Does::Change(_) | Does::Restore(_) | Does::Remove => true,
        };
        let before = seen.insert((step.entry.kind.as_str(), step.id.as_str()), writes);
        if before.is_some_and(|before| before || writes) {
            return Err(Error::rule(
                IssueCode::Invariant,
                format!("Bundle.entry[{at}].request.url"),
                "Two entries are about the same resource. Send each resource once.",
            ));
        }
    }
    Ok(())
}

/// Refuses two new referrals with one business identifier: neither would be the first.
pub(super) fn distinct_referrals(steps: &[Step]) -> Result<()> {
    let mut seen = HashSet::new();
    for step in steps {
        let Does::Make(resource) = &step.does else { continue };
        if resource.kind() != "ServiceRequest" || resource.text("status") != Some("active") {
            continue;
        }
        for identifier in refer::business_identifiers(resource) {
            if !seen.insert(identifier) {
                return Err(Error::rule(
                    IssueCode::Duplicate,
                    format!("{}.identifier", step.entry.expression),
                    "Two referrals of this Bundle have the same identifier. Give each its own.",
                ));
            }
        }
    }
    Ok(())
}
