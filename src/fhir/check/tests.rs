//! What the walk says of small resources, right and wrong.

use serde_json::{Value, json};

use super::{check, is_resource_type, resource_types};
use crate::fhir::{IssueCode, Resource};

fn found(value: Value) -> Vec<(IssueCode, String)> {
    let resource = Resource::from_value(value).expect("an object with a resourceType");
    let issues = check(&resource, 100);
    issues.into_iter().map(|i| (i.code, i.expression.expect("every issue has a place"))).collect()
}

#[track_caller]
fn only(value: Value, code: IssueCode, expression: &str) {
    assert_eq!(found(value), [(code, expression.to_owned())]);
}

#[track_caller]
fn valid(value: Value) {
    assert_eq!(found(value), []);
}

fn patient(fields: Value) -> Value {
    let mut patient = json!({ "resourceType": "Patient" });
    let all = patient.as_object_mut().expect("an object");
    all.extend(fields.as_object().expect("an object").clone());
    patient
}

fn request(fields: Value) -> Value {
    let mut request = patient(json!({
        "resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": { "reference": "Patient/p1" }
    }));
    let all = request.as_object_mut().expect("an object");
    all.extend(fields.as_object().expect("an object").clone());
    request
}

#[test]
fn a_plain_referral_is_valid() {
    valid(request(json!({
        "identifier": [{ "system": "https://example.org/id", "value": "1" }],
        "occurrencePeriod": { "start": "2024-05-01", "end": "2024-05-01" },
        "authoredOn": "2024-05-01T09:00:00+01:00",
        "reasonCode": [{ "text": "wishes to walk more" }],
    })));
}

#[test]
fn a_resource_may_say_no_more_than_its_type() {
    valid(json!({ "resourceType": "Patient" }));
    valid(json!({ "resourceType": "Patient", "id": "p1" }));
}

#[test]
fn names_r4_does_not_know_are_refused_where_they_stand() {
    only(patient(json!({ "birthdate": "1970-01-01" })), IssueCode::Structure, "Patient.birthDate");
    only(patient(json!({ "name": [{ "given": ["A"], "nick": "B" }] })), IssueCode::Structure, "Patient.name[0].nick");
    only(patient(json!({ "active": true, "deceasedString": "no" })), IssueCode::Structure, "Patient.deceasedString");
    only(patient(json!({ "active": true, "Mrs Miggins": 1 })), IssueCode::Structure, "Patient");
}

#[test]
fn what_was_sent_is_never_repeated() {
    let sent = patient(json!({ "gender": "Zzyzx", "birthDate": "Zzyzx", "Zzyzx Zzyzx": "Zzyzx", "id": "Zzyzx Zzyzx" }));
    let issues = check(&Resource::from_value(sent).expect("a resource"), 100);
    assert_eq!(issues.len(), 4);
    assert!(issues.iter().all(|i| !format!("{i:?}").contains("Zzyzx")), "{issues:?}");
}

#[test]
fn lists_and_single_values_are_told_apart() {
    only(patient(json!({ "name": { "family": "A" } })), IssueCode::Structure, "Patient.name");
    only(patient(json!({ "birthDate": ["1970-01-01"] })), IssueCode::Structure, "Patient.birthDate");
    only(patient(json!({ "name": ["A"] })), IssueCode::Structure, "Patient.name[0]");
    only(patient(json!({ "name": [{ "family": { "value": "A" } }] })), IssueCode::Structure, "Patient.name[0].family");
    only(patient(json!({ "active": "true" })), IssueCode::Structure, "Patient.active");
    only(patient(json!({ "name": [] })), IssueCode::Structure, "Patient.name");
    only(patient(json!({ "name": [{}] })), IssueCode::Structure, "Patient.name[0]");
    only(patient(json!({ "active": null })), IssueCode::Structure, "Patient.active");
}

#[test]
fn what_is_required_must_be_there_or_say_why_not() {
    let without = json!({ "resourceType": "ServiceRequest", "intent": "order", "subject": { "display": "A" } });
    only(without, IssueCode::Required, "ServiceRequest.status");
    let mut absent = request(json!({ "_status": { "extension": [
        { "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown" }
    ] } }));
    absent.as_object_mut().expect("an object").remove("status");
    valid(absent);
    only(patient(json!({ "link": [{ "type": "refer" }] })), IssueCode::Required, "Patient.link[0].other");
}

