//! What a subscriber asks: `$status`, `$events`, `$new-secret`.

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;

use super::error::Error;
use super::operations::inputs::Inputs;
use super::operations::{EVENTS, NEW_SECRET, SUBSCRIPTION_STATUS};
use super::state::Call;
use crate::auth::scope::Interaction;
use crate::pathway::notification::Content;
use crate::workflow::retrying;
use crate::workflow::subscription::{self, Statuses};

/// `Subscription/{id}/$status`.
pub(super) async fn status(Path(id): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("Subscription", Interaction::Read)?;
    Inputs::read(&call, &SUBSCRIPTION_STATUS, &body)?;
    let of = Statuses { ids: vec![id], states: Vec::new() };
    let said = subscription::statuses(call.asking(), &of).await?;
    if said["total"] == 0 {
        return Err(crate::workflow::Error::NotFound.into());
    }
    Ok(call.format.value(StatusCode::OK, &said))
}

/// `Subscription/$status`: of all this client made, or of those that `id` and `status` name.
pub(super) async fn statuses(call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("Subscription", Interaction::Read)?;
    let inputs = Inputs::read(&call, &SUBSCRIPTION_STATUS, &body)?;
    let all = |name: &str| -> Result<Vec<String>, Error> {
        let texts = inputs.texts(name)?.into_iter().flat_map(|text| text.split(','));
        Ok(texts.filter(|text| !text.is_empty()).map(str::to_owned).collect())
    };
    let of = Statuses { ids: all("id")?, states: all("status")? };
    let said = subscription::statuses(call.asking(), &of).await?;
    Ok(call.format.value(StatusCode::OK, &said))
}

/// `Subscription/{id}/$events`: from `eventsSinceNumber` to `eventsUntilNumber`, both included.
pub(super) async fn events(Path(id): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("Subscription", Interaction::Read)?;
    let inputs = Inputs::read(&call, &EVENTS, &body)?;
    let number = |name: &str, otherwise: i64| -> Result<i64, Error> {
        Ok(inputs.count(name)?.map_or(otherwise, |number| i64::try_from(number).unwrap_or(i64::MAX)))
    };
    let range = (number("eventsSinceNumber", 1)?, number("eventsUntilNumber", i64::MAX)?);
    let content = inputs.text("content")?.and_then(Content::from_code);
    let said = subscription::events(call.asking(), &id, range, content).await?;
    Ok(call.format.value(StatusCode::OK, &said))
}

/// `POST Subscription/{id}/$new-secret`.
pub(super) async fn new_secret(Path(id): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("Subscription", Interaction::Update)?;
    Inputs::read(&call, &NEW_SECRET, &body)?;
    let said = retrying(|| subscription::new_secret(call.asking(), &id)).await?;
    Ok(call.format.value(StatusCode::OK, &said))
}
