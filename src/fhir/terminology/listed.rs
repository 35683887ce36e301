//! What is known of the codes of one value set.

use std::collections::{BTreeSet, HashMap};

use super::code_system::Concept;
use super::{Membership, Unlistable};
use crate::fhir::check::required_value_set;

/// One code of a value set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub system: String,
    pub code: String,
    pub display: Option<String>,
    /// A heading, not to be chosen (`notSelectable`).
    pub heading: bool,
    /// No longer to be used.
    pub inactive: bool,
}

impl Member {
    /// A code with no more said of it.
    pub(super) fn bare(system: &str, code: &str) -> Member {
        let (system, code) = (system.to_owned(), code.to_owned());
        Member { system, code, display: None, heading: false, inactive: false }
    }

    pub(super) fn of(system: &str, concept: &Concept) -> Member {
        Member {
            display: concept.display.clone(),
            heading: concept.is("notSelectable"),
            inactive: concept.inactive(),
            ..Member::bare(system, &concept.code)
        }
    }
}

/// What is known of one value set.
#[derive(Default, Clone)]
pub(super) struct Listed {
    /// In the order of the definition, each once.
    members: Vec<Member>,
    /// Where a code stands, by system and code.
    places: HashMap<String, HashMap<String, usize>>,
    /// Systems of which some codes are in the set, but not at hand.
    open: BTreeSet<String>,
    /// Value sets in this one that are not at hand: any code may be in them.
    unknown: BTreeSet<String>,
}

impl Listed {
    /// A value set that R4 requires; one that cannot be listed is in it as unknown.
    pub(super) fn of_r4(url: &str) -> Option<Listed> {
        let set = required_value_set(url)?;
        let mut listed = Listed::default();
        for (system, codes) in set.systems() {
            codes.iter().for_each(|code| listed.add_member(Member::bare(system, code)));
        }
        Some(if set.systems().is_empty() { Listed::unknown(url) } else { listed })
    }

    /// A value set that is not at hand.
    pub(super) fn unknown(url: &str) -> Listed {
        Listed { unknown: BTreeSet::from([url.to_owned()]), ..Listed::default() }
    }

    /// Something of a system that is not at hand.
    pub(super) fn open(system: &str) -> Listed {
        Listed { open: BTreeSet::from([system.to_owned()]), ..Listed::default() }
    }

    /// All codes, where all are at hand.
    pub(super) fn members(&self) -> Result<Vec<Member>, Unlistable> {
        if self.open.is_empty() && self.unknown.is_empty() {
            return Ok(self.members.clone());
        }
        let (systems, value_sets) = (self.open.iter().cloned().collect(), self.unknown.iter().cloned().collect());
        Err(Unlistable::NotHeld { systems, value_sets })
    }

    /// Whether a code is in it; without a system, whether any system's is.
    pub(super) fn holds(&self, system: Option<&str>, code: &str) -> Membership {
        let listed = match system {
            Some(system) => self.has(system, code),
            None => self.places.values().any(|codes| codes.contains_key(code)),
        };
        match listed {
            true => Membership::Member,
            false if self.may_have(system) => Membership::Unknown,
            false => Membership::Foreign,
        }
    }

    fn has(&self, system: &str, code: &str) -> bool {
        self.places.get(system).is_some_and(|codes| codes.contains_key(code))
    }

    /// Whether codes that are not listed may be in it.
    fn may_have(&self, system: Option<&str>) -> bool {
        let open = system.map_or(!self.open.is_empty(), |system| self.open.contains(system));
        open || !self.unknown.is_empty()
    }

    pub(super) fn add_member(&mut self, member: Member) {
        let of_system = self.places.entry(member.system.clone()).or_default();
        if let std::collections::hash_map::Entry::Vacant(place) = of_system.entry(member.code.clone()) {
            place.insert(self.members.len());
            self.members.push(member);
        }
    }

    /// Adds what the other has.
    pub(super) fn add(&mut self, other: Listed) {
        other.members.into_iter().for_each(|member| self.add_member(member));
        self.open.extend(other.open);
        self.unknown.extend(other.unknown);
    }

    /// Takes away what the other has. What is not at hand of the other may be some of those kept, so their systems are
    /// told no more.
    pub(super) fn remove(&mut self, other: &Listed) {
        let gone = |m: &Member| other.has(&m.system, &m.code) || other.open.contains(&m.system);
        let open: Vec<String> = other.open.iter().filter(|system| self.places.contains_key(*system)).cloned().collect();
        self.keep(|member| !gone(member));
        self.open.extend(open);
        self.unknown.extend(other.unknown.iter().cloned());
    }

    /// Only what both have; what one has and the other may have is told no more.
    pub(super) fn both(mut self, other: &Listed) -> Listed {
        let mut open: BTreeSet<String> = self.open.intersection(&other.open).cloned().collect();
        let uncertain = |one: &Listed, other: &Listed| -> Vec<String> {
            let not_there = one.members.iter().filter(|m| other.holds(Some(&m.system), &m.code) == Membership::Unknown);
            not_there.map(|m| m.system.clone()).collect()
        };
        open.extend(uncertain(&self, other));
        open.extend(uncertain(other, &self));
        if !other.unknown.is_empty() {
            open.extend(self.open.iter().cloned());
        }
        if self.unknown.is_empty() {
            self.keep(|m| other.has(&m.system, &m.code));
            return Listed { open, ..self };
        }
        open.extend(other.open.iter().cloned());
        let unknown = if other.unknown.is_empty() { BTreeSet::new() } else { self.unknown.clone() };
        self.keep(|m| other.has(&m.system, &m.code));
        Listed { open, unknown, ..self }
    }

    fn keep(&mut self, wanted: impl Fn(&Member) -> bool) {
        let members = std::mem::take(&mut self.members);
        self.places.clear();
        members.into_iter().filter(|m| wanted(m)).for_each(|member| self.add_member(member));
    }
}
