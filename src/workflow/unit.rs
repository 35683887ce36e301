//! One unit of work: everything an act changes, in one transaction, written in few statements at its end.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fhir::systems::REFERRAL_FLAG;
use crate::fhir::when::instant;
use crate::fhir::{Resource, path, search};
use crate::store::{AuditRow, Belongs, Practice, Sight, Store, StoreError, Stored, Tx, audit_id};

use super::ahead::Ahead;
use super::submit::as_found;
use super::{Actor, Error, House, Result, subscription};

/// The work of one act. Resources are changed in memory and flushed by [`Unit::commit`], so that each gets one new
/// version however often the act touches it. Dropped, it leaves nothing behind.
pub struct Unit<'a> {
    pub tx: Tx,
    pub house: &'a House,
    pub actor: &'a Actor,
    pub now: DateTime<Utc>,
    pub request_id: &'a str,
    touched: Vec<Touched>,
    /// Where each touched resource stands in `touched`, by `Type/id`.
    places: HashMap<String, usize>,
    /// What was read, by `Type/id`: what an act decides on is what it changes, or it has to decide again.
    read: HashMap<String, Stored>,
    audit: Vec<AuditRow>,
    /// What was looked up before; practices, also those of this unit.
    pub(super) ahead: Ahead,
}

pub(super) struct Touched {
    pub(super) before: Option<Stored>,
    pub(super) resource: Resource,
    pub(super) belongs: Belongs,
    pub(super) version: i64,
    pub(super) deleted: bool,
}

impl Touched {
    /// Type and id of the resource that it changes; `None` for a new one.
    fn changes(&self) -> Option<(&str, &str)> {
        self.before.as_ref().map(|before| (&*before.kind, &*before.id))
    }

    /// Whether it comes to what was there before: that makes no new version. A Task's place in the queue carries its
    /// version, and whoever changes it has looked whether anything changes.
    fn is_as_before(&self) -> bool {
        let Some(before) = self.before.as_ref().filter(|before| !before.deleted && !self.deleted) else { return false };
        self.resource.kind() != "Task"
            && before.belongs() == self.belongs
            && before.resource().is_ok_and(|before| same_content(&before, &self.resource))
    }
}

/// A resource this unit wrote.
#[derive(Clone, Debug)]
pub struct Written {
    pub kind: String,
    pub id: String,
    pub version: i64,
    pub updated_at: DateTime<Utc>,
    /// It did not exist before.
    pub created: bool,
    /// It does not exist any more.
    pub deleted: bool,
    pub body: String,
}

/// A resource as this unit sees it.
pub struct Seen {
    pub resource: Resource,
    pub belongs: Belongs,
    /// The version that callers know: the one before this unit, for what existed before it.
    pub version: i64,
}

