//! Recording: what staff did and found, hung on the referral it came of, and on its way to the practice.

use chrono::Duration;
use serde_json::{Value, json};

use crate::fhir::when::start_of;
use crate::fhir::{IssueCode, Resource};
use crate::pathway::pam::PamReading;
use crate::pathway::task::Event;
use crate::pathway::write_back::writes_back;
use crate::store::{Belongs, DeliveryItem, ReferralRow};

use super::keep::{self, Keeping, Recorded};
use super::links::text_at;
use super::unit::{flag, same_content};
use super::{Error, Result, Unit, deliver, tasks};

/// What counts as recorded when Live Well's own clients send it.
pub(super) const RECORDED: [&str; 9] = [
    "Encounter",
    "Observation",
    "Goal",
    "CarePlan",
    "Consent",
    "QuestionnaireResponse",
    "Communication",
    "Procedure",
    "Condition",
];

/// How far ahead of now a clinical time may lie before it is flagged: clocks differ.
const CLOCKS_DIFFER: Duration = Duration::minutes(5);

/// Records a resource. What is recorded is Live Well's own, also where it came of another's referral.
pub(super) async fn record(
    unit: &mut Unit<'_>,
    mut resource: Resource,
    expression: &str,
    keeping: &mut Keeping,
) -> Result<()> {
    if resource.kind() == "Encounter" {
        complete_enough(&resource, expression)?;
    }
    let named = keep::about(unit, &resource).await?;
    let referral = referral_of(unit, &resource, expression, named.as_deref(), keeping).await?;
    let person = match &referral {
        Some(referral) => referral.person.clone(),
        None => named.or_else(|| keeping.only_person().map(str::to_owned)).ok_or_else(|| {
            Error::rule(
                IssueCode::NotFound,
                format!("{expression}.subject"),
                "Whom this is about cannot be told. Name the Patient of the referral, or hang this on its Encounter.",
            )
        })?,
    };
    same_person(unit, &mut resource, &person, expression).await?;
    check_pam(unit, &mut resource, expression)?;
    flag_times(unit, &mut resource, referral.as_ref());
    let belongs = Belongs {
        sender: unit.house.organization(),
        person: person.clone(),
        referral: referral.as_ref().map(|r| r.id.clone()).unwrap_or_default(),
    };
    if let Some(referral) = &referral {
        begin_work(unit, referral).await?;
    }
    keeping.concerns(&person, &belongs.referral);
    unit.audit("create", &resource.reference(), &person);
    if writes_back(&resource) {
        let item = DeliveryItem {
            kind: resource.kind().to_owned(),
            id: resource.id().unwrap_or_default().to_owned(),
            version: 1,
        };
        keeping.recorded.push(Recorded { person, referral: belongs.referral.clone(), item });
    }
    unit.create(resource, belongs);
    Ok(())
}

/// A correction: a new version of something Live Well recorded, which the practice hears of too.
pub(super) async fn change_record(
    unit: &mut Unit<'_>,
    mut resource: Resource,
    expression: &str,
    keeping: &mut Keeping,
) -> Result<()> {
    let id = resource.id().unwrap_or_default().to_owned();
    let seen = unit.see(resource.kind(), &id).await?.ok_or(Error::NotFound)?;
    if seen.belongs.sender != unit.house.organization() {
        return Err(Error::Forbidden(format!(
            "This {} came with a referral and is its sender's own. Record your own beside it.",
            resource.kind()
        )));
    }
    same_person(unit, &mut resource, &seen.belongs.person, expression).await?;
    check_pam(unit, &mut resource, expression)?;
    unit.audit("update", &resource.reference(), &seen.belongs.person);
    if same_content(&seen.resource, &resource) {
        return Ok(());
    }
    let (kind, reaches_practice) = (resource.kind().to_owned(), writes_back(&resource));
    unit.change(resource).await?;
    keeping.concerns(&seen.belongs.person, &seen.belongs.referral);
    if reaches_practice {
        let item = DeliveryItem { kind, id, version: seen.version + 1 };
        keeping.recorded.push(Recorded { person: seen.belongs.person, referral: seen.belongs.referral, item });
    }
    Ok(())
}

