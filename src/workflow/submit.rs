//! A submission: one resource or a transaction Bundle, all or nothing. Whatever door it came through, each resource goes
//! to the act that knows it.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fhir::etag::{Tags, etag};
use crate::fhir::outcome::operation_outcome;
use crate::fhir::systems::REFERRAL_REFERENCE;
use crate::fhir::when::instant;
use crate::fhir::{Issue, IssueCode, Resource};
use crate::store::{Store, Stored, SubmissionRow};

use super::ahead::Ahead;
use super::links::rewrite;
use super::patch::Patch;
use super::transaction::Work;
use super::{Actor, Error, House, Result, Unit, Written, keep};

/// What an entry asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    Create(Resource),
    Update(Resource),
    Patch(Patch),
    Delete,
    /// To be read once all is done; here it is only seen to that it is there. `None` of the two: a search.
    Read,
}

/// One request of a submission.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `Bundle.entry.fullUrl`, '' for none.
    pub full_url: String,
    pub kind: String,
    /// The id that the request names.
    pub id: Option<String>,
    /// Criteria in place of an id; of a create, those under which it is not made again (`If-None-Exist`).
    pub criteria: Option<String>,
    /// The versions that a change may build on.
    pub if_match: Option<Tags>,
    /// `If-None-Match: *`: only where there is none yet.
    pub if_none_match: bool,
    /// The caller may make what an update does not find.
    pub may_create: bool,
    pub ask: Ask,
    /// Where its resource stands in what was sent: `ServiceRequest`, `Bundle.entry[2].resource`.
    pub expression: String,
}

impl Entry {
    /// The resource it carries.
    pub fn resource(&self) -> Option<&Resource> {
        match &self.ask {
            Ask::Create(resource) | Ask::Update(resource) => Some(resource),
            Ask::Patch(_) | Ask::Delete | Ask::Read => None,
        }
    }
}

/// What was sent, to be done all or nothing.
#[derive(Clone)]
pub struct Submission {
    pub entries: Vec<Entry>,
    /// It came as a transaction Bundle.
    pub bundle: bool,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
}

/// What a submission is answered with.
pub struct Answer {
    /// One for each entry, in its order; `created` is false for what was there already. `None` where nothing was written:
    /// there was nothing to delete, or it is to be read.
    pub entries: Vec<Option<Written>>,
    /// The references to read out (`LW-7K3M-92QX`) of the referrals in a Bundle, by id.
    pub references: HashMap<String, String>,
    /// The first answer again, for a resend of a Bundle: a transaction-response about the entries that write, since what is
    /// read beside them is read anew.
    pub again: Option<String>,
}

impl Answer {
    /// To one resource that was sent before.
    fn one(written: Option<Written>) -> Answer {
        Answer { entries: vec![written], references: HashMap::new(), again: None }
    }

    /// To a Bundle that was sent before.
    fn again(first: String) -> Answer {
        Answer { entries: Vec::new(), references: HashMap::new(), again: Some(first) }
    }
}

/// Does what was sent, or nothing of it.
pub async fn submit(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: chrono::DateTime<chrono::Utc>,
    request_id: &str,
    submission: &Submission,
) -> Result<Answer> {
    let ahead = Ahead::of(store, house, actor, now, submission).await?;
    match knowing(ahead, store, house, actor, now, request_id, submission).await {
        // What it was overtaken by may not be durable yet, and so not be seen before a unit begins: asked within one.
        Err(Error::Store(why)) if why.is_race() => {
            knowing(Ahead::default(), store, house, actor, now, request_id, submission).await
        }
        ended => ended,
    }
}

