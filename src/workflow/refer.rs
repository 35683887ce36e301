//! A referral arrives: kept as sent, given a reference, a plan and a first Task. Nobody is turned away.

use serde_json::{Value, json};

use crate::fhir::systems::{ODS, REFERRAL_REFERENCE};
use crate::fhir::when::instant;
use crate::fhir::{IssueCode, Resource, path};
use crate::pathway::eligibility;
use crate::pathway::referral::{self, Ours, ReferralReference, Standing};
use crate::store::{At, Belongs, EpisodeRow, PersonRow, ReferralRow};

use super::identify::{self, Identified};
use super::submit::Sent;
use super::unit::flag;
use super::{Error, Result, Unit, tasks};

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
    mut request: Resource,
    expression: &str,
    digest: &str,
    submission: Option<&str>,
) -> Result<Referred> {
    let identifiers = business_identifiers(&request);
    let sender = unit.actor.organization.clone();
    if let Some(before) = unit.tx.referral_by_identifier(&sender, &identifiers).await? {
        return resent(before, digest, expression);
    }
    let Identified { person, conflict, asked } = subject_of(unit, sent, &request, expression).await?;
    let id = request.id().unwrap_or_default().to_owned();
    if !is_referral(unit, sent, &request).await? {
        let belongs = Belongs { sender, person: person.id.clone(), referral: String::new() };
        unit.audit("create", &request.reference(), &person.id);
        unit.create(request, belongs);
        return Ok(Referred::New { person: person.id, referral: String::new() });
    }

    let reference = new_reference(unit).await?;
    add_reference(&mut request, &reference);
    let checks = flags(unit, sent, &mut request, &person, conflict).await?;
    let practice = receiving_practice(unit, &person).await?;
    let locality = locality(unit, &person, &sender).await?;
    let episode = join_episode(unit, &person, &id).await?;
    let care_plan = plan_for(unit, &person, &id, &sender);
    let row = ReferralRow {
        id: id.clone(),
        reference,
        sender: sender.clone(),
        digest: digest.to_owned(),
        submission: submission.unwrap_or_default().to_owned(),
        person: person.id.clone(),
        practice,
        locality,
        episode,
        care_plan,
        state: "received".to_owned(),
        outcome: String::new(),
        received_at: unit.now.into(),
        since: unit.now.into(),
    };
    unit.tx.insert_referral(&row, &identifiers).await?;
    first_task(unit, &request, &row, &checks);
    if conflict && !asked {
        tasks::for_co_ordinator(unit, "resolve-identity", &person, "", &id).await?;
    }
    unit.audit("create", &request.reference(), &person.id);
    unit.create(request, Belongs { sender, person: person.id.clone(), referral: id.clone() });
    Ok(Referred::New { person: person.id, referral: id })
}

