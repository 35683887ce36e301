//! A worker counts what an export comes to.

use chrono::{DateTime, Duration, Utc};

use crate::store::{At, ExportFileRow, ExportRow, Sight, Store};

use super::super::{House, Result};
use super::filters::Filters;
use super::types;

/// How long a worker counts before another may take it up.
const LEASE: Duration = Duration::seconds(60);
/// Rows looked at in one step.
const STEP: i64 = 500;

/// Counts on at an export that waits, a step at a time until there is none. False when there was none.
pub async fn work(store: &Store, house: &House, now: &(dyn Fn() -> DateTime<Utc> + Sync)) -> Result<bool> {
    let mut tx = store.write().await?;
    let leased = tx.lease_export(now().into(), (now() + LEASE).into()).await?;
    tx.commit().await?;
    let Some(mut row) = leased else { return Ok(false) };
    let filters = Filters::of(house, &row)?;
    while row.state == "working" {
        if !step(store, &filters, &mut row, (now() + LEASE).into()).await? {
            break;
        }
    }
    Ok(true)
}

/// One step. False when the export is not this worker's any more.
async fn step(store: &Store, filters: &Filters, row: &mut ExportRow, until: At) -> Result<bool> {
    let types = types(row);
    let kind = usize::try_from(row.place).ok().and_then(|at| types.get(at)).cloned();
    let mut done = None;
    match &kind {
        None => "done".clone_into(&mut row.state),
        Some(kind) => {
            let mut tx = store.read().await?;
            // What is counted is what any system of the organisation sees: the same as who asked.
            let part = tx.export_part(row, kind, &row.after, &Sight::Everything, STEP).await?;
            drop(tx);
            let bodies = filters.pass(kind, part.resources)?;
            row.counted += i64::try_from(bodies.len()).unwrap_or(0);
            if row.since > At(0) {
                row.deleted += i64::try_from(part.deleted.len()).unwrap_or(0);
            }
            match part.next {
                Some(next) => row.after = next,
                None => {
                    done = Some(ExportFileRow { kind: kind.clone(), counted: row.counted, deleted: row.deleted });
                    row.place += 1;
                    row.after = String::new();
                    (row.counted, row.deleted) = (0, 0);
                }
            }
        }
    }
    row.lease_until = until;
    let mut tx = store.write().await?;
    let ours = tx.advance_export(row, done).await?;
    tx.commit().await?;
    Ok(ours)
}