async fn knowing(
    ahead: Ahead,
    store: &Store,
    house: &House,
    actor: &Actor,
    now: chrono::DateTime<chrono::Utc>,
    request_id: &str,
    submission: &Submission,
) -> Result<Answer> {
    let digest = digest(submission);
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?.knowing(ahead);
    if let Some(answer) = answered_before(&mut unit, submission, &digest).await? {
        unit.commit().await?;
        return Ok(answer);
    }
    let mut work = Work::plan(&mut unit, submission).await?;
    let id = Unit::new_id();
    let mut places = work.run(&mut unit, &digest, &id).await?;
    if let Some(referral) = work.resent {
        // What was begun for the entries before it is not kept.
        drop(unit);
        let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
        let answer = again(&mut unit, &referral, submission.bundle).await?;
        unit.commit().await?;
        return Ok(answer);
    }
    keep::note_dangling(&mut unit, &places).await?;
    let bundle = submission.bundle;
    let references = if bundle { references(&mut unit, &places).await? } else { HashMap::new() };
    if bundle || submission.key.is_some() {
        let row = SubmissionRow {
            id,
            client: actor.client.clone(),
            key: submission.key.clone().unwrap_or_default(),
            digest,
            status: 201,
            answer: match bundle {
                true => response_bundle(&written_by(submission, &places), &references, unit.now).to_string(),
                false => places_reference(&places),
            },
            created_at: now.into(),
        };
        unit.tx.insert_submission(&row).await?;
    }
    let written = unit.commit().await?;
    let written: HashMap<_, _> = written.iter().map(|w| ((w.kind.as_str(), w.id.as_str()), w)).collect();
    for place in places.iter_mut().flatten() {
        if let Some(w) = written.get(&(place.kind.as_str(), place.id.as_str())) {
            *place = Written { created: place.created, ..(*w).clone() };
        }
    }
    Ok(Answer { entries: places, references, again: None })
}

/// What came of the entries that write.
fn written_by(submission: &Submission, places: &[Option<Written>]) -> Vec<Option<Written>> {
    let writes = submission.entries.iter().zip(places).filter(|(entry, _)| !matches!(entry.ask, Ask::Read));
    writes.map(|(_, written)| written.clone()).collect()
}

/// The references of the referrals among what was written.
async fn references(unit: &mut Unit<'_>, places: &[Option<Written>]) -> Result<HashMap<String, String>> {
    let mut references = HashMap::new();
    for written in places.iter().flatten().filter(|w| w.kind == "ServiceRequest" && !w.deleted) {
        let seen = unit.get(&written.kind, &written.id).await?;
        if let Some(reference) = seen.as_ref().and_then(|seen| seen.resource.identifier(REFERRAL_REFERENCE)) {
            references.insert(written.id.clone(), reference.to_owned());
        }
    }
    Ok(references)
}

/// Whether what was sent would be taken: it is done, and nothing of it is kept.
///
/// # Errors
/// Why it would not.
pub async fn rehearse(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: chrono::DateTime<chrono::Utc>,
    request_id: &str,
    submission: &Submission,
) -> Result<()> {
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let mut work = Work::plan(&mut unit, submission).await?;
    work.run(&mut unit, &digest(submission), &Unit::new_id()).await?;
    Ok(())
}

/// What a resend is told by: the content without ids, meta and the names a sender makes up for its entries.
fn digest(submission: &Submission) -> String {
    let names: HashMap<&str, String> = submission
        .entries
        .iter()
        .filter(|e| !matches!(e.ask, Ask::Read))
        .enumerate()
        .filter(|(_, e)| !e.full_url.is_empty())
        .map(|(at, e)| (e.full_url.as_str(), format!("entry {at}")))
        .collect();
    let mut hash = Sha256::new();
    for entry in &submission.entries {
        let (method, content) = match &entry.ask {
            Ask::Create(resource) => ("Create", resource.value()),
            Ask::Update(resource) => ("Update", resource.value()),
            Ask::Patch(patch) => ("Patch", patch.sent()),
            Ask::Delete => ("Delete", &Value::Null),
            Ask::Read => continue,
        };
        let mut content = Cow::Borrowed(content);
        if !names.is_empty() {
            rewrite(content.to_mut(), &names);
        }
        // Digests outlive a release: what says more than the first release did is only said where it is there.
        hash.update(format!("{method} {:?} ", entry.id));
        if let (Some(criteria), false) = (&entry.criteria, matches!(entry.ask, Ask::Create(_))) {
            hash.update(format!("{}?{criteria} ", entry.kind));
        } else if entry.resource().is_none() {
            hash.update(format!("{} ", entry.kind));
        }
        canonical(&content, &mut hash, &["id", "meta"]);
    }
    format!("{:x}", hash.finalize())
}

/// Feeds a value to the hash with its object members in the order of their names, without those left `out`.
fn canonical(value: &Value, hash: &mut Sha256, out: &[&str]) {
    match value {
        Value::Object(fields) => {
            let mut members: Vec<(&String, &Value)> =
                fields.iter().filter(|(name, _)| !out.contains(&name.as_str())).collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            hash.update("{");
            for (name, member) in members {
                write_to(hash, name);
                canonical(member, hash, &[]);
            }
            hash.update("}");
        }
        Value::Array(items) => {
            hash.update("[");
            items.iter().for_each(|item| canonical(item, hash, &[]));
            hash.update("]");
        }
        other => write_to(hash, other),
    }
    hash.update(",");
}

