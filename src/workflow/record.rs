//! Recording: what staff did and found, hung on the referral it came of, and on its way to the practice.

use chrono::Duration;
use serde_json::json;

use crate::fhir::when::Interval;
use crate::fhir::{IssueCode, Resource};
use crate::pathway::pam::PamReading;
use crate::pathway::task::Event;
use crate::pathway::write_back::writes_back;
use crate::store::{Belongs, DeliveryItem, ReferralRow};

use super::keep::{self, Keeping, Recorded};
use super::links::text_at;
use super::unit::{Seen, mark, same_content};
use super::{Error, Result, Unit, based_on, deliver, tasks};

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

/// How far ahead of now, or before receipt, a clinical time may lie before it is flagged: clocks differ.
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
    unit.audit("update", &resource.reference(), &seen.belongs.person);
    if same_content(&seen.resource, &resource) {
        return Ok(());
    }
    // What is wrong with a record must not keep it from being taken back.
    if !is_taken_back(&resource) {
        stays_whole(unit, &seen, &resource, expression).await?;
    }
    check_pam(unit, &mut resource, expression)?;
    let referral = unit.tx.referral(&seen.belongs.referral).await?;
    flag_times(unit, &mut resource, referral.as_ref());
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
    Ok(unit.actor.ours && !based_on::referrals(unit, request).await?.is_empty())
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

fn is_taken_back(resource: &Resource) -> bool {
    let codings = resource.all("verificationStatus.coding.code");
    let mut said = ["status", "lifecycleStatus"].iter().filter_map(|element| resource.text(element));
    said.any(|status| status == "entered-in-error") || codings.iter().any(|code| *code == "entered-in-error")
}

/// Refuses a new version that lacks what the record had to say, or hangs on another referral.
async fn stays_whole(unit: &mut Unit<'_>, before: &Seen, resource: &Resource, expression: &str) -> Result<()> {
    if resource.kind() == "Encounter" {
        complete_enough(resource, expression)?;
    }
    if let Some(element) = says_whom(&before.resource)
        && says_whom(resource).is_none()
    {
        return Err(Error::rule(
            IssueCode::Required,
            format!("{expression}.{element}"),
            format!("What was recorded goes on saying whom it is about. Send {element} as it was read."),
        ));
    }
    let links = ["basedOn", "encounter"];
    let as_before = links.iter().all(|link| before.resource.value().get(*link) == resource.value().get(*link));
    // What was taken back was not looked at, so it is when it comes back.
    if as_before && !is_taken_back(&before.resource) {
        return Ok(());
    }
    stays_on_referral(unit, before, resource, expression).await
}

async fn stays_on_referral(unit: &mut Unit<'_>, before: &Seen, resource: &Resource, expression: &str) -> Result<()> {
    let named = based_on::referrals(unit, resource).await?;
    let by_encounter = of_encounter(unit, resource).await?;
    if named.is_empty() && matches!(resource.kind(), "Encounter" | "ServiceRequest") {
        return Err(hangs_on_nothing(resource, expression));
    }
    of_one_person(&named, &before.belongs.person, &format!("{expression}.basedOn"))?;
    of_one_person(by_encounter.as_slice(), &before.belongs.person, &format!("{expression}.encounter"))?;
    let (element, now) = if named.is_empty() { ("encounter", by_encounter.as_slice()) } else { ("basedOn", &*named) };
    let was = &before.belongs.referral;
    if was.is_empty() || now.is_empty() || now.iter().any(|referral| referral.id == *was) {
        return Ok(());
    }
    Err(Error::rule(
        IssueCode::BusinessRule,
        format!("{expression}.{element}"),
        "A record stays with the referral it was recorded on. Mark this one entered-in-error, and record it anew on the \
         other.",
    ))
}

fn of_one_person(referrals: &[ReferralRow], person: &str, expression: &str) -> Result<()> {
    if referrals.iter().all(|referral| referral.person == person) {
        return Ok(());
    }
    Err(Error::rule(
        IssueCode::BusinessRule,
        expression,
        "This names another person's referral than the one it is recorded on. Check both before you record anything.",
    ))
}

