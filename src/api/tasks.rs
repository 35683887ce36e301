//! The queue's operations: `$claim-next`, `$claim`, `$release`, `$complete`.

use super::conditions::{idempotency_key, if_match};
use super::error::Error;
use super::operations::inputs::{Inputs, missing};
use super::operations::{CLAIM, CLAIM_NEXT, COMPLETE, RELEASE, STATUS};
use super::state::{Call, State};
use super::write::written_answer;
use crate::auth::scope::Interaction;
use crate::pathway::identity::ods_code;
use crate::workflow::{self, Completion, Work, retrying};
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// `POST /fhir/Task/$claim-next`.
pub(super) async fn claim_next(Extract(doors): Extract<State>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("Task", Interaction::Update)?;
    let inputs = Inputs::read(&call, &CLAIM_NEXT, &body)?;
    let role = inputs.text("role")?.ok_or_else(|| missing("role", "valueCode, for example health-coach"))?;
    let work = Work {
        role: role.to_owned(),
        locality: inputs.references("location")?.first().map(|l| last(l, "Location")),
        practice: inputs.text("practice")?.map(ods_code),
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
    body: Bytes,
) -> Result<Response, Error> {
    call.may("Task", Interaction::Update)?;
    Inputs::read(&call, &CLAIM, &body)?;
    let version = if_match(&call)?;
    let task = retrying(|| {
        workflow::claim(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &id, version.as_ref())
    })
    .await?;
    Ok(written_answer(&call, StatusCode::OK, task, Vec::new()))
}

/// `POST /fhir/Task/{id}/$release`.
pub(super) async fn release(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    call.may("Task", Interaction::Update)?;
    Inputs::read(&call, &RELEASE, &body)?;
    let version = if_match(&call)?;
    let task = retrying(|| {
        workflow::release(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &id, version.as_ref())
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
    let inputs = Inputs::read(&call, &COMPLETE, &body)?;
    let outcome = inputs.text("outcome")?.ok_or_else(|| missing("outcome", "valueCode, an outcome of the step"))?;
    let completion = Completion {
        outcome: outcome.to_owned(),
        outputs: inputs.references("output")?,
        note: inputs.text("note")?.map(str::to_owned),
    };
    let version = if_match(&call)?;
    let (store, house, actor, request) = (&doors.store, &doors.house, &call.actor, &call.request_id);
    let task =
        retrying(|| workflow::complete(store, house, actor, call.now, request, &id, &completion, version.as_ref()))
            .await?;
    doors.wake.notify_one();
    Ok(written_answer(&call, StatusCode::OK, task, Vec::new()))
}

/// `ServiceRequest/{id}/$status`.
pub(super) async fn status(Path(id): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("ServiceRequest", Interaction::Read)?;
    Inputs::read(&call, &STATUS, &body)?;
    let said = workflow::status(call.asking(), &id).await?;
    Ok(call.format.value(StatusCode::OK, &said))
}

fn last(reference: &str, kind: &str) -> String {
    let marker = format!("{kind}/");
    reference.rsplit_once(&marker).map_or(reference, |(_, id)| id).to_owned()
}
