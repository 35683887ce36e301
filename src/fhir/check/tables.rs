//! What R4 defines, read once from `fhir-profiles/r4/structure.txt`.
//!
//! A text table and not generated Rust: it is a third of the size, costs no build time, can be read in a review, and
//! is parsed in under 10 ms at first use. Names are slices of the embedded text.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::invariants::ValueRule;
use super::presence::PresenceRule;
use super::primitive::Primitive;
use super::read;

static TABLES: LazyLock<Tables> =
    LazyLock::new(|| read::tables(include_str!("../../../fhir-profiles/r4/structure.txt")));

/// The tables, read at first use.
pub(super) fn tables() -> &'static Tables {
    &TABLES
}

/// Every R4 type and every value set that R4 requires.
pub(super) struct Tables {
    pub(super) types: Vec<Type>,
    pub(super) by_name: HashMap<&'static str, TypeId>,
    pub(super) value_sets: Vec<ValueSet>,
    pub(super) value_set_by_canonical: HashMap<&'static str, ValueSetId>,
    pub(super) targets: Vec<Vec<&'static str>>,
    pub(super) primitives: Vec<TypeId>,
}

/// Which type: an index into the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TypeId(pub(super) u16);

/// Which required value set: an index into the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ValueSetId(pub(super) u16);

/// Which list of types a reference may point to: an index into the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TargetsId(pub(super) u16);

/// How the value of a type looks in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Primitive(Primitive),
    Complex,
    Backbone,
    Resource,
}

/// A resource, datatype, backbone element or primitive.
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Own and inherited, sorted by name.
    pub(super) elements: Vec<Element>,
    /// One bit per element, set where the minimum is 1.
    pub(super) required: u64,
    pub(super) special: Special,
    pub(super) presence: Vec<PresenceRule>,
    pub(super) values: Vec<ValueRule>,
}

/// Types whose content says more than their elements do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Special {
    None,
    Reference,
    Bundle,
    /// Element itself: what the `_` companion of a primitive value is.
    Companion,
}

/// One element of a type.
pub(super) struct Element {
    /// Without `[x]`.
    pub(super) name: &'static str,
    /// A JSON array (base.max is not 1).
    pub(super) many: bool,
    /// The position among the choices (`value[x]`) of the type, where it is one.
    pub(super) choice: Option<u8>,
    /// Never empty; more than one only for a choice.
    pub(super) types: Vec<ElementType>,
    pub(super) value_set: Option<ValueSetId>,
}

/// One of the types an element may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct ElementType {
    pub(super) id: TypeId,
    /// What a Reference may point to; absent: anything.
    pub(super) targets: Option<TargetsId>,
}

/// A required value set.
pub(in crate::fhir) struct ValueSet {
    pub(super) name: &'static str,
    /// Each system with its codes, sorted. Empty: it cannot be listed (currencies, media types, UCUM), so nothing is disproved.
    pub(super) systems: Vec<(&'static str, Vec<&'static str>)>,
}

impl ValueSet {
    /// Each system with its codes, sorted; none where the set cannot be listed.
    pub(in crate::fhir) fn systems(&self) -> &[(&'static str, Vec<&'static str>)] {
        &self.systems
    }

    /// Whether a bare code is in the set, whatever its system; true where the set cannot be listed.
    pub(in crate::fhir) fn has_code(&self, code: &str) -> bool {
        self.systems.is_empty() || self.systems.iter().any(|(_, codes)| codes.binary_search(&code).is_ok())
    }

    /// Whether a code of a system is in the set; true where the set cannot be listed.
    pub(in crate::fhir) fn has_coding(&self, system: &str, code: &str) -> bool {
        self.systems.is_empty()
            || self.systems.iter().any(|(s, codes)| *s == system && codes.binary_search(&code).is_ok())
    }

    /// The codes, where they are few enough to be told.
    pub(super) fn told(&self) -> Option<String> {
        const FEW: usize = 16;
        let codes: Vec<&str> = self.systems.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        (!codes.is_empty() && codes.len() <= FEW).then(|| codes.join(", "))
    }
}

impl Type {
    /// The element with this JSON name: its position, itself, and which of its types the name chooses.
    pub(super) fn element(&self, json_name: &str) -> Option<(usize, &Element, ElementType)> {
        if let Ok(position) = self.elements.binary_search_by(|e| e.name.cmp(json_name)) {
            let element = self.elements.get(position)?;
            return if element.choice.is_some() { None } else { Some((position, element, *element.types.first()?)) };
        }
        self.elements.iter().enumerate().filter(|(_, e)| e.choice.is_some()).find_map(|(position, element)| {
            let chosen = json_name.strip_prefix(element.name)?;
            let chosen = element.types.iter().find(|t| capitalised(tables().type_of(t.id).name, chosen))?;
            Some((position, element, *chosen))
        })
    }

