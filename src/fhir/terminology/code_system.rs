//! One code system: its concepts, and which of them lies below which.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::fhir::path::text;

/// A code system whose concepts are at hand, all or some of them.
pub struct CodeSystem {
    pub url: String,
    pub version: Option<String>,
    /// Its title, or else its name.
    pub name: String,
    /// Whether all its codes are here (`content` complete): only then is an unlisted code a wrong one.
    pub complete: bool,
    /// Whether a level means is-a: R4 leaves it open where `hierarchyMeaning` is absent, and then it is taken to.
    is_a: bool,
    concepts: Vec<Concept>,
    by_code: HashMap<String, usize>,
}

/// One concept of a code system.
pub struct Concept {
    pub code: String,
    pub display: Option<String>,
    pub definition: Option<String>,
    /// `CodeSystem.concept.property`, as they stand.
    pub properties: Vec<Value>,
    /// `CodeSystem.concept.designation`, as they stand.
    pub designations: Vec<Value>,
    parents: Vec<String>,
}

/// Whether a concept passes a filter.
type Passes<'s> = Box<dyn Fn(&Concept) -> bool + 's>;

/// How two codes of one code system lie to each other (`http://hl7.org/fhir/concept-subsumption-outcome`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subsumption {
    Equivalent,
    Subsumes,
    SubsumedBy,
    NotSubsumed,
}

impl Subsumption {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Subsumption::Equivalent => "equivalent",
            Subsumption::Subsumes => "subsumes",
            Subsumption::SubsumedBy => "subsumed-by",
            Subsumption::NotSubsumed => "not-subsumed",
        }
    }
}

impl Concept {
    fn read(concept: &Value, parent: Option<&str>) -> Option<Concept> {
        let list = |name: &str| concept.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let properties = list("property");
        let said = properties.iter().filter(|p| matches!(text(p, "code"), Some("parent" | "subsumedBy")));
        let mut parents: Vec<String> = said.filter_map(|p| text(p, "valueCode").map(str::to_owned)).collect();
        parents.extend(parent.map(str::to_owned));
        Some(Concept {
            code: text(concept, "code")?.to_owned(),
            display: text(concept, "display").map(str::to_owned),
            definition: text(concept, "definition").map(str::to_owned),
            properties,
            designations: list("designation"),
            parents,
        })
    }

    /// Whether a property of this code is true, as `notSelectable` and `inactive` are said.
    pub(super) fn is(&self, property: &str) -> bool {
        self.properties.iter().any(|p| text(p, "code") == Some(property) && p["valueBoolean"] == true)
    }

    /// Whether it is no longer used (`inactive`, or the usual `status`).
    pub(super) fn inactive(&self) -> bool {
        self.is("inactive") || self.values("status").iter().any(|s| matches!(s.as_str(), "retired" | "inactive"))
    }

    /// The values of a property, as texts.
    fn values(&self, property: &str) -> Vec<String> {
        let said = self.properties.iter().filter(|p| text(p, "code") == Some(property));
        let values = said.filter_map(|p| p.as_object()?.iter().find(|(key, _)| key.starts_with("value")));
        values
            .map(|(_, value)| match value {
                Value::String(text) => text.clone(),
                Value::Object(coding) => coding.get("code").and_then(Value::as_str).unwrap_or_default().to_owned(),
                other => other.to_string(),
            })
            .collect()
    }
}

impl CodeSystem {
    pub(super) fn read(url: &str, definition: &Value) -> CodeSystem {
        let mut concepts = Vec::new();
        gather(definition, None, &mut concepts);
        let by_code = concepts.iter().enumerate().map(|(at, concept)| (concept.code.clone(), at)).collect();
        CodeSystem {
            url: url.to_owned(),
            version: text(definition, "version").map(str::to_owned),
            name: text(definition, "title").or_else(|| text(definition, "name")).unwrap_or(url).to_owned(),
            complete: text(definition, "content") == Some("complete"),
            is_a: text(definition, "hierarchyMeaning").is_none_or(|meaning| meaning == "is-a"),
            concepts,
            by_code,
        }
    }

    /// Its concepts, in their order, those below another right after it.
    pub fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// The concept of a code.
    pub fn concept(&self, code: &str) -> Option<&Concept> {
        self.by_code.get(code).map(|at| &self.concepts[*at])
    }

