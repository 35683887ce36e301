//! The resource the walk stands in: its contained resources, and which of them are referred to.
//!
//! R4 rules dom-2 to dom-5 and ref-1, ids that are given once, and the types a reference may point to.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::place::{Findings, Place, listed};
use super::primitive;
use super::tables::tables;
use crate::fhir::IssueCode;

/// What is contained in one resource, and what was said about it so far.
#[derive(Default)]
pub(super) struct Scope<'r> {
    contained: &'r [Value],
    /// The ids of the contained resources, gathered at the first local reference.
    ids: Option<HashSet<&'r str>>,
    /// Every `#id` seen, without the `#`.
    mentioned: HashSet<&'r str>,
    /// The contained resource the walk is in.
    inside: Option<usize>,
    /// Contained resources that refer to the resource around them with `#`.
    refer_back: HashSet<usize>,
}

impl<'r> Scope<'r> {
    /// The scope of a resource.
    pub(super) fn of(resource: &'r Value) -> Scope<'r> {
        let contained = resource.get("contained").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Scope { contained, ..Scope::default() }
    }

    /// Into a contained resource: what it may not have (dom-2, dom-4, dom-5), and its id.
    pub(super) fn enter(&mut self, index: usize, value: &Value, at: &Place<'_>, found: &mut Findings) {
        if self.inside.is_some() {
            return;
        }
        self.inside = Some(index);
        if value.get("contained").is_some() {
            let text = "R4 rule dom-2: a contained resource cannot contain others.";
            found.error(IssueCode::Invariant, &at.child("contained"), text);
        }
        let meta = value.get("meta");
        for (name, rule) in [("versionId", "dom-4"), ("lastUpdated", "dom-4"), ("security", "dom-5")] {
            if meta.is_some_and(|m| m.get(name).is_some()) {
                let text = format!("R4 rule {rule}: a contained resource has no meta.{name}.");
                found.error(IssueCode::Invariant, &at.child("meta"), text);
            }
        }
    }

    /// Out of a contained resource.
    pub(super) fn leave(&mut self) {
        self.inside = None;
    }

    /// A uri or reference: remembers it where it points inside the resource.
    pub(super) fn mention(&mut self, uri: &'r str) {
        if self.contained.is_empty() {
            return;
        }
        match (uri.strip_prefix('#'), self.inside) {
            (Some(""), Some(index)) => {
                self.refer_back.insert(index);
            }
            (Some(local), _) => {
                self.mentioned.insert(local);
            }
            (None, _) => {}
        }
    }

    /// A Reference: what is local must be contained (ref-1), and its type must be allowed where the type is evident.
    pub(super) fn reference(
        &mut self,
        fields: &'r Map<String, Value>,
        targets: Option<&[&'static str]>,
        at: &Place<'_>,
        found: &mut Findings,
    ) {
        let reference = fields.get("reference").and_then(Value::as_str).unwrap_or_default();
        if let Some(local) = reference.strip_prefix('#') {
            self.mention(reference);
            if !local.is_empty() && !self.contains(local) {
                let text = "R4 rule ref-1: a reference with # needs a contained resource with that id.";
                found.error(IssueCode::Invariant, &at.child("reference"), text);
            }
        }
        if !well_formed(reference) {
            let text = "A relative reference is Type/id, where the id is 1 to 64 of A-Z, a-z, 0-9, - and .";
            return found.error(IssueCode::Value, &at.child("reference"), text);
        }
        let Some(targets) = targets else { return };
        let said = fields.get("type").and_then(Value::as_str);
        let said = said.map(|t| t.strip_prefix("http://hl7.org/fhir/StructureDefinition/").unwrap_or(t));
        for (name, evident) in [("reference", relative_type(reference)), ("type", said)] {
            let known = evident.filter(|t| tables().resource(t).is_some());
            if known.is_some_and(|t| !targets.contains(&t)) {
                let text = format!("{} can refer to: {}.", at.name(), listed(targets.iter().copied()));
                return found.error(IssueCode::Structure, &at.child(name), text);
            }
        }
    }

    fn contains(&mut self, id: &str) -> bool {
        let contained = self.contained;
        let ids = self.ids.get_or_insert_with(|| contained.iter().filter_map(|c| c.get("id")?.as_str()).collect());
        ids.contains(id)
    }

    /// At the end of the resource: contained resources that have the id of another, so that nobody can tell which of
    /// them a reference means (<https://hl7.org/fhir/R4/references.html#contained>), or that nobody refers to (dom-3).
    pub(super) fn whole_contained(&self, at: &Place<'_>, found: &mut Findings) {
        let mut ids = HashSet::new();
        for (index, contained) in self.contained.iter().enumerate() {
            if found.full() {
                return;
            }
            let id = contained.get("id").and_then(Value::as_str);
            if id.is_some_and(|id| !ids.insert(id)) {
                let text = "Another contained resource has this id. Give each its own, and refer to it by that.";
                found.error(IssueCode::Invariant, &at.child("contained").item(index).child("id"), text);
            }
            if !id.is_some_and(|id| self.mentioned.contains(id)) && !self.refer_back.contains(&index) {
                let text = "R4 rule dom-3: a contained resource must be referred to with # and its id, or refer to the resource around it with #.";
                found.error(IssueCode::Invariant, &at.child("contained").item(index), text);
            }
        }
    }
}

/// Whether a reference that begins with a resource type goes on with an id, and perhaps a version.
fn well_formed(reference: &str) -> bool {
    let Some((of_type, rest)) = reference.split_once('/') else { return true };
    if tables().resource(of_type).is_none() {
        return true;
    }
    let rest = rest.split('#').next().unwrap_or(rest);
    match rest.split_once("/_history/") {
        Some((id, version)) => primitive::id(id) && primitive::id(version),
        None => primitive::id(rest),
    }
}

/// The type of a relative reference: `Type/id`, `Type/id/_history/1`, `Type?identifier=...`.
pub(super) fn relative_type(reference: &str) -> Option<&str> {
    reference.split_once(['/', '?']).map(|(before, _)| before)
}
