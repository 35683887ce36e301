//! The requests of a submission: planned together, each with the id it means, then carried out by the acts that know them.

mod beside;
mod carry_out;
mod distinct;
mod several;
mod step;

use std::collections::{HashMap, HashSet};

use crate::fhir::Resource;

use super::condition::Criteria;
use super::submit::{Ask, Entry, Submission};
use super::{Error, Result, Unit, Written, condition, keep, links};
use beside::Beside;
use distinct::{by_reference, distinct, distinct_referrals, once};
use step::step;

/// Every resource of a submission by the references that mean it.
#[derive(Default)]
pub(super) struct Sent {
    by_reference: HashMap<String, usize>,
    resources: Vec<Option<Resource>>,
    /// The subjects of its active ServiceRequests.
    referred: HashSet<String>,
}

impl Sent {
    /// Whether an active ServiceRequest of this submission is about this Patient (`Patient/id`).
    pub(super) fn refers(&self, patient: &str) -> bool {
        self.referred.contains(patient)
    }

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

    /// Whether something is another afterwards.
    fn writes(&self) -> bool {
        self.resource().is_some() || matches!(self, Does::Remove)
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
        let (entries, bundle) = (submission.entries.as_slice(), submission.bundle);
        if bundle {
            once(entries)?;
            several::hold(unit, entries).await?;
        }
        let criteria = criteria(unit, entries).await?;
        hold(unit, entries, &criteria).await?;
        // What entries do becomes visible to the criteria of those behind them as if each had been done in its turn.
        let mut beside = Beside::of(entries, &criteria);
        let mut steps: Vec<Option<Step>> = entries.iter().map(|_| None).collect();
        for at in turns(entries) {
            let step = step(unit, entries[at].clone(), criteria[at].as_ref(), &beside).await;
            let step = step.map_err(|why| named(why, bundle, at))?;
            beside.note(unit, &step);
            steps[at] = Some(step);
        }
        let steps: Vec<Step> = steps.into_iter().flatten().collect();
        distinct(&steps)?;
        distinct_referrals(&steps)?;
        let by_reference = by_reference(entries, &steps)?;
        let mut work = Work { steps, sent: Sent { by_reference, ..Sent::default() }, bundle, resent: None };
        let conditional = if bundle { work.conditional(unit, &beside).await? } else { HashMap::new() };
        work.resolve(conditional);
        Ok(work)
    }

    /// What the conditional references of this Bundle mean: each exactly one resource, as all is once the Bundle is done.
    async fn conditional(&self, unit: &mut Unit<'_>, beside: &Beside) -> Result<HashMap<String, String>> {
        let mut found = HashMap::new();
        for (at, step) in self.steps.iter().enumerate() {
            for (reference, kind, criteria, element) in step.does.resource().map(links::conditional).unwrap_or_default()
            {
                if found.contains_key(&reference) {
                    continue;
                }
                let place = element.split_once('.').map_or(String::new(), |(_, rest)| format!(".{rest}"));
                let place = format!("Bundle.entry[{at}].resource{place}");
                let criteria = Criteria::read(unit, &kind, &criteria, &place).await?;
                let one = beside.referred(unit, &criteria).await.map_err(|why| why.at(&place))?;
                let Some(id) = one else {
                    let text = format!("No {kind} matches this conditional reference. Send it in the same Bundle.");
                    return Err(Error::Stale(text).at(&place));
                };
                found.insert(reference, format!("{kind}/{id}"));
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
        let requests = self.sent.resources.iter().flatten().filter(|resource| resource.kind() == "ServiceRequest");
        let subjects =
            requests.filter(|r| r.text("status") == Some("active")).filter_map(|r| r.text("subject.reference"));
        let subjects = subjects.map(str::to_owned).collect();
        self.sent.referred = subjects;
    }
}

/// The criteria of each entry.
async fn criteria(unit: &mut Unit<'_>, entries: &[Entry]) -> Result<Vec<Option<Criteria>>> {
    let mut all = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        all.push(match &entry.criteria {
            Some(text) => Some(Criteria::read(unit, &entry.kind, text, &criteria_at(entry, at)).await?),
            None => None,
        });
    }
    Ok(all)
}

/// Holds everything that the entries mean by criteria and may change or make. Conditional references only look.
async fn hold(unit: &mut Unit<'_>, entries: &[Entry], criteria: &[Option<Criteria>]) -> Result<()> {
    let all = criteria.iter().zip(entries).filter_map(|(criteria, entry)| Some((criteria.as_ref()?, entry.resource())));
    let all: Vec<_> = all.collect();
    if all.is_empty() { Ok(()) } else { condition::hold(unit, &all).await }
}

/// Deletes come first, then what is new, then what changes; what is only read comes last
/// (<https://hl7.org/fhir/R4/http.html#trules>).
fn turns(entries: &[Entry]) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..entries.len()).collect();
    turns.sort_by_key(|at| match entries[*at].ask {
        Ask::Delete => 0,
        Ask::Create(_) => 1,
        Ask::Update(_) | Ask::Patch(_) => 2,
        Ask::Read => 3,
    });
    turns
}

fn named(why: Error, bundle: bool, at: usize) -> Error {
    if bundle { why.at(&format!("Bundle.entry[{at}]")) } else { why }
}

/// The element in which an entry's criteria stand.
fn criteria_at(entry: &Entry, at: usize) -> String {
    match (entry.expression.starts_with("Bundle"), &entry.ask) {
        (false, _) => entry.kind.clone(),
        (true, Ask::Create(_)) => format!("Bundle.entry[{at}].request.ifNoneExist"),
        (true, _) => format!("Bundle.entry[{at}].request.url"),
    }
}