    /// The codes right below one.
    pub fn children<'s>(&'s self, code: &'s str) -> impl Iterator<Item = &'s str> {
        self.concepts.iter().filter(move |c| c.parents.iter().any(|p| p == code)).map(|c| c.code.as_str())
    }

    /// The codes right above one.
    pub fn parents(&self, code: &str) -> &[String] {
        self.concept(code).map(|concept| concept.parents.as_slice()).unwrap_or_default()
    }

    /// All codes below one, with it or without, in the order of the code system; nothing where that cannot be told.
    pub(super) fn descendants(&self, code: &str, with_itself: bool) -> Option<Vec<&str>> {
        self.concept(code).filter(|_| self.is_a)?;
        let below = |c: &&Concept| if c.code == code { with_itself } else { self.ancestors(&c.code).contains(code) };
        Some(self.concepts.iter().filter(below).map(|c| c.code.as_str()).collect())
    }

    /// How two codes lie to each other; nothing where one is not here or the levels do not say is-a.
    pub fn subsumption(&self, one: &str, other: &str) -> Option<Subsumption> {
        let (one, other) = (self.concept(one)?, self.concept(other)?);
        if one.code == other.code {
            return Some(Subsumption::Equivalent);
        }
        if !self.is_a {
            return None;
        }
        Some(if self.ancestors(&other.code).contains(one.code.as_str()) {
            Subsumption::Subsumes
        } else if self.ancestors(&one.code).contains(other.code.as_str()) {
            Subsumption::SubsumedBy
        } else {
            Subsumption::NotSubsumed
        })
    }

    fn ancestors(&self, code: &str) -> HashSet<&str> {
        let mut found = HashSet::new();
        let mut next: Vec<&str> = self.parents(code).iter().map(String::as_str).collect();
        while let Some(above) = next.pop() {
            if found.insert(above) {
                next.extend(self.parents(above).iter().map(String::as_str));
            }
        }
        found
    }

    /// The concepts that pass all these filters (`ValueSet.compose.include.filter`); nothing where one of them cannot be
    /// told here: a regular expression, a property of the code system itself.
    pub(super) fn filtered(&self, filters: &[Value]) -> Option<Vec<&Concept>> {
        let mut passing: Vec<&Concept> = self.concepts.iter().collect();
        for filter in filters {
            let (property, op) = (text(filter, "property")?, text(filter, "op")?);
            let value = text(filter, "value").unwrap_or_default();
            let among = self.among(property, op, value)?;
            passing.retain(|concept| among(concept));
        }
        Some(passing)
    }

    fn among<'s>(&'s self, property: &'s str, op: &'s str, value: &'s str) -> Option<Passes<'s>> {
        let listed = move |code: &str| value.split(',').any(|v| v.trim() == code);
        let of_code = matches!(property, "concept" | "code");
        Some(match op {
            "=" if of_code => Box::new(move |c| c.code == value),
            "in" if of_code => Box::new(move |c| listed(&c.code)),
            "not-in" if of_code => Box::new(move |c| !listed(&c.code)),
            "is-a" | "descendent-of" | "is-not-a" if of_code => {
                let below: HashSet<&str> = self.descendants(value, op != "descendent-of")?.into_iter().collect();
                Box::new(move |c| below.contains(c.code.as_str()) != (op == "is-not-a"))
            }
            "=" if property == "parent" => Box::new(move |c| c.parents.iter().any(|p| p == value)),
            _ if of_code || !self.concepts.iter().any(|c| !c.values(property).is_empty()) => return None,
            "=" => Box::new(move |c| c.values(property).iter().any(|v| v == value)),
            "in" => Box::new(move |c| c.values(property).iter().any(|v| listed(v))),
            "not-in" => Box::new(move |c| !c.values(property).iter().any(|v| listed(v))),
            "exists" => Box::new(move |c| c.values(property).is_empty() != (value == "true")),
            _ => return None,
        })
    }
}

fn gather(within: &Value, parent: Option<&str>, concepts: &mut Vec<Concept>) {
    for concept in within.get("concept").and_then(Value::as_array).into_iter().flatten() {
        concepts.extend(Concept::read(concept, parent));
        gather(concept, text(concept, "code"), concepts);
    }
}
