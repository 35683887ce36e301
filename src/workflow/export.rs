//! Bulk export (<https://hl7.org/fhir/uv/bulkdata/STU2/export.html>): asked for, counted by a worker, read as the record was
//! at the moment it was asked for.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::fhir::{Resource, path};
use crate::store::{At, ExportPart, ExportRow, Sight, Store, Tx};

use super::{Actor, Error, House, Result, Unit, audit_row};

/// How long an export can be downloaded.
const KEPT: Duration = Duration::hours(24);
/// How long a worker counts before another may take it up.
const LEASE: Duration = Duration::seconds(60);
/// Rows looked at in one step.
const STEP: i64 = 500;
/// Resources in memory at once while a file is downloaded.
const PART: i64 = 100;
/// How much further back than `_since` is looked: what was being written when the last export was taken has a time from
/// before it and was not in it. Longer than any request is worked on.
const UNDER_WAY: Duration = Duration::minutes(5);
/// How often the status of an export may be asked while it is worked on.
const APART: Duration = Duration::seconds(1);

/// Whose resources are exported.
pub enum Level {
    /// All there are.
    System,
    /// What is about anybody.
    Patient,
    /// What is about the members of this Group.
    Group(String),
}

/// What is asked for.
pub struct Wanted {
    pub level: Level,
    pub types: Vec<String>,
    pub since: Option<DateTime<Utc>>,
    /// The URL, as the manifest repeats it.
    pub request: String,
}

/// How an export stands.
pub enum Progress {
    /// It was asked for too soon again.
    TooSoon,
    /// Being worked on; the words say how far.
    Working(String),
    Done(Box<Manifest>),
}

/// What an export came to.
pub struct Manifest {
    pub taken_at: DateTime<Utc>,
    pub request: String,
    /// Type and count.
    pub files: Vec<(String, i64)>,
    pub expires_at: DateTime<Utc>,
}

/// Only systems of the Live Well organisation take everything home.
fn may_export(actor: &Actor) -> Result<()> {
    if actor.ours && actor.staff.is_none() && actor.sight == Sight::Everything {
        return Ok(());
    }
    Err(Error::Forbidden(
        "Export is for the systems of the Live Well organisation itself. Search answers what you may see.".to_owned(),
    ))
}

/// Takes an export on; answers its id.
pub async fn begin(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    wanted: &Wanted,
) -> Result<String> {
    may_export(actor)?;
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let (scope, people) = match &wanted.level {
        Level::System => ("all", Vec::new()),
        Level::Patient => ("people", Vec::new()),
        Level::Group(id) => ("group", members(&mut unit, id).await?),
    };
    let id = Unit::new_id();
    let since = wanted.since.map_or(At(0), |since| At::from(since - UNDER_WAY));
    let row = ExportRow {
        id: id.clone(),
        client: actor.client.clone(),
        request: wanted.request.clone(),
        types: serde_json::to_string(&wanted.types).expect("a list of texts"),
        scope: scope.to_owned(),
        since,
        taken_at: now.into(),
        state: "working".to_owned(),
        place: 0,
        after: String::new(),
        counted: 0,
        asked_at: At(0),
        expires_at: (now + KEPT).into(),
        lease: 0,
        lease_until: At(0),
    };
    unit.tx.insert_export(&row, &people).await?;
    unit.audit("$export", &format!("export {id}"), "");
    unit.commit().await?;
    Ok(id)
}

/// Our Patients that a Group names.
async fn members(unit: &mut Unit<'_>, id: &str) -> Result<Vec<String>> {
    let group: Resource = unit.see("Group", id).await?.ok_or(Error::NotFound)?.resource;
    let mut people = Vec::new();
    for member in group.all("member").into_iter().filter(|m| m.get("inactive") != Some(&Value::Bool(true))) {
        let reference = path::text(member, "entity.reference").unwrap_or_default();
        if let Some(("Patient", id)) = unit.house.local(reference)
            && let Some(seen) = unit.see("Patient", id).await?
        {
            people.push(seen.belongs.person);
        }
    }
    people.sort();
    people.dedup();
    Ok(people)
}

/// The export of this client with this id; others answer like none.
async fn own(tx: &mut Tx, actor: &Actor, now: DateTime<Utc>, id: &str) -> Result<ExportRow> {
    may_export(actor)?;
    let row = tx.export(id).await?;
    row.filter(|row| row.client == actor.client && row.expires_at.time() > now).ok_or(Error::NotFound)
}

