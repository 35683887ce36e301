//! Changes to a record: one create or update, or many as a transaction, all or nothing.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::record::Record;
use super::refusal::Refusal;
use super::search::{find, pairs};
use crate::fhir::{IssueCode, path};

/// What is to become of one resource.
pub(super) enum Wish {
    /// Create, unless the search `if_none_exist` finds it already there.
    Create { if_none_exist: Option<String> },
    /// Replace the resource with this id, if it still is the version that `if_match` names (`W/"3"`).
    Update { id: String, if_match: Option<String> },
}

/// One change that is asked for.
pub(super) struct Change {
    /// Where it stands in the request, for a refusal: `Bundle.entry[2].resource`, `Encounter`.
    pub(super) at: String,
    /// The `fullUrl` by which other entries refer to it.
    pub(super) full_url: Option<String>,
    pub(super) wish: Wish,
    pub(super) resource: Value,
}

/// A change that was made, or a resource that turned out to be there already.
pub(super) struct Done {
    /// 201 for a new resource, 200 for a new version or one that was there.
    pub(super) status: StatusCode,
    /// The resource as it now is.
    pub(super) resource: Value,
}

impl Done {
    /// `Type/id/_history/version`.
    pub(super) fn location(&self) -> String {
        format!("{}/_history/{}", super::search::reference_to(&self.resource), version(&self.resource))
    }

    /// The ETag of the version: `W/"1"`.
    pub(super) fn etag(&self) -> String {
        etag(&self.resource)
    }
}

/// The ETag of a stored version: `W/"1"`.
pub(super) fn etag(resource: &Value) -> String {
    format!("W/\"{}\"", version(resource))
}

/// Makes every change as one unit of work, or none. The caller holds the record, so nothing comes between the search of
/// a conditional create and its insert.
pub(super) fn make(record: &mut Record, changes: Vec<Change>, now: DateTime<Utc>) -> Result<Vec<Done>, Refusal> {
    refuse_twins(&changes)?;
    let targets = changes.iter().map(|change| target(record, change)).collect::<Result<Vec<Target>, Refusal>>()?;
    let addresses = addresses(&changes, &targets);
    let news: HashSet<&String> = addresses.values().collect();
    let mut unit = Vec::new();
    let mut done = Vec::new();
    for (change, target) in changes.into_iter().zip(&targets) {
        let (id, number, status) = match target {
            Target::There(resource) => {
                done.push(Done { status: StatusCode::OK, resource: resource.clone() });
                continue;
            }
            Target::New(id) => (id, 1, StatusCode::CREATED),
            Target::Next(id, number) => (id, *number, StatusCode::OK),
        };
        let mut resource = change.resource;
        resolve(&mut resource, &addresses, &change.at)?;
        refuse_dangling(&resource, record, &news, &change.at)?;
        stamp(&mut resource, id, number, now);
        unit.push(resource.clone());
        done.push(Done { status, resource });
    }
    record.commit(unit)?;
    Ok(done)
}

/// Which resource a change is about.
enum Target {
    There(Value),
    New(String),
    Next(String, usize),
}

impl Target {
    fn id(&self) -> &str {
        match self {
            Target::There(resource) => path::text(resource, "id").unwrap_or_default(),
            Target::New(id) | Target::Next(id, _) => id,
        }
    }
}

fn target(record: &mut Record, change: &Change) -> Result<Target, Refusal> {
    let kind = path::text(&change.resource, "resourceType").unwrap_or_default();
    match &change.wish {
        Wish::Create { if_none_exist: None } => Ok(Target::New(record.next_id())),
        Wish::Create { if_none_exist: Some(search) } => {
            let found = find(record, kind, &pairs(search))?;
            match found.as_slice() {
                [] => Ok(Target::New(record.next_id())),
                [one] => Ok(Target::There((*one).clone())),
                _ => {
                    let text = "More than one resource meets the condition; make it more exact.";
                    let status = StatusCode::PRECONDITION_FAILED;
                    Err(Refusal::at(status, IssueCode::MultipleMatches, change.at.clone(), text))
                }
            }
        }
        Wish::Update { id, if_match } => {
            let number = record.versions(kind, id).len();
            if number == 0 {
                let text = "There is no such resource, and this record gives its own ids; create it with POST.";
                let status = StatusCode::METHOD_NOT_ALLOWED;
                return Err(Refusal::at(status, IssueCode::NotFound, change.at.clone(), text));
            }
            let Some(if_match) = if_match else {
                let text = "An update needs If-Match with the version that was read.";
                let status = StatusCode::PRECONDITION_REQUIRED;
                return Err(Refusal::at(status, IssueCode::Required, change.at.clone(), text));
            };
            if if_match.trim_start_matches("W/").trim_matches('"') != number.to_string() {
                let text = "The resource has changed since it was read; read it again.";
                let status = StatusCode::PRECONDITION_FAILED;
                return Err(Refusal::at(status, IssueCode::Conflict, change.at.clone(), text));
            }
            Ok(Target::Next(id.clone(), number + 1))
        }
    }
}

