use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fhir::codec::read_xml;

fn patched(before: &Value, operation: Value) -> Result<Value, String> {
    let mut value = before.clone();
    let steps = Steps::new(Language::Fhirpath, json!([operation])).unwrap();
    steps.apply(&mut value).map(|()| value).map_err(|invalid| invalid.issues[0].text.clone())
}

fn operation(what: &str, path: &str, parts: &[(&str, &str, Value)]) -> Value {
    let mut all = vec![json!({ "name": "type", "valueCode": what }), json!({ "name": "path", "valueString": path })];
    all.extend(parts.iter().map(|(name, member, value)| json!({ "name": name, *member: value })));
    json!({ "name": "operation", "part": all })
}

#[test]
fn a_choice_takes_the_name_of_its_value() {
    let before = json!({ "resourceType": "Patient", "id": "a" });
    let add = operation(
        "add",
        "Patient",
        &[("name", "valueString", json!("deceased")), ("value", "valueBoolean", json!(true))],
    );
    let after = patched(&before, add).unwrap();
    assert_eq!(after["deceasedBoolean"], true);
    let replace = operation("replace", "Patient.deceased", &[("value", "valueDateTime", json!("2026-01-01"))]);
    let after = patched(&after, replace).unwrap();
    assert_eq!(after, json!({ "resourceType": "Patient", "id": "a", "deceasedDateTime": "2026-01-01" }));
    assert!(
        patched(&after, operation("replace", "Patient.deceased", &[("value", "valueQuantity", json!({}))])).is_err()
    );
}

#[test]
fn what_extends_a_primitive_is_added_beside_it_and_goes_with_it() {
    let before = json!({ "resourceType": "Patient", "birthDate": "1957-03-04" });
    let extension = json!({ "url": "https://example.org/e", "valueString": "x" });
    let add = operation(
        "add",
        "Patient.birthDate",
        &[("name", "valueString", json!("extension")), ("value", "valueExtension", extension.clone())],
    );
    let after = patched(&before, add).unwrap();
    assert_eq!(after["_birthDate"]["extension"], json!([extension]));
    let after = patched(&after, operation("delete", "Patient.birthDate", &[])).unwrap();
    assert_eq!(after, json!({ "resourceType": "Patient" }));
}

#[test]
fn elements_are_named_by_what_they_are() {
    let before = json!({ "resourceType": "Patient", "telecom": [
        { "system": "phone", "value": "1", "rank": 1 }, { "system": "email", "value": "2" }, { "system": "phone", "value": "3" }] });
    for (path, taken) in [
        ("Patient.telecom.where(system = 'email')", 1),
        ("Patient.telecom.where(system = 'phone' and rank = 1)", 0),
        ("Patient.telecom.where(system='phone').last()", 2),
        ("Patient.telecom.first()", 0),
        ("Patient.telecom[1]", 1),
    ] {
        let after = patched(&before, operation("delete", path, &[])).unwrap();
        let mut expected = before.clone();
        expected["telecom"].as_array_mut().unwrap().remove(taken);
        assert_eq!(after, expected, "{path}");
    }
    assert!(patched(&before, operation("delete", "Patient.telecom", &[])).unwrap_err().contains("several"));
    for path in [
        "",
        "Patient..name",
        "Observation.status",
        "Patient.name[x]",
        "Patient.telecom.trace('x')",
        "Patient.name.where(use = 'x",
    ] {
        assert!(
            patched(&before, operation("replace", path, &[("value", "valueString", json!("x"))])).is_err(),
            "{path}"
        );
    }
}

#[test]
fn what_copies_itself_is_bounded() {
    let mut value = json!({ "resourceType": "Basic", "a": ["x"] });
    let doubling: Vec<Value> =
        (0..40).map(|n| json!({ "op": "copy", "from": "/a", "path": format!("/a/{n}") })).collect();
    let steps = Steps::new(Language::Json, Value::Array(doubling)).unwrap();
    assert_eq!(steps.apply(&mut value).unwrap_err().kind, crate::fhir::InvalidKind::TooLarge);
}

#[test]
fn what_nests_itself_is_bounded() {
    let mut value = json!({ "resourceType": "Basic", "a": { "x": {} }, "b": { "x": {} } });
    let mut steps = Vec::new();
    for _ in 0..300 {
        steps.push(json!({ "op": "move", "from": "/a", "path": "/b/x/a" }));
        steps.push(json!({ "op": "move", "from": "/b", "path": "/a" }));
        steps.push(json!({ "op": "add", "path": "/b", "value": { "x": {} } }));
    }
    let refused = Steps::new(Language::Json, Value::Array(steps)).unwrap().apply(&mut value).unwrap_err();
    assert!(refused.issues[0].text.contains("deeper"), "{refused:?}");
}

