#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::{Duration, Instant};

use super::*;
use crate::fhir::codec::{read_json, write_json};
use crate::fhir::outcome::InvalidKind;

fn read(xml: &str) -> Result<Resource, Invalid> {
    read_xml(xml.as_bytes(), &Limits::default())
}

fn patient(inside: &str) -> String {
    format!(r#"<Patient xmlns="http://hl7.org/fhir">{inside}</Patient>"#)
}

/// The two say the same, in both directions.
#[track_caller]
fn twins(xml: &str, json: &str) {
    let resource = read_json(json.as_bytes(), &Limits::default()).unwrap();
    let of_xml = read(xml).unwrap();
    assert_eq!(of_xml.value(), resource.value());
    assert_eq!(String::from_utf8(write_json(&of_xml, false)).unwrap(), json);
    for pretty in [false, true] {
        let written = write_xml(&resource, pretty).unwrap();
        assert_eq!(read_xml(&written, &Limits::default()).unwrap().value(), resource.value());
    }
}

#[track_caller]
fn refused(xml: impl AsRef<[u8]>, kind: InvalidKind, expression: &str, words: &str) {
    let invalid = read_xml(xml.as_ref(), &Limits::default()).unwrap_err();
    let issue = &invalid.issues[0];
    assert_eq!(invalid.kind, kind, "{issue:?}");
    assert_eq!(issue.expression.as_deref().unwrap_or("-"), expression, "{issue:?}");
    assert!(issue.text.contains(words), "{issue:?}");
}

#[track_caller]
fn malformed(xml: impl AsRef<[u8]>, expression: &str, words: &str) {
    refused(xml, InvalidKind::Malformed, expression, words);
}

#[test]
fn the_xml_we_write_is_what_the_specification_shows() {
    let json =
        br#"{"resourceType":"Patient","birthDate":"1970","active":true,"id":"p","name":[{"given":["A"],"id":"n"}]}"#;
    let resource = read_json(json, &Limits::default()).unwrap();
    let xml = String::from_utf8(write_xml(&resource, true).unwrap()).unwrap();
    assert_eq!(
        xml,
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Patient xmlns="http://hl7.org/fhir">
  <id value="p"/>
  <active value="true"/>
  <name id="n">
    <given value="A"/>
  </name>
  <birthDate value="1970"/>
</Patient>"#
    );
    assert!(!write_xml(&resource, false).unwrap().contains(&b'\n'));
}

#[test]
fn numbers_and_booleans_are_what_the_element_says() {
    twins(
        r#"<Observation xmlns="http://hl7.org/fhir"><status value="final"/><code><coding><code value="1"/>
           <userSelected value="false"/></coding></code><valueQuantity><value value="1.10"/></valueQuantity></Observation>"#,
        r#"{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"1","userSelected":false}]},"valueQuantity":{"value":1.10}}"#,
    );
    twins(
        r#"<Basic xmlns="http://hl7.org/fhir"><extension url="a"><valueDecimal value="1.0e-3"/></extension><extension url="b"><valuePositiveInt value="7"/></extension></Basic>"#,
        r#"{"resourceType":"Basic","extension":[{"url":"a","valueDecimal":1.0e-3},{"url":"b","valuePositiveInt":7}]}"#,
    );
    for (name, value, words) in [
        ("active", "TRUE", "boolean"),
        ("active", " true", "boolean"),
        ("multipleBirthInteger", "007", "integer"),
        ("multipleBirthInteger", "+7", "integer"),
        ("multipleBirthInteger", "7.0", "integer"),
        ("multipleBirthInteger", "", "integer"),
    ] {
        malformed(patient(&format!(r#"<{name} value="{value}"/>"#)), &format!("Patient.{name}"), words);
    }
    let decimal = |value: &str| {
        format!(
            r#"<Basic xmlns="http://hl7.org/fhir"><extension url="a"><valueDecimal value="{value}"/></extension></Basic>"#
        )
    };
    for value in [".5", "1.", "NaN", "1,5", "0x1", "", "1 ", " 1", &"1".repeat(65), "1e301"] {
        assert_eq!(read(&decimal(value)).unwrap_err().kind, InvalidKind::Malformed, "{value}");
    }
}

#[test]
fn values_with_a_second_half_keep_their_places() {
    twins(
        &patient(
            r#"<name><given value="A"/><given id="g"/><given value="C"><extension url="u"><valueString value="v"/></extension></given></name>
               <birthDate id="b" value="1970"/><deceasedBoolean><extension url="why"><valueCode value="unknown"/></extension></deceasedBoolean>"#,
        ),
        concat!(
            r#"{"resourceType":"Patient","name":[{"given":["A",null,"C"],"#,
            r#""_given":[null,{"id":"g"},{"extension":[{"url":"u","valueString":"v"}]}]}],"#,
            r#""birthDate":"1970","_birthDate":{"id":"b"},"#,
            r#""_deceasedBoolean":{"extension":[{"url":"why","valueCode":"unknown"}]}}"#
        ),
    );
    twins(
        &patient(r#"<name><given id="g"/></name>"#),
        r#"{"resourceType":"Patient","name":[{"_given":[{"id":"g"}]}]}"#,
    );
}

#[test]
fn resources_stand_inside_resources() {
    twins(
        r#"<Bundle xmlns="http://hl7.org/fhir"><type value="collection"/><entry><resource><Patient><id value="p"/>
           <contained><Organization><id value="o"/></Organization></contained><contained><Patient><id value="q"/></Patient></contained>
           <active value="true"/></Patient></resource></entry><entry><fullUrl value="urn:x"/></entry></Bundle>"#,
        concat!(
            r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p","#,
            r#""contained":[{"resourceType":"Organization","id":"o"},{"resourceType":"Patient","id":"q"}],"active":true}},"#,
            r#"{"fullUrl":"urn:x"}]}"#
        ),
    );
    twins(
        r#"<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="a"/><resource><Basic><id value="b"/></Basic></resource><part><name value="c"/><part><name value="d"/></part></part></parameter></Parameters>"#,
        r#"{"resourceType":"Parameters","parameter":[{"name":"a","resource":{"resourceType":"Basic","id":"b"},"part":[{"name":"c","part":[{"name":"d"}]}]}]}"#,
    );
    malformed(patient("<contained/>"), "Patient.contained[0]", "exactly one resource");
    malformed(patient(r#"<contained id="c"><Basic/></contained>"#), "Patient.contained[0]", "exactly one resource");
    malformed(patient("<contained><Basic/><Basic/></contained>"), "Patient.contained[0]", "exactly one resource");
    malformed(patient(r#"<contained><HumanName/></contained>"#), "Patient.contained[0]", "no R4 resource type");
}

#[test]
fn an_element_that_is_itself_called_resource_type_is_only_an_element() {
    twins(
        r#"<ExampleScenario xmlns="http://hl7.org/fhir"><instance><resourceId value="a"/><resourceType value="Patient"/></instance></ExampleScenario>"#,
        r#"{"resourceType":"ExampleScenario","instance":[{"resourceId":"a","resourceType":"Patient"}]}"#,
    );
}

#[test]
fn white_space_and_quotes_in_values_come_back() {
    let text = "a\tb\nc\rd  \"e\" 'f' <g> &h; \u{a0}\u{2028}😀 ";
    let json =
        serde_json::json!({"resourceType": "Basic", "extension": [{"url": text, "valueString": text, "id": text}]});
    let resource = Resource::from_value(json).unwrap();
    let xml = write_xml(&resource, false).unwrap();
    assert_eq!(read_xml(&xml, &Limits::default()).unwrap().value(), resource.value());
    // What stands as it is in an attribute is a space to every XML parser.
    assert_eq!(
        read(&patient("<gender value=\"a\r\n\tb&#10;c&#xA;d&apos;\"/>")).unwrap().text("gender"),
        Some("a  b\nc\nd'")
    );
}

#[test]
fn the_narrative_is_kept_as_written() {
    for div in [
        r#"<div xmlns="http://www.w3.org/1999/xhtml"> <p  class='a' >x &amp; <b>y</b>  z<br/><br /></p><!-- c -->&#160;</div>"#,
        r#"<div xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" id="d"><div><div/>a &lt; b</div><![CDATA[<i>]]>
</div>"#,
        r#"<div class="x" xmlns="http://www.w3.org/1999/xhtml"/>"#,
    ] {
        let resource =
            read(&patient(&format!(r#"<text><status value="generated"/>{div}</text><active value="true"/>"#))).unwrap();
        assert_eq!(resource.text("text.div"), Some(div));
        assert_eq!(resource.value()["active"], true);
        for pretty in [false, true] {
            let again = read_xml(&write_xml(&resource, pretty).unwrap(), &Limits::default()).unwrap();
            assert_eq!(again.text("text.div"), Some(div));
        }
    }
}

#[test]
fn a_narrative_that_leans_on_the_document_around_it_stands_alone() {
    let xml = r#"<f:Patient xmlns:f="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"><f:text>
        <h:div class="a&quot;b"><h:p title="x">y<h:br/></h:p></h:div></f:text></f:Patient>"#;
    let div = r#"<div xmlns="http://www.w3.org/1999/xhtml" class="a&quot;b"><p title="x">y<br/></p></div>"#;
    assert_eq!(read(xml).unwrap().text("text.div"), Some(div));
    let xml = r#"<f:Patient xmlns:f="http://hl7.org/fhir" xmlns="http://www.w3.org/1999/xhtml"><f:text><div>y</div></f:text></f:Patient>"#;
    assert_eq!(read(xml).unwrap().text("text.div"), Some(r#"<div xmlns="http://www.w3.org/1999/xhtml">y</div>"#));
}

#[test]
fn a_narrative_that_is_not_xhtml_is_refused() {
    let narrative = |div: &str| patient(&format!("<text>{div}</text>"));
    malformed(narrative("<div>a</div>"), "Patient.text.div", "namespace http://www.w3.org/1999/xhtml");
    let div = |inside: &str| narrative(&format!(r#"<div xmlns="http://www.w3.org/1999/xhtml">{inside}</div>"#));
    malformed(div(r#"<svg xmlns="http://www.w3.org/2000/svg"/>"#), "Patient.text.div", "outside the namespace");
    malformed(div(r#"<p xmlns:x="urn:x" x:a="b"/>"#), "Patient.text.div", "attribute of another namespace");
    malformed(div("&nbsp;"), "Patient.text.div", "entity");
    malformed(div("&#0;"), "Patient.text.div", "XML");
    malformed(div("&#1;"), "Patient.text.div", "control character");
    malformed(div("<?php x?>"), "Patient.text.div", "processing instruction");
    malformed(div("<p>"), "Patient.text.div", "do not match");
    malformed(div("]]>"), "Patient.text.div", "]]>");
    malformed(div("<!-- a -- b -->"), "Patient.text.div", "XML");
    malformed(div(r#"<p a="1"b="2"/>"#), "Patient.text.div", "attribute");
    malformed(div(r#"<p a="<"/>"#), "Patient.text.div", "attribute");
    malformed(div(r#"<p a=b/>"#), "Patient.text.div", "attribute");
    malformed(div(r#"<p a/>"#), "Patient.text.div", "attribute");
    malformed(div("<p\u{e9}/>"), "Patient.text.div", "name");
    for text in [
        "a",
        "<p/>",
        "<div>a</div>",
        r#"<div xmlns="http://www.w3.org/1999/xhtml">&nbsp;</div>"#,
        r#"<div xmlns="http://www.w3.org/1999/xhtml"><p></div>"#,
        r#"<div xmlns="http://www.w3.org/1999/xhtml"/>x"#,
        r#" <div xmlns="http://www.w3.org/1999/xhtml"/>"#,
        r#"<div xmlns="http://www.w3.org/1999/xhtml"/><evil/>"#,
    ] {
        let resource =
            Resource::from_value(serde_json::json!({"resourceType": "Patient", "text": {"div": text}})).unwrap();
        let invalid = write_xml(&resource, false).unwrap_err();
        assert_eq!(invalid.issues[0].expression.as_deref(), Some("Patient.text.div"), "{text}");
    }
}

#[test]
fn comments_and_schema_locations_may_go() {
    let xml = r#"<?xml version="1.0" encoding="utf-8" standalone="yes"?><!-- a --><Patient xmlns="http://hl7.org/fhir"
        xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://hl7.org/fhir ../patient.xsd"
        ><!-- b --><active value="true"><!-- c --></active></Patient><!-- d -->
        "#;
    assert_eq!(read(&format!("\u{feff}{xml}")).unwrap().value()["active"], true);
}

#[test]
fn what_would_be_lost_is_refused() {
    malformed(patient(r#"<foo value="x"/>"#), "Patient.foo", "no such element");
    malformed(patient(r#"<Name><family value="x"/></Name>"#), "Patient.Name", "no such element");
    malformed(patient(r#"<name id="n" use="usual"/>"#), "Patient.name[0]", "attribute that FHIR does not know");
    malformed(patient(r#"<name><family value="a" xml:lang="en"/></name>"#), "Patient.name[0].family", "attribute");
    malformed(patient(r#"<name><id value="a"/></name>"#), "Patient.name[0].id", "no such element");
    malformed(patient(r#"<name value="a"/>"#), "Patient.name[0]", "no such attribute");
    malformed(patient(r#"<name url="a"><family value="b"/></name>"#), "Patient.name[0]", "no such attribute");
    malformed(patient(r#"<gender url="a" value="b"/>"#), "Patient.gender", "only an extension");
    malformed(patient(r#"<gender value="a">b</gender>"#), "Patient.gender", "Text stands between");
    malformed(patient("<gender><![CDATA[b]]></gender>"), "Patient.gender", "Text stands between");
    malformed(patient("b"), "Patient", "Text stands between");
    malformed(patient(r#"<gender value="a"><value value="b"/></gender>"#), "Patient.gender.value", "no such element");
    malformed(patient(r#"<gender value="a"/><gender value="b"/>"#), "Patient.gender", "more than once");
    malformed(patient("<name/>"), "Patient.name[0]", "empty");
    malformed(patient("<name></name>"), "Patient.name[0]", "empty");
    malformed(patient(r#"<gender/>"#), "Patient.gender", "empty");
    malformed(
        patient(r#"<extension url="a"><url value="b"/></extension>"#),
        "Patient.extension[0].url",
        "no such element",
    );
    malformed(r#"<Patient xmlns="http://hl7.org/fhir" id="p"/>"#, "Patient", "no attributes");
    malformed(r#"<HumanName xmlns="http://hl7.org/fhir"/>"#, "Resource", "no R4 resource type");
    malformed(r#"<Jane xmlns="http://hl7.org/fhir"/>"#, "Resource", "no R4 resource type");
}

#[test]
fn another_namespace_is_refused() {
    malformed("<Patient/>", "Patient", "not in the namespace http://hl7.org/fhir");
    malformed(r#"<Patient xmlns="urn:hl7-org:v3"/>"#, "Patient", "not in the namespace");
    malformed("<f:Patient/>", "Patient", "namespace");
    malformed(patient(r#"<gender xmlns="" value="male"/>"#), "Patient.gender", "not in the namespace");
    malformed(
        patient(r#"<gender xmlns:x="urn:x" x:value="male"/>"#),
        "Patient.gender",
        "attribute that FHIR does not know",
    );
    let prefixed = r#"<f:Patient xmlns:f="http://hl7.org/fhir"><f:gender value="male"/></f:Patient>"#;
    assert_eq!(read(prefixed).unwrap().text("gender"), Some("male"));
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let whole = patient(
        r#"<name><family value="A"/><given value="B"/></name><text><div xmlns="http://www.w3.org/1999/xhtml"><p>x</p></div></text>"#,
    );
    assert!(read(&whole).is_ok());
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end]).unwrap_err().kind, InvalidKind::Malformed, "{end}");
    }
    malformed(format!("{whole}x"), "Patient", "");
    malformed(format!("{whole}{whole}"), "Patient", "follows the resource");
    malformed(format!("{whole}</Patient>"), "Patient", "do not match");
    malformed(format!("x{whole}"), "Resource", "Text stands");
    malformed(format!(" <?xml version=\"1.0\"?>{whole}"), "Resource", "declaration");
    malformed(format!("<?xml version=\"1.1\"?>{whole}"), "Resource", "declaration");
    malformed(format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{whole}"), "Resource", "UTF-8");
    malformed(patient("<name></nom>"), "Patient.name[0]", "do not match");
    malformed(patient(r#"<gender value="a" value="b"/>"#), "Patient.gender", "twice");
    malformed(patient(r#"<gender value="a"id="b"/>"#), "Patient.gender", "name=");
    malformed(patient("<gender value=a/>"), "Patient.gender", "name=");
    malformed(patient("<gender value=\"&#0;\"/>"), "Patient.gender", "");
    malformed(patient("<gender value=\"&#8;\"/>"), "Patient.gender", "control character");
    malformed(patient("<gender value=\"\u{8}\"/>"), "Resource", "control character");
    malformed(
        b"<Patient xmlns=\"http://hl7.org/fhir\"><gender value=\"\xff\"/></Patient>",
        "-",
        "not UTF-8 from byte 52",
    );
    for text in ["", " ", "<", "<!--", "<![CDATA[", "<?xml", "<Patient", "{\"resourceType\":\"Patient\"}", "&", "&#x;"]
    {
        assert_eq!(read(text).unwrap_err().kind, InvalidKind::Malformed, "{text}");
    }
}

#[test]
fn entities_and_instructions_are_refused() {
    for start in [
        "<!DOCTYPE Patient>",
        "<!DOCTYPE Patient SYSTEM \"file:///etc/passwd\">",
        "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>",
    ] {
        malformed(format!("{start}{}", patient(r#"<gender value="&b;"/>"#)), "Resource", "DOCTYPE");
    }
    malformed(patient(r#"<gender value="&b;"/>"#), "Patient.gender", "entity");
    malformed(patient("&b;"), "Patient", "entity");
    malformed(format!("<?xml-stylesheet href=\"x\"?>{}", patient("")), "Resource", "processing instruction");
    malformed(format!("{}<?php x?>", patient("")), "Patient", "processing instruction");
}

#[test]
fn what_is_over_a_limit_says_the_limit() {
    let limits = Limits { bytes: 400, values: 12, depth: 5, entries: 2, ..Limits::default() };
    let deep = r#"<extension url="a"><extension url="a"><extension url="a"/></extension></extension>"#;
    let many = r#"<name><given value="a"/></name>"#.repeat(5);
    let bundle = |n: usize| {
        format!(
            r#"<Bundle xmlns="http://hl7.org/fhir">{}</Bundle>"#,
            r#"<entry><fullUrl value="a"/></entry>"#.repeat(n)
        )
    };
    for (xml, words, expression) in [
        (patient(&"<!-- -->".repeat(50)), "at most 400", None),
        (patient(&many), "12 values", Some("Patient.name[3].given[0]")),
        (patient(deep), "5 levels", Some("Patient.extension[0].extension[0].extension[0]")),
        (bundle(3), "2 entries", Some("Bundle.entry[2]")),
    ] {
        let invalid = read_xml(xml.as_bytes(), &limits).unwrap_err();
        assert_eq!(invalid.kind, InvalidKind::TooLarge, "{xml}");
        assert!(invalid.issues[0].text.contains(words), "{invalid:?}");
        let expression_said = invalid.issues[0].expression.as_deref();
        assert!(expression.is_none() || expression == expression_said || words == "12 values", "{invalid:?}");
    }
    assert!(read_xml(bundle(2).as_bytes(), &limits).is_ok());
}

#[test]
fn what_json_takes_in_depth_xml_takes() {
    let mut json = r#"{"url":"a"}"#.to_owned();
    for _ in 0..30 {
        json = format!(r#"{{"url":"a","extension":[{json}]}}"#);
    }
    let json = format!(r#"{{"resourceType":"Basic","extension":[{json}]}}"#);
    for (depth, fits) in [(64, true), (63, true), (62, false)] {
        let limits = Limits { depth, ..Limits::default() };
        let resource = read_json(json.as_bytes(), &Limits::default()).unwrap();
        let xml = write_xml(&resource, false).unwrap();
        assert_eq!(read_json(json.as_bytes(), &limits).is_ok(), fits, "{depth}");
        assert_eq!(read_xml(&xml, &limits).is_ok(), fits, "{depth}");
    }
}

#[test]
fn bombs_are_refused_at_once() {
    let attributes = |prefix: &str| (0..80_000).map(|n| format!(" {prefix}{n}=\"\"")).collect::<String>();
    let div =
        |inside: String| patient(&format!(r#"<text><div xmlns="http://www.w3.org/1999/xhtml">{inside}</div></text>"#));
    for bomb in [
        patient(&r#"<extension url="a">"#.repeat(100_000)),
        div("<div>".repeat(100_000)),
        patient(&format!("<name{}/>", attributes("a"))),
        patient(&format!("<name{}/>", attributes("xmlns:a"))),
        div(format!("<p{}/>", attributes("a"))),
        patient(&r#"<name><given value="a"/></name>"#.repeat(40_000)),
        div("<p/>".repeat(110_000)),
        format!(
            r#"<Bundle xmlns="http://hl7.org/fhir">{}</Bundle>"#,
            "<entry><fullUrl value=\"a\"/></entry>".repeat(5_001)
        ),
        patient(&format!("<{}/>", "a".repeat(1_000_000))),
        patient(&format!("<gender value=\"{}\"/>", "&".repeat(1_000_000))),
    ] {
        let limits = Limits { values: 100_000, ..Limits::default() };
        let began = Instant::now();
        let invalid = read_xml(bomb.as_bytes(), &limits).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?} {invalid:?}", began.elapsed());
        assert!(invalid.issues[0].expression.as_deref().is_none_or(|e| e.len() < 700));
    }
}

#[test]
fn what_has_no_xml_form_is_not_written() {
    for (json, expression) in [
        (r#"{"resourceType":"Patient","foo":1}"#, "Patient.foo"),
        (r#"{"resourceType":"Patient","fhir_comments":["a"]}"#, "Patient.fhir_comments"),
        (r#"{"resourceType":"Jane","id":"a"}"#, "Jane"),
        (r#"{"resourceType":"Patient","active":"true"}"#, "Patient.active"),
        (r#"{"resourceType":"Patient","gender":true}"#, "Patient.gender"),
        (r#"{"resourceType":"Patient","gender":["male"]}"#, "Patient.gender"),
        (r#"{"resourceType":"Patient","name":{"family":"A"}}"#, "Patient.name"),
        (r#"{"resourceType":"Patient","name":["A"]}"#, "Patient.name[0]"),
        (r#"{"resourceType":"Patient","_name":[{"id":"a"}]}"#, "Patient.name[0]"),
        (r#"{"resourceType":"Patient","name":[{"given":["A",null]}]}"#, "Patient.name[0].given[1]"),
        (r#"{"resourceType":"Patient","multipleBirthInteger":1.5}"#, "Patient.multipleBirthInteger"),
        (r#"{"resourceType":"Patient","contained":[{"id":"a"}]}"#, "Patient.contained[0]"),
        (r#"{"resourceType":"Patient","extension":[{"url":"a","_url":{"id":"b"}}]}"#, "Patient.extension[0].url"),
        (r#"{"resourceType":"Patient","_birthDate":{"value":"b"}}"#, "Patient.birthDate.value"),
        (r#"{"resourceType":"Patient","text":{"_div":{"id":"b"}}}"#, "Patient.text.div"),
    ] {
        let resource = read_json(json.as_bytes(), &Limits::default()).unwrap();
        let invalid = write_xml(&resource, false).unwrap_err();
        assert_eq!(invalid.issues[0].expression.as_deref(), Some(expression), "{invalid:?}");
    }
    let mut deep = serde_json::json!({"url": "a"});
    for _ in 0..200 {
        deep = serde_json::json!({"url": "a", "extension": [deep]});
    }
    let resource = Resource::from_value(serde_json::json!({"resourceType": "Basic", "extension": [deep]})).unwrap();
    assert_eq!(write_xml(&resource, false).unwrap_err().kind, InvalidKind::TooLarge);
}
