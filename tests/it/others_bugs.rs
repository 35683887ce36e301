//! What went wrong in other FHIR servers, by the threads in which it was told.

use std::collections::HashSet;

use at_once::all;
use serde_json::{Value, json};

use crate::lossless::difference;
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

/// Awaits all of them at the same time.
mod at_once {
    use std::future::IntoFuture;

    use tokio::task::JoinSet;

    pub(super) async fn all<A>(asked: impl IntoIterator<Item = A>) -> Vec<A::Output>
    where
        A: IntoFuture + Send + 'static,
        A::IntoFuture: Send,
        A::Output: Send + 'static,
    {
        let mut set = JoinSet::new();
        for ask in asked {
            set.spawn(async move { ask.await });
        }
        set.join_all().await
    }
}

const AT_ONCE: usize = 32;

fn long_term(name: &str) -> Value {
    json!({
        "resourceType": "Condition",
        "identifier": [{ "system": "https://practice.example/Id/condition", "value": name }],
        "code": { "text": "Long-term condition" },
        "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": build::ADA.0 } },
    })
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

fn transaction(entries: Vec<Value>) -> Value {
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

/// An entry that makes `resource` unless one has its identifier.
fn unless_there(resource: Value, name: &str) -> Value {
    let url = resource["resourceType"].clone();
    let criteria = format!("identifier=https://practice.example/Id/condition|{name}");
    json!({ "resource": resource, "request": { "method": "POST", "url": url, "ifNoneExist": criteria } })
}

fn put(resource: &Value) -> Value {
    let url = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
    json!({ "resource": resource, "request": { "method": "PUT", "url": url } })
}

async fn made(practice: &Caller, resource: &Value) -> Value {
    practice.post(resource["resourceType"].as_str().unwrap(), resource).await.expect(201).body
}

on_each_database! {
    // hapi-fhir 3141: eight of eight threads were answered 201; microsoft/fhir-server 1382, medplum 4234.
    async fn of_many_conditional_creates_at_once_exactly_one_makes_it(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let criteria = "identifier=https://practice.example/Id/condition|one";
        let ask = |_| practice.post("Condition", &long_term("one")).header("If-None-Exist", criteria);
        let answers = all((0..AT_ONCE).map(ask)).await;
        let ids: HashSet<String> = answers.iter().map(Answer::id).collect();
        let made = statuses(&answers).iter().filter(|status| **status == 201).count();
        assert_eq!((made, ids.len()), (1, 1), "{:?}", statuses(&answers));
        assert_eq!(app.count("resource where kind = 'Condition'").await, 1);
    }

    // medplum 4878, LinuxForHealth 2051: the same, in transactions.
    async fn of_many_conditional_creates_in_bundles_exactly_one_makes_it(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let bundle = transaction(vec![unless_there(long_term("two"), "two")]);
        let answers = all((0..AT_ONCE).map(|_| practice.post("", &bundle))).await;
        let made: HashSet<String> = answers.iter().flat_map(Answer::made).collect();
        let created = answers.iter().filter(|a| a.body["entry"][0]["response"]["status"] == "201 Created").count();
        assert_eq!((created, made.len()), (1, 1), "{:?}", statuses(&answers));
        assert_eq!(app.count("resource where kind = 'Condition'").await, 1);
    }

    // hapi-fhir 4597: the same condition twice in one Bundle made two.
    async fn one_bundle_does_not_make_the_same_thing_twice(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let before = app.stored().await;
        let twice = vec![unless_there(long_term("three"), "three"), unless_there(long_term("three"), "three")];
        let answer = practice.post("", &transaction(twice)).await.expect(422);
        assert_eq!(answer.expression(), "Bundle.entry[1].request.ifNoneExist");
        assert_eq!(app.stored().await, before);
    }

    // The same referral twice in one Bundle was answered 404 here.
    async fn two_referrals_of_one_bundle_do_not_share_an_identifier(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let entry = |resource: &Value| json!({ "resource": resource, "request": { "method": "POST", "url": "ServiceRequest" } });
        let mut referral = build::referral();
        let before = app.stored().await;
        let twice = transaction(vec![entry(&referral), entry(&referral)]);
        let answer = practice.post("", &twice).await.expect(422);
        assert_eq!(answer.expression(), "Bundle.entry[1].resource.identifier");
        assert_eq!(app.stored().await, before);
        // One that is over and came along is no second referral.
        let first = entry(&referral);
        referral["status"] = json!("completed");
        practice.post("", &transaction(vec![first, entry(&referral)])).await.expect(200);
        assert_eq!(app.count("referral").await, 1);
    }

    // medplum 7045: two changes of one resource in a Bundle, of which the last silently won.
    async fn one_bundle_does_not_change_the_same_thing_twice(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let condition = made(&practice, &long_term("four")).await;
        let before = app.stored().await;
        let mut other = condition.clone();
        other["code"] = json!({ "text": "Another" });
        let answer = practice.post("", &transaction(vec![put(&condition), put(&other)])).await.expect(422);
        assert_eq!(answer.expression(), "Bundle.entry[1].request.url");
        assert_eq!(app.stored().await, before);
    }

    // microsoft/fhir-server 4647, medplum 3313: of many changes of one version, more than one was taken.
    async fn of_many_changes_of_one_version_exactly_one_is_taken(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let condition = made(&practice, &long_term("five")).await;
        let at = format!("Condition/{}", condition["id"].as_str().unwrap());
        let ask = |n: usize| {
            let mut changed = condition.clone();
            changed["code"] = json!({ "text": format!("Change {n}") });
            practice.put(at.as_str(), &changed).if_match(1)
        };
        let answers = all((0..AT_ONCE).map(ask)).await;
        let taken = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().filter(|answer| matches!(answer.status, 409 | 412)).count();
        assert_eq!((taken, refused), (1, AT_ONCE - 1), "{:?}", statuses(&answers));
        let now = practice.get(at.as_str()).await.expect(200);
        assert_eq!(now.version(), 2);
        assert_eq!(app.count("resource_history where kind = 'Condition'").await, 1);
    }

    // fhir-works 823, openemr 12378: tags in other clothes were passed over, and the change was done without a condition.
    async fn a_version_to_match_is_understood_or_refused_and_never_passed_over(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let condition = made(&practice, &long_term("six")).await;
        let at = format!("Condition/{}", condition["id"].as_str().unwrap());
        for (tag, status) in [
            ("W/\"9\"", 412), ("\"9\"", 412), ("9", 412), ("W/\"0\"", 412), ("W/\"-1\"", 412),
            ("W/\"8\", W/\"9\"", 412), ("W/\"of-another-server\"", 412),
            ("one", 400), ("", 400), ("W/", 400), ("\"1", 400), ("\u{e9}", 400),
        ] {
            let answer = practice.put(at.as_str(), &condition).header("If-Match", tag).await;
            assert_eq!(answer.status, status, "{tag}: {}", answer.text);
            let mut entry = put(&condition);
            if tag.is_empty() || !tag.is_ascii() {
                continue;
            }
            entry["request"]["ifMatch"] = json!(tag);
            let answer = practice.post("", &transaction(vec![entry])).await;
            assert_eq!(answer.status, status, "{tag} in a Bundle: {}", answer.text);
        }
        let twice = practice.put(at.as_str(), &condition).header("If-Match", "W/\"1\"").header("If-Match", "W/\"9\"");
        twice.await.expect(400);
        assert_eq!(practice.get(at.as_str()).await.expect(200).version(), 1);
        for (version, tag) in ["\"1\"", "2", "W/\"3\"", "W/\"9\", W/\"4\"", "*"].into_iter().enumerate() {
            let mut changed = condition.clone();
            changed["code"] = json!({ "text": format!("Change {version}") });
            let answer = practice.put(at.as_str(), &changed).header("If-Match", tag).await.expect(200);
            assert_eq!(usize::try_from(answer.version()).unwrap(), version + 2, "{tag}");
        }
    }

    // LinuxForHealth 3539, hapi-fhir 1819, medplum 7019: transactions that meet in opposite orders ended in deadlock and 500.
    async fn transactions_that_meet_in_opposite_orders_never_deadlock(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let (a, b) = (made(&practice, &long_term("a")).await, made(&practice, &long_term("b")).await);
        let ask = |n: usize| {
            let (mut a, mut b) = (a.clone(), b.clone());
            a["code"] = json!({ "text": format!("Change {n}") });
            b["code"] = a["code"].clone();
            let entries = if n.is_multiple_of(2) { vec![put(&a), put(&b)] } else { vec![put(&b), put(&a)] };
            practice.post("", &transaction(entries))
        };
        let answers = all((0..16).map(ask)).await;
        let well = answers.iter().all(|answer| matches!(answer.status, 200 | 409 | 412 | 503));
        let taken = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(well && taken > 0, "{:?}", statuses(&answers));
        for one in [&a, &b] {
            let now = practice.get(format!("Condition/{}", one["id"].as_str().unwrap())).await.expect(200);
            assert_eq!(usize::try_from(now.version()).unwrap(), 1 + taken, "both or none are changed each time");
        }
        assert_eq!(app.deadlocks().await, 0, "they wait for each other only in one order");
    }

    // microsoft/fhir-server 1792, hapi-fhir 3608, LinuxForHealth 3906: ties, and writes while somebody turns pages.
    async fn pages_neither_repeat_nor_skip_while_others_write(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut before = HashSet::new();
        // The clock stands still: all have the same time.
        for n in 0..23 {
            before.insert(made(&practice, &long_term(&format!("tie-{n}"))).await["id"].clone());
        }
        let mut seen = Vec::new();
        let mut next = Some("Condition?_lastUpdated=ge2026-01-01&_count=4".to_owned());
        let mut pages = 0;
        while let Some(url) = next {
            let page = practice.get(url).await.expect(200);
            seen.extend(page.resources().into_iter().map(|resource| resource["id"].clone()));
            let links = page.body["link"].as_array().cloned().unwrap();
            next = links.iter().find(|l| l["relation"] == "next").and_then(|l| l["url"].as_str()).map(str::to_owned);
            made(&practice, &long_term(&format!("meanwhile-{pages}"))).await;
            pages += 1;
            assert!(pages < 60, "the pages do not end");
            if pages > 10 {
                break;
            }
        }
        let unique: HashSet<&Value> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len(), "something was shown twice");
        assert!(before.iter().all(|id| unique.contains(id)), "something was skipped");
    }

    // hapi-fhir 2801, blaze 767, firely-net-sdk 2097 and 3533: what extends a primitive was lost.
    async fn what_extends_a_primitive_comes_back_as_it_was_sent(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let unknown = json!({ "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown" }] });
        let patient = json!({
            "resourceType": "Patient",
            "language": "en-GB",
            "_language": unknown,
            "extension": [{ "url": "https://example.org/e", "_valueString": unknown }],
            "name": [{ "family": "Testperson", "_family": unknown, "given": ["Ada", null, "B"],
                "_given": [null, unknown, { "id": "third" }] }],
            "_gender": unknown,
            "birthDate": "1957-03",
            "_birthDate": { "id": "birth", "extension": [{
                "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1957-03-04T03:04:05.60Z" }] },
            "_deceasedBoolean": unknown,
            "multipleBirthInteger": 2,
        });
        let served = made(&practice, &patient).await;
        assert_eq!(difference(&patient, &served, &|_| false), None, "{served:#}");
        let at = format!("Patient/{}", served["id"].as_str().unwrap());
        assert_eq!(practice.get(at.as_str()).await.expect(200).body, served);
        // Out as XML, and in again as XML.
        let xml = practice.get(at.as_str()).header("Accept", "application/fhir+xml").await.expect(200).text;
        let again = practice.send(reqwest::Method::POST, "Patient").text("application/fhir+xml", xml).await.expect(201);
        assert_eq!(difference(&patient, &again.body, &|_| false), None, "{:#}", again.body);
    }

    // blaze 324, medplum 9738: decimals lost their last zeros, and great numbers their digits.
    async fn a_decimal_comes_back_to_the_digit(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for digits in ["1.10", "0.0000001", "1.0e-3", "100000000000000000.000000001", "-0.0", "1e+2"] {
            let text = format!(
                r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"valueQuantity":{{"value":{digits}}}}}"#
            );
            let made = practice.send(reqwest::Method::POST, "Observation").text("application/fhir+json", text).await.expect(201);
            assert!(made.text.contains(&format!("\"value\":{digits}")), "{digits}: {}", made.text);
            let xml = practice.get(format!("Observation/{}", made.id())).header("Accept", "application/fhir+xml").await;
            assert!(xml.expect(200).text.contains(&format!("<value value=\"{digits}\"")), "{digits}");
        }
    }
}
