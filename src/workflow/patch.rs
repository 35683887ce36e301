//! A patch: a change that is sent as its steps, and made on the version that is current.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::fhir::patch::Steps;
use crate::fhir::{Invalid, Issue, IssueCode, Resource};

/// Whether a tree is a resource that would be taken if it were sent whole.
type Check = dyn Fn(Value) -> Result<Resource, Invalid> + Send + Sync;

/// The steps that were sent, and what becomes of a result.
#[derive(Clone)]
pub struct Patch {
    steps: Steps,
    check: Arc<Check>,
}

impl Patch {
    /// A patch whose result is checked as an update is.
    pub fn new(steps: Steps, check: impl Fn(Value) -> Result<Resource, Invalid> + Send + Sync + 'static) -> Patch {
        Patch { steps, check: Arc::new(check) }
    }

    /// What was sent.
    pub(super) fn sent(&self) -> &Value {
        self.steps.sent()
    }

    /// The resource after all steps; type and id stay.
    pub(super) fn apply(&self, before: &Resource) -> Result<Resource, Invalid> {
        let mut value = before.value().clone();
        self.steps.apply(&mut value)?;
        for fixed in ["resourceType", "id"] {
            if value.get(fixed) != before.value().get(fixed) {
                let text = "A patch changes neither the type nor the id of a resource.";
                return Err(Invalid::unprocessable(Issue::error(IssueCode::Value, fixed, text)));
            }
        }
        (self.check)(value)
    }
}

/// Prints that it is one: its values are patient data.
impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patch")
    }
}
