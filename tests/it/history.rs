//! History of one resource, of a type and of all: every version, newest first, to whom may see it now.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::conditional::{condition, made};
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

fn versions(answer: &Answer) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = answer.body["entry"].as_array().into_iter().flatten();
    entries.map(|e| (text(&e["fullUrl"]), text(&e["response"]["etag"]), text(&e["request"]["method"]))).collect()
}

/// All pages of a history.
async fn pages(caller: &Caller, from: &str) -> Vec<(String, String, String)> {
    let (mut all, mut next) = (Vec::new(), Some(from.to_owned()));
    while let Some(url) = next {
        let page = caller.get(url).await.expect(200);
        all.extend(versions(&page));
        let links = page.body["link"].as_array().cloned().unwrap();
        next = links.iter().find(|l| l["relation"] == "next").and_then(|l| l["url"].as_str()).map(str::to_owned);
        assert!(all.len() < 500, "the pages do not end");
    }
    all
}

on_each_database! {
    async fn a_history_tells_every_version_with_what_was_deleted(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut there = made(&practice, &condition("one", "1")).await;
        let at = format!("Condition/{}", there["id"].as_str().unwrap());
        let began = app.clock.now();
        for n in 2..=3 {
            app.clock.advance(Duration::from_secs(3600));
            there["code"]["text"] = json!(n.to_string());
            practice.put(at.as_str(), &there).await.expect(200);
        }
        app.clock.advance(Duration::from_secs(3600));
        practice.send(Method::DELETE, at.as_str()).await.expect(204);
        app.clock.advance(Duration::from_secs(3600));
        practice.put(at.as_str(), &there).await.expect(201);
        let all = practice.get(format!("{at}/_history")).await.expect(200);
        let told: Vec<_> = versions(&all).into_iter().map(|(_, tag, method)| (tag, method)).collect();
        let expected = [("5", "PUT"), ("4", "DELETE"), ("3", "PUT"), ("2", "PUT"), ("1", "POST")];
        assert_eq!(told, expected.map(|(v, m)| (format!("W/\"{v}\""), m.to_owned())));
        assert_eq!(all.body["total"], 5);
        assert!(all.body["entry"][1].get("resource").is_none());
        assert_eq!(all.body["entry"][2]["resource"]["code"]["text"], "3");
        let resource = livewell::fhir::Resource::from_value(all.body.clone()).unwrap();
        assert_eq!(livewell::fhir::check::check(&resource, 5), vec![]);
        let hour = |n: i64| (began + chrono::TimeDelta::hours(n)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        for (query, tags) in [
            (format!("_since={}", hour(3)), vec!["5", "4"]),
            (format!("_at={}", hour(1)), vec!["2"]),
            // To the second: what ended in that second was current in it, too.
            (format!("_at={}", (began + chrono::TimeDelta::minutes(90)).format("%Y-%m-%dT%H:%M:%SZ")), vec!["2"]),
            (format!("_at={}", began.format("%Y-%m-%d")), vec!["5", "4", "3", "2", "1"]),
            ("_at=2001".to_owned(), vec![]),
            ("_count=2".to_owned(), vec!["5", "4"]),
        ] {
            let answer = practice.get(format!("{at}/_history?{query}")).await.expect(200);
            let told: Vec<String> = versions(&answer).into_iter().map(|(_, tag, _)| tag).collect();
            let expected: Vec<String> = tags.iter().map(|v| format!("W/\"{v}\"")).collect();
            assert_eq!(told, expected, "{query}");
        }
        for bad in ["_since=yesterday", "_at=x", "_count=many", "name=x", "_page=AAAA"] {
            practice.get(format!("{at}/_history?{bad}")).await.expect(400);
        }
        assert_eq!(pages(&practice, &format!("{at}/_history?_count=2")).await.len(), 5);
    }

    async fn pages_of_a_types_history_neither_repeat_nor_skip_while_others_write(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut before = HashSet::new();
        // The clock stands still: all have the same time.
        for n in 0..7 {
            let mut there = made(&practice, &condition(&format!("tie-{n}"), "1")).await;
            there["code"]["text"] = json!("2");
            let at = format!("Condition/{}", there["id"].as_str().unwrap());
            practice.put(at.as_str(), &there).await.expect(200);
            before.extend([(at.clone(), "W/\"1\""), (at, "W/\"2\"")]);
        }
        let (mut seen, mut next) = (Vec::new(), Some("Condition/_history?_count=3".to_owned()));
        while let Some(url) = next {
            let page = practice.get(url).await.expect(200);
            assert!(page.body.get("total").is_none());
            seen.extend(versions(&page));
            let links = page.body["link"].as_array().cloned().unwrap();
            next = links.iter().find(|l| l["relation"] == "next").and_then(|l| l["url"].as_str()).map(str::to_owned);
            app.clock.advance(Duration::from_secs(1));
            made(&practice, &condition("meanwhile", "1")).await;
        }
        let unique: HashSet<_> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len(), "something was shown twice");
        for (at, tag) in &before {
            assert!(seen.iter().any(|(url, seen, _)| url.ends_with(at) && seen == tag), "{at} {tag} was skipped");
        }
        // A link serves only the history and the client it was made for.
        let first = practice.get("Condition/_history?_count=1").await.expect(200);
        let link = first.body["link"][1]["url"].as_str().unwrap().to_owned();
        app.practice("TESTA2").await.get(link.as_str()).await.expect(400);
        practice.get(link.replace("Condition/", "Patient/")).await.expect(400);
    }

    async fn the_history_of_all_is_what_the_caller_may_see_and_search(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = practice.post("ServiceRequest", &build::referral()).await.expect(201).id();
        made(&practice, &condition("one", "1")).await;
        let other = app.practice("TESTA3").await;
        let theirs = made(&other, &condition("theirs", "1")).await;
        let kinds = |versions: Vec<(String, String, String)>| -> HashSet<String> {
            versions.into_iter().map(|(url, ..)| url.rsplit('/').nth(1).unwrap().to_owned()).collect()
        };
        let mine = pages(&practice, "_history?_count=4").await;
        assert!(mine.iter().any(|(url, ..)| url.ends_with(&referral)));
        assert!(!mine.iter().any(|(url, ..)| url.ends_with(theirs["id"].as_str().unwrap())));
        let unique: HashSet<_> = mine.iter().collect();
        assert_eq!(unique.len(), mine.len());
        assert!(kinds(mine).is_superset(&["ServiceRequest", "Task", "Condition", "Organization"].map(str::to_owned).into()));
        let strangers = pages(&other, "_history").await;
        assert!(!strangers.iter().any(|(url, ..)| url.ends_with(&referral)));
        assert!(strangers.iter().any(|(url, ..)| url.ends_with(theirs["id"].as_str().unwrap())));
        let narrow = app.client("tasks-only", "TESTA1", "system/Task.s system/Condition.r").await;
        assert_eq!(kinds(pages(&narrow, "_history").await), ["Task".to_owned()].into());
        narrow.get("Condition/_history").await.expect(403);
        app.client("none-to-search", "TESTA1", "system/Condition.r").await.get("_history").await.expect(403);
        let trail = app.rows("select target from audit where interaction = 'history-system'").await;
        assert!(!trail.is_empty());
    }
}
