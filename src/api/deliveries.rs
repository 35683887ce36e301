//! `ServiceRequest/{id}/$deliveries`: what went to the practice because of a referral, for integrators.

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::Response;

use super::error::Error;
use super::state::{Call, State};
use crate::auth::scope::Interaction;
use crate::workflow;

/// `GET /fhir/ServiceRequest/{id}/$deliveries`.
pub(super) async fn of_referral(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    call.may("ServiceRequest", Interaction::Read)?;
    let bundle = workflow::deliveries(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &id).await?;
    Ok(call.format.value(StatusCode::OK, &bundle))
}
