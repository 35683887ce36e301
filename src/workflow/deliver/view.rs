//! Deliveries as integrators see them: a Communication for each, put together when it is asked for and never stored.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::unit::audit_row;
use super::super::{Actor, Error, House, Result};
use crate::fhir::systems::{DELIVERY_STATE, ODS};
use crate::fhir::when::instant;
use crate::store::{AttemptRow, DeliveryRow, Store};

/// The searchset of `ServiceRequest/{id}/$deliveries`. A practice sees what went to itself.
pub async fn deliveries(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    id: &str,
) -> Result<Value> {
    let mut tx = store.read().await?;
    let stored =
        tx.resource("ServiceRequest", id, &actor.sight).await?.filter(|s| !s.deleted).ok_or(Error::NotFound)?;
    let mut entries = Vec::new();
    for row in tx.deliveries_of_referral(id, &actor.sight).await? {
        let attempts = tx.attempts(&row.id).await?;
        entries.push(json!({
            "fullUrl": format!("urn:uuid:{}", row.id),
            "resource": communication(&row, &attempts)?,
            "search": { "mode": "match" },
        }));
    }
    drop(tx);
    let target = format!("ServiceRequest/{id}");
    let row = audit_row(actor, now, request_id, "$deliveries", &target, &stored.person, "success");
    store.disclose(row).await?;
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset", "total": entries.len() });
    bundle["link"] = json!([{ "relation": "self", "url": format!("{}/fhir/{target}/$deliveries", house.base_url) }]);
    if !entries.is_empty() {
        bundle["entry"] = Value::Array(entries);
    }
    Ok(bundle)
}

/// A delivery as a Communication: `status` in FHIR's words, `statusReason` in ours, what it carries as `payload`.
fn communication(row: &DeliveryRow, attempts: &[AttemptRow]) -> Result<Value> {
    let mut said = json!({
        "resourceType": "Communication",
        "id": row.id,
        "status": status(&row.state),
        "statusReason": { "coding": [{ "system": DELIVERY_STATE, "code": at_the_practice(&row.state) }] },
    });
    if !row.referral.is_empty() {
        said["basedOn"] = json!([{ "reference": format!("ServiceRequest/{}", row.referral) }]);
    }
    if !row.why.is_empty() {
        said["statusReason"]["text"] = json!(row.why);
    }
    if !row.person.is_empty() {
        said["subject"] = json!({ "reference": format!("Patient/{}", row.person) });
    }
    if let Some(first) = attempts.first() {
        said["sent"] = json!(instant(first.at.time()));
    }
    if let Some(at) = row.settled_at.filter(|_| row.state == "delivered") {
        said["received"] = json!(instant(at.time()));
    }
    if !row.practice.is_empty() {
        let practice = json!({ "type": "Organization", "identifier": { "system": ODS, "value": row.practice } });
        said["recipient"] = json!([practice]);
    }
    let carried = row.items()?.into_iter().map(|item| {
        let reference = format!("{}/{}/_history/{}", item.kind, item.id, item.version);
        json!({ "contentReference": { "reference": reference } })
    });
    said["payload"] = carried.collect();
    let notes = attempts.iter().map(|a| {
        let text = format!("Attempt {}: {} {}", a.number, a.verdict, a.why);
        json!({ "time": instant(a.at.time()), "text": text.trim_end() })
    });
    let notes: Vec<Value> = notes.collect();
    if !notes.is_empty() {
        said["note"] = Value::Array(notes);
    }
    Ok(said)
}

/// `Communication.status` of a delivery's state.
fn status(state: &str) -> &'static str {
    match state {
        "pending" => "preparation",
        "retrying" | "sent" | "received" => "in-progress",
        "accepted" | "delivered" => "completed",
        "refused" => "not-done",
        "needs-person" | "no-route" => "on-hold",
        "cancelled" => "stopped",
        _ => "unknown",
    }
}

/// A delivery's state as the practice's side sees it (`CodeSystem/delivery-state`): what was written there and read back
/// is filed.
pub(in crate::workflow) fn at_the_practice(state: &str) -> &str {
    match state {
        "delivered" => "filed",
        "refused" => "rejected",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pathway::delivery::DeliveryState;

    #[test]
    fn every_state_but_unknown_has_a_status_of_its_own_meaning() {
        for state in DeliveryState::ALL {
            assert_eq!(status(state.code()) == "unknown", state == DeliveryState::Unknown, "{state:?}");
        }
    }
}
