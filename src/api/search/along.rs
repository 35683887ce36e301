//! What comes along with the matches: `_include` and `_revinclude`.

use std::collections::BTreeSet;

use super::super::error::Error;
use super::super::state::Call;
use crate::auth::scope::Interaction;
use crate::fhir::search::{Include, include_targets, included, references};
use crate::store::{Found, Stored, Tx};

/// Resources that come along with one page at most.
const MOST: usize = 1000;
/// Hops that `:iterate` takes at most.
const HOPS: usize = 8;

/// What came along, and whether more would have.
pub(super) struct Along {
    pub resources: Vec<Stored>,
    pub cut: bool,
}

/// What the matches refer to and what refers to them, as far as the caller may see it: one statement a hop forth, and
/// one for each type back.
pub(super) async fn gather(tx: &mut Tx, call: &Call, matches: &[Stored], includes: &[Include]) -> Result<Along, Error> {
    if includes.is_empty() {
        return Ok(Along { resources: Vec::new(), cut: false });
    }
    let seen = matches.iter().map(key).collect();
    let mut gathering = Gathering { call, seen, along: Along { resources: Vec::new(), cut: false }, next: Vec::new() };
    let mut from: Vec<Stored> = matches.to_vec();
    for hop in 0..HOPS {
        let active: Vec<&Include> = includes.iter().filter(|include| hop == 0 || include.iterate).collect();
        if active.is_empty() || from.is_empty() || gathering.along.cut {
            return Ok(gathering.along);
        }
        gathering.forth(tx, &from, &active).await?;
        gathering.back(tx, &from, &active).await?;
        from = std::mem::take(&mut gathering.next);
    }
    gathering.along.cut |= !from.is_empty();
    Ok(gathering.along)
}

type Key = (String, String);

fn key(stored: &Stored) -> Key {
    (stored.kind.clone(), stored.id.clone())
}

struct Gathering<'a> {
    call: &'a Call,
    /// Matches, and what came along.
    seen: BTreeSet<Key>,
    along: Along,
    /// What this hop found.
    next: Vec<Stored>,
}

impl Gathering<'_> {
    fn room(&self) -> i64 {
        i64::try_from(MOST.saturating_sub(self.along.resources.len())).unwrap_or(0)
    }

    fn take(&mut self, found: Found) {
        self.along.cut |= found.more;
        for stored in found.matches {
            if self.seen.insert(key(&stored)) {
                self.along.resources.push(stored.clone());
                self.next.push(stored);
            }
        }
    }

    fn may_search(&self, kind: &str) -> bool {
        self.call.may(kind, Interaction::Search).is_ok()
    }

    /// What these refer to.
    async fn forth(&mut self, tx: &mut Tx, from: &[Stored], active: &[&Include]) -> Result<(), Error> {
        let base = self.call.doors.fhir_base();
        let mut wanted = BTreeSet::new();
        for stored in from {
            let resource = stored.resource()?;
            for include in active.iter().filter(|include| !include.reverse) {
                wanted.extend(included(&resource, include, &stored.person, &base));
            }
        }
        wanted.retain(|one| !self.seen.contains(one) && self.may_search(&one.0));
        while let Some(last) = wanted.last().filter(|_| wanted.len() > 2 * MOST).cloned() {
            self.along.cut = true;
            wanted.remove(&last);
        }
        if !wanted.is_empty() {
            let found = tx.all_of(&wanted, &self.call.actor.sight, self.room()).await?;
            self.take(found);
        }
        Ok(())
    }

    /// What refers to these.
    async fn back(&mut self, tx: &mut Tx, from: &[Stored], active: &[&Include]) -> Result<(), Error> {
        let targets: BTreeSet<Key> = from.iter().map(key).collect();
        for include in active.iter().filter(|include| include.reverse) {
            let wanted = |(kind, _): &&Key| include.target.as_ref().is_none_or(|target| target == kind);
            let to: BTreeSet<Key> = targets.iter().filter(wanted).cloned().collect();
            if to.is_empty() {
                continue;
            }
            for include in self.each(include, &to) {
                let links = include.links();
                let found = tx.referring(&include.kind, &links, &to, &self.call.actor.sight, self.room()).await?;
                self.take(found);
            }
        }
        Ok(())
    }

    /// An include back by its types: for `*` each that has a reference to one of these.
    fn each(&self, include: &Include, to: &BTreeSet<Key>) -> Vec<Include> {
        let leads = |from: &str, code: &str| {
            let targets = include_targets(from, code);
            targets.is_empty() || targets.iter().any(|target| to.iter().any(|(kind, _)| kind == target))
        };
        let refers = |from: &&str| references(from).iter().any(|code| leads(from, code));
        let types: Vec<&str> = match include.kind.as_str() {
            "*" => self.call.doors.types.all().filter(refers).collect(),
            one => vec![one],
        };
        let of = |kind: &str| Include { kind: kind.to_owned(), ..include.clone() };
        types.into_iter().filter(|kind| self.may_search(kind)).map(of).collect()
    }
}
