//! Code systems and value sets that are kept as resources, beside those at hand, as a caller sees them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::fhir::scope::Interaction;
use crate::fhir::search::{Criterion, Word};
use crate::fhir::terminology::{Terminology, parts_of};
use crate::store::Tx;

use super::{Actor, House, Result};

/// Definitions that are read for one question at most.
const MOST: usize = 64;
/// Longest canonical that is looked for, in bytes.
const LONGEST: usize = 500;

/// What is at hand, and with it what the caller may read of these definitions (type and canonical) and of those that they
/// are made of: its organisation's own first, then Live Well's. What is at hand is never replaced.
pub async fn terminology(
    tx: &mut Tx,
    house: &House,
    actor: &Actor,
    wanted: Vec<(&'static str, String)>,
) -> Result<Arc<Terminology>> {
    let mut found: Vec<Value> = Vec::new();
    let mut asked: BTreeSet<(&'static str, String)> = BTreeSet::new();
    let mut next = wanted;
    while let Some((kind, canonical)) = next.pop() {
        let known = house.terminology.has(kind, &canonical) || canonical.len() > LONGEST;
        if known || asked.len() == MOST || !asked.insert((kind, canonical.clone())) {
            continue;
        }
        if actor.scopes.allows(kind, Interaction::Read)
            && let Some(definition) = kept(tx, actor, kind, &canonical).await?
        {
            next.extend(parts_of(&definition));
            found.push(definition);
        }
    }
    Ok(match found.is_empty() {
        true => Arc::clone(&house.terminology),
        false => Arc::new(house.terminology.with(&found)),
    })
}

/// The newest of the definitions with this canonical that are the caller's, or else Live Well's.
async fn kept(tx: &mut Tx, actor: &Actor, kind: &str, canonical: &str) -> Result<Option<Value>> {
    let (url, version) = canonical.split_once('|').map_or((canonical, None), |(url, version)| (url, Some(version)));
    let is = |param: &str, value: &str| Criterion::Words {
        params: vec![param.to_owned()],
        any: vec![Word::of_value(value)],
        not: false,
    };
    let criteria: Vec<_> = [Some(is("url", url)), version.map(|v| is("version", v))].into_iter().flatten().collect();
    let whose = (actor.organization.as_str(), actor.ours);
    let found = tx.nearest(kind, &criteria, &actor.sight, whose, &[]).await?;
    let own = found.first().map(|first| first.sender.clone());
    let newest = found.into_iter().filter(|one| Some(&one.sender) == own.as_ref()).max_by_key(|one| one.updated_at);
    Ok(newest.and_then(|one| serde_json::from_str(&one.body).ok()))
}
