//! What is done only on a condition: criteria in place of an id, versions, and ids of the caller's choosing.

use livewell::fhir::systems::ODS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

/// A condition of Ada's under a business identifier.
pub(crate) fn condition(name: &str, text: &str) -> Value {
    json!({
        "resourceType": "Condition",
        "identifier": [{ "system": "https://practice.example/Id/condition", "value": name }],
        "code": { "text": text },
        "subject": build::by_number(build::ADA.0),
    })
}

pub(crate) fn by_name(name: &str) -> String {
    format!("Condition?identifier=https://practice.example/Id/condition%7C{name}")
}

pub(crate) async fn made(caller: &Caller, resource: &Value) -> Value {
    caller.post(resource["resourceType"].as_str().unwrap(), resource).await.expect(201).body
}

fn at(resource: &Value) -> String {
    format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
}

fn delete(caller: &Caller, path: impl Into<String>) -> crate::support::caller::Ask {
    caller.send(Method::DELETE, path)
}

on_each_database! {
    async fn an_update_by_criteria_makes_changes_or_refuses_by_how_many_match(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let first = practice.put(by_name("one"), &condition("one", "First")).await.expect(201);
        assert_eq!(first.version(), 1);
        assert!(first.header("location").contains(&format!("Condition/{}/_history/1", first.id())));
        let second = practice.put(by_name("one"), &condition("one", "Second")).await.expect(200);
        assert_eq!((second.id(), second.version()), (first.id(), 2));
        // The id may come along where it is the one that is meant.
        practice.put(by_name("one"), &second.body).await.expect(200);
        let mut other = second.body.clone();
        other["id"] = json!("another");
        assert_eq!(practice.put(by_name("one"), &other).await.expect(422).expression(), "Condition.id");
        // Not without search, not without criteria, and none is made without the scope to create.
        let narrow = app.client("changes-only", "TESTA1", "system/Condition.us").await;
        assert!(narrow.put(by_name("new"), &condition("new", "x")).await.expect(403).text.contains("system/Condition.c"));
        app.client("no-search", "TESTA1", "system/Condition.cu").await.put(by_name("one"), &other).await.expect(403);
        practice.put("Condition", &other).await.expect(400);
        practice.put("Condition?_format=json", &other).await.expect(400);
        made(&practice, &condition("twice", "a")).await;
        made(&practice, &condition("twice", "b")).await;
        let before = app.stored().await;
        for refused in [
            practice.put(by_name("twice"), &condition("twice", "c")).await,
            delete(&practice, by_name("twice")).await,
            practice.send(Method::PATCH, by_name("twice")).text("application/json-patch+json", "[]").await,
        ] {
            assert_eq!(refused.expect(412).issue(), "multiple-matches");
        }
        assert_eq!(app.stored().await, before);
    }

    async fn criteria_never_tell_what_another_has(app: TestApp) {
        let (one, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        let theirs = made(&one, &condition("shared", "Theirs")).await;
        let own = other.put(by_name("shared"), &condition("shared", "Own")).await.expect(201);
        assert_ne!(own.id(), theirs["id"]);
        delete(&other, by_name("shared")).await.expect(204);
        assert_eq!(one.get(at(&theirs)).await.expect(200).body, theirs);
        // The same answer as where nothing matches for anyone.
        delete(&other, by_name("shared")).await.expect(204);
        delete(&other, by_name("nobody-has")).await.expect(204);
        delete(&other, at(&theirs)).await.expect(204);
        assert_eq!(one.get(at(&theirs)).await.expect(200).version(), 1);
    }

    async fn a_change_builds_on_a_version_that_it_names(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = made(&practice, &condition("v", "One")).await;
        let at = at(&made);
        let patch = r#"[{"op":"replace","path":"/code/text","value":"Two"}]"#;
        let ask = |n: usize| match n {
            0 => practice.put(at.as_str(), &made),
            1 => practice.put(by_name("v"), &made),
            2 => practice.send(Method::PATCH, at.as_str()).text("application/json-patch+json", patch),
            3 => delete(&practice, at.as_str()),
            _ => delete(&practice, by_name("v")),
        };
        for n in 0..5 {
            for (tag, status) in [("W/\"2\"", 412), ("W/\"2\", \"3\"", 412), ("nonsense", 400), ("", 400)] {
                assert_eq!(ask(n).header("If-Match", tag).await.status, status, "{n} {tag}");
            }
        }
        assert_eq!(practice.get(at.as_str()).await.expect(200).body, made);
        practice.put(at.as_str(), &made).header("If-None-Match", "*").await.expect(412);
        practice.put(at.as_str(), &made).header("If-None-Match", "W/\"1\"").await.expect(400);
        ask(2).header("If-Match", "W/\"7\", W/\"1\"").await.expect(200);
        ask(3).header("If-Match", "*").await.expect(204);
    }

    async fn the_same_again_makes_no_new_version(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = made(&practice, &condition("same", "As it is")).await;
        app.clock.advance(std::time::Duration::from_secs(60));
        let mut again = made.clone();
        // What the server sets is the server's.
        again["meta"] = json!({ "versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z" });
        let answer = practice.put(at(&made), &again).await.expect(200);
        assert_eq!((answer.body.clone(), answer.version()), (made.clone(), 1));
        let empty = practice.send(Method::PATCH, at(&made)).text("application/json-patch+json", "[]").await.expect(200);
        assert_eq!(empty.version(), 1);
        assert_eq!(app.count("resource_history where kind = 'Condition'").await, 0);
        // Also of what Live Well recorded: the practice hears of nothing.
        let referral = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let (coach, request) = (app.staff("coach-north").await, format!("ServiceRequest/{}", referral.id()));
        let task = coach.get(format!("Task?focus={request}")).await.expect(200).resources().remove(0);
        let met = build::encounter(&request, task["for"]["reference"].as_str().unwrap());
        let met = coach.post("Encounter", &met).await.expect(201);
        let deliveries = app.count("delivery").await;
        let same = coach.put(format!("Encounter/{}", met.id()), &met.body).await.expect(200);
        assert_eq!((same.version(), app.count("delivery").await), (1, deliveries));
        // A referral that is worked on may be sent again as it is.
        let current = practice.get(request.as_str()).await.expect(200);
        assert_eq!(practice.put(request.as_str(), &current.body).await.expect(200).version(), current.version());
        let task = coach.get(format!("Task/{}", task["id"].as_str().unwrap())).await.expect(200);
        let same = coach.put(format!("Task/{}", task.id()), &task.body).if_match(task.version()).await.expect(200);
        assert_eq!(same.version(), task.version());
    }

    async fn a_read_is_answered_only_where_there_is_news(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = made(&practice, &condition("read", "x")).await;
        let read = || practice.get(at(&made));
        let answer = read().await.expect(200);
        let (tag, modified) = (answer.header("etag").to_owned(), answer.header("last-modified").to_owned());
        for (name, value, status) in [
            ("If-None-Match", tag.as_str(), 304),
            ("If-None-Match", "W/\"9\", W/\"1\"", 304),
            ("If-None-Match", "*", 304),
            ("If-None-Match", "W/\"9\"", 200),
            ("If-None-Match", "nonsense", 400),
            ("If-Modified-Since", modified.as_str(), 304),
            ("If-Modified-Since", "Mon, 02 Mar 2026 00:00:00 GMT", 200),
            ("If-Modified-Since", "no date", 200),
        ] {
            let answer = read().header(name, value).await.expect(status);
            assert_eq!(answer.header("etag").is_empty(), status == 400, "{name}: {value}");
            assert_eq!(answer.text.is_empty(), status == 304, "{name}: {value}");
        }
        // Tags are more exact than times.
        read().header("If-None-Match", "W/\"9\"").header("If-Modified-Since", modified).await.expect(200);
    }

    async fn an_id_is_chosen_by_who_sees_everything_and_by_nobody_else(app: TestApp) {
        let system = app.system().await;
        let place = json!({ "resourceType": "Organization", "id": "chosen-1", "name": "A new practice" });
        let made = system.put("Organization/chosen-1", &place).header("If-None-Match", "*").await.expect(201);
        assert!(made.header("location").ends_with("/fhir/Organization/chosen-1/_history/1"));
        system.put("Organization/chosen-1", &place).header("If-None-Match", "*").await.expect(412);
        let mut bad = place.clone();
        for id in ["under_score", &"x".repeat(65), "space here"] {
            bad["id"] = json!(id);
            system.put(format!("Organization/{}", id.replace(' ', "%20")), &bad).await.expect(400);
        }
        system.put("Organization/chosen-2", &json!({ "resourceType": "Organization", "id": "chosen-2", "name": "x" }))
            .if_match(1).await.expect(412);
        let narrow = app.client("no-create", &app.organization(), "system/Organization.u").await;
        let other = json!({ "resourceType": "Organization", "id": "chosen-3", "name": "x" });
        assert!(narrow.put("Organization/chosen-3", &other).await.expect(403).text.contains("system/Organization.c"));
        // To a practice the answer would tell whether another has the id.
        let practice = app.practice("TESTA1").await;
        let mut own = condition("own", "x");
        own["id"] = json!("chosen-4");
        practice.put("Condition/chosen-4", &own).await.expect(404);
        practice.put(by_name("own"), &own).await.expect(422);
        // A referral's id is the service's own to choose.
        let mut referral = build::referral();
        referral["id"] = json!("chosen-5");
        system.put("ServiceRequest/chosen-5", &referral).await.expect(404);
    }

    async fn one_organisation_of_the_directory_has_an_ods_code(app: TestApp) {
        let system = app.system().await;
        let named = |code: &str| {
            json!({ "resourceType": "Organization", "name": "Other", "identifier": [{ "system": ODS, "value": code }] })
        };
        let with_id = |id: &str, code: &str| {
            let mut organization = named(code);
            organization["id"] = json!(id);
            organization
        };
        let entry = |method: &str, url: &str, resource: Value| match method {
            "DELETE" => json!({ "request": { "method": method, "url": url } }),
            _ => json!({ "resource": resource, "request": { "method": method, "url": url } }),
        };
        let bundle =
            |entries: &[Value]| json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries });
        let before = app.stored().await;
        let refused = system.post("Organization", &named("TESTA1")).await.expect(409);
        assert_eq!((refused.issue(), refused.expression()), ("duplicate", "Organization.identifier"));
        assert!(refused.text.contains("Organization/testa1 already"), "{}", refused.text);
        system.put("Organization/testa2", &with_id("testa2", "TESTA1")).await.expect(409);
        let two = [entry("POST", "Organization", named("TESTZ9")), entry("POST", "Organization", named("TESTZ9"))];
        let refused = system.post("", &bundle(&two)).await.expect(409);
        assert_eq!(refused.expression(), "Bundle.entry[1].resource.identifier");
        assert_eq!(app.stored().await, before);
        // One takes the place of the other.
        let instead = [entry("DELETE", "Organization/testa1", Value::Null), entry("POST", "Organization", named("TESTA1"))];
        system.post("", &bundle(&instead)).await.expect(200);
        // What a sender brings along is not of the directory.
        app.practice("TESTA2").await.post("Organization", &named("TESTA2")).await.expect(201);
    }

    async fn of_many_updates_by_one_criterion_one_makes_it_and_the_others_change_it(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..32 {
            asked.spawn(practice.put(by_name("race"), &condition("race", &format!("Change {n}"))).into_future());
        }
        let answers: Vec<Answer> = asked.join_all().await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        let well = answers.iter().all(|answer| matches!(answer.status, 200 | 201 | 409 | 503));
        assert!(well && made == 1, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
        assert_eq!(app.count("resource where kind = 'Condition'").await, 1);
    }
}
