//! Lists a value set from its definition (<https://hl7.org/fhir/R4/valueset.html#composition>).

use serde_json::Value;

use super::listed::{Listed, Member};
use super::{Terminology, versioned};
use crate::fhir::path::text;

/// Lists value sets with the help of the definitions at hand.
pub(super) struct Composer<'t> {
    terminology: &'t Terminology,
}

impl<'t> Composer<'t> {
    pub(super) fn of(terminology: &'t Terminology) -> Composer<'t> {
        Composer { terminology }
    }

    /// What is known of the value set of this canonical.
    pub(super) fn by_url(&self, url: &str) -> Listed {
        self.list(url, &mut Vec::new())
    }

    /// What is known of a value set that is given whole.
    pub(super) fn of_definition(&self, definition: &Value) -> Listed {
        let mut within = text(definition, "url").map(str::to_owned).into_iter().collect();
        self.definition(definition, &mut within)
    }

    fn list(&self, url: &str, within: &mut Vec<String>) -> Listed {
        if let Some(listed) = self.terminology.listed(url) {
            return listed.clone();
        }
        // A set within itself adds nothing.
        if within.iter().any(|w| w == url) {
            return Listed::default();
        }
        let Some(definition) = self.terminology.definition(url) else {
            return Listed::of_r4(url).unwrap_or_else(|| Listed::unknown(url));
        };
        within.push(url.to_owned());
        let listed = self.definition(definition, within);
        within.pop();
        listed
    }

    fn definition(&self, definition: &Value, within: &mut Vec<String>) -> Listed {
        let mut listed = Listed::default();
        let compose = definition.get("compose");
        let parts = |name: &str| compose.map(|c| items(c, name)).unwrap_or_default();
        for include in parts("include") {
            listed.add(self.include(include, within));
        }
        if compose.is_none() {
            expansion(definition.get("expansion").unwrap_or(&Value::Null), &mut listed);
        }
        for exclude in parts("exclude") {
            listed.remove(&self.include(exclude, within));
        }
        listed
    }

    /// What one include adds: a system or part of one, and of that only what all its value sets have.
    fn include(&self, include: &Value, within: &mut Vec<String>) -> Listed {
        let of_system = text(include, "system").map(|system| self.of_system(system, include));
        let sets = items(include, "valueSet").iter().filter_map(Value::as_str).map(|set| versioned(set).0);
        let sets: Vec<Listed> = sets.map(|url| self.list(url, within)).collect();
        let all = of_system.into_iter().chain(sets);
        all.reduce(|listed, other| listed.both(&other)).unwrap_or_default()
    }

    fn of_system(&self, system: &str, include: &Value) -> Listed {
        let held = self.terminology.system(system);
        let mut listed = Listed::default();
        if include.get("concept").is_some() {
            for concept in items(include, "concept") {
                let Some(code) = text(concept, "code") else { continue };
                let known = held.and_then(|held| held.concept(code));
                let mut member = known.map_or_else(|| Member::bare(system, code), |c| Member::of(system, c));
                member.display = text(concept, "display").map(str::to_owned).or(member.display);
                listed.add_member(member);
            }
            return listed;
        }
        let complete = held.filter(|held| held.complete);
        let Some(concepts) = complete.and_then(|held| held.filtered(items(include, "filter"))) else {
            return Listed::open(system);
        };
        concepts.into_iter().for_each(|concept| listed.add_member(Member::of(system, concept)));
        listed
    }
}

/// The codes of an expansion, for a value set that has only that.
fn expansion(within: &Value, listed: &mut Listed) {
    for item in items(within, "contains") {
        if let (Some(system), Some(code)) = (text(item, "system"), text(item, "code")) {
            let display = text(item, "display").map(str::to_owned);
            let heading = item["abstract"] == true;
            let inactive = item["inactive"] == true;
            listed.add_member(Member { display, heading, inactive, ..Member::bare(system, code) });
        }
        expansion(item, listed);
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
