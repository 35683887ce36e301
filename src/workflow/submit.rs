//! A submission: one resource or a transaction Bundle, all or nothing. Whatever door it came through, each resource goes
//! to the act that knows it.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fhir::search::{self, Criterion};
use crate::fhir::when::instant;
use crate::fhir::{Issue, IssueCode, Resource, path};
use crate::store::{Page, Store, Stored, SubmissionRow};

use super::keep::Keeping;
use super::refer::Referred;
use super::{Actor, Error, House, Result, Unit, Written, identify, keep, record, refer, subscription, tasks, withdraw};

/// What an entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Create,
    Update,
}

/// One resource of a submission.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `Bundle.entry.fullUrl`, '' for none.
    pub full_url: String,
    pub method: Method,
    /// The id an update names.
    pub id: Option<String>,
    /// The version an update builds on.
    pub if_match: Option<i64>,
    /// `If-None-Exist`: criteria under which the resource is not made again.
    pub if_none_exist: Option<String>,
    pub resource: Resource,
    /// Where it stands in what was sent: `ServiceRequest`, `Bundle.entry[2].resource`.
    pub expression: String,
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
    /// One for each entry, in its order; `created` is false for what was there already.
    pub entries: Vec<Written>,
    /// The first answer again, for a resend of a Bundle: a transaction-response.
    pub again: Option<String>,
}

/// Every resource of a submission by the references that mean it.
pub(super) struct Sent {
    by_reference: HashMap<String, usize>,
    resources: Vec<Resource>,
}

impl Sent {
    /// The resource of this submission that a reference means.
    pub(super) fn resource(&self, reference: &str) -> Option<&Resource> {
        self.by_reference.get(reference).and_then(|at| self.resources.get(*at))
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
    let digest = digest(submission);
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    if let Some(answer) = answered_before(&mut unit, submission, &digest).await? {
        unit.commit().await?;
        return Ok(answer);
    }
    let mut work = Work::plan(&mut unit, submission).await?;
    let id = Unit::new_id();
    work.resolve();
    let mut places = work.run(&mut unit, &digest, &id).await?;
    if let Some(referral) = work.resent.take() {
        // What was begun for the entries before it is not kept.
        drop(unit);
        let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
        let answer = again(&mut unit, &referral).await?;
        unit.commit().await?;
        return Ok(answer);
    }
    let (bundle, key) = (work.bundle, work.key.take());
    keep::note_dangling(&mut unit, &places).await?;
    let answer = if bundle { response_bundle(&places, unit.now).to_string() } else { places_reference(&places) };
    if bundle || key.is_some() {
        let row = SubmissionRow {
            id,
            client: actor.client.clone(),
            key: key.unwrap_or_default(),
            digest,
            status: 201,
            answer,
            created_at: now.into(),
        };
        unit.tx.insert_submission(&row).await?;
    }
    let written = unit.commit().await?;
    for place in &mut places {
        if let Some(w) = written.iter().find(|w| w.kind == place.kind && w.id == place.id) {
            place.version = w.version;
            place.body.clone_from(&w.body);
        }
    }
    Ok(Answer { entries: places, again: None })
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
    work.resolve();
    work.run(&mut unit, &digest(submission), &Unit::new_id()).await?;
    Ok(())
}

/// Takes the references and the order out of a submission, and carries it out.
struct Work {
    entries: Vec<Entry>,
    /// Entries that were there already, by `If-None-Exist`.
    found: HashMap<usize, Written>,
    sent: Sent,
    bundle: bool,
    key: Option<String>,
    /// The referral this submission sends again.
    resent: Option<String>,
}

impl Work {
    async fn plan(unit: &mut Unit<'_>, submission: &Submission) -> Result<Work> {
        let Submission { mut entries, bundle, key } = submission.clone();
        let mut by_reference = HashMap::new();
        let mut found = HashMap::new();
        let mut asked = HashSet::new();
        for (at, entry) in entries.iter_mut().enumerate() {
            let kind = entry.resource.kind().to_owned();
            if bundle {
                once(&mut asked, at, entry)?;
            }
            let old = entry.resource.id().map(str::to_owned);
            let id = match (&entry.if_none_exist, &entry.id) {
                (Some(criteria), _) => match existing(unit, &kind, criteria, &entry.expression).await? {
                    Some(written) => {
                        let id = written.id.clone();
                        unit.audit("conditional create", &format!("{kind}/{id}"), "");
                        found.insert(at, written);
                        id
                    }
                    None => Unit::new_id(),
                },
                (None, Some(id)) => id.clone(),
                (None, None) => Unit::new_id(),
            };
            let reference = format!("{kind}/{id}");
            if at > 0 && entry.id.is_some() && by_reference.contains_key(&reference) {
                return Err(Error::rule(
                    IssueCode::Invariant,
                    format!("{}.id", entry.expression),
                    "Two entries are about the same resource. Send each resource once.",
                ));
            }
            if !entry.full_url.is_empty() && by_reference.insert(entry.full_url.clone(), at).is_some() {
                return Err(Error::rule(
                    IssueCode::Invariant,
                    format!("Bundle.entry[{at}].fullUrl"),
                    "Two entries have the same fullUrl. Give each entry its own, for example urn:uuid: and a new UUID.",
                ));
            }
            if let Some(old) = old {
                by_reference.entry(format!("{kind}/{old}")).or_insert(at);
            }
            by_reference.insert(reference, at);
            entry.resource.map_mut().insert("id".to_owned(), json!(id));
        }
        distinct_referrals(&entries)?;
        let resources = entries.iter().map(|e| e.resource.clone()).collect();
        let sent = Sent { by_reference, resources };
        Ok(Work { entries, found, sent, bundle, key, resent: None })
    }

