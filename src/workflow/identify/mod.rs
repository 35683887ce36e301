//! Identity: one Patient of ours per person, and what senders call Patient beside it.
//!
//! A sender's Patient is kept as the sender's own, linked (`refer`) to ours, and never overwrites ours. The same NHS
//! number with another birth date is not merged, and of two numbers neither is taken: a person looks at it. Without an NHS
//! number the person is provisional, works as usual, and only write-back waits.

mod facts;
mod patients;

use serde_json::{Value, json};

use crate::fhir::systems::{NHS_NUMBER, ODS};
use crate::fhir::{IssueCode, Resource, path};
use crate::pathway::identity::{self, Number};
use crate::store::{Belongs, PersonRow, StoreError};

use super::transaction::Sent;
use super::unit::flag;
use super::{Error, Result, Unit, tasks};
use facts::{Facts, facts_of, practice_of, read_number};

pub(super) use facts::organization_code;
pub(super) use patients::{change_patient, patient};

/// Why nobody can tell who someone is.
#[derive(Clone, Copy)]
pub(super) enum Doubt {
    /// Another person has this NHS number with another birth date.
    OtherBirthDate,
    /// Two NHS numbers that differ were sent.
    TwoNumbers,
}

impl Doubt {
    fn text(self) -> &'static str {
        match self {
            Doubt::OtherBirthDate => {
                "The NHS number is known with another birth date: check who this is before anything else. Nothing reaches \
                 the GP record until then."
            }
            Doubt::TwoNumbers => {
                "Two NHS numbers that differ were sent: check which is the person's before anything else. Nothing \
                 reaches the GP record until then."
            }
        }
    }
}

/// A person, and whether someone has to settle who they are.
pub(super) struct Identified {
    pub person: PersonRow,
    /// It is in dispute who this is.
    pub conflict: Option<Doubt>,
    /// A Task for the conflict stands already.
    pub told: bool,
    /// The NHS number that was sent fails its check digit.
    pub unsure: bool,
    /// Their practice is said to be another than the one we know, or was learnt from someone who may not say so.
    pub practice_in_doubt: bool,
}

impl Identified {
    fn known(person: PersonRow) -> Identified {
        Identified { person, conflict: None, told: false, unsure: false, practice_in_doubt: false }
    }
}

/// The person whom the `subject` of a resource means, held. `expression` is where the resource stands.
///
/// Their practice is learnt where the resource `refers` them: the registered practice sees what others send of somebody, and
/// nobody makes itself that by a Patient alone.
pub(super) async fn subject(
    unit: &mut Unit<'_>,
    sent: &Sent,
    holder: &Resource,
    element: &Value,
    refers: bool,
    expression: &str,
) -> Result<Identified> {
    let here = format!("{expression}.subject");
    let reference = path::text(element, "reference").unwrap_or_default();
    if let Some(contained) = reference.strip_prefix('#') {
        let (at, patient) = holder
            .all("contained")
            .into_iter()
            .enumerate()
            .find(|(_, c)| path::text(c, "id") == Some(contained) && path::text(c, "resourceType") == Some("Patient"))
            .ok_or_else(|| not_at_hand(&here, "is not contained in the resource"))?;
        let patient = Resource::from_value(patient.clone())?;
        let at = format!("{expression}.contained[{at}]");
        if !identity::names_somebody(&patient) {
            return Err(Error::rule(
                IssueCode::Required,
                at,
                "The contained Patient has no identifier, no name and no telecom, so nobody could tell who it is. Send \
                 one of them.",
            ));
        }
        let facts = facts_of(unit, sent, &patient, &at).await?;
        return identify(unit, if refers { facts } else { facts.without_practice() }).await;
    }
    if let Some(("Patient", id)) = unit.house.local(reference)
        && let Some(seen) = unit.see("Patient", id).await?
        && let Some(person) = unit.tx.person(&seen.belongs.person).await?
    {
        let person = held(unit, person).await?;
        // Whoever held the person before may have deleted it.
        let seen = unit.see("Patient", id).await?.ok_or(StoreError::Conflict)?;
        let flagged = |code| seen.resource.has_flag(code);
        // Until someone settled it.
        let in_dispute = person.nhs_number.is_none() && flagged("identity-conflict");
        let found = Identified {
            conflict: in_dispute.then(|| doubt_about(unit, &seen.resource)),
            told: true,
            unsure: flagged("nhs-number-check-digit"),
            ..Identified::known(person)
        };
        let is_senders = seen.belongs.sender == unit.actor.organization;
        return if refers && is_senders { registered(unit, sent, &seen.resource, found).await } else { Ok(found) };
    }
    if path::text(element, "identifier.system") == Some(NHS_NUMBER) {
        let at = format!("{here}.identifier");
        let Some(number) = read_number(unit, element.get("identifier"), &at)? else {
            return Err(Error::rule(
                IssueCode::Required,
                format!("{at}.value"),
                "The identifier has no value, so it names nobody. Send the NHS number.",
            ));
        };
        if !element.get("identifier").is_some_and(|identifier| identity::is_in_use(identifier, unit.now)) {
            return Err(Error::rule(
                IssueCode::BusinessRule,
                at,
                "This NHS number is not in use any more (use old, or its period has ended). Send the one that is.",
            ));
        }
        return identify(unit, Facts::default().with_number(Some(number))).await;
    }
    if let Some(value) = path::text(element, "identifier.value") {
        let system = path::text(element, "identifier.system");
        let sight = unit.actor.sight.clone();
        let people = unit.tx.persons_by_identifier(value, system, &sight).await?;
        if let [only] = people.as_slice()
            && let Some(person) = unit.tx.person(only).await?
        {
            return Ok(Identified::known(held(unit, person).await?));
        }
    }
    Err(not_at_hand(&here, "is not at hand"))
}

