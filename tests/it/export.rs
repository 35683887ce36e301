//! Bulk export: everything as it was at one moment, once, for the organisation's own systems alone.

use std::collections::BTreeMap;
use std::time::Duration;

use livewell::store::{At, Belongs, ExportRow, Stored};
use serde_json::{Value, json};

use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

async fn asked(caller: &Caller, path: &str) -> Answer {
    caller.get(path).header("Prefer", "respond-async").await
}

/// Asks for an export, and answers where its status is.
async fn begun(caller: &Caller, path: &str) -> String {
    let answer = asked(caller, path).await.expect(202);
    answer.header("content-location").to_owned()
}

/// Waits until an export is done, and answers its manifest.
async fn done(app: &TestApp, caller: &Caller, status: &str) -> Value {
    for _ in 0..600 {
        app.clock.advance(Duration::from_millis(1100));
        let answer = caller.get(status).await;
        if answer.status == 200 {
            return answer.body;
        }
        assert!(answer.status == 202 && !answer.header("retry-after").is_empty(), "{answer:?}");
        assert!(answer.header("x-progress").contains("types done"), "{}", answer.header("x-progress"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the export does not end");
}

/// Every resource of an export, by type. Each file has as many lines as the manifest says.
async fn files(caller: &Caller, manifest: &Value) -> BTreeMap<String, Vec<Value>> {
    let mut all = BTreeMap::new();
    for file in manifest["output"].as_array().unwrap() {
        let answer = caller.get(file["url"].as_str().unwrap()).await.expect(200);
        assert_eq!(answer.header("content-type"), "application/fhir+ndjson");
        let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len() as u64, file["count"].as_u64().unwrap());
        assert!(lines.iter().all(|line| line["resourceType"] == file["type"]));
        all.insert(file["type"].as_str().unwrap().to_owned(), lines);
    }
    all
}

async fn claim(app: &TestApp) -> String {
    let wanted = build::parameters(&[("role", "valueCode", json!("health-coach"))]);
    app.staff("coach-north").await.post("Task/$claim-next", &wanted).await.expect(200).id()
}

on_each_database! {
    async fn an_export_is_everything_as_it_was_when_it_was_asked_for(app: TestApp) {
        let (system, practice) = (app.system().await, app.practice("TESTA1").await);
        for _ in 0..3 {
            practice.post("ServiceRequest", &build::referral()).await.expect(201);
        }
        let before = app.rows("select kind, count(*) from resource group by kind order by kind").await;
        let status = begun(&system, "$export?_outputFormat=ndjson").await;
        // What happens while it is worked on is not in it.
        app.clock.advance(Duration::from_secs(1));
        let task = claim(&app).await;
        practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let manifest = done(&app, &system, &status).await;
        assert_eq!(manifest["requiresAccessToken"], true);
        assert_eq!((manifest["error"].clone(), manifest["request"].clone()),
            (json!([]), json!(format!("{}/fhir/$export?_outputFormat=ndjson", app.base))));
        let all = files(&system, &manifest).await;
        let counted: Vec<Vec<Value>> = all.iter().map(|(kind, lines)| vec![json!(kind), json!(lines.len())]).collect();
        assert_eq!(counted, before);
        assert!(all["Task"].iter().all(|task| task["status"] == "requested"));
        assert!(all["Task"].iter().any(|t| t["id"] == task.as_str()));

        // From there on: what has happened since.
        let since = manifest["transactionTime"].as_str().unwrap();
        app.clock.advance(Duration::from_secs(600));
        let status = begun(&system, &format!("$export?_type=Task,ServiceRequest,Location&_since={since}")).await;
        let all = files(&system, &done(&app, &system, &status).await).await;
        assert!(all["Task"].iter().any(|t| t["id"] == task.as_str() && t["status"] == "accepted"));
        assert!(!all["ServiceRequest"].is_empty());
        let audit = app.count("audit where interaction in ('$export', '$export download')").await;
        assert!(audit >= 2 + all.len() as i64, "{audit}");
    }

    async fn what_changed_long_before_since_is_left_out(app: TestApp) {
        let (system, practice) = (app.system().await, app.practice("TESTA1").await);
        practice.post("ServiceRequest", &build::referral()).await.expect(201);
        app.clock.advance(Duration::from_secs(3600));
        let late = practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let since = (app.clock.now() - chrono::TimeDelta::minutes(1)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let status = begun(&system, &format!("$export?_type=ServiceRequest&_since={since}")).await;
        let all = files(&system, &done(&app, &system, &status).await).await;
        assert_eq!(all["ServiceRequest"].iter().map(|r| r["id"].clone()).collect::<Vec<_>>(), [json!(late.id())]);
    }

    async fn a_long_file_is_whole_also_when_the_worker_dies_and_something_was_deleted(app: TestApp) {
        let system = app.system().await;
        let now = At::from(app.clock.now());
        let stored = |n: i64, at: At, deleted: bool| {
            let id = format!("measure-{n:05}");
            let body = json!({ "resourceType": "Observation", "id": id, "status": "final", "code": { "text": "x" } });
            let Belongs { sender, person, referral } = Belongs::default();
            Stored { kind: "Observation".to_owned(), id, version: 1, updated_at: at, deleted, sender, person, referral,
                body: body.to_string() }
        };
        let mut tx = app.store().write().await.unwrap();
        // Every tenth is deleted, every seventh came later.
        let rows: Vec<Stored> = (0..1700).map(|n| stored(n, if n % 7 == 0 { At(now.0 + 1) } else { now }, n % 10 == 0)).collect();
        tx.insert_resources(&rows).await.unwrap();
        tx.commit().await.unwrap();
        let expected = (0..1700).filter(|n| n % 7 != 0 && n % 10 != 0).count();
        let status = begun(&system, "$export?_type=Observation").await;
        app.kill();
        app.restart().await;
        app.clock.advance(Duration::from_secs(61));
        let all = files(&system, &done(&app, &system, &status).await).await;
        let mut ids: Vec<&str> = all["Observation"].iter().filter_map(|o| o["id"].as_str()).collect();
        assert_eq!(ids.len(), expected);
        ids.dedup();
        assert_eq!(ids.len(), expected);
    }

    async fn people_and_groups_are_exported_without_the_rest(app: TestApp) {
        let (system, practice) = (app.system().await, app.practice("TESTA1").await);
        for number in [build::ADA.0, build::BERT.0] {
            practice.post("ServiceRequest", &build::referral_of(number)).await.expect(201);
        }
        let ada = app.rows(&format!("select id from person where nhs_number = '{}'", build::ADA.0)).await;
        let ada = ada[0][0].as_str().unwrap().to_owned();
        let status = begun(&system, "Patient/$export").await;
        let all = files(&system, &done(&app, &system, &status).await).await;
        assert!(!all.contains_key("Location") && all["ServiceRequest"].len() == 2, "{:?}", all.keys());
        let group = json!({ "resourceType": "Group", "type": "person", "actual": true,
            "member": [{ "entity": { "reference": format!("Patient/{ada}") } }] });
        let group = system.post("Group", &group).await.expect(201).id();
        let status = begun(&system, &format!("Group/{group}/$export?_type=ServiceRequest,Patient,Location")).await;
        let all = files(&system, &done(&app, &system, &status).await).await;
        assert_eq!(all["ServiceRequest"].len(), 1);
        assert!(all["Patient"].iter().any(|p| p["id"] == ada.as_str()) && !all.contains_key("Location"));
        asked(&system, "Group/nobody/$export").await.expect(404);
    }

    async fn only_systems_of_the_organisation_export_and_only_what_they_may_read(app: TestApp) {
        let system = app.system().await;
        for other in [app.practice("TESTA1").await, app.staff("coach-north").await, app.staff("coordinator").await] {
            let answer = asked(&other, "$export?_type=Task").await;
            assert_eq!(answer.status, 403, "{}", answer.text);
        }
        let narrow = app.client("narrow-system", &app.organization(), "system/Task.rs").await;
        asked(&narrow, "$export?_type=Task,Patient").await.expect(403);
        app.practice("TESTA1").await.post("ServiceRequest", &build::referral()).await.expect(201);
        let status = begun(&narrow, "$export").await;
        let manifest = done(&app, &narrow, &status).await;
        assert_eq!(files(&narrow, &manifest).await.into_keys().collect::<Vec<_>>(), ["Task"]);
        // Another client's export answers like none.
        system.get(status.as_str()).await.expect(404);
        let file = manifest["output"][0]["url"].as_str().unwrap();
        system.get(file).await.expect(404);
        narrow.get(file.replace("Task.ndjson", "Patient.ndjson")).await.expect(403);
        narrow.get(file).header("Authorization", "").await.expect(401);
    }

    async fn of_a_type_only_what_its_filters_find_is_exported(app: TestApp) {
        let (system, practice) = (app.system().await, app.practice("TESTA1").await);
        for number in [build::ADA.0, build::ADA.0, build::BERT.0] {
            practice.post("ServiceRequest", &build::referral_of(number)).await.expect(201);
        }
        let task = claim(&app).await;
        let ada = app.rows(&format!("select id from person where nhs_number = '{}'", build::ADA.0)).await;
        let ada = ada[0][0].as_str().unwrap();
        // Two of one type: what either finds. A comma parts values, too.
        for filters in [
            "_typeFilter=Task%3Fstatus%3Daccepted,Task%3Fstatus%3Drejected,ServiceRequest%3Fpatient%3DPatient/ADA".to_owned(),
            "_typeFilter=Task%3Fstatus%3Drejected,accepted&_typeFilter=ServiceRequest%3Fpatient%3DADA%26status%3Dactive".to_owned(),
        ] {
            let status = begun(&system, &format!("$export?_type=Task,ServiceRequest,Location&{}", filters.replace("ADA", ada))).await;
            // As it was then.
            let all = files(&system, &done(&app, &system, &status).await).await;
            assert_eq!(all["Task"].iter().map(|t| t["id"].clone()).collect::<Vec<_>>(), [json!(task)], "{filters}");
            assert_eq!((all["ServiceRequest"].len(), all.contains_key("Location")), (2, true), "{filters}");
        }
    }

    async fn what_was_deleted_since_is_told(app: TestApp) {
        let (system, practice) = (app.system().await, app.practice("TESTA1").await);
        let mut gone = Vec::new();
        for name in ["a", "b", "c"] {
            gone.push(crate::conditional::made(&practice, &crate::conditional::condition(name, "x")).await["id"].as_str().unwrap().to_owned());
        }
        let kept = gone.pop().unwrap();
        practice.send(reqwest::Method::DELETE, format!("Condition/{}", gone[0])).await.expect(204);
        let manifest = done(&app, &system, &begun(&system, "$export?_type=Condition").await).await;
        assert!(manifest.get("deleted").is_none(), "{manifest}");
        assert_eq!(files(&system, &manifest).await["Condition"].len(), 2);
        let since = manifest["transactionTime"].as_str().unwrap().to_owned();
        app.clock.advance(Duration::from_secs(3600));
        practice.send(reqwest::Method::DELETE, format!("Condition/{}", gone[1])).await.expect(204);
        let status = begun(&system, &format!("$export?_type=Condition,Location&_since={since}")).await;
        app.clock.advance(Duration::from_secs(1));
        // Afterwards.
        practice.send(reqwest::Method::DELETE, format!("Condition/{kept}")).await.expect(204);
        let manifest = done(&app, &system, &status).await;
        let told = manifest["deleted"].as_array().unwrap();
        assert_eq!((told.len(), &told[0]["type"]), (1, &json!("Bundle")), "{manifest}");
        let file = system.get(told[0]["url"].as_str().unwrap()).await.expect(200);
        let lines: Vec<Value> = file.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let requests = lines.iter().flat_map(|bundle| bundle["entry"].as_array().unwrap()).map(|entry| &entry["request"]);
        let urls: Vec<&str> = requests.filter(|r| r["method"] == "DELETE").filter_map(|r| r["url"].as_str()).collect();
        // The first was deleted within the five minutes before, which are looked at once more.
        assert_eq!(urls.iter().copied().collect::<std::collections::BTreeSet<_>>(),
            gone.iter().map(|id| format!("Condition/{id}")).collect::<Vec<_>>().iter().map(String::as_str).collect());
        assert!(lines.iter().all(|bundle| bundle["type"] == "transaction"));
        let narrow = app.client("narrow-system", &app.organization(), "system/Location.r").await;
        narrow.get(told[0]["url"].as_str().unwrap()).await.expect(403);
    }

    async fn what_is_not_understood_is_refused(app: TestApp) {
        let system = app.system().await;
        system.get("$export").await.expect(400);
        for query in ["_outputFormat=text/csv", "_type=Nothing", "_type=AuditEvent", "_since=yesterday", "_since=2026-01-01",
            "_typeFilter=Task%3Ffocus:ServiceRequest.status%3Dactive", "_typeFilter=Task%3Fcolour%3Dred", "_typeFilter=Tasks%3Fstatus%3Drequested",
            "_type=Patient&_typeFilter=Task%3Fstatus%3Drequested", "_elements=id"] {
            asked(&system, &format!("$export?{query}")).await.expect(400);
        }
        let lenient = system.get("$export?_elements=id&_type=Task").header("Prefer", "respond-async, handling=lenient");
        lenient.await.expect(202);
        system.get("$export-status/nobody").await.expect(404);
    }

    async fn an_export_is_asked_about_once_a_second_and_is_gone_when_deleted_or_a_day_old(app: TestApp) {
        let system = app.system().await;
        let row = |id: &str| ExportRow {
            id: id.to_owned(), client: system.id.clone(), request: String::new(), types: "[\"Task\"]".to_owned(),
            scope: "all".to_owned(), since: At(0), taken_at: app.clock.now().into(), state: "working".to_owned(), place: 0,
            after: String::new(), counted: 7, asked_at: At(0),
            expires_at: (app.clock.now() + chrono::TimeDelta::hours(24)).into(), lease: 1, lease_until: At::NEVER,
            filters: String::new(), deleted: 0,
        };
        let mut tx = app.store().write().await.unwrap();
        tx.insert_export(&row("slow"), &[]).await.unwrap();
        tx.commit().await.unwrap();
        let answer = system.get("$export-status/slow").await.expect(202);
        assert_eq!(answer.header("x-progress"), "Task: 7 so far; 0 of 1 types done");
        let hasty = system.get("$export-status/slow").await.expect(429);
        assert!(!hasty.header("retry-after").is_empty() && hasty.issue() == "throttled");
        app.clock.advance(Duration::from_secs(2));
        system.get("$export-status/slow").await.expect(202);
        system.send(reqwest::Method::DELETE, "$export-status/slow").await.expect(202);
        system.get("$export-status/slow").await.expect(404);
        let status = begun(&system, "$export?_type=Location").await;
        let manifest = done(&app, &system, &status).await;
        app.clock.advance(Duration::from_secs(25 * 3600));
        system.get(status.as_str()).await.expect(404);
        system.get(manifest["output"][0]["url"].as_str().unwrap()).await.expect(404);
    }
}