    /// Points references between entries at the ids the entries now have.
    fn resolve(&mut self) {
        let targets: HashMap<&str, String> =
            self.sent.by_reference.iter().map(|(r, at)| (r.as_str(), self.sent.resources[*at].reference())).collect();
        for entry in &mut self.entries {
            rewrite(entry.resource.value_mut(), &targets);
        }
        let resources: Vec<Resource> = self.entries.iter().map(|e| e.resource.clone()).collect();
        drop(targets);
        self.sent.resources = resources;
    }

    /// Each entry in the order its act needs: people, then referrals, then encounters, then the rest.
    async fn run(&mut self, unit: &mut Unit<'_>, digest: &str, submission: &str) -> Result<Vec<Written>> {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by_key(|at| rank(self.entries[*at].resource.kind()));
        let mut keeping = Keeping::default();
        let mut places: Vec<Option<Written>> = vec![None; self.entries.len()];
        for at in order {
            if let Some(written) = self.found.get(&at) {
                places[at] = Some(written.clone());
                continue;
            }
            let entry = &self.entries[at];
            self.current(unit, entry).await?;
            let act = act_for(unit, entry);
            let resource = entry.resource.clone();
            let reference = (resource.kind().to_owned(), resource.id().unwrap_or_default().to_owned());
            match act {
                Act::Patient => {
                    let person = identify::patient(unit, &self.sent, resource, &entry.expression).await?;
                    keeping.concerns(&person, "");
                }
                Act::ChangePatient => identify::change_patient(unit, &self.sent, resource).await?,
                Act::Refer => match refer::refer(
                    unit,
                    &self.sent,
                    resource,
                    &entry.expression,
                    digest,
                    self.bundle.then_some(submission),
                )
                .await?
                {
                    Referred::New { person, referral } => {
                        keeping.concerns(&person, &referral);
                    }
                    Referred::Before(referral) => {
                        self.resent = Some(referral);
                        return Ok(Vec::new());
                    }
                },
                Act::ChangeReferral => withdraw::change_referral(unit, &self.sent, resource, digest).await?,
                Act::Record => record::record(unit, resource, &entry.expression, &mut keeping).await?,
                Act::ChangeRecord => record::change_record(unit, resource, &entry.expression, &mut keeping).await?,
                Act::Task => {
                    tasks::change_task_in(unit, resource, entry.if_match).await?;
                }
                Act::Subscribe => subscription::create(unit, resource, &entry.expression).await?,
                Act::ChangeSubscription => subscription::change(unit, resource, &entry.expression).await?,
                Act::Keep => keep::keep(unit, resource, &keeping).await?,
                Act::ChangeKept => keep::change_kept(unit, resource).await?,
            }
            let (kind, id) = reference;
            places[at] = Some(Written {
                kind,
                id,
                version: unit.version_of(&self.entries[at].resource),
                updated_at: unit.now,
                created: self.entries[at].method == Method::Create,
                body: String::new(),
            });
        }
        record::deliver(unit, keeping).await?;
        Ok(places.into_iter().flatten().collect())
    }

