//! Profiles on top of base R4: each differential of the chain is checked by itself, so no snapshots are needed.

mod bounds;
mod constraints;
mod extensions;
mod overlay;
mod slicing;
mod tree;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::place::{Findings, Place};
use super::root_name;
use crate::fhir::terminology::Terminology;
use crate::fhir::{Issue, IssueCode, Resource, Severity};
use extensions::{Context, Holder};
use overlay::Overlay;
use slicing::Belongs;
use tree::{Node, without_version};

/// StructureDefinitions, ValueSets and CodeSystems, ready to check resources against.
#[derive(Default)]
pub struct Profiles {
    profiles: HashMap<String, Profile>,
    terminology: Arc<Terminology>,
}

/// One profile or extension.
struct Profile {
    canonical: String,
    /// What it is called in a text: the last part of its canonical.
    name: String,
    of_type: String,
    base: Option<String>,
    /// Of an extension: where it may be. Empty: not said.
    contexts: Vec<Context>,
    /// Of an extension: whether it changes the meaning of what it is on.
    modifier: Option<bool>,
    root: Node,
}

/// A profile and those it is based on, nearest first, as far as they are known.
type Chain<'a> = Vec<&'a Profile>;

impl Profiles {
    /// Takes the StructureDefinitions (profiles and extensions), ValueSets and CodeSystems; other resources are ignored.
    /// A base, value set or code system that is not among them is no error: what it would say is not checked.
    pub fn from_resources(resources: impl IntoIterator<Item = Resource>) -> Profiles {
        let resources: Vec<Resource> = resources.into_iter().collect();
        let definitions = resources.iter().filter(|r| r.kind() == "StructureDefinition");
        let read = definitions.filter_map(|definition| Profile::read(definition.value()));
        let mut profiles = Profiles {
            profiles: read.map(|profile| (profile.canonical.clone(), profile)).collect(),
            terminology: Arc::new(Terminology::from_resources(resources.iter().map(Resource::value))),
        };
        profiles.resolve_slices();
        profiles
    }

    /// What the code systems and value sets among the definitions say.
    pub fn terminology(&self) -> &Arc<Terminology> {
        &self.terminology
    }

    /// Whether a profile or extension of this canonical is among the definitions; a `|version` is ignored.
    pub fn knows(&self, canonical: &str) -> bool {
        self.profiles.contains_key(without_version(canonical))
    }

    /// The canonicals of the profiles of a resource type, in their order.
    pub fn of_type(&self, kind: &str) -> Vec<&str> {
        let mut found: Vec<&str> =
            self.profiles.values().filter(|profile| profile.of_type == kind).map(|p| p.canonical.as_str()).collect();
        found.sort_unstable();
        found
    }

    /// The issues of a resource against a profile and the profiles it is based on, at most `max`.
    ///
    /// Base R4 is not checked here (see [`super::check`]). Every extension in the resource whose url is known is
    /// checked against its definition; an unknown one is no error. An unknown profile gives no issues: ask [`Profiles::knows`].
    pub fn check(&self, canonical: &str, resource: &Resource, max: usize) -> Vec<Issue> {
        self.check_all(&[canonical], resource, max)
    }

    /// The same against several profiles.
    pub fn check_all(&self, canonicals: &[&str], resource: &Resource, max: usize) -> Vec<Issue> {
        let mut found = Findings::new(max);
        let at = Place::root(root_name(resource.kind()));
        let Value::Object(fields) = resource.value() else { return Vec::new() };
        for canonical in canonicals {
            let profile = self.profiles.get(without_version(canonical));
            match profile.filter(|profile| profile.of_type != resource.kind()) {
                Some(other) => {
                    let text = format!("The profile {} is for {} resources.", other.name, other.of_type);
                    found.error(IssueCode::Structure, &at, text);
                }
                None => self.check_object(canonical, fields, &at, &mut found),
            }
        }
        self.extensions_below(resource.value(), &Holder::resource(fields), &at, &mut found);
        found.into_issues()
    }

    /// An object against a profile and those it is based on.
    fn check_object(&self, canonical: &str, fields: &Map<String, Value>, at: &Place<'_>, found: &mut Findings) {
        for profile in self.chain(canonical) {
            Overlay { profiles: self, profile, found: &mut *found }.object(&profile.root, fields, at);
        }
    }

