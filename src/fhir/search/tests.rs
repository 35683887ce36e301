//! The table and the grammar, without a database.

use serde_json::json;

use super::*;
use crate::fhir::Resource;

const NONE: Context<'static> =
    Context { base: "http://127.0.0.1/fhir", now: 1_772_442_000_000_000, value_set: &|_| None, queue: true };

#[test]
fn what_is_not_offered_is_listed_and_little() {
    for absent in absent() {
        eprintln!("{}?{}: {}", absent.kind, absent.code, absent.why);
    }
    assert!(absent().len() < 40, "{}", absent().len());
}

#[test]
fn every_type_has_the_parameters_of_r4() {
    let of = |kind: &str, code: &str| param(kind, code).unwrap_or_else(|| panic!("{kind}?{code}"));
    assert_eq!(of("Observation", "combo-code").stands, ["code", "component-code"]);
    assert_eq!(of("Observation", "patient").stands, ["subject"]);
    assert!(of("Observation", "subject").person);
    assert_eq!(
        of("Observation", "combo-code-value-quantity").stands,
        ["code-value-quantity", "component-code-value-quantity"]
    );
    assert_eq!(of("Task", "status").systems, ["http://hl7.org/fhir/task-status"]);
    assert!(of("Patient", "_tag").stands == ["_tag"]);
    assert!(param("Task", "favourite").is_none());
}

