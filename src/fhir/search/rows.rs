//! The search index of a resource: what its search parameters find in it.

use std::collections::HashSet;

use serde_json::Value;

use super::parameters::{Compares, Param, params};
use super::path::Node;
use super::queue;
use super::text::{beginning, bounded, folded};
use crate::fhir::when::{ALWAYS_AFTER, ALWAYS_BEFORE, Interval};
use crate::fhir::{Resource, path};

/// A number in the index. Two are the same when their bits are.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// What a number, a quantity or a time of a composite covers; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    pub low: Real,
    pub high: Real,
}

/// One row of the index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IndexRow {
    /// A token, reference or URI; of a string the folded text, with the text itself as its `system`.
    Word { param: String, value: String, system: String },
    /// A date or period, in microseconds since 1970 UTC: from `low` to before `high`.
    Time { param: String, low: i64, high: i64 },
    /// A number or quantity.
    Number { param: String, range: Range, system: String, code: String, unit: String },
    /// Two values of a composite, from one element: a token, and a word or a range.
    Pair { param: String, value: String, system: String, other: String, other_system: String, range: Range },
}

/// The ends of every range.
pub(super) const LOWEST: Real = Real(f64::MIN);
/// The ends of every range.
pub(super) const HIGHEST: Real = Real(f64::MAX);

/// The index rows of a resource, each once. Where it is known whom it is about, references to a Patient that say so
/// need none.
pub fn rows(resource: &Resource, about_person: bool) -> Vec<IndexRow> {
    found(resource, about_person, |param| !beside_the_index(resource.kind(), param))
}

/// All that its search parameters find in a resource, also what the store has in columns.
pub fn all_rows(resource: &Resource) -> Vec<IndexRow> {
    found(resource, false, |_| true)
}

fn found(resource: &Resource, about_person: bool, wanted: impl Fn(&Param) -> bool) -> Vec<IndexRow> {
    let mut rows = Vec::new();
    let whole = resource.value();
    for param in params(resource.kind()).filter(|p| p.stands_alone() && wanted(p)) {
        if param.compares == Compares::Composite {
            pairs(param, whole, &mut rows);
            continue;
        }
        for node in param.paths.iter().flat_map(|path| path.values(whole, whole)) {
            if about_person && param.person && is_person(node.value) {
                continue;
            }
            index(param.compares, param.code, node, &mut rows);
        }
    }
    let mut seen = HashSet::with_capacity(rows.len());
    let first: Vec<bool> = rows.iter().map(|row| seen.insert(row)).collect();
    let mut first = first.into_iter();
    rows.retain(|_| first.next().unwrap_or(true));
    rows
}

/// What stands in columns: of the resource, or of the Task queue.
fn beside_the_index(kind: &str, param: &Param) -> bool {
    matches!(param.code, "_id" | "_lastUpdated") || (kind == "Task" && queue::is_column(param.code))
}

fn is_person(reference: &Value) -> bool {
    match path::text(reference, "reference") {
        Some(text) => text.starts_with('#') || text.contains("Patient/"),
        None => path::text(reference, "identifier.system") == Some(crate::fhir::systems::NHS_NUMBER),
    }
}

fn index(compares: Compares, param: &str, node: Node<'_>, rows: &mut Vec<IndexRow>) {
    match compares {
        Compares::Token => tokens(param, node, rows),
        Compares::Reference => references(param, node.value, rows),
        Compares::Uri => rows.extend(node.value.as_str().map(|uri| word(param, uri, ""))),
        Compares::String => strings(node, &mut |text| rows.push(string(param, text))),
        Compares::Date => rows.extend(interval(node).map(|Interval { low, high }| IndexRow::Time {
            param: param.to_owned(),
            low,
            high,
        })),
        Compares::Number | Compares::Quantity => rows.extend(number(param, node)),
        Compares::Composite => {}
    }
}

fn word(param: &str, value: &str, system: &str) -> IndexRow {
    IndexRow::Word { param: param.to_owned(), value: bounded(value), system: bounded(system) }
}

/// A string, and the folded text by which it is found.
fn string(param: &str, text: &str) -> IndexRow {
    let value = beginning(&folded(text)).to_owned();
    IndexRow::Word { param: param.to_owned(), value, system: bounded(text) }
}

fn text_row(param: &str, text: Option<&str>, rows: &mut Vec<IndexRow>) {
    rows.extend(text.map(|text| string(&format!("{param}:text"), text)));
}

fn tokens(param: &str, node: Node<'_>, rows: &mut Vec<IndexRow>) {
    let said = |name: &str| node.value.get(name).and_then(Value::as_str);
    let system = said("system").unwrap_or_default();
    match (node.kind, node.value) {
        (_, Value::Bool(flag)) => rows.push(word(param, if *flag { "true" } else { "false" }, "")),
        (_, Value::String(code)) => rows.push(word(param, code, "")),
        ("CodeableConcept", _) => {
            for value in path::all(node.value, "coding") {
                tokens(param, Node { value, kind: "Coding" }, rows);
            }
            text_row(param, said("text"), rows);
        }
        ("Identifier", _) => {
            if let Some(value) = said("value") {
                rows.push(word(param, value, system));
                for coding in path::all(node.value, "type.coding") {
                    if let Some(code) = path::text(coding, "code") {
                        let of = path::text(coding, "system").unwrap_or_default();
                        rows.push(word(&format!("{param}:of-type"), &format!("{code}|{value}"), of));
                    }
                }
            }
            text_row(param, path::text(node.value, "type.text"), rows);
        }
        ("ContactPoint", _) => rows.extend(said("value").map(|value| word(param, value, ""))),
        _ => {
            rows.extend(said("code").map(|code| word(param, code, system)));
            text_row(param, said("display"), rows);
        }
    }
}

