//! Bundles of what is stored, as answers: a page of a search, a history, what a transaction wrote.
//!
//! A resource is stored as the text that is served, so it goes into the Bundle as it is wherever the caller takes plain
//! JSON. Only who wants XML, indented text or a part has it read into a tree.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::format::Format;
use crate::store::Stored;

/// An entry of such a Bundle.
pub(super) enum Listed<'a> {
    /// A stored resource: its address ('' for none), its text, and what the entry says beside it, as an object.
    Stored { full_url: String, body: &'a str, beside: Value },
    /// An entry as it is.
    Made(Value),
}

impl Format {
    /// An answer whose body is this Bundle with these entries.
    pub(super) fn listing(&self, mut bundle: Value, entries: &[Listed<'_>]) -> Response {
        if self.as_stored() {
            return self.stored(StatusCode::OK, text(&bundle, entries));
        }
        if !entries.is_empty() {
            bundle["entry"] = entries.iter().map(Listed::value).collect();
        }
        self.value(StatusCode::OK, &bundle)
    }
}

impl<'a> Listed<'a> {
    /// What a search found, below the base of the API; `mode` is `match` or `include`.
    pub(super) fn found(base: &str, stored: &'a Stored, mode: &str) -> Listed<'a> {
        let full_url = format!("{base}/{}/{}", stored.kind, stored.id);
        Listed::Stored { full_url, body: &stored.body, beside: json!({ "search": { "mode": mode } }) }
    }

    fn value(&self) -> Value {
        let (full_url, body, beside) = match self {
            Listed::Made(entry) => return entry.clone(),
            Listed::Stored { full_url, body, beside } => (full_url, body, beside),
        };
        let mut entry = Map::new();
        if !full_url.is_empty() {
            entry.insert("fullUrl".to_owned(), json!(full_url));
        }
        entry.insert("resource".to_owned(), serde_json::from_str(body).unwrap_or(Value::Null));
        entry.extend(beside.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        Value::Object(entry)
    }

    fn push_to(&self, text: &mut String) {
        let (full_url, body, beside) = match self {
            Listed::Made(entry) => return text.push_str(&entry.to_string()),
            Listed::Stored { full_url, body, beside } => (full_url, body, beside.to_string()),
        };
        text.push('{');
        if !full_url.is_empty() {
            text.push_str("\"fullUrl\":");
            text.push_str(&json!(full_url).to_string());
            text.push(',');
        }
        text.push_str("\"resource\":");
        text.push_str(body);
        match beside.strip_prefix('{') {
            Some(rest) if rest.len() > 1 => {
                text.push(',');
                text.push_str(rest);
            }
            _ => text.push('}'),
        }
    }
}

/// The Bundle as JSON text.
fn text(bundle: &Value, entries: &[Listed<'_>]) -> String {
    let mut text = bundle.to_string();
    if entries.is_empty() {
        return text;
    }
    let length = |entry: &Listed<'_>| match entry {
        Listed::Stored { body, .. } => body.len() + 200,
        Listed::Made(_) => 500,
    };
    text.reserve(entries.iter().map(length).sum());
    text.pop();
    text.push_str(",\"entry\":[");
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        entry.push_to(&mut text);
    }
    text.push_str("]}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_text_makes_the_same_bundle_as_the_tree_that_is_read_from_it() {
        let bundle =
            json!({ "resourceType": "Bundle", "type": "searchset", "link": [{ "relation": "self", "url": "a\"b" }] });
        let body = r#"{"resourceType":"Observation","id":"a","valueDecimal":1.500,"note":[{"text":"é \"\\ }"}]}"#;
        let stored = |full_url: &str, beside| Listed::Stored { full_url: full_url.to_owned(), body, beside };
        let entries = [
            stored("http://a.example/\"x", json!({ "search": { "mode": "match" } })),
            stored("", json!({})),
            Listed::Made(json!({ "search": { "mode": "outcome" } })),
            stored("b", json!({ "request": { "method": "PUT" }, "response": { "status": "200" } })),
        ];
        for some in [&entries[..0], &entries[..1], &entries[..]] {
            let mut whole = bundle.clone();
            if !some.is_empty() {
                whole["entry"] = some.iter().map(Listed::value).collect();
            }
            assert_eq!(text(&bundle, some), whole.to_string());
        }
    }
}
