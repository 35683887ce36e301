//! Taking work from the queue, and giving it back.

use chrono::{DateTime, Utc};

use crate::fhir::IssueCode;
use crate::fhir::etag::Tags;
use crate::pathway::task::Event;
use crate::store::{Store, SubmissionRow, TaskRow, WorkOrder};

use super::submit::as_found;
use super::{Actor, Error, House, Result, Unit, Written, condition, tasks};

/// What a caller asks the queue for.
pub struct Work {
    /// Local role code.
    pub role: String,
    /// Location id; absent: every locality the caller works in.
    pub locality: Option<String>,
    /// ODS code of a practice; absent: all.
    pub practice: Option<String>,
    /// `Idempotency-Key`: the same key gets the same Task again.
    pub key: Option<String>,
}

/// Gives the caller the most urgent Task that is nobody's and that they may work on; `None` when there is none.
pub async fn claim_next(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    work: &Work,
) -> Result<Option<Written>> {
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let staff = tasks::staff(&unit)?.clone();
    if let Some(key) = &work.key {
        // Who asks again while the first is being answered waits for that answer: it would pass over the Tasks that its
        // own repeats have in hand, and find none.
        unit.tx.hold(&format!("key {} {key}", actor.client)).await?;
        if let Some(before) = unit.tx.submission_by_key(&actor.client, key).await? {
            return answered_before(&mut unit, &before, &work.digest(&staff.reference)).await;
        }
    }
    if !staff.may_do_work_for(&work.role) {
        return Err(Error::Forbidden(format!(
            "You do not have the role {}. Ask for Tasks of your own role.",
            work.role
        )));
    }
    let localities = match &work.locality {
        Some(one) if staff.works_everywhere() || staff.localities.contains(one) => Some(vec![one.clone()]),
        Some(_) => {
            return Err(Error::Forbidden("You do not work in this locality. Ask for Tasks of your own.".to_owned()));
        }
        None if staff.works_everywhere() => None,
        None => Some(staff.localities.clone()),
    };
    let order = WorkOrder {
        role: &work.role,
        localities: localities.as_deref(),
        practice: work.practice.as_deref(),
        now: now.into(),
    };
    let Some(row) = unit.tx.next_unclaimed(&order).await? else {
        unit.audit("$claim-next", "Task", "");
        unit.commit().await?;
        return Ok(None);
    };
    let id = row.id.clone();
    take(&mut unit, row, "$claim-next").await?;
    if let Some(key) = &work.key {
        let row = SubmissionRow {
            id: Unit::new_id(),
            client: actor.client.clone(),
            key: key.clone(),
            digest: work.digest(&staff.reference),
            status: 200,
            answer: format!("Task/{id}"),
            created_at: now.into(),
        };
        unit.tx.insert_submission(&row).await?;
    }
    Ok(Some(the_task(unit, &id).await?))
}

impl Work {
    /// What tells the same request from another under one `Idempotency-Key`.
    fn digest(&self, staff: &str) -> String {
        format!("$claim-next {staff} {} {:?} {:?}", self.role, self.locality, self.practice)
    }
}

async fn answered_before(unit: &mut Unit<'_>, before: &SubmissionRow, digest: &str) -> Result<Option<Written>> {
    let id = before.answer.strip_prefix("Task/").filter(|_| before.digest == digest).ok_or_else(|| {
        Error::rule(
            IssueCode::Conflict,
            "Parameters",
            "This Idempotency-Key was used for something else. Use a new key for another request.",
        )
    })?;
    let stored = unit.tx.resource("Task", id, &unit.actor.sight.clone()).await?.ok_or(Error::NotFound)?;
    Ok(Some(as_found(stored)))
}

/// Gives the caller this Task.
pub async fn claim(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    id: &str,
    if_match: Option<&Tags>,
) -> Result<Written> {
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let (row, _) = tasks::seen(&mut unit, id).await?;
    condition::current("Task", id, row.version, if_match)?;
    if !row.owner.is_empty() {
        return Err(tasks::taken(&row, tasks::staff(&unit)?));
    }
    tasks::may_work_on(&unit, &row)?;
    take(&mut unit, row, "$claim").await?;
    the_task(unit, id).await
}

/// Gives a Task back to the queue.
pub async fn release(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    id: &str,
    if_match: Option<&Tags>,
) -> Result<Written> {
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let (row, task) = tasks::seen(&mut unit, id).await?;
    condition::current("Task", id, row.version, if_match)?;
    tasks::may_work_on(&unit, &row)?;
    unit.audit("$release", &format!("Task/{id}"), &row.person);
    tasks::apply(&mut unit, row, task, Event::Release).await?;
    the_task(unit, id).await
}

async fn take(unit: &mut Unit<'_>, row: TaskRow, interaction: &str) -> Result<()> {
    let by = tasks::staff(unit)?.reference.clone();
    let seen = unit.get("Task", &row.id).await?.ok_or(Error::NotFound)?;
    unit.audit(interaction, &format!("Task/{}", row.id), &row.person);
    tasks::apply(unit, row, seen.resource, Event::Claim { by }).await?;
    Ok(())
}

async fn the_task(unit: Unit<'_>, id: &str) -> Result<Written> {
    let written = unit.commit().await?;
    written.into_iter().find(|w| w.kind == "Task" && w.id == id).ok_or(Error::NotFound)
}
