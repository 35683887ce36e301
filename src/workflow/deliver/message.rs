//! The message that carries a delivery to a practice reached by MESH: written down before it leaves, so that it can be looked
//! for whatever happens on the way.

use chrono::{DateTime, Utc};

use crate::pathway::delivery::{Verdict, Why};
use crate::pathway::write_back::{Addressing, Person, message};
use crate::store::{DeliveryItem, Leased, MeshMessageRow, Store, StoreError};

use super::super::{Error, House, Result, Unit};
use super::corrupt;
use super::prepare::Dispatch;

/// The code by which the event of a message is known.
const EVENT: &str = "message-write-back";

/// A message that is written down and may leave.
pub struct Posting {
    /// `mex-localid`.
    pub local_id: String,
    /// The message Bundle.
    pub body: Vec<u8>,
    /// It may have left before.
    pub look_first: bool,
}

/// Writes down the message that carries a delivery, from our mailbox to the practice's. None when the lease was lost: it must
/// not leave then.
///
/// A message whose sending was not confirmed is the same again. After one that was refused comes another; after one that was
/// never answered comes one with the same identifier, so that a practice that has the first knows the second for it.
pub async fn post(
    store: &Store,
    house: &House,
    now: DateTime<Utc>,
    dispatch: &Dispatch,
    (source, destination): (&str, &str),
) -> Result<Option<Posting>> {
    let leased = &dispatch.leased;
    let mut tx = store.write().await?;
    let records = records(dispatch)?;
    let last = tx.mesh_message(&leased.id).await?;
    let (row, look_first) = match last {
        Some(row) if row.sent_at.is_none() && row.failed_at.is_none() => {
            let row = MeshMessageRow { records, ..row };
            tx.update_mesh_message(&row).await?;
            (row, true)
        }
        last => {
            let row = next(leased, last, records, now);
            if !tx.insert_mesh_message(&row, leased.lease).await? {
                return Ok(None);
            }
            (row, false)
        }
    };
    tx.commit().await?;
    let event = house.codes.code(EVENT).ok_or_else(|| corrupt(leased, "there is no code for its event"))?;
    let bundle = message(
        &dispatch.outgoing,
        &Addressing {
            message: &row.identifier,
            written: now,
            event,
            author: &dispatch.author,
            organization: &dispatch.organization,
            source,
            destination,
            practice: &leased.practice,
        },
        &Person {
            nhs_number: &dispatch.nhs_number,
            birth_date: dispatch.birth_date.as_deref(),
            family: dispatch.family.as_deref(),
        },
    );
    let body = serde_json::to_vec(&bundle).map_err(|e| corrupt(leased, &e.to_string()))?;
    Ok(Some(Posting { local_id: row.local_id, body, look_first }))
}

fn next(leased: &Leased, last: Option<MeshMessageRow>, records: String, now: DateTime<Utc>) -> MeshMessageRow {
    let number = last.as_ref().map_or(1, |last| last.number + 1);
    let local_id = if number == 1 { leased.id.clone() } else { format!("{}.{number}", leased.id) };
    let identifier = match last {
        Some(last) if !was_refused(&last) => last.identifier,
        _ => local_id.clone(),
    };
    MeshMessageRow {
        delivery: leased.id.clone(),
        number,
        local_id,
        identifier,
        mesh_id: String::new(),
        records,
        made_at: now.into(),
        sent_at: None,
        received_at: None,
        accepted_at: None,
        filed_at: None,
        failed_at: None,
        why: String::new(),
        said: String::new(),
    }
}

fn was_refused(row: &MeshMessageRow) -> bool {
    row.failed_at.is_some() && row.why != Why::UploadIncomplete.code()
}

fn records(dispatch: &Dispatch) -> Result<String> {
    let items: Vec<DeliveryItem> = dispatch
        .outgoing
        .iter()
        .filter_map(|o| {
            let (kind, id) = o.key.split_once('/').filter(|(kind, _)| *kind != "Provenance")?;
            let version = i64::try_from(o.version).unwrap_or(1);
            Some(DeliveryItem { kind: kind.to_owned(), id: id.to_owned(), version })
        })
        .collect();
    serde_json::to_string(&items).map_err(|e| corrupt(&dispatch.leased, &e.to_string()))
}

/// Writes down what an attempt came to for the message.
pub(super) async fn attempted(unit: &mut Unit<'_>, leased: &Leased, verdict: &Verdict) -> Result<()> {
    let Some(mut row) = unit.tx.mesh_message(&leased.id).await? else { return Ok(()) };
    if row.sent_at.is_some() || row.failed_at.is_some() {
        return Ok(());
    }
    match verdict {
        Verdict::Sent { message, .. } => {
            row.sent_at = Some(unit.now.into());
            row.mesh_id.clone_from(message);
        }
        Verdict::Refused { why, .. } => {
            row.failed_at = Some(unit.now.into());
            row.why = why.code();
        }
        // MESH will never hand it over: the next attempt makes another.
        Verdict::Retry { why: Why::UploadIncomplete, .. } => {
            row.failed_at = Some(unit.now.into());
            row.why = Why::UploadIncomplete.code();
        }
        _ => return Ok(()),
    }
    unit.tx.update_mesh_message(&row).await.map_err(|e: StoreError| Error::from(e))
}
