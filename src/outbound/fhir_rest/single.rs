//! One request for each resource, where the practice's system knows no transactions: conditional creates and updates, each
//! after what it refers to.
//!
//! An attempt may end between two of them. The next one looks first, as every attempt here does, and goes on with what is
//! missing; so each thing is there once, and in the end all of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::look::{Step, kind};
use super::session::Session;
use super::transaction::{Written, location, names};
use crate::pathway::delivery::{Verdict, Why};
use crate::pathway::write_back::{Outgoing, PracticeCopy, RECORD_SYSTEM, full_url, name_references, record_id};

/// Sends what `steps` say is to be created or corrected. `patient` is the practice's own, `Patient/…`.
pub(super) async fn send(
    session: &mut Session<'_>,
    outgoing: &[Outgoing],
    steps: &[Step],
    patient: &str,
) -> Result<Written, Verdict> {
    let mut names = names(outgoing, steps, patient);
    let mut at: Vec<Option<PracticeCopy>> = steps.iter().map(|step| step.there().cloned()).collect();
    for index in order(outgoing) {
        let (Some(o), Some(step)) = (outgoing.get(index), steps.get(index)) else { continue };
        let mut resource = o.resource.clone();
        name_references(&mut resource, &names);
        name_the_rest(&mut resource, outgoing);
        let answer = match step {
            Step::There(_) | Step::LeftOut => continue,
            Step::Create => {
                // A Provenance has no identifier; the look found none of it.
                let condition =
                    (kind(o) != "Provenance").then(|| format!("identifier={RECORD_SYSTEM}|{}", record_id(&o.key)));
                session.create(kind(o), bytes(&resource)?, condition.as_deref()).await?
            }
            Step::Correct(copy) => {
                let Some((kind, id)) = copy.reference.split_once('/') else { continue };
                resource["id"] = json!(id);
                session.update(kind, id, bytes(&resource)?, copy.version.as_deref()).await?
            }
        };
        match answer.status {
            200..=299 => session.nothing_is_unclear(),
            status @ (409 | 412) => {
                session.nothing_is_unclear();
                return Ok(Written::Conflict(status));
            }
            status @ (404 | 410) if matches!(step, Step::Correct(_)) => {
                session.nothing_is_unclear();
                return Ok(Written::Conflict(status));
            }
            // A gateway that got no answer does not know whether the practice wrote.
            status @ (502 | 504) => return Err(Verdict::Unknown { why: Why::Status(status) }),
            _ => {
                session.nothing_is_unclear();
                return Err(session.refusal(&answer));
            }
        }
        let copy = match step {
            Step::Correct(copy) => Some(PracticeCopy { reference: copy.reference.clone(), version: answer.version() }),
            _ => answer.header("location").and_then(|said| location(said, answer.version(), kind(o))),
        };
        if let (Some(copy), Some(slot)) = (copy, at.get_mut(index)) {
            names.insert(full_url(&o.key), copy.reference.clone());
            *slot = Some(copy);
        }
    }
    Ok(Written::At(at))
}

fn bytes(resource: &Value) -> Result<Vec<u8>, Verdict> {
    serde_json::to_vec(resource).map_err(|_| Verdict::Retry { after: None, why: Why::RequestNotMade })
}

/// The places in `outgoing`, each after what it refers to. What refers to each other in a ring goes in the order it has.
fn order(outgoing: &[Outgoing]) -> Vec<usize> {
    let urls: Vec<String> = outgoing.iter().map(|o| full_url(&o.key)).collect();
    let mut order = Vec::with_capacity(outgoing.len());
    let mut left: BTreeSet<usize> = (0..outgoing.len()).collect();
    while !left.is_empty() {
        let waits = |index: usize| {
            let named = outgoing.get(index).map(|o| references(&o.resource)).unwrap_or_default();
            left.iter().any(|other| *other != index && urls.get(*other).is_some_and(|url| named.contains(url.as_str())))
        };
        let Some(next) = left.iter().copied().find(|index| !waits(*index)).or_else(|| left.first().copied()) else {
            break;
        };
        left.remove(&next);
        order.push(next);
    }
    order
}

fn references(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Object(fields) => {
            let own = fields.get("reference").and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// What is not there yet when it is referred to (a ring), or where the practice did not say, is named by our identifier.
fn name_the_rest(value: &mut Value, outgoing: &[Outgoing]) {
    let keys: BTreeMap<String, &str> = outgoing.iter().map(|o| (full_url(&o.key), o.key.as_str())).collect();
    rename(value, &keys);
}

fn rename(value: &mut Value, keys: &BTreeMap<String, &str>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, keys)),
        Value::Object(fields) => {
            if let Some(key) = fields.get("reference").and_then(Value::as_str).and_then(|said| keys.get(said)) {
                let kind = key.split_once('/').map_or(*key, |(kind, _)| kind);
                fields.insert("type".into(), json!(kind));
                fields.insert("identifier".into(), json!({ "system": RECORD_SYSTEM, "value": record_id(key) }));
                fields.shift_remove("reference");
            }
            fields.values_mut().for_each(|child| rename(child, keys));
        }
        _ => {}
    }
}
