//! Deliveries as integrators see them: a Communication for each, put together when it is asked for and never stored.

use serde_json::{Value, json};

use super::super::{Asking, Result};
use crate::fhir::systems::{DELIVERY_STATE, ODS};
use crate::fhir::when::instant;
use crate::store::{At, AttemptRow, DeliveryRow, MeshMessageRow};

/// The searchset of `ServiceRequest/{id}/$deliveries`. A practice sees what went to itself.
pub async fn deliveries(asking: Asking<'_>, id: &str) -> Result<Value> {
    let mut tx = asking.store.read().await?;
    let stored = asking.request(&mut tx, id).await?;
    let mut entries = Vec::new();
    let messages = tx.mesh_messages_of_referral(id).await?;
    for row in tx.deliveries_of_referral(id, &asking.actor.sight).await? {
        let attempts = tx.attempts(&row.id).await?;
        let messages: Vec<&MeshMessageRow> = messages.iter().filter(|message| message.delivery == row.id).collect();
        entries.push(json!({
            "fullUrl": format!("urn:uuid:{}", row.id),
            "resource": communication(&row, &attempts, &messages)?,
            "search": { "mode": "match" },
        }));
    }
    drop(tx);
    let target = format!("ServiceRequest/{id}");
    asking.disclose("$deliveries", &target, &stored.person).await?;
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset", "total": entries.len() });
    bundle["link"] =
        json!([{ "relation": "self", "url": format!("{}/fhir/{target}/$deliveries", asking.house.base_url) }]);
    if !entries.is_empty() {
        bundle["entry"] = Value::Array(entries);
    }
    Ok(bundle)
}

/// A delivery as a Communication: `status` in FHIR's words, `statusReason` in ours, what it carries as `payload`.
fn communication(row: &DeliveryRow, attempts: &[AttemptRow], messages: &[&MeshMessageRow]) -> Result<Value> {
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
    let written = row.settled_at.filter(|_| row.state == "delivered");
    if let Some(at) = messages.iter().filter_map(|message| message.received_at).min().or(written) {
        said["received"] = json!(instant(at.time()));
    }
    if !row.channel.is_empty() {
        said["medium"] = json!([{ "text": row.channel }]);
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
    let notes = notes(attempts, messages);
    if !notes.is_empty() {
        said["note"] = Value::Array(notes);
    }
    Ok(said)
}

/// What was tried and what was heard, in the order of time.
fn notes(attempts: &[AttemptRow], messages: &[&MeshMessageRow]) -> Vec<Value> {
    let tried = attempts.iter().map(|a| (a.at, format!("Attempt {}: {} {} {}", a.number, a.verdict, a.why, a.answer)));
    let heard = messages.iter().flat_map(|message| {
        steps(message).map(|(step, at)| {
            let (why, said) = if step == "rejected" { (&*message.why, &*message.said) } else { ("", "") };
            (at, format!("Message {}: {step} {why} {said}", message.number))
        })
    });
    let mut notes: Vec<(At, String)> = tried.chain(heard).collect();
    notes.sort_by_key(|(at, _)| *at);
    let note = |(at, text): (At, String)| json!({ "time": instant(at.time()), "text": text.trim_end() });
    notes.into_iter().map(note).collect()
}

/// How far a message came, and when: `sent`, `received`, `accepted`, `filed`, `rejected`.
pub(in crate::workflow) fn steps(message: &MeshMessageRow) -> impl Iterator<Item = (&'static str, At)> {
    let steps = [
        ("sent", message.sent_at),
        ("received", message.received_at),
        ("accepted", message.accepted_at),
        ("filed", message.filed_at),
        ("rejected", message.failed_at),
    ];
    steps.into_iter().filter_map(|(step, at)| Some((step, at?)))
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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fhir::profiles;
    use crate::pathway::delivery::DeliveryState;

    #[test]
    fn every_state_but_unknown_has_a_status_of_its_own_meaning() {
        for state in DeliveryState::ALL {
            assert_eq!(status(state.code()) == "unknown", state == DeliveryState::Unknown, "{state:?}");
        }
    }

    #[test]
    fn the_code_system_has_every_state_that_is_told_and_no_other() {
        let system = profiles::resource("CodeSystem", "delivery-state").unwrap();
        let codes: BTreeSet<&str> = system.all("concept.code").into_iter().filter_map(Value::as_str).collect();
        assert_eq!(codes, DeliveryState::ALL.iter().map(|state| at_the_practice(state.code())).collect());
    }
}