    /// Refuses an update whose `If-Match` is not the current version.
    async fn current(&self, unit: &mut Unit<'_>, entry: &Entry) -> Result<()> {
        let (Method::Update, Some(id)) = (entry.method, &entry.id) else { return Ok(()) };
        let kind = entry.resource.kind();
        let seen = unit.see(kind, id).await?.ok_or(Error::NotFound)?;
        match entry.if_match {
            Some(version) if version != seen.version => Err(Error::Stale(format!(
                "{kind}/{id} is at version {}, not {version}. Read it again and repeat the change on what you find.",
                seen.version
            ))),
            None if kind == "Task" => Err(Error::NeedsVersion),
            _ => Ok(()),
        }
    }
}

/// Refuses two new referrals with one business identifier: neither would be the first.
fn distinct_referrals(entries: &[Entry]) -> Result<()> {
    let mut seen = HashSet::new();
    let new = |e: &&Entry| e.resource.kind() == "ServiceRequest" && e.method == Method::Create;
    for entry in entries.iter().filter(new).filter(|e| e.resource.text("status") == Some("active")) {
        for identifier in refer::business_identifiers(&entry.resource) {
            if !seen.insert(identifier) {
                return Err(Error::rule(
                    IssueCode::Duplicate,
                    format!("{}.identifier", entry.expression),
                    "Two referrals of this Bundle have the same identifier. Give each its own.",
                ));
            }
        }
    }
    Ok(())
}

enum Act {
    Patient,
    ChangePatient,
    Refer,
    ChangeReferral,
    Record,
    ChangeRecord,
    Task,
    Subscribe,
    ChangeSubscription,
    Keep,
    ChangeKept,
}

/// The act that knows this resource, as this caller sends it.
fn act_for(unit: &Unit<'_>, entry: &Entry) -> Act {
    let recorded = unit.actor.ours && record::RECORDED.contains(&entry.resource.kind());
    match (entry.resource.kind(), entry.method) {
        ("Patient", Method::Create) => Act::Patient,
        ("Patient", Method::Update) => Act::ChangePatient,
        ("ServiceRequest", Method::Create) => Act::Refer,
        ("ServiceRequest", Method::Update) => Act::ChangeReferral,
        ("Task", Method::Update) => Act::Task,
        ("Subscription", Method::Create) => Act::Subscribe,
        ("Subscription", Method::Update) => Act::ChangeSubscription,
        (_, Method::Create) if recorded => Act::Record,
        (_, Method::Update) if recorded => Act::ChangeRecord,
        (_, Method::Create) => Act::Keep,
        (_, Method::Update) => Act::ChangeKept,
    }
}

fn rank(kind: &str) -> u8 {
    match kind {
        "Patient" => 0,
        "ServiceRequest" => 1,
        "Encounter" => 2,
        "Consent" => 3,
        "Provenance" => 5,
        // Last: completing one looks at what was recorded beside it.
        "Task" => 6,
        _ => 4,
    }
}

/// Refuses a second entry that means the same resource: which of the two is meant to last nobody can say
/// (<https://hl7.org/fhir/R4/http.html#trules>).
fn once(asked: &mut HashSet<String>, at: usize, entry: &Entry) -> Result<()> {
    let kind = entry.resource.kind();
    let (means, element, what) = match (&entry.if_none_exist, &entry.id) {
        (Some(criteria), _) => (format!("{kind}?{criteria}"), "ifNoneExist", "create on the same condition"),
        (None, Some(id)) => (format!("{kind}/{id}"), "url", "change the same resource"),
        (None, None) => return Ok(()),
    };
    if asked.insert(means) {
        return Ok(());
    }
    Err(Error::rule(
        IssueCode::Invariant,
        format!("Bundle.entry[{at}].request.{element}"),
        format!("Two entries {what}. Send one of them, and let others refer to it by its fullUrl."),
    ))
}

/// Replaces every `reference` that has a target.
pub(super) fn rewrite(value: &mut Value, targets: &HashMap<&str, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, targets)),
        Value::Object(fields) => {
            for (name, child) in fields.iter_mut() {
                match child {
                    Value::String(text) if name == "reference" => {
                        if let Some(target) = targets.get(text.as_str()) {
                            target.clone_into(text);
                        }
                    }
                    other => rewrite(other, targets),
                }
            }
        }
        _ => {}
    }
}

