//! The requests of a submission, planned together and carried out in the order their acts need.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use crate::fhir::{IssueCode, Resource};
use crate::store::{Sight, Stored};

use super::keep::Keeping;
use super::refer::Referred;
use super::submit::{Ask, Entry, Submission, as_found};
use super::{
    Error, Result, Unit, Written, condition, identify, keep, links, record, refer, remove, subscription, tasks,
    withdraw,
};

/// Every resource of a submission by the references that mean it.
#[derive(Default)]
pub(super) struct Sent {
    by_reference: HashMap<String, usize>,
    resources: Vec<Option<Resource>>,
}

impl Sent {
    /// The resource of this submission that a reference means.
    pub(super) fn resource(&self, reference: &str) -> Option<&Resource> {
        self.by_reference.get(reference).and_then(|at| self.resources.get(*at))?.as_ref()
    }
}

/// Types that are born of what Live Well does: their ids are the service's to choose.
pub const BORN_HERE: [&str; 2] = ["ServiceRequest", "Task"];

/// What comes of an entry.
enum Does {
    Make(Resource),
    Change(Resource),
    /// A new version of what was deleted.
    Restore(Resource),
    Remove,
    /// It is there already, by `If-None-Exist`.
    Found(Written),
    /// There is nothing to delete.
    Nothing,
    /// It must be there when all is done.
    Look,
}

impl Does {
    fn resource(&self) -> Option<&Resource> {
        match self {
            Does::Make(resource) | Does::Change(resource) | Does::Restore(resource) => Some(resource),
            Does::Remove | Does::Found(_) | Does::Nothing | Does::Look => None,
        }
    }

    fn resource_mut(&mut self) -> Option<&mut Resource> {
        match self {
            Does::Make(resource) | Does::Change(resource) | Does::Restore(resource) => Some(resource),
            Does::Remove | Does::Found(_) | Does::Nothing | Does::Look => None,
        }
    }
}

/// An entry whose id and way are known.
struct Step {
    entry: Entry,
    id: String,
    does: Does,
}

/// A submission on its way.
pub(super) struct Work {
    steps: Vec<Step>,
    sent: Sent,
    bundle: bool,
    /// The referral this submission sends again.
    pub resent: Option<String>,
}

impl Work {
    /// Finds out what each entry means, and points references between entries at the ids they now have.
    pub(super) async fn plan(unit: &mut Unit<'_>, submission: &Submission) -> Result<Work> {
        let bundle = submission.bundle;
        if bundle {
            once(&submission.entries)?;
        }
        hold(unit, &submission.entries, bundle).await?;
        let mut steps = Vec::with_capacity(submission.entries.len());
        for (at, entry) in submission.entries.iter().enumerate() {
            steps.push(step(unit, entry.clone()).await.map_err(|why| named(why, bundle, at))?);
        }
        distinct(&steps)?;
        distinct_referrals(&steps)?;
        let by_reference = by_reference(&submission.entries, &steps)?;
        let mut work = Work { steps, sent: Sent { by_reference, ..Sent::default() }, bundle, resent: None };
        let conditional = if bundle { work.conditional(unit).await? } else { HashMap::new() };
        work.resolve(conditional);
        Ok(work)
    }

    /// What the conditional references of this Bundle mean: each exactly one resource.
    async fn conditional(&self, unit: &mut Unit<'_>) -> Result<HashMap<String, String>> {
        let mut found = HashMap::new();
        for (at, step) in self.steps.iter().enumerate() {
            for (reference, kind, criteria, element) in step.does.resource().map(links::conditional).unwrap_or_default()
            {
                if found.contains_key(&reference) {
                    continue;
                }
                let place = element.split_once('.').map_or(String::new(), |(_, rest)| format!(".{rest}"));
                let place = format!("Bundle.entry[{at}].resource{place}");
                let one = condition::only(unit, &kind, &criteria, &place).await.map_err(|why| why.at(&place))?;
                let Some(one) = one else {
                    let text = format!("No {kind} matches this conditional reference. Send it in the same Bundle.");
                    return Err(Error::Stale(text).at(&place));
                };
                found.insert(reference, format!("{kind}/{}", one.id));
            }
        }
        Ok(found)
    }