impl<'a> Unit<'a> {
    /// Begins a unit of work that writes.
    pub async fn begin(
        store: &Store,
        house: &'a House,
        actor: &'a Actor,
        now: DateTime<Utc>,
        request_id: &'a str,
    ) -> Result<Unit<'a>> {
        let tx = store.write().await?;
        Ok(Unit {
            tx,
            house,
            actor,
            now,
            request_id,
            touched: Vec::new(),
            places: HashMap::new(),
            read: HashMap::new(),
            audit: Vec::new(),
            ahead: Ahead::default(),
        })
    }

    /// With what was looked up before it begins.
    pub(super) fn knowing(self, ahead: Ahead) -> Unit<'a> {
        Unit { ahead, ..self }
    }

    /// A new id. Ids grow with time, which keeps what belongs together together in the index.
    pub fn new_id() -> String {
        Uuid::now_v7().to_string()
    }

    /// Keeps others from what belongs to a person until this unit ends: their spell, their referrals and Tasks, what
    /// goes to their practice. For acts that decide on several of these; to be taken before they are read.
    pub async fn hold_person(&mut self, person: &str) -> Result<()> {
        Ok(self.tx.hold(&format!("person {person}")).await?)
    }

    /// Keeps others from what waits for a way to a practice (ODS code).
    pub async fn hold_practice(&mut self, practice: &str) -> Result<()> {
        Ok(self.tx.hold(&format!("practice {practice}")).await?)
    }

    /// A resource that the caller may see, with this unit's own changes.
    pub async fn see(&mut self, kind: &str, id: &str) -> Result<Option<Seen>> {
        let sight = self.actor.sight.clone();
        self.look(kind, id, &sight).await
    }

    /// A resource whoever may see it: for what the service itself keeps together.
    pub async fn get(&mut self, kind: &str, id: &str) -> Result<Option<Seen>> {
        self.look(kind, id, &Sight::Everything).await
    }

    async fn look(&mut self, kind: &str, id: &str, sight: &Sight) -> Result<Option<Seen>> {
        let key = format!("{kind}/{id}");
        if let Some(t) = self.places.get(&key).and_then(|at| self.touched.get(*at)) {
            if t.deleted {
                return Ok(None);
            }
            let version = t.before.as_ref().map_or(t.version, |before| before.version);
            return Ok(Some(Seen { resource: t.resource.clone(), belongs: t.belongs.clone(), version }));
        }
        match self.tx.resource(kind, id, sight).await? {
            Some(stored) if !stored.deleted => {
                let seen = Seen { resource: stored.resource()?, belongs: stored.belongs(), version: stored.version };
                // What was decided on the first reading does not hold of the second.
                if self.read.insert(key, stored).is_some_and(|before| before.version != seen.version) {
                    return Err(StoreError::Conflict.into());
                }
                Ok(Some(seen))
            }
            _ => Ok(None),
        }
    }

    /// A practice as the directory knows it when it is first asked for.
    pub(super) async fn practice(&mut self, ods: &str) -> Result<Option<Practice>> {
        if let Some(known) = self.ahead.practices.get(ods) {
            return Ok(known.clone());
        }
        let found = self.tx.practice(ods, &self.house.organization(), self.now.into()).await?;
        self.ahead.practices.insert(ods.to_owned(), found.clone());
        Ok(found)
    }

    /// A new resource; its id is set.
    pub fn create(&mut self, resource: Resource, belongs: Belongs) {
        self.touch(Touched { before: None, resource, belongs, version: 1, deleted: false });
    }

    fn touch(&mut self, touched: Touched) {
        self.places.insert(touched.resource.reference(), self.touched.len());
        self.touched.push(touched);
    }

    /// A new version of a resource that exists. The row must be one this caller may change: that is for the act to know.
    pub async fn change(&mut self, resource: Resource) -> Result<()> {
        let key = resource.reference();
        if let Some(t) = self.places.get(&key).and_then(|at| self.touched.get_mut(*at)) {
            t.resource = resource;
            return Ok(());
        }
        let (kind, id) = (resource.kind(), resource.id().unwrap_or_default());
        let before = match self.read.remove(&key) {
            Some(read) => read,
            None => self.tx.resource(kind, id, &Sight::Everything).await?.ok_or(Error::NotFound)?,
        };
        let belongs = before.belongs();
        let version = before.version + 1;
        self.touch(Touched { before: Some(before), resource, belongs, version, deleted: false });
        Ok(())
    }

    /// The last version of a resource, which says that it is deleted. Its history stays.
    pub(super) async fn delete(&mut self, kind: &str, id: &str) -> Result<()> {
        let nothing = Resource::from_value(json!({ "resourceType": kind, "id": id }))?;
        let key = nothing.reference();
        self.change(nothing).await?;
        if let Some(t) = self.places.get(&key).and_then(|at| self.touched.get_mut(*at)) {
            t.deleted = true;
        }
        Ok(())
    }

    /// [`Unit::change`] of a resource that is someone else's from now on.
    pub async fn hand_over(&mut self, resource: Resource, belongs: Belongs) -> Result<()> {
        let key = resource.reference();
        self.change(resource).await?;
        if let Some(t) = self.places.get(&key).and_then(|at| self.touched.get_mut(*at)) {
            t.belongs = belongs;
        }
        Ok(())
    }

    /// Whether this unit is what makes this resource.
    pub fn makes(&self, kind: &str, id: &str) -> bool {
        let at = self.places.get(&format!("{kind}/{id}"));
        at.and_then(|at| self.touched.get(*at)).is_some_and(|t| t.before.is_none())
    }

    /// The version a resource will have once this unit is durable.
    pub fn version_of(&self, resource: &Resource) -> i64 {
        self.places.get(&resource.reference()).and_then(|at| self.touched.get(*at)).map_or(1, |t| t.version)
    }

    /// The version and time a resource will have once this unit is durable: those it has, where nothing changes.
    pub(super) fn standing(&self, kind: &str, id: &str) -> (i64, DateTime<Utc>) {
        match self.places.get(&format!("{kind}/{id}")).and_then(|at| self.touched.get(*at)) {
            Some(t @ Touched { before: Some(before), .. }) if t.is_as_before() => {
                (before.version, before.updated_at.time())
            }
            Some(t) => (t.version, self.now),
            None => (1, self.now),
        }
    }

    /// Whether this unit writes this resource.
    pub(super) fn touches(&self, kind: &str, id: &str) -> bool {
        self.places.contains_key(&format!("{kind}/{id}"))
    }

    /// Every resource of a kind about a person, with this unit's own changes: what it is, whose, and its version once this
    /// unit is durable.
    pub(super) async fn all_of_person(&mut self, kind: &str, person: &str) -> Result<Vec<(Resource, Belongs, i64)>> {
        let mut all = Vec::new();
        for stored in self.tx.resources_of_person(person, kind).await? {
            if !self.touches(kind, &stored.id) {
                all.push((stored.resource()?, stored.belongs(), stored.version));
            }
        }
        let here =
            self.touched.iter().filter(|t| t.resource.kind() == kind && t.belongs.person == person && !t.deleted);
        all.extend(here.map(|t| {
            let version = t.before.as_ref().filter(|_| t.is_as_before()).map_or(t.version, |before| before.version);
            (t.resource.clone(), t.belongs.clone(), version)
        }));
        Ok(all)
    }

    /// Notes who did what, to be written with the rest.
    pub fn audit(&mut self, interaction: &str, target: &str, person: &str) {
        self.audit.push(audit_row(self.actor, self.now, self.request_id, interaction, target, person, "success"));
    }

    /// Writes everything and makes it durable.
    pub async fn commit(mut self) -> Result<Vec<Written>> {
        let written = self.flush().await?;
        self.tx.commit().await?;
        Ok(written)
    }

    async fn flush(&mut self) -> Result<Vec<Written>> {
        let mut written = Vec::with_capacity(self.touched.len());
        let mut fresh = Vec::new();
        let mut rows = Vec::new();
        let mut touched = std::mem::take(&mut self.touched);
        // What is new, then what changes in the order of its names: two units that change the same resources, each in an
        // order of its own, would wait for each other on PostgreSQL until it gives one of them up, a second later.
        touched.sort_by(|a, b| a.changes().cmp(&b.changes()));
        for t in &touched {
            if let Some(before) = t.before.as_ref().filter(|_| t.is_as_before()) {
                written.push(as_found(before.clone()));
                continue;
            }
            let stored = self.stamped(t);
            written.push(Written {
                kind: stored.kind.clone(),
                id: stored.id.clone(),
                version: stored.version,
                updated_at: self.now,
                created: t.before.is_none(),
                deleted: t.deleted,
                body: stored.body.clone(),
            });
            let (kind, id) = (t.resource.kind(), t.resource.id().unwrap_or_default());
            let found = search::rows(&t.resource, !t.belongs.person.is_empty());
            match &t.before {
                None => {
                    rows.extend(found.into_iter().map(|row| (kind, id, row)));
                    fresh.push(stored);
                }
                Some(before) => {
                    if !self.tx.replace_resource(&stored, before).await? {
                        return Err(StoreError::Conflict.into());
                    }
                    let old = search::rows(&before.resource()?, !before.person.is_empty());
                    let gone: Vec<_> = old.iter().filter(|row| !found.contains(row)).cloned().collect();
                    self.tx.remove_index(kind, id, &gone).await?;
                    rows.extend(found.into_iter().filter(|row| !old.contains(row)).map(|row| (kind, id, row)));
                }
            }
        }
        self.tx.insert_resources(&fresh).await?;
        self.tx.add_index(rows).await?;
        self.tx.insert_audit(&self.audit).await?;
        touched.retain(|t| !t.deleted && !t.is_as_before());
        subscription::notice(self, &touched).await?;
        Ok(written)
    }

    fn stamped(&self, touched: &Touched) -> Stored {
        let resource = &touched.resource;
        let stamped = Stamped { resource, version: touched.version, now: self.now };
        Stored {
            kind: resource.kind().to_owned(),
            id: resource.id().unwrap_or_default().to_owned(),
            version: touched.version,
            updated_at: self.now.into(),
            deleted: touched.deleted,
            sender: touched.belongs.sender.clone(),
            person: touched.belongs.person.clone(),
            referral: touched.belongs.referral.clone(),
            body: serde_json::to_string(&stamped).expect("a tree with text for names always has a JSON form"),
        }
    }
}

