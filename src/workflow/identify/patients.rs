//! Patients as they are sent: a sender's own beside ours, and the versions that come after.

use serde_json::json;

use crate::fhir::nhs_number::NhsNumber;
use crate::fhir::{Issue, IssueCode, Resource};
use crate::store::Belongs;

use super::super::transaction::Sent;
use super::super::unit::keep_flags;
use super::super::{Error, Result, Unit};
use super::facts::{Facts, facts_of};
use super::{Doubt, Identified, disagree, identify, raise};

/// Keeps a Patient that was sent as the sender's own, linked to ours. Where it says that the person is registered counts
/// when they are referred, in the same submission or later.
pub(in crate::workflow) async fn patient(
    unit: &mut Unit<'_>,
    sent: &Sent,
    mut patient: Resource,
    expression: &str,
) -> Result<String> {
    let facts = facts_of(unit, sent, &patient, expression).await?;
    let facts = if sent.refers(&patient.reference()) { facts } else { facts.without_practice() };
    let found = identify(unit, facts).await?;
    let person = found.person.clone();
    link(&mut patient, &person.id);
    raise(unit, &mut patient, &found, "").await?;
    unit.audit("create", &patient.reference(), &person.id);
    let belongs =
        Belongs { sender: unit.actor.organization.clone(), person: person.id.clone(), referral: String::new() };
    unit.create(patient, belongs);
    Ok(person.id)
}

fn link(patient: &mut Resource, ours: &str) {
    let to_ours = json!({ "other": { "reference": format!("Patient/{ours}") }, "type": "refer" });
    let links = patient.map_mut().entry("link").or_insert_with(|| json!([]));
    if let Some(links) = links.as_array_mut()
        && !links.contains(&to_ours)
    {
        links.push(to_ours);
    }
}

/// A new version of a Patient: a sender's own, or ours when staff settle who someone is.
pub(in crate::workflow) async fn change_patient(unit: &mut Unit<'_>, sent: &Sent, mut patient: Resource) -> Result<()> {
    let id = patient.id().unwrap_or_default().to_owned();
    let seen = unit.see("Patient", &id).await?.ok_or(Error::NotFound)?;
    if seen.belongs.person != id {
        if seen.belongs.sender != unit.actor.organization {
            return Err(Error::Forbidden(
                "This Patient is another organisation's own record; send your own.".to_owned(),
            ));
        }
        let facts = facts_of(unit, sent, &patient, "Patient").await?;
        same_person(unit, &facts, &seen.belongs.person).await?;
        if facts.second_number.is_some() {
            doubt(unit, &mut patient, &seen.belongs.person).await?;
        }
        link(&mut patient, &seen.belongs.person);
        keep_flags(&seen.resource, &mut patient);
        unit.audit("update", &patient.reference(), &seen.belongs.person);
        return unit.change(patient).await;
    }
    if !unit.actor.ours {
        return Err(Error::Forbidden(
            "This Patient is Live Well's own record; send yours, and it is linked.".to_owned(),
        ));
    }
    let facts = facts_of(unit, sent, &patient, "Patient").await?;
    if let Some(second) = facts.second_number {
        return Err(Error::rule(
            IssueCode::BusinessRule,
            format!("Patient.identifier[{second}]"),
            "Our Patient has one NHS number. Leave this one out, or say that it is not in use any more (use old).",
        ));
    }
    unit.hold_person(&id).await?;
    let mut person = unit.tx.person(&id).await?.ok_or(Error::NotFound)?;
    if let Some(number) = &facts.nhs_number {
        let other = unit.person_by_nhs_number(number.as_str()).await?;
        if other.is_some_and(|other| other.id != id) {
            return Err(Error::Conflict(Issue::error(
                IssueCode::Duplicate,
                "Patient.identifier",
                "Another Patient of ours has this NHS number. Settle which of the two it belongs to first.",
            )));
        }
    }
    person.nhs_number = facts.nhs_number.as_ref().map(|number| number.as_str().to_owned());
    person.birth_date = facts.birth_date;
    person.family = facts.family;
    person.practice = facts.practice;
    person.locality = unit.practice(&person.practice).await?.map(|p| p.locality).unwrap_or_default();
    unit.update_person(&person).await?;
    if person.nhs_number.is_some() {
        super::super::deliver::identity_is_settled(unit, &person).await?;
    }
    unit.audit("update", &patient.reference(), &id);
    unit.change(patient).await
}

/// A sender's Patient that has come to have two NHS numbers is in dispute from now on, and asked about once.
async fn doubt(unit: &mut Unit<'_>, patient: &mut Resource, person: &str) -> Result<()> {
    unit.hold_person(person).await?;
    let person = unit.tx.person(person).await?.ok_or(Error::NotFound)?;
    let told = unit.tx.has_open_task_for_person(&person.id, "resolve-identity").await?;
    let found = Identified { conflict: Some(Doubt::TwoNumbers), told, ..Identified::known(person) };
    raise(unit, patient, &found, "").await?;
    Ok(())
}

/// Refuses a new version of a sender's Patient that means someone else.
async fn same_person(unit: &mut Unit<'_>, facts: &Facts, person: &str) -> Result<()> {
    let Some(known) = unit.tx.person(person).await? else { return Ok(()) };
    let number = facts.nhs_number.as_ref().map(NhsNumber::as_str);
    let other_number = match (number, known.nhs_number.as_deref()) {
        (Some(sent), Some(ours)) => sent != ours,
        // Of two that differ at most one is that of the person.
        (None, Some(_)) => facts.second_number.is_some(),
        _ => false,
    };
    if other_number || disagree(&known.birth_date, &facts.birth_date) {
        return Err(Error::conflict(
            "Patient",
            "This Patient would be someone else: its NHS number or birth date is not that of the person it was sent for. \
             Send a new Patient, and a new referral that names it.",
        ));
    }
    Ok(())
}
