//! One resource as a value: what was sent, in order, decimals to the digit.

use std::fmt;

use serde_json::{Map, Value};

use super::outcome::{Invalid, Issue, IssueCode};
use super::path;

/// A FHIR resource: a JSON object with a `resourceType`. Nothing is normalised, so what was sent is what is served.
#[derive(Clone, PartialEq)]
pub struct Resource {
    fields: Value,
}

impl Resource {
    /// Takes a JSON object that says its `resourceType`.
    pub fn from_value(fields: Value) -> Result<Resource, Invalid> {
        match fields.get("resourceType") {
            Some(Value::String(kind)) if !kind.is_empty() => Ok(Resource { fields }),
            _ => Err(Invalid::malformed(Issue::error(
                IssueCode::Structure,
                "resourceType",
                "A FHIR resource is a JSON object with a resourceType, for example \"ServiceRequest\".",
            ))),
        }
    }

    /// The resource type, e.g. `ServiceRequest`.
    pub fn kind(&self) -> &str {
        self.fields["resourceType"].as_str().unwrap_or_default()
    }

    /// The logical id, where there is one.
    pub fn id(&self) -> Option<&str> {
        self.fields.get("id").and_then(Value::as_str)
    }

    /// `Type/id`; the id is empty where there is none.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind(), self.id().unwrap_or_default())
    }

    /// All fields.
    pub fn value(&self) -> &Value {
        &self.fields
    }

    /// All fields, to change. The caller leaves `resourceType` alone.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.fields
    }

    /// The fields as a map, to change.
    pub fn map_mut(&mut self) -> &mut Map<String, Value> {
        self.fields.as_object_mut().expect("a Resource is always an object")
    }

    /// Gives the fields back.
    pub fn into_value(self) -> Value {
        self.fields
    }

    /// Every value at a dotted path, through arrays: `identifier.value`.
    pub fn all<'a>(&'a self, dotted: &str) -> Vec<&'a Value> {
        path::all(&self.fields, dotted)
    }

    /// The first string at a dotted path.
    pub fn text<'a>(&'a self, dotted: &str) -> Option<&'a str> {
        path::text(&self.fields, dotted)
    }

    /// The value of the first identifier with this system.
    pub fn identifier(&self, system: &str) -> Option<&str> {
        self.all("identifier")
            .into_iter()
            .find(|i| i.get("system").and_then(Value::as_str) == Some(system))
            .and_then(|i| i.get("value").and_then(Value::as_str))
    }

    /// Whether `meta.tag` carries this flag of ours.
    pub fn has_flag(&self, code: &str) -> bool {
        self.all("meta.tag").into_iter().any(|tag| {
            path::text(tag, "system") == Some(super::systems::REFERRAL_FLAG) && path::text(tag, "code") == Some(code)
        })
    }

    /// Whether a CodeableConcept (or list of them) at `dotted` carries this coding.
    pub fn has_coding(&self, dotted: &str, system: &str, code: &str) -> bool {
        self.all(&format!("{dotted}.coding")).into_iter().any(|c| {
            c.get("system").and_then(Value::as_str) == Some(system)
                && c.get("code").and_then(Value::as_str) == Some(code)
        })
    }
}

/// Prints type and id only: a resource is patient data.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reference())
    }
}
