//! Search: `GET /fhir/{type}?...` and `POST /fhir/{type}/_search` (<https://hl7.org/fhir/R4/http.html#search>), and the
//! compartment of a Patient: `GET /fhir/Patient/{id}/{type}?...`.

mod along;
mod criteria;
mod request;
pub(super) mod system;
mod trail;

use axum::extract::{Form, Path, State as Extract};
use axum::response::Response;
use serde_json::{Value, json};

use super::error::Error;
use super::format::Format;
use super::listing::Listed;
use super::resources::disclose;
use super::state::{Call, State};
use super::types::readable;
use crate::auth::scope::Interaction;
use crate::fhir::outcome::operation_outcome;
use crate::fhir::search::{Column, Criterion, SortKey, Sorted};
use crate::fhir::{Issue, IssueCode};
use crate::store::{Key, Page, Place, Stored, TrailSearch, Tx};
use crate::workflow;

use along::Along;
pub(super) use criteria::names as parameter_names;
use request::{Request, refuse};
pub(super) use trail::TRAIL;

/// Search by URL.
pub(super) async fn by_url(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let query = call.query.clone();
    search(&doors, &kind, None, &call, query).await
}

/// Search by form, which keeps what is searched for out of URLs.
pub(super) async fn by_form(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    mut call: Call,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Response, Error> {
    let query = [call.query.clone(), form].concat();
    call.format = Format::wanted(&call.headers, &query)?;
    search(&doors, &kind, None, &call, query).await
}

/// Search of what is in the compartment of a Patient (<https://hl7.org/fhir/R4/compartmentdefinition-patient.html>).
pub(super) async fn in_compartment(
    Extract(doors): Extract<State>,
    Path((compartment, id, kind)): Path<(String, String, String)>,
    call: Call,
) -> Result<Response, Error> {
    if compartment != "Patient" {
        return Err(workflow::Error::NotFound.into());
    }
    let query = call.query.clone();
    search(&doors, &kind, Some(id), &call, query).await
}

async fn search(
    doors: &State,
    kind: &str,
    patient: Option<String>,
    call: &Call,
    query: Vec<(String, String)>,
) -> Result<Response, Error> {
    readable(kind)?;
    call.may(kind, Interaction::Search)?;
    let mut request = Request::read(call, kind, query)?;
    request.patient = request.patient.or(patient);
    if !request.types.is_empty() {
        return Err(refuse(kind, "_page", "This page link is of a search of several types. Follow it as it is."));
    }
    let order = request.order(kind)?;
    let includes = request.included(kind)?;
    let (asked, ignored) = Asked::read(call, kind, &request, &order).await?;
    disclose(call, "search-type", kind, "").await?;
    let mut tx = doors.store.read().await?;
    let (found, total) = asked.of(&mut tx, call, kind, &order, &request).await?;
    let along = along::gather(&mut tx, call, &found.matches, &includes).await?;
    drop(tx);
    let answer = Answer { kind, request, matches: found.matches, next: found.next, along, total, ignored };
    Ok(answer.into_response(doors, call))
}

/// What is searched by: of the audit trail its rows, of all else the index.
enum Asked {
    Trail(TrailSearch),
    Index(Vec<Criterion>),
}

impl Asked {
    /// Reads it, with the parameters that were passed over.
    async fn read(
        call: &Call,
        kind: &str,
        request: &Request,
        order: &[SortKey],
    ) -> Result<(Asked, Vec<String>), Error> {
        if kind == TRAIL {
            let (search, ignored) = trail::read(call, request, order)?;
            return Ok((Asked::Trail(search), ignored));
        }
        let (criteria, ignored) = criteria::read(call, kind, request).await?;
        Ok((Asked::Index(criteria), ignored))
    }

    /// A page of matches, and where it is asked for, how many match.
    async fn of(
        &self,
        tx: &mut Tx,
        call: &Call,
        kind: &str,
        order: &[SortKey],
        request: &Request,
    ) -> Result<(Matched, Option<i64>), Error> {
        let sight = &call.actor.sight;
        let found = match self {
            Asked::Trail(search) => trail::page(tx, call, search).await?,
            Asked::Index(criteria) => page(tx, call, kind, criteria, order, request).await?,
        };
        let total = match self {
            _ if !request.total => None,
            Asked::Trail(search) => Some(tx.count_trail(search, sight).await?),
            Asked::Index(criteria) if kind == "Task" && !by_name(criteria) => {
                Some(tx.count_tasks(criteria, sight).await?)
            }
            Asked::Index(criteria) => Some(tx.count(kind, criteria, sight).await?),
        };
        Ok((found, total))
    }
}

/// A page of matches, and the place after which the next begins.
struct Matched {
    matches: Vec<Stored>,
    next: Option<Place>,
}

async fn page(
    tx: &mut Tx,
    call: &Call,
    kind: &str,
    criteria: &[Criterion],
    order: &[SortKey],
    request: &Request,
) -> Result<Matched, Error> {
    let sight = &call.actor.sight;
    if request.count == 0 {
        return Ok(Matched { matches: Vec::new(), next: None });
    }
    if kind == "Task" && by_urgency(order) && !by_name(criteria) {
        return most_urgent(tx, call, criteria, request).await;
    }
    let page = Page { after: request.after.clone(), limit: request.count };
    let found = tx.search(kind, criteria, sight, order, &page).await?;
    let next = match found.matches.last().filter(|_| found.more) {
        Some(last) => Some(tx.place(last, order).await?),
        None => None,
    };
    Ok(Matched { matches: found.matches, next })
}

/// The order of the work list, in which Tasks come where nothing else is asked for: `-priority,due`.
fn by_urgency(order: &[SortKey]) -> bool {
    let is = |key: &SortKey, column: Column, descending: bool| {
        key.by == Sorted::Queue(column) && key.descending == descending
    };
    match order {
        [] => true,
        [first, second] => is(first, Column::Priority, true) && is(second, Column::Due, false),
        _ => false,
    }
}

/// Whether Tasks are asked for by their id or business identifier: that finds also those that a sender keeps here and that
/// nobody works from the queue.
fn by_name(criteria: &[Criterion]) -> bool {
    criteria.iter().any(|criterion| match criterion {
        Criterion::Ids(_) => true,
        Criterion::Words { params, not: false, .. } => *params == ["identifier"],
        _ => false,
    })
}

/// A page of the queue: its own table has this order.
async fn most_urgent(tx: &mut Tx, call: &Call, criteria: &[Criterion], request: &Request) -> Result<Matched, Error> {
    let after = match request.after.as_ref().map(|place| (place.keys.as_slice(), &place.id)) {
        Some(([Some(Key::Whole(priority)), Some(Key::Whole(due))], id)) => Some((*priority, *due, id.as_str())),
        _ => None,
    };
    let mut found = tx.search_tasks(criteria, &call.actor.sight, after, request.count + 1).await?;
    let more = i64::try_from(found.len()).unwrap_or(i64::MAX) > request.count;
    found.truncate(usize::try_from(request.count).unwrap_or(0));
    let next = found.last().filter(|_| more).map(|last| Place {
        keys: vec![Some(Key::Whole(last.priority)), Some(Key::Whole(last.due.0))],
        id: last.task.id.clone(),
    });
    Ok(Matched { matches: found.into_iter().map(|queued| queued.task).collect(), next })
}

/// What a search found.
struct Answer<'a> {
    kind: &'a str,
    request: Request,
    matches: Vec<Stored>,
    next: Option<Place>,
    along: Along,
    total: Option<i64>,
    ignored: Vec<String>,
}

