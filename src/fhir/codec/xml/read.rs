//! FHIR XML to a resource.

use serde_json::{Map, Value};

use crate::fhir::Resource;
use crate::fhir::codec::Limits;
use crate::fhir::codec::refusal::{self, Refusal, Step};
use crate::fhir::outcome::Invalid;

use super::STACK_DEPTH;
use super::narrative;
use super::place::{Content, Place, Shape};
use super::primitive;
use super::source::{AttributeKind, FHIR, Piece, Source, Space, Tag, XHTML};

/// Reads a whole document.
pub(super) fn document(bytes: &[u8], limits: &Limits) -> Result<Resource, Invalid> {
    let text = refusal::text(bytes, limits)?;
    // https://www.w3.org/TR/xml/#sec-line-ends: a parser sees no carriage return that is not written as a number.
    let lines = text.contains('\r').then(|| text.replace("\r\n", "\n").replace('\r', "\n"));
    let text = lines.as_deref().unwrap_or(text);
    let mut reading = Reading {
        source: Source::new(text, limits),
        limits,
        place: Place::outside(),
        root: String::new(),
        trail: Vec::new(),
    };
    match refusal::characters(text).and_then(|()| reading.root()) {
        Ok(value) => Resource::from_value(value),
        Err(refusal) => Err(refusal.at(refusal::expression(&reading.root, reading.trail.iter().rev()))),
    }
}

struct Reading<'a> {
    source: Source<'a>,
    limits: &'a Limits,
    place: Place,
    /// The root's resource type.
    root: String,
    /// The way from what is refused up to the root.
    trail: Vec<Step>,
}

/// What one element is in JSON: its value under its name, its id and extensions under `_name`.
type Occurrence = (Option<Value>, Option<Value>);

/// Every occurrence of one element in its parent.
struct Member {
    name: String,
    repeats: bool,
    occurrences: Vec<Occurrence>,
}

impl<'a> Reading<'a> {
    fn root(&mut self) -> Result<Value, Refusal> {
        let tag = match self.between()? {
            Piece::Open(tag) => tag,
            _ => return Err(Refusal::structure("The document is empty. A FHIR resource is one element.")),
        };
        if Place::is_resource_type(&tag.name) {
            self.root.clone_from(&tag.name);
        }
        let value = self.resource(tag, 1)?;
        match self.between()? {
            Piece::End => Ok(value),
            _ => Err(Refusal::structure("Something follows the resource. Send one resource in a document.")),
        }
    }