/// An audit row for `actor`.
pub fn audit_row(
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    interaction: &str,
    target: &str,
    person: &str,
    outcome: &str,
) -> AuditRow {
    AuditRow {
        id: audit_id(now.into()),
        at: now.into(),
        client: actor.client.clone(),
        organization: actor.organization.clone(),
        actor: actor.staff.as_ref().map(|s| s.reference.clone()).unwrap_or_default(),
        interaction: interaction.to_owned(),
        target: target.to_owned(),
        person: person.to_owned(),
        request_id: request_id.to_owned(),
        outcome: outcome.to_owned(),
        times: 1,
    }
}

/// Whether two versions say the same, but for what the server sets.
pub(super) fn same_content(one: &Resource, other: &Resource) -> bool {
    content(one) == content(other)
}

/// A resource without what the server sets.
fn content(resource: &Resource) -> Value {
    let mut value = resource.value().clone();
    if let Some(meta) = value.get_mut("meta").and_then(Value::as_object_mut) {
        meta.remove("versionId");
        meta.remove("lastUpdated");
        if meta.is_empty() {
            value.as_object_mut().map(|fields| fields.shift_remove("meta"));
        }
    }
    value
}

/// A resource as it is stored: with `resourceType`, `id` and `meta` first, and the server's own version and time in `meta`.
struct Stamped<'r> {
    resource: &'r Resource,
    version: i64,
    now: DateTime<Utc>,
}