fn write_to(hash: &mut Sha256, value: &impl serde::Serialize) {
    serde_json::to_writer(hash, value).expect("a hash takes every byte");
}

/// The answer to a submission under an `Idempotency-Key` that was used before.
async fn answered_before(unit: &mut Unit<'_>, submission: &Submission, digest: &str) -> Result<Option<Answer>> {
    let Some(key) = &submission.key else { return Ok(None) };
    let Some(before) = unit.tx.submission_by_key(&unit.actor.client, key).await? else { return Ok(None) };
    if before.digest != digest {
        return Err(Error::Invalid(crate::fhir::Invalid::unprocessable(Issue::general(
            IssueCode::Conflict,
            "This Idempotency-Key was used for other content. Use a new key for new content, and the same key only to \
             send the same content again.",
        ))));
    }
    unit.audit("resend", "Bundle", "");
    if before.answer.starts_with('{') {
        return Ok(Some(Answer::again(before.answer)));
    }
    let Some((kind, id)) = before.answer.split_once('/') else {
        return Ok(Some(Answer::one(None)));
    };
    let stored = unit.tx.resource(kind, id, &unit.actor.sight.clone()).await?.ok_or(Error::NotFound)?;
    unit.audit("resend", &before.answer, &stored.person);
    Ok(Some(Answer::one(Some(as_found(stored)))))
}

/// The answer to a referral that is sent again: what its Bundle was answered with, or the referral itself.
async fn again(unit: &mut Unit<'_>, referral: &str, bundle: bool) -> Result<Answer> {
    let row = unit.tx.referral(referral).await?.ok_or(Error::NotFound)?;
    unit.audit("resend", &format!("ServiceRequest/{referral}"), &row.person);
    if bundle && let Some(submission) = unit.tx.submission(&row.submission).await? {
        return Ok(Answer::again(submission.answer));
    }
    let stored =
        unit.tx.resource("ServiceRequest", referral, &unit.actor.sight.clone()).await?.ok_or(Error::NotFound)?;
    Ok(Answer::one(Some(as_found(stored))))
}

/// What was there already, as an answer.
pub(super) fn as_found(stored: Stored) -> Written {
    Written {
        kind: stored.kind,
        id: stored.id,
        version: stored.version,
        updated_at: stored.updated_at.time(),
        created: false,
        deleted: stored.deleted,
        body: stored.body,
    }
}

fn places_reference(places: &[Option<Written>]) -> String {
    places.first().and_then(Option::as_ref).map(|w| format!("{}/{}", w.kind, w.id)).unwrap_or_default()
}

/// The transaction-response to a Bundle. Each referral's entry says its reference: it is the acknowledgement, and what
/// the sender reads out to the person.
pub fn response_bundle(
    places: &[Option<Written>],
    references: &HashMap<String, String>,
    now: chrono::DateTime<chrono::Utc>,
) -> Value {
    let mut entry: Vec<Value> = places.iter().map(|w| json!({ "response": response(w.as_ref()) })).collect();
    for (entry, written) in entry.iter_mut().zip(places) {
        if let Some(reference) = written.as_ref().and_then(|w| references.get(&w.id)) {
            let said = Issue::information(format!("The referral's reference is {reference}."));
            entry["response"]["outcome"] = operation_outcome(&[said]);
        }
    }
    let mut bundle = json!({ "resourceType": "Bundle", "type": "transaction-response" });
    bundle["timestamp"] = json!(instant(now));
    if !entry.is_empty() {
        bundle["entry"] = Value::Array(entry);
    }
    bundle
}

/// `Bundle.entry.response` of what was written.
fn response(written: Option<&Written>) -> Value {
    let Some(w) = written else { return json!({ "status": "204 No Content" }) };
    let mut said = json!({
        "status": match (w.created, w.deleted) {
            (true, _) => "201 Created",
            (_, true) => "204 No Content",
            _ => "200 OK",
        },
        "location": format!("{}/{}/_history/{}", w.kind, w.id, w.version),
        "etag": etag(w.version),
        "lastModified": instant(w.updated_at),
    });
    if w.deleted {
        said.as_object_mut().map(|fields| fields.shift_remove("location"));
    }
    said
}