fn not_at_hand(expression: &str, why: &str) -> Error {
    Error::rule(
        IssueCode::NotFound,
        expression,
        format!(
            "The person {why}. Name them by NHS number (identifier with system {NHS_NUMBER}), as a contained Patient, \
             as a Patient in the same transaction Bundle, or by the id of a Patient you sent before."
        ),
    )
}

/// Why a Patient was flagged as one in dispute.
fn doubt_about(unit: &Unit<'_>, patient: &Resource) -> Doubt {
    match identity::number(patient, unit.house.nhs_numbers, unit.now) {
        Ok(Number::Differing { .. }) => Doubt::TwoNumbers,
        _ => Doubt::OtherBirthDate,
    }
}

/// With the practice that the sender's Patient, sent before, says the person is registered at.
async fn registered(unit: &mut Unit<'_>, sent: &Sent, patient: &Resource, found: Identified) -> Result<Identified> {
    let facts = Facts { practice: practice_of(unit, sent, patient).await?, ..Facts::default() };
    let practice_in_doubt = practice_in_doubt(unit, &found.person, &facts).await?;
    let person = complete(unit, found.person, &facts, practice_in_doubt).await?;
    Ok(Identified { person, practice_in_doubt, ..found })
}

/// Finds the person these facts mean, or makes one.
async fn identify(unit: &mut Unit<'_>, facts: Facts) -> Result<Identified> {
    if facts.second_number.is_some() {
        let person = make(unit, &facts, None).await?;
        return Ok(Identified { conflict: Some(Doubt::TwoNumbers), ..Identified::known(person) });
    }
    let known = match &facts.nhs_number {
        Some(number) => unit.person_by_nhs_number(number.as_str()).await?,
        None => None,
    };
    let known = match known {
        Some(person) => Some(held(unit, person).await?),
        None => None,
    };
    let unsure = facts.unsure;
    match known {
        Some(person) if disagree(&person.birth_date, &facts.birth_date) => {
            let person = make(unit, &facts, None).await?;
            Ok(Identified { conflict: Some(Doubt::OtherBirthDate), unsure, ..Identified::known(person) })
        }
        Some(person) => {
            let in_doubt = practice_in_doubt(unit, &person, &facts).await?;
            let person = complete(unit, person, &facts, in_doubt).await?;
            Ok(Identified { unsure, practice_in_doubt: in_doubt, ..Identified::known(person) })
        }
        None => {
            let number = facts.nhs_number.as_ref().map(|n| n.as_str().to_owned());
            Ok(Identified { unsure, ..Identified::known(make(unit, &facts, number).await?) })
        }
    }
}

/// A person who was found, as nobody else changes them from now on: what is learnt of someone is added to what others
/// learnt before.
async fn held(unit: &mut Unit<'_>, found: PersonRow) -> Result<PersonRow> {
    // Nobody else can know of a person that this unit makes.
    if unit.makes("Patient", &found.id) {
        return Ok(found);
    }
    unit.hold_person(&found.id).await?;
    let person = unit.tx.person(&found.id).await?.filter(|person| person.nhs_number == found.nhs_number);
    // By another number it is decided anew whom the facts mean.
    Ok(person.ok_or(StoreError::Conflict)?)
}

/// Dates differ where both say something: `1980` and `1980-05-01` may be the same day.
fn disagree(ours: &str, theirs: &str) -> bool {
    let both = ours.len().min(theirs.len());
    ours.get(..both) != theirs.get(..both)
}

