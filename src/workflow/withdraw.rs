//! A referral belongs to its sender: who may withdraw it, and change it until it is worked.

use serde_json::{Value, json};

use crate::fhir::systems::REFERRAL_REFERENCE;
use crate::fhir::{Resource, path};

use super::transaction::Sent;
use super::unit::same_content;
use super::{Error, Result, Unit, complete, keep, refer};

/// A new version of a ServiceRequest by its sender. `revoked` and `entered-in-error` cancel what is open; anything else
/// is for a referral nobody has begun to work on.
pub(super) async fn change_referral(
    unit: &mut Unit<'_>,
    sent: &Sent,
    mut request: Resource,
    digest: &str,
) -> Result<()> {
    let id = request.id().unwrap_or_default().to_owned();
    let seen = unit.see("ServiceRequest", &id).await?.ok_or(Error::NotFound)?;
    if seen.belongs.sender != unit.actor.organization {
        return Err(Error::Forbidden(
            "A referral belongs to the organisation that sent it; only that organisation changes it.".to_owned(),
        ));
    }
    unit.audit("update", &format!("ServiceRequest/{id}"), &seen.belongs.person);
    if same_content(&seen.resource, &request) {
        return Ok(());
    }
    unit.hold_person(&seen.belongs.person).await?;
    let Some(referral) = unit.tx.referral(&id).await? else {
        keep::stays_with_person(unit, &request, &seen.belongs.person).await?;
        return refer::becomes_referral(unit, sent, request, digest).await;
    };
    keep_ours(&seen.resource, &mut request);
    if request.value().get("subject") != seen.resource.value().get("subject") {
        return Err(Error::conflict(
            "ServiceRequest.subject",
            "A referral stays with its person. Withdraw this one (status entered-in-error) and send a new one.",
        ));
    }
    let identifiers = refer::own_identifiers(unit, &request).await?;
    let ended = matches!(referral.state.as_str(), "closed" | "withdrawn");
    match request.text("status") {
        Some("revoked" | "entered-in-error") if ended => Err(Error::conflict(
            "ServiceRequest.status",
            "This referral is over already. Read it, and $status says how it ended.",
        )),
        Some(status @ ("revoked" | "entered-in-error")) => {
            let outcome = status.to_owned();
            unit.tx.update_referral(&id, "withdrawn", &outcome, unit.now.into()).await?;
            unit.change(request).await?;
            complete::end(unit, &referral, "revoked").await
        }
        Some("active") if !ended => {
            let worked = unit.tx.tasks_of_referral(&id).await?.iter().any(|t| t.status != "requested");
            if worked {
                return Err(Error::conflict(
                    "ServiceRequest",
                    "Someone is working on this referral, so it can no longer be changed. Withdraw it (status revoked) \
                     and send a new one, or tell the service.",
                ));
            }
            unit.insert_identifiers(&referral, &identifiers).await?;
            unit.tx.update_referral(&id, &referral.state, "", referral.since).await?;
            refer::reprioritise(unit, &referral, request.text("priority")).await?;
            unit.change(request).await
        }
        Some("active") => Err(Error::conflict(
            "ServiceRequest.status",
            match referral.state.as_str() {
                "withdrawn" => {
                    "This referral was withdrawn, and stays so. Send a new one, with an identifier of its own."
                }
                _ => {
                    "This referral is over already, and $status says how it ended. Send a new one, with an identifier of \
                     its own."
                }
            },
        )),
        _ => Err(Error::conflict(
            "ServiceRequest.status",
            "Of a referral its sender sets active, revoked or entered-in-error; completed is the service's to set.",
        )),
    }
}

/// The identifier and the flags we added survive the sender's new version.
fn keep_ours(before: &Resource, request: &mut Resource) {
    let ours: Vec<Value> = before
        .all("identifier")
        .into_iter()
        .filter(|i| path::text(i, "system") == Some(REFERRAL_REFERENCE))
        .cloned()
        .collect();
    let identifiers = request.map_mut().entry("identifier").or_insert_with(|| json!([]));
    if let Some(identifiers) = identifiers.as_array_mut() {
        identifiers.retain(|i| path::text(i, "system") != Some(REFERRAL_REFERENCE));
        identifiers.extend(ours);
    }
    super::unit::keep_flags(before, request);
}
