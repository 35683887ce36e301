//! Identity: one Patient of ours per person, and what senders call Patient beside it.
//!
//! A sender's Patient is kept as the sender's own, linked (`refer`) to ours, and never overwrites ours. The same NHS
//! number with another birth date is not merged: a person looks at it. Without an NHS number the person is provisional,
//! works as usual, and only write-back waits.

use serde_json::{Value, json};

use crate::fhir::nhs_number::{Checking, NhsNumber};
use crate::fhir::systems::{NHS_NUMBER, ODS};
use crate::fhir::{Issue, IssueCode, Resource, path};
use crate::store::{Belongs, PersonRow};

use super::submit::Sent;
use super::unit::{flag, is_flagged};
use super::{Error, Result, Unit, tasks};

/// The flag of a person whose NHS number is known with another birth date.
pub(super) const CONFLICT: &str = "identity-conflict";

/// Who a submission says someone is.
#[derive(Default)]
pub(super) struct Facts {
    nhs_number: Option<NhsNumber>,
    birth_date: String,
    family: String,
    /// ODS code of the registered practice, '' where it is not said.
    practice: String,
    /// What our Patient is first made from.
    patient: Option<Resource>,
}

/// A person, and whether someone has to settle who they are.
pub(super) struct Identified {
    pub person: PersonRow,
    /// Another person has this NHS number with another birth date.
    pub conflict: bool,
    /// A co-ordinator was asked to settle that before.
    pub asked: bool,
}

