//! One walk over a resource, against what R4 defines.

use serde_json::{Map, Value};

use super::invariants::Fields;
use super::place::{Findings, Place, listed, sayable};
use super::primitive::{Fault, Primitive};
use super::scope::Scope;
use super::tables::{Element, ElementType, Kind, Special, Tables, Type, tables};
use super::{binding, bundle, narrative};
use crate::fhir::IssueCode;

/// The nesting the reader allows (design: Limits); deeper is refused there already.
const DEEPEST: u8 = 64;

/// The walk: what was found so far, and in which resource it stands.
pub(super) struct Walk<'r> {
    pub(super) tables: &'static Tables,
    pub(super) found: Findings,
    pub(super) scope: Scope<'r>,
}

impl<'r> Walk<'r> {
    pub(super) fn new(max: usize) -> Walk<'r> {
        Walk { tables: tables(), found: Findings::new(max), scope: Scope::default() }
    }

    /// A resource that stands by itself: the root, a Bundle entry, a parameter. Its contained resources are in reach of it alone.
    pub(super) fn resource(&mut self, value: &'r Value, at: &Place<'_>) {
        let outer = std::mem::replace(&mut self.scope, Scope::of(value));
        self.resource_content(value, at);
        self.scope.whole_contained(at, &mut self.found);
        self.scope = outer;
    }

    /// A contained resource: it shares the scope of the resource around it.
    fn contained(&mut self, value: &'r Value, at: &Place<'_>, index: usize) {
        self.scope.enter(index, value, at, &mut self.found);
        self.resource_content(value, at);
        self.scope.leave();
    }

    fn resource_content(&mut self, value: &'r Value, at: &Place<'_>) {
        let Some(fields) = value.as_object() else {
            return self.found.error(IssueCode::Structure, at, "A resource is a JSON object with a resourceType.");
        };
        let named = fields.get("resourceType").and_then(Value::as_str);
        let Some(of) = named.and_then(|name| self.tables.resource(name)) else {
            let at = at.child("resourceType");
            return self.found.error(IssueCode::Structure, &at, "resourceType must be one of the R4 resource types.");
        };
        self.object(of, fields, at);
    }

    /// The fields of an object of a known type.
    fn object(&mut self, of: &'static Type, fields: &'r Map<String, Value>, at: &Place<'_>) {
        if at.depth() > DEEPEST {
            return self.found.error(IssueCode::Structure, at, format!("Nested deeper than {DEEPEST} levels."));
        }
        let mut seen = 0u64;
        let mut chosen = [""; 8];
        let is_resource = of.kind == Kind::Resource;
        for (key, value) in fields {
            if self.found.full() {
                return;
            }
            if is_resource && key == "resourceType" {
                continue;
            }
            let plain = key.strip_prefix('_').unwrap_or(key);
            let Some((position, element, of_type)) = of.element(plain) else {
                self.unknown(of, key, at);
                continue;
            };
            if let Some(choice) = element.choice
                && let Some(before) = chosen.get_mut(usize::from(choice))
            {
                if !before.is_empty() && *before != plain {
                    let text = format!("Only one {}[x] is allowed.", element.name);
                    self.found.error(IssueCode::Structure, &at.child(element.name), text);
                }
                *before = plain;
            }
            seen |= 1 << position;
            self.field(element, of_type, (key, value), fields, at);
        }
        self.whole_object(of, fields, seen, at);
    }

    /// What can be said of an object once all its fields are known.
    fn whole_object(&mut self, of: &'static Type, fields: &'r Map<String, Value>, seen: u64, at: &Place<'_>) {
        let missing = of.required & !seen;
        if missing != 0 {
            for element in of.elements_of(missing) {
                let text = format!("{} is required in {}.", element.name, of.name);
                self.found.error(IssueCode::Required, &at.child(element.name), text);
            }
        }
        let only_id = fields.len() == 1 && fields.contains_key("id");
        if fields.is_empty() {
            self.found.error(IssueCode::Structure, at, "An object cannot be empty: leave the element out.");
        } else if only_id && of.kind != Kind::Resource && of.special != Special::Companion {
            let text = "R4 rule ele-1: an element needs a value or children, not only an id.";
            self.found.error(IssueCode::Invariant, at, text);
        }
        for rule in &of.presence {
            if let Some(text) = rule.broken_by(seen) {
                self.found.error(IssueCode::Invariant, at, text);
            }
        }
        for rule in &of.values {
            if let Some(why) = (rule.broken_by)(&Fields(fields)) {
                self.found.error(IssueCode::Invariant, at, format!("R4 rule {}: {why}.", rule.key));
            }
        }
        if of.special == Special::Bundle {
            bundle::check(fields, at, &mut self.found);
        }
    }

    fn unknown(&mut self, of: &Type, key: &str, at: &Place<'_>) {
        // HL7's own published R4 examples still carry this name of DSTU2 for comments.
        if key == "fhir_comments" {
            return;
        }
        if let Some(meant) = of.element_in_any_case(key) {
            let text = format!("R4 writes this element {}: names are case-sensitive.", meant.name);
            return self.found.error(IssueCode::Structure, &at.child(meant.name), text);
        }
        let Some(name) = sayable(key) else {
            return self.found.error(IssueCode::Structure, at, format!("{} has an element R4 does not know.", of.name));
        };
        let place = at.child(name);
        match of.choice_like(key.strip_prefix('_').unwrap_or(key)) {
            Some(choice) => {
                let text = format!("{}[x] can be one of: {}.", choice.name, listed(choice.type_names().split(", ")));
                self.found.error(IssueCode::Structure, &place, text);
            }
            None => self.found.error(IssueCode::Structure, &place, format!("R4 has no element {name} in {}.", of.name)),
        }
    }

    /// One field: a value, or the `_` companion of a primitive one.
    fn field(
        &mut self,
        element: &'static Element,
        of_type: ElementType,
        (key, value): (&'r str, &'r Value),
        fields: &'r Map<String, Value>,
        at: &Place<'_>,
    ) {
        let of = self.tables.type_of(of_type.id);
        let place = match element.choice {
            Some(_) => at.choice(element.name, of.name),
            None => at.child(element.name),
        };
        if let Some(main) = key.strip_prefix('_') {
            return match of.kind {
                Kind::Primitive(_) => self.companion(element, value, fields.get(main), &place),
                _ => {
                    let text = format!("{key} is only for primitive elements; {} is an object.", element.name);
                    self.found.error(IssueCode::Structure, &place, text);
                }
            };
        }
        match value {
            Value::Array(items) if element.many => {
                if items.is_empty() {
                    self.found.error(IssueCode::Structure, &place, "A list cannot be empty: leave the element out.");
                }
                for (index, item) in items.iter().enumerate() {
                    if self.found.full() {
                        return;
                    }
                    if item.is_null() && extended(fields, key, index) && matches!(of.kind, Kind::Primitive(_)) {
                        continue;
                    }
                    self.value(element, of_type, item, &place.item(index), index);
                }
            }
            Value::Array(_) => {
                let text = format!("{} is a single value, not a list.", element.name);
                self.found.error(IssueCode::Structure, &place, text);
            }
            _ if element.many => {
                let text = format!("{} is a list: write it in square brackets, also for one value.", element.name);
                self.found.error(IssueCode::Structure, &place, text);
            }
            _ => self.value(element, of_type, value, &place, 0),
        }
    }

    /// One value of an element; `index` is its position in the list, where it is in one.
    fn value(
        &mut self,
        element: &'static Element,
        of_type: ElementType,
        value: &'r Value,
        at: &Place<'_>,
        index: usize,
    ) {
        let of = self.tables.type_of(of_type.id);
        match of.kind {
            Kind::Primitive(primitive) => self.primitive(element, (of.name, primitive), value, at),
            Kind::Resource if at.name() == "contained" => self.contained(value, at, index),
            Kind::Resource => self.resource(value, at),
            Kind::Complex | Kind::Backbone => {
                let Some(fields) = value.as_object() else {
                    let text = format!("{} is a JSON object ({}).", element.name, of.name);
                    return self.found.error(IssueCode::Structure, at, text);
                };
                self.object(of, fields, at);
                if of.special == Special::Reference {
                    let targets = of_type.targets.map(|t| self.tables.targets(t));
                    self.scope.reference(fields, targets, at, &mut self.found);
                }
                if let Some(value_set) = element.value_set {
                    binding::check(self.tables.value_set(value_set), of.name, value, at, &mut self.found);
                }
            }
        }
    }

    fn primitive(
        &mut self,
        element: &'static Element,
        (name, primitive): (&str, Primitive),
        value: &'r Value,
        at: &Place<'_>,
    ) {
        match primitive.check(value) {
            Err(Fault::Shape(must)) => {
                let text = format!("{} ({name}) must be {must}.", element.name);
                return self.found.error(IssueCode::Structure, at, text);
            }
            Err(Fault::Format(must)) => {
                let text = format!("{} ({name}) must be {must}.", element.name);
                return self.found.error(IssueCode::Value, at, text);
            }
            Ok(()) => {}
        }
        match (primitive, value) {
            (Primitive::Xhtml, Value::String(div)) => {
                if let Some(fault) = narrative::fault(div) {
                    self.found.error(IssueCode::Invariant, at, format!("Narrative: {fault}."));
                }
            }
            (Primitive::Uri, Value::String(uri)) => self.scope.mention(uri),
            _ => {}
        }
        if let Some(value_set) = element.value_set {
            binding::check(self.tables.value_set(value_set), name, value, at, &mut self.found);
        }
    }

    /// The `_x` companion of a primitive element: id and extensions of its values.
    fn companion(&mut self, element: &'static Element, value: &'r Value, main: Option<&'r Value>, at: &Place<'_>) {
        const SHAPE: &str = "The companion with _ holds an object with id or extension";
        match value {
            Value::Object(_) if !element.many => self.companion_item(value, main.is_some(), at),
            Value::Array(items) if element.many => {
                let values = main.and_then(Value::as_array);
                if items.is_empty() || values.is_some_and(|v| v.len() != items.len()) {
                    let text = "The list with _ and the list of values must be equally long, null filling the gaps.";
                    self.found.error(IssueCode::Structure, at, text);
                }
                for (index, item) in items.iter().enumerate() {
                    if self.found.full() {
                        return;
                    }
                    let valued = values.and_then(|v| v.get(index)).is_some_and(|v| !v.is_null());
                    match item {
                        Value::Null if valued => {}
                        Value::Null if main.is_some() => {}
                        _ => self.companion_item(item, valued, &at.item(index)),
                    }
                }
            }
            _ if element.many => {
                self.found.error(IssueCode::Structure, at, format!("{SHAPE} for each value, in a list."))
            }
            _ => self.found.error(IssueCode::Structure, at, format!("{SHAPE}, not a list or a value.")),
        }
    }

    /// The companion of one value; where there is no value it must say more than an id (R4 rule ele-1).
    fn companion_item(&mut self, value: &'r Value, valued: bool, at: &Place<'_>) {
        let (Some(fields), Some(of)) = (value.as_object(), self.tables.named("Element")) else {
            let text = "The companion with _ holds an object with id or extension.";
            return self.found.error(IssueCode::Structure, at, text);
        };
        if !valued && fields.len() == 1 && fields.contains_key("id") {
            let text = "R4 rule ele-1: an element needs a value or an extension, not only an id.";
            self.found.error(IssueCode::Invariant, at, text);
        }
        self.object(of, fields, at);
    }
}

/// Whether the companion list has an object at this index, so that the value may be null.
fn extended(fields: &Map<String, Value>, key: &str, index: usize) -> bool {
    let companion = fields.get(&format!("_{key}")).and_then(Value::as_array);
    companion.and_then(|c| c.get(index)).is_some_and(Value::is_object)
}
