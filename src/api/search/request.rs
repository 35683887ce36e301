//! A search as it was asked for: what restricts, what shapes, and where the page begins.

use serde_json::{Value, json};

use super::super::conditions;
use super::super::error::Error;
use super::super::state::Call;
use super::criteria::split;
use crate::fhir::{Invalid, Issue, IssueCode};

/// Matches on a page where `_count` does not say.
const PAGE: i64 = 20;
/// Matches on a page at most.
const LONGEST_PAGE: i64 = 500;

/// Parameters that restrict one search, and values in all of them together. Each value becomes a condition of one
/// statement, and databases bound how deep those nest (SQLite: 1,000, which some 490 alternatives reach).
const PARAMETERS: usize = 50;
const ALTERNATIVES: usize = 200;

/// Parameters whose values can tell who a person is. Links we make leave them out.
const TELLING: [&str; 10] =
    ["identifier", "patient", "subject", "for", "name", "family", "given", "birthdate", "telecom", "address"];

/// A search as it was asked for.
pub(super) struct Request {
    /// What restricts: parameter with modifier, and value.
    pub filters: Vec<(String, String)>,
    pub count: i64,
    /// `_total=accurate`.
    pub total: bool,
    pub sort: Option<String>,
    /// The key after which the page begins.
    pub after: Option<String>,
    /// Unknown parameters are passed over.
    pub lenient: bool,
}

impl Request {
    pub(super) fn read(call: &Call, kind: &str, query: Vec<(String, String)>) -> Result<Request, Error> {
        let mut request = Request {
            filters: Vec::new(),
            count: PAGE,
            total: false,
            sort: None,
            after: None,
            lenient: conditions::lenient(call),
        };
        for (name, value) in query {
            match name.as_str() {
                "_page" => return Request::continue_from(call, kind, &value),
                "_format" | "_pretty" => {}
                "_count" => {
                    let count: i64 = value.parse().map_err(|_| refuse(kind, &name, "_count is a whole number."))?;
                    request.count = count.clamp(0, LONGEST_PAGE);
                }
                "_total" => match value.as_str() {
                    "accurate" => request.total = true,
                    "none" | "estimate" => {}
                    _ => return Err(refuse(kind, &name, "_total is none, estimate or accurate.")),
                },
                "_sort" => request.sort = Some(value),
                _ if value.is_empty() => {
                    return Err(refuse(kind, &name, "This parameter has no value. Give it one, or leave it out."));
                }
                _ => request.filters.push((name, value)),
            }
        }
        request.bounded(kind)?;
        Ok(request)
    }

    /// Refuses what is too much for one search, and what restricts by nothing.
    fn bounded(&self, kind: &str) -> Result<(), Error> {
        if self.filters.len() > PARAMETERS {
            let text = format!("A search takes at most {PARAMETERS} parameters. Search for less at once.");
            return Err(refuse(kind, "", &text));
        }
        let mut alternatives = 0;
        for (name, value) in &self.filters {
            if value.contains('\0') {
                return Err(refuse(
                    kind,
                    name,
                    "The value holds a NUL character, which nothing here has. Take it out.",
                ));
            }
            match split(value).len() {
                0 => {
                    return Err(refuse(
                        kind,
                        name,
                        "This parameter has only empty values. Give it one, or leave it out.",
                    ));
                }
                some => alternatives += some,
            }
        }
        if alternatives > ALTERNATIVES {
            let text = format!("A search takes at most {ALTERNATIVES} values in all. Search for less at once.");
            return Err(refuse(kind, "", &text));
        }
        Ok(())
    }

    /// What a page link says goes on: the same search from where it stopped.
    pub(super) fn continued(&self, after: &str) -> String {
        json!({
            "filters": self.filters, "count": self.count, "sort": self.sort, "after": after, "lenient": self.lenient,
        })
        .to_string()
    }

    fn continue_from(call: &Call, kind: &str, token: &str) -> Result<Request, Error> {
        let bad =
            || refuse(kind, "_page", "This page link is not one of yours or is not whole. Begin the search again.");
        let text = call.doors.seal.open(&call.caller.client_id, token).ok_or_else(bad)?;
        let said: Value = serde_json::from_str(&text).map_err(|_| bad())?;
        let filters = serde_json::from_value(said["filters"].clone()).map_err(|_| bad())?;
        Ok(Request {
            filters,
            count: said["count"].as_i64().unwrap_or(PAGE),
            total: false,
            sort: said["sort"].as_str().map(str::to_owned),
            after: said["after"].as_str().map(str::to_owned),
            lenient: said["lenient"].as_bool().unwrap_or(false),
        })
    }

    /// The query of the `self` link: what was searched by, without what was passed over and without values that can
    /// tell who a person is.
    pub(super) fn shown(&self, ignored: &[String]) -> String {
        let telling = |name: &str| {
            TELLING.contains(&name.split([':', '.']).next().unwrap_or_default()) || name.ends_with("identifier")
        };
        let mut parts: Vec<String> = self
            .filters
            .iter()
            .filter(|(name, _)| !telling(name) && !ignored.contains(name))
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        if let Some(sort) = &self.sort {
            parts.push(format!("_sort={}", encoded(sort)));
        }
        parts.push(format!("_count={}", self.count));
        format!("?{}", parts.join("&"))
    }
}

/// A search that cannot be done as asked.
pub(super) fn refuse(kind: &str, parameter: &str, text: &str) -> Error {
    let name: String =
        parameter.chars().filter(|c| c.is_ascii_alphanumeric() || "_-:.".contains(*c)).take(60).collect();
    Invalid::malformed(Issue::error(IssueCode::Invalid, format!("{kind}?{name}"), text)).into()
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b',' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
