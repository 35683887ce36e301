//! What is at the practice already, and so what is left to do for each resource.

use std::collections::BTreeMap;

use serde_json::Value;

use super::session::Session;
use crate::fhir::path;
use crate::pathway::delivery::{Reason, Verdict, Why};
use crate::pathway::write_back::{Outgoing, PracticeCopy, RECORD_SYSTEM, VERSION_SYSTEM, full_url, record_id};

/// What is to be done for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Not there: create it.
    Create,
    /// There in a version of ours that is older: correct it, if it is still as said here.
    Correct(PracticeCopy),
    /// There as it should be.
    There(PracticeCopy),
    /// A Provenance at a practice that cannot search for it: it was written together with what is there.
    LeftOut,
}

impl Step {
    pub(super) fn there(&self) -> Option<&PracticeCopy> {
        match self {
            Step::There(copy) => Some(copy),
            _ => None,
        }
    }
}

/// One step for each of `outgoing`, in its order. Without `looking` only corrections of unknown version are looked at.
pub(super) async fn plan(
    session: &mut Session<'_>,
    outgoing: &[Outgoing],
    looking: bool,
) -> Result<Vec<Step>, Verdict> {
    let mut steps: Vec<Step> = Vec::with_capacity(outgoing.len());
    for o in outgoing {
        let step = match &o.previous {
            // It came by another channel: where it is the practice can say.
            Some(copy) if copy.reference.is_empty() => created(session, o).await?,
            Some(copy) if looking || copy.version.is_none() => correction(session, o, copy).await?,
            Some(copy) => Step::Correct(copy.clone()),
            None if !looking => Step::Create,
            None if kind(o) == "Provenance" => provenance(session, o, outgoing, &steps).await?,
            None => created(session, o).await?,
        };
        steps.push(step);
    }
    Ok(steps)
}

/// Whether an earlier creation arrived.
async fn created(session: &mut Session<'_>, o: &Outgoing) -> Result<Step, Verdict> {
    let token = format!("{RECORD_SYSTEM}|{}", record_id(&o.key));
    let answer = session.get(session.search_url(kind(o), "identifier", &token)).await?;
    if answer.status != 200 {
        return Err(session.refusal(&answer));
    }
    let bundle = answer.json().map_err(|why| session.retry(None, why))?;
    let found = resources(&bundle, kind(o)).map_err(|why| session.retry(None, why))?;
    let ours: BTreeMap<&str, &Value> =
        found.into_iter().filter(|r| carries(r, o)).filter_map(|r| Some((id_of(r)?, r))).collect();
    match ours.iter().next() {
        None => Ok(Step::Create),
        Some(_) if ours.len() > 1 => Err(Verdict::NeedsPerson { reason: Reason::SeveralCopies }),
        Some((id, there)) => {
            let copy = PracticeCopy { reference: format!("{}/{id}", kind(o)), version: version(there) };
            match version_of_ours(there) {
                Some(held) if held >= o.version => Ok(Step::There(copy)),
                Some(_) => Ok(Step::Correct(copy)),
                None if holds(there, &o.resource) => Ok(Step::There(copy)),
                // Whose change it is cannot be told, and a GP's must not be overwritten.
                None => Err(Verdict::NeedsPerson { reason: Reason::VersionConflict }),
            }
        }
    }
}

/// Whether a correction arrived, and whether it still may.
async fn correction(session: &mut Session<'_>, o: &Outgoing, previous: &PracticeCopy) -> Result<Step, Verdict> {
    let conflict = Verdict::NeedsPerson { reason: Reason::VersionConflict };
    let Some((kind, id)) = previous.reference.split_once('/').filter(|(_, id)| is_id(id)) else { return Err(conflict) };
    let answer = session.get(session.url(&[kind, id])).await?;
    match answer.status {
        200 => {}
        404 | 410 => return Err(conflict),
        _ => return Err(session.refusal(&answer)),
    }
    let there = answer.json().map_err(|why| session.retry(None, why))?;
    let now = version(&there).or_else(|| answer.version());
    let copy = PracticeCopy { reference: previous.reference.clone(), version: now };
    let held = version_of_ours(&there);
    if held.is_some_and(|held| held >= o.version) || (held.is_none() && holds(&there, &o.resource)) {
        return Ok(Step::There(copy));
    }
    // A practice that keeps no versions cannot say that it changed anything.
    let unchanged = previous.version.is_none() || copy.version == previous.version;
    if unchanged { Ok(Step::Correct(copy)) } else { Err(conflict) }
}

