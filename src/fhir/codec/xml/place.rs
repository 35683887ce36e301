//! A place in R4's element tree, by fhirbolt's tables. They were compared with the 209 types of the published R4
//! definitions (4.0.1): names, order, repetition and primitive types agree throughout.

use fhirbolt_shared::FhirReleases;
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
    /// Whether each name entered is a resource type.
    resources: Vec<bool>,
}

impl Place {
    pub(super) fn outside() -> Place {
        Place { path: ElementPath::new(FhirReleases::R4), resources: Vec::new() }
    }

    /// Whether R4 has this resource type.
    pub(super) fn is_resource_type(name: &str) -> bool {
        ELEMENT_MAP.get(name).is_some_and(|elements| elements.contains("implicitRules"))
    }

    pub(super) fn enter_resource(&mut self, kind: &str) {
        self.path.push(kind);
        self.resources.push(true);
    }

    pub(super) fn enter(&mut self, element: &str) {
        self.path.push(element);
        self.resources.push(false);
    }

    pub(super) fn leave(&mut self) {
        self.path.pop();
        self.resources.pop();
    }

    pub(super) fn is_resource(&self) -> bool {
        self.resources.last() == Some(&true)
    }

    /// Whether `child` can be an element here. An element's `id` and an extension's `url` are attributes.
    pub(super) fn has(&self, child: &str) -> bool {
        match self.is_resource() {
            true => self.knows(child),
            false if child == "id" => false,
            false if self.is_extension() && child == "url" => false,
            false if self.path.current_element_is_primitive() => child == "extension",
            false => self.knows(child),
        }
    }

    fn knows(&self, child: &str) -> bool {
        self.path.children().is_some_and(|elements| elements.contains(child))
    }

    /// The order of `child` among its siblings.
    pub(super) fn order(&self, child: &str) -> usize {
        self.path.position_of_child(child)
    }

    pub(super) fn repeats(&self) -> bool {
        self.path.current_element_is_sequence()
    }

    pub(super) fn is_extension(&self) -> bool {
        !self.is_resource() && self.path.current_element_is_extension()
    }

    pub(super) fn content(&self) -> Content {
        match () {
            () if self.path.current_element_is_resource() => Content::Resource,
            () if self.path.current_element_is_primitive() => Content::Primitive(self.shape()),
            () => Content::Complex,
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
