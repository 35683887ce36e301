//! What a request depends on: the version it builds on, and criteria that stand in place of an id.

use std::collections::BTreeMap;

use crate::fhir::etag::Tags;
use crate::fhir::scope::Interaction;
use crate::fhir::search::{self, Context, Criterion, IndexRow, Refused, Word};
use crate::fhir::{IssueCode, Resource};
use crate::store::{At, Hold, Stored};

use super::definitions::terminology;
use super::{Error, Result, Unit};

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

/// Criteria as they are read: a search whose one match is meant.
pub(super) struct Criteria {
    pub kind: String,
    asked: Vec<Criterion>,
    /// Its parameters without their values, which may tell who a person is.
    names: String,
}

impl Criteria {
    /// Reads the query of a conditional request. `expression` is where it stands.
    ///
    /// Nothing is passed over, whatever handling is preferred: with a condition less, something else would be meant.
    pub(super) async fn read(unit: &mut Unit<'_>, kind: &str, text: &str, expression: &str) -> Result<Criteria> {
        let refused = |code: IssueCode, text: String| Error::rule(code, expression, text);
        let pairs = pairs(text).map_err(|why| refused(IssueCode::Invalid, why.to_owned()))?;
        if let Some(why) = search::too_much(&pairs) {
            return Err(refused(IssueCode::TooCostly, why));
        }
        let base = unit.house.fhir_base();
        let terminology = terminology(&mut unit.tx, unit.house, unit.actor, search::value_sets(&pairs)).await?;
        let listed = |canonical: &str| terminology.codes(canonical);
        let context = Context { base: &base, now: At::from(unit.now).0, value_set: &listed, queue: true };
        let mut asked = Vec::with_capacity(pairs.len());
        for (name, value) in &pairs {
            let plain = plain(name);
            asked.push(search::read(&context, kind, name, value).map_err(|why| match why {
                Refused::Unknown => refused(
                    IssueCode::NotSupported,
                    format!(
                        "{kind} is not searched by {plain} here, so it cannot be a condition. The criteria are search \
                         parameters of {kind}, such as identifier=system|value; /fhir/metadata lists them."
                    ),
                ),
                Refused::Because(why) => refused(IssueCode::Invalid, format!("{plain}: {why}")),
            })?);
        }
        may_ask(unit, search::types_asked(&asked))?;
        let names = pairs.iter().map(|(name, _)| plain(name)).collect::<Vec<_>>().join(", ");
        Ok(Criteria { kind: kind.to_owned(), asked, names })
    }

    /// Whether a resource that is not in the database is meant; `None` where that cannot be told without it. `rows` are what
    /// it is searched by.
    pub(super) fn mean(&self, resource: &Resource, rows: &[IndexRow]) -> Option<bool> {
        match resource.kind() == self.kind {
            true => search::matches(resource, rows, None, &self.asked),
            false => Some(false),
        }
    }

    /// The ids, or the values of business identifiers, of which each match has one; `None` where it is told otherwise.
    fn by_name(&self) -> Option<Vec<&str>> {
        self.asked.iter().find_map(names)
    }

    /// That several match, without what they were found by.
    pub(super) fn several(&self) -> Error {
        Error::Several(format!(
            "Several {} resources match the criteria of this request ({}). Use an identifier that only one has.",
            self.kind, self.names
        ))
    }
}

/// Refuses to look at other types than the token may search.
fn may_ask<'k>(unit: &Unit<'_>, kinds: impl IntoIterator<Item = &'k str>) -> Result<()> {
    match kinds.into_iter().find(|kind| !unit.actor.scopes.allows(kind, Interaction::Search)) {
        Some(kind) => Err(Error::Forbidden(format!(
            "These criteria search {kind}, which needs the scope system/{kind}.s. The access token does not carry it."
        ))),
        None => Ok(()),
    }
}

/// The resources that criteria mean, at most two: none, the one, or too many. Those named by `without` are not asked for.
///
/// What the caller may not see is not there, and of several what the caller would make again is meant: its organisation's
/// own, else what is Live Well's. One person is several Patients here, ours and one of each sender; another sender's is
/// never what a caller means, so the answer is the same whether or not it matches.
pub(super) async fn matching(unit: &mut Unit<'_>, criteria: &Criteria, without: &[&str]) -> Result<Vec<Stored>> {
    let Criteria { kind, asked, .. } = criteria;
    // What the index is behind with may match all the same. Business identifiers every release has indexed.
    if !asked.iter().all(|criterion| names(criterion).is_some()) && unit.tx.index_is_behind(kind).await? {
        return Err(Error::NotYet(format!(
            "The search index of {kind} is being brought up to date after an upgrade, and these criteria cannot be \
             answered before. Nothing was kept. identifier and _id can be asked for already; or send it again after the \
             time in Retry-After: /readyz says when it is done."
        )));
    }
    let whose = (unit.actor.organization.as_str(), unit.actor.ours);
    let mut found = unit.tx.nearest(kind, asked, &unit.actor.sight, whose, without).await?;
    if found.first().is_some_and(|first| first.sender == whose.0) {
        found.retain(|one| one.sender == whose.0);
    }
    Ok(found)
}

