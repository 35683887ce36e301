//! `ServiceRequest/{id}/$deliveries`: what went to the practice because of a referral, for integrators.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::Error;
use super::state::Call;
use crate::auth::scope::Interaction;
use crate::workflow;

/// `GET /fhir/ServiceRequest/{id}/$deliveries`.
pub(super) async fn of_referral(Path(id): Path<String>, call: Call) -> Result<Response, Error> {
    call.may("ServiceRequest", Interaction::Read)?;
    let bundle = workflow::deliveries(call.asking(), &id).await?;
    Ok(call.format.value(StatusCode::OK, &bundle))
}
