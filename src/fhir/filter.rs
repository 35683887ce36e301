//! A search held against one resource in memory: whether a change is what a subscriber asked for.
//!
//! Parameters are R4's own, by their expressions. Those that compare a token, a reference or a URI at a plain path are
//! read; any other is refused when it is read, never passed over: a filter that is passed over widens what is told.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::{check, path};

/// A search parameter that can be held against a resource: what it compares, and the elements it looks at.
#[derive(Clone, Debug)]
struct Param {
    compares: Compares,
    paths: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compares {
    Token,
    Reference,
    Uri,
}

/// R4's search parameters with a plain expression, by type and code.
static PARAMS: LazyLock<HashMap<(&'static str, &'static str), Param>> = LazyLock::new(|| {
    let mut params = HashMap::new();
    let mut kind = "";
    for line in include_str!("../../fhir-profiles/r4/search-parameters.txt").lines() {
        match line.strip_prefix(' ') {
            None if line.starts_with(['#', '@']) => kind = "",
            None => kind = line,
            Some(rest) if !kind.is_empty() => {
                let fields: Vec<&str> = rest.split('\t').collect();
                if let [code, compares, _, expression] = fields[..]
                    && let Some(param) = param(kind, compares, expression)
                {
                    params.insert((kind, code), param);
                }
            }
            Some(_) => {}
        }
    }
    params
});

fn param(kind: &str, compares: &str, expression: &'static str) -> Option<Param> {
    let compares = match compares {
        "token" => Compares::Token,
        "reference" => Compares::Reference,
        "uri" => Compares::Uri,
        _ => return None,
    };
    let paths = expression.split(" | ").map(|one| {
        // What a reference points at shows in the reference itself.
        let one = one.split(".where(resolve() is ").next().unwrap_or_default();
        let dotted = one.strip_prefix(kind)?.strip_prefix('.')?;
        dotted.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.').then_some(dotted)
    });
    Some(Param { compares, paths: paths.collect::<Option<Vec<_>>>()? })
}

fn known<'a>(kind: &'a str, code: &'a str) -> Option<&'a Param> {
    let params: &'a HashMap<(&'a str, &'a str), Param> = &PARAMS;
    params.get(&(kind, code))
}

/// `Type?code=value&...`: all conditions hold together.
#[derive(Clone, Debug)]
pub struct Filter {
    kind: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug)]
struct Condition {
    test: Test,
    not: bool,
    any: Vec<String>,
}

#[derive(Clone, Debug)]
enum Test {
    Id,
    /// Our Patient whom it is about, however the resource names the person.
    Person,
    Param(Param),
}

impl Filter {
    /// Reads a search.
    ///
    /// # Errors
    /// A sentence that names the parameter and says what is taken.
    pub fn parse(text: &str) -> Result<Filter, String> {
        let (kind, query) = text.split_once('?').unwrap_or((text, ""));
        if !check::is_resource_type(kind) {
            return Err("This is not Type?parameter=value with a FHIR resource type.".to_owned());
        }
        let query: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|_| "The search is not readable; percent-encode it.".to_owned())?;
        let conditions =
            query.iter().map(|(name, value)| Condition::read(kind, name, value)).collect::<Result<_, _>>()?;
        Ok(Filter { kind: kind.to_owned(), conditions })
    }

    /// The resource type it is about.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether a resource, about `person` (id of our Patient, '' for none), is one that the search finds.
    pub fn matches(&self, resource: &super::Resource, person: &str) -> bool {
        resource.kind() == self.kind && self.conditions.iter().all(|condition| condition.holds(resource, person))
    }
}

/// What a reference parameter of this type points at in a resource: `focus` of a Task.
pub fn references(resource: &super::Resource, code: &str) -> Vec<String> {
    let Some(param) = known(resource.kind(), code) else { return Vec::new() };
    let found = param.paths.iter().flat_map(|at| resource.all(at));
    found.filter_map(|value| path::text(value, "reference").map(str::to_owned)).collect()
}

impl Condition {
    fn read(kind: &str, name: &str, value: &str) -> Result<Condition, String> {
        let (code, not) = match name.strip_suffix(":not") {
            Some(code) => (code, true),
            None => (name, false),
        };
        let test = match code {
            "_id" => Test::Id,
            "patient" => Test::Person,
            _ => match known(kind, code) {
                Some(param) => Test::Param(param.clone()),
                None => {
                    return Err(format!(
                        "{kind} is not filtered by {code} here. Filters take _id, patient and {kind}'s own parameters that \
                         compare a code, a reference or a URI, with no modifier but :not.",
                        code = code.chars().filter(|c| c.is_ascii_graphic()).take(64).collect::<String>()
                    ));
                }
            },
        };
        let any: Vec<String> = value.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect();
        if any.is_empty() {
            return Err(format!("The filter {code} has no value."));
        }
        Ok(Condition { test, not, any })
    }

