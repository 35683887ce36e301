//! Bulk export (<https://hl7.org/fhir/uv/bulkdata/STU2/export.html>): asked for, counted by a worker, read as the record was
//! at the moment it was asked for.

mod count;
mod file;
mod filters;

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::fhir::{Resource, path};
use crate::store::{At, ExportFileRow, ExportRow, Sight, Store, Tx};

use super::{Actor, Error, House, Result, Unit};
pub use count::work;
pub use file::{File, open};
use filters::Filters;

/// How long an export can be downloaded.
const KEPT: Duration = Duration::hours(24);
/// How much further back than `_since` is looked: what was being written when the last export was taken has a time from
/// before it and was not in it. Longer than any request is worked on.
const UNDER_WAY: Duration = Duration::minutes(5);
/// How often the status of an export may be asked while it is worked on.
const APART: Duration = Duration::seconds(1);
/// What follows the type in the name of a file of what was deleted.
pub const DELETED: &str = ".deleted";

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
    /// `_typeFilter`: searches, `Type?parameter=value`; of a type that has some, what one of them finds.
    pub filters: Vec<String>,
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
    pub files: Vec<ExportFileRow>,
    /// What was deleted is told: the export is of what changed since a moment.
    pub tells_deleted: bool,
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
    Filters::read(house, &wanted.filters, now.into())?.fit(&wanted.types)?;
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
        filters: serde_json::to_string(&wanted.filters).expect("a list of texts"),
        deleted: 0,
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
        tells_deleted: row.since > At(0),
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

/// The types of an export, in their order.
fn types(row: &ExportRow) -> Vec<String> {
    serde_json::from_str(&row.types).unwrap_or_default()
}

/// The manifest as callers read it; `file` makes the URL of a file by its name.
pub fn manifest(manifest: &Manifest, file: impl Fn(&str) -> String) -> Value {
    let there = manifest.files.iter().filter(|f| f.counted > 0);
    let output: Vec<Value> =
        there.map(|f| json!({ "type": f.kind, "url": file(&f.kind), "count": f.counted })).collect();
    let mut said = json!({
        // With microseconds: as `_since` of the next export it means the same moment.
        "transactionTime": manifest.taken_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "request": manifest.request,
        "requiresAccessToken": true,
        "output": output,
        "error": [],
    });
    if manifest.tells_deleted {
        let gone = manifest.files.iter().filter(|f| f.deleted > 0);
        let gone = gone.map(|f| json!({ "type": "Bundle", "url": file(&format!("{}{DELETED}", f.kind)) }));
        said["deleted"] = Value::Array(gone.collect());
    }
    said
}