    /// Points references between entries at the ids the entries now have.
    fn resolve(&mut self, conditional: HashMap<String, String>) {
        let steps = &self.steps;
        let mut targets: HashMap<&str, String> = self
            .sent
            .by_reference
            .iter()
            .map(|(reference, at)| (reference.as_str(), format!("{}/{}", steps[*at].entry.kind, steps[*at].id)))
            .collect();
        targets.extend(conditional.iter().map(|(reference, target)| (reference.as_str(), target.clone())));
        for step in &mut self.steps {
            if let Some(resource) = step.does.resource_mut() {
                links::rewrite(resource.value_mut(), &targets);
            }
        }
        drop(targets);
        self.sent.resources =
            self.steps.iter().map(|step| step.does.resource().or(step.entry.resource()).cloned()).collect();
    }

    /// Each entry in the order its act needs: what is deleted, then people, referrals, encounters, the rest, of each kind
    /// first what is new; what is only read comes last (<https://hl7.org/fhir/R4/http.html#trules>).
    pub(super) async fn run(
        &mut self,
        unit: &mut Unit<'_>,
        digest: &str,
        submission: &str,
    ) -> Result<Vec<Option<Written>>> {
        let mut order: Vec<usize> = (0..self.steps.len()).collect();
        order.sort_by_key(|at| {
            let step = &self.steps[*at];
            match step.does {
                Does::Remove | Does::Nothing => (0, 0, 0),
                Does::Make(_) | Does::Found(_) => (1, rank(&step.entry.kind), 0),
                Does::Change(_) | Does::Restore(_) => (1, rank(&step.entry.kind), 1),
                Does::Look => (2, 0, 0),
            }
        });
        let mut keeping = Keeping::default();
        let mut places: Vec<Option<Written>> = vec![None; self.steps.len()];
        for at in order {
            let bundle = self.bundle;
            let done = self.one(unit, at, digest, submission, &mut keeping).await;
            places[at] = done.map_err(|why| named(why, bundle, at))?;
            if self.resent.is_some() {
                return Ok(Vec::new());
            }
        }
        record::deliver(unit, keeping).await?;
        Ok(places)
    }

    async fn one(
        &mut self,
        unit: &mut Unit<'_>,
        at: usize,
        digest: &str,
        submission: &str,
        keeping: &mut Keeping,
    ) -> Result<Option<Written>> {
        let Step { entry, id, does } = &self.steps[at];
        let kind = entry.kind.as_str();
        let created = match does {
            Does::Found(written) => return Ok(Some(written.clone())),
            Does::Nothing => return Ok(None),
            Does::Look => return look(unit, entry).await,
            Does::Remove => {
                remove::remove(unit, kind, id).await?;
                false
            }
            Does::Make(resource) => {
                let again = make(unit, &self.sent, resource.clone(), &entry.expression, keeping, digest, {
                    self.bundle.then_some(submission)
                });
                if let Some(referral) = again.await? {
                    self.resent = Some(referral);
                    return Ok(None);
                }
                true
            }
            Does::Change(resource) => {
                change(unit, &self.sent, resource.clone(), entry, digest, keeping).await?;
                if !unit.touches(kind, id) {
                    // It was as it is wanted.
                    let sight = unit.actor.sight.clone();
                    let stored = unit.tx.resource(kind, id, &sight).await?.ok_or(Error::NotFound)?;
                    return Ok(Some(as_found(stored)));
                }
                false
            }
            Does::Restore(resource) => {
                keep::restore(unit, resource.clone()).await?;
                true
            }
        };
        let (version, updated_at) = unit.standing(kind, id);
        Ok(Some(Written {
            kind: kind.to_owned(),
            id: id.clone(),
            version,
            updated_at,
            created,
            deleted: matches!(does, Does::Remove),
            body: String::new(),
        }))
    }
}

fn named(why: Error, bundle: bool, at: usize) -> Error {
    if bundle { why.at(&format!("Bundle.entry[{at}]")) } else { why }
}

