//! The FHIR interactions that write one resource: create, update, patch, delete, by id and by criteria.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::conditions::{
    Return, condition, criteria, idempotency_key, if_match, if_none_match, only_if_absent, preferred,
};
use super::error::Error;
use super::format::{as_sent, parse_as, read};
use super::resources::tagged;
use super::state::{Call, State};
use super::types::kept;
use crate::auth::scope::Interaction;
use crate::fhir::outcome::operation_outcome;
use crate::fhir::patch::Steps;
use crate::fhir::{Invalid, Issue, IssueCode, Resource, path};
use crate::workflow::{Ask, Entry, Patch, Submission, Written, retrying, submit};

/// Which resource a request means.
enum Which {
    Id(String),
    /// The one that the query's criteria find.
    Criteria,
}

/// `POST /fhir/{type}` (<https://hl7.org/fhir/R4/http.html#create>).
pub(super) async fn create(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    kept(&kind)?;
    call.may(&kind, Interaction::Create)?;
    let (mut resource, warnings) = read(&call, &body)?;
    of_type(&resource, &kind)?;
    resource.map_mut().shift_remove("id");
    let criteria = condition(&call, "if-none-exist")?.map(str::to_owned);
    let entry = Entry { criteria, ..alone(&call, &kind, Ask::Create(resource))? };
    done(&call, &doors, entry, warnings).await
}

/// `PUT /fhir/{type}/{id}` (<https://hl7.org/fhir/R4/http.html#update>).
pub(super) async fn update(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    updated(doors, kind, Which::Id(id), call, body).await
}

/// `PUT /fhir/{type}?criteria` (<https://hl7.org/fhir/R4/http.html#cond-update>).
pub(super) async fn update_by_criteria(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    updated(doors, kind, Which::Criteria, call, body).await
}

async fn updated(doors: State, kind: String, which: Which, call: Call, body: Bytes) -> Result<Response, Error> {
    kept(&kind)?;
    call.may(&kind, Interaction::Update)?;
    let (resource, warnings) = read(&call, &body)?;
    of_type(&resource, &kind)?;
    whole(&resource, &kind)?;
    if let Which::Id(id) = &which
        && resource.id() != Some(id.as_str())
    {
        return Err(Invalid::malformed(Issue::error(
            IssueCode::Value,
            format!("{kind}.id"),
            "The id in the body is that of the URL. Send the resource as it was read, changed.",
        ))
        .into());
    }
    let entry = meaning(&call, which, alone(&call, &kind, Ask::Update(resource))?)?;
    done(&call, &doors, entry, warnings).await
}

/// `PATCH /fhir/{type}/{id}` (<https://hl7.org/fhir/R4/http.html#patch>).
pub(super) async fn patch(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    patched(doors, kind, Which::Id(id), call, body).await
}

/// `PATCH /fhir/{type}?criteria` (<https://hl7.org/fhir/R4/http.html#patch>).
pub(super) async fn patch_by_criteria(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    patched(doors, kind, Which::Criteria, call, body).await
}

async fn patched(doors: State, kind: String, which: Which, call: Call, body: Bytes) -> Result<Response, Error> {
    kept(&kind)?;
    call.may(&kind, Interaction::Update)?;
    let steps = steps(&call, &call.headers, &body)?;
    let entry = meaning(&call, which, alone(&call, &kind, checked_by(&call, steps))?)?;
    done(&call, &doors, entry, Vec::new()).await
}

