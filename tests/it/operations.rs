//! `$validate`, `$everything`, `$meta` and the terminology operations, as an integrator calls them.

use std::time::Duration;

use livewell::fhir::profiles;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::build::{self, ADA, BERT};
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, on_each_database};

/// Severity and expression of each issue.
fn issues(answer: &Answer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = answer.body["issue"].as_array().into_iter().flatten();
    all.map(|i| (text(&i["severity"]), text(&i["expression"][0]))).collect()
}

#[track_caller]
fn sound(answer: &Answer) {
    assert_eq!(issues(answer), [("information".to_owned(), String::new())], "{}", answer.text);
}

#[track_caller]
fn error_at(answer: &Answer, place: &str) {
    let found = issues(answer);
    assert!(found.contains(&("error".to_owned(), place.to_owned())), "{place}: {}", answer.text);
}

fn parameter<'a>(answer: &'a Answer, name: &str) -> &'a Value {
    let named = answer.body["parameter"].as_array().into_iter().flatten().find(|p| p["name"] == name);
    let value = named.and_then(|p| p.as_object()?.iter().find(|(key, _)| key.starts_with("value")));
    value.map_or(&Value::Null, |(_, value)| value)
}

fn codes(answer: &Answer) -> Vec<String> {
    let contains = answer.body["expansion"]["contains"].as_array().into_iter().flatten();
    contains.map(|c| c["code"].as_str().unwrap().to_owned()).collect()
}

const ROLES: &str = "https://livewell.example/ValueSet/role";
const ROLE: &str = "https://livewell.example/CodeSystem/role";

/// A referral of Ada with a meeting and a PAM score, as a coach recorded them; the ids of patient, referral, encounter.
async fn recorded(app: &TestApp) -> (String, String, String) {
    let practice = app.practice("TESTA1").await;
    let registered = build::referral_with(build::person(ADA));
    let referral = practice.post("ServiceRequest", &registered).await.expect(201).id();
    let system = app.system().await;
    let patient = system.get(format!("Task?focus=ServiceRequest/{referral}")).await.expect(200).resources();
    let patient = patient[0]["for"]["reference"].as_str().unwrap().to_owned();
    let encounter = build::meeting(&format!("ServiceRequest/{referral}"), &patient);
    let encounter = system.post("Encounter", &encounter).await.expect(201).id();
    let pam = build::about(build::pam("55.2", 3), &patient, &format!("Encounter/{encounter}"));
    system.post("Observation", &pam).await.expect(201);
    (patient.trim_start_matches("Patient/").to_owned(), referral, encounter)
}

/// Every resource of all pages as `Type/id`, those of the person and those of the directory.
async fn all_pages(caller: &Caller, first: String) -> (Vec<String>, Vec<String>, usize) {
    let (mut person, mut directory, mut pages) = (Vec::new(), Vec::new(), 0);
    let mut next = Some(first);
    while let Some(url) = next.take() {
        let page = caller.get(url).await.expect(200);
        pages += 1;
        for entry in page.body["entry"].as_array().into_iter().flatten() {
            let resource = &entry["resource"];
            let name = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
            match entry["search"]["mode"].as_str().unwrap() {
                "match" => person.push(name),
                "include" => directory.push(name),
                other => panic!("{other}: {resource}"),
            }
        }
        let links = page.body["link"].as_array().unwrap();
        next = links.iter().find(|l| l["relation"] == "next").map(|l| l["url"].as_str().unwrap().to_owned());
        assert!(links.iter().all(|l| !l["url"].as_str().unwrap().contains(ADA.0)));
    }
    (person, directory, pages)
}

/// Whether parameters are those that a definition has, each of its type and as often as it says.
fn described(parameters: &[Value], definition: &Value) {
    let defined = definition.as_array().unwrap();
    for parameter in parameters {
        let own = defined.iter().find(|d| d["name"] == parameter["name"]).unwrap_or_else(|| panic!("{parameter}"));
        match own["part"].as_array() {
            Some(_) => described(parameter["part"].as_array().unwrap(), &own["part"]),
            None => {
                let kind = own["type"].as_str().unwrap();
                let member = format!("value{}{}", kind[..1].to_uppercase(), &kind[1..]);
                assert!(parameter.get(&member).is_some(), "{parameter} is no {kind}");
            }
        }
    }
    for own in defined {
        let count = parameters.iter().filter(|p| p["name"] == own["name"]).count();
        let most = own["max"].as_str().unwrap().parse().unwrap_or(usize::MAX);
        assert!(count >= usize::try_from(own["min"].as_u64().unwrap()).unwrap() && count <= most, "{}", own["name"]);
    }
}

