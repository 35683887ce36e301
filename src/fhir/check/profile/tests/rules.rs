//! Rules that few profiles use: slices of slices, order, profiles of inner resources, bounds, where an extension may be.

use serde_json::{Value, json};

use super::{Profiles, definition, resource};
use crate::fhir::{Issue, Severity};

const R4: &str = "http://hl7.org/fhir/StructureDefinition/";
const URL: &str = "https://example.org/StructureDefinition/rules";

fn extension(url: &str, context: Value, modifier: bool) -> crate::fhir::Resource {
    resource(json!({
        "resourceType": "StructureDefinition", "url": url, "type": "Extension", "derivation": "constraint", "context": context,
        "baseDefinition": format!("{R4}Extension"),
        "differential": { "element": [{ "id": "Extension", "isModifier": modifier }, { "id": "Extension.url", "fixedUri": url }] },
    }))
}

fn found(of_type: &str, elements: Value, value: Value) -> Vec<Issue> {
    let context = |expression: &str| json!([{ "type": "element", "expression": expression }]);
    let definitions = [
        definition(URL, of_type, &format!("{R4}{of_type}"), elements),
        definition(
            "https://example.org/named",
            "Patient",
            &format!("{R4}Patient"),
            json!([{ "id": "Patient.name", "min": 1 }]),
        ),
        extension("https://example.org/on-patient", context("Patient"), false),
        extension("https://example.org/on-given", context("HumanName.given"), false),
        extension("https://example.org/on-contact", context("Patient.contact.name"), false),
        extension("https://example.org/on-coding", context("Coding"), false),
        extension(
            "https://example.org/inside",
            json!([{ "type": "extension", "expression": "https://example.org/on-patient" }]),
            false,
        ),
        extension("https://example.org/not", context("Element"), true),
        resource(
            json!({ "resourceType": "CodeSystem", "url": "https://example.org/ranks", "content": "complete", "concept": [{ "code": "1" }] }),
        ),
        resource(
            json!({ "resourceType": "ValueSet", "url": "https://example.org/vs", "compose": { "include": [{ "system": "https://example.org/ranks" }] } }),
        ),
    ];
    let mut value = value;
    value["resourceType"] = json!(of_type);
    Profiles::from_resources(definitions).check(URL, &resource(value), 100)
}

#[track_caller]
fn only(issues: Vec<Issue>, severity: Severity, place: &str) {
    let said: Vec<_> = issues.iter().map(|i| (i.severity, i.expression.as_deref().unwrap_or_default())).collect();
    assert_eq!(said, [(severity, place)], "{issues:?}");
}

fn identifiers(systems: &[&str], uses: &[&str]) -> Value {
    let identifiers: Vec<Value> = systems.iter().zip(uses).map(|(s, u)| json!({ "system": s, "use": u })).collect();
    json!({ "identifier": identifiers })
}

#[test]
fn a_slice_can_be_sliced_again() {
    let by = |path: &str| json!({ "discriminator": [{ "type": "value", "path": path }], "rules": "open" });
    let rules = json!([
        { "id": "Patient.identifier", "slicing": by("system") },
        { "id": "Patient.identifier:ours", "sliceName": "ours", "slicing": by("use") },
        { "id": "Patient.identifier:ours.system", "fixedUri": "urn:ours" },
        { "id": "Patient.identifier:ours/official", "sliceName": "ours/official", "max": "1", "min": 1 },
        { "id": "Patient.identifier:ours/official.use", "fixedCode": "official" },
    ]);
    let check = |systems: &[&str], uses: &[&str]| found("Patient", rules.clone(), identifiers(systems, uses));
    assert_eq!(check(&["urn:ours", "urn:ours", "urn:other"], &["official", "old", "official"]), []);
    only(check(&["urn:ours", "urn:ours"], &["official", "official"]), Severity::Error, "Patient.identifier");
    only(check(&["urn:other", "urn:ours"], &["official", "old"]), Severity::Error, "Patient.identifier");
}

#[test]
fn slices_can_have_an_order_and_an_end() {
    let rules = |slicing: Value| {
        let mut slicing = slicing;
        slicing["discriminator"] = json!([{ "type": "value", "path": "system" }]);
        json!([
            { "id": "Patient.identifier", "slicing": slicing },
            { "id": "Patient.identifier:a", "sliceName": "a" }, { "id": "Patient.identifier:a.system", "fixedUri": "urn:a" },
            { "id": "Patient.identifier:b", "sliceName": "b" }, { "id": "Patient.identifier:b.system", "fixedUri": "urn:b" },
        ])
    };
    let check = |slicing: Value, systems: &[&str]| found("Patient", rules(slicing), identifiers(systems, &["old"; 3]));
    let ordered = || json!({ "rules": "open", "ordered": true });
    assert_eq!(check(ordered(), &["urn:a", "urn:b", "urn:x"]), []);
    only(check(ordered(), &["urn:b", "urn:a"]), Severity::Error, "Patient.identifier[1]");
    let at_end = || json!({ "rules": "openAtEnd" });
    assert_eq!(check(at_end(), &["urn:b", "urn:a", "urn:x"]), []);
    only(check(at_end(), &["urn:x", "urn:a"]), Severity::Error, "Patient.identifier[1]");
    only(check(json!({ "rules": "closed" }), &["urn:a", "urn:x"]), Severity::Error, "Patient.identifier[1]");
}

