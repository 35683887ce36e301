//! The values of primitive elements, between an XML attribute and JSON.

use serde_json::{Number, Value};

use crate::fhir::codec::refusal::{self, Refusal};
use crate::fhir::outcome::IssueCode;

use super::place::Shape;

/// The JSON value of an attribute. Text is kept as it is. A boolean or number that JSON cannot write the same way
/// (`TRUE`, `007`, `.5`) would be lost or changed, so it is refused.
pub(super) fn from_attribute(text: String, shape: Shape) -> Result<Value, Refusal> {
    let wrong = |what: &str| Err(Refusal::malformed(IssueCode::Value, format!("The value is not {what}.")));
    match shape {
        Shape::Text => Ok(Value::String(text)),
        Shape::Boolean => match text.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => wrong("a boolean: it is either true or false"),
        },
        Shape::Integer if !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => wrong("an integer, such as 7"),
        Shape::Integer | Shape::Decimal => {
            refusal::number(&text)?;
            match text.parse::<Number>() {
                Ok(number) => Ok(Value::Number(number)),
                Err(_) if shape == Shape::Integer => wrong("an integer, such as 7"),
                Err(_) => wrong("a decimal, such as 7.50"),
            }
        }
    }
}

/// The attribute that [`from_attribute`] reads as this very value, if there is one.
pub(super) fn to_attribute(value: &Value, shape: Shape) -> Result<String, Refusal> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => return Err(Refusal::structure("The element holds a single value, not an object or array.")),
    };
    refusal::characters(&text)?;
    match from_attribute(text.clone(), shape)? == *value {
        true => Ok(text),
        false => Err(Refusal::malformed(IssueCode::Value, "The value is of another type than R4 gives the element.")),
    }
}
