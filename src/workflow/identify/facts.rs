//! What a submission says of someone.

use serde_json::Value;

use crate::fhir::nhs_number::{NhsNumber, NhsNumberError};
use crate::fhir::systems::ODS;
use crate::fhir::{IssueCode, Resource, path};
use crate::pathway::identity::{self, Number, ods_code};

use super::super::transaction::Sent;
use super::super::{Error, Result, Unit};

/// Who a submission says someone is.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) nhs_number: Option<NhsNumber>,
    pub(super) birth_date: String,
    pub(super) family: String,
    /// ODS code of the registered practice, '' where it is not said.
    pub(super) practice: String,
    /// The NHS number that was sent fails its check digit: it is kept as sent and identifies nobody.
    pub(super) unsure: bool,
    /// Two NHS numbers that differ were sent, and neither is taken: the place of the second.
    pub(super) second_number: Option<usize>,
    /// What our Patient is first made from.
    pub(super) patient: Option<Resource>,
}

impl Facts {
    /// Without where the person is registered.
    pub(super) fn without_practice(self) -> Facts {
        Facts { practice: String::new(), ..self }
    }

    /// With the NHS number that was sent; one that fails its check digit identifies nobody.
    pub(super) fn with_number(mut self, number: Option<NhsNumber>) -> Facts {
        self.unsure = number.as_ref().is_some_and(|n| !n.check_digit_holds());
        self.nhs_number = number.filter(NhsNumber::check_digit_holds);
        self
    }
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
    let practice = practice_of(unit, sent, patient).await?;
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

/// The practice (ODS code) at which a Patient says it is registered, '' where it does not say.
pub(super) async fn practice_of(unit: &mut Unit<'_>, sent: &Sent, patient: &Resource) -> Result<String> {
    for reference in patient.all("generalPractitioner") {
        if let Some(ods) = organization_code(unit, sent, patient, reference).await? {
            return Ok(ods);
        }
    }
    Ok(String::new())
}

/// The family name in use: the official or usual one, else the first.
fn family_name(patient: &Resource) -> String {
    let names = patient.all("name");
    let of_use = |wanted: &str| names.iter().find(|n| path::text(n, "use") == Some(wanted));
    let name = of_use("official").or_else(|| of_use("usual")).or_else(|| names.first());
    name.and_then(|n| path::text(n, "family")).unwrap_or_default().to_owned()
}

/// The NHS number in an identifier.
pub(super) fn read_number(unit: &Unit<'_>, identifier: Option<&Value>, expression: &str) -> Result<Option<NhsNumber>> {
    let Some(text) = identifier.and_then(|i| path::text(i, "value")) else { return Ok(None) };
    NhsNumber::parse_as(text, unit.house.nhs_numbers).map(Some).map_err(|why| no_number(expression, why))
}

fn no_number(expression: &str, why: NhsNumberError) -> Error {
    Error::rule(IssueCode::Value, format!("{expression}.value"), why.to_string())
}

/// The ODS code of the organisation a reference names: by identifier, contained, in the same submission, or known here.
pub(in crate::workflow) async fn organization_code(
    unit: &mut Unit<'_>,
    sent: &Sent,
    holder: &Resource,
    reference: &Value,
) -> Result<Option<String>> {
    if path::text(reference, "identifier.system") == Some(ODS) {
        return Ok(path::text(reference, "identifier.value").map(ods_code));
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
    (organization.kind() == "Organization").then(|| organization.identifier(ODS).map(ods_code))?
}