#[test]
fn a_slice_can_be_told_by_the_profile_of_what_is_in_it() {
    let rules = json!([
        { "id": "Bundle.entry", "slicing": { "discriminator": [{ "type": "profile", "path": "resource" }], "rules": "open" } },
        { "id": "Bundle.entry:named", "sliceName": "named", "min": 1, "max": "1" },
        { "id": "Bundle.entry:named.resource", "type": [{ "code": "Patient", "profile": ["https://example.org/named"] }] },
    ]);
    let entry = |resource: Value| json!({ "resource": resource });
    let named = entry(json!({ "resourceType": "Patient", "name": [{ "text": "A" }] }));
    let other = entry(json!({ "resourceType": "Patient" }));
    let check = |entries: Value| found("Bundle", rules.clone(), json!({ "entry": entries }));
    assert_eq!(check(json!([named, other, entry(json!({ "resourceType": "Group" }))])), []);
    only(check(json!([other])), Severity::Error, "Bundle.entry");
    only(check(json!([named, named])), Severity::Error, "Bundle.entry");
}

#[test]
fn a_slice_can_be_told_by_the_type_of_what_it_refers_to() {
    let rules = json!([
        { "id": "Encounter.reasonReference", "slicing": { "discriminator": [{ "type": "type", "path": "resolve()" }], "rules": "open" } },
        { "id": "Encounter.reasonReference:condition", "sliceName": "condition", "max": "1",
          "type": [{ "code": "Reference", "targetProfile": [format!("{R4}Condition")] }] },
    ]);
    let check = |references: &[&str]| {
        let references: Vec<Value> = references.iter().map(|r| json!({ "reference": r })).collect();
        found("Encounter", rules.clone(), json!({ "reasonReference": references }))
    };
    assert_eq!(check(&["Condition/1", "Procedure/1", "urn:uuid:1"]), []);
    only(check(&["Condition/1", "Condition/2"]), Severity::Error, "Encounter.reasonReference");
}

#[test]
fn values_have_bounds() {
    let rules = json!([
        { "id": "Patient.birthDate", "minValueDate": "1900-01-01" },
        { "id": "Patient.multipleBirth[x]", "maxValueInteger": 8 },
    ]);
    assert_eq!(found("Patient", rules.clone(), json!({ "birthDate": "1957-03-04", "multipleBirthInteger": 8 })), []);
    only(found("Patient", rules.clone(), json!({ "birthDate": "1857" })), Severity::Error, "Patient.birthDate");
    let place = "Patient.multipleBirth.ofType(integer)";
    only(found("Patient", rules, json!({ "multipleBirthInteger": 9 })), Severity::Error, place);
}

#[test]
fn a_code_outside_an_extensible_binding_is_a_warning() {
    let binding = json!({ "strength": "extensible", "valueSet": "https://example.org/vs" });
    let rules = json!([{ "id": "Patient.maritalStatus", "binding": binding }]);
    let coded = |code: &str| json!({ "maritalStatus": { "coding": [{ "system": "https://example.org/ranks", "code": code }] } });
    assert_eq!(found("Patient", rules.clone(), coded("1")), []);
    assert_eq!(found("Patient", rules.clone(), json!({ "maritalStatus": { "text": "x" } })), []);
    only(found("Patient", rules, coded("2")), Severity::Warning, "Patient.maritalStatus");
}

#[test]
fn an_extension_is_only_where_its_definition_lets_it_be() {
    let on = |url: &str| json!([{ "url": format!("https://example.org/{url}"), "valueString": "x" }]);
    let check = |value: Value| found("Patient", json!([]), value);
    assert_eq!(check(json!({ "extension": on("on-patient") })), []);
    assert_eq!(check(json!({ "name": [{ "given": ["A"], "_given": [{ "extension": on("on-given") }] }] })), []);
    assert_eq!(check(json!({ "contact": [{ "name": { "extension": on("on-contact") } }] })), []);
    assert_eq!(check(json!({ "maritalStatus": { "coding": [{ "extension": on("on-coding") }] } })), []);
    assert_eq!(check(json!({ "contained": [{ "resourceType": "Patient", "extension": on("on-patient") }] })), []);
    only(check(json!({ "extension": on("on-coding") })), Severity::Error, "Patient.extension[0]");
    only(check(json!({ "name": [{ "extension": on("on-given") }] })), Severity::Error, "Patient.name[0].extension[0]");
    only(
        check(json!({ "name": [{ "extension": on("on-contact") }] })),
        Severity::Error,
        "Patient.name[0].extension[0]",
    );
    let place = "Patient.contained[0].extension[0]";
    only(
        check(json!({ "contained": [{ "resourceType": "Group", "extension": on("on-patient") }] })),
        Severity::Error,
        place,
    );
    let inside = json!({ "extension": [{ "url": "https://example.org/on-patient", "extension": on("inside") }] });
    assert_eq!(check(inside), []);
    let place = "Patient.extension[0].extension[0]";
    let elsewhere = json!({ "extension": [{ "url": "https://example.org/other", "extension": on("inside") }] });
    only(check(elsewhere), Severity::Error, place);
    only(check(json!({ "extension": on("inside") })), Severity::Error, "Patient.extension[0]");
}

#[test]
fn what_changes_the_meaning_is_sent_as_a_modifier_and_nothing_else_is() {
    let on = |url: &str| json!([{ "url": format!("https://example.org/{url}"), "valueString": "x" }]);
    let check = |value: Value| found("Patient", json!([]), value);
    assert_eq!(check(json!({ "modifierExtension": on("not") })), []);
    only(check(json!({ "extension": on("not") })), Severity::Error, "Patient.extension[0]");
    only(check(json!({ "modifierExtension": on("on-patient") })), Severity::Error, "Patient.modifierExtension[0]");
    only(check(json!({ "modifierExtension": on("unknown") })), Severity::Warning, "Patient.modifierExtension[0]");
}