    fn holds(&self, resource: &super::Resource, person: &str) -> bool {
        let found = match &self.test {
            Test::Id => self.any.iter().any(|id| resource.id() == Some(id)),
            Test::Person => self.any.iter().any(|wanted| !person.is_empty() && last(wanted) == person),
            Test::Param(param) => {
                let values: Vec<&Value> = param.paths.iter().flat_map(|at| resource.all(at)).collect();
                self.any.iter().any(|wanted| values.iter().any(|value| param.compares.equal(value, wanted)))
            }
        };
        found != self.not
    }
}

impl Compares {
    fn equal(self, value: &Value, wanted: &str) -> bool {
        match self {
            Compares::Token => token(value, wanted),
            Compares::Reference => {
                path::text(value, "reference").or(value.as_str()).is_some_and(|r| points_at(r, wanted))
            }
            Compares::Uri => value.as_str() == Some(wanted),
        }
    }
}

/// `code`, `system|code`, `|code` (no system) or `system|` (any code) against a code, Coding, CodeableConcept or Identifier.
fn token(value: &Value, wanted: &str) -> bool {
    let (system, code) = match wanted.split_once('|') {
        Some((system, code)) => (Some(system), code),
        None => (None, wanted),
    };
    match value {
        Value::String(said) => said == code,
        Value::Bool(said) => said.to_string() == code,
        Value::Object(element) => {
            let text = |name: &str| element.get(name).and_then(Value::as_str);
            let said = text("code").or(text("value"));
            let here = said.is_some()
                && (code.is_empty() || said == Some(code))
                && system.is_none_or(|system| text("system").unwrap_or_default() == system);
            here || path::all(value, "coding").into_iter().any(|coding| token(coding, wanted))
        }
        _ => false,
    }
}

/// Whether a reference means what was asked for: an id, `Type/id`, or an absolute URL.
fn points_at(reference: &str, wanted: &str) -> bool {
    let reference = reference.split("/_history/").next().unwrap_or_default();
    match wanted.contains('/') {
        true => reference == wanted || wanted.ends_with(&format!("/{reference}")),
        false => last(reference) == wanted,
    }
}

fn last(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fhir::Resource;

    fn task() -> Resource {
        Resource::from_value(json!({
            "resourceType": "Task", "id": "t1", "status": "requested", "intent": "order",
            "code": { "coding": [{ "system": "https://x.example", "code": "contact" }, { "code": "bare" }] },
            "focus": { "reference": "ServiceRequest/r1" },
            "for": { "reference": "Patient/sent" },
            "identifier": [{ "system": "https://id.example", "value": "7" }],
        }))
        .unwrap()
    }

    #[test]
    fn a_filter_finds_what_the_same_search_would_find() {
        for (filter, found) in [
            ("Task", true),
            ("Task?", true),
            ("Task?status=requested", true),
            ("Task?status=requested,accepted", true),
            ("Task?status=accepted", false),
            ("Task?status:not=accepted", true),
            ("Task?status:not=requested", false),
            ("Task?code=contact", true),
            ("Task?code=https://x.example|contact", true),
            ("Task?code=https%3A%2F%2Fx.example%7Ccontact", true),
            ("Task?code=https://x.example|", true),
            ("Task?code=|bare", true),
            ("Task?code=|contact", false),
            ("Task?code=https://y.example|contact", false),
            ("Task?focus=ServiceRequest/r1", true),
            ("Task?focus=r1", true),
            ("Task?focus=https://lw.example/fhir/ServiceRequest/r1", true),
            ("Task?focus=ServiceRequest/r", false),
            ("Task?focus=Patient/r1", false),
            ("Task?patient=ours", true),
            ("Task?patient=Patient/ours", true),
            ("Task?patient=sent", false),
            ("Task?_id=t1&status=requested", true),
            ("Task?_id=t1&status=rejected", false),
            ("Task?identifier=https://id.example|7", true),
            ("Task?identifier=8", false),
            ("Encounter?status=requested", false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&task(), "ours"), found, "{filter}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_held_against_a_change_is_refused_and_named() {
        for (filter, named) in [
            ("", "resource type"),
            ("Tasks?status=requested", "resource type"),
            ("Task?colour=red", "colour"),
            ("Task?authored-on=gt2026", "authored-on"),
            ("Task?status:text=x", "status:text"),
            ("Task?focus.subject=x", "focus.subject"),
            ("Task?_has:Provenance:target:agent=x", "_has"),
            ("Task?status=", "status"),
        ] {
            let refused = Filter::parse(filter).unwrap_err();
            assert!(refused.contains(named), "{filter}: {refused}");
        }
    }

    #[test]
    fn nobody_is_not_the_person_of_a_resource_without_one() {
        assert!(!Filter::parse("Task?patient=x").unwrap().matches(&task(), ""));
        assert_eq!(references(&task(), "focus"), ["ServiceRequest/r1"]);
        assert!(references(&task(), "status").is_empty() && references(&task(), "none").is_empty());
    }
}