    /// Whether a value is what a profile describes; not disproved where the profile is unknown.
    fn fits(&self, canonical: &str, value: &Value) -> Belongs {
        let Some(fields) = value.as_object() else { return Belongs::No };
        let kind = fields.get("resourceType").and_then(Value::as_str);
        if kind.is_some_and(|kind| !self.may_be(canonical, kind)) {
            return Belongs::No;
        }
        if !self.knows(canonical) {
            return Belongs::Unknown;
        }
        let mut found = Findings::new(100);
        self.check_object(canonical, fields, &Place::root(root_name(kind.unwrap_or_default())), &mut found);
        let broken = found.into_issues().iter().any(|issue| issue.severity == Severity::Error);
        if broken { Belongs::No } else { Belongs::Yes }
    }

    /// Whether a resource of this type can be what a target profile asks for; an unknown profile may be any.
    fn may_be(&self, target: &str, resource_type: &str) -> bool {
        match self.profiles.get(target) {
            Some(profile) => profile.of_type == resource_type,
            None => {
                let tail = target.rsplit('/').next().unwrap_or(target);
                let base = target.starts_with("http://hl7.org/fhir/StructureDefinition/");
                tail == resource_type || tail == "Resource" || !(base && super::is_resource_type(tail))
            }
        }
    }

    fn chain(&self, canonical: &str) -> Chain<'_> {
        let mut chain: Chain<'_> = Vec::new();
        let mut next = self.profiles.get(without_version(canonical));
        while let Some(profile) = next.filter(|p| !chain.iter().any(|c| c.canonical == p.canonical)) {
            chain.push(profile);
            next = profile.base.as_deref().and_then(|base| self.profiles.get(base));
        }
        chain
    }

    /// Works out how each slice is told apart, with the help of the profiles its profile is based on.
    fn resolve_slices(&mut self) {
        let mut resolved = HashMap::new();
        let mut continued = HashSet::new();
        for canonical in self.profiles.keys() {
            let chain = self.chain(canonical);
            let Some(profile) = chain.first() else { continue };
            profile.root.each(&mut |node| {
                if chain.iter().skip(1).any(|p| p.root.find(&node.id).is_some_and(|n| !n.slices.is_empty())) {
                    continued.insert((canonical.clone(), node.id.clone()));
                }
                let slicing = (!node.slices.is_empty()).then(|| slicing::of(node, &chain)).flatten();
                for slice in &node.slices {
                    if let Some(slicing) = &slicing {
                        let tests = slicing::tests(slice, slicing, &chain);
                        resolved.insert((canonical.clone(), slice.node.id.clone()), tests);
                    }
                }
            });
        }
        for (canonical, profile) in &mut self.profiles {
            profile.root.each_mut(&mut |node| {
                // Slices that a base profile named are allowed too, so the list is not closed to those named here.
                if let Some(slicing) = &mut node.slicing {
                    slicing.closed &= !continued.contains(&(canonical.clone(), node.id.clone()));
                }
                for slice in &mut node.slices {
                    slice.tests = resolved.remove(&(canonical.clone(), slice.node.id.clone())).unwrap_or_default();
                }
            });
        }
    }
}

impl Profile {
    /// A profile or extension; nothing for a StructureDefinition that defines a type or a logical model.
    fn read(definition: &Value) -> Option<Profile> {
        let text = |name: &str| definition.get(name).and_then(Value::as_str);
        if text("derivation") == Some("specialization") || text("kind") == Some("logical") {
            return None;
        }
        let canonical = text("url")?;
        let elements =
            definition.pointer("/differential/element/0").or_else(|| definition.pointer("/snapshot/element/0"));
        Some(Profile {
            canonical: canonical.to_owned(),
            name: canonical.rsplit('/').next().unwrap_or(canonical).to_owned(),
            of_type: text("type")?.to_owned(),
            base: text("baseDefinition").map(|base| without_version(base).to_owned()),
            contexts: Context::read(definition),
            modifier: elements.and_then(|root| root.get("isModifier")).and_then(Value::as_bool),
            root: Node::of(definition)?,
        })
    }
}

#[cfg(test)]
mod tests;
