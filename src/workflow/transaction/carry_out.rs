//! A planned submission is carried out in the order its acts need.

use serde_json::json;

use crate::fhir::Resource;
use crate::store::Belongs;

use super::super::keep::Keeping;
use super::super::refer::Referred;
use super::super::submit::{Entry, as_found};
use super::super::{identify, keep, ods, record, refer, remove, subscription, tasks, withdraw};
use super::{Does, Error, Result, Sent, Step, Unit, Work, Written, named};

impl Work {
    /// Each entry in the order its act needs: what is deleted, then people, referrals, encounters, the rest, of each kind
    /// first what is new; what is only read comes last (<https://hl7.org/fhir/R4/http.html#trules>).
    pub(in crate::workflow) async fn run(
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
        self.one_for_each_code(unit).await?;
        record::deliver(unit, keeping).await?;
        Ok(places)
    }

    /// Refuses Organizations of the directory with an ODS code that another one has once all is done.
    async fn one_for_each_code(&self, unit: &mut Unit<'_>) -> Result<()> {
        let mut organizations = Vec::new();
        for step in self.steps.iter().filter(|step| step.entry.kind == "Organization" && step.does.writes()) {
            match unit.get("Organization", &step.id).await? {
                Some(seen) if seen.belongs == Belongs::default() => organizations.push(seen.resource),
                Some(_) => {}
                None => {
                    organizations.push(Resource::from_value(json!({ "resourceType": "Organization", "id": step.id }))?)
                }
            }
        }
        let Some((id, why)) = ods::twice(unit, &organizations).await? else { return Ok(()) };
        let at = self.steps.iter().position(|step| step.entry.kind == "Organization" && step.id == id);
        Err(named(why, self.bundle, at.unwrap_or_default()))
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
