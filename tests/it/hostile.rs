//! Bad bodies at a running server: each a clear refusal that says what to do and names the element, nothing stored,
//! nothing of the input said back or logged, and the server as good as before.

use std::time::Duration;

use serde_json::{Value, json};

use crate::log::log;
use crate::support::{TestApp, on_each_database};
use crate::wire::{Heard, Wire};

/// What stands for a person in every bad input, and must come back nowhere.
const CANARIES: [&str; 5] = ["Canaryfeather", "Zebulonia", "9990001375", "1931-07-13", "canary lane"];
const NUMBER: &str = "https://fhir.nhs.uk/Id/nhs-number";

/// How long a refusal may take. Debug builds read eight megabytes slowly.
const AT_MOST: Duration = if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_secs(1) };

/// A whole, good referral with a contained person.
pub(crate) fn referral(business: &str) -> Value {
    json!({
        "resourceType": "ServiceRequest",
        "contained": [{
            "resourceType": "Patient", "id": "person",
            "identifier": [{ "system": NUMBER, "value": "9990001375" }],
            "name": [{ "use": "official", "family": "Canaryfeather", "given": ["Zebulonia"] }],
            "birthDate": "1931-07-13",
            "address": [{ "line": ["1 canary lane"] }],
        }],
        "identifier": [{ "system": "https://testa1.example/Id/referral", "value": business }],
        "status": "active",
        "intent": "order",
        "priority": "routine",
        "code": { "text": "Canaryfeather asks for help" },
        "subject": { "reference": "#person" },
        "authoredOn": "2026-03-01T10:00:00Z",
        "requester": { "type": "Organization", "identifier": { "system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "TESTA1" } },
        "reasonCode": [{ "text": "Zebulonia of canary lane" }],
    })
}

/// The good referral with `change` made to it.
fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut bad = referral("bad");
    change(&mut bad);
    bad.to_string().into_bytes()
}

/// The good referral for somebody else than the person it contains.
fn for_whom(subject: Value) -> Vec<u8> {
    with(|bad| {
        bad.as_object_mut().unwrap().shift_remove("contained");
        bad["subject"] = subject;
    })
}

/// The good referral as text, with `from` replaced.
fn text(from: &str, to: &str) -> Vec<u8> {
    let good = referral("bad").to_string();
    assert!(good.contains(from), "{from}");
    good.replacen(from, to, 1).into_bytes()
}

fn bundle(entries: Vec<Value>) -> Vec<u8> {
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries }).to_string().into_bytes()
}

pub(crate) fn post(resource: Value) -> Value {
    let url = resource["resourceType"].clone();
    json!({ "resource": resource, "request": { "method": "POST", "url": url } })
}

fn xml(inside: &str) -> Vec<u8> {
    format!("<ServiceRequest xmlns=\"http://hl7.org/fhir\">{inside}</ServiceRequest>").into_bytes()
}

/// One bad body: what it is, media type, path, bytes, the status, and the element that is named ("" for none).
type Bad = (&'static str, &'static str, &'static str, Vec<u8>, u16, &'static str);

pub(crate) const JSON: &str = "application/fhir+json";
const XML: &str = "application/fhir+xml";
pub(crate) const SR: &str = "/fhir/ServiceRequest";

