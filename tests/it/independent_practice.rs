//! The practice played by a FHIR server that nobody here wrote: `helios-hfs` (0.2.7), where `HFS_BIN` names its binary
//! (`cargo install helios-hfs`, half an hour). Without it these tests say that they were skipped.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use livewell::demo::directory::Directory;
use livewell::fhir::systems::RECORD;
use serde_json::{Value, json};

use crate::r4_tables::{of_kind, read_package};
use crate::support::{TestApp, build, free_port, on_each_database};
use crate::test_data;

/// The server in a process of its own, stopped when dropped.
struct Hfs {
    child: Child,
    base: String,
    _folder: tempfile::TempDir,
}

impl Drop for Hfs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hfs {
    async fn start(app: &TestApp) -> Option<Hfs> {
        let Some(binary) = std::env::var_os("HFS_BIN") else {
            eprintln!("skipped: HFS_BIN names no helios-hfs");
            return None;
        };
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        define_searches(folder.path());
        let base = format!("http://127.0.0.1:{port}");
        let child = Command::new(binary)
            .current_dir(folder.path())
            .env("HFS_SERVER_PORT", port.to_string())
            .env("HFS_BASE_URL", &base)
            .env("HFS_DATABASE_URL", folder.path().join("practice.db"))
            .env("HFS_LOG_LEVEL", "error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let hfs = Hfs { child, base, _folder: folder };
        let until = Instant::now() + Duration::from_secs(60);
        while !app.http.get(format!("{}/metadata", hfs.base)).send().await.is_ok_and(|a| a.status() == 200) {
            assert!(Instant::now() < until, "helios-hfs does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(hfs)
    }

    async fn found(&self, app: &TestApp, search: &str) -> Vec<Value> {
        let answer = app.http.get(format!("{}/{search}", self.base)).send().await.unwrap();
        let bundle: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries.into_iter().map(|entry| entry["resource"].clone()).collect()
    }
}

/// Gives it R4's search parameters, which its crate does not bring along: without them it finds nothing by identifier.
fn define_searches(folder: &Path) {
    let Some(definitions) = test_data::present("r4-definitions/hl7.fhir.r4.core.tgz") else { return };
    let package = read_package(&definitions);
    let entry: Vec<Value> = of_kind(&package, "SearchParameter").map(|one| json!({ "resource": one })).collect();
    let bundle = json!({ "resourceType": "Bundle", "type": "collection", "entry": entry });
    std::fs::create_dir(folder.join("data")).unwrap();
    std::fs::write(folder.join("data/search-parameters-r4.json"), bundle.to_string()).unwrap();
}

on_each_database! {
    async fn an_independent_fhir_server_has_each_write_back_once_and_its_correction(app: TestApp) {
        let Some(hfs) = Hfs::start(&app).await else { return };
        let person = build::patient(build::ADA.0, build::ADA.1, build::ADA.3);
        let made = app
            .http
            .post(format!("{}/Patient", hfs.base))
            .header("content-type", "application/fhir+json")
            .body(person.to_string())
            .send()
            .await
            .unwrap();
        assert!(made.status().is_success(), "{}", made.status());
        let base = hfs.base.clone();
        app.load(&Directory::embedded().unwrap().with_endpoints(move |_| base.clone()).unwrap()).await;

        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let referral = practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let id = app.rows(&format!("select id from person where nhs_number = '{}'", build::ADA.0)).await;
        let patient = format!("Patient/{}", id[0][0].as_str().unwrap());
        let encounter = build::encounter(&format!("ServiceRequest/{}", referral.id()), &patient);
        let recorded = coach.post("Encounter", &encounter).await.expect(201);
        app.settled().await;
        let shown = app.rows("select state, why from delivery").await;
        assert_eq!(shown, [[json!("delivered"), json!("")]]);
        let search = format!("Encounter?identifier={RECORD}|{}", recorded.id());
        assert_eq!(hfs.found(&app, &search).await.len(), 1);

        // Sent again as if the answer had been lost, and then corrected.
        app.rows("update delivery set state = 'unknown', settled_at = null, due_at = 0").await;
        app.rows("delete from practice_copy").await;
        app.clock.advance(Duration::from_secs(1));
        app.settled().await;
        assert_eq!(hfs.found(&app, &search).await.len(), 1, "looked for, found, and not doubled");
        let mut corrected = recorded.body.clone();
        corrected["status"] = json!("entered-in-error");
        let place = format!("Encounter/{}", recorded.id());
        coach.put(place, &corrected).if_match(recorded.version()).await.expect(200);
        app.settled().await;
        let there = hfs.found(&app, &search).await;
        assert_eq!((there.len(), there[0]["status"].as_str()), (1, Some("entered-in-error")));
    }
}
