//! A file of an export, read part by part while it is downloaded.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::store::{ExportFileRow, ExportRow, Sight, Store};

use super::super::{Actor, Error, House, Result, audit_row};
use super::filters::Filters;
use super::{DELETED, own};

/// Resources in memory at once.
const PART: i64 = 100;

/// A file of an export that is about to be read, part by part.
pub struct File {
    store: Store,
    row: ExportRow,
    kind: String,
    /// It is of what was deleted.
    deleted: bool,
    filters: Filters,
    sight: Sight,
    after: Option<String>,
}

/// Opens a file of an export that is done, by the export's id and the file's name, and writes down who reads it.
pub async fn open(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    (id, name): (&str, &str),
) -> Result<File> {
    let (kind, deleted) = name.strip_suffix(DELETED).map_or((name, false), |kind| (kind, true));
    let mut tx = store.read().await?;
    let row = own(&mut tx, actor, now, id).await?;
    let there = |file: &ExportFileRow| file.kind == kind && (if deleted { file.deleted } else { file.counted }) > 0;
    let there = tx.export_files(id).await?.iter().any(there);
    drop(tx);
    if row.state != "done" || !there {
        return Err(Error::NotFound);
    }
    let target = format!("export {id} {name}");
    store.disclose(audit_row(actor, now, request_id, "$export download", &target, "", "success")).await?;
    Ok(File {
        store: store.clone(),
        filters: Filters::of(house, &row)?,
        row,
        kind: kind.to_owned(),
        deleted,
        sight: actor.sight.clone(),
        after: Some(String::new()),
    })
}

impl File {
    /// The next lines; `None` at the end. Each part is a transaction of its own, so that a slow reader holds none open.
    pub async fn next(&mut self) -> Result<Option<String>> {
        while let Some(after) = self.after.take() {
            let mut tx = self.store.read().await?;
            let part = tx.export_part(&self.row, &self.kind, &after, &self.sight, PART).await?;
            drop(tx);
            self.after = part.next;
            if self.deleted {
                if !part.deleted.is_empty() {
                    return Ok(Some(deletions(&self.kind, &part.deleted).to_string() + "\n"));
                }
                continue;
            }
            let bodies = self.filters.pass(&self.kind, part.resources)?;
            if !bodies.is_empty() {
                // A body is JSON in one line: it was written by a serialiser, and texts have their line ends escaped.
                return Ok(Some(bodies.join("\n") + "\n"));
            }
        }
        Ok(None)
    }
}

/// What was deleted, as the Bundle that deletes it where it was taken before.
fn deletions(kind: &str, ids: &[String]) -> Value {
    let entry = |id: &String| json!({ "request": { "method": "DELETE", "url": format!("{kind}/{id}") } });
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": ids.iter().map(entry).collect::<Vec<_>>() })
}
