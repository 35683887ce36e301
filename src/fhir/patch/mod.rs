//! A change as the steps it is made of: JSON Patch (RFC 6902) and FHIRPath Patch
//! (<https://hl7.org/fhir/R4/fhirpatch.html>).

mod json;
mod operation;
mod place;

use std::sync::Arc;

use serde_json::Value;

use super::codec::{Limits, read_json_patch};
use super::{Invalid, Issue, IssueCode, Resource};

/// The steps of a patch, as they were sent.
#[derive(Clone)]
pub struct Steps {
    language: Language,
    sent: Arc<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Json,
    Fhirpath,
}

/// Steps that one patch takes at most.
const STEPS: usize = 1000;
/// Values that the steps of a patch copy and move at most: `copy` can double a resource with every step.
const MOVED: usize = 500_000;

impl Steps {
    /// Reads a JSON Patch document: an array of operations.
    pub fn json(bytes: &[u8], limits: &Limits) -> Result<Steps, Invalid> {
        // No array of a resource is empty, and the reader refuses one.
        if matches!(bytes.trim_ascii(), [b'[', between @ .., b']'] if between.trim_ascii().is_empty()) {
            return Steps::new(Language::Json, Value::Array(Vec::new()));
        }
        match read_json_patch(bytes, limits)? {
            operations @ Value::Array(_) => Steps::new(Language::Json, operations),
            _ => Err(refused("Patch", "A JSON Patch is an array of operations, each with op and path.")),
        }
    }

    /// Takes the Parameters of a FHIRPath Patch.
    pub fn fhirpath(parameters: Resource) -> Result<Steps, Invalid> {
        let operations =
            parameters.into_value().get_mut("parameter").map(Value::take).unwrap_or(Value::Array(Vec::new()));
        Steps::new(Language::Fhirpath, operations)
    }

    fn new(language: Language, operations: Value) -> Result<Steps, Invalid> {
        if operations.as_array().is_some_and(|all| all.len() > STEPS) {
            return Err(Invalid::too_large(format!("A patch takes at most {STEPS} operations. Send less at once.")));
        }
        Ok(Steps { language, sent: Arc::new(operations) })
    }

    /// The operations as they were sent.
    pub fn sent(&self) -> &Value {
        &self.sent
    }

    /// Makes every step on a resource. One that cannot be made is named by its place in the patch, and then nothing of
    /// `value` is of use.
    pub fn apply(&self, value: &mut Value) -> Result<(), Invalid> {
        let mut moved = 0;
        for (at, operation) in self.sent.as_array().into_iter().flatten().enumerate() {
            let done = match self.language {
                Language::Json => json::apply(value, operation).map_err(str::to_owned),
                Language::Fhirpath => operation::apply(value, operation).map(|()| 0),
            };
            let place = match self.language {
                Language::Json => format!("Patch.operation[{at}]"),
                Language::Fhirpath => format!("Parameters.parameter[{at}]"),
            };
            moved += done.map_err(|why| refused(&place, why))?;
            if moved > MOVED {
                return Err(Invalid::too_large(
                    "The patched resource would be too large. Send it whole, or less of it.",
                ));
            }
        }
        Ok(())
    }
}

fn refused(place: &str, why: impl Into<String>) -> Invalid {
    Invalid::unprocessable(Issue::error(IssueCode::Processing, place, why))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;
