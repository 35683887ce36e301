//! What shapes a search's answer: its order, and what comes along with the matches.

use std::collections::BTreeSet;

use serde_json::Value;

use super::criterion::{Column, Link, Table};
use super::grammar::{Refused, known, link, table};
use super::parameters::{Compares, Param, param, params};
use super::queue;
use super::rows::{IndexRow, rows};
use crate::fhir::check::is_resource_type;
use crate::fhir::{Resource, path};

/// Keys a search is sorted by at most.
const MOST_KEYS: usize = 3;

/// One key of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    pub by: Sorted,
    pub descending: bool,
}

/// What a resource is sorted by. Of several values the first in the order counts; without one it comes last.
#[derive(Clone, Debug, PartialEq)]
pub enum Sorted {
    Id,
    LastUpdated,
    Value { params: Vec<String>, table: Table },
    Queue(Column),
}

/// The keys of `_sort=-date,status`; its words are parameters of simple type.
///
/// # Errors
/// The word that is none of them.
pub fn sort(kind: &str, text: &str) -> Result<Vec<SortKey>, String> {
    let mut keys = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (code, descending) = word.strip_prefix('-').map_or((word, false), |code| (code, true));
        let by = sorted_by(kind, code).ok_or_else(|| code.to_owned())?;
        keys.push(SortKey { by, descending });
    }
    if keys.is_empty() || keys.len() > MOST_KEYS {
        return Err(text.to_owned());
    }
    Ok(keys)
}

fn sorted_by(kind: &str, code: &str) -> Option<Sorted> {
    match code {
        "_id" => return Some(Sorted::Id),
        "_lastUpdated" => return Some(Sorted::LastUpdated),
        "modified" if kind == "Task" => return Some(Sorted::LastUpdated),
        _ => {}
    }
    if kind == "Task"
        && let Some(column) = queue::column(code)
    {
        return Some(Sorted::Queue(column));
    }
    let found = known(kind, code).ok().filter(|p| p.compares != Compares::Composite && !p.person)?;
    Some(Sorted::Value { params: link(found, None).params, table: table(found) })
}

/// What a resource is sorted by: the value that comes first in the order; `None` where there is none.
pub fn sort_value(resource: &Resource, key: &SortKey) -> Option<IndexRow> {
    let Sorted::Value { params, .. } = &key.by else { return None };
    let found = rows(resource, false).into_iter().filter(|row| params.iter().any(|param| param == row.param()));
    let order = |a: &IndexRow, b: &IndexRow| match (a, b) {
        (IndexRow::Word { value: a, .. }, IndexRow::Word { value: b, .. }) => a.cmp(b),
        (IndexRow::Time { low: a, .. }, IndexRow::Time { low: b, .. }) => a.cmp(b),
        (IndexRow::Number { range: a, .. }, IndexRow::Number { range: b, .. }) => a.low.0.total_cmp(&b.low.0),
        _ => std::cmp::Ordering::Equal,
    };
    if key.descending { found.max_by(order) } else { found.min_by(order) }
}

/// `_include` or `_revinclude`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The type whose reference is followed; `*` for every type.
    pub kind: String,
    /// The parameter; `*` for every reference.
    pub code: String,
    /// Only to this type.
    pub target: Option<String>,
    /// Also from what was included.
    pub iterate: bool,
    /// Against the reference: what refers to a match.
    pub reverse: bool,
}

