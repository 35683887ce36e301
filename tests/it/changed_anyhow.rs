//! Good input changed at random places: taken, or refused with the element that is wrong, and never a failure.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::hostile::{SR, post, referral};
use crate::support::{TestApp, build, on_each_database};
use crate::wire::Wire;

/// One change to a tree: which node, what becomes of it, and with what.
type Change = (usize, u8, usize);

/// The places inside a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |name: &str, child: &Value| {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        places(child, &place, found);
        found.push(place);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, child)| below(name, child)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, child)| below(&n.to_string(), child)),
        _ => {}
    }
}

fn change(value: &mut Value, (place, kind, with): Change) {
    let mut found = Vec::new();
    places(value, "", &mut found);
    let Some(place) = found.get(place % found.len().max(1)) else { return };
    let (parent, name) = place.rsplit_once('/').unwrap();
    let copy = value.pointer(place).unwrap().clone();
    let other = value.pointer(&found[with % found.len()]).unwrap().clone();
    match (kind % 5, value.pointer_mut(parent).unwrap()) {
        (0, Value::Object(fields)) => drop(fields.shift_remove(name)),
        (0, Value::Array(items)) => drop(items.remove(name.parse().unwrap())),
        (1, Value::Object(fields)) => drop(fields.insert(format!("_{name}"), copy)),
        (1, Value::Array(items)) => items.push(copy),
        (2, _) => *value.pointer_mut(place).unwrap() = other,
        (3, _) => *value.pointer_mut(place).unwrap() = retyped(copy),
        _ => *value.pointer_mut(place).unwrap() = junk(with),
    }
}

fn retyped(value: Value) -> Value {
    match value {
        Value::String(text) => json!([text]),
        Value::Number(number) => json!(number.to_string()),
        Value::Bool(flag) => json!(flag.to_string()),
        Value::Array(mut items) => items.pop().unwrap_or_default(),
        Value::Object(fields) => json!(fields.into_iter().map(|(_, child)| child).collect::<Vec<_>>()),
        Value::Null => json!({}),
    }
}

fn junk(which: usize) -> Value {
    let all = [
        Value::Null,
        json!([]),
        json!({}),
        json!(""),
        json!(" "),
        json!(true),
        json!(-1),
        json!("Patient/Canaryfeather"),
        json!("#"),
        json!("urn:uuid:"),
        json!("#person"),
        json!("2026-02-29"),
        json!([[]]),
        json!([null]),
        json!("a\u{202e}b"),
        json!({ "reference": "#person" }),
        json!("\u{10ffff}"),
        json!("x".repeat(10_000)),
        serde_json::from_str("1e300").unwrap(),
        json!({ "extension": [{ "url": "x", "valueString": "Zebulonia" }] }),
        json!("9990000018"),
        json!("ServiceRequest"),
    ];
    all[which % all.len()].clone()
}

/// Whether a tree that may be anything was taken; an error says what is wrong with its answer.
async fn answered_well(app: &TestApp, practice: &Wire, path: &str, sent: &Value) -> Result<bool, String> {
    // What was taken before may still be on its way to the practice, and that is stored too.
    app.settled().await;
    let before = app.stored().await;
    let heard = practice.json(path, sent).await;
    let left = app.stored().await != before;
    match heard.status {
        200 | 201 => Ok(true),
        status @ 400..500 => {
            let unnamed = matches!(status, 400 | 422) && heard.expressions().is_empty();
            let unsaid = heard.no_outcome().or(unnamed.then(|| "no element is named".to_owned()));
            let unsaid = unsaid.or(left.then(|| "refused, and something was stored".to_owned()));
            unsaid.map_or(Ok(false), |why| Err(format!("{why}: {}", heard.text)))
        }
        other => Err(format!("{other}: {}", heard.text)),
    }
}

/// A referral as a transaction with its Patient and a Condition.
fn transaction(business: &str) -> Value {
    let person = "urn:uuid:0b6bb1e0-5b3c-4a57-8f5c-2f4b86a8e1a1";
    let mut alone = referral(business);
    let mut patient = alone["contained"][0].clone();
    alone.as_object_mut().unwrap().shift_remove("contained");
    patient.as_object_mut().unwrap().shift_remove("id");
    alone["subject"] = json!({ "reference": person });
    let mut patient = post(patient);
    patient["fullUrl"] = json!(person);
    let condition = json!({ "resourceType": "Condition", "code": { "text": "x" }, "subject": { "reference": person } });
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": [post(alone), patient, post(condition)] })
}

/// What a health coach records on a referral, as a transaction.
fn recording(referral: &str, patient: &str) -> Value {
    let met = "urn:uuid:5d3b0c38-0b5e-4f0a-a8a4-0d1b1a7e5c11";
    let mut encounter = post(build::meeting(referral, patient));
    encounter["fullUrl"] = json!(met);
    let mut entries = vec![encounter];
    for mut resource in [build::pam("56.4", 3), build::goal()] {
        resource["subject"] = json!({ "reference": patient });
        if resource["resourceType"] == "Observation" {
            resource["encounter"] = json!({ "reference": met });
        }
        entries.push(post(resource));
    }
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

/// Sends `cases` trees, each changed somewhere, and finds the smallest change that is not answered well.
async fn changed_anyhow(app: &TestApp, caller: &Wire, cases: u32, whole: impl Fn(u32) -> (&'static str, Value)) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Cases::default(), rng);
    let changes = proptest::collection::vec((0..4096_usize, 0..5_u8, 0..4096_usize), 1..4);
    let (mut taken, mut refused) = (0, 0);
    for case in 0..cases {
        let mut tree = changes.new_tree(&mut runner).unwrap();
        let (path, whole) = whole(case);
        let broken = |changes: Vec<Change>| {
            let mut broken = whole.clone();
            changes.into_iter().for_each(|c| change(&mut broken, c));
            broken
        };
        let mut sent = broken(tree.current());
        let mut why = match answered_well(app, caller, path, &sent).await {
            Ok(true) => {
                taken += 1;
                continue;
            }
            Ok(false) => {
                refused += 1;
                continue;
            }
            Err(why) => why,
        };
        while tree.simplify() {
            let simpler = broken(tree.current());
            if let Err(also) = answered_well(app, caller, path, &simpler).await {
                (sent, why) = (simpler, also);
            } else if !tree.complicate() {
                break;
            }
        }
        panic!("case {case}: {why}\nsent: {sent:#}");
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > cases / 30 && refused > cases / 3, "{taken} taken, {refused} refused: too tame or too wild");
}

on_each_database! {
    async fn whatever_is_changed_in_a_referral_it_is_taken_or_refused_with_its_reason(app: TestApp) {
        let practice = Wire::of(&app.practice("TESTA1").await).await;
        let whole = |case: u32| match case.is_multiple_of(2) {
            true => (SR, referral(&format!("case-{case}"))),
            false => ("/fhir", transaction(&format!("case-{case}"))),
        };
        changed_anyhow(&app, &practice, 300, whole).await;
    }

    async fn whatever_is_changed_in_a_recording_it_is_taken_or_refused_with_its_reason(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = Wire::of(&app.staff("coach-north").await).await;
        let request = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let person = app.rows("select id from person").await[0][0].as_str().unwrap().to_owned();
        let (request, person) = (format!("ServiceRequest/{}", request.id()), format!("Patient/{person}"));
        changed_anyhow(&app, &coach, 200, |_| ("/fhir", recording(&request, &person))).await;
    }
}