fn bad_bodies() -> Vec<Bad> {
    let good = referral("bad").to_string();
    let mut all: Vec<Bad> = vec![
        ("nothing at all", JSON, SR, vec![], 400, ""),
        ("half of it", JSON, SR, good.as_bytes()[..good.len() / 2].to_vec(), 400, ""),
        ("all but the last brace", JSON, SR, good.as_bytes()[..good.len() - 1].to_vec(), 400, ""),
        ("something after it", JSON, SR, format!("{good} x").into_bytes(), 400, ""),
        ("two of them", JSON, SR, format!("{good}{good}").into_bytes(), 400, ""),
        ("an array of them", JSON, SR, format!("[{good}]").into_bytes(), 400, ""),
        ("a string", JSON, SR, b"\"Canaryfeather\"".to_vec(), 400, ""),
        ("no resourceType", JSON, SR, b"{\"name\":\"Canaryfeather\"}".to_vec(), 400, "resourceType"),
        ("a resourceType that is a person", JSON, SR, b"{\"resourceType\":\"Canaryfeather\"}".to_vec(), 400, "Resource.resourceType"),
        ("nested 100,000 deep", JSON, SR, nested(100_000), 413, ""),
        ("extensions 70 deep", JSON, SR, with(|r| r["extension"] = json!([extension(70)])), 413, "ServiceRequest.extension"),
        ("a key twice", JSON, SR, text("\"status\":\"active\"", "\"status\":\"active\",\"status\":\"draft\""), 400, "ServiceRequest.status"),
        ("a key twice, once escaped", JSON, SR, text("\"status\":\"active\"", "\"status\":\"active\",\"stat\\u0075s\":\"draft\""), 400, "ServiceRequest.status"),
        ("an empty array", JSON, SR, with(|r| r["reasonCode"] = json!([])), 400, "ServiceRequest.reasonCode"),
        ("an empty array deep inside", JSON, SR, with(|r| r["contained"][0]["name"][0]["given"] = json!([])), 400, "ServiceRequest.contained[0].name[0].given"),
        ("an empty object", JSON, SR, with(|r| r["code"] = json!({})), 400, "ServiceRequest.code"),
        ("an empty text", JSON, SR, with(|r| r["code"] = json!({ "text": "" })), 400, "ServiceRequest.code.text"),
        ("a null", JSON, SR, with(|r| r["code"] = Value::Null), 400, "ServiceRequest.code"),
        ("an unknown element", JSON, SR, with(|r| r["favouriteColour"] = json!("x")), 400, "ServiceRequest.favouriteColour"),
        ("an unknown element whose name may be a person's", JSON, SR, with(|r| r["Canaryfeather"] = json!("x")), 400, "ServiceRequest"),
        ("an unknown element that is an array", JSON, SR, with(|r| r["foo"] = json!(["Zebulonia"])), 400, "ServiceRequest.foo"),
        ("__proto__", JSON, SR, with(|r| r["__proto__"] = json!({ "admin": true })), 400, "ServiceRequest"),
        ("constructor", JSON, SR, with(|r| r["code"]["constructor"] = json!({ "prototype": {} })), 400, "ServiceRequest.code.constructor"),
        ("an array where one belongs", JSON, SR, with(|r| r["status"] = json!(["active"])), 400, "ServiceRequest.status"),
        ("one where an array belongs", JSON, SR, with(|r| r["identifier"] = json!({ "value": "Zebulonia" })), 400, "ServiceRequest.identifier"),
        ("a number where text belongs", JSON, SR, with(|r| r["authoredOn"] = json!(20_260_301)), 400, "ServiceRequest.authoredOn"),
        ("a boolean in quotes", JSON, SR, with(|r| r["doNotPerform"] = json!("true")), 400, "ServiceRequest.doNotPerform"),
        ("a code that does not exist", JSON, SR, with(|r| r["status"] = json!("Canaryfeather")), 400, "ServiceRequest.status"),
        ("a priority that does not exist", JSON, SR, with(|r| r["priority"] = json!("now")), 400, "ServiceRequest.priority"),
        ("no status", JSON, SR, with(|r| drop(r.as_object_mut().unwrap().remove("status"))), 400, "ServiceRequest.status"),
        ("no subject", JSON, SR, with(|r| drop(r.as_object_mut().unwrap().remove("subject"))), 400, "ServiceRequest.subject"),
        ("the 30th of February", JSON, SR, with(|r| r["authoredOn"] = json!("2026-02-30")), 400, "ServiceRequest.authoredOn"),
        ("a time without a zone", JSON, SR, with(|r| r["authoredOn"] = json!("2026-03-01T10:00:00")), 400, "ServiceRequest.authoredOn"),
        ("a birth date that is none", JSON, SR, with(|r| r["contained"][0]["birthDate"] = json!("13/07/1931")), 400, "ServiceRequest.contained[0].birthDate"),
        ("two values of one choice", JSON, SR, with(|r| { r["occurrenceDateTime"] = json!("2026-03-01"); r["occurrencePeriod"] = json!({ "start": "2026-03-01" }); }), 400, "ServiceRequest.occurrence"),
        ("an id that climbs", JSON, SR, with(|r| r["id"] = json!("../x")), 400, "ServiceRequest.id"),
        ("a contained id that climbs", JSON, SR, with(|r| r["contained"][0]["id"] = json!("../x")), 400, "ServiceRequest.contained[0].id"),
        ("contained in contained", JSON, SR, with(|r| r["contained"][0]["contained"] = json!([{ "resourceType": "Patient", "id": "y" }])), 400, "ServiceRequest.contained[0].contained"),
        ("another type than the URL says", JSON, "/fhir/Condition", good.clone().into_bytes(), 400, "resourceType"),
        ("an NHS number that fails its check digit", JSON, SR, with(|r| r["contained"][0]["identifier"][0]["value"] = json!("9876543211")), 422, "ServiceRequest.contained[0].identifier[0].value"),
        ("an NHS number with letters", JSON, SR, with(|r| r["contained"][0]["identifier"][0]["value"] = json!("Canaryfeather")), 422, "ServiceRequest.contained[0].identifier[0].value"),
        ("a bad NHS number as subject", JSON, SR, for_whom(json!({ "identifier": { "system": NUMBER, "value": "1234567890" } })), 422, "ServiceRequest.subject.identifier.value"),
        ("a subject that is not here", JSON, SR, for_whom(json!({ "reference": "Patient/Canaryfeather" })), 422, "ServiceRequest.subject"),
        ("a subject that is not contained", JSON, SR, for_whom(json!({ "reference": "#Canaryfeather" })), 400, "ServiceRequest.subject"),
        ("a subject that is a name", JSON, SR, for_whom(json!({ "display": "Zebulonia Canaryfeather" })), 422, "ServiceRequest.subject"),
        ("a subject that climbs", JSON, SR, for_whom(json!({ "reference": "Patient/../../etc/passwd" })), 400, "ServiceRequest.subject"),
        ("a NUL", JSON, SR, text("asks for help", "asks\\u0000for help"), 400, "ServiceRequest.code.text"),
        ("a raw NUL", JSON, SR, text("asks for help", "asks\u{0}for help"), 400, ""),
        ("a lone surrogate", JSON, SR, text("asks for help", "asks \\ud800 help"), 400, ""),
        ("a control character", JSON, SR, text("asks for help", "asks\\u0007for help"), 400, "ServiceRequest.code.text"),
        ("a number of 10,000 digits", JSON, SR, with(|r| r["quantityQuantity"] = serde_json::from_str(&format!("{{\"value\":1{}}}", "0".repeat(10_000))).unwrap()), 400, "ServiceRequest.quantity"),
        ("a number with a huge exponent", JSON, SR, with(|r| r["quantityQuantity"] = serde_json::from_str("{\"value\":1e999999999}").unwrap()), 400, "ServiceRequest.quantity"),
        ("500,001 values", JSON, SR, format!("{{\"resourceType\":\"ServiceRequest\",\"note\":[{}1]}}", "1,".repeat(500_001)).into_bytes(), 413, ""),
        ("a text of ten megabytes", JSON, SR, with(|r| r["code"] = json!({ "text": "canary lane".repeat(1_000_000) })), 413, ""),
        ("a Bundle that is no transaction", JSON, "/fhir", json!({ "resourceType": "Bundle", "type": "collection" }).to_string().into_bytes(), 400, "Bundle.type"),
        ("a referral where a Bundle belongs", JSON, "/fhir", good.clone().into_bytes(), 400, "resourceType"),
        ("5,001 entries", JSON, "/fhir", bundle(vec![post(json!({ "resourceType": "Patient" })); 5_001]), 413, "Bundle.entry"),
        ("an entry without a request", JSON, "/fhir", bundle(vec![post(referral("a")), json!({ "resource": referral("b") })]), 400, "Bundle.entry[1].request"),
        ("an entry without a resource", JSON, "/fhir", bundle(vec![post(referral("a")), json!({ "request": { "method": "POST", "url": "Patient" } })]), 400, "Bundle.entry[1].resource"),
        ("an entry to another URL", JSON, "/fhir", bundle(vec![post(referral("a")), json!({ "resource": referral("b"), "request": { "method": "POST", "url": "Patient" } })]), 400, "Bundle.entry[1].request.url"),
        ("an entry of a type that does not exist", JSON, "/fhir", bundle(vec![post(referral("a")), post(json!({ "resourceType": "Canaryfeather" }))]), 400, "Bundle.entry[1].resource"),
        ("an entry of a type that is not kept", JSON, "/fhir", bundle(vec![post(referral("a")), post(json!({ "resourceType": "Basic", "code": { "text": "x" } })), post(json!({ "resourceType": "MessageHeader", "eventUri": "urn:x", "source": { "endpoint": "urn:y" } }))]), 422, "Bundle.entry[2].resource"),
        ("a last entry that is bad", JSON, "/fhir", bundle(vec![post(referral("a")), post(json!({ "resourceType": "Patient", "birthDate": "yesterday" }))]), 400, "Bundle.entry[1].resource.birthDate"),
        ("a last entry with a bad NHS number", JSON, "/fhir", bundle(vec![post(json!({ "resourceType": "Patient", "name": [{ "family": "Canaryfeather" }] })), post(json!({ "resourceType": "Patient", "identifier": [{ "system": NUMBER, "value": "9876543211" }] }))]), 422, "Bundle.entry[1].resource.identifier[0].value"),
        ("a last entry whose subject is not here", JSON, "/fhir", bundle(vec![post(json!({ "resourceType": "Patient", "name": [{ "family": "Canaryfeather" }] })), post(serde_json::from_slice(&for_whom(json!({ "reference": "Patient/nobody" }))).unwrap())]), 422, "Bundle.entry[1].resource.subject"),
        ("two entries of one fullUrl", JSON, "/fhir", { let mut one = post(json!({ "resourceType": "Patient", "name": [{ "family": "Canaryfeather" }] })); one["fullUrl"] = json!("urn:uuid:0b6bb1e0-5b3c-4a57-8f5c-2f4b86a8e1a1"); bundle(vec![one.clone(), one]) }, 400, "Bundle.entry[1].fullUrl"),
        ("1,500 entries whose narratives name each other, and a bad one", JSON, "/fhir", many(|n, entry| {
            entry["fullUrl"] = json!(urn(n));
            let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"{}\">next</a></div>", urn(n + 1));
            entry["resource"]["text"] = json!({ "status": "generated", "div": div });
        }), 422, "Bundle.entry[1500].resource.identifier[0].value"),
        ("1,500 entries on a condition each, and a bad one", JSON, "/fhir", many(|n, entry| {
            entry["request"]["ifNoneExist"] = json!(format!("identifier=https://example.org/many|{n}"));
            entry["resource"]["identifier"] = json!([{ "system": "https://example.org/many", "value": n.to_string() }]);
        }), 422, "Bundle.entry[1500].resource.identifier[0].value"),
        ("XML that is cut off", XML, SR, b"<ServiceRequest xmlns=\"http://hl7.org/fhir\"><status".to_vec(), 400, ""),
        ("XML of no namespace", XML, SR, b"<ServiceRequest><status value=\"Canaryfeather\"/></ServiceRequest>".to_vec(), 400, ""),
        ("XML with an unknown element", XML, SR, xml("<favouriteColour value=\"x\"/>"), 400, "ServiceRequest.favouriteColour"),
        ("XML with a DOCTYPE", XML, SR, format!("<!DOCTYPE ServiceRequest [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>{}", String::from_utf8(xml("<status value=\"&x;\"/>")).unwrap()).into_bytes(), 400, ""),
        ("a thousand million laughs", XML, SR, laughs(), 400, ""),
        ("an entity that nobody defined", XML, SR, xml("<status value=\"&Canaryfeather;\"/>"), 400, ""),
        ("80,000 attributes", XML, SR, attributes(80_000), 413, ""),
        ("XML nested 50,000 deep", XML, SR, "<extension xmlns=\"http://hl7.org/fhir\">".repeat(50_000).into_bytes(), 400, ""),
        ("XML extensions 70 deep", XML, SR, xml(&format!("{}{}", "<extension url=\"x\">".repeat(70), "</extension>".repeat(70))), 413, "ServiceRequest.extension"),
        ("XML that is not UTF-8", XML, SR, [b"<ServiceRequest xmlns=\"http://hl7.org/fhir\"><status value=\"".as_slice(), b"\xff\xfe\"/></ServiceRequest>"].concat(), 400, ""),
        ("XML that says it is Latin-1", XML, SR, b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><ServiceRequest xmlns=\"http://hl7.org/fhir\"><status value=\"\xe9\"/></ServiceRequest>".to_vec(), 400, ""),
        ("a form", "application/x-www-form-urlencoded", SR, b"family=Canaryfeather".to_vec(), 415, ""),
        ("text", "text/plain", SR, good.clone().into_bytes(), 415, ""),
        ("no media type at all, only noise", "/;;;=", SR, good.clone().into_bytes(), 415, ""),
        ("a JSON Patch", "application/json-patch+json", SR, b"[{\"op\":\"add\",\"path\":\"/x\",\"value\":\"Canaryfeather\"}]".to_vec(), 415, ""),
        ("a type that does not exist", JSON, "/fhir/Canaryfeather", good.clone().into_bytes(), 404, ""),
        ("a type in small letters", JSON, "/fhir/servicerequest", good.clone().into_bytes(), 404, ""),
        ("a claim without a role", JSON, "/fhir/Task/$claim-next", json!({ "resourceType": "Parameters" }).to_string().into_bytes(), 422, "Parameters.parameter.where(name='role').value"),
        ("a claim that is no Parameters", JSON, "/fhir/Task/$claim-next", good.clone().into_bytes(), 400, "resourceType"),
    ];
    let mut invalid = good.clone().into_bytes();
    let at = good.find("asks").unwrap();
    invalid[at] = 0xff;
    all.push(("bytes that are not UTF-8", JSON, SR, invalid, 400, ""));
    all.push(("UTF-16", JSON, SR, good.encode_utf16().flat_map(u16::to_le_bytes).collect(), 400, ""));
    all
}

