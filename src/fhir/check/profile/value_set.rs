//! Value sets that the definitions at hand can list.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::super::tables::tables;
use super::tree::without_version;

/// Every value set of a set of definitions, by canonical.
#[derive(Default)]
pub(super) struct ValueSets {
    listed: HashMap<String, Listed>,
}

/// Whether a code is in a value set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Membership {
    Member,
    Foreign,
    /// The definitions at hand cannot tell: an unlisted code system (SNOMED CT), a filter, an unknown value set.
    Unknown,
}

/// What is known of one value set.
#[derive(Default, Clone)]
struct Listed {
    codes: HashMap<String, HashSet<String>>,
    /// Systems of which some codes are in the set, but not listed here.
    open: HashSet<String>,
    /// Something is in the set that cannot even be told by system.
    unbounded: bool,
}

/// The definitions while the sets are being listed.
struct Sources<'a> {
    value_sets: HashMap<&'a str, &'a Value>,
    code_systems: HashMap<&'a str, &'a Value>,
}

impl ValueSets {
    /// Lists what can be listed of these ValueSets, with the help of these CodeSystems.
    pub(super) fn of(value_sets: &[Value], code_systems: &[Value]) -> ValueSets {
        let sources = Sources { value_sets: by_url(value_sets), code_systems: by_url(code_systems) };
        let list = |url: &&str| ((*url).to_owned(), sources.list(url, &mut Vec::new()));
        ValueSets { listed: sources.value_sets.keys().map(list).collect() }
    }

    /// Whether a code, Coding, CodeableConcept or Quantity is in a value set; one coding of a concept is enough.
    pub(super) fn holds(&self, canonical: &str, value: &Value) -> Membership {
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

    fn holds_code(&self, canonical: &str, system: Option<&str>, code: &str) -> Membership {
        let Some(set) = self.listed.get(canonical) else {
            let Some(of_r4) = tables().value_set_named(canonical) else { return Membership::Unknown };
            let member = system.map_or_else(|| of_r4.has_code(code), |system| of_r4.has_coding(system, code));
            return if member { Membership::Member } else { Membership::Foreign };
        };
        let listed = match system {
            Some(system) => set.codes.get(system).is_some_and(|codes| codes.contains(code)),
            None => set.codes.values().any(|codes| codes.contains(code)),
        };
        let open = system.map_or(!set.open.is_empty(), |system| set.open.contains(system));
        match (listed, set.unbounded || open) {
            (true, _) => Membership::Member,
            (false, true) => Membership::Unknown,
            (false, false) => Membership::Foreign,
        }
    }

    /// The codes of a small set, for a text.
    pub(super) fn told(&self, canonical: &str) -> Option<String> {
        const FEW: usize = 16;
        let set = self.listed.get(canonical).filter(|set| set.open.is_empty() && !set.unbounded)?;
        let codes: BTreeSet<&str> = set.codes.values().flatten().map(String::as_str).collect();
        (!codes.is_empty() && codes.len() <= FEW).then(|| codes.into_iter().collect::<Vec<_>>().join(", "))
    }
}

fn by_url(definitions: &[Value]) -> HashMap<&str, &Value> {
    definitions.iter().filter_map(|d| Some((d.get("url")?.as_str()?, d))).collect()
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

impl<'a> Sources<'a> {
    fn list(&self, url: &str, within: &mut Vec<String>) -> Listed {
        let mut listed = Listed::default();
        let definition = self.value_sets.get(url).filter(|_| !within.iter().any(|w| w == url));
        let Some(definition) = definition else {
            return self.list_of_r4(url);
        };
        within.push(url.to_owned());
        let compose = definition.get("compose");
        for include in compose.map(|c| items(c, "include")).unwrap_or_default() {
            listed.add(self.include(include, within));
        }
        if compose.is_none() {
            self.expansion(items(definition.get("expansion").unwrap_or(&Value::Null), "contains"), &mut listed);
        }
        for exclude in compose.map(|c| items(c, "exclude")).unwrap_or_default() {
            listed.remove(&self.include(exclude, within));
        }
        within.pop();
        listed
    }

    fn list_of_r4(&self, url: &str) -> Listed {
        let mut listed = Listed::default();
        match tables().value_set_named(url).map(|set| set.systems()) {
            Some(systems) if !systems.is_empty() => {
                for (system, codes) in systems {
                    let codes = codes.iter().map(|c| (*c).to_owned()).collect();
                    listed.codes.insert((*system).to_owned(), codes);
                }
            }
            _ => listed.unbounded = true,
        }
        listed
    }

    /// What one include adds: a system or part of one, and only what all its value sets have.
    fn include(&self, include: &'a Value, within: &mut Vec<String>) -> Listed {
        let mut of_system = Listed::default();
        if let Some(system) = text(include, "system") {
            let mut codes = HashSet::new();
            let complete = self.code_systems.get(system).filter(|s| text(s, "content") == Some("complete"));
            match (include.get("concept"), include.get("filter"), complete) {
                (Some(_), ..) => {
                    codes.extend(items(include, "concept").iter().filter_map(|c| text(c, "code")).map(str::to_owned))
                }
                (None, None, Some(definition)) => gather(items(definition, "concept"), &mut codes),
                _ => {
                    of_system.open.insert(system.to_owned());
                }
            }
            if !codes.is_empty() {
                of_system.codes.insert(system.to_owned(), codes);
            }
        }
        let sets = items(include, "valueSet").iter().filter_map(Value::as_str).map(without_version);
        let sets: Vec<Listed> = sets.map(|url| self.list(url, within)).collect();
        match (text(include, "system"), sets.len()) {
            (_, 0) => of_system,
            (None, 1) => sets.into_iter().next().unwrap_or_default(),
            // Both or several: their intersection, which nothing at hand uses; so nothing is disproved.
            _ => Listed { unbounded: true, ..Listed::default() },
        }
    }

    fn expansion(&self, contains: &'a [Value], listed: &mut Listed) {
        for item in contains {
            if let (Some(system), Some(code)) = (text(item, "system"), text(item, "code")) {
                listed.codes.entry(system.to_owned()).or_default().insert(code.to_owned());
            }
            self.expansion(items(item, "contains"), listed);
        }
    }
}

fn gather(concepts: &[Value], codes: &mut HashSet<String>) {
    for concept in concepts {
        codes.extend(text(concept, "code").map(str::to_owned));
        gather(items(concept, "concept"), codes);
    }
}

impl Listed {
    fn add(&mut self, other: Listed) {
        for (system, codes) in other.codes {
            self.codes.entry(system).or_default().extend(codes);
        }
        self.open.extend(other.open);
        self.unbounded |= other.unbounded;
    }

    /// Takes listed codes away. What cannot be listed may be some of those kept, so their systems are told no more.
    fn remove(&mut self, other: &Listed) {
        for (system, gone) in &other.codes {
            if let Some(codes) = self.codes.get_mut(system) {
                codes.retain(|code| !gone.contains(code));
            }
        }
        for system in &other.open {
            if self.codes.remove(system).is_some() {
                self.open.insert(system.clone());
            }
        }
        self.unbounded |= other.unbounded;
    }
}
