//! What a write-back contains: our stored resources as the practice is to file them.
//!
//! Nothing here knows the practice's own ids: its Patient is [`PRACTICE_PATIENT`], and a resource of the same set is its
//! [`full_url`]; the channel puts the practice's references in their place.

mod coded;
mod consent;
mod message;
mod narrative;
mod own_words;
mod participants;
mod preferences;
mod provenance;
mod references;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::fhir::codes::CodeTable;
use crate::fhir::{Resource, systems};

pub use consent::{Detail, denies_detail, detail};
pub use message::{Addressing, Person, message};
pub use own_words::{OWN_WORDS, Reader, shares_own_words};
pub use preferences::{Preferences, Share};

/// Identifier system of our records at a practice; the value is our logical id. Of a Provenance, which has no
/// identifier, it is the system of a `meta.tag`.
pub const RECORD_SYSTEM: &str = systems::RECORD;

/// System of the `meta.tag` that says which of our versions the practice's copy holds. It tells our own late write from
/// a change the practice made.
pub const VERSION_SYSTEM: &str = "https://livewell.example/Id/record-version";

/// Stands where the practice's own Patient goes: `{"reference": PRACTICE_PATIENT}`.
pub const PRACTICE_PATIENT: &str = "urn:livewell:practice-patient";

/// One of our stored resources that is to be at the practice. It has its logical id.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub resource: &'a Resource,
    /// Our version of it, counted from 1.
    pub version: u64,
}

/// A resource of ours as the practice holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PracticeCopy {
    /// The practice's reference, `Encounter/123`; '' where it is only known that it is there, under our identifier.
    pub reference: String,
    /// The practice's version, where it said one.
    pub version: Option<String>,
}

/// Who or what is meant, for a reader who has none of our resources: staff, organisations, the referral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Resource type, `PractitionerRole`.
    pub kind: String,
    /// Identifier as (system, value): a national one where there is one.
    pub identifier: Option<(String, String)>,
    /// Name from the directory, never free text about a patient: `Ann Example, health coach`.
    pub display: Option<String>,
    /// What they are, as a Coding: the national job role, where the directory has it.
    pub role: Option<Value>,
}

/// All that decides what one write-back contains.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The delivery's own id; the Provenance is known by it.
    pub delivery_id: &'a str,
    /// When the act was recorded.
    pub recorded: DateTime<Utc>,
    /// What is to be written; resources for which [`writes_back`] is false are left out.
    pub records: &'a [Record<'a>],
    /// References that mean the person: our Patient, and every sender's that is linked to it (`Patient/…`).
    pub person: &'a BTreeSet<String>,
    /// What of ours the practice already holds, by our key (`Encounter/…`), also beyond this write-back.
    pub copies: &'a BTreeMap<String, PracticeCopy>,
    /// Staff, organisations, places and referrals by our reference (`PractitionerRole/…`).
    pub directory: &'a BTreeMap<String, Logical>,
    /// Who recorded it, and for whom.
    pub author: &'a Logical,
    pub organization: &'a Logical,
    pub detail: Detail,
    /// What of the person's own words they share with this practice, by our reference (`QuestionnaireResponse/…`).
    pub own_words: &'a BTreeSet<String>,
    /// What the practice wants of it.
    pub preferences: &'a Preferences,
    pub codes: &'a CodeTable,
}

/// One resource as it leaves.
#[derive(Clone, PartialEq)]
pub struct Outgoing {
    /// Our record, `Encounter/<our id>`.
    pub key: String,
    /// Our version of it.
    pub version: u64,
    /// The resource, without id, with our identifier (a Provenance: tag).
    pub resource: Value,
    /// Where it is at the practice already: this is a correction.
    pub previous: Option<PracticeCopy>,
}

/// Prints the key only: a resource is patient data.
impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.key)
    }
}

/// Whether recording this kind of resource writes back to the GP record; the person's own words ([`OWN_WORDS`]) only where
/// they agreed.
pub fn writes_back(resource: &Resource) -> bool {
    let kind = resource.kind();
    matches!(kind, "Encounter" | "Observation" | "Goal" | "CarePlan" | "Consent" | "Communication" | "ServiceRequest")
        || kind == OWN_WORDS
}

