//! Terminology: what the code systems, value sets and concept maps at hand say, and nothing that they do not.
//!
//! Served are those of `fhir-profiles/`, of the profiles folder (UK Core's, say), and the value sets that R4 requires.
//! SNOMED CT and LOINC are not here: what would need them is answered [`Unlistable`] or [`Membership::Unknown`], never
//! guessed. Pure: everything is read at start.

mod code_system;
mod compose;
mod concept_map;
mod listed;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::check::required_value_set;
use super::path::{all, text};
pub use code_system::{CodeSystem, Concept, Subsumption};
use compose::Composer;
use concept_map::ConceptMap;
pub use concept_map::{Translation, Wanted};
use listed::Listed;
pub use listed::Member;

/// The code systems, value sets and concept maps at hand, by canonical.
#[derive(Default)]
pub struct Terminology {
    /// What is at hand before these, and is not replaced by them.
    base: Option<Arc<Terminology>>,
    code_systems: HashMap<String, CodeSystem>,
    value_sets: HashMap<String, Value>,
    listed: HashMap<String, Listed>,
    concept_maps: Vec<ConceptMap>,
    /// Canonicals, by type and id.
    by_id: HashMap<(String, String), String>,
}

/// Whether a code is in a value set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    Member,
    Foreign,
    /// The definitions at hand cannot tell: an unlisted code system (SNOMED CT), a filter, an unknown value set.
    Unknown,
}

/// Why a value set cannot be listed here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unlistable {
    /// No value set of this canonical is at hand.
    NotFound,
    /// It has codes of these code systems, or all of these value sets, that are not at hand.
    NotHeld { systems: Vec<String>, value_sets: Vec<String> },
    /// It includes more than is put together for one answer.
    TooMuch,
}