impl Answer<'_> {
    /// The searchset Bundle.
    fn into_response(self, doors: &State, call: &Call) -> Response {
        let base = doors.fhir_base();
        let mut entries: Vec<Listed<'_>> = self.matches.iter().map(|m| Listed::found(&base, m, "match")).collect();
        entries.extend(self.along.resources.iter().map(|r| Listed::found(&base, r, "include")));
        let said = self.said();
        if !said.is_empty() {
            entries
                .push(Listed::Made(json!({ "resource": operation_outcome(&said), "search": { "mode": "outcome" } })));
        }
        let of_type = if self.kind.is_empty() { String::new() } else { format!("/{}", self.kind) };
        let below = self.request.patient.as_ref().map_or_else(String::new, |id| format!("/Patient/{id}"));
        let shown = self.request.shown(&self.ignored);
        let mut links = vec![call.format.link("self", format!("{base}{below}{of_type}{shown}"))];
        let request = self.request;
        if let Some(token) =
            self.next.and_then(|after| doors.seal.seal(&call.caller.client_id, &request.continued(after)))
        {
            links.push(call.format.link("next", format!("{base}{of_type}?_page={token}")));
        }
        let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset" });
        if let Some(total) = self.total {
            bundle["total"] = json!(total);
        }
        bundle["link"] = Value::Array(links);
        call.format.listing(bundle, &entries)
    }

    /// What the caller has to know of the answer.
    fn said(&self) -> Vec<Issue> {
        let mut said = Vec::new();
        if !self.ignored.is_empty() {
            let text = format!("Passed over, as asked by handling=lenient: {}.", self.ignored.join(", "));
            said.push(Issue::warning(IssueCode::NotSupported, self.kind, text));
        }
        if self.along.cut {
            let text = "More comes along with these matches than one answer takes. Ask for fewer matches with _count, or \
                        search for what is missing.";
            said.push(Issue::warning(IssueCode::TooCostly, self.kind, text));
        }
        said
    }
}
