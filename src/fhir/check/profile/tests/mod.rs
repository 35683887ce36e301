//! What a small profile says of small resources.

mod rules;

use serde_json::{Value, json};

use super::Profiles;
use crate::fhir::{IssueCode, Resource, Severity};

const PROFILE: &str = "https://example.org/StructureDefinition/our-patient";
const STRICTER: &str = "https://example.org/StructureDefinition/our-stricter-patient";
const NUMBER: &str = "https://example.org/Id/number";
const RANK: &str = "https://example.org/StructureDefinition/rank";
const RANKS: &str = "https://example.org/ValueSet/ranks";

fn resource(value: Value) -> Resource {
    Resource::from_value(value).expect("a resource")
}

fn definition(url: &str, of_type: &str, base: &str, elements: Value) -> Resource {
    resource(json!({
        "resourceType": "StructureDefinition", "url": url, "type": of_type, "baseDefinition": base,
        "derivation": "constraint", "differential": { "element": elements },
    }))
}

fn profiles() -> Profiles {
    let r4 = "http://hl7.org/fhir/StructureDefinition/";
    let by_system = json!({ "discriminator": [{ "type": "value", "path": "system" }], "rules": "open" });
    let patient = json!([
        { "id": "Patient.identifier", "slicing": by_system, "min": 1 },
        { "id": "Patient.identifier:number", "sliceName": "number", "max": "1" },
        { "id": "Patient.identifier:number.system", "min": 1, "fixedUri": NUMBER },
        { "id": "Patient.identifier:number.value", "min": 1 },
        { "id": "Patient.extension:rank", "sliceName": "rank", "max": "1", "type": [{ "code": "Extension", "profile": [RANK] }] },
        { "id": "Patient.deceased[x]", "type": [{ "code": "boolean" }] },
        { "id": "Patient.photo", "max": "0" },
        { "id": "Patient.maritalStatus", "patternCodeableConcept": { "coding": [{ "system": "https://example.org/m", "code": "S" }] } },
        { "id": "Patient.generalPractitioner", "type": [{ "code": "Reference", "targetProfile": [format!("{r4}Organization|4.0.1")] }] },
        { "id": "Patient.telecom", "slicing": { "discriminator": [{ "type": "value", "path": "system" }], "rules": "closed" } },
        { "id": "Patient.telecom:phone", "sliceName": "phone", "min": 1 },
        { "id": "Patient.telecom:phone.system", "fixedCode": "phone" },
        { "id": "Patient.contact", "slicing": { "discriminator": [{ "type": "exists", "path": "organization" }], "rules": "open" } },
        { "id": "Patient.contact:work", "sliceName": "work" },
        { "id": "Patient.contact:work.organization", "min": 1 },
        { "id": "Patient.contact:work.telecom", "min": 1 },
        { "id": "Patient.link", "slicing": { "discriminator": [{ "type": "exists", "path": format!("extension('{RANK}')") }] } },
        { "id": "Patient.link:ranked", "sliceName": "ranked", "max": "1" },
        { "id": "Patient.link:ranked.extension:rank", "min": 1, "type": [{ "code": "Extension", "profile": [RANK] }] },
        { "id": "Patient.language", "binding": { "strength": "required", "valueSet": format!("{RANKS}-open") } },
        { "id": "Patient.address.country", "binding": { "strength": "required", "valueSet": RANKS }, "maxLength": 1 },
    ]);
    let stricter = json!([{ "id": "Patient.identifier:number", "sliceName": "number", "min": 1 }]);
    let rank = json!([
        { "id": "Extension", "max": "1" },
        { "id": "Extension.url", "fixedUri": RANK },
        { "id": "Extension.value[x]", "min": 1, "type": [{ "code": "code" }], "binding": { "strength": "required", "valueSet": RANKS } },
    ]);
    let system = json!({ "resourceType": "CodeSystem", "url": "https://example.org/ranks", "content": "complete", "concept": [{ "code": "1" }, { "code": "2" }] });
    let open = json!([{ "system": "https://example.org/ranks" }, { "system": "https://example.org/unlisted", "filter": [{}] }]);
    let ranks = json!({ "resourceType": "ValueSet", "url": RANKS, "compose": { "include": [{ "system": "https://example.org/ranks" }] } });
    let open = json!({ "resourceType": "ValueSet", "url": format!("{RANKS}-open"), "compose": { "include": open } });
    Profiles::from_resources([
        definition(PROFILE, "Patient", &format!("{r4}Patient"), patient),
        definition(STRICTER, "Patient", PROFILE, stricter),
        definition(RANK, "Extension", &format!("{r4}Extension"), rank),
        resource(system),
        resource(ranks),
        resource(open),
    ])
}

fn found_by(profile: &str, fields: Value) -> Vec<(IssueCode, String)> {
    let mut patient = json!({
        "resourceType": "Patient", "identifier": [{ "system": NUMBER, "value": "1" }], "telecom": [{ "system": "phone", "value": "1" }]
    });
    patient.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    let issues = profiles().check(profile, &resource(patient), 100);
    issues.into_iter().map(|i| (i.code, i.expression.expect("every issue has a place"))).collect()
}

#[track_caller]
fn only(fields: Value, code: IssueCode, expression: &str) {
    assert_eq!(found_by(PROFILE, fields), [(code, expression.to_owned())]);
}

#[track_caller]
fn valid(fields: Value) {
    assert_eq!(found_by(PROFILE, fields), []);
}

#[test]
fn what_fits_the_profile_is_left_alone() {
    valid(
        json!({ "deceasedBoolean": false, "extension": [{ "url": "https://example.org/unknown", "valueString": "x" }] }),
    );
    assert!(profiles().knows(PROFILE) && profiles().knows(&format!("{PROFILE}|1.0")) && !profiles().knows("x"));
    assert_eq!(profiles().check("https://example.org/unknown", &resource(json!({ "resourceType": "Patient" })), 9), []);
}