/// What a resend is told by: the content without ids, meta and the names a sender makes up for its entries.
fn digest(submission: &Submission) -> String {
    let names: HashMap<&str, String> = submission
        .entries
        .iter()
        .enumerate()
        .filter(|(_, e)| !e.full_url.is_empty())
        .map(|(at, e)| (e.full_url.as_str(), format!("entry {at}")))
        .collect();
    let mut hash = Sha256::new();
    for entry in &submission.entries {
        let mut content = entry.resource.value().clone();
        if let Some(fields) = content.as_object_mut() {
            fields.remove("id");
            fields.remove("meta");
        }
        rewrite(&mut content, &names);
        hash.update(format!("{:?} {:?} ", entry.method, entry.id));
        canonical(&content, &mut hash);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds a value to the hash with its object members in the order of their names.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            hash.update("{");
            for name in names {
                hash.update(Value::String(name.clone()).to_string());
                canonical(&fields[name.as_str()], hash);
            }
            hash.update("}");
        }
        Value::Array(items) => {
            hash.update("[");
            items.iter().for_each(|item| canonical(item, hash));
            hash.update("]");
        }
        other => hash.update(other.to_string()),
    }
    hash.update(",");
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
        return Ok(Some(Answer { entries: Vec::new(), again: Some(before.answer) }));
    }
    let (kind, id) = before.answer.split_once('/').ok_or(Error::NotFound)?;
    let stored = unit.tx.resource(kind, id, &unit.actor.sight.clone()).await?.ok_or(Error::NotFound)?;
    unit.audit("resend", &before.answer, &stored.person);
    Ok(Some(Answer { entries: vec![as_found(stored)], again: None }))
}

/// The answer to a referral that is sent again: what the first one was answered with.
async fn again(unit: &mut Unit<'_>, referral: &str) -> Result<Answer> {
    let row = unit.tx.referral(referral).await?.ok_or(Error::NotFound)?;
    unit.audit("resend", &format!("ServiceRequest/{referral}"), &row.person);
    if let Some(submission) = unit.tx.submission(&row.submission).await? {
        return Ok(Answer { entries: Vec::new(), again: Some(submission.answer) });
    }
    let stored =
        unit.tx.resource("ServiceRequest", referral, &unit.actor.sight.clone()).await?.ok_or(Error::NotFound)?;
    Ok(Answer { entries: vec![as_found(stored)], again: None })
}

fn as_found(stored: Stored) -> Written {
    Written {
        kind: stored.kind,
        id: stored.id,
        version: stored.version,
        updated_at: stored.updated_at.time(),
        created: false,
        body: stored.body,
    }
}

