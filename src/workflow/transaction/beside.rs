//! What the entries of a Bundle do is not in the database while the others are planned, and still is what their criteria
//! mean, or do not mean any more.

use std::collections::BTreeSet;

use crate::fhir::search::{IndexRow, all_rows};
use crate::fhir::{IssueCode, Resource};
use crate::store::Stored;

use super::{Ask, Criteria, Does, Entry, Error, Result, Step, Unit, condition, keep, links};

/// What the entries planned so far make, change and delete.
pub(super) struct Beside {
    /// The types that criteria ask for; `None` where a patch may put in references by any.
    asked: Option<BTreeSet<String>>,
    made: Vec<Here>,
    changed: Vec<Here>,
    /// Type and id.
    gone: Vec<(String, String)>,
}

/// A resource as an entry leaves it.
struct Here {
    resource: Resource,
    /// What it is searched by.
    rows: Vec<IndexRow>,
    id: String,
    /// It is the organisation's own, not the directory's.
    own: bool,
}

impl Beside {
    /// Nothing so far, for these entries and their criteria.
    pub(super) fn of(entries: &[Entry], criteria: &[Option<Criteria>]) -> Beside {
        let by_entry = criteria.iter().flatten().map(|criteria| criteria.kind.clone());
        let references = entries.iter().filter_map(Entry::resource).flat_map(links::conditional);
        let asked = by_entry.chain(references.map(|(_, kind, ..)| kind)).collect();
        let patches = entries.iter().any(|entry| matches!(entry.ask, Ask::Patch(_)));
        Beside { asked: (!patches).then_some(asked), made: Vec::new(), changed: Vec::new(), gone: Vec::new() }
    }

    /// What an entry comes to.
    pub(super) fn note(&mut self, unit: &Unit<'_>, step: &Step) {
        if self.asked.as_ref().is_some_and(|kinds| !kinds.contains(&step.entry.kind)) {
            return;
        }
        let here = |resource: &Resource| Here {
            own: !keep::is_directory_work(unit, resource),
            resource: resource.clone(),
            rows: all_rows(resource),
            id: step.id.clone(),
        };
        match &step.does {
            Does::Make(resource) => self.made.push(here(resource)),
            Does::Change(resource) | Does::Restore(resource) => self.changed.push(here(resource)),
            Does::Remove => self.gone.push((step.entry.kind.clone(), step.id.clone())),
            Does::Found(_) | Does::Nothing | Does::Look => {}
        }
    }

    /// The stored resource that criteria of an entry mean, if any: without those that entries before it delete.
    ///
    /// # Errors
    /// They mean something that another entry makes: which of the two is meant to last nobody can say.
    pub(super) async fn meant(
        &self,
        unit: &mut Unit<'_>,
        criteria: &Criteria,
        expression: &str,
    ) -> Result<Option<Stored>> {
        if !here(&self.made, criteria)?.is_empty() {
            return Err(Error::rule(
                IssueCode::Invariant,
                expression,
                "These criteria mean a resource that another entry of this Bundle makes. Send each resource once, and let \
                 others refer to it by its fullUrl.",
            ));
        }
        let gone: Vec<&str> =
            self.gone.iter().filter(|(kind, _)| *kind == criteria.kind).map(|(_, id)| &**id).collect();
        let mut found = condition::matching(unit, criteria, &gone).await?;
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Err(criteria.several()),
        }
    }

    /// The id of the resource that a conditional reference means, if any: stored, or as an entry leaves it.
    pub(super) async fn referred(&self, unit: &mut Unit<'_>, criteria: &Criteria) -> Result<Option<String>> {
        let here = [here(&self.made, criteria)?, here(&self.changed, criteria)?].concat();
        let gone = self.gone.iter().filter(|(kind, _)| *kind == criteria.kind).map(|(_, id)| id.as_str());
        let changed = self.changed.iter().filter(|here| here.resource.kind() == criteria.kind).map(|here| &*here.id);
        let without: Vec<&str> = gone.chain(changed).collect();
        let stored = condition::matching(unit, criteria, &without).await?;
        let organization = unit.actor.organization.as_str();
        let all = here.iter().map(|here| (here.own, here.id.as_str()));
        let all = all.chain(stored.iter().map(|one| (one.sender == organization, one.id.as_str())));
        let (own, other): (Vec<_>, Vec<_>) = all.partition(|(own, _)| *own);
        match (if own.is_empty() { other } else { own }).as_slice() {
            [] => Ok(None),
            [(_, only)] => Ok(Some((*only).to_owned())),
            _ => Err(criteria.several()),
        }
    }
}

/// Those that criteria mean.
///
/// # Errors
/// Only the database could tell, and they are not in it.
fn here<'a>(all: &'a [Here], criteria: &Criteria) -> Result<Vec<&'a Here>> {
    let mut meant = Vec::new();
    for one in all {
        match criteria.mean(&one.resource, &one.rows) {
            Some(true) => meant.push(one),
            Some(false) => {}
            None => {
                return Err(Error::rule(
                    IssueCode::NotSupported,
                    &criteria.kind,
                    format!(
                        "Whether these criteria mean the {} that another entry of this Bundle sends cannot be told: they \
                         look at other resources. Use an identifier.",
                        criteria.kind
                    ),
                ));
            }
        }
    }
    Ok(meant)
}
