//! What an operation was given: in the URL, in a Parameters resource, or in both.

use serde_json::{Value, json};

use super::Operation;
use crate::api::conditions::lenient;
use crate::api::error::Error;
use crate::api::format::{SHAPING, read};
use crate::api::state::Call;
use crate::fhir::{Invalid, Issue, IssueCode, path};

/// The parameters of one call, all of them known to the operation.
pub(in crate::api) struct Inputs(Vec<Value>);

/// Whether a body carries no parameters, as clients send one that have none: left out, empty, or null.
fn says_nothing(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), b"" | b"{}" | b"null")
}

impl Inputs {
    /// Reads the query, and the body where there is one.
    pub(in crate::api) fn read(call: &Call, operation: &Operation, body: &[u8]) -> Result<Inputs, Error> {
        let mut inputs = Inputs::of_query(call, operation)?;
        if !says_nothing(body) {
            let (resource, _) = read(call, body)?;
            if resource.kind() != "Parameters" {
                let text = "This operation takes a Parameters resource.";
                return Err(Invalid::malformed(Issue::error(IssueCode::Invalid, "resourceType", text)).into());
            }
            inputs.add(call, operation, resource.value())?;
        }
        Ok(inputs)
    }

    /// Reads the query alone.
    pub(in crate::api) fn of_query(call: &Call, operation: &Operation) -> Result<Inputs, Error> {
        let given = call.query.iter().filter(|(name, _)| !SHAPING.contains(&name.as_str()));
        let parameters = given.map(|(name, value)| json!({ "name": name, "valueString": value })).collect();
        let inputs = Inputs(parameters);
        inputs.known(call, operation)?;
        Ok(inputs)
    }

    /// Adds those of a Parameters resource.
    pub(in crate::api) fn add(&mut self, call: &Call, operation: &Operation, body: &Value) -> Result<(), Error> {
        self.0.extend(path::all(body, "parameter").into_iter().cloned());
        self.known(call, operation)
    }

    /// Refuses what the operation does not know: passed over, it would be taken for heeded.
    fn known(&self, call: &Call, operation: &Operation) -> Result<(), Error> {
        let name = |parameter: &Value| path::text(parameter, "name").unwrap_or_default().to_owned();
        let foreign = |parameter: &&Value| !operation.takes.iter().any(|(known, _)| *known == name(parameter));
        match self.0.iter().find(foreign).filter(|_| !lenient(call)) {
            None => Ok(()),
            Some(_) => {
                let known: Vec<&str> = operation.takes.iter().map(|(known, _)| *known).collect();
                let known = if known.is_empty() { "no parameters".to_owned() } else { known.join(", ") };
                let text = format!(
                    "${} takes {known}. Leave the others out, or send Prefer: handling=lenient to have them passed over.",
                    operation.name
                );
                Err(Invalid::malformed(Issue::error(IssueCode::NotSupported, "Parameters.parameter", text)).into())
            }
        }
    }

    /// Every parameter of this name.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |p| path::text(p, "name") == Some(name))
    }

    /// The parameter of this name, which is given once.
    fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a Value>, Error> {
        let mut named = self.named(name);
        match (named.next(), named.next()) {
            (one, None) => Ok(one),
            (_, Some(_)) => Err(wrong(name, "is given once")),
        }
    }

    /// Every text of this name, whatever simple type it was sent as.
    pub(in crate::api) fn texts<'a>(&'a self, name: &'a str) -> Result<Vec<&'a str>, Error> {
        self.named(name).map(|p| simple(p).and_then(Value::as_str).ok_or_else(|| wrong(name, "is a text"))).collect()
    }

    /// A text, whatever simple type it was sent as.
    pub(in crate::api) fn text<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Error> {
        self.one(name)?;
        Ok(self.texts(name)?.pop())
    }

    /// A whole number from 0 on.
    pub(in crate::api) fn count(&self, name: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.one(name)?.and_then(simple) else { return Ok(None) };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().map(Some).map_err(|_| wrong(name, "is a whole number from 0 on"))
    }

    /// True or false; false where it is not given.
    pub(in crate::api) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.one(name)?.and_then(simple) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(wrong(name, "is true or false")),
        }
    }

    /// A value of this datatype: `Coding` is `valueCoding`.
    pub(in crate::api) fn value<'a>(&'a self, name: &'a str, of_type: &str) -> Result<Option<&'a Value>, Error> {
        let Some(parameter) = self.one(name)? else { return Ok(None) };
        let value = parameter.get(format!("value{of_type}"));
        value.map(Some).ok_or_else(|| wrong(name, &format!("is sent as value{of_type}, in a Parameters resource")))
    }

    /// A resource.
    pub(in crate::api) fn resource<'a>(&'a self, name: &'a str) -> Result<Option<&'a Value>, Error> {
        let Some(parameter) = self.one(name)? else { return Ok(None) };
        parameter
            .get("resource")
            .map(Some)
            .ok_or_else(|| wrong(name, "is sent as a resource, in a Parameters resource"))
    }

    /// Every reference of this name.
    pub(in crate::api) fn references(&self, name: &str) -> Result<Vec<String>, Error> {
        let reference = |p: &Value| path::text(p, "valueReference.reference").map(str::to_owned);
        self.named(name)
            .map(|p| reference(p).ok_or_else(|| wrong(name, "is a valueReference with a reference")))
            .collect()
    }
}

/// The value of a parameter of a simple type.
fn simple(parameter: &Value) -> Option<&Value> {
    let fields = parameter.as_object()?;
    let (_, value) = fields.iter().find(|(key, _)| key.starts_with("value"))?;
    (!value.is_object()).then_some(value)
}

/// A parameter that is missing: `what` says how to send it.
pub(in crate::api) fn missing(name: &str, what: &str) -> Error {
    let text = format!("The parameter {name} is missing. Send it as {what}.");
    Invalid::unprocessable(Issue::error(IssueCode::Required, place(name), text)).into()
}

fn wrong(name: &str, rule: &str) -> Error {
    let text = format!("The parameter {name} {rule}.");
    Invalid::unprocessable(Issue::error(IssueCode::Invalid, place(name), text)).into()
}

/// Where a parameter stands.
pub(in crate::api) fn place(name: &str) -> String {
    format!("Parameters.parameter.where(name='{name}').value")
}
