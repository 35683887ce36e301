//! The queue's operations: `$claim-next`, `$claim`, `$release`, `$complete`.

use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::conditions::{idempotency_key, if_match};
use super::error::Error;
use super::format::read;
use super::resources::written_answer;
use super::state::{Call, State};
use crate::auth::scope::Interaction;
use crate::fhir::{Invalid, Issue, IssueCode, path};
use crate::workflow::{self, Completion, Work, retrying};

/// `POST /fhir/Task/$claim-next`.
pub(super) async fn claim_next(Extract(doors): Extract<State>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("Task", Interaction::Update)?;
    let parameters = parameters(&call, &body)?;
    let role = parameters.code("role")?.ok_or_else(|| missing("role", "valueCode, for example health-coach"))?;
    let work = Work {
        role,
        locality: parameters.reference("location")?.map(|l| last(&l, "Location")),
        practice: parameters.code("practice")?,
        key: idempotency_key(&call)?,
    };
    let claimed =
        retrying(|| workflow::claim_next(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &work))
            .await?;
    Ok(match claimed {
        Some(task) => written_answer(&call, StatusCode::OK, task, Vec::new()),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// `POST /fhir/Task/{id}/$claim`.
pub(super) async fn claim(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    call.may("Task", Interaction::Update)?;
    let version = if_match(&call)?;
    let task =
        retrying(|| workflow::claim(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &id, version))
            .await?;
    Ok(written_answer(&call, StatusCode::OK, task, Vec::new()))
}

/// `POST /fhir/Task/{id}/$release`.
pub(super) async fn release(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    call.may("Task", Interaction::Update)?;
    let version = if_match(&call)?;
    let task = retrying(|| {
        workflow::release(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &id, version)
    })
    .await?;
    Ok(written_answer(&call, StatusCode::OK, task, Vec::new()))
}

/// `POST /fhir/Task/{id}/$complete`.
pub(super) async fn complete(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    call.may("Task", Interaction::Update)?;
    let parameters = parameters(&call, &body)?;
    let outcome = parameters.code("outcome")?.ok_or_else(|| missing("outcome", "valueCode, an outcome of the step"))?;
    let completion = Completion { outcome, outputs: parameters.references("output")?, note: parameters.text("note") };
    let version = if_match(&call)?;
    let (store, house, actor, request) = (&doors.store, &doors.house, &call.actor, &call.request_id);
    let task =
        retrying(|| workflow::complete(store, house, actor, call.now, request, &id, &completion, version)).await?;
    doors.wake.notify_one();
    Ok(written_answer(&call, StatusCode::OK, task, Vec::new()))
}

/// `ServiceRequest/{id}/$status`.
pub(super) async fn status(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    call.may("ServiceRequest", Interaction::Read)?;
    let said = workflow::status(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &id).await?;
    Ok(call.format.value(StatusCode::OK, &said))
}

/// The Parameters that an operation was sent.
struct Sent(Vec<Value>);

fn parameters(call: &Call, body: &[u8]) -> Result<Sent, Error> {
    let (resource, _) = read(call, body)?;
    if resource.kind() != "Parameters" {
        let text = "This operation takes a Parameters resource.";
        return Err(Invalid::malformed(Issue::error(IssueCode::Invalid, "resourceType", text)).into());
    }
    Ok(Sent(resource.all("parameter").into_iter().cloned().collect()))
}

fn missing(name: &str, what: &str) -> Error {
    let text = format!("The parameter {name} is missing. Send it as {what}.");
    Invalid::unprocessable(Issue::error(IssueCode::Required, place(name), text)).into()
}

fn place(name: &str) -> String {
    format!("Parameters.parameter.where(name='{name}').value")
}

impl Sent {
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |p| path::text(p, "name") == Some(name))
    }

    fn code(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(parameter) = self.named(name).next() else { return Ok(None) };
        let value = ["valueCode", "valueString"].into_iter().find_map(|kind| path::text(parameter, kind));
        value.map(|v| Some(v.to_owned())).ok_or_else(|| missing(name, "valueCode"))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.named(name)
            .find_map(|p| path::text(p, "valueString").or(path::text(p, "valueMarkdown")))
            .map(str::to_owned)
    }

    fn reference(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.references(name)?.into_iter().next())
    }

    fn references(&self, name: &str) -> Result<Vec<String>, Error> {
        self.named(name)
            .map(|p| {
                let said = path::text(p, "valueReference.reference").map(str::to_owned);
                said.ok_or_else(|| missing(name, "valueReference with a reference"))
            })
            .collect()
    }
}

fn last(reference: &str, kind: &str) -> String {
    let marker = format!("{kind}/");
    reference.rsplit_once(&marker).map_or(reference, |(_, id)| id).to_owned()
}