/// The person a `subject` (or `patient`) element means. `expression` is where the element stands.
pub(super) async fn subject(
    unit: &mut Unit<'_>,
    sent: &Sent,
    holder: &Resource,
    element: &Value,
    expression: &str,
) -> Result<Identified> {
    let reference = path::text(element, "reference").unwrap_or_default();
    if let Some(contained) = reference.strip_prefix('#') {
        let patient = holder
            .all("contained")
            .into_iter()
            .find(|c| path::text(c, "id") == Some(contained) && path::text(c, "resourceType") == Some("Patient"))
            .ok_or_else(|| not_at_hand(expression, "is not contained in the resource"))?;
        let patient = Resource::from_value(patient.clone())?;
        let facts = facts_of(unit, sent, &patient, "Patient").await?;
        return identify(unit, facts).await;
    }
    if let Some(("Patient", id)) = unit.house.local(reference)
        && let Some(seen) = unit.see("Patient", id).await?
        && let Some(person) = unit.tx.person(&seen.belongs.person).await?
    {
        // The Patient came first, in the same Bundle or before it, and was found to be in dispute then.
        let conflict = person.nhs_number.is_none() && is_flagged(&seen.resource, CONFLICT);
        return Ok(Identified { person, conflict, asked: conflict });
    }
    if path::text(element, "identifier.system") == Some(NHS_NUMBER) {
        let nhs_number = read_number(unit, element.get("identifier"), &format!("{expression}.identifier"))?;
        return identify(unit, Facts { nhs_number, ..Facts::default() }).await;
    }
    if let Some(value) = path::text(element, "identifier.value") {
        let system = path::text(element, "identifier.system");
        let sight = unit.actor.sight.clone();
        let people = unit.tx.persons_by_identifier(value, system, &sight).await?;
        if let [only] = people.as_slice()
            && let Some(person) = unit.tx.person(only).await?
        {
            return Ok(Identified { person, conflict: false, asked: false });
        }
    }
    Err(not_at_hand(expression, "is not at hand"))
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

/// Reads what a Patient says of a person.
pub(super) async fn facts_of(unit: &mut Unit<'_>, sent: &Sent, patient: &Resource, expression: &str) -> Result<Facts> {
    let mut nhs_number = None;
    for (at, identifier) in patient.all("identifier").into_iter().enumerate() {
        if path::text(identifier, "system") == Some(NHS_NUMBER) {
            nhs_number = read_number(unit, Some(identifier), &format!("{expression}.identifier[{at}]"))?;
        }
    }
    let mut practice = String::new();
    for reference in patient.all("generalPractitioner") {
        if let Some(ods) = organization_code(unit, sent, patient, reference).await? {
            practice = ods;
            break;
        }
    }
    Ok(Facts {
        nhs_number,
        birth_date: patient.text("birthDate").unwrap_or_default().to_owned(),
        family: family_name(patient),
        practice,
        patient: Some(patient.clone()),
    })
}

/// The family name in use: the official or usual one, else the first.
fn family_name(patient: &Resource) -> String {
    let names = patient.all("name");
    let of_use = |wanted: &str| names.iter().find(|n| path::text(n, "use") == Some(wanted));
    let name = of_use("official").or_else(|| of_use("usual")).or_else(|| names.first());
    name.and_then(|n| path::text(n, "family")).unwrap_or_default().to_owned()
}

fn read_number(unit: &Unit<'_>, identifier: Option<&Value>, expression: &str) -> Result<Option<NhsNumber>> {
    let Some(text) = identifier.and_then(|i| path::text(i, "value")) else { return Ok(None) };
    NhsNumber::parse_as(text, unit.house.nhs_numbers)
        .map(Some)
        .map_err(|why| Error::rule(IssueCode::Value, format!("{expression}.value"), why.to_string()))
}

/// The ODS code of the organisation a reference names: by identifier, contained, in the same submission, or known here.
pub(super) async fn organization_code(
    unit: &mut Unit<'_>,
    sent: &Sent,
    holder: &Resource,
    reference: &Value,
) -> Result<Option<String>> {
    if path::text(reference, "identifier.system") == Some(ODS) {
        return Ok(path::text(reference, "identifier.value").map(str::to_owned));
    }
    let Some(text) = path::text(reference, "reference") else { return Ok(None) };
    if let Some(id) = text.strip_prefix('#') {
        let contained = holder.all("contained").into_iter().find(|c| path::text(c, "id") == Some(id));
        return Ok(contained.and_then(|c| Resource::from_value(c.clone()).ok()).and_then(|o| ods_of(&o)));
    }
    if let Some(organization) = sent.resource(text) {
        return Ok(ods_of(organization));
    }
    match unit.house.local(text) {
        Some(("Organization", id)) => Ok(unit.see("Organization", id).await?.and_then(|seen| ods_of(&seen.resource))),
        _ => Ok(None),
    }
}

fn ods_of(organization: &Resource) -> Option<String> {
    (organization.kind() == "Organization").then(|| organization.identifier(ODS).map(str::to_owned))?
}

/// Finds the person these facts mean, or makes one.
async fn identify(unit: &mut Unit<'_>, facts: Facts) -> Result<Identified> {
    let known = match &facts.nhs_number {
        Some(number) => unit.tx.person_by_nhs_number(number.as_str()).await?,
        None => None,
    };
    match known {
        Some(person) if disagree(&person.birth_date, &facts.birth_date) => {
            let person = make(unit, &facts, None).await?;
            Ok(Identified { person, conflict: true, asked: false })
        }
        Some(person) => Ok(Identified { person: complete(unit, person, &facts).await?, conflict: false, asked: false }),
        None => {
            let number = facts.nhs_number.as_ref().map(|n| n.as_str().to_owned());
            Ok(Identified { person: make(unit, &facts, number).await?, conflict: false, asked: false })
        }
    }
}

fn disagree(ours: &str, theirs: &str) -> bool {
    !ours.is_empty() && !theirs.is_empty() && ours != theirs
}

/// A new person with a Patient of ours. One whose identity is in dispute gets no NHS number: it belongs to the other.
async fn make(unit: &mut Unit<'_>, facts: &Facts, nhs_number: Option<String>) -> Result<PersonRow> {
    let id = Unit::new_id();
    let locality = match facts.practice.as_str() {
        "" => String::new(),
        ods => unit.tx.practice(ods).await?.map(|p| p.locality).unwrap_or_default(),
    };
    let person = PersonRow {
        id: id.clone(),
        nhs_number,
        birth_date: facts.birth_date.clone(),
        family: facts.family.clone(),
        practice: facts.practice.clone(),
        locality,
    };
    unit.tx.insert_person(&person).await?;
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
async fn complete(unit: &mut Unit<'_>, mut person: PersonRow, facts: &Facts) -> Result<PersonRow> {
    let mut learned = false;
    for (ours, theirs) in [
        (&mut person.birth_date, &facts.birth_date),
        (&mut person.family, &facts.family),
        (&mut person.practice, &facts.practice),
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
        person.locality = unit.tx.practice(&person.practice).await?.map(|p| p.locality).unwrap_or_default();
    }
    unit.tx.update_person(&person).await?;
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

/// Keeps a Patient that was sent as the sender's own, linked to ours.
pub(super) async fn patient(
    unit: &mut Unit<'_>,
    sent: &Sent,
    mut patient: Resource,
    expression: &str,
) -> Result<String> {
    let facts = facts_of(unit, sent, &patient, expression).await?;
    let unsure = facts.nhs_number.as_ref().is_some_and(|n| !n.check_digit_holds());
    let Identified { person, conflict, .. } = identify(unit, facts).await?;
    link(&mut patient, &person.id);
    if unsure {
        flag(&mut patient, "nhs-number-check-digit");
    }
    if conflict {
        flag(&mut patient, CONFLICT);
        tasks::for_co_ordinator(unit, "resolve-identity", &person, "", "").await?;
    }
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
pub(super) async fn change_patient(unit: &mut Unit<'_>, sent: &Sent, mut patient: Resource) -> Result<()> {
    let id = patient.id().unwrap_or_default().to_owned();
    let seen = unit.see("Patient", &id).await?.ok_or(Error::NotFound)?;
    if seen.belongs.person != id {
        if seen.belongs.sender != unit.actor.organization {
            return Err(Error::Forbidden(
                "This Patient is another organisation's own record; send your own.".to_owned(),
            ));
        }
        facts_of(unit, sent, &patient, "Patient").await?;
        link(&mut patient, &seen.belongs.person);
        unit.audit("update", &patient.reference(), &seen.belongs.person);
        return unit.change(patient).await;
    }
    if !unit.actor.ours {
        return Err(Error::Forbidden(
            "This Patient is Live Well's own record; send yours, and it is linked.".to_owned(),
        ));
    }
    let facts = facts_of(unit, sent, &patient, "Patient").await?;
    let mut person = unit.tx.person(&id).await?.ok_or(Error::NotFound)?;
    if let Some(number) = &facts.nhs_number {
        let other = unit.tx.person_by_nhs_number(number.as_str()).await?;
        if other.is_some_and(|other| other.id != id) {
            return Err(Error::Conflict(Issue::error(
                IssueCode::Duplicate,
                "Patient.identifier",
                "Another Patient of ours has this NHS number. Settle which of the two it belongs to first.",
            )));
        }
        person.nhs_number = Some(number.as_str().to_owned());
    }
    person.birth_date = facts.birth_date;
    person.family = facts.family;
    person.practice = facts.practice;
    person.locality = unit.tx.practice(&person.practice).await?.map(|p| p.locality).unwrap_or_default();
    unit.tx.update_person(&person).await?;
    if person.nhs_number.is_some() {
        super::deliver::identity_is_settled(unit, &person).await?;
    }
    unit.audit("update", &patient.reference(), &id);
    unit.change(patient).await
}

/// Whether a number that was kept fails its check digit, in a lenient deployment.
pub(super) fn check_digit_fails(unit: &Unit<'_>, person: &PersonRow) -> bool {
    unit.house.nhs_numbers == Checking::Lenient
        && person
            .nhs_number
            .as_deref()
            .and_then(|n| NhsNumber::parse_as(n, Checking::Lenient).ok())
            .is_some_and(|n| !n.check_digit_holds())
}
