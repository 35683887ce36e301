//! Search: `GET /fhir/{type}?...` and `POST /fhir/{type}/_search` (<https://hl7.org/fhir/R4/http.html#search>).

mod criteria;
mod queue;
mod request;

use axum::extract::{Form, Path, State as Extract};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::error::Error;
use super::resources::disclose;
use super::state::{Call, State};
use super::types::served;
use crate::auth::scope::Interaction;
use crate::fhir::outcome::operation_outcome;
use crate::fhir::{Issue, IssueCode};
use crate::store::{Page, Stored};

pub(super) use queue::PARAMETERS as TASK_PARAMETERS;
use request::Request;

/// Search by URL.
pub(super) async fn by_url(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let query = call.query.clone();
    search(&doors, &kind, &call, query).await
}

/// Search by form, which keeps what is searched for out of URLs.
pub(super) async fn by_form(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Response, Error> {
    let mut query = call.query.clone();
    query.extend(form);
    search(&doors, &kind, &call, query).await
}

async fn search(doors: &State, kind: &str, call: &Call, query: Vec<(String, String)>) -> Result<Response, Error> {
    served(kind)?;
    call.may(kind, Interaction::Search)?;
    let request = Request::read(call, kind, query)?;
    disclose(call, "search-type", kind, "").await?;
    if kind == "Task" {
        return queue::search(doors, call, request).await;
    }
    let mut tx = doors.store.read().await?;
    let (criteria, ignored) = criteria::read(&mut tx, call, kind, &request).await?;
    let page = Page { after: request.after.clone(), limit: request.count };
    let found = tx.search(kind, &criteria, &call.actor.sight, &page).await?;
    let total = if request.total { Some(tx.count(kind, &criteria, &call.actor.sight).await?) } else { None };
    drop(tx);
    let next = found.matches.last().filter(|_| found.more && request.count > 0).map(|last| last.id.clone());
    Ok(answer(doors, call, kind, &request, &found.matches, next, total, &ignored))
}

/// The searchset Bundle.
#[expect(clippy::too_many_arguments, reason = "the parts of one Bundle")]
fn answer(
    doors: &State,
    call: &Call,
    kind: &str,
    request: &Request,
    matches: &[Stored],
    next: Option<String>,
    total: Option<i64>,
    ignored: &[String],
) -> Response {
    let base = doors.fhir_base();
    let mut entries: Vec<Value> = matches
        .iter()
        .map(|stored| {
            json!({
                "fullUrl": format!("{base}/{kind}/{}", stored.id),
                "resource": serde_json::from_str::<Value>(&stored.body).unwrap_or(Value::Null),
                "search": { "mode": "match" },
            })
        })
        .collect();
    if !ignored.is_empty() {
        let text = format!("Passed over, as asked by handling=lenient: {}.", ignored.join(", "));
        let outcome = operation_outcome(&[Issue::warning(IssueCode::NotSupported, kind, text)]);
        entries.push(json!({ "resource": outcome, "search": { "mode": "outcome" } }));
    }
    let mut links = vec![json!({ "relation": "self", "url": format!("{base}/{kind}{}", request.shown(ignored)) })];
    if let Some(token) = next.and_then(|after| doors.seal.seal(&call.caller.client_id, &request.continued(&after))) {
        links.push(json!({ "relation": "next", "url": format!("{base}/{kind}?_page={token}") }));
    }
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset" });
    if let Some(total) = total {
        bundle["total"] = json!(total);
    }
    bundle["link"] = Value::Array(links);
    if !entries.is_empty() {
        bundle["entry"] = Value::Array(entries);
    }
    call.format.value(StatusCode::OK, &bundle)
}