/// Whether a ServiceRequest of Live Well's is one that follows from a referral to it: an onward referral, which is recorded
/// and reaches the practice.
pub(super) async fn is_onward(unit: &mut Unit<'_>, request: &Resource) -> Result<bool> {
    if !unit.actor.ours {
        return Ok(false);
    }
    for base in request.all("basedOn.reference").into_iter().filter_map(Value::as_str) {
        if let Some(("ServiceRequest", id)) = unit.house.local(base)
            && unit.tx.referral(id).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this is a new version of an onward referral that Live Well recorded.
pub(super) async fn was_onward(unit: &mut Unit<'_>, request: &Resource) -> Result<bool> {
    let id = request.id().unwrap_or_default().to_owned();
    let Some(seen) = unit.see("ServiceRequest", &id).await? else { return Ok(false) };
    let recorded = seen.belongs.sender == unit.house.organization() && !seen.belongs.referral.is_empty();
    Ok(unit.actor.ours && recorded && unit.tx.referral(&id).await?.is_none())
}

/// Queues what was recorded for the practices: one delivery for each person and referral.
pub(super) async fn deliver(unit: &mut Unit<'_>, keeping: Keeping) -> Result<()> {
    let mut sets: Vec<(String, String, Vec<DeliveryItem>)> = Vec::new();
    for Recorded { person, referral, item } in keeping.recorded {
        match sets.iter_mut().find(|(p, r, _)| *p == person && *r == referral) {
            Some((.., items)) => items.push(item),
            None => sets.push((person, referral, vec![item])),
        }
    }
    for (person, referral, items) in sets {
        deliver::queue(unit, &person, &referral, items).await?;
    }
    Ok(())
}

/// An Encounter needs only these of its caller; the rest comes as it comes.
fn complete_enough(encounter: &Resource, expression: &str) -> Result<()> {
    for (element, what) in [
        ("basedOn", "the ServiceRequest it came of"),
        ("subject", "the Patient it was with"),
        ("period", "when it was"),
    ] {
        if encounter.value().get(element).is_none() {
            return Err(Error::rule(
                IssueCode::Required,
                format!("{expression}.{element}"),
                format!("An Encounter says {what}. Send {element}."),
            ));
        }
    }
    if encounter.text("period.start").is_none() {
        return Err(Error::rule(
            IssueCode::Required,
            format!("{expression}.period.start"),
            "An Encounter says when it began. Send period.start.",
        ));
    }
    Ok(())
}

/// The referral a record came of: named, that of its Encounter, of the submission, or of the person's open spell.
async fn referral_of(
    unit: &mut Unit<'_>,
    resource: &Resource,
    expression: &str,
    named: Option<&str>,
    keeping: &Keeping,
) -> Result<Option<ReferralRow>> {
    for base in resource.all("basedOn.reference").into_iter().filter_map(Value::as_str) {
        if let Some(("ServiceRequest", id)) = unit.house.local(base) {
            let id = id.to_owned();
            if unit.see("ServiceRequest", &id).await?.is_some()
                && let Some(referral) = unit.tx.referral(&id).await?
            {
                return Ok(Some(referral));
            }
        }
    }
    if resource.kind() == "Encounter" {
        return Err(Error::rule(
            IssueCode::NotFound,
            format!("{expression}.basedOn"),
            "The Encounter hangs on no referral that is here. Send basedOn with the reference of a ServiceRequest that \
             was referred to Live Well.",
        ));
    }
    if let Some(("Encounter", id)) = unit.house.local(text_at(resource, "encounter.reference")) {
        let id = id.to_owned();
        if let Some(seen) = unit.see("Encounter", &id).await?
            && let Some(referral) = unit.tx.referral(&seen.belongs.referral).await?
        {
            return Ok(Some(referral));
        }
    }
    let Some(person) = named.or(keeping.only_person()) else { return Ok(None) };
    if let Some(id) = keeping.only_referral(person) {
        return Ok(unit.tx.referral(id).await?);
    }
    let referrals = unit.tx.referrals_of_person(person).await?;
    Ok(referrals.into_iter().find(|r| !matches!(r.state.as_str(), "closed" | "withdrawn")))
}

/// Points the record at our Patient; refuses one that names someone else than its referral does.
async fn same_person(unit: &mut Unit<'_>, resource: &mut Resource, person: &str, expression: &str) -> Result<()> {
    let element = ["subject", "patient"].into_iter().find(|e| resource.value().get(*e).is_some());
    let Some(element) = element else { return Ok(()) };
    match keep::about(unit, resource).await? {
        Some(about) if about != person => Err(Error::rule(
            IssueCode::BusinessRule,
            format!("{expression}.{element}"),
            "This names another person than the referral it hangs on. Check both before you record anything.",
        )),
        Some(_) => {
            resource.map_mut()[element]["reference"] = json!(format!("Patient/{person}"));
            Ok(())
        }
        None => Err(Error::rule(
            IssueCode::NotFound,
            format!("{expression}.{element}"),
            "The person is not at hand. Name the Patient that the Task is for, or their NHS number.",
        )),
    }
}

fn check_pam(unit: &Unit<'_>, resource: &mut Resource, expression: &str) -> Result<()> {
    let reading = PamReading::read(resource, &unit.house.codes, &unit.house.pam).map_err(|mut invalid| {
        invalid.issues = invalid.issues.into_iter().map(|issue| issue.under(expression)).collect();
        invalid
    })?;
    if reading.is_some_and(|reading| reading.level_disagrees()) {
        flag(resource, "pam-level-disagrees");
    }
    Ok(())
}

/// Clinical times before the referral or ahead of now are kept and flagged.
fn flag_times(unit: &Unit<'_>, resource: &mut Resource, referral: Option<&ReferralRow>) {
    let paths =
        ["period.start", "effectiveDateTime", "effectivePeriod.start", "dateTime", "sent", "authored", "startDate"];
    let times: Vec<_> = paths.iter().filter_map(|p| resource.text(p)).filter_map(start_of).collect();
    if times.iter().any(|t| *t > unit.now + CLOCKS_DIFFER) {
        flag(resource, "clinical-time-in-future");
    }
    let received = referral.map(|r| r.received_at.time());
    // A date without a time is that day's beginning, which is before a referral of the same day.
    if received.is_some_and(|received| times.iter().any(|t| *t < received - Duration::days(1))) {
        flag(resource, "clinical-time-before-receipt");
    }
}

/// The first record puts the recorder's Task of this referral in progress.
async fn begin_work(unit: &mut Unit<'_>, referral: &ReferralRow) -> Result<()> {
    let Some(staff) = &unit.actor.staff else { return Ok(()) };
    unit.hold_person(&referral.person).await?;
    let open = unit.tx.tasks_of_referral(&referral.id).await?;
    for row in open.into_iter().filter(|t| t.status == "accepted" && t.owner == staff.reference) {
        if let Some(seen) = unit.get("Task", &row.id).await? {
            tasks::apply(unit, row, seen.resource, Event::Start).await?;
        }
    }
    if unit.tx.referral(&referral.id).await?.is_some_and(|now| now.state == "received") {
        unit.tx.update_referral(&referral.id, "contacting", "", unit.now.into()).await?;
    }
    Ok(())
}
