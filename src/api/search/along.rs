//! What comes along with the matches: `_include` and `_revinclude`.

use std::collections::BTreeSet;

use super::super::error::Error;
use super::super::state::Call;
use crate::auth::scope::Interaction;
use crate::fhir::search::{Include, included};
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
    let mut along = Along { resources: Vec::new(), cut: false };
    let mut seen: BTreeSet<(String, String)> = matches.iter().map(key).collect();
    let mut from: Vec<Stored> = matches.to_vec();
    for hop in 0..HOPS {
        let active: Vec<&Include> = includes.iter().filter(|include| hop == 0 || include.iterate).collect();
        if active.is_empty() || from.is_empty() || along.cut {
            return Ok(along);
        }
        let mut next = Vec::new();
        forth(tx, call, &from, &active, &mut seen, &mut along, &mut next).await?;
        back(tx, call, &from, &active, &mut seen, &mut along, &mut next).await?;
        from = next;
    }
    along.cut |= !from.is_empty();
    Ok(along)
}

fn key(stored: &Stored) -> (String, String) {
    (stored.kind.clone(), stored.id.clone())
}

impl Along {
    fn room(&self) -> i64 {
        i64::try_from(MOST.saturating_sub(self.resources.len())).unwrap_or(0)
    }

    fn take(&mut self, found: Found, seen: &mut BTreeSet<(String, String)>, next: &mut Vec<Stored>) {
        self.cut |= found.more;
        for stored in found.matches {
            if seen.insert(key(&stored)) {
                self.resources.push(stored.clone());
                next.push(stored);
            }
        }
    }
}

async fn forth(
    tx: &mut Tx,
    call: &Call,
    from: &[Stored],
    active: &[&Include],
    seen: &mut BTreeSet<(String, String)>,
    along: &mut Along,
    next: &mut Vec<Stored>,
) -> Result<(), Error> {
    let base = call.doors.fhir_base();
    let mut wanted = BTreeSet::new();
    for stored in from {
        let resource = stored.resource()?;
        for include in active.iter().filter(|include| !include.reverse) {
            wanted.extend(included(&resource, include, &stored.person, &base));
        }
    }
    wanted.retain(|(kind, id)| {
        !seen.contains(&(kind.clone(), id.clone())) && call.may(kind, Interaction::Search).is_ok()
    });
    while let Some(last) = wanted.last().filter(|_| wanted.len() > 2 * MOST).cloned() {
        along.cut = true;
        wanted.remove(&last);
    }
    if !wanted.is_empty() {
        let found = tx.all_of(&wanted, &call.actor.sight, along.room()).await?;
        along.take(found, seen, next);
    }
    Ok(())
}

async fn back(
    tx: &mut Tx,
    call: &Call,
    from: &[Stored],
    active: &[&Include],
    seen: &mut BTreeSet<(String, String)>,
    along: &mut Along,
    next: &mut Vec<Stored>,
) -> Result<(), Error> {
    let targets: BTreeSet<(String, String)> = from.iter().map(key).collect();
    for include in active.iter().filter(|include| include.reverse) {
        let wanted = |(kind, _): &&(String, String)| include.target.as_ref().is_none_or(|target| target == kind);
        let to: BTreeSet<_> = targets.iter().filter(wanted).cloned().collect();
        if to.is_empty() || call.may(&include.kind, Interaction::Search).is_err() {
            continue;
        }
        let links = include.links();
        let found = tx.referring(&include.kind, &links, &to, &call.actor.sight, along.room()).await?;
        along.take(found, seen, next);
    }
    Ok(())
}