/// The ids, or the values of business identifiers, that a criterion names.
fn names(criterion: &Criterion) -> Option<Vec<&str>> {
    match criterion {
        Criterion::Ids(ids) => Some(ids.iter().map(String::as_str).collect()),
        Criterion::Words { params, any, not: false } if *params == ["identifier"] => any
            .iter()
            .map(|word| match word {
                Word::Is { value, .. } => Some(value.as_str()),
                Word::Of(_) | Word::Begins(_) | Word::Contains(_) => None,
            })
            .collect(),
        _ => None,
    }
}

/// Holds what the criteria of one unit mean, each with what it would make, so that no two units both find nothing and
/// both make it.
///
/// Criteria that name business identifiers hold their values, and those of what would be made: the value alone, since
/// both may give the system, or only one. All others mean anything of the type, and hold it from every condition of the
/// organisation on it; what one organisation means another never does. In the order of their names, so that no two units
/// wait for each other.
pub(super) async fn hold(unit: &mut Unit<'_>, all: &[(&Criteria, Option<&Resource>)]) -> Result<()> {
    let mut names: BTreeMap<String, Hold> = BTreeMap::new();
    for (criteria, makes) in all {
        let of_type = format!("{} {}", unit.actor.organization, criteria.kind);
        let Some(values) = criteria.by_name() else {
            if makes.is_some() {
                // What is there is told by the answer, also to who only creates.
                may_ask(unit, [criteria.kind.as_str()])?;
            }
            names.insert(of_type, Hold::Alone);
            continue;
        };
        for value in &values {
            // The release before this one holds that, and may be running beside it.
            names.insert(format!("{} {value}", criteria.kind), Hold::Alone);
        }
        let own = makes.map(|resource| resource.all("identifier.value")).unwrap_or_default();
        for value in values.into_iter().chain(own.into_iter().filter_map(|value| value.as_str())) {
            names.insert(format!("{of_type} {value}"), Hold::Alone);
        }
        names.entry(of_type).or_insert(Hold::WithOthers);
    }
    let names: Vec<(&str, Hold)> = names.iter().map(|(name, hold)| (name.as_str(), *hold)).collect();
    Ok(unit.tx.hold_all(&names).await?)
}

/// The parameters of a query with their values, decoded.
fn pairs(text: &str) -> std::result::Result<Vec<(String, String)>, &'static str> {
    let query = text.strip_prefix('?').unwrap_or(text);
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = percent_decoded(name).zip(percent_decoded(value));
        let (name, value) = decoded.ok_or("The criteria are not readable: percent-encode them.")?;
        if value.is_empty() {
            return Err("A parameter of the criteria has no value. Give it one, or leave it out.");
        }
        if value.contains(char::is_control) {
            return Err("The criteria hold a control character, which nothing here has. Take it out.");
        }
        pairs.push((name, value));
    }
    match pairs.is_empty() {
        true => Err("The criteria are empty. Send search parameters, such as identifier=system|value."),
        false => Ok(pairs),
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-:.".contains(*c)).take(60).collect()
}

/// What a percent-encoded text means; `None` where it is none. A `+` is one: criteria are no form.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(text in "\\PC{0,200}") {
            let read = pairs(&text);
            prop_assert!(read.iter().flatten().all(|(_, value)| !value.is_empty() && !value.contains(char::is_control)));
        }

        #[test]
        fn an_encoded_value_is_read_as_it_was(value in "[^\\x00-\\x1f\\x7f-\\x9f]{1,40}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(pairs(&format!("identifier={encoded}")), Ok(vec![("identifier".to_owned(), value)]));
        }
    }

    #[test]
    fn criteria_are_read_as_they_were_meant_or_not_at_all() {
        let owned = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(pairs("?identifier=http://x|1+2"), owned(&[("identifier", "http://x|1+2")]));
        assert_eq!(pairs("family=M%C3%BCller&birthdate=1957"), owned(&[("family", "Müller"), ("birthdate", "1957")]));
        assert_eq!(pairs("name=a%26b=c"), owned(&[("name", "a&b=c")]));
        for unreadable in ["", "?", "&", "identifier", "identifier=", "a=%zz", "a=%4", "a=%ff", "a=%00", "a=b&c="] {
            assert!(pairs(unreadable).is_err(), "{unreadable}");
        }
    }
}
