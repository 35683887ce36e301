//! A referral arrives: kept as sent, given a reference, a plan and a first Task. Nobody is turned away.

use std::slice;

use serde_json::json;

use crate::fhir::systems::{ODS, REFERRAL_REFERENCE};
use crate::fhir::when::instant;
use crate::fhir::{IssueCode, Resource, path};
use crate::pathway::eligibility;
use crate::pathway::referral::{self, Ours, ReferralReference, Standing};
use crate::store::{At, Belongs, EpisodeRow, PersonRow, ReferralRow, TaskRow};

use super::identify::{self, Identified};
use super::resend::says_the_same;
use super::transaction::Sent;
use super::unit::flag;
use super::{Error, Result, Unit, based_on, tasks};

/// What became of a ServiceRequest that was sent.
pub(super) enum Referred {
    /// Stored; as a referral or as context.
    New { person: String, referral: String },
    /// It was sent before: the id of the first.
    Before(String),
}

/// Takes a ServiceRequest in. `digest` tells a resend from a change; `submission` is the Bundle it came in.
pub(super) async fn refer(
    unit: &mut Unit<'_>,
    sent: &Sent,
    request: Resource,
    expression: &str,
    digest: &str,
    submission: Option<&str>,
) -> Result<Referred> {
    let identifiers = business_identifiers(&request);
    let sender = unit.actor.organization.clone();
    // Whatever its status: a sender who says revoked by sending it again must not be told that all is well.
    if let Some(before) = unit.referral_by_identifier(&identifiers).await?
        && !(submission.is_some() && is_history(&request, &before))
    {
        if !unit.makes("ServiceRequest", &before.id) {
            let alone = submission.is_none();
            if before.digest == digest || alone && says_the_same(unit, sent, &request, &before, expression).await? {
                return Ok(Referred::Before(before.id));
            }
            return Err(other_content(&before, expression));
        }
        // What came with a referral under its identifier is context of it; a second referral cannot be told from it.
        if is_referral(unit, sent, &request).await? {
            return Err(Error::rule(
                IssueCode::Duplicate,
                format!("{expression}.identifier"),
                "Two referrals of this Bundle have the same identifier. Give each its own.",
            ));
        }
    }
    let refers = is_referral(unit, sent, &request).await?;
    let found = subject_of(unit, sent, &request, refers, expression).await?;
    let person = found.person.id.clone();
    if !refers {
        let belongs = Belongs { sender, person: person.clone(), referral: String::new() };
        unit.audit("create", &request.reference(), &person);
        unit.create(request, belongs);
        return Ok(Referred::New { person, referral: String::new() });
    }
    let (digest, submission) = (digest.to_owned(), submission.unwrap_or_default().to_owned());
    let (request, belongs) = accept(unit, sent, request, &found, digest, submission).await?;
    unit.audit("create", &request.reference(), &person);
    let referral = belongs.referral.clone();
    unit.create(request, belongs);
    Ok(Referred::New { person, referral })
}

/// Whether a ServiceRequest says of an earlier referral that is over what is so: it comes along with another as history.
fn is_history(request: &Resource, before: &ReferralRow) -> bool {
    matches!(
        (before.state.as_str(), request.text("status")),
        ("closed", Some("completed")) | ("withdrawn", Some("revoked" | "entered-in-error"))
    )
}

/// Makes a ServiceRequest a referral: a reference, a spell, a plan, a first Task. Answers it as it is to be stored.
async fn accept(
    unit: &mut Unit<'_>,
    sent: &Sent,
    mut request: Resource,
    found: &Identified,
    digest: String,
    submission: String,
) -> Result<(Resource, Belongs)> {
    let (id, person) = (request.id().unwrap_or_default().to_owned(), &found.person);
    let sender = unit.actor.organization.clone();
    let identifiers = business_identifiers(&request);
    let reference = new_reference();
    add_reference(&mut request, &reference);
    let mut checks = flags(unit, sent, &mut request, found).await?;
    checks.extend(identify::raise(unit, &mut request, found, &id).await?);
    let row = ReferralRow {
        id: id.clone(),
        reference,
        sender: sender.clone(),
        digest,
        submission,
        person: person.id.clone(),
        practice: receiving_practice(unit, person).await?,
        locality: locality(unit, person, &sender).await?,
        episode: join_episode(unit, person, &id).await?,
        care_plan: plan_for(unit, person, &id),
        state: "received".to_owned(),
        outcome: String::new(),
        received_at: unit.now.into(),
        since: unit.now.into(),
    };
    unit.insert_referral(&row, &identifiers).await?;
    first_task(unit, &request, &row, &checks).await?;
    Ok((request, Belongs { sender, person: person.id.clone(), referral: id }))
}

