//! How an answer is asked for goes on with its pages; and several types are searched at once.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::conditional::{condition, made};
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

fn link(answer: &Answer, relation: &str) -> Option<String> {
    let mut links = answer.body["link"].as_array().into_iter().flatten();
    links.find(|link| link["relation"] == relation).map(|link| link["url"].as_str().unwrap().to_owned())
}

fn entries(answer: &Answer, mode: &str) -> Vec<String> {
    let all = answer.body["entry"].as_array().into_iter().flatten().filter(|e| e["search"]["mode"] == mode);
    let name = |r: &Value| format!("{}/{}", r["resourceType"].as_str().unwrap(), r["id"].as_str().unwrap_or(""));
    all.map(|entry| name(&entry["resource"])).collect()
}

/// Every page of a search, in order.
async fn pages(caller: &Caller, first: &str) -> Vec<Answer> {
    let (mut pages, mut at) = (Vec::new(), Some(first.to_owned()));
    while let Some(url) = at {
        let page = caller.get(url).await.expect(200);
        at = link(&page, "next");
        pages.push(page);
    }
    pages
}

fn observation(patient: &str) -> Value {
    json!({ "resourceType": "Observation", "status": "final", "code": { "text": "Steps" }, "subject": { "reference": patient },
        "valueInteger": 3200 })
}

