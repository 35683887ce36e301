//! Required value sets: the codes R4 lists and no others.

use serde_json::Value;

use super::place::{Findings, Place};
use super::tables::ValueSet;
use crate::fhir::IssueCode;

/// Whether a code, Coding or CodeableConcept is in the value set its element requires.
pub(super) fn check(set: &ValueSet, of_type: &str, value: &Value, at: &Place<'_>, found: &mut Findings) {
    let right = match of_type {
        "CodeableConcept" => concept_in(set, value),
        "Coding" => coding_in(set, value),
        _ => value.as_str().is_none_or(|code| set.has_code(code)),
    };
    if right {
        return;
    }
    let text = match set.told() {
        Some(codes) => format!("{} must be one of: {codes}.", at.name()),
        None => format!("{} must be a code of the R4 value set {}.", at.name(), set.name),
    };
    found.error(IssueCode::CodeInvalid, at, text);
}

/// One coding of a concept must be in the set; a concept of extensions only says why there is no code.
fn concept_in(set: &ValueSet, concept: &Value) -> bool {
    match concept.get("coding").and_then(Value::as_array) {
        Some(codings) => codings.iter().any(|coding| coding_in(set, coding)),
        None => concept.get("text").is_none(),
    }
}

fn coding_in(set: &ValueSet, coding: &Value) -> bool {
    let text = |name| coding.get(name).and_then(Value::as_str);
    match (text("system"), text("code")) {
        (Some(system), Some(code)) => set.has_coding(system, code),
        (None, Some(code)) => set.has_code(code),
        (_, None) => false,
    }
}
