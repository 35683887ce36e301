//! FHIR XML to a resource and back.
//!
//! The R4 element tables are fhirbolt's (`fhirbolt_shared::path`): which elements a type has and in which order, which
//! repeat, which are booleans and numbers. Its own XML reader and writer are not used. On quick-xml 0.25 they take
//! quadratic time over attributes (RUSTSEC-2026-0194, RUSTSEC-2026-0195), and they drop what they do not expect
//! unsaid: the attributes of the narrative's `div`, white space between its words, comments and CDATA in it, unknown
//! attributes, whatever follows the root. A current quick-xml reads the bytes here, and every one of those is kept or
//! refused.

mod narrative;
mod place;
mod primitive;
mod read;
mod source;
mod write;

use std::panic::catch_unwind;

use crate::fhir::Resource;
use crate::fhir::outcome::{Invalid, Issue, IssueCode};

use super::Limits;

/// Levels of nesting below which neither direction uses up its stack.
const STACK_DEPTH: usize = 126;

/// Reads one FHIR XML document into what its JSON twin would be (<https://hl7.org/fhir/R4/xml.html>). Comments outside
/// the narrative go; `xsi:schemaLocation` on the root goes; nothing else does. The narrative is kept as written.
///
/// Refuses ([`Invalid`] of one issue, naming the element) with [`InvalidKind::TooLarge`] what is over a limit, and
/// with [`InvalidKind::Malformed`]: what is not well-formed or not UTF-8, a DOCTYPE, entities other than XML's five,
/// processing instructions, elements in a wrong namespace or unknown to R4, attributes FHIR does not know, text
/// between elements, an element twice that may be there once, an element without content, booleans and numbers that
/// JSON could not hold as such.
///
/// [`InvalidKind::TooLarge`]: crate::fhir::outcome::InvalidKind::TooLarge
/// [`InvalidKind::Malformed`]: crate::fhir::outcome::InvalidKind::Malformed
pub fn read_xml(bytes: &[u8], limits: &Limits) -> Result<Resource, Invalid> {
    unwinding(|| read::document(bytes, limits))
}

/// Writes the resource as FHIR XML, elements in the order the specification gives them; on one line, or indented
/// where `pretty` (the narrative stays as it is).
///
/// Refuses what FHIR XML has no form for, and what [`read_xml`] would not read back as it was: an element unknown to
/// R4, a value of another type than R4 gives the element, a narrative that is not well-formed XHTML. Two things change
/// their form and not their meaning: the halves of a repeating value (`given`, `_given`) come back equally long, and
/// a carriage return in the narrative as the line feed that XML reads. A resource that
/// passed the check of its structure is refused for its narrative only.
pub fn write_xml(resource: &Resource, pretty: bool) -> Result<Vec<u8>, Invalid> {
    unwinding(|| write::document(resource, pretty))
}

/// Belt and braces around two libraries fed from the network: a panic in them becomes a refusal of this document.
fn unwinding<T>(work: impl FnOnce() -> Result<T, Invalid> + std::panic::UnwindSafe) -> Result<T, Invalid> {
    catch_unwind(work).unwrap_or_else(|_| {
        let text = "The document could not be converted between XML and JSON. Send it as JSON.";
        Err(Invalid::malformed(Issue::general(IssueCode::Exception, text)))
    })
}

#[cfg(test)]
mod tests;