/// A ServiceRequest that was kept as context becomes a referral with its new version, if that is one.
pub(super) async fn becomes_referral(unit: &mut Unit<'_>, sent: &Sent, request: Resource, digest: &str) -> Result<()> {
    if !is_referral(unit, sent, &request).await? {
        return unit.change(request).await;
    }
    own_identifiers(unit, &request).await?;
    let found = subject_of(unit, sent, &request, true, "ServiceRequest").await?;
    let (request, belongs) = accept(unit, sent, request, &found, digest.to_owned(), String::new()).await?;
    unit.hand_over(request, belongs).await
}

fn other_content(before: &ReferralRow, expression: &str) -> Error {
    Error::conflict(
        format!("{expression}.identifier"),
        format!(
            "You sent a referral with this identifier before, with other content. Read ServiceRequest/{} and PUT the \
             change with If-Match, or send a new referral with an identifier of its own.",
            before.id
        ),
    )
}

/// The sender's identifiers (system, value). Ours is not among them: it says which referral, not which sending.
pub(super) fn business_identifiers(request: &Resource) -> Vec<(String, String)> {
    request
        .all("identifier")
        .into_iter()
        .filter_map(|i| Some((path::text(i, "system").unwrap_or_default(), path::text(i, "value")?)))
        .filter(|(system, _)| *system != REFERRAL_REFERENCE)
        .map(|(system, value)| (system.to_owned(), value.to_owned()))
        .collect()
}

/// The business identifiers of a new version of a referral; refuses one that another referral of its sender has.
pub(super) async fn own_identifiers(unit: &mut Unit<'_>, request: &Resource) -> Result<Vec<(String, String)>> {
    let identifiers = business_identifiers(request);
    for identifier in &identifiers {
        let known = unit.referral_by_identifier(slice::from_ref(identifier)).await?;
        if let Some(other) = known.filter(|known| Some(known.id.as_str()) != request.id()) {
            let text = format!(
                "Your referral ServiceRequest/{} has this identifier. Send the one that this referral has, or PUT the \
                 change to the other.",
                other.id
            );
            return Err(Error::conflict("ServiceRequest.identifier", text));
        }
    }
    Ok(identifiers)
}

/// Whom a ServiceRequest is about, held. What is said of their practice counts where it `refers` them.
pub(super) async fn subject_of(
    unit: &mut Unit<'_>,
    sent: &Sent,
    request: &Resource,
    refers: bool,
    expression: &str,
) -> Result<Identified> {
    match request.value().get("subject") {
        Some(subject) => identify::subject(unit, sent, request, subject, refers, expression).await,
        None => Err(Error::rule(
            IssueCode::Required,
            format!("{expression}.subject"),
            "A ServiceRequest says who it is for. Send the subject.",
        )),
    }
}

/// Whether it is a referral to us; the rest is kept as context, without a Task. What its references mean is looked up
/// first: the rule itself is pure.
async fn is_referral(unit: &mut Unit<'_>, sent: &Sent, request: &Resource) -> Result<bool> {
    let mut based = Vec::new();
    for base in request.all("basedOn") {
        if based_on::is_ours(unit, base).await? {
            based.push(base);
        }
    }
    let mut ours = Vec::new();
    for performer in request.all("performer") {
        let Some(reference) = path::text(performer, "reference") else { continue };
        let named = identify::organization_code(unit, sent, request, performer).await?;
        let is_us = named.is_some_and(|ods| ods == unit.house.organization());
        if is_us || !is_known(unit, sent, reference).await? {
            ours.push(reference.to_owned());
        }
    }
    let standing = referral::standing(
        request,
        &Ours {
            ods: &unit.house.organization(),
            is_our_organization: &|reference| ours.iter().any(|known| known == reference),
            is_one_of_ours: &|base| based.contains(&base),
        },
    );
    Ok(standing == Standing::Referral)
}