fn resent(before: ReferralRow, digest: &str, expression: &str) -> Result<Referred> {
    if before.digest == digest {
        return Ok(Referred::Before(before.id));
    }
    Err(Error::conflict(
        format!("{expression}.identifier"),
        format!(
            "You sent a referral with this identifier before, with other content. Read ServiceRequest/{} and PUT the \
             change with If-Match, or send a new referral with an identifier of its own.",
            before.id
        ),
    ))
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

async fn subject_of(unit: &mut Unit<'_>, sent: &Sent, request: &Resource, expression: &str) -> Result<Identified> {
    let at = format!("{expression}.subject");
    match request.value().get("subject") {
        Some(subject) => identify::subject(unit, sent, request, &subject.clone(), &at).await,
        None => Err(Error::rule(IssueCode::Required, at, "A ServiceRequest says who it is for. Send the subject.")),
    }
}

/// Whether it is a referral to us; the rest is kept as context, without a Task. What its references mean is looked up
/// first: the rule itself is pure.
async fn is_referral(unit: &mut Unit<'_>, sent: &Sent, request: &Resource) -> Result<bool> {
    let mut ours = Vec::new();
    for reference in request.all("basedOn.reference").into_iter().filter_map(Value::as_str) {
        let known = match unit.house.local(reference) {
            Some(("ServiceRequest", id)) => unit.tx.referral(id).await?.is_some(),
            Some(("CarePlan", id)) => {
                unit.get("CarePlan", id).await?.is_some_and(|seen| !seen.belongs.referral.is_empty())
            }
            _ => false,
        };
        if known {
            ours.push(reference.to_owned());
        }
    }
    for performer in request.all("performer") {
        let named = identify::organization_code(unit, sent, request, performer).await?;
        if let (Some(reference), Some(ods)) = (path::text(performer, "reference"), named)
            && ods == unit.house.organization()
        {
            ours.push(reference.to_owned());
        }
    }
    let is_ours = |reference: &str| ours.iter().any(|known| known == reference);
    let standing = referral::standing(
        request,
        &Ours {
            ods: &unit.house.organization(),
            is_our_organization: &is_ours,
            is_one_of_ours: &|value| path::text(value, "reference").is_some_and(is_ours),
        },
    );
    Ok(standing == Standing::Referral)
}

async fn new_reference(unit: &mut Unit<'_>) -> Result<String> {
    loop {
        let reference = ReferralReference::from_bits(rand::random::<u64>()).to_string();
        if !unit.tx.reference_is_taken(&reference).await? {
            return Ok(reference);
        }
    }
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
async fn flags(
    unit: &mut Unit<'_>,
    sent: &Sent,
    request: &mut Resource,
    person: &PersonRow,
    conflict: bool,
) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let practice = unit.tx.practice(&person.practice).await?;
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
    if person.nhs_number.is_none() {
        flag(request, "no-nhs-number");
        said.push("There is no NHS number: ask for it. Nothing reaches the GP record until it is known.".to_owned());
    }
    if identify::check_digit_fails(unit, person) {
        flag(request, "nhs-number-check-digit");
        said.push("The NHS number fails its check digit: check it with the person.".to_owned());
    }
    if conflict {
        flag(request, identify::CONFLICT);
        said.push(
            "The NHS number is known with another birth date: check who this is before anything else.".to_owned(),
        );
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
    Ok(unit.tx.practice(&sender).await?.filter(|p| p.affiliated).map(|p| p.ods).unwrap_or_default())
}

/// The locality of the registered practice, else of the sender; '' where neither has one.
async fn locality(unit: &mut Unit<'_>, person: &PersonRow, sender: &str) -> Result<String> {
    for ods in [person.practice.as_str(), sender] {
        if !ods.is_empty()
            && let Some(practice) = unit.tx.practice(ods).await?
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
    if let Some(open) = unit.tx.open_episode(&person.id).await?
        && let Some(seen) = unit.get("EpisodeOfCare", &open.id).await?
    {
        let mut episode = seen.resource;
        let requests = episode.map_mut().entry("referralRequest").or_insert_with(|| json!([]));
        if let Some(requests) = requests.as_array_mut() {
            requests.push(request);
        }
        unit.change(episode).await?;
        return Ok(open.id);
    }
    let id = Unit::new_id();
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
fn plan_for(unit: &mut Unit<'_>, person: &PersonRow, referral: &str, sender: &str) -> String {
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
    let belongs = Belongs { sender: sender.to_owned(), person: person.id.clone(), referral: referral.to_owned() };
    unit.create(plan, belongs);
    id
}

fn first_task(unit: &mut Unit<'_>, request: &Resource, row: &ReferralRow, checks: &[String]) {
    let priority = request.text("priority").unwrap_or("routine");
    let house = unit.house;
    let step = house.plan.first_step();
    let due = At::from(house.plan.contact_due(unit.now, Some(priority)));
    let mut notes = vec![format!("Came by: {}.", referral::entry_route(request).replace('-', " "))];
    notes.extend(checks.iter().cloned());
    tasks::open(unit, step, row, priority, due, &notes);
}
