//! How much of a resource an answer has: `_summary` and `_elements`
//! (<https://hl7.org/fhir/R4/search.html#summary>).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use super::error::Error;
use crate::fhir::{Invalid, Issue, IssueCode, check};

/// How much of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Whole,
    /// The elements that R4 marks for a summary.
    Summary,
    /// The narrative, and what must be there.
    Text,
    /// All but the narrative.
    Data,
    /// How many match, and none of them.
    Count,
    /// These, and what must be there.
    Elements(Arc<[String]>),
}

/// The elements of a summary, by resource type; nested ones by their path.
static SUMMARY: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
    include_str!("../../fhir-profiles/r4/summary.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.collect()))
        })
        .collect()
});

/// Elements that every part of a resource has.
const ALWAYS: [&str; 4] = ["resourceType", "id", "meta", "implicitRules"];

impl View {
    /// What a query asks for.
    pub(super) fn wanted(query: &[(String, String)]) -> Result<View, Error> {
        let of = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        match (of("_summary"), of("_elements")) {
            (None | Some("false"), None) => Ok(View::Whole),
            (Some("true"), None) => Ok(View::Summary),
            (Some("text"), None) => Ok(View::Text),
            (Some("data"), None) => Ok(View::Data),
            (Some("count"), None) => Ok(View::Count),
            (None | Some("false"), Some(elements)) => {
                let named = elements.split(',').map(str::trim).filter(|name| !name.is_empty());
                Ok(View::Elements(named.map(str::to_owned).collect()))
            }
            (Some(_), Some(_)) => Err(refuse("_elements", "Send _summary or _elements, not both.")),
            (Some(_), None) => Err(refuse("_summary", "_summary is true, text, data, count or false.")),
        }
    }

    /// As much of an answer as is asked for: of a resource, or of each match of a Bundle. `None`: it stays as it is.
    pub(super) fn of(&self, answer: &Value) -> Option<Value> {
        match (self, answer.get("resourceType").and_then(Value::as_str)?) {
            (View::Whole, _) | (_, "OperationOutcome") => None,
            (View::Count, "Bundle") => {
                let mut bundle = answer.clone();
                bundle.as_object_mut().map(|fields| fields.shift_remove("entry"));
                Some(bundle)
            }
            (View::Count, _) => None,
            (_, "Bundle") => {
                let mut bundle = answer.clone();
                for entry in bundle.get_mut("entry").and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(part) = entry.get("resource").and_then(|resource| self.of(resource)) {
                        entry["resource"] = part;
                    }
                }
                Some(bundle)
            }
            (_, kind) => Some(self.part(kind, answer.as_object()?)),
        }
    }

    fn part(&self, kind: &str, fields: &Map<String, Value>) -> Value {
        let must = check::mandatory(kind);
        let none = Vec::new();
        let summary = SUMMARY.get(kind).unwrap_or(&none);
        let wanted: Vec<&str> = match self {
            View::Elements(wanted) => wanted.iter().map(String::as_str).chain(must).collect(),
            View::Summary => summary.clone(),
            View::Text => must.into_iter().chain(["text"]).collect(),
            View::Whole | View::Data | View::Count => Vec::new(),
        };
        let mut part = Map::new();
        for (json, value) in fields {
            let element = json.strip_prefix('_').unwrap_or(json);
            let always = ALWAYS.contains(&element);
            let kept = match self {
                View::Data => element != "text",
                _ => wanted.iter().any(|name| is_named(kind, element, name)),
            };
            if always || kept {
                let value =
                    if *self == View::Summary && !always { nested(element, value, summary) } else { value.clone() };
                part.insert(json.clone(), value);
            }
        }
        tag(&mut part);
        Value::Object(part)
    }
}

/// Of a backbone element, what a summary has of it.
fn nested(element: &str, value: &Value, summary: &[&str]) -> Value {
    let below: Vec<&str> = summary.iter().filter_map(|path| path.strip_prefix(element)?.strip_prefix('.')).collect();
    match value {
        _ if below.is_empty() => value.clone(),
        Value::Array(items) => items.iter().map(|item| nested(element, item, summary)).collect(),
        Value::Object(fields) => {
            let kept = |json: &&String| {
                let name = json.strip_prefix('_').unwrap_or(json);
                name == "id" || below.iter().any(|wanted| is_choice_or_same(name, wanted))
            };
            let of = |(json, child): (&String, &Value)| (json.clone(), nested(json, child, &below));
            Value::Object(fields.iter().filter(|(json, _)| kept(json)).map(of).collect())
        }
        other => other.clone(),
    }
}

/// Whether a JSON name is this element, or a choice of it.
fn is_named(kind: &str, json: &str, name: &str) -> bool {
    json == name || is_choice_or_same(json, name) && check::has_choice(kind, name)
}

fn is_choice_or_same(json: &str, name: &str) -> bool {
    json.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// Says that it is a part, so that nobody takes it for the whole.
fn tag(part: &mut Map<String, Value>) {
    let subsetted =
        json!({ "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED" });
    let meta = part.entry("meta").or_insert_with(|| json!({}));
    match meta.get_mut("tag").and_then(Value::as_array_mut) {
        Some(tags) => tags.push(subsetted),
        None => meta["tag"] = json!([subsetted]),
    }
}

fn refuse(parameter: &str, text: &str) -> Error {
    Invalid::malformed(Issue::error(IssueCode::Invalid, parameter, text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_part_and_says_so() {
        let patient = json!({
            "resourceType": "Patient", "id": "a", "meta": { "versionId": "1" }, "text": { "status": "empty" },
            "name": [{ "family": "Testperson" }], "_birthDate": { "id": "b" }, "deceasedBoolean": false, "maritalStatus": {},
            "link": [{ "id": "l", "other": { "reference": "x" }, "type": "refer", "extension": [] }],
        });
        let names = |view: View| -> Vec<String> {
            let part = view.of(&patient).unwrap_or_default();
            assert_eq!(part["meta"]["tag"][0]["code"], "SUBSETTED");
            part.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(
            names(View::Summary),
            ["resourceType", "id", "meta", "name", "_birthDate", "deceasedBoolean", "link"]
        );
        assert_eq!(names(View::Text), ["resourceType", "id", "meta", "text"]);
        assert!(!names(View::Data).contains(&"text".to_owned()));
        let wanted = View::Elements(["name".to_owned(), "deceased".to_owned()].into());
        assert_eq!(names(wanted), ["resourceType", "id", "meta", "name", "deceasedBoolean"]);
        let part = View::Summary.of(&patient).unwrap_or_default();
        assert_eq!(part["link"], json!([{ "id": "l", "other": { "reference": "x" }, "type": "refer" }]));
        assert_eq!(View::Whole.of(&patient), None);
        let observation = json!({ "resourceType": "Observation", "status": "final", "code": {}, "note": [] });
        let part = View::Text.of(&observation).unwrap_or_default();
        assert!(part.get("status").is_some() && part.get("code").is_some() && part.get("note").is_none());
    }
}
