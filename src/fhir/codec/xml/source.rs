//! XML as FHIR allows it: a declaration, elements, their attributes, comments, and text in the narrative.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::errors::Error;
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

use crate::fhir::codec::Limits;
use crate::fhir::codec::refusal::{self, Refusal};
use crate::fhir::outcome::IssueCode;

pub(super) const FHIR: &str = "http://hl7.org/fhir";
pub(super) const XHTML: &str = "http://www.w3.org/1999/xhtml";
const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// FHIR elements have three attributes, XHTML elements about ten.
const ATTRIBUTES: usize = 32;

/// One piece of the document.
pub(super) enum Piece<'a> {
    Open(Tag<'a>),
    Close,
    Text(Cow<'a, str>),
    Comment,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Fhir,
    Xhtml,
    Other,
}

/// An opening tag, its attributes checked and read.
pub(super) struct Tag<'a> {
    pub(super) space: Space,
    pub(super) name: String,
    /// Whether the name came with a namespace prefix.
    pub(super) prefixed: bool,
    /// Whether it closes itself.
    pub(super) empty: bool,
    pub(super) attributes: Vec<Attribute<'a>>,
    /// Where in the text it starts.
    pub(super) start: usize,
}

pub(super) struct Attribute<'a> {
    pub(super) name: String,
    pub(super) value: Cow<'a, str>,
    pub(super) kind: AttributeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttributeKind {
    Plain,
    /// `xmlns` and `xmlns:prefix`.
    Namespace,
    /// `xsi:schemaLocation` and its like: where a schema is, which says nothing about the resource.
    Schema,
    /// `xml:lang` and its like.
    Xml,
    Other,
}

