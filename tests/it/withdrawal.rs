//! A referral belongs to its sender: who changes it, until when, and how it is taken back.

use serde_json::{Value, json};

use crate::referral::{reference_of, tasks_of};
use crate::support::{TestApp, build, on_each_database};

async fn claim(app: &TestApp, task: &Value) {
    let path = format!("Task/{}/$claim", task["id"].as_str().unwrap());
    let nothing = build::parameters(&[]);
    let version = task["meta"]["versionId"].as_str().unwrap();
    app.staff("coach-north").await.post(path, &nothing).if_match(version).await.expect(200);
}

on_each_database! {
    async fn the_sender_takes_a_referral_back_and_its_open_tasks_end(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for (status, claimed) in [("revoked", false), ("entered-in-error", false), ("revoked", true)] {
            let made = practice.post("ServiceRequest", &build::referral()).await.expect(201);
            let id = made.id();
            if claimed {
                claim(&app, &tasks_of(&app, &id).await[0]).await;
            }
            let mut request = made.body.clone();
            request["status"] = json!(status);
            let path = format!("ServiceRequest/{id}");
            let answer = practice.put(path.as_str(), &request).if_match(made.version()).await.expect(200);
            assert_eq!((answer.body["status"].clone(), answer.version()), (json!(status), 2));
            let tasks = tasks_of(&app, &id).await;
            assert_eq!(tasks.len(), 1, "{tasks:#?}");
            assert_eq!(tasks[0]["status"], "cancelled", "{status}, claimed: {claimed}");
            assert_eq!(app.count(&format!("task where referral = '{id}' and open")).await, 0);
            let told = practice.get(format!("ServiceRequest/{id}/$status")).await.expect(200);
            assert!(told.text.contains("withdrawn"), "{}", told.text);
        }
    }

    async fn a_referral_is_taken_back_in_a_bundle_too_and_resending_it_does_not_bring_it_back(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        let made = practice.post("ServiceRequest", &referral).await.expect(201);
        let path = format!("ServiceRequest/{}", made.id());
        let mut request = made.body.clone();
        request["status"] = json!("revoked");
        let entry = |version: &str| {
            json!({ "resourceType": "Bundle", "type": "transaction", "entry": [{
                "fullUrl": format!("{}/fhir/{path}", app.base),
                "resource": request,
                "request": { "method": "PUT", "url": path, "ifMatch": format!("W/\"{version}\"") },
            }]})
        };
        practice.post("", &entry("7")).await.expect(412);
        assert_eq!(tasks_of(&app, &made.id()).await[0]["status"], "requested");
        practice.post("", &entry("1")).await.expect(200);
        assert_eq!(tasks_of(&app, &made.id()).await[0]["status"], "cancelled");
        let again = practice.post("ServiceRequest", &referral).await.expect(200);
        assert_eq!((again.id(), again.body["status"].clone()), (made.id(), json!("revoked")));
        assert_eq!(app.count("task where open").await, 0);
    }

    async fn until_someone_works_on_it_the_sender_may_change_it(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let path = format!("ServiceRequest/{}", made.id());
        // What the sender holds has no identifier of ours.
        let mut request = made.body.clone();
        request["identifier"] = json!([made.body["identifier"][0]]);
        request.as_object_mut().unwrap().remove("meta");
        request["note"] = json!([{ "text": "Prefers mornings." }]);
        let changed = practice.put(path.as_str(), &request).if_match(1).await.expect(200);
        assert_eq!(reference_of(&changed.body), reference_of(&made.body));
        assert_eq!(changed.body["note"][0]["text"], "Prefers mornings.");
        let stale = practice.put(path.as_str(), &request).if_match(1).await.expect(412);
        assert_eq!(stale.issue(), "conflict");
        assert_eq!(practice.get(format!("{path}/_history/1")).await.expect(200).body, made.body);

        claim(&app, &tasks_of(&app, &made.id()).await[0]).await;
        request["note"][0]["text"] = json!("Prefers evenings.");
        practice.put(path.as_str(), &request).if_match(2).await.expect(409);
        assert_eq!(practice.get(path.as_str()).await.expect(200).version(), 2);
    }

    async fn a_referral_does_not_take_over_the_identifier_of_another(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let first = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let second = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let mut draft = build::referral();
        draft["status"] = json!("draft");
        let draft = practice.post("ServiceRequest", &draft).await.expect(201);
        let stored = app.stored().await;
        let own = &second.body["identifier"][0];
        let taken = &first.body["identifier"][0];
        for (before, status, identifiers) in [
            (&second, "active", json!([taken])),
            (&second, "active", json!([own, taken])),
            (&second, "revoked", json!([taken])),
            (&draft, "active", json!([taken])),
        ] {
            let mut changed = before.body.clone();
            changed["status"] = json!(status);
            changed["identifier"] = identifiers;
            let refused = practice.put(format!("ServiceRequest/{}", before.id()), &changed).if_match(1).await.expect(409);
            assert_eq!((refused.issue(), refused.expression()), ("conflict", "ServiceRequest.identifier"));
            assert!(refused.text.contains(&first.id()), "{}", refused.text);
        }
        assert_eq!(app.stored().await, stored);
        let mut changed = second.body.clone();
        changed["identifier"] = json!([own, { "system": "https://practice.example/Id/other", "value": second.id() }]);
        practice.put(format!("ServiceRequest/{}", second.id()), &changed).if_match(1).await.expect(200);
    }

    async fn nobody_but_the_sender_changes_a_referral(app: TestApp) {
        let sender = app.practice("TESTA1").await;
        let made = sender.post("ServiceRequest", &build::referral_with(build::person(build::BERT))).await.expect(201);
        let path = format!("ServiceRequest/{}", made.id());
        let mut request = made.body.clone();
        request["status"] = json!("revoked");
        // The registered practice sees it, the others do not, Live Well's own works on it: none of them is its sender.
        app.practice("TESTA2").await.put(path.as_str(), &request).if_match(1).await.expect(403);
        app.practice("TESTA3").await.put(path.as_str(), &request).if_match(1).await.expect(404);
        app.system().await.put(path.as_str(), &request).if_match(1).await.expect(403);
        app.staff("coach-central").await.put(path.as_str(), &request).if_match(1).await.expect(403);
        assert_eq!(sender.get(path.as_str()).await.expect(200).body, made.body);
        assert_eq!(tasks_of(&app, &made.id()).await[0]["status"], "requested");
    }

    async fn completed_is_the_services_to_say_and_a_referral_stays_with_its_person(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let path = format!("ServiceRequest/{}", made.id());
        for change in [
            json!({ "status": "completed" }),
            json!({ "status": "on-hold" }),
            json!({ "subject": build::by_number(build::BERT.0) }),
        ] {
            let mut request = made.body.clone();
            request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            practice.put(path.as_str(), &request).if_match(1).await.expect(409);
        }
        assert_eq!(practice.get(path.as_str()).await.expect(200).version(), 1);
    }

    async fn a_referral_that_was_taken_back_stays_so_and_its_sender_is_told_to_send_a_new_one(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let path = format!("ServiceRequest/{}", made.id());
        let mut request = made.body.clone();
        request["status"] = json!("revoked");
        practice.put(path.as_str(), &request).if_match(1).await.expect(200);
        let refused = practice.put(path.as_str(), &made.body).if_match(2).await.expect(409);
        assert_eq!(refused.expression(), "ServiceRequest.status");
        let text = refused.body["issue"][0]["diagnostics"].as_str().unwrap();
        assert!(text.contains("withdrawn") && text.contains("Send a new one"), "{text}");
        assert_eq!(practice.get(path.as_str()).await.expect(200).body["status"], "revoked");
    }
}