#[test]
fn a_json_patch_is_read_whole_or_not_at_all() {
    let limits = Limits::default();
    for bad in ["", "{}", "[", "[],\"x\":[]", "\"x\"", "[] }", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":[]}]"] {
        assert!(Steps::json(bad.as_bytes(), &limits).is_err(), "{bad}");
    }
    assert!(Steps::json(b" [{\"op\":\"remove\",\"path\":\"/a\"}] ", &limits).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_path_stops_the_reader(
        what in "add|insert|delete|replace|move",
        path in "\\PC{0,60}|Patient(\\.|name|telecom|where\\(|first\\(|\\)|\\[|\\]|'|=|use| |0|extension\\('x'\\)){0,12}",
        name in "name|telecom|deceased|id|extension|\\PC{0,8}",
    ) {
        let before = json!({ "resourceType": "Patient", "name": [{ "use": "usual", "given": ["A"] }], "birthDate": "1957" });
        let parts = [("name", "valueString", json!(name)), ("value", "valueString", json!("x")), ("index", "valueInteger", json!(0))];
        if let Ok(after) = patched(&before, operation(&what, &path, &parts)) {
            prop_assert_eq!(&after["resourceType"], "Patient");
        }
    }

    #[test]
    fn no_operation_stops_json_patch(steps in prop::collection::vec(
        ("add|remove|replace|move|copy|test|x", "(/(a|b|0|-|9|~1|~0|\\PC)){0,4}", "(/(a|b|0|-)){0,3}"), 0..12)
    ) {
        let mut value = json!({ "resourceType": "Basic", "a": [{ "b": 1 }, []], "b": { "a": null } });
        let steps = steps.into_iter().map(|(op, path, from)| json!({ "op": op, "path": path, "from": from, "value": [path] }));
        let _ = Steps::new(Language::Json, steps.collect()).unwrap().apply(&mut value);
    }
}

/// HL7's own cases (<https://github.com/FHIR/fhir-test-cases>), where they are at hand.
fn case_file(name: &str) -> Option<String> {
    let folder = match std::env::var_os("TEST_DATA") {
        Some(folder) => std::path::PathBuf::from(folder),
        None => std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    std::fs::read_to_string(folder.join("hl7-fhir-test-cases/patch").join(name)).ok()
}

#[test]
fn hl7s_json_patch_cases_pass() {
    let Some(text) = case_file("json-patch-tests.json") else { return };
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    for case in &cases {
        let mut doc = case["doc"].clone();
        match Steps::new(Language::Json, case["patch"].clone()).unwrap().apply(&mut doc) {
            Ok(()) => assert_eq!(Some(&doc), case.get("expected"), "{}", case["comment"]),
            Err(_) => assert!(case.get("error").is_some(), "{}", case["comment"]),
        }
    }
    assert!(cases.len() >= 15, "{}", cases.len());
}

#[test]
fn hl7s_fhirpath_patch_cases_pass() {
    let Some(text) = case_file("fhir-patch-tests.xml") else { return };
    let inside = |case: &str, element: &str| -> Option<String> {
        let (_, rest) = case.split_once(&format!("<{element}>"))?;
        rest.split_once(&format!("</{element}>")).map(|(inner, _)| inner.trim().to_owned())
    };
    let read = |xml: &str| {
        let xml = &xml[xml.find('<').unwrap()..];
        read_xml(xml.as_bytes(), &Limits::default()).map(Resource::into_value)
    };
    let (mut passed, mut failed) = (0, Vec::new());
    for case in text.split("<case ").skip(1) {
        let name = case.split('"').nth(1).unwrap();
        let mut value = read(&inside(case, "input").unwrap()).unwrap();
        let diff = read(&inside(case, "diff").unwrap()).unwrap();
        let done = Steps::fhirpath(Resource::from_value(diff).unwrap()).unwrap().apply(&mut value);
        let expected = inside(case, "output").map(|xml| read(&xml).unwrap());
        // A quotation mark in a text of XHTML is the same written out.
        let same =
            |a: &Value, b: &Value| a.to_string().replace("&quot;", "\\\"") == b.to_string().replace("&quot;", "\\\"");
        match (done, expected) {
            (Ok(()), Some(expected)) if same(&value, &expected) => passed += 1,
            (Err(_), None) => passed += 1,
            (done, expected) => failed.push(format!("{name}: {done:?}\n{value:#}\nexpected {expected:#?}")),
        }
    }
    println!("{passed} of HL7's FHIRPath Patch cases pass, {} do not", failed.len());
    assert!(failed.is_empty() && passed >= 30, "{}", failed.join("\n"));
}

#[test]
fn what_is_wrong_with_a_json_patch_is_told_by_its_place_in_what_was_sent() {
    let refused = |sent: &[u8]| {
        let Err(invalid) = Steps::json(sent, &Limits::default()) else { panic!("{sent:?} was read") };
        let issue = invalid.issues[0].clone();
        (issue.text, issue.expression.unwrap_or_default())
    };
    for (sent, place) in [
        (b"garbage".as_slice(), "line 1 column 1"),
        (b"[", "line 1 column 1"),
        (b"[\n  {\"op\" oops}]", "line 2 column 9"),
        (b"[{\"op\":\"\\ud800\"}]", "line 1 column 15"),
        (b"[{\"op\":\"a\"}] x", "line 1 column 14"),
        (b"[{\"op\":\"\xff\"}]", "byte 8"),
    ] {
        let (text, _) = refused(sent);
        assert!(text.contains(place), "{}: {text}", String::from_utf8_lossy(sent));
    }
    assert_eq!(refused(b"[{\"op\":\"a\"},{\"op\":\"a\",\"op\":\"b\"}]").1, "Patch.operation[1].op");
    for sent in [b"{\"op\":\"add\"}".as_slice(), b"\"add\"", b"null", b"1.5", b"[],\"x\":[]"] {
        assert!(!refused(sent).0.is_empty());
    }
    for sent in [b"[]".as_slice(), b" [ ] ", b"\xef\xbb\xbf[{\"op\":\"remove\",\"path\":\"/note\"}]"] {
        assert!(Steps::json(sent, &Limits::default()).is_ok(), "{}", String::from_utf8_lossy(sent));
    }
}