/// Reads a document piece by piece and counts what it reads.
pub(super) struct Source<'a> {
    xml: NsReader<&'a [u8]>,
    text: &'a str,
    limits: &'a Limits,
    values: usize,
    /// The name of the tag that is being read, or that could not be.
    opening: Option<String>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, limits: &'a Limits) -> Source<'a> {
        let mut xml = NsReader::from_str(text);
        xml.config_mut().check_comments = true;
        Source { xml, text, limits, values: 0, opening: None }
    }

    /// The text between two offsets.
    pub(super) fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// How far the document is read, in bytes.
    pub(super) fn offset(&self) -> usize {
        usize::try_from(self.xml.buffer_position()).unwrap_or(usize::MAX)
    }

    /// The name of the tag that was refused, if [`Source::next`] refused one.
    pub(super) fn refused_tag(&mut self) -> Option<String> {
        self.opening.take()
    }

    /// The next piece. What is around it in the tree is the caller's to check; tags that do not match are refused here.
    pub(super) fn next(&mut self) -> Result<Piece<'a>, Refusal> {
        let start = self.offset();
        match self.xml.read_event() {
            Ok(Event::Start(tag)) => self.open(tag, start, false).map(Piece::Open),
            Ok(Event::Empty(tag)) => self.open(tag, start, true).map(Piece::Open),
            Ok(Event::End(_)) => Ok(Piece::Close),
            Ok(Event::Text(text)) if text.contains("]]>") => Err(self.malformed("text holds \"]]>\"")),
            Ok(Event::Text(text)) => Ok(Piece::Text(text.into_inner())),
            Ok(Event::CData(text)) => Ok(Piece::Text(text.into_inner())),
            Ok(Event::GeneralRef(reference)) => match reference.resolve_char_ref() {
                Ok(Some(c)) => Ok(Piece::Text(character(c)?.into())),
                Ok(None) if is_predefined(&reference) => Ok(Piece::Text("&".into())),
                _ => Err(entity()),
            },
            Ok(Event::Comment(_)) => Ok(Piece::Comment),
            Ok(Event::Decl(declaration)) => self.declaration(&declaration, start).and_then(|()| self.next()),
            Ok(Event::DocType(_)) => Err(Refusal::malformed(
                IssueCode::Security,
                "The document has a DOCTYPE, which FHIR XML does not allow. Send it without.",
            )),
            Ok(Event::PI(_)) => Err(Refusal::malformed(
                IssueCode::Security,
                "The document has a processing instruction, which FHIR XML does not allow. Send it without.",
            )),
            Ok(Event::Eof) => Ok(Piece::End),
            Err(error) => Err(self.malformed(&reason(&error))),
        }
    }

    fn declaration(&self, declaration: &BytesDecl<'_>, start: usize) -> Result<(), Refusal> {
        let version = declaration.version().is_ok_and(|v| v == "1.0");
        let encoding = match declaration.encoding() {
            None => true,
            Some(name) => name.is_ok_and(|n| n.eq_ignore_ascii_case("utf-8")),
        };
        match start == 0 && version && encoding {
            true => Ok(()),
            false => Err(Refusal::structure("The XML declaration belongs first, and says version 1.0 and UTF-8.")),
        }
    }

    fn open(&mut self, tag: BytesStart<'a>, start: usize, empty: bool) -> Result<Tag<'a>, Refusal> {
        self.count()?;
        let qualified = tag.name();
        let (space, name) = self.xml.resolver().resolve_element(qualified);
        let space = match space {
            ResolveResult::Bound(Namespace(FHIR)) => Space::Fhir,
            ResolveResult::Bound(Namespace(XHTML)) => Space::Xhtml,
            _ => Space::Other,
        };
        let (name, prefixed) = (name.into_inner().to_owned(), qualified.prefix().is_some());
        self.opening = Some(name.clone());
        if !is_name(&name) {
            return Err(self.malformed("the name of an element holds characters that no name has"));
        }
        let attributes = self.attributes(&tag)?;
        self.opening = None;
        Ok(Tag { space, name, prefixed, empty, attributes, start })
    }

    fn attributes(&mut self, tag: &BytesStart<'a>) -> Result<Vec<Attribute<'a>>, Refusal> {
        if !is_spaced(tag.attributes_raw()) {
            return Err(self.malformed("an attribute is not written as name=\"value\""));
        }
        let mut attributes = Vec::new();
        for attribute in tag.attributes() {
            self.count()?;
            let attribute = attribute.map_err(|e| self.malformed(&reason(&e.into())))?;
            if attributes.len() == ATTRIBUTES {
                return Err(Refusal::too_large(format!("The element has more than {ATTRIBUTES} attributes.")));
            }
            let name = attribute.key.into_inner().to_owned();
            if !is_name(&name.replacen(':', "", 1)) {
                return Err(self.malformed("the name of an attribute holds characters that no name has"));
            }
            if attribute.value.contains('<') {
                return Err(self.malformed("an attribute holds \"<\""));
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| entity())?;
            refusal::characters(&value)?;
            let kind = self.kind(&attribute);
            attributes.push(Attribute { name, value: Cow::Owned(value.into_owned()), kind });
        }
        Ok(attributes)
    }

    fn kind(&self, attribute: &quick_xml::events::attributes::Attribute<'_>) -> AttributeKind {
        if attribute.key.as_namespace_binding().is_some() {
            return AttributeKind::Namespace;
        }
        match self.xml.resolver().resolve_attribute(attribute.key) {
            (ResolveResult::Unbound, _) => AttributeKind::Plain,
            (ResolveResult::Bound(Namespace(SCHEMA_INSTANCE)), name)
                if matches!(name.into_inner(), "schemaLocation" | "noNamespaceSchemaLocation") =>
            {
                AttributeKind::Schema
            }
            (ResolveResult::Bound(_), _) if attribute.key.into_inner().starts_with("xml:") => AttributeKind::Xml,
            _ => AttributeKind::Other,
        }
    }

    fn count(&mut self) -> Result<(), Refusal> {
        self.values += 1;
        match self.values > self.limits.values {
            true => Err(Refusal::values(self.limits)),
            false => Ok(()),
        }
    }

    /// Not well-formed. `reason` is a text of ours or of the parser, never of the document.
    fn malformed(&self, reason: &str) -> Refusal {
        let read = self.text.get(..self.offset()).unwrap_or(self.text);
        let line = read.bytes().filter(|b| *b == b'\n').count() + 1;
        Refusal::structure(format!("The document is not readable as XML, near line {line}: {reason}."))
    }
}

/// The parser's reason without what it quotes from the document.
fn reason(error: &Error) -> String {
    match error {
        Error::Syntax(error) => error.to_string(),
        Error::IllFormed(_) => "an opening and a closing tag do not match, or something is left open".to_owned(),
        Error::InvalidAttr(_) => "an attribute is there twice or not written as name=\"value\"".to_owned(),
        Error::Namespace(_) => "a namespace is not declared as it should be".to_owned(),
        _ => "it breaks the rules of XML".to_owned(),
    }
}

fn entity() -> Refusal {
    Refusal::malformed(
        IssueCode::Security,
        "An entity is used that XML does not define. Only &lt; &gt; &amp; &quot; &apos; and character numbers are.",
    )
}

fn character(c: char) -> Result<String, Refusal> {
    let text = c.to_string();
    refusal::characters(&text).map(|()| text)
}

fn is_predefined(reference: &str) -> bool {
    matches!(reference, "lt" | "gt" | "amp" | "quot" | "apos")
}

/// Every element and attribute of FHIR and XHTML has such a name.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Whether white space stands before every attribute: the parser does not insist, and the narrative is kept as written.
fn is_spaced(attributes: &str) -> bool {
    let mut rest = attributes;
    while !rest.trim_start_matches(WHITE_SPACE).is_empty() {
        let Some((_, value)) = rest.strip_prefix(WHITE_SPACE).and_then(|r| r.split_once('=')) else {
            return false;
        };
        let value = value.trim_start_matches(WHITE_SPACE);
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return false };
        let Some((_, after)) = value.get(1..).and_then(|v| v.split_once(quote)) else { return false };
        rest = after;
    }
    true
}
