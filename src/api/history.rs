//! History of one resource, of a type and of all (<https://hl7.org/fhir/R4/http.html#history>).

use axum::extract::{Path, State as Extract};
use axum::response::Response;
use serde_json::{Value, json};

use super::error::Error;
use super::format::SHAPING;
use super::listing::Listed;
use super::resources::disclose;
use super::state::{Call, State};
use super::types::served;
use crate::auth::scope::Interaction;
use crate::fhir::etag::etag;
use crate::fhir::when::{Interval, instant};
use crate::fhir::{Invalid, Issue, IssueCode};
use crate::store::{At, HistoryKey, HistoryOf, HistoryPage, HistoryRow};
use crate::workflow;

/// Entries on a page where `_count` does not say, and at most.
const PAGE: i64 = 50;
const LONGEST_PAGE: i64 = 500;

/// `GET /fhir/{type}/{id}/_history`.
pub(super) async fn of_instance(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Read)?;
    let mut tx = doors.store.read().await?;
    let stored = tx.resource(&kind, &id, &call.actor.sight).await?.ok_or(workflow::Error::NotFound)?;
    drop(tx);
    let target = format!("{kind}/{id}");
    disclose(&call, "history-instance", &target, &stored.person).await?;
    answer(&doors, &call, HistoryOf::Instance(kind, id), &target).await
}

/// `GET /fhir/{type}/_history`.
pub(super) async fn of_type(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    served(&kind)?;
    call.may(&kind, Interaction::Search)?;
    disclose(&call, "history-type", &kind, "").await?;
    answer(&doors, &call, HistoryOf::Types(vec![kind.clone()]), &kind).await
}

/// `GET /fhir/_history`: of the types that the caller may search.
pub(super) async fn of_all(Extract(doors): Extract<State>, call: Call) -> Result<Response, Error> {
    let kinds: Vec<String> =
        doors.types.all().filter(|kind| call.may(kind, Interaction::Search).is_ok()).map(str::to_owned).collect();
    if kinds.is_empty() {
        call.may("*", Interaction::Search)?;
    }
    disclose(&call, "history-system", "", "").await?;
    answer(&doors, &call, HistoryOf::Types(kinds), "").await
}

async fn answer(doors: &State, call: &Call, of: HistoryOf, below: &str) -> Result<Response, Error> {
    let asked = Asked::read(call, below)?;
    let mut tx = doors.store.read().await?;
    let (rows, more) = tx.history(&of, &asked.page, &call.actor.sight).await?;
    drop(tx);
    let base = match below {
        "" => format!("{}/_history", doors.fhir_base()),
        below => format!("{}/{below}/_history", doors.fhir_base()),
    };
    let mut links = vec![call.format.link("self", format!("{base}?{}", asked.shown()))];
    if let Some(last) = rows.last().filter(|_| more)
        && let Some(token) = doors.seal.seal(&call.caller.client_id, &asked.continued(below, &last.key()))
    {
        links.push(call.format.link("next", format!("{base}?_page={token}")));
    }
    let mut bundle = json!({ "resourceType": "Bundle", "type": "history" });
    // Of one resource all is counted that is shown at once; to count the rest is to read it.
    if matches!(of, HistoryOf::Instance(..)) && !more && asked.page.after.is_none() {
        bundle["total"] = json!(rows.len());
    }
    bundle["link"] = Value::Array(links);
    let entries: Vec<Listed<'_>> = rows.iter().map(|row| entry(doors, row)).collect();
    Ok(call.format.listing(bundle, &entries))
}