/// Whether a person has to say which practice is right: the sender names another than the one we know, or names one where
/// we know none and others have referred the person too. Who says it is the registered practice sees everything of the
/// person, so a sender alone cannot make itself that.
async fn practice_in_doubt(unit: &mut Unit<'_>, person: &PersonRow, facts: &Facts) -> Result<bool> {
    if facts.practice.is_empty() || facts.practice == person.practice {
        return Ok(false);
    }
    if !person.practice.is_empty() {
        return Ok(true);
    }
    let sender = unit.actor.organization.clone();
    Ok(unit.tx.referrals_of_person(&person.id).await?.iter().any(|referral| referral.sender != sender))
}

/// A new person with a Patient of ours. One whose identity is in dispute gets no NHS number: it belongs to the other.
async fn make(unit: &mut Unit<'_>, facts: &Facts, nhs_number: Option<String>) -> Result<PersonRow> {
    let id = Unit::new_id();
    let locality = match facts.practice.as_str() {
        "" => String::new(),
        ods => unit.practice(ods).await?.map(|p| p.locality).unwrap_or_default(),
    };
    let person = PersonRow {
        id: id.clone(),
        nhs_number,
        birth_date: facts.birth_date.clone(),
        family: facts.family.clone(),
        practice: facts.practice.clone(),
        locality,
    };
    unit.insert_person(&person).await?;
    let belongs = Belongs { person: id, ..Belongs::default() };
    let resource = our_patient(&person, facts.patient.as_ref());
    unit.create(resource, belongs);
    Ok(person)
}

/// Our Patient, made from what is known: the person's own data, never a sender's identifiers or links.
fn our_patient(person: &PersonRow, sent: Option<&Resource>) -> Resource {
    let mut ours = json!({ "resourceType": "Patient", "id": person.id });
    if let Some(number) = &person.nhs_number {
        ours["identifier"] = json!([{ "system": NHS_NUMBER, "value": number }]);
    }
    ours["active"] = json!(true);
    for element in
        ["name", "telecom", "gender", "birthDate", "deceasedBoolean", "deceasedDateTime", "address", "communication"]
    {
        if let Some(value) = sent.and_then(|s| s.value().get(element)) {
            ours[element] = value.clone();
        }
    }
    if !person.practice.is_empty() {
        ours["generalPractitioner"] =
            json!([{ "type": "Organization", "identifier": { "system": ODS, "value": person.practice } }]);
    }
    Resource::from_value(ours).expect("it says its resourceType")
}

/// Fills in what we did not know; what we know stays.
async fn complete(
    unit: &mut Unit<'_>,
    mut person: PersonRow,
    facts: &Facts,
    practice_in_doubt: bool,
) -> Result<PersonRow> {
    let mut learned = false;
    let unknown = String::new();
    let practice = if practice_in_doubt { &unknown } else { &facts.practice };
    for (ours, theirs) in [
        (&mut person.birth_date, &facts.birth_date),
        (&mut person.family, &facts.family),
        (&mut person.practice, practice),
    ] {
        if ours.is_empty() && !theirs.is_empty() {
            ours.clone_from(theirs);
            learned = true;
        }
    }
    if !learned {
        return Ok(person);
    }
    if person.locality.is_empty() && !person.practice.is_empty() {
        person.locality = unit.practice(&person.practice).await?.map(|p| p.locality).unwrap_or_default();
    }
    unit.update_person(&person).await?;
    super::deliver::identity_is_settled(unit, &person).await?;
    if let Some(seen) = unit.get("Patient", &person.id).await? {
        let mut ours = seen.resource;
        let fuller = our_patient(&person, facts.patient.as_ref());
        for (element, value) in fuller.value().as_object().into_iter().flatten() {
            ours.map_mut().entry(element.clone()).or_insert_with(|| value.clone());
        }
        unit.change(ours).await?;
    }
    Ok(person)
}

/// Flags what a person has to settle about who someone is, and asks a co-ordinator for it. Answers what to tell whoever
/// makes the first contact.
pub(super) async fn raise(
    unit: &mut Unit<'_>,
    resource: &mut Resource,
    found: &Identified,
    referral: &str,
) -> Result<Vec<String>> {
    let mut said = Vec::new();
    if found.unsure {
        flag(resource, "nhs-number-check-digit");
        said.push("The NHS number fails its check digit: check it with the person.".to_owned());
    }
    if let Some(doubt) = found.conflict {
        flag(resource, "identity-conflict");
        said.push(doubt.text().to_owned());
        if !found.told {
            tasks::for_co_ordinator(unit, "resolve-identity", &found.person, "", referral).await?;
        }
    }
    if found.practice_in_doubt {
        flag(resource, "practice-in-doubt");
        said.push(
            "The sender names another practice than the one we know: ask the person where they are registered."
                .to_owned(),
        );
        if !unit.tx.has_open_task_for_person(&found.person.id, "find-practice").await? {
            tasks::for_co_ordinator(unit, "find-practice", &found.person, "", referral).await?;
        }
    }
    Ok(said)
}
