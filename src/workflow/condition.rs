//! What a request depends on: the version it builds on, and criteria that stand in place of an id.

use crate::fhir::IssueCode;
use crate::fhir::etag::Tags;
use crate::fhir::search::{self, Criterion};
use crate::store::{Page, Stored};

use super::{Actor, Error, Result, Unit};

/// Refuses a change whose `If-Match` does not name the current version.
pub(super) fn current(kind: &str, id: &str, version: i64, if_match: Option<&Tags>) -> Result<()> {
    match if_match {
        Some(tags) if !tags.name(version) => Err(Error::Stale(format!(
            "{kind}/{id} is at version {version}, which If-Match does not name. Read it again and repeat the change on \
             what you find."
        ))),
        _ => Ok(()),
    }
}

/// The resources of a kind that criteria mean, at most two: none, the one, or too many. `expression` is where the
/// criteria stand.
///
/// What the caller may not see is not there, and of several what the caller would make again is meant (see [`nearest`]),
/// so that the answer is the same whether or not another's record matches. Two units never both find nothing: who asks
/// for the same criteria waits until the first has ended.
pub(super) async fn matching(unit: &mut Unit<'_>, kind: &str, criteria: &str, expression: &str) -> Result<Vec<Stored>> {
    let asked = Asked::read(kind, criteria, expression)?;
    unit.tx.hold(&asked.name(kind)).await?;
    let sight = unit.actor.sight.clone();
    let found = unit.tx.search(kind, &[asked.criterion()], &sight, &[], &Page::first(100)).await?;
    let mut nearest = nearest(unit.actor, found.matches);
    nearest.truncate(2);
    Ok(nearest)
}

/// The one resource that criteria mean, if any.
pub(super) async fn only(unit: &mut Unit<'_>, kind: &str, criteria: &str, expression: &str) -> Result<Option<Stored>> {
    let mut found = matching(unit, kind, criteria, expression).await?;
    if found.len() > 1 {
        return Err(Error::Several(format!(
            "Several {kind} resources match the criteria of this request. Use an identifier that only one has."
        )));
    }
    Ok(found.pop())
}

/// Refuses criteria that cannot be read.
pub(super) fn check(kind: &str, criteria: &str, expression: &str) -> Result<()> {
    Asked::read(kind, criteria, expression).map(drop)
}

/// Holds what several criteria of one unit mean, each a kind and its criteria, in an order in which no two units wait for
/// each other.
pub(super) async fn hold(unit: &mut Unit<'_>, all: &[(String, String)]) -> Result<()> {
    let mut names = Vec::with_capacity(all.len());
    for (kind, criteria) in all {
        names.extend(Asked::read(kind, criteria, kind).ok().map(|asked| asked.name(kind)));
    }
    names.sort();
    names.dedup();
    for name in names {
        unit.tx.hold(&name).await?;
    }
    Ok(())
}

/// Criteria as they are read: an id, or a business identifier.
enum Asked {
    Id(String),
    Identifier { system: Option<String>, value: String },
}

impl Asked {
    fn read(kind: &str, criteria: &str, expression: &str) -> Result<Asked> {
        let refused = |text: &str| Error::rule(IssueCode::NotSupported, expression, text.to_owned());
        let criterion = criteria.strip_prefix('?').unwrap_or(criteria);
        let (param, value) = criterion.split_once('=').unwrap_or((criterion, ""));
        let known = param == "_id" || param == "identifier" && search::param(kind, "identifier").is_some();
        if !known || value.is_empty() || value.contains('&') {
            return Err(refused(
                "The criteria are identifier=system|value, the business identifier of the one resource that is meant.",
            ));
        }
        let value = percent_decoded(value);
        if value.contains(char::is_control) {
            return Err(refused("The criteria hold a control character, which no identifier has. Take it out."));
        }
        if param == "_id" {
            return Ok(Asked::Id(value));
        }
        Ok(match value.split_once('|') {
            Some((system, value)) => Asked::Identifier { system: Some(system.to_owned()), value: value.to_owned() },
            None => Asked::Identifier { system: None, value },
        })
    }

    /// What is held: no unique key keeps two from both finding nothing. The value alone, since both may give the system,
    /// or only one.
    fn name(&self, kind: &str) -> String {
        match self {
            Asked::Id(value) | Asked::Identifier { value, .. } => format!("{kind} {value}"),
        }
    }

    fn criterion(self) -> Criterion {
        match self {
            Asked::Id(id) => Criterion::Ids(vec![id]),
            Asked::Identifier { system, value } => Criterion::identifier(value, system),
        }
    }
}

/// Of what matches, what the caller would make again: its organisation's own, else what is Live Well's. One person is
/// several Patients here, ours and one of each sender; another sender's is never what a caller means.
fn nearest(actor: &Actor, matches: Vec<Stored>) -> Vec<Stored> {
    let (own, rest): (Vec<_>, Vec<_>) = matches.into_iter().partition(|m| m.sender == actor.organization);
    if !own.is_empty() {
        return own;
    }
    rest.into_iter().filter(|m| m.sender.is_empty() && (actor.ours || m.person.is_empty())).collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
