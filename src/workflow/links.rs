//! References between resources: found, and pointed at what they mean.

use std::collections::HashMap;

use serde_json::Value;

use crate::fhir::{Resource, check, path};

/// Elements of the types uri, url, oid and uuid in which entries of a Bundle name each other by their fullUrl
/// (<https://hl7.org/fhir/R4/http.html#trules>); identifiers are none of them.
const LINKS: [&str; 6] = ["reference", "url", "valueUri", "valueUrl", "valueOid", "valueUuid"];

/// Points every link that has a target at it, in elements and in the narrative.
pub(super) fn rewrite(value: &mut Value, targets: &HashMap<&str, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, targets)),
        Value::Object(fields) => {
            for (name, child) in fields.iter_mut() {
                match child {
                    Value::String(text) if LINKS.contains(&name.as_str()) => {
                        if let Some(target) = targets.get(text.as_str()) {
                            target.clone_into(text);
                        }
                    }
                    Value::String(html) if name == "div" && html.contains(URN) => *html = narrative(html, targets),
                    other => rewrite(other, targets),
                }
            }
        }
        _ => {}
    }
}

/// How the value of an attribute begins that names another entry.
const URN: &str = "=\"urn:";

/// A narrative whose links (`href`, `src`) that have a target point at it.
fn narrative(html: &str, targets: &HashMap<&str, String>) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(URN) {
        let (attribute, value) = rest.split_at(at);
        let value = &value[2..];
        let (link, after) = value.split_at(value.find('"').unwrap_or(value.len()));
        let links = attribute.ends_with("href") || attribute.ends_with("src");
        out.push_str(attribute);
        out.push_str("=\"");
        out.push_str(targets.get(link).filter(|_| links).map_or(link, String::as_str));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Every reference in a resource, with the path of the element that holds it.
pub(super) fn references(resource: &Resource) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(resource.value(), resource.kind(), &mut found);
    found
}

fn collect(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                collect(item, &format!("{at}[{n}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, child) in fields {
                match child {
                    Value::String(text) if name == "reference" => found.push((text.clone(), at.to_owned())),
                    other => collect(other, &format!("{at}.{name}"), found),
                }
            }
        }
        _ => {}
    }
}

/// The conditional references of a resource (`Patient?identifier=...`): the reference, its type and criteria, and the
/// element that holds it (<https://hl7.org/fhir/R4/http.html#trules>).
pub fn conditional(resource: &Resource) -> Vec<(String, String, String, String)> {
    let of = |(text, at): (String, String)| {
        let (kind, criteria) = text.split_once('?')?;
        check::is_resource_type(kind).then(|| (text.clone(), kind.to_owned(), criteria.to_owned(), at))
    };
    references(resource).into_iter().filter_map(of).collect()
}

/// The first string at a path, for acts that look into a resource they were given.
pub(super) fn text_at<'a>(resource: &'a Resource, dotted: &str) -> &'a str {
    path::text(resource.value(), dotted).unwrap_or_default()
}
