//! Search in a practice's record: the few parameters that a GP system of this kind offers.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::record::{Record, token};
use super::refusal::Refusal;
use crate::fhir::{IssueCode, path};

/// The search parameters offered; the CapabilityStatement lists the same.
pub(super) const OFFERED: [(&str, &str); 8] = [
    ("_id", "token"),
    ("_tag", "token"),
    ("identifier", "token"),
    ("patient", "reference"),
    ("subject", "reference"),
    ("target", "reference"),
    ("birthdate", "date"),
    ("family", "string"),
];

/// Name and value pairs of a query string or form.
pub(super) type Pairs = Vec<(String, String)>;

/// Reads `a=b&c=d`, percent-decoded.
pub(super) fn pairs(query: &str) -> Pairs {
    let query = query.trim_start_matches('?');
    let url = reqwest::Url::parse(&format!("http://practice.example/?{query}"));
    url.map(|u| u.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// The resources of a type that meet every parameter. A parameter that is not offered is refused, because leaving it
/// out would answer more than was asked for.
pub(super) fn find<'r>(record: &'r Record, kind: &str, asked: &Pairs) -> Result<Vec<&'r Value>, Refusal> {
    let mut found = match asked.iter().find(|(name, value)| name == "identifier" && is_exact(value)) {
        Some((_, value)) => record.identified(kind, value),
        None => record.all(kind),
    };
    for (name, value) in asked {
        let (name, modifier) = name.split_once(':').map_or((name.as_str(), None), |(n, m)| (n, Some(m)));
        if matches!(name, "_count" | "_format") {
            continue;
        }
        if !is_offered(name, modifier) {
            let text = format!("Search by \"{name}\" is not offered here; /metadata lists what is.");
            return Err(Refusal::general(StatusCode::BAD_REQUEST, IssueCode::NotSupported, text));
        }
        found.retain(|resource| value.split(',').any(|one| meets(resource, name, modifier, one)));
    }
    Ok(found)
}

/// The searchset Bundle of `found`, cut at `_count` where that was asked for.
pub(super) fn searchset(base: &str, link: &str, found: &[&Value], asked: &Pairs) -> Value {
    let count = asked.iter().find(|(name, _)| name == "_count").and_then(|(_, n)| n.parse().ok());
    let entry: Vec<Value> = found
        .iter()
        .take(count.unwrap_or(usize::MAX))
        .map(|resource| {
            let url = format!("{base}/{}", reference_to(resource));
            json!({ "fullUrl": url, "resource": resource, "search": { "mode": "match" } })
        })
        .collect();
    let mut bundle = json!({
        "resourceType": "Bundle",
        "type": "searchset",
        "total": found.len(),
        "link": [{ "relation": "self", "url": link }],
    });
    if !entry.is_empty() {
        bundle["entry"] = Value::Array(entry);
    }
    bundle
}

/// `Type/id` of a stored resource.
pub(super) fn reference_to(resource: &Value) -> String {
    let part = |field: &str| resource.get(field).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", part("resourceType"), part("id"))
}

fn is_exact(value: &str) -> bool {
    !value.contains(',') && value.split_once('|').is_some_and(|(s, v)| !s.is_empty() && !v.is_empty())
}

fn is_offered(name: &str, modifier: Option<&str>) -> bool {
    OFFERED.iter().any(|(offered, kind)| {
        *offered == name && (modifier.is_none() || (*kind == "reference" && modifier == Some("identifier")))
    })
}

fn meets(resource: &Value, name: &str, modifier: Option<&str>, value: &str) -> bool {
    match name {
        "_id" => path::text(resource, "id") == Some(value),
        "_tag" => path::all(resource, "meta.tag").into_iter().any(|tag| coding_meets(tag, value)),
        "identifier" => path::all(resource, "identifier").into_iter().any(|i| identifier_meets(i, value)),
        "birthdate" => path::text(resource, "birthDate") == Some(value),
        "family" => path::all(resource, "name.family").into_iter().any(|f| begins_with(f, value)),
        "patient" => refers(resource, &["subject", "patient"], modifier, value),
        other => refers(resource, &[other], modifier, value),
    }
}

fn begins_with(name: &Value, value: &str) -> bool {
    name.as_str().is_some_and(|n| n.to_lowercase().starts_with(&value.to_lowercase()))
}

fn coding_meets(coding: &Value, value: &str) -> bool {
    let part = |field: &str| coding.get(field).and_then(Value::as_str).unwrap_or_default();
    match value.split_once('|') {
        Some((system, "")) => part("system") == system,
        Some((system, code)) => part("system") == system && part("code") == code,
        None => part("code") == value,
    }
}

fn identifier_meets(identifier: &Value, value: &str) -> bool {
    let part = |field: &str| identifier.get(field).and_then(Value::as_str).unwrap_or_default();
    match value.split_once('|') {
        Some((system, "")) => part("system") == system,
        Some(_) => token(identifier) == value,
        None => part("value") == value,
    }
}

fn refers(resource: &Value, elements: &[&str], modifier: Option<&str>, value: &str) -> bool {
    let references = elements.iter().flat_map(|element| path::all(resource, element));
    if modifier == Some("identifier") {
        return references.filter_map(|r| r.get("identifier")).any(|i| identifier_meets(i, value));
    }
    let wanted = value.rsplit_once("/fhir/").map_or(value, |(_, relative)| relative);
    references.filter_map(|r| r.get("reference").and_then(Value::as_str)).any(|said| {
        let said = said.rsplit_once("/fhir/").map_or(said, |(_, relative)| relative);
        said == wanted || (!wanted.contains('/') && said.rsplit('/').next() == Some(wanted))
    })
}