    /// The next piece where only elements may stand.
    fn between(&mut self) -> Result<Piece<'a>, Refusal> {
        loop {
            match self.source.next()? {
                Piece::Comment => {}
                Piece::Text(text) if text.chars().all(|c| matches!(c, ' ' | '\t' | '\n' | '\r')) => {}
                Piece::Text(_) => {
                    let text = "Text stands between elements, where FHIR has none: a value is written value=\"...\".";
                    return Err(Refusal::structure(text));
                }
                piece => return Ok(piece),
            }
        }
    }

    /// A resource, whose tag is its type. `depth` counts as in JSON, here and below: objects and arrays.
    fn resource(&mut self, tag: Tag<'a>, depth: usize) -> Result<Value, Refusal> {
        self.check_depth(depth)?;
        check_space(&tag)?;
        if !Place::is_resource_type(&tag.name) {
            return Err(Refusal::structure("The element is no R4 resource type."));
        }
        for attribute in &tag.attributes {
            if !matches!(attribute.kind, AttributeKind::Namespace | AttributeKind::Schema) {
                return Err(Refusal::structure("A resource has no attributes: its id is an element."));
            }
        }
        let mut fields = Map::new();
        fields.insert("resourceType".to_owned(), Value::String(tag.name.clone()));
        self.place.enter_resource(&tag.name);
        if !tag.empty {
            self.children(depth, &mut fields)?;
        }
        self.place.leave();
        Ok(Value::Object(fields))
    }

    /// What stands up to the closing tag, into `fields`.
    fn children(&mut self, depth: usize, fields: &mut Map<String, Value>) -> Result<(), Refusal> {
        let mut members: Vec<Member> = Vec::new();
        loop {
            let piece = match self.between() {
                Ok(piece) => piece,
                Err(refusal) => {
                    self.trail.extend(self.source.refused_tag().map(Step::Member));
                    return Err(refusal);
                }
            };
            match piece {
                Piece::Open(tag) => self.child(tag, depth, &mut members)?,
                Piece::End => return Err(Refusal::structure("The document ends before the element does.")),
                _ => break,
            }
        }
        members.into_iter().for_each(|member| member.into_fields(fields));
        Ok(())
    }

    fn child(&mut self, tag: Tag<'a>, depth: usize, members: &mut Vec<Member>) -> Result<(), Refusal> {
        let name = tag.name.clone();
        if !self.place.has(&name) {
            self.trail.push(Step::Member(name));
            return Err(Refusal::structure("R4 has no such element here."));
        }
        self.place.enter(&name);
        let repeats = self.place.repeats();
        let at = members.iter().position(|m| m.name == name).unwrap_or_else(|| {
            members.push(Member { name: name.clone(), repeats, occurrences: Vec::new() });
            members.len() - 1
        });
        let occurrences = &mut members[at].occurrences;
        let read = match () {
            () if !repeats && !occurrences.is_empty() => {
                Err(Refusal::structure("The element is there more than once, and R4 allows it once."))
            }
            () if name == "entry" && occurrences.len() == self.limits.entries => Err(Refusal::entries(self.limits)),
            () if repeats => self.check_depth(depth + 1).and_then(|()| self.occurrence(tag, depth + 2)),
            () => self.occurrence(tag, depth + 1),
        };
        match read {
            Ok(occurrence) => {
                occurrences.push(occurrence);
                self.place.leave();
                Ok(())
            }
            Err(refusal) => {
                if repeats {
                    self.trail.push(Step::Item(occurrences.len()));
                }
                self.trail.push(Step::Member(name));
                Err(refusal)
            }
        }
    }

    /// The element that is entered. `depth` is that of its object, if it has one.
    fn occurrence(&mut self, tag: Tag<'a>, depth: usize) -> Result<Occurrence, Refusal> {
        if tag.name == "div" && tag.space == Space::Xhtml {
            let div = narrative::read(&mut self.source, tag, self.limits)?;
            return Ok((Some(Value::String(div)), None));
        }
        check_space(&tag)?;
        match self.place.content() {
            Content::Resource => self.slot(tag, depth).map(|resource| (Some(resource), None)),
            Content::Complex => self.complex(tag, depth).map(|element| (Some(element), None)),
            Content::Primitive(shape) => self.primitive(tag, shape, depth),
        }
    }

    /// An element around a resource, such as `contained`.
    fn slot(&mut self, tag: Tag<'a>, depth: usize) -> Result<Value, Refusal> {
        let wrong = || Refusal::structure("The element holds exactly one resource and nothing else.");
        if tag.empty || tag.attributes.iter().any(|a| a.kind != AttributeKind::Namespace) {
            return Err(wrong());
        }
        let Piece::Open(inner) = self.between()? else { return Err(wrong()) };
        let resource = self.resource(inner, depth)?;
        match self.between()? {
            Piece::Close => Ok(resource),
            _ => Err(wrong()),
        }
    }

    fn complex(&mut self, tag: Tag<'a>, depth: usize) -> Result<Value, Refusal> {
        self.check_depth(depth)?;
        let [id, url, value] = attributes(&tag)?;
        if value.is_some() || (url.is_some() && !self.place.is_extension()) {
            return Err(Refusal::structure("The element has no such attribute: what it holds are elements."));
        }
        let mut fields = Map::new();
        fields.extend(id.map(|id| ("id".to_owned(), Value::String(id))));
        fields.extend(url.map(|url| ("url".to_owned(), Value::String(url))));
        if !tag.empty {
            self.children(depth, &mut fields)?;
        }
        match fields.is_empty() {
            true => Err(nothing()),
            false => Ok(Value::Object(fields)),
        }
    }

    fn primitive(&mut self, tag: Tag<'a>, shape: Shape, depth: usize) -> Result<Occurrence, Refusal> {
        let [id, url, value] = attributes(&tag)?;
        if url.is_some() {
            return Err(Refusal::structure("The element has no attribute url: only an extension has."));
        }
        if id.is_some() || !tag.empty {
            self.check_depth(depth)?;
        }
        let mut more = Map::new();
        more.extend(id.map(|id| ("id".to_owned(), Value::String(id))));
        if !tag.empty {
            self.children(depth, &mut more)?;
        }
        let value = value.map(|text| primitive::from_attribute(text, shape)).transpose()?;
        let more = (!more.is_empty()).then_some(Value::Object(more));
        match (&value, &more) {
            (None, None) => Err(nothing()),
            _ => Ok((value, more)),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), Refusal> {
        match depth > self.limits.depth.min(STACK_DEPTH) {
            true => Err(Refusal::depth(self.limits)),
            false => Ok(()),
        }
    }
}

impl Member {
    /// As JSON has it: in an element that repeats, null stands where a value or its `_` half is missing.
    fn into_fields(self, fields: &mut Map<String, Value>) {
        let (values, more): (Vec<_>, Vec<_>) = self.occurrences.into_iter().unzip();
        for (name, half) in [(self.name.clone(), values), (format!("_{}", self.name), more)] {
            if half.iter().all(Option::is_none) {
                continue;
            }
            let mut half = half.into_iter().map(Option::unwrap_or_default);
            let value = match self.repeats {
                true => Value::Array(half.collect()),
                false => half.next().unwrap_or_default(),
            };
            fields.insert(name, value);
        }
    }
}

/// The `id`, `url` and `value` of an element; any other attribute would be lost, so it is refused.
fn attributes(tag: &Tag<'_>) -> Result<[Option<String>; 3], Refusal> {
    let mut found = [None, None, None];
    for attribute in tag.attributes.iter().filter(|a| a.kind != AttributeKind::Namespace) {
        let slot = match (attribute.kind, attribute.name.as_str()) {
            (AttributeKind::Plain, "id") => 0,
            (AttributeKind::Plain, "url") => 1,
            (AttributeKind::Plain, "value") => 2,
            _ => return Err(Refusal::structure("The element has an attribute that FHIR does not know.")),
        };
        found[slot] = Some(attribute.value.clone().into_owned());
    }
    Ok(found)
}

fn check_space(tag: &Tag<'_>) -> Result<(), Refusal> {
    match (tag.space, tag.name.as_str()) {
        (Space::Fhir, "div") => Err(Refusal::structure(format!("A narrative's div is in the namespace {XHTML}."))),
        (Space::Fhir, _) => Ok(()),
        _ => Err(Refusal::structure(format!("The element is not in the namespace {FHIR}."))),
    }
}

fn nothing() -> Refusal {
    Refusal::structure("The element is empty. Leave it out.")
}