/// A transaction of 1,500 Patients, made each by itself, and one whose NHS number is wrong.
fn many(with: impl Fn(usize, &mut Value)) -> Vec<u8> {
    let one = |n| {
        let mut entry = post(json!({ "resourceType": "Patient", "name": [{ "family": "Canaryfeather" }] }));
        with(n, &mut entry);
        entry
    };
    let bad = json!({ "resourceType": "Patient", "identifier": [{ "system": NUMBER, "value": "9876543211" }] });
    bundle((0..1_500).map(one).chain([post(bad)]).collect())
}

fn urn(n: usize) -> String {
    format!("urn:uuid:0b6bb1e0-5b3c-4a57-8f5c-{n:012}")
}

fn nested(depth: usize) -> Vec<u8> {
    format!("{{\"resourceType\":\"ServiceRequest\",\"note\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
}

fn extension(depth: usize) -> Value {
    let innermost = json!({ "url": "https://example.org/x", "valueString": "Zebulonia" });
    (1..depth).fold(innermost, |inner, _| json!({ "url": "https://example.org/x", "extension": [inner] }))
}

fn laughs() -> Vec<u8> {
    let mut entities = "<!ENTITY l0 \"Canaryfeather\">".to_owned();
    for n in 1..10 {
        entities.push_str(&format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10)));
    }
    format!("<!DOCTYPE x [{entities}]><ServiceRequest xmlns=\"http://hl7.org/fhir\"><status value=\"&l9;\"/></ServiceRequest>").into_bytes()
}

