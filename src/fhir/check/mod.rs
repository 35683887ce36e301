//! Is a resource valid R4: structure, cardinality, formats, required codes, references, invariants.
//!
//! One walk over the JSON tree against tables made from HL7's definitions. For what is valid next to nothing is allocated
//! (a narrative's XHTML reader).
//! Profiles (UK Core, our own) are checked on top, each differential of the chain by itself: [`Profiles`].

mod binding;
mod bundle;
mod calendar;
mod invariants;
mod narrative;
mod place;
mod presence;
mod primitive;
mod profile;
mod read;
mod scope;
mod tables;
mod walk;

use place::Place;
use walk::Walk;

pub use profile::Profiles;
pub(super) use tables::ValueSet;

use super::{Issue, Resource};

/// All issues found in a resource against base R4, at most `max`; empty: valid.
///
/// Goes into contained resources, `Bundle.entry.resource` and `Parameters.parameter.resource`. The expression of an
/// issue is the whole FHIRPath from the root: `Bundle.entry[2].resource.name[0].given[1]`,
/// `Observation.value.ofType(Quantity)`. Not checked: what a reference resolves to, terminology beyond the required
/// value sets that can be listed, duplicate keys (the reader's).
pub fn check(resource: &Resource, max: usize) -> Vec<Issue> {
    let mut walk = Walk::new(max);
    walk.resource(resource.value(), &Place::root(root_name(resource.kind())));
    walk.found.into_issues()
}

/// Whether R4 has a resource type of this name; the abstract `Resource` and `DomainResource` are none.
pub fn is_resource_type(name: &str) -> bool {
    tables::tables().resource(name).is_some()
}

/// Whether a text can be the id of a resource (R4 datatypes, `id`).
pub fn is_id(text: &str) -> bool {
    primitive::id(text)
}

/// The names of all R4 resource types, in alphabetical order.
pub fn resource_types() -> impl Iterator<Item = &'static str> {
    tables::tables().resources().map(|t| t.name)
}

/// A value set that R4 requires somewhere, by its canonical without version.
pub(super) fn required_value_set(canonical: &str) -> Option<&'static ValueSet> {
    tables::tables().value_set_named(canonical)
}

/// The JSON names and types of an element of a type: several for a choice, `value[x]` by the name `value`. None where
/// R4 has no such element.
pub(super) fn element_types(of: &str, element: &str) -> Vec<(String, &'static str)> {
    let tables = tables::tables();
    let Some(found) = tables.named(of).and_then(|t| t.elements.iter().find(|e| e.name == element)) else {
        return Vec::new();
    };
    let types = found.types.iter().map(|t| tables.type_of(t.id).name);
    match found.choice {
        None => types.map(|name| (element.to_owned(), name)).collect(),
        Some(_) => types.map(|name| (format!("{element}{}", capitalised(name)), name)).collect(),
    }
}

fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// The code systems that a coded element must take its codes from; none where R4 does not require any.
pub(super) fn required_systems(of: &str, element: &str) -> Vec<&'static str> {
    let tables = tables::tables();
    let found = tables.named(of).and_then(|t| t.elements.iter().find(|e| e.name == element));
    let set = found.and_then(|e| e.value_set).map(|id| tables.value_set(id));
    set.map(|set| set.systems().iter().map(|(system, _)| *system).collect()).unwrap_or_default()
}

/// An element of a type, by its JSON name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// A JSON array.
    pub many: bool,
    /// The name of its type, of a backbone element its path: `HumanName`, `Patient.contact`.
    pub type_name: &'static str,
    pub primitive: bool,
}

/// The element of a type that a JSON name means (`birthDate`, `deceasedBoolean`); `None` where the type has none.
pub fn member(type_name: &str, json_name: &str) -> Option<Member> {
    let (_, element, of) = tables::tables().named(type_name)?.element(json_name)?;
    let of = tables::tables().type_of(of.id);
    Some(Member { many: element.many, type_name: of.name, primitive: matches!(of.kind, tables::Kind::Primitive(_)) })
}

/// Whether a type has a choice (`deceased[x]`) of this name.
pub fn has_choice(type_name: &str, name: &str) -> bool {
    let of = tables::tables().named(type_name);
    of.is_some_and(|of| of.elements.iter().any(|element| element.choice.is_some() && element.name == name))
}

/// The elements that a resource of this type must have, by their names without `[x]`.
pub fn mandatory(type_name: &str) -> Vec<&'static str> {
    let of = tables::tables().named(type_name);
    of.map(|of| of.elements_of(of.required).map(|element| element.name).collect()).unwrap_or_default()
}

/// What an expression begins with: the type, unless the message made it up.
fn root_name(kind: &str) -> &str {
    if is_resource_type(kind) { kind } else { "Resource" }
}

#[cfg(test)]
mod tests;
