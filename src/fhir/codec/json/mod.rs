//! FHIR JSON to a resource and back, nothing normalised.
//!
//! One pass over the bytes builds the tree and refuses what a JSON parser would let through or quietly repair:
//! duplicate names, empty arrays and objects, nulls that stand for nothing, trailing bytes, absurd sizes.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use crate::fhir::Resource;
use crate::fhir::outcome::Invalid;

use super::Limits;
use super::refusal::{self, Refusal, Step};

/// The name under which serde_json, built with `arbitrary_precision`, hands over a number.
const NUMBER: &str = "$serde_json::private::Number";
/// Levels of nesting below which serde_json does not give up by itself.
const PARSER_DEPTH: usize = 126;

/// Reads one FHIR JSON document. A byte order mark is stripped; anything else is kept as sent, in order, decimals to
/// the digit (of an exponent only the spelling changes: `1E5` is kept as `1e+5`). Element names, types and cardinalities are not looked at: that is the checker's part.
///
/// Refuses ([`Invalid`] of one issue, naming the element) with [`InvalidKind::TooLarge`] what is over a limit, and
/// with [`InvalidKind::Malformed`]: what is not JSON or not UTF-8, a root that is not an object with a `resourceType`,
/// a name twice in an object, `[]`, `{}`, null outside an array, trailing bytes, control characters and lone
/// surrogates in text, numbers of more than 64 digits or an exponent beyond 300
/// (<https://hl7.org/fhir/R4/json.html>).
///
/// [`InvalidKind::TooLarge`]: crate::fhir::outcome::InvalidKind::TooLarge
/// [`InvalidKind::Malformed`]: crate::fhir::outcome::InvalidKind::Malformed
pub fn read_json(bytes: &[u8], limits: &Limits) -> Result<Resource, Invalid> {
    Resource::from_value(read(bytes, limits, Place::Root, Vec::new())?)
}

/// Reads the operations of a JSON Patch, an array or whatever else was sent, as [`read_json`] reads a resource. What is
/// refused is named below `Patch.operation`.
pub fn read_json_patch(bytes: &[u8], limits: &Limits) -> Result<Value, Invalid> {
    read(bytes, limits, Place::Member, vec![Step::Member("operation".to_owned())])
}

/// Reads one document, a value that stands at `place`, `around` it what its refusals name first.
fn read(bytes: &[u8], limits: &Limits, place: Place, around: Vec<Step>) -> Result<Value, Invalid> {
    let text = refusal::text(bytes, limits)?;
    let root = if around.is_empty() { String::new() } else { "Patch".to_owned() };
    let mut reading = Reading { text, limits, values: 0, refused: None, root, trail: Vec::new() };
    let mut parser = serde_json::Deserializer::from_str(text);
    let seed = Seed { reading: &mut reading, place, depth: 0 };
    match seed.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) => {
            reading.trail.extend(around);
            Err(reading.explain(&error))
        }
    }
}

/// Writes the resource as FHIR JSON: the tree as it is, on one line, or indented where `pretty`.
pub fn write_json(resource: &Resource, pretty: bool) -> Vec<u8> {
    let written = match pretty {
        true => serde_json::to_vec_pretty(resource.value()),
        false => serde_json::to_vec(resource.value()),
    };
    written.expect("a tree with text for names always has a JSON form")
}

/// What one reading knows beyond the parser's own state.
struct Reading<'a> {
    text: &'a str,
    limits: &'a Limits,
    values: usize,
    refused: Option<Refusal>,
    /// The root's `resourceType`, once something is refused.
    root: String,
    /// The way from what is refused up to the root.
    trail: Vec<Step>,
}

impl Reading<'_> {
    /// Stops the parser. What the parser's error says is not shown: the refusal is.
    fn refuse<E: de::Error>(&mut self, refusal: Refusal) -> E {
        self.refused = Some(refusal);
        E::custom("refused")
    }

    fn explain(self, error: &serde_json::Error) -> Invalid {
        let refusal = self
            .refused
            .unwrap_or_else(|| Refusal::structure(format!("The document is not readable as JSON: {error}.")));
        refusal.at(refusal::expression(&self.root, self.trail.iter().rev()))
    }

    /// Whether the parser handed out `name` itself, rather than read it from the document.
    fn is_own(&self, name: &str) -> bool {
        name == NUMBER && !self.text.as_bytes().as_ptr_range().contains(&name.as_ptr())
    }
}

/// Where a value stands: null is only legal in an array, and `entry` has a limit of its own.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Member,
    Entries,
    Item,
}

/// One value, with everything in it.
struct Seed<'r, 'a> {
    reading: &'r mut Reading<'a>,
    place: Place,
    /// Objects and arrays around it.
    depth: usize,
}

impl Seed<'_, '_> {
    /// A value that holds no others: only legal below the root.
    fn leaf<E: de::Error>(self, value: Result<Value, Refusal>) -> Result<Value, E> {
        match value {
            _ if self.place == Place::Root => Err(self.reading.refuse(not_a_resource())),
            Ok(value) => Ok(value),
            Err(refusal) => Err(self.reading.refuse(refusal)),
        }
    }

