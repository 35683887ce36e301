//! One concept map: what a code of one system is in another.

use serde_json::Value;

use super::versioned;
use crate::fhir::path::text;

/// A ConceptMap, flat.
pub(super) struct ConceptMap {
    pub(super) url: String,
    source: Option<String>,
    target: Option<String>,
    rows: Vec<Row>,
}

struct Row {
    system: String,
    code: String,
    target_system: String,
    target_code: String,
    target_display: Option<String>,
    display: Option<String>,
    equivalence: String,
}

/// What is to be translated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'w> {
    pub code: &'w str,
    pub system: Option<&'w str>,
    /// The canonical of the map; any map where it is absent.
    pub map: Option<&'w str>,
    /// The value set the code is from, as the map names it.
    pub source: Option<&'w str>,
    /// The value set it shall be in, as the map names it.
    pub target: Option<&'w str>,
    /// The system it shall be of.
    pub target_system: Option<&'w str>,
    /// From the map's targets to its sources.
    pub reverse: bool,
}

/// One thing that a code translates to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Translation {
    pub system: String,
    pub code: String,
    pub display: Option<String>,
    /// As the map says it (`http://hl7.org/fhir/concept-map-equivalence`), from the map's source to its target.
    pub equivalence: String,
    /// The canonical of the map that says so.
    pub map: String,
}

impl Translation {
    /// Whether it is a translation at all: `unmatched` and `disjoint` say that there is none.
    pub fn matches(&self) -> bool {
        !matches!(self.equivalence.as_str(), "unmatched" | "disjoint")
    }
}

impl ConceptMap {
    pub(super) fn read(url: &str, map: &Value) -> ConceptMap {
        let end = |name: &str| {
            let said = text(map, &format!("{name}Uri")).or_else(|| text(map, &format!("{name}Canonical")));
            said.map(|canonical| versioned(canonical).0.to_owned())
        };
        let rows = each(map, "group").flat_map(rows).collect();
        ConceptMap { url: url.to_owned(), source: end("source"), target: end("target"), rows }
    }

    /// Whether this map may be asked: it is the one that is named, or is between what is named.
    pub(super) fn is_for(&self, wanted: &Wanted<'_>) -> bool {
        let named = |said: Option<&str>, own: Option<&str>| said.is_none_or(|said| own == Some(versioned(said).0));
        let (from, to) = (self.source.as_deref(), self.target.as_deref());
        let (from, to) = if wanted.reverse { (to, from) } else { (from, to) };
        named(wanted.map, Some(&self.url)) && named(wanted.source, from) && named(wanted.target, to)
    }

    pub(super) fn translations(&self, wanted: &Wanted<'_>) -> impl Iterator<Item = Translation> {
        self.rows.iter().filter_map(move |row| {
            let here = (row.system.as_str(), row.code.as_str(), &row.display);
            let there = (row.target_system.as_str(), row.target_code.as_str(), &row.target_display);
            let (from, to) = if wanted.reverse { (there, here) } else { (here, there) };
            let meant = from.1 == wanted.code
                && wanted.system.is_none_or(|system| system == from.0)
                && wanted.target_system.is_none_or(|system| system == to.0);
            meant.then(|| Translation {
                system: to.0.to_owned(),
                code: to.1.to_owned(),
                display: to.2.clone(),
                equivalence: row.equivalence.clone(),
                map: self.url.clone(),
            })
        })
    }
}

fn each<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn rows(group: &Value) -> Vec<Row> {
    let owned = |of: &Value, name: &str| text(of, name).map(str::to_owned);
    let mut rows = Vec::new();
    for element in each(group, "element") {
        for target in each(element, "target") {
            let row = || {
                Some(Row {
                    system: owned(group, "source")?,
                    code: owned(element, "code")?,
                    target_system: owned(group, "target")?,
                    target_code: owned(target, "code")?,
                    target_display: owned(target, "display"),
                    display: owned(element, "display"),
                    equivalence: owned(target, "equivalence")?,
                })
            };
            rows.extend(row());
        }
    }
    rows
}