fn attributes(count: usize) -> Vec<u8> {
    let all: String = (0..count).map(|n| format!(" a{n}=\"Zebulonia\"")).collect();
    format!("<ServiceRequest xmlns=\"http://hl7.org/fhir\"{all}/>").into_bytes()
}

/// What is wrong with a refusal, if anything.
fn amiss(heard: &Heard, status: u16, expression: &str) -> Option<String> {
    let mut said = Vec::new();
    if heard.status != status {
        said.push(format!("status {} instead of {status}", heard.status));
    }
    if heard.status >= 400 {
        said.extend(heard.no_outcome());
    }
    let named = heard.expressions();
    if !expression.is_empty() && !named.iter().any(|e| e.starts_with(expression)) {
        said.push(format!("it names {named:?} instead of {expression}"));
    }
    if heard.took > AT_MOST {
        said.push(format!("it took {:?}", heard.took));
    }
    if let Some(canary) = CANARIES.iter().find(|c| echoed(heard, c)) {
        said.push(format!("it says {canary} back"));
    }
    (!said.is_empty()).then(|| format!("{}: {}", said.join("; "), heard.text.chars().take(600).collect::<String>()))
}

/// A name of an element that does not exist is said back: it is what has to be taken out.
fn echoed(heard: &Heard, canary: &str) -> bool {
    let mut text = heard.text.clone();
    for expression in heard.expressions() {
        text = text.replace(&expression, "");
    }
    text.contains(canary) || heard.head.contains(canary)
}