/// `DELETE /fhir/{type}/{id}` (<https://hl7.org/fhir/R4/http.html#delete>).
pub(super) async fn delete(
    Extract(doors): Extract<State>,
    Path((kind, id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Error> {
    deleted(doors, kind, Which::Id(id), call).await
}

/// `DELETE /fhir/{type}?criteria`, of one resource (<https://hl7.org/fhir/R4/http.html#cdelete>).
pub(super) async fn delete_by_criteria(
    Extract(doors): Extract<State>,
    Path(kind): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    deleted(doors, kind, Which::Criteria, call).await
}

async fn deleted(doors: State, kind: String, which: Which, call: Call) -> Result<Response, Error> {
    kept(&kind)?;
    call.may(&kind, Interaction::Delete)?;
    let entry = meaning(&call, which, alone(&call, &kind, Ask::Delete)?)?;
    done(&call, &doors, entry, Vec::new()).await
}

/// The steps of a patch, in the language that its Content-Type says.
pub(super) fn steps(call: &Call, headers: &HeaderMap, body: &[u8]) -> Result<Steps, Error> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json-patch+json") {
        return Ok(Steps::json(body, &call.doors.limits)?);
    }
    let known = "A patch comes as application/json-patch+json (an array of operations), or as a FHIR Parameters resource \
                 of operations (FHIRPath Patch).";
    if media.is_empty() {
        return Err(Error::UnsupportedMedia(known.to_owned()));
    }
    let parameters = parse_as(headers, body, &call.doors).map_err(|why| match why {
        Error::UnsupportedMedia(_) => Error::UnsupportedMedia(known.to_owned()),
        other => other,
    })?;
    if parameters.kind() != "Parameters" {
        let text =
            format!("{known} A fragment of a resource does not say what becomes of the rest: send the whole by PUT.");
        return Err(Invalid::malformed(Issue::error(IssueCode::Invalid, "resourceType", text)).into());
    }
    Ok(Steps::fhirpath(parameters)?)
}

/// A patch whose result is checked as a body is.
pub(super) fn checked_by(call: &Call, steps: Steps) -> Ask {
    let (doors, organization) = (Arc::clone(&call.doors), call.caller.organization.clone());
    Ask::Patch(Patch::new(steps, move |value| as_sent(&value, &doors, &organization)))
}

/// A request about one resource by itself.
fn alone(call: &Call, kind: &str, ask: Ask) -> Result<Entry, Error> {
    Ok(Entry {
        full_url: String::new(),
        kind: kind.to_owned(),
        id: None,
        criteria: None,
        if_match: if_match(call)?,
        if_none_match: match ask {
            Ask::Create(_) => false,
            _ => only_if_absent(if_none_match(call)?.as_ref())?,
        },
        may_create: call.may(kind, Interaction::Create).is_ok(),
        ask,
        expression: kind.to_owned(),
    })
}

/// Which resource an entry is about. Who names it by criteria searches for it.
fn meaning(call: &Call, which: Which, entry: Entry) -> Result<Entry, Error> {
    match which {
        Which::Id(id) => Ok(Entry { id: Some(id), ..entry }),
        Which::Criteria => {
            let criteria = criteria(call, &entry.kind)?;
            call.may(&entry.kind, Interaction::Search)?;
            Ok(Entry { criteria: Some(criteria), ..entry })
        }
    }
}

/// Does it, and answers.
async fn done(call: &Call, doors: &State, entry: Entry, warnings: Vec<Issue>) -> Result<Response, Error> {
    let submission = Submission { entries: vec![entry], bundle: false, key: idempotency_key(call)? };
    let answer =
        retrying(|| submit(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &submission)).await?;
    doors.wake.notify_one();
    Ok(match (answer.again, answer.entries.into_iter().next().flatten()) {
        (Some(bundle), _) => call.format.stored(StatusCode::OK, bundle),
        (None, Some(written)) if written.deleted => gone(call, Some(&written)),
        (None, Some(written)) => {
            let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
            written_answer(call, status, written, warnings)
        }
        (None, None) => gone(call, None),
    })
}

/// The answer to a delete: nothing is there, whether or not anything was.
fn gone(call: &Call, written: Option<&Written>) -> Response {
    let response = match preferred(call) {
        Some(Return::OperationOutcome) => {
            let said = "It is deleted. Its history is kept.".to_owned();
            let issue = Issue::information(said);
            call.format.value(StatusCode::OK, &operation_outcome(&[issue]))
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    };
    match written {
        Some(written) => tagged(response, written.version, written.updated_at),
        None => response,
    }
}

fn of_type(resource: &Resource, kind: &str) -> Result<(), Error> {
    if resource.kind() == kind {
        return Ok(());
    }
    Err(Invalid::malformed(Issue::error(
        IssueCode::Invalid,
        "resourceType",
        format!("The URL says {kind} and the body another type. Send the resource to the URL of its type."),
    ))
    .into())
}

/// Refuses a part of a resource (`_summary`, `_elements`) in place of the whole.
pub(super) fn whole(resource: &Resource, expression: &str) -> Result<(), Error> {
    let part = |tag: &&Value| path::text(tag, "code") == Some("SUBSETTED");
    if !resource.all("meta.tag").iter().any(part) {
        return Ok(());
    }
    let text = "This was read as a part of the resource (it is tagged SUBSETTED). Read the whole, and change that.";
    Err(Invalid::unprocessable(Issue::error(IssueCode::BusinessRule, format!("{expression}.meta.tag"), text)).into())
}

/// The answer to something written: status, where it is, which version, and as much of it as is preferred. What a
/// profile warns of is said where an OperationOutcome is preferred.
pub(super) fn written_answer(call: &Call, status: StatusCode, written: Written, warnings: Vec<Issue>) -> Response {
    let location = format!("{}/{}/{}/_history/{}", call.doors.fhir_base(), written.kind, written.id, written.version);
    let response = match preferred(call) {
        None | Some(Return::Representation) => call.format.stored(status, written.body),
        Some(Return::Minimal) => status.into_response(),
        Some(Return::OperationOutcome) => {
            let said = format!("{} is at version {}.", written.kind, written.version);
            let issue = Issue::information(said);
            let said: Vec<Issue> = std::iter::once(issue).chain(warnings).collect();
            call.format.value(status, &operation_outcome(&said))
        }
    };
    let mut response = tagged(response, written.version, written.updated_at);
    if let Ok(value) = HeaderValue::from_str(&location) {
        let name = if status == StatusCode::CREATED { header::LOCATION } else { header::CONTENT_LOCATION };
        response.headers_mut().insert(name, value);
    }
    response
}
