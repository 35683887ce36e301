//! Write-back through MESH, on NHS England's own sandbox: what is posted, what is answered, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use livewell::config::Config;
use livewell::fhir::check::check;
use livewell::fhir::systems::{NHS_NUMBER, ODS, RECORD};
use livewell::fhir::{Resource, Severity, path};
use livewell::store::At;
use serde_json::{Value, json};

use crate::journey::{Journey, activation, encounter, goal, record, referred, sharing, transact};
use crate::support::app::run_with;
use crate::support::mesh::{Mailbox, Message, Sandbox, answer, configured, report};
use crate::support::{Database, TestApp};

/// The service, with its mailbox in a sandbox of this test's own, and the practice TESTA1 reached by it.
struct Reached {
    app: TestApp,
    base: String,
    practice: Mailbox,
    ours: Mailbox,
}

/// Tests that run on each database, with a sandbox each.
macro_rules! through_mesh {
    ($($(#[$meta:meta])* async fn $name:ident($with:ident: Reached, $change:expr) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$meta])*
            async fn told($with: Reached) $body

            fn on(database: Database) {
                let Some(sandbox) = Sandbox::start(&[]) else { return };
                let base = sandbox.url();
                let change: fn(&mut Config) = $change;
                let url = base.clone();
                run_with(
                    database,
                    move |config| {
                        configured(config, &url);
                        change(config);
                    },
                    move |app| async move {
                        let _kept = sandbox;
                        told(reached(app, base).await).await;
                    },
                );
            }

            #[test]
            fn sqlite() {
                on(Database::Sqlite);
            }

            #[test]
            fn postgres() {
                on(Database::Postgres);
            }
        }
    )*};
}

async fn reached(app: TestApp, base: String) -> Reached {
    by_mesh(&app, "TESTA1").await;
    let (practice, ours) = (Mailbox::of_practice(&base, &app.http), Mailbox::ours(&base, &app.http));
    Reached { app, base, practice, ours }
}

