//! What became of a referral, in one call: the referrer sees it without asking anyone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fhir::when::{instant, start_of};
use crate::fhir::{IssueCode, Resource, systems};
use crate::pathway::pam::PamReading;
use crate::store::{DeliveryRow, MeshMessageRow, ReferralRow, Sight, TaskRow};

use super::deliver::{at_the_practice, steps};
use super::{Asking, Error, House, Result};

/// The Parameters of `ServiceRequest/{id}/$status`.
pub async fn status(asking: Asking<'_>, id: &str) -> Result<Value> {
    let mut tx = asking.store.read().await?;
    let stored = asking.request(&mut tx, id).await?;
    let referral = tx.referral(id).await?.ok_or_else(|| {
        Error::rule(
            IssueCode::BusinessRule,
            "ServiceRequest",
            "This ServiceRequest is kept as context and is no referral to Live Well, so nothing becomes of it here. Ask for \
             the $status of a referral.",
        )
    })?;
    let tasks = tx.tasks_of_referral(id).await?;
    let ours = asking.house.organization();
    let encounters = recorded(tx.resources_of_referral(id, "Encounter").await?, &ours)?;
    let observations = recorded(tx.resources_of_referral(id, "Observation").await?, &ours)?;
    let deliveries = tx.deliveries_of_referral(id, &Sight::Everything).await?;
    let messages = tx.mesh_messages_of_referral(id).await?;
    let mut answers = BTreeMap::new();
    for row in deliveries.iter().filter(|row| row.state == "refused") {
        // What the practice's system said to the attempt that it refused.
        answers.insert(row.id.clone(), tx.attempts(&row.id).await?.pop().map(|last| last.answer).unwrap_or_default());
    }
    drop(tx);
    asking.disclose("$status", &format!("ServiceRequest/{id}"), &stored.person).await?;

    let mut parameters = summary(&referral, &tasks, &encounters);
    if let Some(reading) = latest_pam(asking.house, &observations) {
        parameters.push(reading);
    }
    for row in &deliveries {
        // The last message that carried it.
        let message = messages.iter().rev().find(|m| m.delivery == row.id);
        let said = message.map(|m| &m.said).or(answers.get(&row.id)).filter(|said| !said.is_empty());
        parameters.push(delivery(row, message, said)?);
    }
    Ok(json!({ "resourceType": "Parameters", "parameter": parameters }))
}

/// What Live Well recorded; what the sender brought along is not our doing.
fn recorded(stored: Vec<crate::store::Stored>, ours: &str) -> Result<Vec<Resource>> {
    stored.iter().filter(|s| s.sender == ours).map(|s| s.resource().map_err(Error::from)).collect()
}

fn summary(referral: &ReferralRow, tasks: &[TaskRow], encounters: &[Resource]) -> Vec<Value> {
    let mut parameters = vec![
        json!({ "name": "reference", "valueString": referral.reference }),
        json!({ "name": "state", "valueCode": referral.state }),
        json!({ "name": "since", "valueInstant": instant(referral.since.time()) }),
    ];
    let mut open: Vec<&TaskRow> = tasks.iter().filter(|t| t.open && !t.role.is_empty()).collect();
    open.sort_by_key(|t| (t.due, t.priority));
    if let Some(next) = open.first() {
        parameters.push(json!({ "name": "due", "valueInstant": instant(next.due.time()) }));
    }
    let attempts = encounters.iter().filter(|e| e.text("status") == Some("cancelled")).count();
    parameters.push(json!({ "name": "attempts", "valueInteger": attempts }));
    for task in open {
        parameters.push(json!({ "name": "next", "valueCode": task.code }));
    }
    if !referral.outcome.is_empty() {
        parameters.push(json!({ "name": "outcome", "valueCode": referral.outcome }));
    }
    parameters
}

fn latest_pam(house: &House, observations: &[Resource]) -> Option<Value> {
    let readings = observations.iter().filter(|o| o.text("status") != Some("entered-in-error"));
    let (observation, reading) = readings
        .filter_map(|o| Some((o, PamReading::read(o, &house.codes, &house.pam).ok()??)))
        .max_by_key(|(o, _)| o.text("effectiveDateTime").and_then(start_of))?;
    let score: Value = serde_json::from_str(&reading.score.to_string()).ok()?;
    let mut part = vec![
        json!({ "name": "score", "valueDecimal": score }),
        json!({ "name": "level", "valueInteger": reading.shown_level() }),
        json!({ "name": "cut-offs", "valueCode": reading.variant }),
        json!({ "name": "observation", "valueReference": { "reference": observation.reference() } }),
    ];
    if let Some(when) = observation.text("effectiveDateTime") {
        part.push(json!({ "name": "when", "valueDateTime": when }));
    }
    Some(json!({ "name": "pam", "part": part }))
}

fn delivery(row: &DeliveryRow, message: Option<&MeshMessageRow>, said: Option<&String>) -> Result<Value> {
    let mut part = vec![
        json!({ "name": "id", "valueString": row.id }),
        json!({ "name": "state", "valueCode": at_the_practice(&row.state) }),
        json!({ "name": "practice", "valueIdentifier": { "system": systems::ODS, "value": row.practice } }),
        json!({ "name": "queued", "valueInstant": instant(row.created_at.time()) }),
        json!({ "name": "attempts", "valueInteger": row.attempts }),
    ];
    if row.practice.is_empty() {
        part.retain(|p| p["name"] != "practice");
    }
    if let Some(settled) = row.settled_at {
        part.push(json!({ "name": "settled", "valueInstant": instant(settled.time()) }));
    }
    if !row.why.is_empty() {
        part.push(json!({ "name": "why", "valueString": row.why }));
    }
    if !row.channel.is_empty() {
        part.push(json!({ "name": "channel", "valueCode": row.channel }));
    }
    for (step, at) in message.into_iter().flat_map(steps) {
        part.push(json!({ "name": step, "valueInstant": instant(at.time()) }));
    }
    if let Some(said) = said {
        part.push(json!({ "name": "outcome", "valueString": said }));
    }
    for item in row.items()? {
        part.push(json!({ "name": "resource", "valueReference": { "reference": format!("{}/{}/_history/{}", item.kind, item.id, item.version) } }));
    }
    Ok(json!({ "name": "delivery", "part": part }))
}