on_each_database! {
    async fn a_resource_is_validated_and_nothing_is_stored(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let before = app.stored().await;
        let good = build::referral();
        sound(&practice.post("ServiceRequest/$validate", &good).await.expect(200));
        let mut bad = good.clone();
        bad["status"] = json!("open");
        bad["noSuchElement"] = json!(true);
        let answer = practice.post("ServiceRequest/$validate", &bad).await.expect(200);
        error_at(&answer, "ServiceRequest.status");
        error_at(&answer, "ServiceRequest.noSuchElement");
        let mut broken = good.clone();
        broken["category"] = json!([good["category"][0], good["category"][0]]);
        let answer = practice.post("ServiceRequest/$validate", &broken).await.expect(200);
        error_at(&answer, "ServiceRequest.category");
        assert!(answer.text.contains("LiveWell-Referral"), "{}", answer.text);
        error_at(&practice.post("Patient/$validate", &good).await.expect(200), "resourceType");
        practice.send(Method::POST, "Patient/$validate").text("application/fhir+json", "{").await.expect(400);
        practice.post("Nonsense/$validate", &good).await.expect(404);
        assert_eq!(app.stored().await, before);
    }

    async fn a_mode_says_whether_the_act_itself_would_be_refused(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let before = app.stored().await;
        let sent = |mode: &str, resource: Value| {
            json!({ "resourceType": "Parameters", "parameter": [{ "name": "mode", "valueCode": mode }, { "name": "resource", "resource": resource }] })
        };
        sound(&practice.post("ServiceRequest/$validate", &sent("create", build::referral())).await.expect(200));
        let mut nobody = build::referral();
        nobody["subject"] = json!({ "reference": "Patient/nobody" });
        sound(&practice.post("ServiceRequest/$validate", &nobody).await.expect(200));
        let answer = practice.post("ServiceRequest/$validate?mode=create", &nobody).await.expect(200);
        error_at(&answer, "ServiceRequest.subject");
        assert_eq!(app.stored().await, before);

        let made = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let at = format!("ServiceRequest/{}", made.id());
        let before = app.stored().await;
        sound(&practice.post(format!("{at}/$validate"), &sent("update", made.body.clone())).await.expect(200));
        sound(&practice.get(format!("{at}/$validate")).await.expect(200));
        let mut other = made.body.clone();
        other["id"] = json!("other");
        error_at(&practice.post(format!("{at}/$validate?mode=update"), &other).await.expect(200), "ServiceRequest.id");
        for wrong in [sent("destroy", build::referral()), sent("profile", build::referral()), sent("delete", build::referral())] {
            error_at(&practice.post("ServiceRequest/$validate", &wrong).await.expect(200), "Parameters.parameter");
        }
        assert_eq!(app.stored().await, before);
        practice.get("ServiceRequest/nobody/$validate").await.expect(404);
        app.practice("TESTA2").await.get(format!("{at}/$validate")).await.expect(404);
    }

    async fn a_resource_is_validated_against_a_profile_that_is_named(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let pam = "https://livewell.example/StructureDefinition/LiveWell-PAMObservation";
        let sent = |profile: &str| {
            json!({ "resourceType": "Parameters", "parameter": [
                { "name": "mode", "valueCode": "profile" }, { "name": "profile", "valueUri": profile },
                { "name": "resource", "resource": { "resourceType": "Observation", "status": "final", "code": { "text": "PAM" } } },
            ] })
        };
        error_at(&practice.post("Observation/$validate", &sent(pam)).await.expect(200), "Observation.subject");
        let unknown = practice.post("Observation/$validate", &sent("https://nobody.example/profile")).await.expect(200);
        assert_eq!(unknown.issue(), "not-found");
        let observation = json!({ "resourceType": "Observation", "status": "final", "code": { "text": "PAM" } });
        let answer = practice.post(format!("Observation/$validate?profile={pam}"), &observation).await.expect(200);
        error_at(&answer, "Observation.subject");
    }

    async fn each_entry_of_a_bundle_is_validated(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut wrong = build::referral();
        wrong["intent"] = json!("hope");
        let entry = |resource: &Value| json!({ "resource": resource, "request": { "method": "POST", "url": "ServiceRequest" } });
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [entry(&build::referral()), entry(&wrong)] });
        let answer = practice.post("Bundle/$validate", &bundle).await.expect(200);
        assert_eq!(issues(&answer), [("error".to_owned(), "Bundle.entry[1].resource.intent".to_owned())]);
    }

    async fn who_may_do_nothing_with_a_type_validates_none_of_it(app: TestApp) {
        let tasks = app.client("tasks-only", "TESTA1", "system/Task.r").await;
        tasks.post("ServiceRequest/$validate", &build::referral()).await.expect(403);
        let entry = json!({ "resource": build::referral(), "request": { "method": "POST", "url": "ServiceRequest" } });
        tasks.post("Bundle/$validate", &json!({ "resourceType": "Bundle", "type": "transaction", "entry": [entry] })).await.expect(403);
        tasks.get("Patient/nobody/$everything").await.expect(403);
        tasks.get(format!("ValueSet/$expand?url={ROLES}")).await.expect(403);
    }

    async fn everything_of_a_person_comes_in_pages_with_the_directory_it_refers_to(app: TestApp) {
        let (patient, referral, encounter) = recorded(&app).await;
        let system = app.system().await;
        let (all, directory, pages) = all_pages(&system, format!("Patient/{patient}/$everything")).await;
        assert_eq!(pages, 1);
        for expected in [format!("Patient/{patient}"), format!("ServiceRequest/{referral}"), format!("Encounter/{encounter}")] {
            assert!(all.contains(&expected), "{expected}: {all:?}");
        }
        assert!(all.iter().any(|r| r.starts_with("Observation/")) && all.iter().any(|r| r.starts_with("Task/")), "{all:?}");
        assert!(directory.iter().any(|r| r.starts_with("Location/") || r.starts_with("Organization/")), "{directory:?}");
        let (paged, _, pages) = all_pages(&system, format!("Patient/{patient}/$everything?_count=2")).await;
        assert_eq!((paged, pages), (all.clone(), all.len().div_ceil(2)));
        let (typed, included, _) = all_pages(&system, format!("Patient/{patient}/$everything?_type=Encounter,Task")).await;
        assert!(typed.iter().all(|r| r.starts_with("Encounter/") || r.starts_with("Task/")) && typed.len() >= 2, "{typed:?}");
        assert_eq!(included, Vec::<String>::new());

        let first = system.get(format!("Patient/{patient}/$everything?_count=1")).await.expect(200);
        let next = first.body["link"][1]["url"].as_str().unwrap();
        app.practice("TESTA1").await.get(next).await.expect(422);
        for wrong in ["_type=Nonsense", "start=yesterday", "_count=-1"] {
            system.get(format!("Patient/{patient}/$everything?{wrong}")).await.expect(422);
        }
        system.get(format!("Patient/{patient}/$everything?nonsense=1")).await.expect(400);
        system.get("Patient/nobody/$everything").await.expect(404);
    }

    async fn everything_is_bounded_by_time_of_change_and_time_of_care(app: TestApp) {
        let (patient, referral, _) = recorded(&app).await;
        let system = app.system().await;
        let of = async |query: &str| all_pages(&system, format!("Patient/{patient}/$everything?{query}")).await.0;
        app.clock.advance(Duration::from_secs(10 * 24 * 3600));
        app.settled().await;
        let later = json!({ "resourceType": "Flag", "status": "active", "code": { "text": "x" }, "subject": { "reference": format!("Patient/{patient}") },
            "period": { "start": "2026-03-12", "end": "2026-03-13" } });
        let flag = format!("Flag/{}", system.post("Flag", &later).await.expect(201).id());
        let changed = of("_since=2026-03-05T00:00:00Z").await;
        assert!(changed.contains(&flag) && !changed.contains(&format!("ServiceRequest/{referral}")), "{changed:?}");
        let march = of("start=2026-03-11&end=2026-03-31").await;
        assert!(march.contains(&flag) && !march.contains(&format!("ServiceRequest/{referral}")), "{march:?}");
        assert!(march.contains(&format!("Patient/{patient}")), "what says no time is always in it: {march:?}");
        let before = of("end=2026-03-05").await;
        assert!(!before.contains(&flag) && before.contains(&format!("ServiceRequest/{referral}")), "{before:?}");
    }

    async fn everything_is_what_the_caller_may_see_and_no_more(app: TestApp) {
        let (patient, _, encounter) = recorded(&app).await;
        let ours = app.practice("TESTA1").await;
        let (all, ..) = all_pages(&ours, format!("Patient/{patient}/$everything")).await;
        assert!(all.contains(&format!("Encounter/{encounter}")), "{all:?}");
        let stranger = app.practice("TESTA2").await;
        stranger.get(format!("Patient/{patient}/$everything")).await.expect(404);
        // Another practice that refers her too sees its own referral, and still not the person whom the first registers.
        let theirs = stranger.post("ServiceRequest", &build::referral()).await.expect(201).id();
        let seen = stranger.get(format!("ServiceRequest/{theirs}")).await.expect(200);
        assert_eq!(seen.body["resourceType"], "ServiceRequest");
        stranger.get(format!("Patient/{patient}/$everything")).await.expect(404);
        let narrow = app.client("narrow", &app.organization(), "system/Patient.r system/Encounter.r").await;
        let (all, ..) = all_pages(&narrow, format!("Patient/{patient}/$everything")).await;
        assert!(all.iter().all(|r| r.starts_with("Patient/") || r.starts_with("Encounter/")) && all.len() >= 2, "{all:?}");
        let left = app.count("audit where interaction = '$everything' and outcome = 'success'").await;
        let refused = app.count("audit where interaction = '$everything' and outcome <> 'success'").await;
        assert_eq!((left, refused), (2, 2), "each time that something left, and each that it did not");
    }

    async fn the_meta_of_a_resource_can_be_asked_for(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut referral = build::referral();
        referral["meta"] = json!({ "tag": [{ "system": "https://practice.example/tags", "code": "spring" }] });
        let id = practice.post("ServiceRequest", &referral).await.expect(201).id();
        let answer = practice.get(format!("ServiceRequest/{id}/$meta")).await.expect(200);
        let meta = parameter(&answer, "return");
        assert_eq!((meta["versionId"].as_str(), meta["tag"][0]["code"].as_str()), (Some("1"), Some("spring")));
        app.practice("TESTA2").await.get(format!("ServiceRequest/{id}/$meta")).await.expect(404);
    }

    async fn the_answer_to_status_is_what_its_definition_says(app: TestApp) {
        let (_, referral, _) = recorded(&app).await;
        app.settled().await;
        let answer = app.practice("TESTA1").await.get(format!("ServiceRequest/{referral}/$status")).await.expect(200);
        let definition = profiles::resource("OperationDefinition", "ServiceRequest-status").unwrap();
        described(answer.body["parameter"].as_array().unwrap(), &definition.value()["parameter"]);
        for name in ["pam", "delivery"] {
            assert!(answer.body["parameter"].as_array().unwrap().iter().any(|p| p["name"] == name), "{}", answer.text);
        }
    }

    async fn a_value_set_is_expanded(app: TestApp) {
        let caller = app.practice("TESTA1").await;
        let whole = caller.get(format!("ValueSet/$expand?url={ROLES}")).await.expect(200);
        let all = codes(&whole);
        assert!(all.contains(&"health-coach".to_owned()) && all.len() >= 5, "{all:?}");
        assert_eq!(whole.body["expansion"]["total"], all.len());
        assert_eq!(whole.body["url"], ROLES);
        assert_eq!(codes(&caller.get("ValueSet/role/$expand").await.expect(200)), all);
        let parameters = build::parameters(&[("url", "valueUri", json!(ROLES)), ("filter", "valueString", json!("LINK"))]);
        let links = codes(&caller.post("ValueSet/$expand", &parameters).await.expect(200));
        assert_eq!(links, ["link-worker", "smi-link-worker"]);
        let part = caller.get(format!("ValueSet/$expand?url={ROLES}&offset=1&count=2")).await.expect(200);
        assert_eq!((codes(&part), &part.body["expansion"]["total"]), (all[1..3].to_vec(), &json!(all.len())));
        let none = caller.get(format!("ValueSet/$expand?url={ROLES}&count=0")).await.expect(200);
        assert!(codes(&none).is_empty() && none.body["expansion"]["total"] == all.len());
        let gender = caller.get("ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender").await.expect(200);
        assert_eq!(codes(&gender), ["female", "male", "other", "unknown"]);
        let warned = caller.get(format!("ValueSet/$expand?url={ROLES}&includeDesignations=true")).await.expect(200);
        assert!(warned.text.contains("includeDesignations was passed over"), "{}", warned.text);
        let own = json!({ "resourceType": "ValueSet", "status": "active", "compose": {
            "include": [{ "valueSet": [ROLES] }], "exclude": [{ "system": ROLE, "concept": [{ "code": "health-coach" }] }] } });
        let sent = json!({ "resourceType": "Parameters", "parameter": [{ "name": "valueSet", "resource": own }] });
        assert_eq!(codes(&caller.post("ValueSet/$expand", &sent).await.expect(200)).len(), all.len() - 1);
        let xml = caller.get(format!("ValueSet/$expand?url={ROLES}&_format=xml")).await.expect(200);
        assert!(xml.text.contains("<ValueSet") && xml.text.contains("health-coach"), "{}", xml.text);
    }

    async fn what_cannot_be_expanded_is_said_and_not_guessed(app: TestApp) {
        let caller = app.practice("TESTA1").await;
        let unknown = caller.get("ValueSet/$expand?url=https://nobody.example/ValueSet/x").await.expect(404);
        assert_eq!(unknown.issue(), "not-found");
        let later = caller.get(format!("ValueSet/$expand?url={ROLES}&valueSetVersion=99")).await.expect(404);
        assert_eq!(later.issue(), "not-found");
        let include = json!([{ "system": "http://snomed.info/sct", "filter": [{ "property": "concept", "op": "is-a", "value": "404684003" }] }]);
        let clinical = json!({ "resourceType": "ValueSet", "status": "active", "compose": { "include": include } });
        let sent = json!({ "resourceType": "Parameters", "parameter": [{ "name": "valueSet", "resource": clinical }] });
        let refused = caller.post("ValueSet/$expand", &sent).await.expect(422);
        assert_eq!(refused.issue(), "too-costly");
        assert!(refused.text.contains("http://snomed.info/sct"), "{}", refused.text);
        let currencies = caller.get("ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/currencies").await.expect(422);
        assert_eq!(currencies.issue(), "too-costly");
        caller.get("ValueSet/nobody/$expand").await.expect(404);
        caller.get("ValueSet/$expand").await.expect(422);
        caller.get(format!("ValueSet/$expand?url={ROLES}&count=many")).await.expect(422);
        caller.get(format!("ValueSet/$expand?url={ROLES}&displayLanguage=cy")).await.expect(400);
    }

    async fn a_code_is_right_or_wrong_or_nobody_here_can_tell(app: TestApp) {
        let caller = app.practice("TESTA1").await;
        let ask = async |query: &str| caller.get(format!("ValueSet/$validate-code?url={ROLES}&{query}")).await.expect(200);
        let right = ask(&format!("system={ROLE}&code=health-coach")).await;
        assert_eq!((parameter(&right, "result"), parameter(&right, "display")), (&json!(true), &json!("Health coach")));
        assert_eq!(parameter(&ask(&format!("system={ROLE}&code=plumber")).await, "result"), &json!(false));
        assert_eq!(parameter(&ask("system=https://nobody.example&code=health-coach").await, "result"), &json!(false));
        let misnamed = ask(&format!("system={ROLE}&code=health-coach&display=Plumber")).await;
        assert_eq!((parameter(&misnamed, "result"), parameter(&misnamed, "display")), (&json!(false), &json!("Health coach")));
        caller.get(format!("ValueSet/$validate-code?url={ROLES}&code=health-coach")).await.expect(422);
        let concept = json!({ "coding": [{ "system": "https://nobody.example", "code": "1" }, { "system": ROLE, "code": "link-worker" }] });
        let sent = build::parameters(&[("codeableConcept", "valueCodeableConcept", concept)]);
        let answer = caller.post("ValueSet/role/$validate-code", &sent).await.expect(200);
        assert_eq!(parameter(&answer, "result"), &json!(true));
        let gender = "http://hl7.org/fhir/ValueSet/administrative-gender&system=http://hl7.org/fhir/administrative-gender";
        let known = caller.get(format!("ValueSet/$validate-code?url={gender}&code=female")).await.expect(200);
        assert_eq!(parameter(&known, "result"), &json!(true));
        let money = "http://hl7.org/fhir/ValueSet/currencies&system=urn:iso:std:iso:4217&code=GBP";
        let nobody_knows = caller.get(format!("ValueSet/$validate-code?url={money}")).await.expect(422);
        assert_eq!(nobody_knows.issue(), "not-found");
        caller.get("ValueSet/$validate-code?url=https://nobody.example&system=x&code=y").await.expect(404);
    }

    async fn a_code_system_is_asked_for_a_code(app: TestApp) {
        let caller = app.practice("TESTA1").await;
        let found = caller.get(format!("CodeSystem/$lookup?system={ROLE}&code=health-coach")).await.expect(200);
        assert_eq!(parameter(&found, "display"), &json!("Health coach"));
        assert!(found.text.contains("definition") && parameter(&found, "version") == &json!("1.0.0"), "{}", found.text);
        let coding = build::parameters(&[("coding", "valueCoding", json!({ "system": ROLE, "code": "link-worker" }))]);
        assert_eq!(parameter(&caller.post("CodeSystem/$lookup", &coding).await.expect(200), "display"), &json!("Link worker"));
        for unknown in [format!("system={ROLE}&code=plumber"), "system=http://snomed.info/sct&code=73211009".to_owned()] {
            assert_eq!(caller.get(format!("CodeSystem/$lookup?{unknown}")).await.expect(404).issue(), "not-found");
        }
        let is = async |query: &str| {
            parameter(&caller.get(format!("CodeSystem/{query}")).await.expect(200), "result").clone()
        };
        assert_eq!(is(&format!("$validate-code?url={ROLE}&code=volunteer")).await, json!(true));
        assert_eq!(is("role/$validate-code?code=plumber").await, json!(false));
        let outcome = caller.get(format!("CodeSystem/$subsumes?system={ROLE}&codeA=volunteer&codeB=volunteer")).await.expect(200);
        assert_eq!(parameter(&outcome, "outcome"), &json!("equivalent"));
        let outcome = caller.get("CodeSystem/role/$subsumes?codeA=volunteer&codeB=link-worker").await.expect(200);
        assert_eq!(parameter(&outcome, "outcome"), &json!("not-subsumed"));
        caller.get(format!("CodeSystem/$subsumes?system={ROLE}&codeA=volunteer&codeB=plumber")).await.expect(404);
    }

    async fn a_national_job_role_is_translated_to_ours(app: TestApp) {
        let caller = app.practice("TESTA1").await;
        let national = "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1";
        for from in [format!("$translate?system={national}&code=R9807"), format!("job-role/$translate?system={national}&code=R9807")] {
            let answer = caller.get(format!("ConceptMap/{from}")).await.expect(200);
            assert_eq!(parameter(&answer, "result"), &json!(true));
            let parts = answer.body["parameter"][1]["part"].as_array().unwrap();
            assert_eq!(parts[1]["valueCoding"]["code"], "health-coach");
        }
        let back = caller.get(format!("ConceptMap/$translate?system={ROLE}&code=health-coach&reverse=true")).await.expect(200);
        assert_eq!(back.body["parameter"][1]["part"][1]["valueCoding"]["code"], "R9807");
        let none = caller.get(format!("ConceptMap/$translate?system={national}&code=R0000")).await.expect(200);
        assert_eq!(parameter(&none, "result"), &json!(false));
        caller.get("ConceptMap/$translate?url=https://nobody.example&system=x&code=y").await.expect(404);
    }
}

#[test]
fn another_person_is_no_part_of_everything() {
    use crate::support::{Database, app::run};
    run(Database::Sqlite, |app: TestApp| async move {
        let (patient, ..) = recorded(&app).await;
        let other =
            app.practice("TESTA2").await.post("ServiceRequest", &build::referral_of(BERT.0)).await.expect(201).id();
        let (all, ..) = all_pages(&app.system().await, format!("Patient/{patient}/$everything")).await;
        assert!(!all.contains(&format!("ServiceRequest/{other}")), "{all:?}");
    });
}