/// The one resource that `If-None-Exist` criteria find, if any.
async fn existing(unit: &mut Unit<'_>, kind: &str, criteria: &str, expression: &str) -> Result<Option<Written>> {
    let refused = |text: &str| Error::rule(IssueCode::NotSupported, expression, text.to_owned());
    let criterion = criteria.strip_prefix('?').unwrap_or(criteria);
    let (param, value) = criterion.split_once('=').unwrap_or((criterion, ""));
    if param != "identifier" || value.is_empty() || value.contains('&') || search::param(kind, "identifier").is_none() {
        return Err(refused(
            "If-None-Exist takes identifier=system|value, the business identifier that must not be there yet.",
        ));
    }
    let value = percent_decoded(value);
    if value.contains(char::is_control) {
        return Err(refused("If-None-Exist holds a control character, which no identifier has. Take it out."));
    }
    let (system, value) = match value.split_once('|') {
        Some((system, value)) => (Some(system.to_owned()), value.to_owned()),
        None => (None, value),
    };
    // No unique key keeps two from both finding nothing. The value alone: both may give the system, or only one.
    unit.tx.hold(&format!("{kind} {value}")).await?;
    let sight = unit.actor.sight.clone();
    let found = unit.tx.search(kind, &[Criterion::identifier(value, system)], &sight, &[], &Page::first(100)).await?;
    let mut nearest = nearest(unit.actor, found.matches);
    match nearest.len() {
        0 => Ok(None),
        1 => Ok(nearest.pop().map(as_found)),
        _ => Err(Error::Several(format!(
            "Several {kind} resources match If-None-Exist. Use an identifier that only one has."
        ))),
    }
}

/// Of what matches, what the caller would make again: its organisation's own, else what is Live Well's. One person is
/// several Patients here, ours and one of each sender; another sender's is never what a caller means.
fn nearest(actor: &Actor, matches: Vec<Stored>) -> Vec<Stored> {
    let (own, rest): (Vec<_>, Vec<_>) = matches.into_iter().partition(|m| m.sender == actor.organization);
    if !own.is_empty() {
        return own;
    }
    rest.into_iter().filter(|m| m.sender.is_empty() && (actor.ours || m.person.is_empty())).collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn places_reference(places: &[Written]) -> String {
    places.first().map(|w| format!("{}/{}", w.kind, w.id)).unwrap_or_default()
}

/// The transaction-response to a Bundle.
pub fn response_bundle(places: &[Written], now: chrono::DateTime<chrono::Utc>) -> Value {
    let entry: Vec<Value> = places
        .iter()
        .map(|w| {
            json!({ "response": {
                "status": if w.created { "201 Created" } else { "200 OK" },
                "location": format!("{}/{}/_history/{}", w.kind, w.id, w.version),
                "etag": format!("W/\"{}\"", w.version),
                "lastModified": instant(w.updated_at),
            }})
        })
        .collect();
    let mut bundle = json!({ "resourceType": "Bundle", "type": "transaction-response" });
    bundle["timestamp"] = json!(instant(now));
    if !entry.is_empty() {
        bundle["entry"] = Value::Array(entry);
    }
    bundle
}

/// Every reference in a resource, with the path of the element that holds it.
pub(super) fn references(resource: &Resource) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(resource.value(), resource.kind(), &mut found);
    found
}

fn collect(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                collect(item, &format!("{at}[{n}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, child) in fields {
                match child {
                    Value::String(text) if name == "reference" => found.push((text.clone(), at.to_owned())),
                    other => collect(other, &format!("{at}.{name}"), found),
                }
            }
        }
        _ => {}
    }
}

/// The first string at a path, for acts that look into a resource they were given.
pub(super) fn text_at<'a>(resource: &'a Resource, dotted: &str) -> &'a str {
    path::text(resource.value(), dotted).unwrap_or_default()
}