/// How an export stands.
pub async fn progress(store: &Store, actor: &Actor, now: DateTime<Utc>, id: &str) -> Result<Progress> {
    let mut tx = store.write().await?;
    let row = own(&mut tx, actor, now, id).await?;
    if row.state == "working" {
        let apart = At(APART.num_microseconds().unwrap_or(0));
        let asked = tx.ask_export(id, now.into(), apart).await?;
        tx.commit().await?;
        let types = types(&row);
        let at = usize::try_from(row.place).unwrap_or(0);
        let kind = types.get(at).map(String::as_str).unwrap_or_default();
        let said = format!("{kind}: {} so far; {at} of {} types done", row.counted, types.len());
        return Ok(if asked { Progress::Working(said) } else { Progress::TooSoon });
    }
    let files = tx.export_files(id).await?;
    Ok(Progress::Done(Box::new(Manifest {
        taken_at: row.taken_at.time(),
        request: row.request,
        files,
        expires_at: row.expires_at.time(),
    })))
}

/// Cancels an export, or removes one that is done.
pub async fn cancel(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    id: &str,
) -> Result<()> {
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    own(&mut unit.tx, actor, now, id).await?;
    unit.tx.forget_exports(id, At(0)).await?;
    unit.audit("$export delete", &format!("export {id}"), "");
    unit.commit().await?;
    Ok(())
}

/// A file of an export that is about to be read, part by part.
pub struct File {
    store: Store,
    row: ExportRow,
    kind: String,
    sight: Sight,
    after: Option<String>,
}

/// Opens a file of an export that is done, and writes down who reads it.
pub async fn open(
    store: &Store,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    id: &str,
    kind: &str,
) -> Result<File> {
    let mut tx = store.read().await?;
    let row = own(&mut tx, actor, now, id).await?;
    let there = tx.export_files(id).await?.iter().any(|(file, _)| file == kind);
    drop(tx);
    if row.state != "done" || !there {
        return Err(Error::NotFound);
    }
    let target = format!("export {id} {kind}");
    store.disclose(audit_row(actor, now, request_id, "$export download", &target, "", "success")).await?;
    Ok(File {
        store: store.clone(),
        row,
        kind: kind.to_owned(),
        sight: actor.sight.clone(),
        after: Some(String::new()),
    })
}

impl File {
    /// The next lines; `None` at the end. Each part is a transaction of its own, so that a slow reader holds none open.
    pub async fn next(&mut self) -> Result<Option<String>> {
        while let Some(after) = self.after.take() {
            let mut tx = self.store.read().await?;
            let ExportPart { bodies, next } = tx.export_part(&self.row, &self.kind, &after, &self.sight, PART).await?;
            self.after = next;
            if !bodies.is_empty() {
                // A body is JSON in one line: it was written by a serialiser, and texts have their line ends escaped.
                return Ok(Some(bodies.join("\n") + "\n"));
            }
        }
        Ok(None)
    }
}

/// Counts on at an export that waits, a step at a time until there is none. False when there was none.
pub async fn work(store: &Store, now: &(dyn Fn() -> DateTime<Utc> + Sync)) -> Result<bool> {
    let mut tx = store.write().await?;
    let leased = tx.lease_export(now().into(), (now() + LEASE).into()).await?;
    tx.commit().await?;
    let Some(mut row) = leased else { return Ok(false) };
    while row.state == "working" {
        if !step(store, &mut row, (now() + LEASE).into()).await? {
            break;
        }
    }
    Ok(true)
}

/// One step. False when the export is not this worker's any more.
async fn step(store: &Store, row: &mut ExportRow, until: At) -> Result<bool> {
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
            row.counted += i64::try_from(part.bodies.len()).unwrap_or(0);
            match part.next {
                Some(next) => row.after = next,
                None => {
                    done = Some((kind.as_str(), row.counted));
                    row.place += 1;
                    row.after = String::new();
                    row.counted = 0;
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

fn types(row: &ExportRow) -> Vec<String> {
    serde_json::from_str(&row.types).unwrap_or_default()
}

/// The manifest as callers read it; `file` makes the URL of a type's file.
pub fn manifest(manifest: &Manifest, file: impl Fn(&str) -> String) -> Value {
    let output: Vec<Value> =
        manifest.files.iter().map(|(kind, count)| json!({ "type": kind, "url": file(kind), "count": count })).collect();
    json!({
        // With microseconds: as `_since` of the next export it means the same moment.
        "transactionTime": manifest.taken_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "request": manifest.request,
        "requiresAccessToken": true,
        "output": output,
        "error": [],
    })
}
