//! Reading back: delivered means that it was seen at the practice, with our identifier.

use super::look::{self, Step, carries, is_id, kind, version, version_of_ours};
use super::session::Session;
use crate::pathway::delivery::{Reason, Verdict, Why};
use crate::pathway::write_back::{Outgoing, PracticeCopy};

/// Reads each resource that was sent and gives where it is, with the version it was read in. None when one of them is
/// there in an older version of ours: a conditional create found it and left it as it was.
///
/// Where the answer to the transaction did not say where a resource is, it is looked for by our identifier.
pub(super) async fn confirm(
    session: &mut Session<'_>,
    outgoing: &[Outgoing],
    steps: &[Step],
    copies: Vec<Option<PracticeCopy>>,
) -> Result<Option<Vec<Option<PracticeCopy>>>, Verdict> {
    let copies = if copies.iter().zip(steps).any(|(copy, step)| copy.is_none() && *step != Step::LeftOut) {
        located(session, outgoing, copies).await?
    } else {
        copies
    };
    let mut seen = Vec::with_capacity(copies.len());
    for ((o, step), copy) in outgoing.iter().zip(steps).zip(copies) {
        let copy = match (step, copy) {
            (Step::Create | Step::Correct(_), Some(copy)) => match read(session, o, copy).await? {
                Some(copy) => Some(copy),
                None => return Ok(None),
            },
            (_, copy) => copy,
        };
        seen.push(copy);
    }
    Ok(Some(seen))
}

/// Looks for what the answer did not locate.
async fn located(
    session: &mut Session<'_>,
    outgoing: &[Outgoing],
    copies: Vec<Option<PracticeCopy>>,
) -> Result<Vec<Option<PracticeCopy>>, Verdict> {
    let found = look::plan(session, outgoing, true).await?;
    let mut all = Vec::with_capacity(copies.len());
    for (copy, step) in copies.into_iter().zip(found) {
        all.push(match (copy, step) {
            (Some(copy), _) | (None, Step::There(copy) | Step::Correct(copy)) => Some(copy),
            (None, Step::LeftOut) => None,
            (None, Step::Create) => return Err(Verdict::Unknown { why: Why::NotThereAfterwards }),
        });
    }
    Ok(all)
}

async fn read(session: &mut Session<'_>, o: &Outgoing, copy: PracticeCopy) -> Result<Option<PracticeCopy>, Verdict> {
    let id = copy.reference.split_once('/').map(|(_, id)| id).filter(|id| is_id(id));
    let Some(id) = id else { return Err(Verdict::Unknown { why: Why::AnswerUnreadable }) };
    let answer = session.get(session.url(&[kind(o), id])).await?;
    match answer.status {
        200 => {}
        404 | 410 => return Err(Verdict::Unknown { why: Why::NotThereAfterwards }),
        status => return Err(Verdict::Unknown { why: Why::Status(status) }),
    }
    let there = answer.json().map_err(|why| Verdict::Unknown { why })?;
    if there.get("resourceType").and_then(serde_json::Value::as_str) != Some(kind(o)) {
        return Err(Verdict::Unknown { why: Why::AnswerUnreadable });
    }
    // Without our identifier it would not be found again, and a repeat would double it.
    if kind(o) != "Provenance" && !carries(&there, o) {
        return Err(Verdict::NeedsPerson { reason: Reason::IdentifierNotKept });
    }
    if version_of_ours(&there).is_some_and(|held| held < o.version) {
        return Ok(None);
    }
    let version = version(&there).or_else(|| answer.version()).or(copy.version);
    Ok(Some(PracticeCopy { reference: copy.reference, version }))
}