    /// The choice (`value[x]`) that a JSON name begins like, though with a type it does not allow.
    pub(super) fn choice_like(&self, json_name: &str) -> Option<&Element> {
        self.elements.iter().filter(|e| e.choice.is_some()).find(|e| {
            json_name.strip_prefix(e.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_uppercase))
        })
    }

    /// The element a JSON name means that differs only in upper and lower case.
    pub(super) fn element_in_any_case(&self, json_name: &str) -> Option<&Element> {
        self.elements.iter().find(|e| e.choice.is_none() && e.name.eq_ignore_ascii_case(json_name))
    }

    /// The elements whose bits are set.
    pub(super) fn elements_of(&self, bits: u64) -> impl Iterator<Item = &Element> {
        self.elements.iter().enumerate().filter(move |(i, _)| bits & (1 << i) != 0).map(|(_, e)| e)
    }

    /// The bit of an element, by its name without `[x]`.
    pub(super) fn bit(&self, name: &str) -> u64 {
        let position = self.elements.binary_search_by(|e| e.name.cmp(name));
        position.map_or(0, |position| 1 << position)
    }
}

/// Whether `chosen` is the type name as a choice writes it: `valueString` of `string`.
fn capitalised(type_name: &str, chosen: &str) -> bool {
    let (mut name, mut chosen) = (type_name.bytes(), chosen.bytes());
    name.next().map(|b| b.to_ascii_uppercase()) == chosen.next() && name.eq(chosen)
}

impl Element {
    /// The types it may have, for a text: `boolean, dateTime`.
    pub(super) fn type_names(&self) -> String {
        self.types.iter().map(|t| tables().type_of(t.id).name).collect::<Vec<_>>().join(", ")
    }
}

impl Tables {
    pub(super) fn type_of(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    /// The name of the datatype that a choice writes with a capital: `dateTime` of `DateTime`.
    pub(super) fn chosen(&self, capital: &str) -> Option<&'static str> {
        let mut primitives = self.primitives.iter().map(|id| self.type_of(*id).name);
        primitives.find(|name| capitalised(name, capital)).or_else(|| self.named(capital).map(|t| t.name))
    }

    pub(super) fn value_set(&self, id: ValueSetId) -> &ValueSet {
        &self.value_sets[usize::from(id.0)]
    }

    pub(super) fn targets(&self, id: TargetsId) -> &[&'static str] {
        &self.targets[usize::from(id.0)]
    }

    /// The type with this name, backbone elements by their path.
    pub(super) fn named(&self, name: &str) -> Option<&Type> {
        self.by_name.get(name).map(|id| self.type_of(*id))
    }

    /// The resource type with this name; the abstract ones have no resources.
    pub(super) fn resource(&self, name: &str) -> Option<&Type> {
        self.named(name).filter(|t| t.kind == Kind::Resource && t.name != "Resource" && t.name != "DomainResource")
    }

    pub(super) fn resources(&self) -> impl Iterator<Item = &Type> {
        self.types.iter().filter(|t| self.resource(t.name).is_some())
    }

    /// A value set R4 requires somewhere, by its canonical without version.
    pub(super) fn value_set_named(&self, canonical: &str) -> Option<&ValueSet> {
        self.value_set_by_canonical.get(canonical).map(|id| self.value_set(*id))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn every_element_of_the_tables_has_a_type_and_fits_the_bit_set() {
        for of in &tables().types {
            assert!(of.elements.len() <= 64, "{} has too many elements for the bit set", of.name);
            assert!(of.elements.iter().filter(|e| e.choice.is_some()).count() <= 8, "{}", of.name);
            for element in &of.elements {
                assert!(!element.types.is_empty(), "{}.{} has no type", of.name, element.name);
            }
        }
    }

    #[test]
    fn a_type_has_its_own_elements_and_those_of_its_base() {
        let patient = tables().named("Patient").unwrap();
        assert!(patient.element("birthDate").is_some());
        assert!(patient.element("modifierExtension").is_some());
        let (_, _, chosen) = patient.element("deceasedDateTime").unwrap();
        assert_eq!(tables().type_of(chosen.id).name, "dateTime");
        assert!(patient.element("deceased").is_none());
        assert!(patient.element("deceasedString").is_none());
        assert_eq!(tables().named("Age").unwrap().elements.len(), tables().named("Quantity").unwrap().elements.len());
    }

    #[test]
    fn codes_are_found_with_and_without_their_system() {
        let gender = tables().value_set_named("http://hl7.org/fhir/ValueSet/administrative-gender").unwrap();
        assert!(gender.has_code("female") && !gender.has_code("masculino"));
        assert!(gender.has_coding("http://hl7.org/fhir/administrative-gender", "male"));
        assert!(!gender.has_coding("http://example.org", "male"));
        assert!(tables().value_set_named("http://hl7.org/fhir/ValueSet/currencies").unwrap().has_code("GBP"));
    }
}