#[test]
fn a_choice_has_one_value_of_an_allowed_type() {
    let two = patient(json!({ "deceasedBoolean": true, "deceasedDateTime": "2024-01-01" }));
    only(two, IssueCode::Structure, "Patient.deceased");
    valid(patient(json!({ "deceasedBoolean": true, "_deceasedBoolean": { "id": "a" } })));
    only(patient(json!({ "deceasedDateTime": "2020-02-30" })), IssueCode::Value, "Patient.deceased.ofType(dateTime)");
}

#[test]
fn companions_fit_their_values() {
    valid(patient(json!({ "birthDate": "1970-01-01", "_birthDate": { "id": "a" } })));
    let given = |given: Value, companion: Value| patient(json!({ "name": [{ "given": given, "_given": companion }] }));
    let extension = json!({ "extension": [{ "url": "https://example.org/x", "valueString": "y" }] });
    valid(given(json!(["A", null]), json!([null, extension])));
    only(given(json!(["A", null]), json!([null, null])), IssueCode::Structure, "Patient.name[0].given[1]");
    only(given(json!(["A"]), json!([null, extension])), IssueCode::Structure, "Patient.name[0].given");
    only(given(json!(["A"]), json!({ "id": "a" })), IssueCode::Structure, "Patient.name[0].given");
    only(patient(json!({ "_birthDate": { "id": "a" } })), IssueCode::Invariant, "Patient.birthDate");
    only(patient(json!({ "_birthDate": "x" })), IssueCode::Structure, "Patient.birthDate");
    only(patient(json!({ "_name": [{ "id": "a" }] })), IssueCode::Structure, "Patient.name");
    only(patient(json!({ "active": true, "_id": {"other": 1} })), IssueCode::Structure, "Patient.id.other");
}

#[test]
fn required_codes_are_those_r4_lists() {
    only(patient(json!({ "gender": "masculino" })), IssueCode::CodeInvalid, "Patient.gender");
    let said = check(&Resource::from_value(patient(json!({ "gender": "m" }))).expect("a resource"), 100);
    assert_eq!(said[0].text, "gender must be one of: female, male, other, unknown.");
    let allergy = |coding: Value| json!({ "resourceType": "AllergyIntolerance", "patient": { "display": "A" }, "clinicalStatus": { "coding": [coding] } });
    let system = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical";
    valid(allergy(json!({ "system": system, "code": "active" })));
    let at = "AllergyIntolerance.clinicalStatus";
    only(allergy(json!({ "system": "http://example.org", "code": "active" })), IssueCode::CodeInvalid, at);
}