/// Reads the value of `_include` or `_revinclude`: `Type:parameter`, `Type:parameter:Target`, `Type:*` or `*`.
///
/// # Errors
/// [`Refused`], when there is no such reference.
pub fn include(value: &str, iterate: bool, reverse: bool) -> Result<Include, Refused> {
    let bad = |text: &str| Err(Refused::Because(text.to_owned()));
    let mut words = value.split(':');
    let (kind, code, target) = (words.next().unwrap_or_default(), words.next(), words.next());
    let (kind, code) = match (kind, code) {
        ("*", None) => ("*", "*"),
        (kind, Some(code)) if is_resource_type(kind) => (kind, code),
        _ => return bad("Write it as Type:parameter, Type:parameter:Target, Type:* or *."),
    };
    if words.next().is_some() || target.is_some_and(|target| !is_resource_type(target)) {
        return bad("After Type:parameter comes at most the type it leads to.");
    }
    if code != "*" && !follows(kind, code) {
        return bad("That type has no such reference to search by.");
    }
    Ok(Include { kind: kind.to_owned(), code: code.to_owned(), target: target.map(str::to_owned), iterate, reverse })
}

/// Whether a parameter is a reference to a resource, which an include follows.
fn follows(kind: &str, code: &str) -> bool {
    let of_queue = kind == "Task" && queue::column(code).and_then(queue::target).is_some();
    of_queue || param(kind, code).is_some_and(followed)
}

fn followed(param: &Param) -> bool {
    param.compares == Compares::Reference && !param.is_canonical()
}

/// The codes by which `Type:*` follows references.
pub fn references(kind: &str) -> Vec<&'static str> {
    let own = if kind == "Task" { vec!["location"] } else { Vec::new() };
    params(kind).filter(|p| followed(p)).map(|p| p.code).chain(own).collect()
}

/// The types that a reference is made to lead to; those that lead to any type say none.
pub fn include_targets(kind: &str, code: &str) -> Vec<&'static str> {
    if kind == "Task"
        && let Some(target) = queue::column(code).and_then(queue::target)
    {
        return vec![target];
    }
    param(kind, code).map(|p| p.only.map_or_else(|| p.targets.clone(), |only| vec![only])).unwrap_or_default()
}

impl Include {
    fn codes(&self, kind: &str) -> Vec<String> {
        match self.code.as_str() {
            "*" => references(kind).into_iter().map(str::to_owned).collect(),
            code => vec![code.to_owned()],
        }
    }

    fn leads_to(&self, kind: &str) -> bool {
        self.target.as_deref().is_none_or(|target| target == kind)
    }

    /// The links by which resources of this include's type refer to others, for the way back.
    pub fn links(&self) -> Vec<Link> {
        let link_of = |code: &String| {
            let column = (self.kind == "Task").then(|| queue::column(code)).flatten();
            match column.filter(|column| queue::target(*column).is_some()) {
                Some(column) => Some(Link { column: Some(column), ..Link::default() }),
                None => param(&self.kind, code).map(|param| link(param, None)),
            }
        };
        self.codes(&self.kind).iter().filter_map(link_of).collect()
    }
}

/// What a resource refers to by an include: (type, id) of each. `person` is our Patient it is about, which counts where
/// it names them in another way.
pub fn included(resource: &Resource, include: &Include, person: &str, base: &str) -> BTreeSet<(String, String)> {
    let kind = resource.kind();
    let mut found = BTreeSet::new();
    if include.kind != "*" && include.kind != kind {
        return found;
    }
    for code in include.codes(kind) {
        let Some(param) = param(kind, &code) else {
            // The location of a Task is ours and not R4's.
            found.extend(local_of(resource.value().get("location"), base));
            continue;
        };
        for value in param.values(resource) {
            let said = local_of(Some(value), base);
            let other = path::text(value, "reference").is_some_and(|text| text.contains(':') && said.is_none());
            if said.is_none() && param.person && !person.is_empty() && !other {
                found.insert(("Patient".to_owned(), person.to_owned()));
            }
            found.extend(said);
        }
    }
    found.retain(|(kind, _)| include.leads_to(kind));
    found
}

fn local_of(reference: Option<&Value>, base: &str) -> Option<(String, String)> {
    let text = path::text(reference?, "reference")?;
    super::values::local(base, text).map(|(kind, id)| (kind.to_owned(), id.to_owned()))
}