/// Two entries with one condition, one id or one fullUrl have no meaning in a transaction.
fn refuse_twins(changes: &[Change]) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for change in changes {
        let kind = path::text(&change.resource, "resourceType").unwrap_or_default();
        let same_thing = match &change.wish {
            Wish::Create { if_none_exist } => if_none_exist.as_ref().map(|search| format!("{kind}?{search}")),
            Wish::Update { id, .. } => Some(format!("{kind}/{id}")),
        };
        let twins = [same_thing, change.full_url.clone()].into_iter().flatten().any(|key| !seen.insert(key));
        if twins {
            let text = "Two entries of the transaction are about the same resource.";
            return Err(Refusal::at(StatusCode::BAD_REQUEST, IssueCode::Duplicate, change.at.clone(), text));
        }
    }
    Ok(())
}

/// `fullUrl` (or `Type/id` for an entry without one) to `Type/id`.
fn addresses(changes: &[Change], targets: &[Target]) -> HashMap<String, String> {
    let pairs = changes.iter().zip(targets).map(|(change, target)| {
        let kind = path::text(&change.resource, "resourceType").unwrap_or_default();
        let reference = format!("{kind}/{}", target.id());
        (change.full_url.clone().unwrap_or_else(|| reference.clone()), reference)
    });
    pairs.collect()
}

/// Turns every reference to another entry into a reference to the resource in the record.
fn resolve(within: &mut Value, addresses: &HashMap<String, String>, at: &str) -> Result<(), Refusal> {
    match within {
        Value::Array(items) => items.iter_mut().try_for_each(|item| resolve(item, addresses, at)),
        Value::Object(fields) => fields.iter_mut().try_for_each(|(name, value)| match (name.as_str(), &*value) {
            ("reference", Value::String(said)) => {
                if let Some(reference) = addresses.get(said) {
                    *value = json!(reference);
                } else if said.starts_with("urn:") {
                    let text = "A urn: reference has to be the fullUrl of an entry of the same transaction.";
                    return Err(Refusal::at(StatusCode::BAD_REQUEST, IssueCode::NotFound, at, text));
                }
                Ok(())
            }
            _ => resolve(value, addresses, at),
        }),
        _ => Ok(()),
    }
}

/// A relative reference has to lead to something in this record: a practice does not know anybody else's ids.
fn refuse_dangling(within: &Value, record: &Record, news: &HashSet<&String>, at: &str) -> Result<(), Refusal> {
    match within {
        Value::Array(items) => items.iter().try_for_each(|item| refuse_dangling(item, record, news, at)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match (name.as_str(), value.as_str()) {
            ("reference", Some(said)) => {
                let Some((kind, id)) = relative(said) else { return Ok(()) };
                if record.current(kind, id).is_some() || news.contains(&format!("{kind}/{id}")) {
                    return Ok(());
                }
                let text = format!("A reference to a {kind} leads to nothing in this record.");
                Err(Refusal::at(StatusCode::UNPROCESSABLE_ENTITY, IssueCode::NotFound, at, text))
            }
            _ => refuse_dangling(value, record, news, at),
        }),
        _ => Ok(()),
    }
}

/// Type and id of a relative literal reference; nothing for `#contained`, `urn:` and absolute ones.
fn relative(reference: &str) -> Option<(&str, &str)> {
    let (kind, rest) = reference.split_once('/')?;
    let is_type = kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.chars().all(|c| c.is_ascii_alphabetic());
    is_type.then(|| (kind, rest.split('/').next().unwrap_or_default()))
}

/// Gives a resource its id, version and time, first in order as readers expect them.
fn stamp(resource: &mut Value, id: &str, number: usize, now: DateTime<Utc>) {
    let mut meta = resource.get("meta").cloned().unwrap_or_else(|| json!({}));
    meta["versionId"] = json!(number.to_string());
    meta["lastUpdated"] = json!(now.to_rfc3339_opts(SecondsFormat::Millis, true));
    let mut stamped = json!({ "resourceType": resource["resourceType"], "id": id, "meta": meta });
    if let (Some(into), Some(from)) = (stamped.as_object_mut(), resource.as_object()) {
        for (name, value) in from.iter().filter(|(name, _)| !matches!(name.as_str(), "resourceType" | "id" | "meta")) {
            into.insert(name.clone(), value.clone());
        }
    }
    *resource = stamped;
}

fn version(resource: &Value) -> &str {
    path::text(resource, "meta.versionId").unwrap_or_default()
}
