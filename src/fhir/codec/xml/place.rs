//! A place in R4's element tree, by fhirbolt's tables. They were compared with the 209 types of the published R4
//! definitions (4.0.1): names, order, repetition and primitive types agree throughout.

use fhirbolt_shared::FhirReleases;
use fhirbolt_shared::element_map::ElementSet;
use fhirbolt_shared::element_map::r4::ELEMENT_MAP;
use fhirbolt_shared::path::ElementPath;

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A whole resource, as in `contained`.
    Resource,
    /// An element with elements of its own.
    Complex,
    Primitive(Shape),
}

/// How JSON writes a primitive value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Boolean,
    Integer,
    Decimal,
    Text,
}

/// A place, entered name by name from a resource type down.
pub(super) struct Place {
    path: ElementPath,
    /// What is known of every name entered: fhirbolt's path looks each thing up anew.
    levels: Vec<Level>,
}

struct Level {
    kind: Kind,
    children: Option<&'static ElementSet>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Resource,
    Extension,
    Primitive,
    Other,
}

impl Place {
    pub(super) fn outside() -> Place {
        Place { path: ElementPath::new(FhirReleases::R4), levels: Vec::new() }
    }

    /// Whether R4 has this resource type.
    pub(super) fn is_resource_type(name: &str) -> bool {
        ELEMENT_MAP.get(name).is_some_and(|elements| elements.contains("implicitRules"))
    }

    pub(super) fn enter_resource(&mut self, kind: &str) {
        self.path.push(kind);
        self.levels.push(self.level(Kind::Resource));
    }

    pub(super) fn enter(&mut self, element: &str) {
        self.path.push(element);
        let level = match () {
            () if self.path.current_element_is_primitive() => Level { kind: Kind::Primitive, children: None },
            () if self.path.current_element_is_extension() => self.level(Kind::Extension),
            () => self.level(Kind::Other),
        };
        self.levels.push(level);
    }

    fn level(&self, kind: Kind) -> Level {
        Level { kind, children: self.path.children() }
    }

    pub(super) fn leave(&mut self) {
        self.path.pop();
        self.levels.pop();
    }

    /// Whether `child` can be an element here. An element's `id` and an extension's `url` are attributes.
    pub(super) fn has(&self, child: &str) -> bool {
        let Some(level) = self.levels.last() else { return false };
        match (level.kind, child) {
            (Kind::Primitive, _) => child == "extension",
            (Kind::Extension, "id" | "url") | (Kind::Other, "id") => false,
            _ => level.children.is_some_and(|elements| elements.contains(child)),
        }
    }

    /// The order of `child` among its siblings.
    pub(super) fn order(&self, child: &str) -> usize {
        let elements = self.levels.last().and_then(|level| level.children);
        elements.and_then(|elements| elements.get_index(child)).unwrap_or(usize::MAX)
    }

    pub(super) fn repeats(&self) -> bool {
        self.path.current_element_is_sequence()
    }

    pub(super) fn is_extension(&self) -> bool {
        self.levels.last().is_some_and(|level| level.kind == Kind::Extension)
    }

    pub(super) fn content(&self) -> Content {
        match self.levels.last().map(|level| level.kind) {
            Some(Kind::Primitive) => Content::Primitive(self.shape()),
            Some(Kind::Other) if self.path.current_element_is_resource() => Content::Resource,
            _ => Content::Complex,
        }
    }

    fn shape(&self) -> Shape {
        let path = &self.path;
        if path.current_element_is_boolean() {
            Shape::Boolean
        } else if path.current_element_is_decimal() {
            Shape::Decimal
        } else if path.current_element_is_integer()
            || path.current_element_is_unsigned_integer()
            || path.current_element_is_positive_integer()
        {
            Shape::Integer
        } else {
            Shape::Text
        }
    }
}
