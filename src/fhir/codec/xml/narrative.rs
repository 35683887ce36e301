//! The XHTML of a narrative: checked to be well-formed and harmless to parse, otherwise kept as written.
//! Which tags and attributes it may hold is the checker's part.

use crate::fhir::codec::Limits;
use crate::fhir::codec::refusal::Refusal;

use super::STACK_DEPTH;
use super::source::{AttributeKind, Piece, Source, Space, Tag, XHTML};

/// The `div` that `tag` opens, as text: word for word where it says its namespace itself and uses no prefixes, with
/// names rewritten where it does not.
pub(super) fn read(source: &mut Source<'_>, tag: Tag<'_>, limits: &Limits) -> Result<String, Refusal> {
    let start = tag.start;
    let mut verbatim = tag.attributes.iter().any(|a| a.name == "xmlns");
    let mut rebuilt = String::new();
    let mut open: Vec<String> = Vec::new();
    let mut piece = Piece::Open(tag);
    loop {
        let before = source.offset();
        match piece {
            Piece::Open(tag) => {
                check(&tag)?;
                verbatim &= !tag.prefixed;
                write_tag(&mut rebuilt, &tag, open.is_empty());
                if !tag.empty {
                    open.push(tag.name);
                }
                if open.len() > limits.depth.min(STACK_DEPTH) {
                    return Err(Refusal::depth(limits));
                }
            }
            Piece::Close => {
                let name = open.pop().unwrap_or_default();
                rebuilt.push_str(&format!("</{name}>"));
            }
            Piece::End => return Err(Refusal::structure("The narrative ends too early.")),
            Piece::Text(_) | Piece::Comment => {}
        }
        if open.is_empty() {
            break;
        }
        piece = source.next()?;
        if matches!(piece, Piece::Text(_) | Piece::Comment) {
            rebuilt.push_str(source.slice(before, source.offset()));
        }
    }
    match verbatim {
        true => Ok(source.slice(start, source.offset()).to_owned()),
        false => Ok(rebuilt),
    }
}

/// Refuses a text that is not one well-formed `div` in the XHTML namespace, as [`read`] would return it.
pub(super) fn check_text(div: &str) -> Result<(), Refusal> {
    let limits = Limits { depth: STACK_DEPTH, values: usize::MAX, ..Limits::default() };
    let mut source = Source::new(div, &limits);
    let wrong = || {
        Refusal::structure(format!(
            "The narrative is not one well-formed <div xmlns=\"{XHTML}\">, so it has no XML form."
        ))
    };
    let Piece::Open(tag) = source.next()? else { return Err(wrong()) };
    if tag.name != "div" || read(&mut source, tag, &limits)? != div {
        return Err(wrong());
    }
    Ok(())
}

fn check(tag: &Tag<'_>) -> Result<(), Refusal> {
    if tag.space != Space::Xhtml {
        return Err(Refusal::structure(format!("The narrative holds an element outside the namespace {XHTML}.")));
    }
    if tag.attributes.iter().any(|a| matches!(a.kind, AttributeKind::Other | AttributeKind::Schema)) {
        return Err(Refusal::structure("The narrative holds an attribute of another namespace."));
    }
    Ok(())
}

fn write_tag(out: &mut String, tag: &Tag<'_>, root: bool) {
    out.push('<');
    out.push_str(&tag.name);
    if root {
        out.push_str(&format!(" xmlns=\"{XHTML}\""));
    }
    for attribute in tag.attributes.iter().filter(|a| a.kind != AttributeKind::Namespace) {
        out.push_str(&format!(" {}=\"{}\"", attribute.name, super::write::escaped(&attribute.value)));
    }
    out.push_str(if tag.empty { "/>" } else { ">" });
}