fn hangs_on_nothing(resource: &Resource, expression: &str) -> Error {
    let kind = resource.kind();
    Error::rule(
        IssueCode::NotFound,
        format!("{expression}.basedOn"),
        format!(
            "The {kind} hangs on no referral that is here. Send basedOn with the reference of a ServiceRequest that was \
             referred to Live Well."
        ),
    )
}

/// The referral of the Encounter that a record hangs on.
async fn of_encounter(unit: &mut Unit<'_>, resource: &Resource) -> Result<Option<ReferralRow>> {
    let Some(("Encounter", id)) = unit.house.local(text_at(resource, "encounter.reference")) else { return Ok(None) };
    match unit.see("Encounter", id).await? {
        Some(seen) => Ok(unit.tx.referral(&seen.belongs.referral).await?),
        None => Ok(None),
    }
}

/// The referral a record came of: named, that of its Encounter, of the submission, or of the person's open spell.
async fn referral_of(
    unit: &mut Unit<'_>,
    resource: &Resource,
    expression: &str,
    named: Option<&str>,
    keeping: &Keeping,
) -> Result<Option<ReferralRow>> {
    let based = based_on::referrals(unit, resource).await?;
    if let Some(first) = based.first() {
        of_one_person(&based, &first.person, &format!("{expression}.basedOn"))?;
        return Ok(Some(first.clone()));
    }
    if resource.kind() == "Encounter" {
        return Err(hangs_on_nothing(resource, expression));
    }
    if let Some(referral) = of_encounter(unit, resource).await? {
        return Ok(Some(referral));
    }
    let Some(person) = named.or(keeping.only_person()) else { return Ok(None) };
    if let Some(id) = keeping.only_referral(person) {
        return Ok(unit.tx.referral(id).await?);
    }
    let referrals = unit.tx.referrals_of_person(person).await?;
    Ok(referrals.into_iter().find(|r| !matches!(r.state.as_str(), "closed" | "withdrawn")))
}

/// The element in which a record says whom it is about.
fn says_whom(resource: &Resource) -> Option<&'static str> {
    ["subject", "patient"].into_iter().find(|element| resource.value().get(*element).is_some())
}

/// Points the record at our Patient; refuses one that names someone else than its referral does.
async fn same_person(unit: &mut Unit<'_>, resource: &mut Resource, person: &str, expression: &str) -> Result<()> {
    let Some(element) = says_whom(resource) else { return Ok(()) };
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
    mark(resource, "pam-level-disagrees", reading.is_some_and(|reading| reading.level_disagrees()));
    Ok(())
}

/// Clinical times before the referral or ahead of now are kept and flagged.
fn flag_times(unit: &Unit<'_>, resource: &mut Resource, referral: Option<&ReferralRow>) {
    let starts =
        ["period.start", "effectiveDateTime", "effectivePeriod.start", "dateTime", "sent", "authored", "startDate"];
    let covers = |path: &&str| resource.text(path).and_then(Interval::parse);
    let began: Vec<Interval> = starts.iter().filter_map(covers).collect();
    // A plan may well end next year; what was done cannot.
    let ended = match resource.kind() {
        "Encounter" => covers(&"period.end"),
        _ => covers(&"effectivePeriod.end"),
    };
    let latest = (unit.now + CLOCKS_DIFFER).timestamp_micros();
    let ahead = began.iter().chain(&ended).any(|time| time.low > latest);
    // A date is all of that day: one of the day of receipt is not before it.
    let before = referral.map(|referral| (referral.received_at.time() - CLOCKS_DIFFER).timestamp_micros());
    let before = before.is_some_and(|received| began.iter().any(|time| time.high <= received));
    mark(resource, "clinical-time-in-future", ahead);
    mark(resource, "clinical-time-before-receipt", before);
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