/// Makes a practice's Endpoint one of MESH.
pub(crate) async fn by_mesh(app: &TestApp, ods: &str) {
    let found =
        app.rows(&format!("select body from resource where kind = 'Endpoint' and body like '%/{ods}/fhir%'")).await;
    let mut endpoint: Value = serde_json::from_str(found[0][0].as_str().unwrap()).unwrap();
    endpoint["connectionType"] =
        json!({ "system": "https://livewell.example/CodeSystem/connection-type", "code": "mesh" });
    endpoint["address"] = json!("X26ABC2");
    app.load(&json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": endpoint }] })).await;
}

impl Reached {
    /// Lets the time to the next look into the inbox pass, until nothing waits there that is for us.
    async fn hears(&self) {
        self.app.clock.advance(Duration::from_secs(301));
        let patience = Instant::now() + Duration::from_secs(30);
        while !self.ours.waiting().await.is_empty() {
            assert!(Instant::now() < patience, "the inbox is not read: {:?}", self.state().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.app.settled().await;
    }

    /// State and reason of the deliveries, in the order they were queued.
    async fn state(&self) -> Vec<(String, String)> {
        let rows = self.app.rows("select state, why from delivery order by created_at, id").await;
        rows.iter().map(|r| (r[0].as_str().unwrap().to_owned(), r[1].as_str().unwrap().to_owned())).collect()
    }

    async fn states(&self) -> Vec<String> {
        self.state().await.into_iter().map(|(state, _)| state).collect()
    }

    async fn asked_of_co_ordinator(&self) -> i64 {
        self.app.count("task where role = 'co-ordinator' and code = 'delivery-failed' and open").await
    }

    /// Records an Encounter and gives the journey and the message that reached the practice.
    async fn sent(&self) -> (Journey, Message) {
        let journey = referred(&self.app, "TESTA1", "routine").await;
        let coach = self.app.staff("coach-north").await;
        record(&coach, &encounter(&self.app, &journey)).await;
        (journey, self.one().await)
    }

    /// The one message that waits for the practice, taken.
    async fn one(&self) -> Message {
        self.app.settled().await;
        let mut taken = self.practice.take().await;
        assert_eq!(taken.len(), 1, "{:?}", self.state().await);
        taken.remove(0)
    }

    /// The last delivery as `$status` shows it to the practice: its parts by name.
    async fn shown(&self, journey: &Journey) -> Vec<(String, Value)> {
        let practice = self.app.practice("TESTA1").await;
        let said = practice.get(format!("/fhir/{}/$status", journey.referral)).await.expect(200).body;
        let mut deliveries = path::all(&said, "parameter").into_iter().filter(|p| p["name"] == "delivery");
        let parts = deliveries.next_back().unwrap()["part"].as_array().unwrap().clone();
        let value = |p: &Value| p.as_object().unwrap().values().nth(1).unwrap().clone();
        parts.iter().map(|p| (p["name"].as_str().unwrap().to_owned(), value(p))).collect()
    }

    async fn shown_state(&self, journey: &Journey) -> String {
        let shown = self.shown(journey).await;
        shown.iter().find(|(name, _)| name == "state").unwrap().1.as_str().unwrap().to_owned()
    }
}

fn unchanged(_config: &mut Config) {}

through_mesh! {
    async fn what_is_recorded_goes_as_a_message_and_each_answer_is_seen(with: Reached, unchanged) {
        let journey = referred(&with.app, "TESTA1", "routine").await;
        let coach = with.app.staff("coach-north").await;
        let made = transact(&coach, &[
            encounter(&with.app, &journey),
            activation(&with.app, &journey, "56.40", Some(3)),
            goal(&journey),
        ]).await;
        let message = with.one().await;
        let delivery = with.app.rows("select id from delivery").await[0][0].as_str().unwrap().to_owned();
        assert_eq!((message.header("mex-from"), message.header("mex-to")), ("X26ABC1", "X26ABC2"));
        assert_eq!(message.header("mex-workflowid"), "LIVEWELL_WRITE_BACK");
        assert_eq!(message.header("mex-localid"), delivery);
        assert_eq!(message.header("mex-content-type"), "application/fhir+json");
        for (name, value) in &message.headers {
            let text = value.to_str().unwrap();
            assert!(!text.contains(&journey.nhs_number) && !text.contains("Example"), "{name}: {text}");
        }

        let bundle = Resource::from_value(message.bundle.clone()).unwrap();
        let errors: Vec<_> = check(&bundle, 20).into_iter().filter(|i| i.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!((&message.bundle["type"], &message.bundle["id"]), (&json!("message"), &json!(delivery)));
        let header = &message.bundle["entry"][0]["resource"];
        assert_eq!(header["resourceType"], "MessageHeader");
        let event = json!({
            "system": "https://livewell.example/CodeSystem/message-event", "code": "write-back",
            "display": "Entries for the record",
        });
        assert_eq!(header["eventCoding"], event);
        assert_eq!((&header["destination"][0]["endpoint"], &header["source"]["endpoint"]), (&json!("X26ABC2"), &json!("X26ABC1")));
        assert_eq!(header["destination"][0]["receiver"]["identifier"], json!({ "system": ODS, "value": "TESTA1" }));
        assert_eq!(header["sender"]["identifier"], json!({ "system": ODS, "value": "TESTLW" }));
        assert_eq!(path::all(header, "focus.reference").len(), 3);
        let patient = message.resources("Patient")[0];
        // All by which the practice can tell that it has the right person: nothing is read there before.
        let expected = json!({
            "resourceType": "Patient", "identifier": [{ "system": NHS_NUMBER, "value": journey.nhs_number }],
            "name": [{ "family": "Example" }], "birthDate": "1951-04-22",
        });
        assert_eq!(patient, &expected);
        let patients = path::all(&message.bundle, "entry").into_iter().find(|e| e["resource"]["resourceType"] == "Patient");
        for kept in &made {
            let (kind, id) = kept.split_once('/').unwrap();
            let entry = message.resources(kind)[0];
            assert!(path::all(entry, "identifier").iter().any(|i| i["system"] == RECORD && i["value"] == id), "{kind}");
            assert_eq!(entry["subject"]["reference"], patients.unwrap()["fullUrl"]);
            assert!(!entry.to_string().contains(&journey.person), "{kind}");
        }
        assert_eq!(message.resources("Observation")[0]["valueQuantity"]["value"].to_string(), "56.40");
        assert_eq!(message.resources("Provenance").len(), 1);

        assert_eq!(with.shown_state(&journey).await, "sent");
        with.practice.answer(&message, "write-back-response", "ok", Some("20013")).await;
        with.hears().await;
        assert_eq!(with.shown_state(&journey).await, "received");
        with.practice.answer(&message, "write-back-response", "ok", Some("30001")).await;
        with.hears().await;
        assert_eq!(with.shown_state(&journey).await, "accepted");
        assert_eq!(with.app.count("practice_copy where practice = 'TESTA1'").await, 3);
        with.practice.answer(&message, "record-filed", "ok", None).await;
        with.hears().await;
        let shown = with.shown(&journey).await;
        let names: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
        for step in ["sent", "received", "accepted", "filed"] {
            assert!(names.contains(&step), "{names:?}");
        }
        assert!(shown.contains(&("state".to_owned(), json!("filed"))), "{shown:?}");
        assert_eq!(with.asked_of_co_ordinator().await, 0);
        assert_eq!(with.app.count("audit where interaction = 'delivery accepted'").await, 1);
    }

    async fn without_agreement_to_share_detail_a_message_carries_codes_only(with: Reached, unchanged) {
        let journey = referred(&with.app, "TESTA1", "routine").await;
        let coach = with.app.staff("coach-north").await;
        transact(&coach, &[
            sharing(&with.app, &journey, "deny"),
            encounter(&with.app, &journey),
            goal(&journey),
        ]).await;
        let text = with.one().await.bundle.to_string();
        assert!(!text.contains("garden") && !text.contains("library") && text.contains("185317003"), "{text}");
    }

    async fn whatever_says_no_becomes_a_persons_task(with: Reached, unchanged) {
        for (event, response, code, why) in [
            ("write-back-response", "fatal-error", Some("20009"), "itk-20009"),
            ("write-back-response", "ok", Some("30002"), "itk-30002"),
            ("write-back-response", "fatal-error", None, "not-processed"),
            ("record-rejected", "ok", None, "record-rejected"),
        ] {
            let (journey, message) = with.sent().await;
            with.practice.answer(&message, event, response, code).await;
            with.hears().await;
            assert_eq!(with.state().await.last().unwrap(), &("refused".to_owned(), why.to_owned()));
            let shown = with.shown(&journey).await;
            assert!(shown.contains(&("state".to_owned(), json!("rejected"))) && shown.contains(&("why".to_owned(), json!(why))));
            assert!(!format!("{shown:?}").contains("Example"), "{shown:?}");
        }
        // MESH itself: nobody collected it.
        let (_, message) = with.sent().await;
        report(&with.base, &with.app.http, &message.id, "14").await;
        with.hears().await;
        assert_eq!(with.state().await.last().unwrap(), &("refused".to_owned(), "mesh-14".to_owned()));
        assert_eq!(with.asked_of_co_ordinator().await, 5);
    }

    async fn an_answer_that_stays_out_becomes_a_persons_task_and_still_counts_when_it_comes(with: Reached, unchanged) {
        let (journey, message) = with.sent().await;
        with.practice.answer(&message, "write-back-response", "ok", Some("20013")).await;
        with.hears().await;
        with.app.clock.advance(Duration::from_secs(71 * 3600));
        with.hears().await;
        assert_eq!(with.states().await, ["received"]);
        with.app.clock.advance(Duration::from_secs(3600));
        with.hears().await;
        assert_eq!(with.state().await, [("needs-person".to_owned(), "acknowledgement-missing".to_owned())]);
        assert_eq!(with.asked_of_co_ordinator().await, 1);
        with.practice.answer(&message, "write-back-response", "ok", Some("30001")).await;
        with.hears().await;
        assert_eq!(with.shown_state(&journey).await, "accepted");
        let closed = "task where role = 'co-ordinator' and code = 'delivery-failed' and status = 'cancelled'";
        assert_eq!((with.asked_of_co_ordinator().await, with.app.count(closed).await), (0, 1), "nobody has to look any more");
    }

    async fn a_late_answer_closes_the_task_only_when_nothing_else_of_the_persons_needs_anybody(with: Reached, unchanged) {
        let (journey, first) = with.sent().await;
        with.app.clock.advance(Duration::from_secs(73 * 3600));
        with.hears().await;
        let coach = with.app.staff("coach-north").await;
        record(&coach, &encounter(&with.app, &journey)).await;
        let second = with.one().await;
        with.practice.answer(&second, "record-rejected", "ok", None).await;
        with.hears().await;
        assert_eq!(with.states().await, ["needs-person", "refused"]);
        assert_eq!(with.asked_of_co_ordinator().await, 1, "one Task for both");
        with.practice.answer(&first, "write-back-response", "ok", Some("30001")).await;
        with.hears().await;
        assert_eq!((with.states().await, with.asked_of_co_ordinator().await), (vec!["accepted".into(), "refused".into()], 1));
        with.practice.answer(&second, "record-filed", "ok", None).await;
        with.hears().await;
        assert_eq!((with.states().await, with.asked_of_co_ordinator().await), (vec!["accepted".into(), "delivered".into()], 0));
    }

    async fn answers_that_come_twice_or_late_change_nothing(with: Reached, unchanged) {
        let (journey, message) = with.sent().await;
        with.practice.answer(&message, "write-back-response", "ok", Some("30001")).await;
        with.hears().await;
        let before = with.app.rows("select * from delivery").await;
        for (response, code) in [("ok", "30001"), ("ok", "20013"), ("fatal-error", "20009"), ("ok", "30002")] {
            with.practice.answer(&message, "write-back-response", response, Some(code)).await;
        }
        report(&with.base, &with.app.http, &message.id, "14").await;
        // What is about nothing of ours, and what cannot be read, harm nobody either.
        let stranger = Message { bundle: json!({ "id": "nobody" }), ..with_id("x") };
        with.practice.answer(&stranger, "record-rejected", "ok", None).await;
        with.hears().await;
        assert_eq!(with.app.rows("select * from delivery").await, before);
        assert_eq!(with.shown_state(&journey).await, "accepted");
        assert_eq!(with.asked_of_co_ordinator().await, 0);
    }

    async fn what_is_not_for_us_or_cannot_be_read_stays_in_the_inbox(with: Reached, unchanged) {
        let (_, message) = with.sent().await;
        with.practice.send("OTHER_WORKFLOW", answer(&message, "record-filed", "ok", None).to_string()).await;
        with.practice.send("LIVEWELL_WRITE_BACK_ACK", "{\"resourceType\": \"Bundle\"".to_owned()).await;
        with.practice.send("LIVEWELL_WRITE_BACK_ACK", " ".repeat(1_200_000)).await;
        let mut of_zero = answer(&message, "record-filed", "ok", None);
        of_zero["entry"][0]["resource"]["response"]["identifier"] = json!("a\u{0}b");
        with.practice.send("LIVEWELL_WRITE_BACK_ACK", of_zero.to_string()).await;
        with.practice.answer(&message, "record-filed", "ok", None).await;
        with.app.clock.advance(Duration::from_secs(301));
        let patience = Instant::now() + Duration::from_secs(30);
        while with.ours.waiting().await.len() > 4 {
            assert!(Instant::now() < patience, "what cannot be read keeps back what is behind it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(with.states().await, ["delivered"]);
    }

    async fn a_long_message_goes_in_chunks(with: Reached, |config| {
        config.mesh.chunk_bytes = 1000;
        config.mesh.compress = false;
    }) {
        let (journey, message) = with.sent().await;
        assert!(message.chunks >= 3, "{}", message.chunks);
        assert!(message.bundle.to_string().contains(&journey.nhs_number));
        assert_eq!(with.states().await, ["sent"]);
    }

    async fn a_message_is_compressed_in_its_chunks(with: Reached, |config| config.mesh.chunk_bytes = 1000) {
        let (journey, message) = with.sent().await;
        assert!(message.bundle.to_string().contains(&journey.nhs_number));
        assert_eq!(with.states().await, ["sent"]);
    }

    async fn a_correction_is_a_message_of_its_own_that_names_the_same_entry(with: Reached, unchanged) {
        let journey = referred(&with.app, "TESTA1", "routine").await;
        let coach = with.app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&with.app, &journey)).await;
        let first = with.one().await;
        let mut wrong = coach.get(format!("/fhir/{kept}")).await.expect(200).body;
        wrong["status"] = json!("entered-in-error");
        coach.put(format!("/fhir/{kept}"), &wrong).await.expect(200);
        with.app.settled().await;
        assert!(with.practice.waiting().await.is_empty(), "it waits until the first is answered");
        with.practice.answer(&first, "write-back-response", "ok", Some("30001")).await;
        with.hears().await;
        let second = with.one().await;
        assert_ne!(second.bundle["id"], first.bundle["id"]);
        let (one, other) = (first.resources("Encounter")[0], second.resources("Encounter")[0]);
        assert_eq!(one["identifier"], other["identifier"]);
        assert_eq!((&other["status"], &other["meta"]["tag"][0]["code"]), (&json!("entered-in-error"), &json!("2")));
        assert_eq!(second.resources("Provenance")[0]["activity"]["coding"][0]["code"], "UPDATE");
    }

    async fn one_of_many_instances_looks_into_the_inbox(with: Reached, unchanged) {
        let store = with.app.store();
        let now = with.app.clock.now() + chrono::Duration::hours(1);
        let (until, next) = (At::from(now + chrono::Duration::minutes(5)), At::from(now + chrono::Duration::minutes(5)));
        let mut taken = 0;
        for _ in 0..4 {
            let mut tx = store.write().await.unwrap();
            taken += i32::from(tx.take_turn("mesh inbox", now.into(), until, next).await.unwrap());
            tx.commit().await.unwrap();
        }
        assert_eq!(taken, 1);
    }
}

fn with_id(id: &str) -> Message {
    Message { id: id.to_owned(), headers: reqwest::header::HeaderMap::new(), bundle: Value::Null, chunks: 1 }
}

/// Stands before the sandbox, and loses the answer to a posting when told to.
#[derive(Clone)]
struct Between {
    sandbox: String,
    http: reqwest::Client,
    loses: Arc<AtomicBool>,
    posted: Arc<std::sync::Mutex<Vec<String>>>,
}

async fn between(State(between): State<Between>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 10_000_000).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let posting = parts.method == "POST" && path.contains("/outbox");
    if posting {
        between.posted.lock().unwrap().push(path.clone());
    }
    let mut headers = parts.headers;
    headers.remove("host");
    let answer = between.http.request(parts.method, format!("{}{path}", between.sandbox)).headers(headers).body(body);
    let answer = answer.send().await.unwrap();
    if posting && between.loses.swap(false, Ordering::SeqCst) {
        // MESH has it; the service does not hear so.
        std::panic::resume_unwind(Box::new("hang up"));
    }
    let mut said = Response::builder().status(answer.status().as_u16());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
        said = said.header(name, value);
    }
    said.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// Runs a test with something between the service and the sandbox.
fn through_a_line(database: Database, chunk_bytes: usize, lost: usize) {
    let Some(sandbox) = Sandbox::start(&[]) else { return };
    let (loses, posted) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let line = Between { sandbox: sandbox.url(), http, loses: Arc::clone(&loses), posted: Arc::clone(&posted) };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let base = sandbox.url();
    run_with(
        database,
        move |config| {
            configured(config, &url);
            config.mesh.chunk_bytes = chunk_bytes;
            config.mesh.compress = false;
        },
        move |app| async move {
            let _kept = sandbox;
            let app_router = Router::new().fallback(between).with_state(line);
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::spawn(async move { axum::serve(listener, app_router).await });
            let with = reached(app, base).await;
            let journey = referred(&with.app, "TESTA1", "routine").await;
            let coach = with.app.staff("coach-north").await;
            loses.store(true, Ordering::SeqCst);
            record(&coach, &encounter(&with.app, &journey)).await;
            with.app.settled().await;
            assert!(!loses.load(Ordering::SeqCst), "nothing was lost: {:?}", with.state().await);
            for _ in 0..5 {
                with.app.clock.advance(Duration::from_secs(120));
                with.app
                    .system()
                    .await
                    .post("", &json!({ "resourceType": "Bundle", "type": "transaction" }))
                    .await
                    .expect(200);
                with.app.settled().await;
            }
            assert_eq!(with.states().await, ["sent"]);
            let message = with.one().await;
            assert!(message.bundle.to_string().contains(&journey.nhs_number));
            with.practice.answer(&message, "write-back-response", "ok", Some("30001")).await;
            with.hears().await;
            assert_eq!(with.states().await, ["accepted"]);
            let first: usize = posted.lock().unwrap().iter().filter(|path| path.ends_with("/outbox")).count();
            assert_eq!(first, lost, "{:?}", posted.lock().unwrap());
        },
    );
}

#[test]
fn a_posting_whose_answer_was_lost_is_looked_for_and_not_posted_again_sqlite() {
    through_a_line(Database::Sqlite, 1_000_000, 1);
}

#[test]
fn a_posting_whose_answer_was_lost_is_looked_for_and_not_posted_again_postgres() {
    through_a_line(Database::Postgres, 1_000_000, 1);
}

#[test]
fn of_a_message_that_mesh_has_in_part_another_is_made() {
    // The answer to the first of several chunks is lost: MESH will never hand that one over.
    through_a_line(Database::Sqlite, 1000, 2);
}