#[test]
fn references_point_to_allowed_types_and_to_what_is_contained() {
    let at = "ServiceRequest.subject.reference";
    only(request(json!({ "subject": { "reference": "Practitioner/1" } })), IssueCode::Structure, at);
    only(request(json!({ "subject": { "reference": "Patient/a b" } })), IssueCode::Value, at);
    only(request(json!({ "subject": { "reference": "#p" } })), IssueCode::Invariant, at);
    let typed = request(json!({ "subject": { "type": "Practitioner", "display": "A" } }));
    only(typed, IssueCode::Structure, "ServiceRequest.subject.type");
    valid(request(json!({ "subject": { "reference": "https://example.org/fhir/Practitioner/1" } })));
    valid(request(json!({ "subject": { "reference": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520" } })));
    valid(request(json!({ "subject": { "reference": "Patient?identifier=a|b" } })));
}

#[test]
fn contained_resources_are_checked_and_follow_their_rules() {
    let with = |contained: Value| request(json!({ "subject": { "reference": "#p" }, "contained": [contained] }));
    valid(with(json!({ "resourceType": "Patient", "id": "p", "active": true })));
    let wrong = with(json!({ "resourceType": "Patient", "id": "p", "birthDate": "1970-02-30" }));
    only(wrong, IssueCode::Value, "ServiceRequest.contained[0].birthDate");
    let versioned = with(json!({ "resourceType": "Patient", "id": "p", "meta": { "versionId": "1" } }));
    only(versioned, IssueCode::Invariant, "ServiceRequest.contained[0].meta");
    let nested =
        json!({ "resourceType": "Patient", "id": "p", "contained": [{ "resourceType": "Patient", "active": true }] });
    only(with(nested), IssueCode::Invariant, "ServiceRequest.contained[0].contained");
    let patient = |id: &str| json!({ "resourceType": "Patient", "id": id, "active": true });
    let twice = request(json!({ "subject": { "reference": "#p" }, "contained": [patient("p"), patient("p")] }));
    only(twice, IssueCode::Invariant, "ServiceRequest.contained[1].id");
    let unused = request(json!({ "contained": [{ "resourceType": "Patient", "id": "q", "active": true }] }));
    only(unused, IssueCode::Invariant, "ServiceRequest.contained[0]");
    let unknown = with(json!({ "resourceType": "Pateint", "id": "p" }));
    only(unknown, IssueCode::Structure, "ServiceRequest.contained[0].resourceType");
}

#[test]
fn a_bundle_is_checked_through_and_through() {
    let bundle = |kind: &str, entry: Value| json!({ "resourceType": "Bundle", "type": kind, "entry": entry });
    let inner = patient(json!({ "name": [{ "given": ["A", 7] }] }));
    let path = "Bundle.entry[1].resource.name[0].given[1]";
    let first = json!({ "resource": patient(json!({ "active": true })) });
    only(bundle("collection", json!([first, { "resource": inner }])), IssueCode::Structure, path);
    only(bundle("transaction", json!([first])), IssueCode::Invariant, "Bundle.entry[0].request");
    only(bundle("collection", json!([{ "fullUrl": "urn:x:1" }])), IssueCode::Invariant, "Bundle.entry[0]");
    let twice = json!({ "fullUrl": "urn:x:1", "resource": patient(json!({ "active": true })) });
    only(bundle("collection", json!([twice, twice])), IssueCode::Invariant, "Bundle.entry[1].fullUrl");
    only(bundle("message", json!([first])), IssueCode::Invariant, "Bundle");
}

#[test]
fn invariants_of_datatypes_hold_everywhere() {
    let late = request(json!({ "occurrencePeriod": { "start": "2024-05-02", "end": "2024-05-01" } }));
    only(late, IssueCode::Invariant, "ServiceRequest.occurrence.ofType(Period)");
    let both = json!([{ "url": "https://example.org/x", "valueString": "a", "extension": [{ "url": "y", "valueCode": "z" }] }]);
    only(patient(json!({ "extension": both })), IssueCode::Invariant, "Patient.extension[0]");
    only(patient(json!({ "telecom": [{ "value": "1" }] })), IssueCode::Invariant, "Patient.telecom[0]");
    only(patient(json!({ "name": [{ "id": "a" }] })), IssueCode::Invariant, "Patient.name[0]");
    let script =
        json!({ "status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\"><script>1</script></div>" });
    only(patient(json!({ "text": script })), IssueCode::Invariant, "Patient.text.div");
}

#[test]
fn the_walk_stops_at_the_limit_and_at_the_depth() {
    let mut many = patient(json!({}));
    let fields = many.as_object_mut().expect("an object");
    fields.extend((0..100_000).map(|i| (format!("k{i}"), json!(1))));
    assert_eq!(found(many).len(), 100);
    let mut deep = json!({ "url": "https://example.org/x", "valueString": "y" });
    for _ in 0..200 {
        deep = json!({ "url": "https://example.org/x", "extension": [deep] });
    }
    assert_eq!(found(patient(json!({ "extension": [deep] }))).len(), 1);
}

#[test]
fn resource_types_are_those_of_r4() {
    assert!(
        is_resource_type("ServiceRequest") && !is_resource_type("HumanName") && !is_resource_type("DomainResource")
    );
    assert_eq!(resource_types().count(), 146);
    only(json!({ "resourceType": "NHSHealthCheckPlan" }), IssueCode::Structure, "Resource.resourceType");
}
