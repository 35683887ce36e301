//! The search index of a resource: what its search parameters find in it.

use std::sync::LazyLock;

use serde_json::Value;

use super::when::Interval;
use super::{Resource, path};

/// What a search parameter compares (`http://hl7.org/fhir/search-param-type`, as far as it is indexed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    Token,
    Reference,
    Date,
    /// A string parameter: compared from its beginning, without case.
    Name,
    Uri,
}

/// A search parameter that is indexed.
#[derive(Debug)]
pub struct Param {
    /// The resource type, `*` for every type.
    pub kind: &'static str,
    pub code: &'static str,
    pub compares: ParamType,
    paths: Vec<&'static str>,
}

/// One row of the index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IndexRow {
    /// A token, reference, name or URI.
    Word { param: String, value: String, system: String },
    /// A date or period, in microseconds since 1970 UTC: from `low` to before `high`.
    Time { param: String, low: i64, high: i64 },
}

static PARAMS: LazyLock<Vec<Param>> = LazyLock::new(|| {
    include_str!("../../fhir-profiles/search-parameters.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("a line of the embedded table has four words");
            let (kind, code, compares) = (word(), word(), word());
            let compares = match compares {
                "token" => ParamType::Token,
                "reference" => ParamType::Reference,
                "date" => ParamType::Date,
                "name" => ParamType::Name,
                _ => ParamType::Uri,
            };
            Param { kind, code, compares, paths: word().split('|').collect() }
        })
        .collect()
});

/// The indexed search parameters of a resource type.
pub fn params(kind: &str) -> impl Iterator<Item = &'static Param> {
    PARAMS.iter().filter(move |p| p.kind == kind || p.kind == "*")
}

/// The search parameter of this code on this type.
pub fn param(kind: &str, code: &str) -> Option<&'static Param> {
    params(kind).find(|p| p.code == code)
}

/// The index rows of a resource, each once.
pub fn rows(resource: &Resource) -> Vec<IndexRow> {
    let mut rows = Vec::new();
    for param in params(resource.kind()) {
        for at in &param.paths {
            for value in path::all(resource.value(), at) {
                param.index(value, &mut rows);
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    rows.retain(|row| seen.insert(row.clone()));
    rows
}

impl Param {
    fn index(&self, value: &Value, rows: &mut Vec<IndexRow>) {
        match self.compares {
            ParamType::Token => self.index_token(value, rows),
            ParamType::Reference => self.index_reference(value, rows),
            ParamType::Uri => self.word(value.as_str(), "", rows),
            ParamType::Name => names(value, &mut |name| self.word(Some(&name.to_lowercase()), "", rows)),
            ParamType::Date => {
                if let Some(Interval { low, high }) = Interval::of_element(value) {
                    rows.push(IndexRow::Time { param: self.code.to_owned(), low, high });
                }
            }
        }
    }

    fn index_token(&self, value: &Value, rows: &mut Vec<IndexRow>) {
        match value {
            Value::String(code) => self.word(Some(code), "", rows),
            Value::Bool(flag) => self.word(Some(if *flag { "true" } else { "false" }), "", rows),
            Value::Object(element) => {
                let system = element.get("system").and_then(Value::as_str).unwrap_or_default();
                self.word(element.get("code").or(element.get("value")).and_then(Value::as_str), system, rows);
                for coding in path::all(value, "coding") {
                    self.index_token(coding, rows);
                }
            }
            _ => {}
        }
    }

    fn index_reference(&self, value: &Value, rows: &mut Vec<IndexRow>) {
        if value.is_string() {
            return self.word(value.as_str(), "", rows);
        }
        self.word(path::text(value, "reference").map(unversioned), "", rows);
        if let Some(identifier) = value.get("identifier") {
            rows.push(IndexRow::Word {
                param: format!("{}:identifier", self.code),
                value: path::text(identifier, "value").unwrap_or_default().to_owned(),
                system: path::text(identifier, "system").unwrap_or_default().to_owned(),
            });
        }
    }

    fn word(&self, value: Option<&str>, system: &str, rows: &mut Vec<IndexRow>) {
        if let Some(value) = value {
            rows.push(IndexRow::Word {
                param: self.code.to_owned(),
                value: value.to_owned(),
                system: system.to_owned(),
            });
        }
    }
}

fn unversioned(reference: &str) -> &str {
    reference.split("/_history/").next().unwrap_or(reference)
}

/// The strings by which a HumanName, an Address or a plain string is found.
fn names(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::String(name) => found(name),
        Value::Object(element) => {
            for part in ["text", "family", "given", "prefix"] {
                match element.get(part) {
                    Some(Value::String(name)) => found(name),
                    Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).for_each(&mut *found),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
