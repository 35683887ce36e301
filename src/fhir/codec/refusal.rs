//! Why a document is not read, and where: the same words for JSON and XML.

use crate::fhir::outcome::{Invalid, InvalidKind, Issue, IssueCode};

use super::Limits;

/// No number in medicine needs more digits; a longer one costs time in every program that adds it up.
const DIGITS: usize = 64;
/// Beyond this power of ten a double holds infinity or zero. HL7's own examples go to 245.
const EXPONENT: u32 = 300;
/// Characters of one element name, and of a whole expression, that an issue repeats.
const NAME: usize = 64;
const EXPRESSION: usize = 512;

/// One step from a value to something inside it.
pub(super) enum Step {
    Member(String),
    Item(usize),
}

/// What is wrong at one place; [`Refusal::at`] adds the place.
pub(super) struct Refusal {
    kind: InvalidKind,
    code: IssueCode,
    text: String,
}

impl Refusal {
    /// Breaks the format, or FHIR's use of it.
    pub(super) fn malformed(code: IssueCode, text: impl Into<String>) -> Refusal {
        Refusal { kind: InvalidKind::Malformed, code, text: text.into() }
    }

    /// Breaks the structure of a FHIR document.
    pub(super) fn structure(text: impl Into<String>) -> Refusal {
        Refusal::malformed(IssueCode::Structure, text)
    }

    /// Over a limit.
    pub(super) fn too_large(text: impl Into<String>) -> Refusal {
        Refusal { kind: InvalidKind::TooLarge, code: IssueCode::TooLong, text: text.into() }
    }

    /// More values than [`Limits::values`].
    pub(super) fn values(limits: &Limits) -> Refusal {
        Refusal::too_large(format!(
            "The document holds more than {} values, the most this service takes at once. Send it in parts.",
            limits.values
        ))
    }

    /// Nested deeper than [`Limits::depth`].
    pub(super) fn depth(limits: &Limits) -> Refusal {
        Refusal::too_large(format!(
            "The document is nested deeper than {} levels, the most this service takes.",
            limits.depth
        ))
    }

    /// More members of `entry` than [`Limits::entries`].
    pub(super) fn entries(limits: &Limits) -> Refusal {
        Refusal::too_large(format!(
            "More than {} entries, the most this service takes at once. Send them in parts.",
            limits.entries
        ))
    }

    /// The refusal at `expression`.
    pub(super) fn at(self, expression: String) -> Invalid {
        Invalid { issues: vec![Issue::error(self.code, expression, self.text)], kind: self.kind }
    }
}

/// A FHIRPath expression for the place `steps` away from a resource of type `root`. A name is repeated only as far as
/// it looks like an element's: what somebody put where a name belongs may be anything.
pub(super) fn expression<'a>(root: &str, steps: impl Iterator<Item = &'a Step>) -> String {
    let mut said = if is_type_name(root) { root.to_owned() } else { "Resource".to_owned() };
    for step in steps {
        if said.len() > EXPRESSION {
            said.push_str("...");
            break;
        }
        match step {
            Step::Item(index) => said.push_str(&format!("[{index}]")),
            Step::Member(name) => {
                said.push('.');
                let name = name.strip_prefix('_').unwrap_or(name);
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                said.extend(name.chars().take(NAME).map(|c| if plain(c) { c } else { '?' }));
            }
        }
    }
    said
}

fn is_type_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME && name.bytes().all(|b| b.is_ascii_alphabetic())
}

/// The document as text, without its byte order mark, if it is small enough and UTF-8.
pub(super) fn text<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, Invalid> {
    if bytes.len() > limits.bytes {
        return Err(Invalid::too_large(format!(
            "The document has {} bytes; this service takes at most {}.",
            bytes.len(),
            limits.bytes
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let text = format!("The document is not UTF-8 from byte {} on. FHIR documents are UTF-8.", e.valid_up_to());
        Invalid::malformed(Issue::general(IssueCode::Structure, text))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Refuses characters that no FHIR string may hold: what XML 1.0 cannot carry, NUL first of all
/// (<https://www.w3.org/TR/xml/#charsets>; FHIR's `string` excludes the same control characters).
pub(super) fn characters(text: &str) -> Result<(), Refusal> {
    let suspect = |b: u8| b < 0x20 || b == 0xEF;
    if text.bytes().any(suspect) && text.chars().any(|c| !is_xml_character(c)) {
        return Err(Refusal::malformed(
            IssueCode::Value,
            "The text holds a control character, which FHIR does not allow (only tab, line feed and carriage return).",
        ));
    }
    Ok(())
}

fn is_xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

/// Refuses numbers that are legal to write and absurd to hold; `number` is a JSON number.
pub(super) fn number(number: &str) -> Result<(), Refusal> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    if mantissa.bytes().filter(u8::is_ascii_digit).count() > DIGITS {
        let text = format!("A number of more than {DIGITS} digits is not taken.");
        return Err(Refusal::malformed(IssueCode::Value, text));
    }
    let exponent = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    if exponent.len() > 3 || exponent.parse::<u32>().unwrap_or(0) > EXPONENT {
        let text = format!("A number with an exponent beyond {EXPONENT} is not taken.");
        return Err(Refusal::malformed(IssueCode::Value, text));
    }
    Ok(())
}
