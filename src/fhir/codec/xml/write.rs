//! A resource to FHIR XML.

use serde_json::{Map, Value};

use crate::fhir::Resource;
use crate::fhir::codec::Limits;
use crate::fhir::codec::refusal::{self, Refusal, Step};
use crate::fhir::outcome::Invalid;

use super::STACK_DEPTH;
use super::narrative;
use super::place::{Content, Place, Shape};
use super::primitive;
use super::source::FHIR;

/// Writes a whole document.
pub(super) fn document(resource: &Resource, pretty: bool) -> Result<Vec<u8>, Invalid> {
    let out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned();
    let mut writing = Writing { out, pretty, place: Place::outside(), level: 0, trail: Vec::new() };
    match writing.resource(resource.value(), &format!(" xmlns=\"{FHIR}\"")) {
        Ok(()) => Ok(writing.out.into_bytes()),
        Err(refusal) => Err(refusal.at(refusal::expression(resource.kind(), writing.trail.iter().rev()))),
    }
}

struct Writing {
    out: String,
    pretty: bool,
    place: Place,
    /// Elements that are open.
    level: usize,
    /// The way from what is refused up to the root.
    trail: Vec<Step>,
}

impl Writing {
    fn resource(&mut self, value: &Value, namespace: &str) -> Result<(), Refusal> {
        let fields = object(value)?;
        let kind = fields.get("resourceType").and_then(Value::as_str).unwrap_or_default();
        if !Place::is_resource_type(kind) {
            return Err(Refusal::structure("The resourceType is none of R4's."));
        }
        self.place.enter_resource(kind);
        let children = fields.iter().filter(|(name, _)| *name != "resourceType");
        self.element(kind, namespace, children)?;
        self.place.leave();
        Ok(())
    }

    /// One element with the children that `members` describe.
    fn element<'v>(
        &mut self,
        name: &str,
        attributes: &str,
        members: impl Iterator<Item = (&'v String, &'v Value)>,
    ) -> Result<(), Refusal> {
        let mut halves: Vec<(&str, [Option<&Value>; 2])> = Vec::new();
        for (key, value) in members {
            let (name, half) = key.strip_prefix('_').map_or((key.as_str(), 0), |name| (name, 1));
            match halves.iter_mut().find(|(known, _)| *known == name) {
                Some((_, both)) => both[half] = Some(value),
                None if self.place.has(name) => {
                    let both = if half == 0 { [Some(value), None] } else { [None, Some(value)] };
                    halves.push((name, both));
                }
                None => {
                    self.trail.push(Step::Member(name.to_owned()));
                    return Err(Refusal::structure("R4 has no such element here, so it has no XML form."));
                }
            }
        }
        halves.sort_by_cached_key(|(name, _)| self.place.order(name));
        self.begin(name, attributes, halves.is_empty())?;
        for (child, [value, more]) in &halves {
            self.place.enter(child);
            self.occurrences(child, *value, *more)
                .inspect_err(|_| self.trail.push(Step::Member((*child).to_owned())))?;
            self.place.leave();
        }
        if !halves.is_empty() {
            self.end(name);
        }
        Ok(())
    }

    /// Every occurrence of the element that is entered.
    fn occurrences(&mut self, name: &str, value: Option<&Value>, more: Option<&Value>) -> Result<(), Refusal> {
        if !self.place.repeats() {
            return self.occurrence(name, value, more);
        }
        let (values, mores) = (items(value)?, items(more)?);
        for index in 0..values.len().max(mores.len()) {
            let (value, more) = (values.get(index), mores.get(index));
            let (value, more) = (value.filter(|v| !v.is_null()), more.filter(|m| !m.is_null()));
            self.occurrence(name, value, more).inspect_err(|_| self.trail.push(Step::Item(index)))?;
        }
        Ok(())
    }

    fn occurrence(&mut self, name: &str, value: Option<&Value>, more: Option<&Value>) -> Result<(), Refusal> {
        match (self.place.content(), value, more) {
            (_, None, None) => Err(Refusal::structure("null stands for nothing here.")),
            (_, Some(Value::String(div)), None) if name == "div" => self.div(div),
            _ if name == "div" => Err(Refusal::structure("A narrative is a text, and has no second half.")),
            (Content::Primitive(shape), ..) => self.primitive(name, shape, value, more),
            (Content::Resource, Some(resource), None) => {
                self.begin(name, "", false)?;
                self.resource(resource, "")?;
                self.end(name);
                Ok(())
            }
            (Content::Complex, Some(element), None) => self.complex(name, element),
            _ => Err(Refusal::structure("Only a single value has a second half that starts with \"_\".")),
        }
    }

    fn complex(&mut self, name: &str, element: &Value) -> Result<(), Refusal> {
        let fields = object(element)?;
        let mut attributes = attribute("id", fields.get("id"))?;
        let extension = self.place.is_extension();
        if extension {
            attributes.push_str(&attribute("url", fields.get("url"))?);
        }
        let children = fields.iter().filter(|(name, _)| *name != "id" && !(extension && *name == "url"));
        self.element(name, &attributes, children)
    }

    fn primitive(
        &mut self,
        name: &str,
        shape: Shape,
        value: Option<&Value>,
        more: Option<&Value>,
    ) -> Result<(), Refusal> {
        let more = more.map(object).transpose()?;
        let mut attributes = attribute("id", more.and_then(|more| more.get("id")))?;
        if let Some(value) = value {
            attributes.push_str(&format!(" value=\"{}\"", escaped(&primitive::to_attribute(value, shape)?)));
        }
        let none = Map::new();
        let children = more.unwrap_or(&none).iter().filter(|(name, _)| *name != "id");
        self.element(name, &attributes, children)
    }

    fn div(&mut self, div: &str) -> Result<(), Refusal> {
        refusal::characters(div)?;
        narrative::check_text(div)?;
        self.line();
        self.out.push_str(div);
        Ok(())
    }

    fn begin(&mut self, name: &str, attributes: &str, empty: bool) -> Result<(), Refusal> {
        self.line();
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str(attributes);
        self.out.push_str(if empty { "/>" } else { ">" });
        self.level += usize::from(!empty);
        match self.level > STACK_DEPTH {
            true => Err(Refusal::depth(&Limits { depth: STACK_DEPTH, ..Limits::default() })),
            false => Ok(()),
        }
    }

    fn end(&mut self, name: &str) {
        self.level -= 1;
        self.line();
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn line(&mut self) {
        if self.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", self.level));
        }
    }
}

fn object(value: &Value) -> Result<&Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| Refusal::structure("The element holds elements, so in JSON it is an object."))
}

fn items(value: Option<&Value>) -> Result<&[Value], Refusal> {
    match value {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(Refusal::structure("The element may repeat, so in JSON it is an array.")),
    }
}

/// The attribute ` name="value"`, or nothing.
fn attribute(name: &str, value: Option<&Value>) -> Result<String, Refusal> {
    match value {
        None => Ok(String::new()),
        Some(value) => Ok(format!(" {name}=\"{}\"", escaped(&primitive::to_attribute(value, Shape::Text)?))),
    }
}

/// Text as it stands in an attribute. White space other than the space is written as numbers: a parser would otherwise
/// read a space (<https://www.w3.org/TR/xml/#AVNormalize>).
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
    out
}
