//! PATCH: JSON Patch and FHIRPath Patch, through the same acts as an update.

use reqwest::Method;
use serde_json::{Value, json};

use crate::conditional::{by_name, condition, made};
use crate::support::caller::{Ask, Caller};
use crate::support::{TestApp, build, on_each_database};

const JSON_PATCH: &str = "application/json-patch+json";

fn patch(caller: &Caller, path: &str, steps: &Value) -> Ask {
    caller.send(Method::PATCH, path).text(JSON_PATCH, steps.to_string())
}

/// A FHIRPath Patch of one operation that replaces a string.
fn replaces(path: &str, member: &str, value: &str) -> Value {
    json!({ "resourceType": "Parameters", "parameter": [{ "name": "operation", "part": [
        { "name": "type", "valueCode": "replace" },
        { "name": "path", "valueString": path },
        { "name": "value", member: value },
    ] }] })
}

on_each_database! {
    async fn both_languages_change_what_is_there_and_the_result_is_checked(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let there = made(&practice, &condition("there", "Before")).await;
        let at = format!("Condition/{}", there["id"].as_str().unwrap());
        let steps = json!([
            { "op": "test", "path": "/code/text", "value": "Before" },
            { "op": "replace", "path": "/code/text", "value": "By JSON" },
            { "op": "add", "path": "/note", "value": [{ "text": "Added" }] },
        ]);
        let answer = patch(&practice, &at, &steps).if_match(1).await.expect(200);
        assert_eq!((answer.body["code"]["text"].as_str(), answer.version()), (Some("By JSON"), 2));
        let parameters = replaces("Condition.code.text", "valueString", "By FHIRPath");
        let answer = practice.send(Method::PATCH, by_name("there")).json(&parameters).await.expect(200);
        assert_eq!((answer.body["code"]["text"].as_str(), answer.version()), (Some("By FHIRPath"), 3));
        assert_eq!(answer.body["note"][0]["text"], "Added");
        practice.send(Method::PATCH, by_name("nobody-has")).json(&parameters).await.expect(404);
        let before = app.stored().await;
        let refused = |steps: Value| patch(&practice, &at, &steps);
        for (steps, status) in [
            (json!([{ "op": "test", "path": "/code/text", "value": "Before" }]), 422),
            (json!([{ "op": "remove", "path": "/subject" }]), 422),
            (json!([{ "op": "replace", "path": "/id", "value": "other" }]), 422),
            (json!([{ "op": "replace", "path": "/resourceType", "value": "Patient" }]), 422),
            (json!([{ "op": "add", "path": "/noSuchElement", "value": 1 }]), 422),
            (json!([{ "op": "remove", "path": "/note/0" }]), 422),
            (json!([{ "op": "dance", "path": "/note" }]), 422),
            (json!([{ "op": "replace", "path": "/subject/identifier/value", "value": build::BERT.0 }]), 200),
            (json!({ "op": "remove" }), 422),
        ] {
            let answer = refused(steps.clone()).await;
            assert_eq!(answer.status, status, "{steps}: {}", answer.text);
            if status != 200 {
                assert!(!answer.expression().is_empty(), "{steps}: {}", answer.text);
            }
        }
        assert_eq!(app.stored().await[0], before[0]);
        for (media, body, status) in [
            ("application/fhir+json", r#"{"resourceType":"Condition","code":{"text":"x"}}"#, 400),
            ("application/xml-patch+xml", "<diff/>", 415),
            ("text/plain", "x", 415),
            (JSON_PATCH, "[", 400),
        ] {
            let answer = practice.send(Method::PATCH, at.as_str()).text(media, body).await.expect(status);
            assert!(answer.text.contains("OperationOutcome"), "{media}");
            assert!(status != 415 || answer.text.contains(JSON_PATCH), "{media}: {}", answer.text);
        }
    }

    async fn a_patch_goes_through_the_act_that_knows_the_resource(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = practice.post("ServiceRequest", &build::referral()).await.expect(201).id();
        let at = format!("ServiceRequest/{referral}");
        let coach = app.staff("coach-north").await;
        let task = coach.get(format!("Task?focus={at}")).await.expect(200).resources().remove(0);
        let task = format!("Task/{}", task["id"].as_str().unwrap());
        let take = json!([
            { "op": "replace", "path": "/status", "value": "accepted" },
            { "op": "add", "path": "/owner", "value": { "reference": "PractitionerRole/coach-north" } },
        ]);
        patch(&coach, &task, &take).await.expect(428);
        patch(&practice, &task, &take).if_match(1).await.expect(403);
        patch(&coach, &task, &take).if_match(9).await.expect(412);
        let taken = patch(&coach, &task, &take).if_match(1).await.expect(200);
        assert_eq!(taken.body["owner"]["reference"], "PractitionerRole/coach-north");
        assert_eq!(app.rows("select status, owner from task").await[0], [json!("accepted"), json!("PractitionerRole/coach-north")]);
        // Someone works on it: it is not changed any more, and is withdrawn.
        let urgent = json!([{ "op": "add", "path": "/priority", "value": "urgent" }]);
        patch(&practice, &at, &urgent).await.expect(409);
        let revoke = replaces("ServiceRequest.status", "valueCode", "revoked");
        practice.send(Method::PATCH, at.as_str()).json(&revoke).await.expect(200);
        assert_eq!(app.rows("select state from referral").await[0][0], "withdrawn");
        assert_eq!(app.rows("select status from task").await[0][0], "cancelled");
    }
}