#[test]
fn a_blood_pressure_is_found_by_each_kind_of_parameter() {
    let observation = Resource::from_value(json!({
        "resourceType": "Observation", "id": "bp", "status": "final",
        "meta": { "tag": [{ "system": "urn:t", "code": "x" }], "lastUpdated": "2026-03-01T10:00:00Z" },
        "identifier": [{ "system": "urn:i", "value": "7", "type": { "coding": [{ "system": "urn:ty", "code": "MR" }] } }],
        "code": { "coding": [{ "system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure" }], "text": "BP" },
        "subject": { "reference": "Patient/p" },
        "effectiveDateTime": "2026-02-03",
        "component": [
            { "code": { "coding": [{ "system": "http://loinc.org", "code": "8480-6" }] },
              "valueQuantity": { "value": 120, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]" } },
            { "code": { "coding": [{ "system": "http://loinc.org", "code": "8462-4" }] },
              "valueQuantity": { "value": 80.0, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]" } },
        ],
    })).unwrap();
    for (name, value, is) in [
        ("code", "http://loinc.org|85354-9", true),
        ("code", "85354-9", true),
        ("code", "http://snomed.info/sct|85354-9", false),
        ("code", "http://loinc.org|", true),
        ("code:not", "85354-9", false),
        ("code:not", "1", true),
        ("code:text", "blood", true),
        ("code:text", "pressure", false),
        ("combo-code", "8480-6", true),
        ("code", "8480-6", false),
        ("identifier:of-type", "urn:ty|MR|7", true),
        ("identifier:of-type", "urn:ty|SS|7", false),
        ("status", "final", true),
        ("status", "http://hl7.org/fhir/observation-status|final", true),
        ("status", "http://example.org|final", false),
        ("_tag", "urn:t|x", true),
        ("_id", "bp", true),
        ("_lastUpdated", "ge2026", true),
        ("date", "2026-02", true),
        ("date", "gt2026-02-03", false),
        ("component-value-quantity", "120", true),
        ("component-value-quantity", "120|http://unitsofmeasure.org|mm[Hg]", true),
        ("component-value-quantity", "120||mmHg", true),
        ("component-value-quantity", "lt80", false),
        ("component-code-value-quantity", "http://loinc.org|8480-6$gt100", true),
        ("component-code-value-quantity", "http://loinc.org|8462-4$gt100", false),
        ("combo-code-value-quantity", "8462-4$lt100", true),
        ("value-quantity:missing", "true", true),
        ("component-value-quantity:missing", "true", false),
        ("code,status", "x", false),
    ] {
        match read(&NONE, "Observation", name, value) {
            Ok(criterion) => assert_eq!(
                matches(&observation, &all_rows(&observation), None, &[criterion]),
                Some(is),
                "{name}={value}"
            ),
            Err(_) => assert!(!is, "{name}={value}"),
        }
    }
}

#[test]
fn what_cannot_be_searched_is_refused_with_a_reason() {
    let why = |kind: &str, name: &str, value: &str| read(&NONE, kind, name, value).unwrap_err();
    assert_eq!(why("Observation", "favourite", "x"), Refused::Unknown);
    for (kind, name, value) in [
        ("Observation", "code:above", "x"),
        ("Observation", "date", "soon"),
        ("Observation", "value-quantity", "many"),
        ("Observation", "code.text", "x"),
        ("Observation", "focus.name", "x"),
        ("Observation", "subject:Organization.name", "x"),
        ("Observation", "_has:Observation:code:status", "x"),
        ("Patient", "_has:Observation", "x"),
        ("Patient", "_has:Observation:patient:favourite", "x"),
        ("Observation", "encounter.subject.general-practitioner.partof.partof.name", "x"),
        ("Observation", "code-value-quantity", "x"),
        ("Observation", "code:in", "http://nobody.example/vs"),
    ] {
        assert!(matches!(why(kind, name, value), Refused::Because(_)), "{kind}?{name}={value}");
    }
}

proptest::proptest! {
    #[test]
    fn no_search_makes_the_grammar_fall_over(
        kind in proptest::sample::select(vec!["Task", "Patient", "Observation", "Location", "Consent"]),
        code in proptest::sample::select(params("Observation").chain(params("Task")).map(|p| p.code).collect::<Vec<_>>()),
        before in "(_has:[A-Za-z]{0,12}:[a-z]{0,9}:)?",
        after in "([:.][A-Za-z-]{0,12}){0,6}",
        value in "(eq|gt|ne|ap)?\\PC{0,40}",
    ) {
        let _ = read(&NONE, kind, &format!("{before}{code}{after}"), &value);
        let _ = read(&NONE, kind, &value, &value);
        let _ = include(&value, true, false);
        let _ = sort(kind, &value);
    }
}

#[test]
fn what_only_the_database_can_tell_is_not_guessed_and_not_asked_where_it_does_not_matter() {
    let condition = Resource::from_value(json!({
        "resourceType": "Condition", "subject": { "reference": "Patient/sent" },
        "code": { "coding": [{ "code": "breath" }] },
    }))
    .unwrap();
    let told = |query: &[(&str, &str)], person: Option<&str>| {
        let read = |(name, value): &(&str, &str)| read(&NONE, "Condition", name, value).unwrap();
        matches(&condition, &all_rows(&condition), person, &query.iter().map(read).collect::<Vec<_>>())
    };
    let (yes, no, chain) = (("code", "breath"), ("code", "other"), ("subject:Patient.family", "x"));
    for (query, person, is) in [
        (vec![yes, chain], None, None),
        (vec![no, chain], None, Some(false)),
        (vec![chain, no], None, Some(false)),
        (vec![yes, ("patient", "Patient/sent")], None, Some(true)),
        (vec![yes, ("patient", "Patient/other")], None, None),
        (vec![yes, ("patient", "Patient/other")], Some(""), Some(false)),
        (vec![yes, ("patient", "Patient/ours")], Some("ours"), Some(true)),
        (vec![yes, ("patient", "Patient/other")], Some("ours"), None),
        (vec![yes, ("patient.identifier", "9990000018")], None, None),
        (vec![no, ("patient.identifier", "9990000018")], None, Some(false)),
        (vec![("subject:missing", "false")], None, Some(true)),
        (vec![("_has:Observation:focus:code", "x")], Some(""), None),
    ] {
        assert_eq!(told(&query, person), is, "{query:?} {person:?}");
    }
}
