//! `ServiceRequest/{id}/$deliveries`: what went to the practice because of a referral, for integrators.

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::Error;
use super::operations::DELIVERIES;
use super::operations::inputs::Inputs;
use super::state::Call;
use crate::auth::scope::Interaction;
use crate::workflow;

/// `GET /fhir/ServiceRequest/{id}/$deliveries`.
pub(super) async fn of_referral(Path(id): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("ServiceRequest", Interaction::Read)?;
    Inputs::read(&call, &DELIVERIES, &body)?;
    let bundle = workflow::deliveries(call.asking(), &id).await?;
    Ok(call.format.value(StatusCode::OK, &bundle))
}