/// Makes a resource by the act that knows it, as this caller sends it. Answers the referral that is sent again.
async fn make(
    unit: &mut Unit<'_>,
    sent: &Sent,
    resource: Resource,
    expression: &str,
    keeping: &mut Keeping,
    digest: &str,
    submission: Option<&str>,
) -> Result<Option<String>> {
    let recorded = unit.actor.ours && record::RECORDED.contains(&resource.kind());
    match resource.kind() {
        "Patient" => {
            let person = identify::patient(unit, sent, resource, expression).await?;
            keeping.concerns(&person, "");
        }
        "ServiceRequest" if record::is_onward(unit, &resource).await? => {
            record::record(unit, resource, expression, keeping).await?;
        }
        "ServiceRequest" => match refer::refer(unit, sent, resource, expression, digest, submission).await? {
            Referred::New { person, referral } => keeping.concerns(&person, &referral),
            Referred::Before(referral) => return Ok(Some(referral)),
        },
        "Subscription" => subscription::create(unit, resource, expression).await?,
        _ if recorded => record::record(unit, resource, expression, keeping).await?,
        _ => keep::keep(unit, resource, keeping).await?,
    }
    Ok(None)
}

/// Changes a resource by the act that knows it.
async fn change(
    unit: &mut Unit<'_>,
    sent: &Sent,
    resource: Resource,
    entry: &Entry,
    digest: &str,
    keeping: &mut Keeping,
) -> Result<()> {
    let recorded = unit.actor.ours && record::RECORDED.contains(&resource.kind());
    match resource.kind() {
        "Patient" => identify::change_patient(unit, sent, resource).await,
        "ServiceRequest" if record::was_onward(unit, &resource).await? => {
            record::change_record(unit, resource, &entry.expression, keeping).await
        }
        "ServiceRequest" => withdraw::change_referral(unit, sent, resource, digest).await,
        "Task" => tasks::change_task(unit, resource).await,
        "Subscription" => subscription::change(unit, resource, &entry.expression).await,
        _ if recorded => record::change_record(unit, resource, &entry.expression, keeping).await,
        _ => keep::change_kept(unit, resource).await,
    }
}

