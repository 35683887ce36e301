//! Small valid resources to begin from; a test changes what it is about.

use livewell::fhir::codes::CodeTable;
use livewell::fhir::systems::{ENTRY_ROUTE, NHS_NUMBER, ODS};
use serde_json::{Value, json};
use uuid::Uuid;

/// A person whom a practice knows: NHS number, family, given, birth date, the practice.
pub(crate) type Person = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Registered at TESTA1, whose record has her.
pub(crate) const ADA: Person = ("9990000018", "Testperson", "Ada", "1957-03-04", "TESTA1");
/// Registered at TESTA2, whose record has him.
pub(crate) const BERT: Person = ("9990000026", "Samplesson", "Bert", "1949-11-21", "TESTA2");
/// Registered at TESTA3, whose record has her.
pub(crate) const CLEO: Person = ("9990000034", "Examplewright", "Cleo", "1982-07-15", "TESTA3");
/// Registered at TESTA4, whose record has him.
pub(crate) const DAN: Person = ("9990000042", "Trialworth", "Dan", "1971-01-30", "TESTA4");

/// A referral of Ada by NHS number, with a business identifier of its own.
pub(crate) fn referral() -> Value {
    referral_of(ADA.0)
}

/// A referral of the person with this NHS number, with a business identifier of its own.
pub(crate) fn referral_of(nhs_number: &str) -> Value {
    json!({
        "resourceType": "ServiceRequest",
        "identifier": [{ "system": "https://practice.example/Id/referral", "value": Uuid::new_v4().to_string() }],
        "status": "active",
        "intent": "order",
        "category": [{ "coding": [{ "system": ENTRY_ROUTE, "code": "consultation" }] }],
        "code": concept("social-prescribing-referral"),
        "subject": by_number(nhs_number),
        "authoredOn": "2026-03-02T08:55:00Z",
        "reasonCode": [{ "text": "Lonely since she moved here." }],
    })
}

/// A subject by NHS number.
pub(crate) fn by_number(nhs_number: &str) -> Value {
    json!({ "type": "Patient", "identifier": { "system": NHS_NUMBER, "value": nhs_number } })
}

/// A Patient with NHS number, family name and birth date.
pub(crate) fn patient(nhs_number: &str, family: &str, birth_date: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "identifier": [{ "system": NHS_NUMBER, "value": nhs_number }],
        "name": [{ "use": "official", "family": family, "given": ["Test"] }],
        "birthDate": birth_date,
    })
}

/// The Patient of a person, with the practice that looks after them.
pub(crate) fn person(person: Person) -> Value {
    let (number, family, given, birth_date, practice) = person;
    let mut patient = patient(number, family, birth_date);
    patient["name"][0]["given"] = json!([given]);
    registered_at(patient, practice)
}

/// A Patient registered with a practice.
pub(crate) fn registered_at(mut patient: Value, ods: &str) -> Value {
    patient["generalPractitioner"] = json!([organization(ods)]);
    patient
}

/// A reference to an organisation by its ODS code.
pub(crate) fn organization(ods: &str) -> Value {
    json!({ "type": "Organization", "identifier": { "system": ODS, "value": ods } })
}

/// A referral with its Patient contained.
pub(crate) fn referral_with(contained: Value) -> Value {
    let mut referral = referral();
    let mut contained = contained;
    contained["id"] = json!("person");
    referral["contained"] = json!([contained]);
    referral["subject"] = json!({ "reference": "#person" });
    referral
}

/// A telephone contact. `referral` is a `ServiceRequest/id`, `patient` a `Patient/id`.
pub(crate) fn encounter(referral: &str, patient: &str) -> Value {
    json!({
        "resourceType": "Encounter",
        "status": "finished",
        "class": concept("class-virtual")["coding"][0],
        "type": [concept("telephone-encounter")],
        "subject": { "reference": patient },
        "basedOn": [{ "reference": referral }],
        "period": { "start": "2026-03-02T09:00:00Z", "end": "2026-03-02T09:00:00Z" },
    })
}

/// A first meeting.
pub(crate) fn meeting(referral: &str, patient: &str) -> Value {
    let mut meeting = encounter(referral, patient);
    meeting["class"] = concept("class-ambulatory")["coding"][0].clone();
    meeting["type"] = json!([concept("activity-first-meeting")]);
    meeting
}

/// A PAM Observation without subject and encounter: [`about`] says whose. `score` as it is written, `56.4`.
pub(crate) fn pam(score: &str, level: i64) -> Value {
    let score: Value = serde_json::from_str(score).unwrap();
    json!({
        "resourceType": "Observation",
        "status": "final",
        "category": [concept("category-survey")],
        "code": concept("pam-score"),
        "effectiveDateTime": "2026-03-02T09:00:00Z",
        "valueQuantity": { "value": score, "unit": "score", "system": "http://unitsofmeasure.org", "code": "{score}" },
        "component": [{ "code": concept("pam-level"), "valueInteger": level }],
    })
}

/// A Goal without subject.
pub(crate) fn goal() -> Value {
    json!({
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": { "text": "Walk to the library and back twice a week" },
        "startDate": "2026-03-02",
    })
}

/// Agreement to take part in the evaluation, without patient.
pub(crate) fn consent() -> Value {
    json!({
        "resourceType": "Consent",
        "status": "active",
        "scope": concept("consent-research"),
        "category": [concept("consent-information-access")],
        "dateTime": "2026-03-02T09:00:00Z",
        "policyRule": { "text": "Evaluation of the service, as explained to the person" },
        "provision": { "type": "permit" },
    })
}

/// Says whom a record is about, and in which encounter ('' for none) it was made.
pub(crate) fn about(mut record: Value, patient: &str, encounter: &str) -> Value {
    let element = if record["resourceType"] == "Consent" { "patient" } else { "subject" };
    record[element] = json!({ "reference": patient });
    if !encounter.is_empty() {
        record["encounter"] = json!({ "reference": encounter });
    }
    record
}

/// A transaction of (fullUrl, resource) that creates each.
pub(crate) fn transaction(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    let entry = |(full_url, resource): (String, Value)| {
        let kind = resource["resourceType"].clone();
        json!({ "fullUrl": full_url, "resource": resource, "request": { "method": "POST", "url": kind } })
    };
    let entries: Vec<Value> = entries.into_iter().map(entry).collect();
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

/// A new name for an entry.
pub(crate) fn urn() -> String {
    format!("urn:uuid:{}", Uuid::new_v4())
}

/// Operation parameters: (name, `value[x]` member, value).
pub(crate) fn parameters(parts: &[(&str, &str, Value)]) -> Value {
    let parts: Vec<Value> = parts.iter().map(|(name, member, value)| json!({ "name": name, *member: value })).collect();
    match parts.is_empty() {
        true => json!({ "resourceType": "Parameters" }),
        false => json!({ "resourceType": "Parameters", "parameter": parts }),
    }
}

/// A code of the one code table, by its name.
pub(crate) fn concept(name: &str) -> Value {
    CodeTable::embedded().concept(name).expect("the code table has it")
}