/// Whether the Provenance arrived: by a target that is there, then by our tag, or where the practice keeps no tags by
/// its time.
async fn provenance(
    session: &mut Session<'_>,
    o: &Outgoing,
    outgoing: &[Outgoing],
    steps: &[Step],
) -> Result<Step, Verdict> {
    let targets = path::all(&o.resource, "target.reference");
    let named = |other: &Outgoing, step: &Step| match step {
        Step::There(copy) | Step::Correct(copy) => {
            let known = [copy.reference.clone(), full_url(&other.key)];
            targets
                .iter()
                .any(|t| t.as_str().is_some_and(|t| known.iter().any(|k| k == t)))
                .then(|| copy.reference.clone())
        }
        _ => None,
    };
    let Some(target) = outgoing.iter().zip(steps).find_map(|(other, step)| named(other, step)) else {
        return Ok(Step::Create);
    };
    let answer = session.get(session.search_url("Provenance", "target", &target)).await?;
    if matches!(answer.status, 400 | 403 | 404 | 405 | 501) {
        let all_there = steps.iter().all(|step| matches!(step, Step::There(_)));
        return Ok(if all_there { Step::LeftOut } else { Step::Create });
    }
    if answer.status != 200 {
        return Err(session.refusal(&answer));
    }
    let bundle = answer.json().map_err(|why| session.retry(None, why))?;
    let found = resources(&bundle, "Provenance").map_err(|why| session.retry(None, why))?;
    let recorded = path::text(&o.resource, "recorded");
    let ours =
        |r: &&Value| carries(r, o) || recorded.is_some_and(|at| same_text(path::text(r, "recorded").unwrap_or(""), at));
    Ok(match found.into_iter().find(ours).and_then(|r| Some((id_of(r)?, r))) {
        Some((id, there)) => {
            Step::There(PracticeCopy { reference: format!("Provenance/{id}"), version: version(there) })
        }
        None => Step::Create,
    })
}

/// The resources of one type in a Bundle; other entries (an OperationOutcome about the search) are passed over.
pub(super) fn resources<'a>(bundle: &'a Value, kind: &str) -> Result<Vec<&'a Value>, Why> {
    if bundle.get("resourceType").and_then(Value::as_str) != Some("Bundle") {
        return Err(Why::AnswerUnreadable);
    }
    let found = path::all(bundle, "entry.resource").into_iter();
    Ok(found.filter(|r| r.get("resourceType").and_then(Value::as_str) == Some(kind)).collect())
}

/// Whether a resource at the practice carries our identifier for this record (a Provenance: our tag).
pub(super) fn carries(resource: &Value, o: &Outgoing) -> bool {
    let (element, code) = if kind(o) == "Provenance" { ("meta.tag", "code") } else { ("identifier", "value") };
    path::all(resource, element).into_iter().any(|i| {
        i.get("system").and_then(Value::as_str) == Some(RECORD_SYSTEM)
            && i.get(code).and_then(Value::as_str) == Some(record_id(&o.key))
    })
}

/// Which of our versions a resource at the practice holds, as far as its tags say. Servers keep old tags: the highest.
pub(super) fn version_of_ours(resource: &Value) -> Option<u64> {
    let tags = path::all(resource, "meta.tag").into_iter();
    let ours = tags.filter(|t| t.get("system").and_then(Value::as_str) == Some(VERSION_SYSTEM));
    ours.filter_map(|t| t.get("code")?.as_str()?.parse().ok()).max()
}

/// The practice's version of a resource it showed.
pub(super) fn version(resource: &Value) -> Option<String> {
    path::text(resource, "meta.versionId").filter(|v| is_id(v)).map(str::to_owned)
}

pub(super) fn kind(o: &Outgoing) -> &str {
    o.key.split_once('/').map_or(o.key.as_str(), |(kind, _)| kind)
}

/// A FHIR id (R4 datatypes): anything else from a practice must not become part of a URL.
pub(super) fn is_id(text: &str) -> bool {
    let dots_only = text.bytes().all(|b| b == b'.');
    !dots_only && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

fn id_of(resource: &Value) -> Option<&str> {
    resource.get("id").and_then(Value::as_str).filter(|id| is_id(id))
}

/// Whether all that we would write is there. What a server adds, and how it writes references and narrative, is its own.
fn holds(there: &Value, ours: &Value) -> bool {
    match (there, ours) {
        (Value::Object(there), Value::Object(ours)) => ours
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "id" | "meta" | "text" | "reference"))
            .all(|(name, value)| there.get(name).is_some_and(|t| holds(t, value))),
        (Value::Array(there), Value::Array(ours)) => {
            there.len() >= ours.len() && there.iter().zip(ours).all(|(t, o)| holds(t, o))
        }
        (Value::Number(there), Value::Number(ours)) => there == ours || there.as_f64() == ours.as_f64(),
        (Value::String(there), Value::String(ours)) => same_text(there, ours),
        _ => there == ours,
    }
}

/// Equal, or the same instant in another spelling.
fn same_text(one: &str, other: &str) -> bool {
    let instant = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok();
    one == other || matches!((instant(one), instant(other)), (Some(a), Some(b)) if a == b)
}