fn references(param: &str, value: &Value, rows: &mut Vec<IndexRow>) {
    if let Some(canonical) = value.as_str() {
        return rows.push(word(param, canonical, ""));
    }
    if let Some(reference) = path::text(value, "reference").filter(|reference| !reference.starts_with('#')) {
        rows.push(word(param, unversioned(reference), ""));
    }
    if let Some(identifier) = value.get("identifier") {
        let said = |name: &str| path::text(identifier, name).unwrap_or_default();
        rows.push(word(&format!("{param}:identifier"), said("value"), said("system")));
    }
}

fn unversioned(reference: &str) -> &str {
    reference.split("/_history/").next().unwrap_or(reference)
}

/// The strings by which a HumanName, an Address or a plain string is found.
fn strings(node: Node<'_>, found: &mut dyn FnMut(&str)) {
    const PARTS: [&str; 11] =
        ["text", "family", "given", "prefix", "suffix", "line", "city", "district", "state", "postalCode", "country"];
    match node.value {
        Value::String(text) => found(text),
        Value::Object(element) => {
            for part in PARTS.iter().filter_map(|part| element.get(*part)) {
                match part {
                    Value::String(text) => found(text),
                    Value::Array(several) => several.iter().filter_map(Value::as_str).for_each(&mut *found),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// What a date, Period or Timing covers; of a Timing all from its first to its last moment.
fn interval(node: Node<'_>) -> Option<Interval> {
    if node.kind != "Timing" {
        return Interval::of_element(node.value);
    }
    let bounds = node.value.get("repeat").and_then(|r| r.get("boundsPeriod")).and_then(Interval::of_element);
    let events = path::all(node.value, "event").into_iter().filter_map(Interval::of_element);
    events.chain(bounds).reduce(|a, b| Interval { low: a.low.min(b.low), high: a.high.max(b.high) })
}

fn number(param: &str, node: Node<'_>) -> Option<IndexRow> {
    let said = |value: &Value, name: &str| path::text(value, name).unwrap_or_default().to_owned();
    let (range, unit_of) = match node.kind {
        "Range" => {
            let end = |name: &str| node.value.get(name).and_then(|q| q.get("value")).and_then(Value::as_f64).map(Real);
            let (low, high) = (end("low"), end("high"));
            let range = (low.is_some() || high.is_some())
                .then(|| Range { low: low.unwrap_or(LOWEST), high: high.unwrap_or(HIGHEST) })?;
            (range, node.value.get("low").or_else(|| node.value.get("high"))?)
        }
        _ => {
            let value = Real(node.value.get("value").unwrap_or(node.value).as_f64()?);
            let range = match path::text(node.value, "comparator") {
                Some("<" | "<=") => Range { low: LOWEST, high: value },
                Some(">" | ">=") => Range { low: value, high: HIGHEST },
                _ => Range { low: value, high: value },
            };
            (range, node.value)
        }
    };
    let (system, code) = match path::text(unit_of, "currency") {
        Some(currency) => ("urn:iso:std:iso:4217".to_owned(), currency.to_owned()),
        None => (said(unit_of, "system"), said(unit_of, "code")),
    };
    Some(IndexRow::Number {
        param: param.to_owned(),
        range,
        system: bounded(&system),
        code: bounded(&code),
        unit: bounded(&said(unit_of, "unit")),
    })
}

/// The rows of a composite: each value of one side with each of the other, from the same element.
fn pairs(param: &Param, whole: &Value, rows: &mut Vec<IndexRow>) {
    let [first, second] = param.components.as_slice() else { return };
    for (at, lead) in param.paths.iter().enumerate() {
        let (Some(first_paths), Some(second_paths)) = (first.paths.get(at), second.paths.get(at)) else { continue };
        for element in lead.values(whole, whole) {
            let values = |paths: &[super::path::Path], compares: Compares| {
                let mut found = Vec::new();
                for node in paths.iter().flat_map(|path| path.values(element.value, whole)) {
                    index(compares, param.code, node, &mut found);
                }
                found
            };
            let others = values(second_paths, second.compares);
            for token in values(first_paths, first.compares) {
                rows.extend(others.iter().filter_map(|other| pair(&token, other)));
            }
        }
    }
}

fn pair(token: &IndexRow, other: &IndexRow) -> Option<IndexRow> {
    let IndexRow::Word { param, value, system } = token else { return None };
    if param.contains(':') {
        return None;
    }
    let (other, other_system, range) = match other {
        IndexRow::Word { param, value, system } if !param.contains(':') => (value.clone(), system.clone(), NO_RANGE),
        IndexRow::Number { range, system, code, .. } => (code.clone(), system.clone(), *range),
        IndexRow::Time { low, high, .. } => {
            (String::new(), String::new(), Range { low: moment(*low), high: moment(*high) })
        }
        _ => return None,
    };
    let (param, value, system) = (param.clone(), value.clone(), system.clone());
    Some(IndexRow::Pair { param, value, system, other, other_system, range })
}

const NO_RANGE: Range = Range { low: Real(0.0), high: Real(0.0) };

/// A moment as a number: exact in microseconds for 285 years around 1970.
#[expect(clippy::cast_precision_loss, reason = "what is lost is less than a microsecond in two centuries")]
pub(super) fn moment(at: i64) -> Real {
    match at {
        ALWAYS_BEFORE => LOWEST,
        ALWAYS_AFTER => HIGHEST,
        at => Real(at as f64),
    }
}