fn entry<'a>(doors: &State, row: &'a HistoryRow) -> Listed<'a> {
    let HistoryRow { kind, id, version, .. } = row;
    let (method, url, status) = match (row.deleted, *version) {
        (true, _) => ("DELETE", format!("{kind}/{id}"), "204"),
        (false, 1) => ("POST", kind.clone(), "201"),
        (false, _) => ("PUT", format!("{kind}/{id}"), "200"),
    };
    let full_url = format!("{}/{kind}/{id}", doors.fhir_base());
    let request = json!({ "method": method, "url": url });
    let response = json!({ "status": status, "etag": etag(*version), "lastModified": instant(row.updated_at.time()) });
    if row.deleted {
        return Listed::Made(json!({ "fullUrl": full_url, "request": request, "response": response }));
    }
    Listed::Stored { full_url, body: &row.body, beside: json!({ "request": request, "response": response }) }
}

/// A history as it was asked for.
struct Asked {
    page: HistoryPage,
    since: Option<String>,
    at: Option<String>,
}

impl Asked {
    fn read(call: &Call, below: &str) -> Result<Asked, Error> {
        let page = HistoryPage { since: None, at: None, after: None, limit: PAGE };
        let mut asked = Asked { page, since: None, at: None };
        for (name, value) in &call.query {
            match name.as_str() {
                "_page" => return Asked::go_on(call, below, value),
                "_count" => {
                    let count: i64 = value.parse().map_err(|_| refuse(name, "_count is a whole number."))?;
                    asked.page.limit = count.clamp(1, LONGEST_PAGE);
                }
                "_since" => asked.since(value)?,
                "_at" => asked.at(value)?,
                name if SHAPING.contains(&name) => {}
                _ => return Err(refuse(name, "A history takes _since, _at and _count.")),
            }
        }
        Ok(asked)
    }

    fn since(&mut self, text: &str) -> Result<(), Error> {
        let interval = Interval::parse(text).ok_or_else(|| refuse("_since", "This is not a FHIR instant."))?;
        self.page.since = Some(At(interval.low));
        self.since = Some(text.to_owned());
        Ok(())
    }

    fn at(&mut self, text: &str) -> Result<(), Error> {
        let interval = Interval::parse(text).ok_or_else(|| refuse("_at", "This is not a FHIR date or time."))?;
        self.page.at = Some((At(interval.low), At(interval.high)));
        self.at = Some(text.to_owned());
        Ok(())
    }

    /// The query of the `self` link.
    fn shown(&self) -> String {
        let mut parts = vec![format!("_count={}", self.page.limit)];
        parts.extend(self.since.iter().map(|since| format!("_since={}", since.replace('+', "%2B"))));
        parts.extend(self.at.iter().map(|at| format!("_at={}", at.replace('+', "%2B"))));
        parts.join("&")
    }

    /// What a page link says goes on.
    fn continued(&self, below: &str, after: &HistoryKey) -> String {
        json!({
            "history": below, "count": self.page.limit, "since": self.since, "at": self.at,
            "after": [after.updated_at.0, after.kind, after.id, after.version],
        })
        .to_string()
    }

    fn go_on(call: &Call, below: &str, token: &str) -> Result<Asked, Error> {
        let bad = || refuse("_page", "This page link is not one of yours or is not whole. Begin again.");
        let text = call.doors.seal.open(&call.caller.client_id, token).ok_or_else(bad)?;
        let said: Value = serde_json::from_str(&text).map_err(|_| bad())?;
        let after: (i64, String, String, i64) = serde_json::from_value(said["after"].clone()).map_err(|_| bad())?;
        if said["history"].as_str() != Some(below) {
            return Err(bad());
        }
        let (updated_at, kind, id, version) = after;
        let after = HistoryKey { updated_at: At(updated_at), kind, id, version };
        let limit = said["count"].as_i64().unwrap_or(PAGE);
        let page = HistoryPage { since: None, at: None, after: Some(after), limit };
        let mut asked = Asked { page, since: None, at: None };
        said["since"].as_str().map(|since| asked.since(since)).transpose()?;
        said["at"].as_str().map(|at| asked.at(at)).transpose()?;
        Ok(asked)
    }
}

fn refuse(parameter: &str, text: &str) -> Error {
    let name: String = parameter.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(60).collect();
    Invalid::malformed(Issue::error(IssueCode::Invalid, format!("_history?{name}"), text)).into()
}