/// How long thirty good referrals take, the middle one.
async fn median(practice: &Wire, name: &str) -> Duration {
    let mut times = Vec::new();
    for n in 0..30 {
        let heard = practice.json(SR, &referral(&format!("{name}-{n}"))).await;
        assert_eq!(heard.status, 201, "{}", heard.text);
        times.push(heard.took);
    }
    times.sort();
    times[15]
}

/// Sends each bad request, and says what was wrong with its refusal or with what it left behind.
pub(crate) async fn refused<'a>(
    app: &TestApp,
    bad: impl Iterator<Item = (String, impl Future<Output = (Heard, u16, String)> + 'a)>,
) {
    let log = log();
    let mut before = app.stored().await;
    let mut wrong = Vec::new();
    for (what, sent) in bad {
        let (heard, status, expression) = sent.await;
        wrong.extend(amiss(&heard, status, &expression).map(|why| format!("{what}: {why}")));
        let after = app.stored().await;
        if after != before {
            wrong.push(format!("{what}: rows were {before:?} and are {after:?}"));
            before = after;
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let said = log.text();
    assert!(said.contains("answered"), "the log was not listened to");
    for canary in CANARIES {
        assert!(!said.contains(canary), "{canary} is in the log");
    }
}

on_each_database! {
    async fn a_bad_body_is_refused_with_its_reason_and_leaves_nothing_and_slows_nobody(app: TestApp) {
        let practice = Wire::of(&app.practice("TESTA1").await).await;
        let before = median(&practice, "before").await;
        let send = |(what, media, path, body, status, expression): Bad| {
            let practice = practice.clone();
            let sent = async move { (practice.post(path, media, &body).await, status, expression.to_owned()) };
            (what.to_owned(), sent)
        };
        refused(&app, bad_bodies().into_iter().map(send)).await;
        let after = median(&practice, "after").await;
        println!("a good referral took {before:?} before and {after:?} after");
        assert!(after < before * 5 + Duration::from_millis(100), "{before:?} before, {after:?} after");
    }
}

on_each_database! {
    async fn a_hundred_megabytes_are_refused_with_the_limit(app: TestApp) {
        let practice = Wire::of(&app.practice("TESTA1").await).await;
        let body = vec![b'7'; 100 * 1024 * 1024];
        let send = |what: &str, head: &'static str| {
            let (practice, body) = (practice.clone(), body.as_slice());
            let headers: Vec<(&'static str, &'static [u8])> = match head {
                "" => vec![("Content-Type", JSON.as_bytes())],
                coding => vec![("Content-Type", JSON.as_bytes()), ("Content-Encoding", coding.as_bytes())],
            };
            (what.to_owned(), async move {
                let size = if head.is_empty() { body.len() } else { 1000 };
                let heard = practice.send(&format!("POST {SR}"), &headers, &body[..size]).await;
                (heard, if head.is_empty() { 413 } else { 415 }, String::new())
            })
        };
        let bad = [send("100 MB", ""), send("gzip", "gzip"), send("deflate", "deflate"), send("br", "br")];
        refused(&app, bad.into_iter()).await;
    }
}