impl Terminology {
    /// Takes the CodeSystems, ValueSets and ConceptMaps; other resources are ignored. Of two with the same canonical
    /// the last is taken.
    pub fn from_resources<'r>(resources: impl IntoIterator<Item = &'r Value>) -> Terminology {
        Terminology::read(None, resources)
    }

    /// What is at hand, with more CodeSystems and ValueSets that someone keeps: none of them takes the place of what is.
    pub fn with<'r>(self: &Arc<Self>, resources: impl IntoIterator<Item = &'r Value>) -> Terminology {
        Terminology::read(Some(Arc::clone(self)), resources)
    }

    fn read<'r>(base: Option<Arc<Terminology>>, resources: impl IntoIterator<Item = &'r Value>) -> Terminology {
        let kept = base.is_some();
        let mut terminology = Terminology { base, ..Terminology::default() };
        for resource in resources {
            let (Some(url), Some(kind)) = (text(resource, "url"), text(resource, "resourceType")) else { continue };
            if let Some(id) = text(resource, "id") {
                terminology.by_id.insert((kind.to_owned(), id.to_owned()), url.to_owned());
            }
            match kind {
                "CodeSystem" => {
                    terminology.code_systems.insert(url.to_owned(), CodeSystem::read(url, resource));
                }
                "ValueSet" => {
                    terminology.value_sets.insert(url.to_owned(), resource.clone());
                }
                "ConceptMap" => {
                    terminology.concept_maps.retain(|map| map.url != url);
                    terminology.concept_maps.push(ConceptMap::read(url, resource));
                }
                _ => {}
            }
        }
        let composer = Composer::of(&terminology);
        let listed = |(url, definition): (&String, &Value)| {
            let listed = if kept && is_too_much(definition) { Listed::unknown(url) } else { composer.by_url(url) };
            (url.clone(), listed)
        };
        terminology.listed = terminology.value_sets.iter().map(listed).collect();
        terminology
    }

    /// What is known of a value set by its URL.
    fn listed(&self, url: &str) -> Option<&Listed> {
        self.base.as_ref().and_then(|base| base.listed(url)).or_else(|| self.listed.get(url))
    }

    /// A definition by its URL.
    fn definition(&self, url: &str) -> Option<&Value> {
        self.base.as_ref().and_then(|base| base.definition(url)).or_else(|| self.value_sets.get(url))
    }

    /// A code system by its URI.
    fn system(&self, url: &str) -> Option<&CodeSystem> {
        self.base.as_ref().and_then(|base| base.system(url)).or_else(|| self.code_systems.get(url))
    }

    /// Whether a CodeSystem or a ValueSet of this canonical is at hand.
    pub fn has(&self, kind: &str, canonical: &str) -> bool {
        match kind {
            "ValueSet" => self.has_value_set(canonical),
            "CodeSystem" => self.code_system(canonical).is_some(),
            _ => false,
        }
    }

    /// The definition of a value set; a `|version` must be its version. R4's own have none here, only their codes.
    pub fn value_set(&self, canonical: &str) -> Option<&Value> {
        let (url, version) = versioned(canonical);
        self.definition(url).filter(|set| version.is_none_or(|v| text(set, "version") == Some(v)))
    }

    /// The code system of this URI; a `|version` must be its version.
    pub fn code_system(&self, canonical: &str) -> Option<&CodeSystem> {
        let (url, version) = versioned(canonical);
        self.system(url).filter(|system| version.is_none_or(|v| system.version.as_deref() == Some(v)))
    }

    /// The canonical of the code system, value set or concept map with this id.
    pub fn canonical(&self, kind: &str, id: &str) -> Option<&str> {
        let of_base = self.base.as_ref().and_then(|base| base.canonical(kind, id));
        of_base.or_else(|| self.by_id.get(&(kind.to_owned(), id.to_owned())).map(String::as_str))
    }

    /// Whether anything is known of a value set: its definition is at hand, or R4 requires it.
    pub fn has_value_set(&self, canonical: &str) -> bool {
        let (url, version) = versioned(canonical);
        match self.listed(url).is_some() {
            true => version.is_none() || self.value_set(canonical).is_some(),
            false => required_value_set(url).is_some(),
        }
    }

    /// What a code system at hand calls a code.
    pub fn display(&self, system: &str, code: &str) -> Option<&str> {
        self.code_system(system)?.concept(code)?.display.as_deref()
    }

    /// Every code of a value set, in the order of its definition.
    ///
    /// # Errors
    /// Why it cannot be listed whole.
    pub fn expand(&self, canonical: &str) -> Result<Vec<Member>, Unlistable> {
        let (url, version) = versioned(canonical);
        match self.listed(url) {
            Some(_) if version.is_some() && self.value_set(canonical).is_none() => Err(Unlistable::NotFound),
            Some(listed) => listed.members(),
            None => Listed::of_r4(url).ok_or(Unlistable::NotFound)?.members(),
        }
    }

    /// The system and code of every code of a value set, for a search by `:in`; `None` where it cannot be listed whole.
    pub fn codes(&self, canonical: &str) -> Option<Vec<(String, String)>> {
        let members = self.expand(canonical).ok()?;
        Some(members.into_iter().map(|member| (member.system, member.code)).collect())
    }

    /// Every code of a value set that is given whole, in the order of its definition.
    ///
    /// # Errors
    /// Why it cannot be listed whole.
    pub fn expand_definition(&self, value_set: &Value) -> Result<Vec<Member>, Unlistable> {
        self.compose(value_set)?.members()
    }

    /// Whether a code is in a value set that is given whole; without a system, whether any system's is.
    ///
    /// # Errors
    /// It includes more than is put together for one answer.
    pub fn holds_in_definition(
        &self,
        value_set: &Value,
        system: Option<&str>,
        code: &str,
    ) -> Result<Membership, Unlistable> {
        Ok(self.compose(value_set)?.holds(system, code))
    }

    fn compose(&self, value_set: &Value) -> Result<Listed, Unlistable> {
        if is_too_much(value_set) {
            return Err(Unlistable::TooMuch);
        }
        Ok(Composer::of(self).of_definition(value_set))
    }

    /// Whether a code is in a value set; without a system, whether any system's is.
    pub fn holds_code(&self, canonical: &str, system: Option<&str>, code: &str) -> Membership {
        let url = versioned(canonical).0;
        match (self.listed(url), required_value_set(url)) {
            (Some(listed), _) => listed.holds(system, code),
            (None, Some(of_r4)) => match system.map_or_else(|| of_r4.has_code(code), |s| of_r4.has_coding(s, code)) {
                true if of_r4.systems().is_empty() => Membership::Unknown,
                true => Membership::Member,
                false => Membership::Foreign,
            },
            (None, None) => Membership::Unknown,
        }
    }

    /// Whether a code, Coding, CodeableConcept or Quantity is in a value set; one coding of a concept is enough.
    pub fn holds(&self, canonical: &str, value: &Value) -> Membership {
        match value {
            Value::String(code) => self.holds_code(canonical, None, code),
            Value::Object(fields) => match fields.get("coding").and_then(Value::as_array) {
                Some(codings) => {
                    let each: Vec<Membership> = codings.iter().map(|c| self.holds(canonical, c)).collect();
                    [Membership::Member, Membership::Unknown]
                        .into_iter()
                        .find(|m| each.contains(m))
                        .unwrap_or(Membership::Foreign)
                }
                None => match fields.get("code").and_then(Value::as_str) {
                    Some(code) => self.holds_code(canonical, fields.get("system").and_then(Value::as_str), code),
                    None if fields.contains_key("extension") => Membership::Unknown,
                    None => Membership::Foreign,
                },
            },
            _ => Membership::Unknown,
        }
    }

    /// The codes of a small set, for a text.
    pub fn told(&self, canonical: &str) -> Option<String> {
        const FEW: usize = 16;
        let mut codes: Vec<String> = self.expand(canonical).ok()?.into_iter().map(|member| member.code).collect();
        codes.sort();
        codes.dedup();
        (!codes.is_empty() && codes.len() <= FEW).then(|| codes.join(", "))
    }

    /// A code and all that its code system puts below it, for a search by `:below`; nothing where the code system or the
    /// code is not at hand, or its levels do not say is-a.
    pub fn below(&self, system: &str, code: &str) -> Option<Vec<&str>> {
        self.code_system(system)?.descendants(code, true)
    }

    /// What the concept maps at hand translate a code to.
    pub fn translate(&self, wanted: &Wanted<'_>) -> Option<Vec<Translation>> {
        let maps: Vec<&ConceptMap> = self.concept_maps.iter().filter(|map| map.is_for(wanted)).collect();
        (!maps.is_empty()).then(|| maps.into_iter().flat_map(|map| map.translations(wanted)).collect())
    }
}

/// The definitions that a value set is made of: type and canonical of each.
pub fn parts_of(value_set: &Value) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    for list in ["compose.include", "compose.exclude"] {
        for include in all(value_set, list) {
            parts.extend(text(include, "system").map(|system| ("CodeSystem", system.to_owned())));
            let sets = all(include, "valueSet").into_iter().filter_map(Value::as_str);
            parts.extend(sets.map(|set| ("ValueSet", set.to_owned())));
        }
    }
    parts
}

/// Whether a value set that somebody sent includes more than is put together for one answer.
fn is_too_much(value_set: &Value) -> bool {
    const MOST_INCLUDES: usize = 500;
    let parts = |name: &str| all(value_set, name).len();
    parts("compose.include") + parts("compose.exclude") + parts("compose.include.valueSet") > MOST_INCLUDES
}

/// A canonical as its url and its version, where it says one.
fn versioned(canonical: &str) -> (&str, Option<&str>) {
    canonical.split_once('|').map_or((canonical, None), |(url, version)| (url, Some(version)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