/// The resources of a write-back, Encounters first and a Provenance of them all last; none when nothing of it leaves.
pub fn outgoing(contents: &Contents<'_>) -> Vec<Outgoing> {
    let leaving: Vec<&Record<'_>> = contents.records.iter().filter(|r| leaves(contents, r)).collect();
    let set: BTreeSet<String> = leaving.iter().map(|r| r.resource.reference()).collect();
    let mut out: Vec<Outgoing> = leaving.iter().map(|r| one(contents, &set, r)).collect();
    out.sort_by_key(|o| !o.key.starts_with("Encounter/"));
    if !out.is_empty() {
        out.push(provenance::of(contents, &out));
    }
    out
}

/// The fullUrl of one of our records within a transaction: the same for the same key, in every attempt.
pub fn full_url(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(digest.iter()) {
        *to = *from;
    }
    format!("urn:uuid:{}", uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Puts in every reference what stands for it.
pub fn name_references(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| name_references(item, names)),
        Value::Object(fields) => {
            if let Some(Value::String(said)) = fields.get_mut("reference")
                && let Some(there) = names.get(said.as_str())
            {
                there.clone_into(said);
            }
            fields.values_mut().for_each(|child| name_references(child, names));
        }
        _ => {}
    }
}

/// Our logical id within a key: the part after the type.
pub fn record_id(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, id)| id)
}

/// What the practice does not want stays, and with coded entries only, what has no code is no entry; a correction of what is
/// already there still goes. Of the person's own words that they share no more, that they were recorded in error.
fn leaves(contents: &Contents<'_>, record: &Record<'_>) -> bool {
    let resource = record.resource;
    let there = contents.copies.contains_key(&resource.reference());
    if resource.kind() == OWN_WORDS && !contents.shares_words(&resource.reference()) {
        return there && resource.text("status") == Some("entered-in-error");
    }
    let wanted = contents.preferences.share(resource, contents.codes) != Share::None
        && (contents.detail == Detail::Full || coded::is_coded(resource));
    writes_back(resource) && (wanted || there)
}

impl Contents<'_> {
    /// Whether these words of the person's (`QuestionnaireResponse/…`) may be told.
    fn shares_words(&self, reference: &str) -> bool {
        self.detail == Detail::Full && self.own_words.contains(reference)
    }
}

fn one(contents: &Contents<'_>, set: &BTreeSet<String>, record: &Record<'_>) -> Outgoing {
    let key = record.resource.reference();
    let mut value = record.resource.value().clone();
    if contents.preferences.share(record.resource, contents.codes) == Share::Summary {
        preferences::summarise(&mut value);
    }
    if record.resource.kind() == OWN_WORDS && !contents.shares_words(&key) {
        own_words::withhold(&mut value);
    } else if contents.detail == Detail::CodedOnly {
        coded::strip(&mut value);
    }
    references::rewrite(&mut value, contents, set);
    if let Value::Object(fields) = &mut value {
        let security = fields.get("meta").and_then(|meta| meta.get("security")).cloned();
        fields.shift_remove("id");
        fields.shift_remove("text");
        let mut meta = json!({ "tag": [{ "system": VERSION_SYSTEM, "code": record.version.to_string() }] });
        // Labels say how the receiver must handle it, so they travel.
        if let Some(labels) = security {
            meta["security"] = labels;
        }
        fields.insert("meta".into(), meta);
        let person = if record.resource.kind() == "Consent" { "patient" } else { "subject" };
        fields.insert(person.into(), json!({ "reference": PRACTICE_PATIENT }));
        identify(fields, record_id(&key));
        if contents.detail == Detail::Full {
            let said = narrative::of(record.resource, contents);
            fields.insert("text".into(), said);
        }
    }
    if record.resource.kind() == "Encounter" {
        participants::complete(&mut value, record.resource, contents);
    }
    Outgoing { previous: contents.copies.get(&key).cloned(), version: record.version, resource: value, key }
}

fn identify(fields: &mut Map<String, Value>, id: &str) {
    let ours = json!({ "system": RECORD_SYSTEM, "value": id });
    // The one kind that has one identifier.
    if fields.get("resourceType").and_then(Value::as_str) == Some(OWN_WORDS) {
        fields.insert("identifier".into(), ours);
        return;
    }
    let mut identifiers = match fields.shift_remove("identifier") {
        Some(Value::Array(items)) => items,
        Some(single) => vec![single],
        None => Vec::new(),
    };
    identifiers.retain(|i| i.get("system").and_then(Value::as_str) != Some(RECORD_SYSTEM));
    identifiers.push(ours);
    fields.insert("identifier".into(), Value::Array(identifiers));
}

#[cfg(test)]
mod tests;
