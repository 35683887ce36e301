//! Identity: one Patient of ours per person, and what senders call Patient beside it.
//!
//! A sender's Patient is kept as the sender's own, linked (`refer`) to ours, and never overwrites ours. The same NHS
//! number with another birth date is not merged, and of two numbers neither is taken: a person looks at it. Without an NHS
//! number the person is provisional, works as usual, and only write-back waits.

use serde_json::{Value, json};

use crate::fhir::nhs_number::{NhsNumber, NhsNumberError};
use crate::fhir::systems::{NHS_NUMBER, ODS};
use crate::fhir::{Issue, IssueCode, Resource, path};
use crate::pathway::identity::{self, Number};
use crate::store::{Belongs, PersonRow, StoreError};

use super::transaction::Sent;
use super::unit::flag;
use super::{Error, Result, Unit, tasks};

/// Who a submission says someone is.
#[derive(Default)]
pub(super) struct Facts {
    nhs_number: Option<NhsNumber>,
    birth_date: String,
    family: String,
    /// ODS code of the registered practice, '' where it is not said.
    practice: String,
    /// The NHS number that was sent fails its check digit: it is kept as sent and identifies nobody.
    unsure: bool,
    /// Two NHS numbers that differ were sent, and neither is taken: the place of the second.
    second_number: Option<usize>,
    /// What our Patient is first made from.
    patient: Option<Resource>,
}

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
pub(super) async fn subject(
    unit: &mut Unit<'_>,
    sent: &Sent,
    holder: &Resource,
    element: &Value,
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
        return identify(unit, facts).await;
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
        return Ok(Identified {
            conflict: in_dispute.then(|| doubt_about(unit, &seen.resource)),
            told: true,
            unsure: flagged("nhs-number-check-digit"),
            ..Identified::known(person)
        });
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

impl Facts {
    /// With the NHS number that was sent; one that fails its check digit identifies nobody.
    fn with_number(mut self, number: Option<NhsNumber>) -> Facts {
        self.unsure = number.as_ref().is_some_and(|n| !n.check_digit_holds());
        self.nhs_number = number.filter(NhsNumber::check_digit_holds);
        self
    }
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
    let number = identity::number(patient, unit.house.nhs_numbers, unit.now)
        .map_err(|(at, why)| no_number(&format!("{expression}.identifier[{at}]"), why))?;
    let (nhs_number, second_number) = match number {
        Number::Unknown => (None, None),
        Number::One(number) => (Some(number), None),
        Number::Differing { second } => (None, Some(second)),
    };
    let mut practice = String::new();
    for reference in patient.all("generalPractitioner") {
        if let Some(ods) = organization_code(unit, sent, patient, reference).await? {
            practice = ods;
            break;
        }
    }
    let facts = Facts {
        birth_date: patient.text("birthDate").unwrap_or_default().to_owned(),
        family: family_name(patient),
        practice,
        second_number,
        patient: Some(patient.clone()),
        ..Facts::default()
    };
    Ok(facts.with_number(nhs_number))
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
    NhsNumber::parse_as(text, unit.house.nhs_numbers).map(Some).map_err(|why| no_number(expression, why))
}

fn no_number(expression: &str, why: NhsNumberError) -> Error {
    Error::rule(IssueCode::Value, format!("{expression}.value"), why.to_string())
}

/// Why a Patient was flagged as one in dispute.
fn doubt_about(unit: &Unit<'_>, patient: &Resource) -> Doubt {
    match identity::number(patient, unit.house.nhs_numbers, unit.now) {
        Ok(Number::Differing { .. }) => Doubt::TwoNumbers,
        _ => Doubt::OtherBirthDate,
    }
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

/// Keeps a Patient that was sent as the sender's own, linked to ours.
pub(super) async fn patient(
    unit: &mut Unit<'_>,
    sent: &Sent,
    mut patient: Resource,
    expression: &str,
) -> Result<String> {
    let facts = facts_of(unit, sent, &patient, expression).await?;
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
        let facts = facts_of(unit, sent, &patient, "Patient").await?;
        same_person(unit, &facts, &seen.belongs.person).await?;
        if facts.second_number.is_some() {
            doubt(unit, &mut patient, &seen.belongs.person).await?;
        }
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
        super::deliver::identity_is_settled(unit, &person).await?;
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
