//! In which format and how much of it: what comes in and what goes out by what the caller says.

use reqwest::Method;
use serde_json::{Value, json};

use crate::conditional::{condition, made};
use crate::support::{TestApp, on_each_database};

on_each_database! {
    async fn the_format_is_what_the_caller_takes_or_the_answer_says_so(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let there = made(&practice, &condition("one", "x")).await;
        let at = format!("Condition/{}", there["id"].as_str().unwrap());
        for (query, accept, status, media) in [
            ("", "application/fhir+json", 200, "application/fhir+json"),
            ("", "application/fhir+xml", 200, "application/fhir+xml"),
            ("", "application/xml;q=0.5, application/json;q=0.4", 200, "application/fhir+xml"),
            ("", "*/*", 200, "application/fhir+json"),
            ("", "application/fhir+xml; fhirVersion=4.0", 200, "application/fhir+xml"),
            ("", "application/fhir+json; fhirVersion=3.0", 406, "application/fhir+json"),
            ("", "application/fhir+json; fhirVersion=3.0, application/fhir+xml", 200, "application/fhir+xml"),
            ("", "text/turtle", 406, "application/fhir+json"),
            ("?_format=xml", "application/fhir+json", 200, "application/fhir+xml"),
            ("?_format=application/fhir%2Bxml", "*/*", 200, "application/fhir+xml"),
            ("?_format=application/fhir+json", "application/fhir+xml", 200, "application/fhir+json"),
            ("?_format=ttl", "*/*", 406, "application/fhir+json"),
        ] {
            let answer = practice.get(format!("{at}{query}")).header("Accept", accept).await.expect(status);
            assert!(answer.header("content-type").starts_with(media), "{query} {accept}: {:?}", answer.headers);
        }
        let pretty = practice.get(format!("{at}?_pretty=true")).await.expect(200);
        assert!(pretty.text.contains("\n  \"id\"") && pretty.body == there);
        for (media, status) in [
            ("application/fhir+json; fhirVersion=4.0", 200),
            ("application/fhir+json; charset=utf-8", 200),
            ("application/fhir+json; fhirVersion=5.0", 415),
            ("application/json-patch+json", 415),
            ("text/plain", 415),
        ] {
            let body = there.to_string();
            practice.send(Method::PUT, at.as_str()).text(media, body).await.expect(status);
        }
    }

    async fn an_answer_is_compressed_for_who_takes_it_and_head_has_no_body(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for n in 0..5 {
            made(&practice, &condition(&format!("c{n}"), &"long ".repeat(100))).await;
        }
        let plain = practice.get("Condition?_count=5").await.expect(200);
        assert_eq!(plain.header("content-encoding"), "");
        let packed = practice.get("Condition?_count=5").header("Accept-Encoding", "gzip").await.expect(200);
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert!(packed.header("vary").to_lowercase().contains("accept-encoding"));
        let at = format!("Condition/{}", plain.resources()[0]["id"].as_str().unwrap());
        let head = practice.send(Method::HEAD, at.as_str()).await.expect(200);
        assert_eq!((head.text.as_str(), head.header("etag")), ("", "W/\"1\""));
        practice.send(Method::HEAD, "Condition/nobody").await.expect(404);
    }

    async fn a_part_says_that_it_is_one_and_is_not_taken_for_the_whole(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut whole = condition("one", "x");
        whole["text"] = json!({ "status": "additional", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>" });
        whole["note"] = json!([{ "text": "A note" }]);
        let there = made(&practice, &whole).await;
        let at = format!("Condition/{}", there["id"].as_str().unwrap());
        let has = |part: &Value, expected: &[&str]| {
            let names: Vec<&String> = part.as_object().unwrap().keys().collect();
            let mut all = vec!["resourceType", "id", "meta"];
            all.extend(expected);
            assert_eq!(names.iter().map(|n| n.as_str()).collect::<std::collections::BTreeSet<_>>(), all.into_iter().collect());
            assert_eq!(part["meta"]["tag"][0]["code"], "SUBSETTED");
        };
        for (query, expected) in [
            ("_summary=true", vec!["identifier", "code", "subject"]),
            ("_summary=text", vec!["text", "subject"]),
            ("_summary=data", vec!["identifier", "code", "subject", "note"]),
            ("_elements=note", vec!["note", "subject"]),
        ] {
            let read = practice.get(format!("{at}?{query}")).await.expect(200);
            has(&read.body, &expected);
            let found = practice.get(format!("Condition?_id={}&{query}", there["id"].as_str().unwrap())).await.expect(200);
            has(&found.resources()[0], &expected);
            let told = practice.get(format!("{at}/_history?{query}")).await.expect(200);
            has(&told.resources()[0], &expected);
            let refused = practice.put(at.as_str(), &read.body).await.expect(422);
            assert!(refused.text.contains("SUBSETTED"), "{}", refused.text);
        }
        let counted = practice.get("Condition?_summary=count").await.expect(200);
        assert_eq!((counted.body["total"].clone(), counted.resources().len()), (json!(1), 0));
        practice.get(format!("{at}?_summary=some")).await.expect(400);
        practice.get(format!("{at}?_summary=true&_elements=code")).await.expect(400);
        assert_eq!(practice.get(format!("{at}?_summary=false")).await.expect(200).body, there);
        // A part is for reading: what is written comes back whole.
        let mut changed = there.clone();
        changed["note"][0]["text"] = json!("Another note");
        let written = practice.put(format!("{at}?_summary=true"), &changed).await.expect(200);
        assert_eq!(written.body["note"][0]["text"], "Another note");
    }
}
