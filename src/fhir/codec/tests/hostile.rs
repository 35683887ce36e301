//! Documents nobody would send on purpose: whatever comes, the answer is a resource that keeps its form, or a refusal.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use serde_json::Value;

use crate::fhir::Resource;
use crate::fhir::codec::{Limits, read_json, read_xml, write_json, write_xml};
use crate::fhir::outcome::{Invalid, IssueCode};

/// A value that no issue may repeat.
const SECRET: &str = "Featherstonehaugh";

const SAMPLE: &str = r#"{"resourceType":"Bundle","id":"b","type":"collection","entry":[{"fullUrl":"urn:uuid:1","resource":
{"resourceType":"Patient","id":"p","meta":{"profile":["https://a"],"tag":[{"code":"t","userSelected":false}]},
"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p class=\"a\">Featherstonehaugh &amp; <b>x</b></p></div>"},
"contained":[{"resourceType":"Organization","id":"o","name":"Featherstonehaugh"}],
"name":[{"id":"n","family":"Featherstonehaugh","given":["A",null,"C"],"_given":[null,{"id":"g"},{"extension":[{"url":"u","valueDecimal":1.10}]}]}],
"birthDate":"1970-01-01","_birthDate":{"extension":[{"url":"u","valueInteger":-7}]},"multipleBirthInteger":2,"active":true}}]}"#;

const PIECES: [&str; 28] = [
    "[]",
    "{}",
    "null",
    "\"id\":\"x\",",
    "\"a\":",
    "1e999",
    "\\u0000",
    "\\ud800",
    "{\"$serde_json::private::Number\":\"1\"}",
    "[[[[",
    ",",
    "\"",
    "<name/>",
    "&x;",
    "&#0;",
    "&amp;",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE a>",
    "<?a?>",
    "<!--",
    "-->",
    " id=\"x\"",
    " xmlns=\"\"",
    "</name>",
    "<div>",
    "\u{fffe}",
    "\u{feff}",
];

/// One change to a document, at a place given as a fraction of its length.
#[derive(Clone, Debug)]
enum Change {
    Byte(f64, u8),
    Piece(f64, usize),
    Cut(f64, f64),
    Again(f64, f64),
    End(f64),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0.0..1.0f64;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        4 => (at(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Piece(at, piece)),
        2 => (at(), 0.0..0.05).prop_map(|(at, length)| Change::Cut(at, length)),
        2 => (at(), 0.0..0.2).prop_map(|(at, length)| Change::Again(at, length)),
        1 => at().prop_map(Change::End),
    ]
}

fn changed(mut document: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |fraction: f64| (fraction * document.len() as f64) as usize;
        let span = |at: f64, length: f64| place(at)..(place(at) + place(length)).min(document.len());
        match *change {
            Change::Byte(at, byte) => {
                let at = place(at);
                document.splice(at..(at + 1).min(document.len()), [byte]);
            }
            Change::Piece(at, piece) => {
                let at = place(at);
                document.splice(at..at, PIECES[piece].bytes());
            }
            Change::Cut(at, length) => {
                let span = span(at, length);
                document.drain(span);
            }
            Change::Again(at, length) => {
                let again = document[span(at, length)].to_vec();
                let at = place(at);
                document.splice(at..at, again);
            }
            Change::End(at) => document.truncate(place(at)),
        }
    }
    document
}

/// A refusal says what is wrong and nothing of what was sent; a resource keeps its form in JSON and XML.
fn holds(read: Result<Resource, Invalid>) {
    match read {
        Err(invalid) => {
            assert!(!invalid.issues.is_empty());
            for issue in invalid.issues {
                assert!(issue.code != IssueCode::Exception && !issue.text.contains(SECRET), "{issue:?}");
            }
        }
        Ok(resource) => {
            let limits = Limits::default();
            assert_eq!(read_json(&write_json(&resource, false), &limits).unwrap(), resource);
            if let Ok(xml) = write_xml(&resource, false) {
                let mut value = resource.into_value();
                align(&mut value);
                assert_eq!(read_xml(&xml, &limits).unwrap().value(), &value);
            }
        }
    }
}

/// The halves of repeating values as XML has them: equally long, and only there if they hold something.
fn align(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(align);
            let names: Vec<String> =
                fields.keys().filter_map(|name| name.strip_prefix('_')).map(str::to_owned).collect();
            for halves in names.into_iter().map(|name| [format!("_{name}"), name]) {
                let length = |half: &String| fields.get(half).and_then(Value::as_array).map(Vec::len);
                let longest = halves.iter().filter_map(length).max().unwrap_or(0);
                for half in &halves {
                    if let Some(Value::Array(items)) = fields.get_mut(half) {
                        items.resize(longest, Value::Null);
                        if items.iter().all(Value::is_null) {
                            fields.remove(half);
                        }
                    }
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(align),
        _ => {}
    }
}

fn sample_xml() -> Vec<u8> {
    write_xml(&read_json(SAMPLE.as_bytes(), &Limits::default()).unwrap(), false).unwrap()
}

#[test]
fn the_sample_itself_is_legal() {
    let resource = read_json(SAMPLE.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(read_xml(&sample_xml(), &Limits::default()).unwrap(), resource);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_json_is_refused_or_keeps_its_form(changes in prop::collection::vec(change(), 1..5)) {
        holds(read_json(&changed(SAMPLE.as_bytes().to_vec(), &changes), &Limits::default()));
    }

    #[test]
    fn damaged_xml_is_refused_or_keeps_its_form(changes in prop::collection::vec(change(), 1..5)) {
        holds(read_xml(&changed(sample_xml(), &changes), &Limits::default()));
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read_json(&bytes, &Limits::default()).is_err());
        prop_assert!(read_xml(&bytes, &Limits::default()).is_err());
    }

    #[test]
    fn any_text_survives_json_and_xml(text in "(\\PC|[\t\n\r<>&\"'\\\\])*") {
        let value = serde_json::json!({"resourceType": "Basic", "extension": [{"id": text, "url": text, "valueString": text}]});
        let resource = Resource::from_value(value).unwrap();
        let limits = Limits::default();
        prop_assert_eq!(&read_json(&write_json(&resource, true), &limits).unwrap(), &resource);
        prop_assert_eq!(&read_xml(&write_xml(&resource, true).unwrap(), &limits).unwrap(), &resource);
    }
}