/// Whether a reference means something here. One that does not names nobody: such references are kept and recorded.
async fn is_known(unit: &mut Unit<'_>, sent: &Sent, reference: &str) -> Result<bool> {
    if reference.starts_with('#') || sent.resource(reference).is_some() {
        return Ok(true);
    }
    match unit.house.local(reference) {
        Some((kind, id)) => Ok(unit.see(kind, id).await?.is_some()),
        None => Ok(reference.starts_with("http://") || reference.starts_with("https://")),
    }
}

/// Of forty random bits. One that is taken fails the unit as a lost race, and the act is done again with another.
fn new_reference() -> String {
    ReferralReference::from_bits(rand::random::<u64>()).to_string()
}

fn add_reference(request: &mut Resource, reference: &str) {
    let ours = json!({ "use": "secondary", "system": REFERRAL_REFERENCE, "value": reference });
    let identifiers = request.map_mut().entry("identifier").or_insert_with(|| json!([]));
    if let Some(identifiers) = identifiers.as_array_mut() {
        identifiers.retain(|i| path::text(i, "system") != Some(REFERRAL_REFERENCE));
        identifiers.push(ours);
    }
}

/// Flags the referral with what to check, and says it in sentences for the Task.
async fn flags(unit: &mut Unit<'_>, sent: &Sent, request: &mut Resource, found: &Identified) -> Result<Vec<String>> {
    let person = &found.person;
    let mut said = Vec::new();
    let practice = unit.practice(&person.practice).await?;
    let known = eligibility::Person {
        birth_date: (!person.birth_date.is_empty()).then_some(person.birth_date.as_str()),
        practice: match practice {
            Some(practice) if !practice.locality.is_empty() => eligibility::Practice::Local,
            _ if person.practice.is_empty() => eligibility::Practice::Unknown,
            _ => eligibility::Practice::Elsewhere,
        },
        reason_stated: eligibility::states_a_reason(request),
    };
    for check in eligibility::assess(&unit.house.plan, &known, unit.now.date_naive()) {
        flag(request, check.code);
        said.push(check.text);
    }
    // One in dispute was sent: that is what is to be settled, and nobody is asked for another.
    if person.nhs_number.is_none() && found.conflict.is_none() {
        flag(request, "no-nhs-number");
        said.push("There is no NHS number: ask for it. Nothing reaches the GP record until it is known.".to_owned());
    }
    if let Some(requester) = request.value().get("requester").cloned()
        && let Some(ods) = identify::organization_code(unit, sent, request, &requester).await?
        && ods != unit.actor.organization
    {
        flag(request, "other-requester");
        said.push("The requester is another organisation than the one that sent this.".to_owned());
    }
    Ok(said)
}

/// The practice whose record hears of this: the registered one, else the sender if it is a practice.
pub(super) async fn receiving_practice(unit: &mut Unit<'_>, person: &PersonRow) -> Result<String> {
    if !person.practice.is_empty() {
        return Ok(person.practice.clone());
    }
    let sender = unit.actor.organization.clone();
    Ok(unit.practice(&sender).await?.filter(|p| p.affiliated).map(|p| p.ods).unwrap_or_default())
}

/// The locality of the registered practice, else of the sender; '' where neither has one.
async fn locality(unit: &mut Unit<'_>, person: &PersonRow, sender: &str) -> Result<String> {
    for ods in [person.practice.as_str(), sender] {
        if !ods.is_empty()
            && let Some(practice) = unit.practice(ods).await?
            && !practice.locality.is_empty()
        {
            return Ok(practice.locality);
        }
    }
    Ok(String::new())
}

