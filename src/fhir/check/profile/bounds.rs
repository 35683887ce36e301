//! `minValue[x]` and `maxValue[x]` of an ElementDefinition.

use std::cmp::Ordering;

use serde_json::Value;

use crate::fhir::when::Interval;

/// The least and the greatest value an element may have.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    least: Option<Value>,
    most: Option<Value>,
}

impl Bounds {
    pub(super) fn read(&mut self, element: &Value) {
        let of =
            |name: &str| element.as_object()?.iter().find(|(key, _)| key.starts_with(name)).map(|(_, v)| v.clone());
        self.least = of("minValue").or(self.least.take());
        self.most = of("maxValue").or(self.most.take());
    }

    /// Which bound a value is certainly beyond, as a text, if it is.
    pub(super) fn broken_by(&self, value: &Value) -> Option<String> {
        let beyond = |bound: &Option<Value>, wrong: Ordering| {
            bound.as_ref().filter(|b| compared(value, b) == Some(wrong)).cloned()
        };
        let told = |bound: Value| match bound.get("value").unwrap_or(&bound) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if let Some(least) = beyond(&self.least, Ordering::Less) {
            return Some(format!("at least {}", told(least)));
        }
        beyond(&self.most, Ordering::Greater).map(|most| format!("at most {}", told(most)))
    }
}

/// How a value lies to a bound; nothing where they cannot be compared: other units, a year and a day within it.
fn compared(value: &Value, bound: &Value) -> Option<Ordering> {
    match (value, bound) {
        (Value::Number(value), Value::Number(bound)) => value.as_f64()?.partial_cmp(&bound.as_f64()?),
        (Value::String(value), Value::String(bound)) => {
            let (Some(value), Some(bound)) = (Interval::parse(value), Interval::parse(bound)) else {
                // Times of day, which sort as they are written.
                return (value.contains(':') && bound.contains(':')).then(|| value.cmp(bound));
            };
            if value.high <= bound.low {
                return Some(Ordering::Less);
            }
            (value.low >= bound.high).then_some(Ordering::Greater)
        }
        (Value::Object(value), Value::Object(bound)) => {
            let unit = |of: &serde_json::Map<String, Value>| (of.get("system").cloned(), of.get("code").cloned());
            (unit(value) == unit(bound)).then_some(())?;
            compared(value.get("value")?, bound.get("value")?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_compared_only_where_it_can_be() {
        for (value, bound, order) in [
            (json!(3), json!(5), Some(Ordering::Less)),
            (json!(5.5), json!(5), Some(Ordering::Greater)),
            (json!("2024-05-01"), json!("2024-06"), Some(Ordering::Less)),
            (json!("2024"), json!("2024-06-01"), None),
            (json!("2024-06-02"), json!("2024-06-01"), Some(Ordering::Greater)),
            (json!("09:30:00"), json!("10:00:00"), Some(Ordering::Less)),
            (json!({ "value": 3, "code": "kg" }), json!({ "value": 5, "code": "kg" }), Some(Ordering::Less)),
            (json!({ "value": 3, "code": "g" }), json!({ "value": 5, "code": "kg" }), None),
        ] {
            assert_eq!(compared(&value, &bound), order, "{value} {bound}");
        }
    }
}