on_each_database! {
    async fn the_shape_of_an_answer_goes_on_with_its_pages(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for name in ["a", "b", "c"] {
            made(&practice, &condition(name, "Short of breath")).await;
        }
        let asked = "_count=1&_elements=code&_pretty=true&_total=accurate&_sort=-_lastUpdated&_include=Condition:subject";
        let form = practice.send(Method::POST, "Condition/_search").text("application/x-www-form-urlencoded", asked).await.expect(200);
        assert!(form.text.contains("\n  \"") && form.resources()[0].get("identifier").is_none(), "{}", form.text);
        for page in pages(&practice, &format!("Condition?{asked}")).await.iter().chain([&form]) {
            let part = &page.resources()[0];
            assert!(part.get("code").is_some() && part.get("identifier").is_none(), "{part}");
            assert_eq!(part["meta"]["tag"][0]["code"], "SUBSETTED");
            assert_eq!(page.body["total"], 3);
            assert!(page.text.contains("\n  \""), "{}", page.text);
            for url in [link(page, "self"), link(page, "next")].into_iter().flatten() {
                assert!(url.contains("_elements=code") && url.contains("_pretty=true"), "{url}");
            }
        }
        assert_eq!(pages(&practice, &format!("Condition?{asked}")).await.len(), 3);
        for first in ["Condition?_count=1&_format=xml&_summary=text", "Condition/_history?_count=1&_format=xml&_summary=text",
            "_history?_count=1&_format=xml&_summary=text", "/fhir?_type=Condition&_count=1&_format=xml&_summary=text"] {
            let first = practice.get(first).await.expect(200);
            let next = first.text.split("<relation value=\"next\"/><url value=\"").nth(1).unwrap().split('"').next().unwrap();
            let next = practice.get(next.replace("&amp;", "&")).await.expect(200);
            assert!(next.header("content-type").starts_with("application/fhir+xml"), "{}", next.text);
            assert!(next.text.contains("SUBSETTED") && !next.text.contains("https://practice.example/Id/condition"), "{}", next.text);
        }
        let person = made(&practice, &build::person(build::ADA)).await;
        let everything = format!("Patient/{}/$everything?_count=1&_pretty=true", person["id"].as_str().unwrap());
        for page in pages(&practice, &everything).await {
            assert!(page.text.contains("\n  \"") && link(&page, "self").unwrap().contains("_pretty=true"), "{}", page.text);
        }
        let counted = practice.get("Condition?_summary=count").await.expect(200);
        assert_eq!((counted.body["total"].clone(), counted.body["entry"].clone()), (json!(3), Value::Null));
        assert!(link(&counted, "self").unwrap().contains("_summary=count"));
    }

    async fn several_types_are_searched_at_once_page_by_page(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let patient = made(&practice, &build::person(build::ADA)).await;
        let patient = format!("Patient/{}", patient["id"].as_str().unwrap());
        let mut expected = BTreeSet::from([patient.clone()]);
        for name in ["a", "b", "c"] {
            expected.insert(format!("Condition/{}", made(&practice, &condition(name, "x")).await["id"].as_str().unwrap()));
            expected.insert(format!("Observation/{}", made(&practice, &observation(&patient)).await["id"].as_str().unwrap()));
        }
        let mut seen = Vec::new();
        let mut at = Some("/fhir?_type=Observation,Condition&_type=Flag&_lastUpdated=gt2020&_count=2&_total=accurate".to_owned());
        while let Some(page) = at {
            let answer = practice.get(page).await.expect(200);
            if seen.is_empty() {
                assert_eq!(answer.body["total"], 6);
                assert!(link(&answer, "self").unwrap().contains("/fhir?_type=Condition,Flag,Observation&"), "{}", answer.text);
                made(&practice, &condition("late", "x")).await;
            }
            assert!(entries(&answer, "match").len() <= 2);
            seen.extend(entries(&answer, "match"));
            at = link(&answer, "next");
        }
        let once: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(once.len(), seen.len(), "something came twice");
        assert!(expected.iter().filter(|one| !one.starts_with("Patient")).all(|one| once.contains(one)), "{seen:?}");
        // Of every type, where none is named; by form as by URL.
        let id = patient.strip_prefix("Patient/").unwrap();
        let by_url = practice.get(format!("/fhir?_id={id}")).await.expect(200);
        assert_eq!(entries(&by_url, "match"), [patient.as_str()]);
        let form = practice.send(Method::POST, "/fhir/_search").text("application/x-www-form-urlencoded", format!("_id={id}"));
        assert_eq!(form.await.expect(200).body["entry"], by_url.body["entry"]);
        // Parameters that each of the types has, and what comes along.
        let about = practice.get(format!("/fhir?_type=Condition,Observation&patient={patient}&_include=Observation:subject")).await.expect(200);
        assert_eq!(entries(&about, "match").len(), 7);
        assert_eq!(entries(&about, "include"), [patient.as_str()]);
        let bundle = json!({ "resourceType": "Bundle", "type": "batch", "entry": [{ "request": { "method": "GET", "url": "?_type=Observation" } }] });
        let batch = practice.post("", &bundle).await.expect(200);
        assert_eq!(batch.body["entry"][0]["resource"]["entry"].as_array().unwrap().len(), 3);
        for wrong in ["_type=Nothing", "_type=", "_type=Condition,Observation&clinical-status=active", "colour=red", "_sort=_id",
            "_type=AuditEvent", "_page=nonsense", "_type=Condition&_include=Condition:colour"] {
            practice.get(format!("/fhir?{wrong}")).await.expect(400);
        }
        // A page belongs to its search.
        let next = link(&practice.get("/fhir?_type=Condition,Observation&_count=1").await.expect(200), "next").unwrap();
        practice.get(next.replace("/fhir?", "/fhir/Condition?")).await.expect(400);
        let of_type = link(&practice.get("Condition?_count=1").await.expect(200), "next").unwrap();
        practice.get(of_type.replace("/fhir/Condition?", "/fhir?")).await.expect(400);
    }

    async fn a_search_of_several_types_finds_what_the_caller_may_see_and_search(app: TestApp) {
        let (one, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        made(&one, &condition("a", "x")).await;
        for search in ["/fhir?_type=Condition,Patient,Observation&_total=accurate", "/fhir?_lastUpdated=gt2020&_total=accurate&_type=Condition"] {
            let nothing = other.get(search).await.expect(200);
            assert_eq!((nothing.body["total"].clone(), entries(&nothing, "match").len()), (json!(0), 0), "{search}");
        }
        let narrow = app.client("narrow-search", "TESTA1", "system/Condition.s system/Patient.r").await;
        narrow.get("/fhir?_type=Condition,Patient").await.expect(403);
        let all = narrow.get("/fhir?_count=50").await.expect(200);
        assert!(!entries(&all, "match").is_empty() && entries(&all, "match").iter().all(|r| r.starts_with("Condition/")));
        app.client("no-search-at-all", "TESTA1", "system/Condition.r").await.get("/fhir?_count=1").await.expect(403);
        assert!(app.count("audit where interaction = 'search-system'").await >= 3);
    }
}