    /// Enters an object or array.
    fn descend<E: de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > self.reading.limits.depth.min(PARSER_DEPTH) {
            return Err(self.reading.refuse(Refusal::depth(self.reading.limits)));
        }
        Ok(())
    }

    /// The members of an object whose first name is already read.
    fn members<'de, A: MapAccess<'de>>(
        &mut self,
        first: String,
        mut access: A,
        map: &mut Map<String, Value>,
    ) -> Result<(), A::Error> {
        let mut name = Some(first);
        while let Some(member) = name {
            let place = if member == "entry" { Place::Entries } else { Place::Member };
            let read = match map.entry(member) {
                Entry::Occupied(twice) => {
                    let error = self
                        .reading
                        .refuse(Refusal::structure("The element is there twice in one object. Send it once."));
                    Err((error, twice.key().clone()))
                }
                Entry::Vacant(slot) => {
                    let value = Seed { reading: self.reading, place, depth: self.depth };
                    match access.next_value_seed(value) {
                        Ok(value) => {
                            slot.insert(value);
                            Ok(())
                        }
                        Err(error) => Err((error, slot.key().clone())),
                    }
                }
            };
            if let Err((error, member)) = read {
                self.reading.trail.push(Step::Member(member));
                return Err(error);
            }
            name = match access.next_key_seed(Name { reading: self.reading })? {
                Some(Named::Member(name)) => Some(name),
                Some(Named::Number) => return Err(self.reading.refuse(reserved_name())),
                None => None,
            };
        }
        Ok(())
    }
}

fn not_a_resource() -> Refusal {
    Refusal::structure("A FHIR resource is a JSON object with a resourceType, for example \"ServiceRequest\".")
}

fn reserved_name() -> Refusal {
    Refusal::structure("The name of an element starts with \"$serde_json\", which no FHIR element does.")
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.reading.values += 1;
        if self.reading.values > self.reading.limits.values {
            return Err(self.reading.refuse(Refusal::values(self.reading.limits)));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.leaf(Ok(Value::Bool(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.leaf(Ok(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.leaf(Ok(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.leaf(refusal::characters(value).map(|()| Value::String(value.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        let legal = self.place == Place::Item;
        let refusal = || Refusal::structure("null stands for nothing here. Leave the element out.");
        self.leaf(legal.then_some(Value::Null).ok_or_else(refusal))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        if self.place == Place::Root {
            return Err(self.reading.refuse(not_a_resource()));
        }
        self.descend()?;
        let mut items = Vec::new();
        loop {
            let item = Seed { reading: self.reading, place: Place::Item, depth: self.depth };
            match access.next_element_seed(item) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    self.reading.trail.push(Step::Item(items.len()));
                    return Err(error);
                }
            }
            if self.place == Place::Entries && items.len() > self.reading.limits.entries {
                return Err(self.reading.refuse(Refusal::entries(self.reading.limits)));
            }
        }
        if items.is_empty() {
            return Err(self.reading.refuse(Refusal::structure("The array is empty. Leave the element out.")));
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        match access.next_key_seed(Name { reading: self.reading })? {
            None if self.place == Place::Root => Err(self.reading.refuse(not_a_resource())),
            None => Err(self.reading.refuse(Refusal::structure("The object is empty. Leave the element out."))),
            // A number that is not a 64-bit integer: the parser hands over its digits.
            Some(Named::Number) => {
                let digits: String = access.next_value()?;
                let number = refusal::number(&digits).map(|()| digits.parse::<Number>().map(Value::Number));
                match number {
                    Ok(number) => self.leaf(Ok(number.map_err(A::Error::custom)?)),
                    Err(refusal) => self.leaf(Err(refusal)),
                }
            }
            Some(Named::Member(first)) => {
                self.descend()?;
                let mut map = Map::new();
                let read = self.members(first, access, &mut map);
                if self.place == Place::Root && read.is_err() {
                    let kind = map.get("resourceType").and_then(Value::as_str);
                    self.reading.root = kind.unwrap_or_default().to_owned();
                }
                read.map(|()| Value::Object(map))
            }
        }
    }
}

/// The name of a member.
struct Name<'r, 'a> {
    reading: &'r mut Reading<'a>,
}

enum Named {
    Member(String),
    /// Not a member: the parser says that a number follows.
    Number,
}

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = Named;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_, '_> {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an element")
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Named, E> {
        match self.reading.is_own(name) {
            true => Ok(Named::Number),
            false => self.visit_str(name),
        }
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Named, E> {
        // Whoever parses the stored text again would take an object with this name for a number.
        if name.starts_with("$serde_json") {
            return Err(self.reading.refuse(reserved_name()));
        }
        match refusal::characters(name) {
            Ok(()) => Ok(Named::Member(name.to_owned())),
            Err(refusal) => Err(self.reading.refuse(refusal)),
        }
    }
}

#[cfg(test)]
mod tests;