/// Whether what is to be read will be there; a search always is.
async fn look(unit: &mut Unit<'_>, entry: &Entry) -> Result<Option<Written>> {
    let Some(id) = &entry.id else { return Ok(None) };
    if unit.see(&entry.kind, id).await?.is_some() {
        return Ok(None);
    }
    let sight = unit.actor.sight.clone();
    let gone = unit.tx.resource(&entry.kind, id, &sight).await?.is_some();
    Err(if gone { Error::Gone } else { Error::NotFound })
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

/// Holds everything that criteria of this submission mean.
async fn hold(unit: &mut Unit<'_>, entries: &[Entry], bundle: bool) -> Result<()> {
    for (at, entry) in entries.iter().enumerate() {
        if let Some(criteria) = &entry.criteria {
            condition::check(&entry.kind, criteria, &criteria_at(entry, at))?;
        }
    }
    let mut all: Vec<(String, String)> =
        entries.iter().filter_map(|e| Some((e.kind.clone(), e.criteria.clone()?))).collect();
    for resource in entries.iter().filter_map(Entry::resource).filter(|_| bundle) {
        all.extend(links::conditional(resource).into_iter().map(|(_, kind, criteria, _)| (kind, criteria)));
    }
    condition::hold(unit, &all).await
}

/// The element in which an entry's criteria stand.
fn criteria_at(entry: &Entry, at: usize) -> String {
    match (entry.expression.starts_with("Bundle"), &entry.ask) {
        (false, _) => entry.kind.clone(),
        (true, Ask::Create(_)) => format!("Bundle.entry[{at}].request.ifNoneExist"),
        (true, _) => format!("Bundle.entry[{at}].request.url"),
    }
}

/// What an entry comes to, and on which id.
async fn step(unit: &mut Unit<'_>, entry: Entry) -> Result<Step> {
    let kind = entry.kind.clone();
    let meant = match &entry.criteria {
        Some(criteria) => condition::only(unit, &kind, criteria, &entry.expression).await?,
        None => None,
    };
    let (mut id, mut does) = match &entry.ask {
        Ask::Read => (entry.id.clone().unwrap_or_default(), Does::Look),
        Ask::Create(_) if meant.is_some() => {
            let written = meant.map(as_found).ok_or(Error::NotFound)?;
            unit.audit("conditional create", &format!("{kind}/{}", written.id), "");
            (written.id.clone(), Does::Found(written))
        }
        Ask::Create(resource) => (Unit::new_id(), Does::Make(resource.clone())),
        Ask::Delete => delete(unit, &entry, meant).await?,
        Ask::Update(_) | Ask::Patch(_) => change_of(unit, &entry, meant).await?,
    };
    if let Does::Make(resource) = &does
        && matches!(entry.ask, Ask::Update(_))
    {
        id = chosen(unit, &entry, resource, &id).await?;
    }
    if let Some(resource) = does.resource_mut() {
        resource.map_mut().insert("id".to_owned(), json!(id));
    }
    Ok(Step { entry, id, does })
}

/// A delete removes what is there; where nothing is, all is as it is wanted.
async fn delete(unit: &mut Unit<'_>, entry: &Entry, meant: Option<Stored>) -> Result<(String, Does)> {
    let id = meant.map(|stored| stored.id).or_else(|| entry.id.clone()).unwrap_or_default();
    match unit.see(&entry.kind, &id).await? {
        Some(seen) => {
            condition::current(&entry.kind, &id, seen.version, entry.if_match.as_ref())?;
            Ok((id, Does::Remove))
        }
        None => Ok((id, Does::Nothing)),
    }
}

/// An update changes what is there. What is not there is made, by criteria or under an id of the caller's choosing; what
/// the caller deleted comes back.
async fn change_of(unit: &mut Unit<'_>, entry: &Entry, meant: Option<Stored>) -> Result<(String, Does)> {
    let kind = entry.kind.as_str();
    let id = match (&meant, &entry.id) {
        (Some(stored), _) => stored.id.clone(),
        (None, Some(id)) => id.clone(),
        (None, None) => String::new(),
    };
    let seen = if id.is_empty() { None } else { unit.see(kind, &id).await? };
    match (seen, &entry.ask) {
        (Some(_), _) if entry.if_none_match => {
            Err(Error::Stale(format!("{kind}/{id} is there already, and If-None-Match says that it must not be.")))
        }
        (Some(seen), ask) => {
            condition::current(kind, &id, seen.version, entry.if_match.as_ref())?;
            if kind == "Task" && entry.if_match.is_none() {
                return Err(Error::NeedsVersion);
            }
            let resource = match ask {
                Ask::Patch(patch) => patch.apply(&seen.resource)?,
                Ask::Update(resource) => resource.clone(),
                Ask::Create(_) | Ask::Delete | Ask::Read => return Err(Error::NotFound),
            };
            if entry.criteria.is_some() && resource.id().is_some_and(|sent| sent != id) {
                return Err(Error::rule(
                    IssueCode::Value,
                    format!("{}.id", entry.expression),
                    "The resource that the criteria mean has another id than the one that was sent. Leave the id out.",
                ));
            }
            Ok((id, Does::Change(resource)))
        }
        (None, Ask::Update(resource)) => {
            let sight = unit.actor.sight.clone();
            let gone = unit.tx.resource(kind, &id, &sight).await?.is_some_and(|stored| stored.deleted);
            if entry.if_match.is_some() && (gone || chooses(unit, kind)) {
                return Err(Error::Stale(format!("There is no {kind} that If-Match could name a version of.")));
            }
            Ok((id, if gone { Does::Restore(resource.clone()) } else { Does::Make(resource.clone()) }))
        }
        (None, _) => Err(Error::NotFound),
    }
}

/// Whether the caller may choose the id of a new resource of this kind. Only who sees everything may: to all others the
/// answer would tell whether something they may not see has that id.
fn chooses(unit: &Unit<'_>, kind: &str) -> bool {
    unit.actor.sight == Sight::Everything && unit.actor.staff.is_none() && !BORN_HERE.contains(&kind)
}

/// The id under which an update makes what it did not find.
async fn chosen(unit: &mut Unit<'_>, entry: &Entry, resource: &Resource, id: &str) -> Result<String> {
    let kind = entry.kind.as_str();
    let wanted = match entry.criteria {
        Some(_) => resource.id(),
        None => Some(id),
    };
    match wanted {
        Some(_) if !chooses(unit, kind) && entry.criteria.is_none() => return Err(Error::NotFound),
        Some(_) if !chooses(unit, kind) => {
            return Err(Error::rule(
                IssueCode::Value,
                format!("{}.id", entry.expression),
                "Nothing matches the criteria, and the id of a new resource is chosen here. Leave the id out.",
            ));
        }
        _ if !entry.may_create => {
            return Err(Error::Forbidden(format!(
                "Nothing is there to update, and to create it needs the scope system/{kind}.c, which the access token \
                 does not carry."
            )));
        }
        Some(id) => {
            if entry.criteria.is_some() && unit.tx.resource(kind, id, &Sight::Everything).await?.is_some() {
                return Err(Error::conflict(
                    format!("{}.id", entry.expression),
                    "The resource with this id is not the one that the criteria mean. Leave the id out, or PUT to the id.",
                ));
            }
            return Ok(id.to_owned());
        }
        None => {}
    }
    Ok(Unit::new_id())
}

/// Every entry by the references that mean it: its fullUrl, the id it came with, the id it now has.
fn by_reference(entries: &[Entry], steps: &[Step]) -> Result<HashMap<String, usize>> {
    let mut by_reference = HashMap::new();
    for (at, (entry, step)) in entries.iter().zip(steps).enumerate() {
        if !entry.full_url.is_empty() && by_reference.insert(entry.full_url.clone(), at).is_some() {
            return Err(Error::rule(
                IssueCode::Invariant,
                format!("Bundle.entry[{at}].fullUrl"),
                "Two entries have the same fullUrl. Give each entry its own, for example urn:uuid: and a new UUID.",
            ));
        }
        let kind = &entry.kind;
        if let Some(old) = entry.resource().and_then(Resource::id) {
            by_reference.entry(format!("{kind}/{old}")).or_insert(at);
        }
        // A relative reference means what it means on the server that the fullUrls are of.
        if let Some((_, tail)) = entry.full_url.rsplit_once(&format!("/{kind}/")) {
            by_reference.entry(format!("{kind}/{tail}")).or_insert(at);
        }
        if !step.id.is_empty() {
            by_reference.insert(format!("{kind}/{}", step.id), at);
        }
    }
    Ok(by_reference)
}

/// Refuses a second entry that asks for the same: which of the two is meant to last nobody can say
/// (<https://hl7.org/fhir/R4/http.html#trules>).
fn once(entries: &[Entry]) -> Result<()> {
    let mut asked = HashSet::new();
    for (at, entry) in entries.iter().enumerate() {
        let kind = &entry.kind;
        let (means, what) = match (&entry.ask, &entry.criteria, &entry.id) {
            (Ask::Read, ..) => continue,
            (Ask::Create(_), Some(criteria), _) => (format!("{kind}?{criteria}"), "create on the same condition"),
            (_, Some(criteria), _) => (format!("{kind}?{criteria}"), "change the same resource"),
            (_, None, Some(id)) => (format!("{kind}/{id}"), "change the same resource"),
            (_, None, None) => continue,
        };
        if !asked.insert(means) {
            return Err(Error::rule(
                IssueCode::Invariant,
                criteria_at(entry, at),
                format!("Two entries {what}. Send one of them, and let others refer to it by its fullUrl."),
            ));
        }
    }
    Ok(())
}

/// Refuses two entries that came to the same resource by different ways.
fn distinct(steps: &[Step]) -> Result<()> {
    let mut seen: HashMap<(&str, &str), bool> = HashMap::new();
    for (at, step) in steps.iter().enumerate() {
        let writes = match step.does {
            Does::Look | Does::Nothing => continue,
            Does::Found(_) => false,
            Does::Make(_) | Does::Change(_) | Does::Restore(_) | Does::Remove => true,
        };
        let before = seen.insert((step.entry.kind.as_str(), step.id.as_str()), writes);
        if before.is_some_and(|before| before || writes) {
            return Err(Error::rule(
                IssueCode::Invariant,
                format!("Bundle.entry[{at}].request.url"),
                "Two entries are about the same resource. Send each resource once.",
            ));
        }
    }
    Ok(())
}

/// Refuses two new referrals with one business identifier: neither would be the first.
fn distinct_referrals(steps: &[Step]) -> Result<()> {
    let mut seen = HashSet::new();
    for step in steps {
        let Does::Make(resource) = &step.does else { continue };
        if resource.kind() != "ServiceRequest" || resource.text("status") != Some("active") {
            continue;
        }
        for identifier in refer::business_identifiers(resource) {
            if !seen.insert(identifier) {
                return Err(Error::rule(
                    IssueCode::Duplicate,
                    format!("{}.identifier", step.entry.expression),
                    "Two referrals of this Bundle have the same identifier. Give each its own.",
                ));
            }
        }
    }
    Ok(())
}
