#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::fhir::outcome::InvalidKind;

fn read(text: &str) -> Result<Resource, Invalid> {
    read_json(text.as_bytes(), &Limits::default())
}

fn comes_back(text: &str) {
    let resource = read(text).unwrap();
    assert_eq!(String::from_utf8(write_json(&resource, false)).unwrap(), text);
}

/// The document is refused for `kind`, at `expression`, with `words` in the text.
#[track_caller]
fn refused(text: impl AsRef<[u8]>, kind: InvalidKind, expression: &str, words: &str) {
    let invalid = read_json(text.as_ref(), &Limits::default()).unwrap_err();
    let issue = &invalid.issues[0];
    assert_eq!(invalid.kind, kind, "{issue:?}");
    assert_eq!(issue.expression.as_deref().unwrap_or("-"), expression, "{issue:?}");
    assert!(issue.text.contains(words), "{issue:?}");
}

#[track_caller]
fn malformed(text: impl AsRef<[u8]>, expression: &str, words: &str) {
    refused(text, InvalidKind::Malformed, expression, words);
}

#[test]
fn what_is_legal_comes_back_to_the_byte() {
    comes_back(r#"{"resourceType":"Patient","name":[{"family":"Å\"\\\n\t","given":["a","b"]}],"active":true}"#);
    comes_back(r#"{"id":"x","resourceType":"Patient","birthDate":"1970-01-01","_birthDate":{"id":"b"}}"#);
    comes_back(r#"{"resourceType":"Patient","name":[{"given":["a",null,"c"],"_given":[null,{"id":"g"},null]}]}"#);
    comes_back(r#"{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"id":"1","resourceType":"Basic"}}]}"#);
}

#[test]
fn decimals_keep_every_digit() {
    for number in ["1.10", "1.0e-3", "0.000", "-0", "-12", "1e+5", "0e+0", "123456789012345678901234567890.5"] {
        comes_back(&format!(r#"{{"resourceType":"Observation","valueQuantity":{{"value":{number}}}}}"#));
    }
    let resource = read(r#"{"resourceType":"Observation","valueDecimal":1.20E5}"#).unwrap();
    assert_eq!(resource.value()["valueDecimal"].to_string(), "1.20e+5");
}

#[test]
fn what_the_checker_judges_is_kept_as_sent() {
    comes_back(r#"{"resourceType":"Patient","foo":["x"],"active":"true","name":{"family":7},"gender":["male"]}"#);
    comes_back(r#"{"resourceType":"Observation","valueString":"a","valueInteger":1,"fhir_comments":["c"]}"#);
    comes_back(r#"{"resourceType":"Observation","status":"banana","id":"","code":{"text":"<script>"}}"#);
    comes_back(r#"{"resourceType":"Quantity","value":"NaN; drop"}"#);
}

#[test]
fn an_empty_array_is_refused_wherever_it_stands() {
    for name in ["name", "extension", "contained", "entry", "gender", "foo"] {
        let text = format!(r#"{{"resourceType":"Patient","{name}":[]}}"#);
        malformed(text, &format!("Patient.{name}"), "The array is empty");
    }
    malformed(r#"{"resourceType":"Patient","name":[{"given":[]}]}"#, "Patient.name[0].given", "empty");
    malformed(r#"{"resourceType":"Patient","foo":[["x"],[]]}"#, "Patient.foo[1]", "empty");
}

#[test]
fn an_empty_object_is_refused() {
    malformed(r#"{"resourceType":"Patient","name":[{}]}"#, "Patient.name[0]", "The object is empty");
    malformed(r#"{"resourceType":"Patient","_birthDate":{}}"#, "Patient.birthDate", "The object is empty");
    malformed("{}", "Resource", "resourceType");
}

#[test]
fn null_is_refused_outside_an_array() {
    malformed(r#"{"resourceType":"Patient","birthDate":null}"#, "Patient.birthDate", "null");
    malformed(r#"{"resourceType":"Patient","name":[{"family":null}]}"#, "Patient.name[0].family", "null");
    malformed("null", "Resource", "resourceType");
}

#[test]
fn an_element_that_is_there_twice_is_refused() {
    malformed(r#"{"resourceType":"Patient","id":"a","id":"b"}"#, "Patient.id", "twice");
    malformed(r#"{"resourceType":"Patient","id":"a","\u0069d":"b"}"#, "Patient.id", "twice");
    malformed(r#"{"resourceType":"Patient","resourceType":"Task"}"#, "Patient.resourceType", "twice");
    malformed(
        r#"{"resourceType":"Patient","meta":{"tag":[{"code":"a","code":"a"}]}}"#,
        "Patient.meta.tag[0].code",
        "twice",
    );
}

#[test]
fn what_follows_the_document_is_refused() {
    malformed(r#"{"resourceType":"Patient"} x"#, "Resource", "trailing characters");
    malformed(r#"{"resourceType":"Patient"}{"resourceType":"Patient"}"#, "Resource", "trailing characters");
    malformed("{\"resourceType\":\"Patient\"}\0", "Resource", "trailing characters");
    assert!(read("{\"resourceType\":\"Patient\"} \r\n\t").is_ok());
}

#[test]
fn a_root_that_is_no_resource_is_refused() {
    for text in ["[]", "[{\"resourceType\":\"Patient\"}]", "1", "\"a\"", "true", "-", "", "   ", "{\"id\":\"a\"}"] {
        assert_eq!(read(text).unwrap_err().kind, InvalidKind::Malformed, "{text}");
    }
    malformed(r#"{"resourceType":7}"#, "resourceType", "resourceType");
    malformed(r#"{"resourceType":""}"#, "resourceType", "resourceType");
}

#[test]
fn a_document_cut_short_is_refused_where_it_ends() {
    malformed(r#"{"resourceType":"Patient","name":[{"family":"A"#, "Patient.name[0].family", "EOF");
    let whole =
        r#"{"resourceType":"Patient","name":[{"family":"A","given":["B",null],"_given":[null,{"id":"1"}]}],"x":1.5}"#;
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end]).unwrap_err().kind, InvalidKind::Malformed, "{end}");
    }
}

#[test]
fn characters_that_fhir_does_not_know_are_refused() {
    malformed(r#"{"resourceType":"Patient","gender":"a\u0000b"}"#, "Patient.gender", "control character");
    malformed(r#"{"resourceType":"Patient","gender":"a\u001fb"}"#, "Patient.gender", "control character");
    malformed(r#"{"resourceType":"Patient","gender":"\uffff"}"#, "Patient.gender", "control character");
    malformed(r#"{"resourceType":"Patient","a\u0000":"b"}"#, "Patient", "control character");
    malformed("{\"resourceType\":\"Patient\",\"gender\":\"a\nb\"}", "Patient.gender", "control character");
    malformed(r#"{"resourceType":"Patient","gender":"\ud800"}"#, "Patient.gender", "hex escape");
    malformed(r#"{"resourceType":"Patient","gender":"\udc00x"}"#, "Patient.gender", "surrogate");
    malformed(b"{\"resourceType\":\"Patient\",\"gender\":\"\xff\"}", "-", "not UTF-8 from byte 36");
    assert_eq!(read(r#"{"resourceType":"Patient","gender":"\ud83d\ude00"}"#).unwrap().text("gender"), Some("😀"));
}

#[test]
fn a_byte_order_mark_is_stripped() {
    assert_eq!(read("\u{feff}{\"resourceType\":\"Patient\"}").unwrap().kind(), "Patient");
    assert!(read("\u{feff}\u{feff}{\"resourceType\":\"Patient\"}").is_err());
}

#[test]
fn an_absurd_number_is_refused() {
    let with = |number: &str| format!(r#"{{"resourceType":"Observation","valueInteger":{number}}}"#);
    malformed(with(&"9".repeat(65)), "Observation.valueInteger", "64 digits");
    malformed(with(&format!("0.{}", "0".repeat(1_000_000))), "Observation.valueInteger", "64 digits");
    malformed(with("1e301"), "Observation.valueInteger", "exponent");
    malformed(with("1e-99999999999999999999"), "Observation.valueInteger", "exponent");
    for number in ["01", "+1", ".5", "1.", "NaN", "Infinity", "0x1", "1e"] {
        assert_eq!(read(&with(number)).unwrap_err().kind, InvalidKind::Malformed, "{number}");
    }
    comes_back(&with(&"9".repeat(64)));
    assert!(read(&with("1e0300")).is_ok());
}

#[test]
fn an_object_named_like_the_parsers_number_is_no_number() {
    for name in [r"$serde_json::private::Number", r"\u0024serde_json::private::Number"] {
        malformed(format!(r#"{{"resourceType":"Basic","a":{{"{name}":"1"}}}}"#), "Basic.a", "$serde_json");
        malformed(format!(r#"{{"resourceType":"Basic","{name}":"1"}}"#), "Basic", "$serde_json");
        malformed(format!(r#"{{"{name}":"1"}}"#), "Resource", "$serde_json");
    }
    comes_back(r#"{"resourceType":"Basic","a":"$serde_json::private::Number"}"#);
}

#[test]
fn what_is_over_a_limit_says_the_limit() {
    let limits = Limits { bytes: 200, values: 12, depth: 4, entries: 2, ..Limits::default() };
    let over = |text: &str| read_json(text.as_bytes(), &limits).unwrap_err();
    for (text, words, expression) in [
        (format!(r#"{{"resourceType":"Basic","a":"{}"}}"#, "x".repeat(200)), "at most 200", None),
        (r#"{"resourceType":"Basic","a":[1,2,3,4,5,6,7,8,9,10]}"#.to_owned(), "12 values", Some("Basic.a[9]")),
        (r#"{"resourceType":"Basic","a":{"b":[{"c":[1]}]}}"#.to_owned(), "4 levels", Some("Basic.a.b[0].c")),
        (
            r#"{"resourceType":"Bundle","entry":[{"a":1},{"a":1},{"a":1}]}"#.to_owned(),
            "2 entries",
            Some("Bundle.entry"),
        ),
    ] {
        let invalid = over(&text);
        assert_eq!(invalid.kind, InvalidKind::TooLarge, "{text}");
        assert!(invalid.issues[0].text.contains(words), "{invalid:?}");
        assert_eq!(invalid.issues[0].expression.as_deref(), expression);
    }
    assert!(read_json(br#"{"resourceType":"Bundle","entry":[{"a":1},{"a":1}]}"#, &limits).is_ok());
}

#[test]
fn nesting_without_end_is_refused_before_the_stack_is_used_up() {
    for (open, words) in [("[", "64 levels"), (r#"{"a":"#, "64 levels")] {
        let text = format!(r#"{{"resourceType":"Basic","a":{}1"#, open.repeat(100_000));
        let unlimited = Limits { depth: usize::MAX, ..Limits::default() };
        assert_eq!(read_json(text.as_bytes(), &unlimited).unwrap_err().kind, InvalidKind::TooLarge);
        let invalid = read(&text).unwrap_err();
        assert_eq!(invalid.kind, InvalidKind::TooLarge);
        assert!(invalid.issues[0].text.contains(words));
        assert!(invalid.issues[0].expression.as_deref().unwrap().len() < 700);
    }
}

#[test]
fn an_issue_repeats_nothing_but_names_that_look_like_names() {
    let text = format!(r#"{{"resourceType":"Patient","NHS 999 000 0018 <b>":{{"{}":null}}}}"#, "n".repeat(9_000));
    let invalid = read(&text).unwrap_err();
    let expression = format!("Patient.NHS?999?000?0018??b?.{}", "n".repeat(64));
    assert_eq!(invalid.issues[0].expression.as_deref(), Some(expression.as_str()));
    malformed(r#"{"resourceType":"Jane Doe","id":null}"#, "Resource.id", "null");
    for secret in [r#""name":Jane"#, r#""name":"Jane""#, r#""name":"\u00Jane""#, r#"Jane:1"#] {
        let invalid = read(&format!(r#"{{"resourceType":"Patient",{secret},"#)).unwrap_err();
        assert!(!format!("{invalid:?}").contains("Jane"), "{invalid:?}");
    }
}

#[test]
fn a_hundred_thousand_names_cost_no_more_than_their_length() {
    let names: Vec<String> = (0..100_000).map(|n| format!(r#""n{n}":{n}"#)).collect();
    let text = format!(r#"{{"resourceType":"Basic",{}}}"#, names.join(","));
    let began = std::time::Instant::now();
    assert!(read(&text).is_ok());
    assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
}