#[test]
fn cardinalities_of_the_profile_hold() {
    only(json!({ "identifier": [] }), IssueCode::Required, "Patient.identifier");
    only(json!({ "photo": [{ "url": "https://example.org/p" }] }), IssueCode::Structure, "Patient.photo");
}

#[test]
fn slices_are_told_apart_by_their_fixed_values() {
    let (one, other) = (json!({ "system": NUMBER, "value": "1" }), json!({ "system": "https://example.org/other" }));
    valid(json!({ "identifier": [one, other] }));
    only(json!({ "identifier": [one, one] }), IssueCode::Structure, "Patient.identifier");
    only(json!({ "identifier": [other, { "system": NUMBER }] }), IssueCode::Required, "Patient.identifier[1].value");
    only(
        json!({ "telecom": [{ "system": "fax" }, { "system": "phone" }] }),
        IssueCode::Structure,
        "Patient.telecom[0]",
    );
    assert_eq!(found_by(PROFILE, json!({ "telecom": [{ "system": "fax" }] })).len(), 2);
}

#[test]
fn a_slice_can_be_told_by_what_it_has() {
    valid(json!({ "contact": [{ "name": { "text": "A" } }] }));
    only(
        json!({ "contact": [{ "organization": { "display": "B" } }] }),
        IssueCode::Required,
        "Patient.contact[0].telecom",
    );
}

#[test]
fn a_slice_can_be_told_by_its_extension() {
    let ranked = json!({ "extension": [{ "url": RANK, "valueCode": "1" }], "type": "refer" });
    valid(json!({ "link": [ranked, { "type": "seealso" }, { "type": "seealso" }] }));
    only(json!({ "link": [ranked, ranked] }), IssueCode::Structure, "Patient.link");
}

#[test]
fn codes_are_refused_only_where_the_value_set_can_be_listed() {
    valid(json!({ "language": "en", "address": [{ "country": "1" }] }));
    only(json!({ "address": [{ "country": "3" }] }), IssueCode::CodeInvalid, "Patient.address[0].country");
    assert_eq!(found_by(PROFILE, json!({ "address": [{ "country": "GB" }] })).len(), 2, "too long, and no such code");
}

#[test]
fn a_constraint_of_uk_core_is_checked_with_its_severity() {
    let rule = |severity: &str| json!([{ "id": "Observation", "constraint": [{ "key": "ukcore-obs-vs-001", "severity": severity, "human": "LOINC" }] }]);
    for (said, severity) in [("error", Severity::Error), ("warning", Severity::Warning)] {
        let profiles = Profiles::from_resources([definition("https://example.org/o", "Observation", "-", rule(said))]);
        let observation = |system: &str| {
            resource(json!({ "resourceType": "Observation", "code": { "coding": [{ "system": system }] } }))
        };
        assert_eq!(profiles.check("https://example.org/o", &observation("http://loinc.org"), 9), []);
        let issues = profiles.check("https://example.org/o", &observation("http://snomed.info/sct"), 9);
        assert_eq!(issues.iter().map(|i| i.severity).collect::<Vec<_>>(), [severity]);
    }
}

#[test]
fn a_slice_that_the_base_profile_describes_is_known_in_the_derived_one() {
    let other = json!([{ "system": "https://example.org/other" }]);
    assert_eq!(found_by(PROFILE, json!({ "identifier": other })), []);
    let missing = (IssueCode::Required, "Patient.identifier".to_owned());
    assert_eq!(found_by(STRICTER, json!({ "identifier": other })), [missing]);
    assert_eq!(found_by(STRICTER, json!({ "photo": [{}] })).len(), 1);
}

#[test]
fn types_patterns_and_targets_are_narrowed() {
    only(json!({ "deceasedDateTime": "2024-01-01" }), IssueCode::Structure, "Patient.deceased.ofType(dateTime)");
    let status = |code: &str| json!({ "maritalStatus": { "coding": [{ "system": "https://example.org/m", "code": code, "display": "x" }] } });
    valid(status("S"));
    only(status("M"), IssueCode::Value, "Patient.maritalStatus");
    valid(json!({ "generalPractitioner": [{ "reference": "Organization/1" }, { "reference": "urn:uuid:1" }] }));
    only(
        json!({ "generalPractitioner": [{ "reference": "Practitioner/1" }] }),
        IssueCode::Structure,
        "Patient.generalPractitioner[0]",
    );
}

#[test]
fn a_known_extension_is_checked_wherever_it_is() {
    let rank = |value: Value| {
        let mut rank = json!({ "url": RANK });
        rank.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
        rank
    };
    let good = rank(json!({ "valueCode": "1" }));
    valid(json!({ "extension": [good] }));
    valid(json!({ "name": [{ "extension": [good] }], "_birthDate": { "extension": [good] } }));
    let at = "Patient.birthDate.extension[0].value.ofType(code)";
    only(json!({ "_birthDate": { "extension": [rank(json!({ "valueCode": "9" }))] } }), IssueCode::CodeInvalid, at);
    only(json!({ "extension": [rank(json!({}))] }), IssueCode::Required, "Patient.extension[0].value");
    let at = "Patient.extension[0].value.ofType(string)";
    assert_eq!(found_by(PROFILE, json!({ "extension": [rank(json!({ "valueString": "1" }))] }))[0].1, at);
    let twice = found_by(PROFILE, json!({ "extension": [good, good] }));
    assert_eq!(twice.len(), 2, "the slice of the profile and the definition of the extension: {twice:?}");
}
