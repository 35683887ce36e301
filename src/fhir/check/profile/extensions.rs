//! Extensions against their definitions, wherever they are in a resource: how often, in what, with what content.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::place::{Findings, Place, sayable};
use super::super::tables::{Type, tables};
use super::tree::without_version;
use super::{Profile, Profiles};
use crate::fhir::IssueCode;

/// Where an extension may be (`StructureDefinition.context`).
pub(super) enum Context {
    /// On this element or datatype.
    Element(String),
    /// In the extension with this url.
    Extension(String),
    /// Something that cannot be told here.
    Other,
}

impl Context {
    pub(super) fn read(definition: &Value) -> Vec<Context> {
        let contexts = definition.get("context").and_then(Value::as_array).into_iter().flatten();
        let text =
            |context: &Value, name: &str| context.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let context = |context: &Value| match text(context, "type").as_str() {
            "element" => Context::Element(text(context, "expression")),
            "extension" => Context::Extension(text(context, "expression")),
            _ => Context::Other,
        };
        contexts.map(context).collect()
    }
}

/// What holds an extension: an object, or a primitive by its companion.
pub(super) struct Holder<'a> {
    up: Option<&'a Holder<'a>>,
    /// The name of the element it is; of a resource, its type.
    name: &'a str,
    /// What R4 says it is; absent where R4 does not know it, which the base check refuses.
    of: Option<&'static Type>,
    is_resource: bool,
    /// The url, where it is itself an extension.
    url: Option<&'a str>,
}

impl<'a> Holder<'a> {
    /// A resource by itself.
    pub(super) fn resource(fields: &'a Map<String, Value>) -> Holder<'a> {
        let name = fields.get("resourceType").and_then(Value::as_str).unwrap_or_default();
        Holder { up: None, name, of: tables().resource(name), is_resource: true, url: None }
    }

    /// What is in an element of this one.
    fn child(&'a self, key: &'a str, value: &'a Value) -> Holder<'a> {
        if let Some(fields) = value.as_object().filter(|fields| fields.contains_key("resourceType")) {
            return Holder { up: Some(self), ..Holder::resource(fields) };
        }
        let element = self.of.and_then(|of| of.element(key));
        let (name, of) = match element {
            Some((_, element, of_type)) => (element.name, Some(tables().type_of(of_type.id))),
            None => (key, None),
        };
        let url = value.get("url").and_then(Value::as_str).filter(|_| of.is_some_and(|of| of.name == "Extension"));
        Holder { up: Some(self), name, of, is_resource: false, url }
    }

    /// Whether an extension with this context may be here.
    fn allows(&self, context: &Context) -> bool {
        let Some(of) = self.of else { return true };
        match context {
            Context::Other => true,
            Context::Extension(url) => self.url == Some(without_version(url)),
            Context::Element(expression) => {
                let stem = expression.replace("[x]", "");
                match stem.as_str() {
                    "Element" | "Base" => true,
                    "Resource" | "DomainResource" => self.is_resource,
                    "BackboneElement" => of.name.contains('.'),
                    "Quantity" => {
                        matches!(of.name, "Quantity" | "Age" | "Count" | "Distance" | "Duration" | "SimpleQuantity")
                    }
                    // A kind of resource that only later versions name, such as CanonicalResource.
                    other if !other.contains('.') && tables().named(other).is_none() => true,
                    stem => of.name == stem || self.is_at(stem),
                }
            }
        }
    }

    /// Whether this is the element that a path names, from the resource or from a datatype on the way.
    fn is_at(&self, path: &str) -> bool {
        let Some((before, last)) = path.rsplit_once('.') else { return false };
        let Some(up) = self.up.filter(|_| last == self.name && !self.is_resource) else { return false };
        up.of.is_none_or(|of| of.name == before) || up.is_at(before)
    }
}

impl Profiles {
    /// Every extension below a value: against its definition, where that is known.
    pub(super) fn extensions_below(&self, value: &Value, holder: &Holder<'_>, at: &Place<'_>, found: &mut Findings) {
        let Value::Object(fields) = value else { return };
        for (key, below) in fields {
            if found.full() {
                return;
            }
            let name = key.strip_prefix('_').unwrap_or(key);
            // A name that is none of R4's is refused by the base check, and must not be repeated here.
            let Some(name) = sayable(name) else { continue };
            let place = at.child(name);
            match below {
                Value::Array(items) if matches!(name, "extension" | "modifierExtension") => {
                    self.extensions(items, holder, &place, found);
                }
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.extensions_below(item, &holder.child(name, item), &place.item(index), found);
                    }
                }
                _ => self.extensions_below(below, &holder.child(name, below), &place, found),
            }
        }
    }

    fn extensions(&self, items: &[Value], holder: &Holder<'_>, at: &Place<'_>, found: &mut Findings) {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            if found.full() {
                return;
            }
            let place = at.item(index);
            let url = item.get("url").and_then(Value::as_str).unwrap_or_default();
            match (self.profiles.get(url).filter(|known| known.of_type == "Extension"), item.as_object()) {
                (Some(definition), Some(fields)) => {
                    let count = counts.entry(url).or_default();
                    *count += 1;
                    if definition.root.max.is_some_and(|max| *count > max) {
                        let text = format!(
                            "The extension {} is repeated more often than its definition allows.",
                            definition.name
                        );
                        found.error(IssueCode::Structure, &place, text);
                    }
                    placed(definition, holder, &place, found);
                    self.check_object(url, fields, &place, found);
                }
                (None, Some(_)) if at.name() == "modifierExtension" => {
                    let text = "An extension here changes what the resource means, and this one is not known here: a \
                        person has to read it.";
                    found.warning(IssueCode::NotSupported, &place, text);
                }
                _ => {}
            }
            self.extensions_below(item, &holder.child(at.name(), item), &place, found);
        }
    }
}

/// Whether an extension may be where it is.
fn placed(definition: &Profile, holder: &Holder<'_>, at: &Place<'_>, found: &mut Findings) {
    let name = &definition.name;
    if !definition.contexts.is_empty() && !definition.contexts.iter().any(|context| holder.allows(context)) {
        let text = format!("The extension {name} is not for this element (context of its definition).");
        found.error(IssueCode::Structure, at, text);
    }
    match (definition.modifier, at.name() == "modifierExtension") {
        (Some(true), false) => {
            let text =
                format!("The extension {name} changes the meaning of what it is on: send it as modifierExtension.");
            found.error(IssueCode::Structure, at, text);
        }
        (Some(false) | None, true) => {
            let text =
                format!("The extension {name} does not change the meaning of what it is on: send it as extension.");
            found.error(IssueCode::Structure, at, text);
        }
        _ => {}
    }
}
