//! A search as it was asked for: what restricts, what shapes, and where the page begins.

use serde::{Deserialize, Serialize};

use super::super::conditions;
use super::super::error::Error;
use super::super::format::{SHAPING, encoded};
use super::super::state::Call;
use super::trail::TRAIL;
use crate::fhir::search::{Include, Refused, SortKey, alternatives, include, sort, too_much};
use crate::fhir::{Invalid, Issue, IssueCode};
use crate::store::Place;

/// Matches on a page where `_count` does not say.
const PAGE: i64 = 20;
/// Matches on a page at most.
const LONGEST_PAGE: i64 = 500;

/// `_include` and `_revinclude` of one search.
const INCLUDES: usize = 20;

/// Parameters whose values can tell who a person is. Links we make leave them out.
const TELLING: [&str; 12] = [
    "identifier",
    "patient",
    "subject",
    "for",
    "name",
    "family",
    "given",
    "birthdate",
    "telecom",
    "address",
    "phone",
    "email",
];

/// A search as it was asked for, and as a page link says that it goes on.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Request {
    /// What restricts: parameter with modifier, and value.
    pub filters: Vec<(String, String)>,
    /// `_include`, `_revinclude` with their modifier, and value.
    pub includes: Vec<(String, String)>,
    /// The types of a search of several.
    #[serde(default)]
    pub types: Vec<String>,
    /// Only what is in the compartment of this Patient.
    pub patient: Option<String>,
    pub count: i64,
    /// `_total=accurate`, or nothing but the total is wanted.
    #[serde(default)]
    pub total: bool,
    pub sort: Option<String>,
    /// The match after which the page begins.
    pub after: Option<Place>,
    /// Unknown parameters are passed over.
    pub lenient: bool,
}

impl Request {
    pub(super) fn read(call: &Call, kind: &str, query: Vec<(String, String)>) -> Result<Request, Error> {
        let mut request = Request { count: PAGE, lenient: conditions::lenient(call), ..Request::default() };
        for (name, value) in query {
            match name.as_str() {
                "_page" => return Request::continue_from(call, kind, &value),
                "_summary" if value == "count" => (request.count, request.total) = (0, true),
                name if SHAPING.contains(&name) => {}
                "_count" => {
                    let count: i64 = value.parse().map_err(|_| refuse(kind, &name, "_count is a whole number."))?;
                    request.count = count.clamp(0, LONGEST_PAGE);
                    request.total |= count == 0;
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
                _ if name.starts_with("_include") || name.starts_with("_revinclude") => {
                    request.includes.push((name, value));
                }
                _ => request.filters.push((name, value)),
            }
        }
        request.bounded(kind)?;
        Ok(request)
    }

    /// Refuses what is too much for one search, and what restricts by nothing.
    fn bounded(&self, kind: &str) -> Result<(), Error> {
        if let Some(text) = too_much(&self.filters) {
            return Err(refuse(kind, "", &text));
        }
        if self.includes.len() > INCLUDES {
            let text = format!("A search takes at most {INCLUDES} includes. Search for less at once.");
            return Err(refuse(kind, "_include", &text));
        }
        for (name, value) in self.filters.iter().chain(&self.includes) {
            if value.contains('\0') {
                return Err(refuse(
                    kind,
                    name,
                    "The value holds a NUL character, which nothing here has. Take it out.",
                ));
            }
            if alternatives(value).is_empty() {
                return Err(refuse(kind, name, "This parameter has only empty values. Give it one, or leave it out."));
            }
        }
        Ok(())
    }

    /// The keys of `_sort`.
    pub(super) fn order(&self, kind: &str) -> Result<Vec<SortKey>, Error> {
        let Some(text) = &self.sort else { return Ok(Vec::new()) };
        sort(kind, text).map_err(|_| {
            let text = "_sort takes up to three search parameters of this type that are no composite and not whom it is \
                        about, each with a - before it to turn its order round.";
            refuse(kind, "_sort", text)
        })
    }

    /// What comes along with the matches.
    pub(super) fn included(&self, kind: &str) -> Result<Vec<Include>, Error> {
        let read = |(name, value): &(String, String)| {
            let (iterate, reverse) = match name.as_str() {
                "_include" => (false, false),
                "_revinclude" => (false, true),
                "_include:iterate" | "_include:recurse" => (true, false),
                "_revinclude:iterate" | "_revinclude:recurse" => (true, true),
                _ => return Err(refuse(kind, name, "_include and _revinclude have no modifier but :iterate.")),
            };
            let include = include(value, iterate, reverse).map_err(|why| match why {
                Refused::Because(text) => refuse(kind, name, &text),
                Refused::Unknown => refuse(kind, name, "There is no such reference to search by."),
            })?;
            if reverse && include.kind == TRAIL {
                return Err(refuse(kind, name, "The audit trail is searched by itself: AuditEvent?entity=..."));
            }
            Ok(include)
        };
        self.includes.iter().map(read).collect()
    }

    /// What a page link says goes on: the same search from where it stopped.
    pub(super) fn continued(mut self, after: Place) -> String {
        self.after = Some(after);
        serde_json::to_string(&self).unwrap_or_default()
    }

    fn continue_from(call: &Call, kind: &str, token: &str) -> Result<Request, Error> {
        let bad =
            || refuse(kind, "_page", "This page link is not one of yours or is not whole. Begin the search again.");
        let text = call.doors.seal.open(&call.caller.client_id, token).ok_or_else(bad)?;
        serde_json::from_str(&text).map_err(|_| bad())
    }

    /// The query of the `self` link: what was searched by, without what was passed over and without values that can
    /// tell who a person is.
    pub(super) fn shown(&self, ignored: &[String]) -> String {
        let telling = |name: &str| {
            // A chain or a `_has` may end at any parameter of a person.
            name.contains('.')
                || name.starts_with("_has")
                || TELLING.contains(&name.split([':', '-']).next().unwrap_or_default())
                || name.ends_with("identifier")
        };
        let mut parts: Vec<String> = self
            .filters
            .iter()
            .filter(|(name, _)| !telling(name))
            .chain(&self.includes)
            .filter(|(name, _)| !ignored.contains(name))
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        if !self.types.is_empty() {
            parts.insert(0, format!("_type={}", self.types.join(",")));
        }
        if let Some(sort) = &self.sort {
            parts.push(format!("_sort={}", encoded(sort)));
        }
        if self.total && self.count > 0 {
            parts.push("_total=accurate".to_owned());
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