/// Joins the person's open spell with us, or begins one.
async fn join_episode(unit: &mut Unit<'_>, person: &PersonRow, referral: &str) -> Result<String> {
    let request = json!({ "reference": format!("ServiceRequest/{referral}") });
    let open = match unit.ahead.spells.get(&person.id) {
        // With another referral of this Bundle.
        Some(begun) => Some(begun.clone()),
        None if unit.makes("Patient", &person.id) => None,
        None => unit.tx.open_episode(&person.id).await?.map(|open| open.id),
    };
    if let Some(open) = open
        && let Some(seen) = unit.get("EpisodeOfCare", &open).await?
    {
        let mut episode = seen.resource;
        let requests = episode.map_mut().entry("referralRequest").or_insert_with(|| json!([]));
        if let Some(requests) = requests.as_array_mut() {
            requests.push(request);
        }
        unit.change(episode).await?;
        return Ok(open);
    }
    let id = Unit::new_id();
    unit.ahead.spells.insert(person.id.clone(), id.clone());
    unit.tx
        .insert_episode(&EpisodeRow {
            id: id.clone(),
            person: person.id.clone(),
            open: true,
            started_at: unit.now.into(),
        })
        .await?;
    let episode = json!({
        "resourceType": "EpisodeOfCare",
        "id": id,
        "status": "active",
        "patient": { "reference": format!("Patient/{}", person.id) },
        "managingOrganization": { "type": "Organization", "identifier": { "system": ODS, "value": unit.house.organization() } },
        "period": { "start": instant(unit.now) },
        "referralRequest": [request],
    });
    let belongs = Belongs { person: person.id.clone(), ..Belongs::default() };
    unit.create(Resource::from_value(episode)?, belongs);
    Ok(id)
}

/// The plan this referral follows, at the version of the pathway that is in force now.
fn plan_for(unit: &mut Unit<'_>, person: &PersonRow, referral: &str) -> String {
    let id = Unit::new_id();
    let plan = json!({
        "resourceType": "CarePlan",
        "id": id,
        "instantiatesCanonical": [unit.house.plan.canonical()],
        "status": "active",
        "intent": "plan",
        "subject": { "reference": format!("Patient/{}", person.id) },
        "period": { "start": instant(unit.now) },
        "created": instant(unit.now),
        "supportingInfo": [{ "reference": format!("ServiceRequest/{referral}") }],
    });
    let plan = Resource::from_value(plan).expect("it says its resourceType");
    let belongs =
        Belongs { sender: unit.house.organization(), person: person.id.clone(), referral: referral.to_owned() };
    unit.create(plan, belongs);
    id
}

async fn first_task(unit: &mut Unit<'_>, request: &Resource, row: &ReferralRow, checks: &[String]) -> Result<()> {
    let priority = request.text("priority").unwrap_or("routine");
    let house = unit.house;
    let step = house.plan.first_step();
    let due = At::from(house.plan.contact_due(unit.now, Some(priority)));
    let mut notes = vec![format!("Came by: {}.", referral::entry_route(request).replace('-', " "))];
    notes.extend(checks.iter().cloned());
    tasks::open(unit, step, row, priority, due, &notes).await
}

/// A new priority, sent before anyone began to work: the first contact is due accordingly.
pub(super) async fn reprioritise(unit: &mut Unit<'_>, of: &ReferralRow, priority: Option<&str>) -> Result<()> {
    let house = unit.house;
    let (wanted, due) = (priority.unwrap_or("routine"), house.plan.contact_due(of.received_at.time(), priority));
    for row in unit.tx.tasks_of_referral(&of.id).await?.into_iter().filter(|t| t.code == house.plan.first_step().code) {
        let Some(seen) = unit.get("Task", &row.id).await? else { continue };
        let mut task = seen.resource;
        if task.text("priority") == Some(wanted) {
            continue;
        }
        task.map_mut().insert("priority".to_owned(), json!(wanted));
        tasks::say_due(&mut task, due.into());
        let row = TaskRow { priority: i64::from(referral::priority_rank(wanted)), due: due.into(), ..row };
        tasks::save(unit, row, task).await?;
    }
    Ok(())
}