impl Serialize for Stamped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut meta = self.resource.value().get("meta").and_then(Value::as_object).cloned().unwrap_or_default();
        meta.insert("versionId".to_owned(), json!(self.version.to_string()));
        meta.insert("lastUpdated".to_owned(), json!(instant(self.now)));
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("resourceType", self.resource.kind())?;
        fields.serialize_entry("id", &self.resource.id())?;
        fields.serialize_entry("meta", &meta)?;
        let rest = self.resource.value().as_object().into_iter().flatten();
        for (name, value) in rest.filter(|(name, _)| !matches!(name.as_str(), "resourceType" | "id" | "meta")) {
            fields.serialize_entry(name, value)?;
        }
        fields.end()
    }
}

/// Adds a flag of ours to `meta.tag`, once: something a person should look at, kept beside what was sent.
pub(super) fn flag(resource: &mut Resource, code: &str) {
    let coding = json!({ "system": REFERRAL_FLAG, "code": code });
    let meta = resource.map_mut().entry("meta").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        let tags = meta.entry("tag").or_insert_with(|| json!([]));
        if let Some(tags) = tags.as_array_mut()
            && !tags.contains(&coding)
        {
            tags.push(coding);
        }
    }
}

/// The flags that we added to a resource survive its sender's new version.
pub(super) fn keep_flags(before: &Resource, after: &mut Resource) {
    let ours = before.all("meta.tag").into_iter().filter(|tag| path::text(tag, "system") == Some(REFERRAL_FLAG));
    ours.filter_map(|tag| path::text(tag, "code")).for_each(|code| flag(after, code));
}

/// Adds a flag of ours where it applies, and takes it away where it does not any more.
pub(super) fn mark(resource: &mut Resource, code: &str, applies: bool) {
    if applies {
        flag(resource, code);
    } else if resource.has_flag(code) {
        unflag(resource, code);
    }
}

fn unflag(resource: &mut Resource, code: &str) {
    let is_it = |tag: &Value| path::text(tag, "system") == Some(REFERRAL_FLAG) && path::text(tag, "code") == Some(code);
    let Some(meta) = resource.map_mut().get_mut("meta").and_then(Value::as_object_mut) else { return };
    if let Some(tags) = meta.get_mut("tag").and_then(Value::as_array_mut) {
        tags.retain(|tag| !is_it(tag));
        if tags.is_empty() {
            meta.shift_remove("tag");
        }
    }
    if meta.is_empty() {
        resource.map_mut().shift_remove("meta");
    }
}
