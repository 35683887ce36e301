//! What is deleted answers so, keeps its history and can come back; what others rely on is not deleted.

use reqwest::Method;
use serde_json::{Value, json};

use crate::conditional::{by_name, condition, made};
use crate::support::caller::{Ask, Caller};
use crate::support::{TestApp, build, on_each_database};

fn delete(caller: &Caller, path: impl Into<String>) -> Ask {
    caller.send(Method::DELETE, path)
}

on_each_database! {
    async fn what_is_deleted_is_gone_its_history_stays_and_it_can_come_back(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let there = made(&practice, &condition("there", "Before")).await;
        let at = format!("Condition/{}", there["id"].as_str().unwrap());
        let deleted = delete(&practice, at.as_str()).await.expect(204);
        assert_eq!((deleted.text.as_str(), deleted.header("etag")), ("", "W/\"2\""));
        assert_eq!(practice.get(at.as_str()).await.expect(410).issue(), "deleted");
        practice.get(format!("{at}/_history/1")).await.expect(200);
        practice.get(format!("{at}/_history/2")).await.expect(410);
        assert!(practice.get(by_name("there")).await.expect(200).resources().is_empty());
        let again = delete(&practice, at.as_str()).header("Prefer", "return=OperationOutcome").await.expect(200);
        assert_eq!(again.body["issue"][0]["severity"], "information");
        assert_eq!(app.count("resource_history where kind = 'Condition'").await, 1, "once is enough");
        practice.send(Method::PATCH, at.as_str()).text("application/json-patch+json", "[]").await.expect(404);
        // To others it never was.
        let other = app.practice("TESTA3").await;
        other.get(at.as_str()).await.expect(404);
        other.put(at.as_str(), &there).await.expect(404);
        let back = practice.put(at.as_str(), &there).await.expect(201);
        assert_eq!(back.version(), 3);
        assert_eq!(practice.get(by_name("there")).await.expect(200).resources().len(), 1);
        let trail = app.rows("select interaction from audit where interaction = 'delete'").await;
        assert_eq!(trail.len(), 1);
        let narrow = app.client("no-delete", "TESTA1", "system/Condition.crus").await;
        assert!(delete(&narrow, at.as_str()).await.expect(403).text.contains("system/Condition.d"));
    }

    async fn what_others_rely_on_is_not_deleted_and_the_answer_says_what_to_do(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let patient = practice.post("Patient", &build::person(build::ADA)).await.expect(201).id();
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": format!("Patient/{patient}") });
        let referral = practice.post("ServiceRequest", &referral).await.expect(201).id();
        let coach = app.staff("coach-north").await;
        let request = format!("ServiceRequest/{referral}");
        let task = coach.get(format!("Task?focus={request}")).await.expect(200).resources().remove(0);
        let person = task["for"]["reference"].as_str().unwrap().to_owned();
        let met = coach.post("Encounter", &build::encounter(&request, &person)).await.expect(201).id();
        app.settled().await;
        let system = app.system().await;
        let before = app.stored().await;
        let task = format!("Task/{}", task["id"].as_str().unwrap());
        for (caller, path, status, says) in [
            (&practice, request.clone(), 409, "revoked"),
            (&practice, format!("Patient/{patient}"), 409, "Withdraw"),
            (&practice, task.clone(), 403, ""),
            (&practice, format!("Encounter/{met}"), 403, ""),
            (&coach, request.clone(), 403, ""),
            (&coach, task.clone(), 409, "cancelled"),
            (&coach, format!("Encounter/{met}"), 409, "entered-in-error"),
            (&system, person.clone(), 403, ""),
            (&coach, "Location/north".to_owned(), 403, ""),
        ] {
            let refused = delete(caller, path.as_str()).await.expect(status);
            assert!(refused.text.contains(says), "{path}: {}", refused.text);
        }
        assert_eq!(app.stored().await, before);
        for kind in ["EpisodeOfCare", "CarePlan"] {
            let id: Value = app.rows(&format!("select id from resource where kind = '{kind}'")).await[0][0].clone();
            let refused = delete(&system, format!("{kind}/{}", id.as_str().unwrap())).await;
            assert!(matches!(refused.status, 403 | 409), "{kind}: {}", refused.text);
        }
        // The directory is its keepers' own.
        let place = json!({ "resourceType": "Location", "id": "annexe", "name": "Annexe" });
        system.put("Location/annexe", &place).await.expect(201);
        delete(&system, "Location/annexe").await.expect(204);
        system.get("Location/annexe").await.expect(410);
    }
}
