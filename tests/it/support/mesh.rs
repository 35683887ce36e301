//! NHS England's MESH sandbox, started for a test, and a practice's system that has a mailbox there.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::hmac;
use flate2::read::MultiGzDecoder;
use livewell::config::Config;
use livewell::fhir::path;
use serde_json::{Value, json};

/// Our mailbox in the sandbox, and the practice's.
pub(crate) const OURS: &str = "X26ABC1";
pub(crate) const PRACTICES: &str = "X26ABC2";
const PASSWORD: &str = "password";
const SHARED_KEY: &str = "BackBone";

/// A sandbox of the test's own. It ends with the test.
pub(crate) struct Sandbox {
    pub(crate) port: u16,
    scheme: &'static str,
    process: Child,
}

impl Sandbox {
    /// Starts it, with `tls` (certificate, key, and the issuer of its clients' certificates) over TLS. None, and said, where the package is not there: `./tests/run` installs it and names its Python in
    /// `TEST_MESH_PYTHON`; one that is named has to work.
    pub(crate) fn start(tls: &[&str]) -> Option<Sandbox> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/mesh_server.py");
        let Ok(python) = std::env::var("TEST_MESH_PYTHON") else {
            eprintln!("skipped: TEST_MESH_PYTHON names no Python with the package mesh-sandbox");
            return None;
        };
        let mut command = Command::new(python);
        command.arg(script).args(tls).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let scheme = if tls.is_empty() { "http" } else { "https" };
        Some(Sandbox { port: line.trim().parse().expect("the sandbox says its port"), scheme, process })
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _already = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// The settings by which the service has the mailbox at `url`.
pub(crate) fn configured(config: &mut Config, url: &str) {
    config.mesh.url = Some(url.to_owned());
    config.mesh.mailbox = OURS.to_owned();
    config.mesh.password = PASSWORD.into();
    config.mesh.shared_key = SHARED_KEY.into();
}

/// A mailbox, used as a practice's system uses its own.
pub(crate) struct Mailbox {
    pub(crate) id: &'static str,
    base: String,
    http: reqwest::Client,
}

/// A message in a mailbox.
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) bundle: Value,
    pub(crate) chunks: usize,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    /// Every resource of this type that it carries.
    pub(crate) fn resources(&self, kind: &str) -> Vec<&Value> {
        let all = path::all(&self.bundle, "entry.resource").into_iter();
        all.filter(|r| r["resourceType"] == kind).collect()
    }
}

impl Mailbox {
    pub(crate) fn of_practice(base: &str, http: &reqwest::Client) -> Mailbox {
        Mailbox { id: PRACTICES, base: base.to_owned(), http: http.clone() }
    }

    pub(crate) fn ours(base: &str, http: &reqwest::Client) -> Mailbox {
        Mailbox { id: OURS, base: base.to_owned(), http: http.clone() }
    }

    fn authorization(&self) -> String {
        static NONCE: AtomicU32 = AtomicU32::new(1);
        let (id, nonce) = (self.id, NONCE.fetch_add(1, Ordering::SeqCst));
        let key = hmac::Key::new(hmac::HMAC_SHA256, SHARED_KEY.as_bytes());
        let tag = hmac::sign(&key, format!("{id}:{nonce}:1:{PASSWORD}:202603020900").as_bytes());
        let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        format!("NHSMESH {id}:{nonce}:1:202603020900:{hex}")
    }

    fn url(&self, below: &str) -> String {
        format!("{}/messageexchange/{}/{below}", self.base, self.id)
    }

    fn request(&self, method: reqwest::Method, below: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(below)).header("authorization", self.authorization());
        request.header("accept", "application/vnd.mesh.v2+json")
    }

    /// The ids of what waits in it.
    pub(crate) async fn waiting(&self) -> Vec<String> {
        let answer = self.request(reqwest::Method::GET, "inbox").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        let listed: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        listed["messages"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Takes out all that waits, oldest first.
    pub(crate) async fn take(&self) -> Vec<Message> {
        let mut taken = Vec::new();
        for id in self.waiting().await {
            let get =
                |below: String| self.request(reqwest::Method::GET, &below).header("accept-encoding", "gzip").send();
            let first = get(format!("inbox/{id}")).await.unwrap();
            let headers = first.headers().clone();
            let range = headers.get("mex-chunk-range").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
            let chunks: usize = range.split(':').nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
            let mut body = first.bytes().await.unwrap().to_vec();
            for n in 2..=chunks {
                let chunk = get(format!("inbox/{id}/{n}")).await.unwrap();
                body.extend_from_slice(&chunk.bytes().await.unwrap());
            }
            let mut text = Vec::new();
            match body.starts_with(&[0x1f, 0x8b]) {
                true => _ = MultiGzDecoder::new(&body[..]).read_to_end(&mut text).unwrap(),
                false => text = body,
            }
            let acknowledged = self.request(reqwest::Method::PUT, &format!("inbox/{id}/status/acknowledged"));
            assert!(acknowledged.send().await.unwrap().status().is_success());
            taken.push(Message { id, headers, bundle: serde_json::from_slice(&text).unwrap_or(Value::Null), chunks });
        }
        taken
    }

    /// Sends `body` to our mailbox under this workflow.
    pub(crate) async fn send(&self, workflow: &str, body: String) -> String {
        let request = self.request(reqwest::Method::POST, "outbox").header("mex-to", OURS);
        let request = request.header("mex-workflowid", workflow).header("mex-localid", "answer");
        let answer = request.header("content-type", "application/fhir+json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let said: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        said["message_id"].as_str().unwrap().to_owned()
    }

    /// Answers a message: the event of the answer, `MessageHeader.response.code`, and an ITK3 response code.
    pub(crate) async fn answer(&self, message: &Message, event: &str, response: &str, code: Option<&str>) {
        self.send("LIVEWELL_WRITE_BACK_ACK", answer(message, event, response, code).to_string()).await;
    }
}

/// What a practice's system answers.
pub(crate) fn answer(message: &Message, event: &str, response: &str, code: Option<&str>) -> Value {
    let mut entry = vec![json!({ "resource": {
        "resourceType": "MessageHeader",
        "eventCoding": { "system": "https://livewell.example/CodeSystem/message-event", "code": event },
        "source": { "endpoint": PRACTICES },
        "response": { "identifier": message.bundle["id"], "code": response },
    }})];
    if let Some(code) = code {
        entry.push(json!({ "resource": { "resourceType": "OperationOutcome", "issue": [{
            "severity": "error", "code": "processing", "diagnostics": "Pat Example is not known here",
            "details": { "coding": [{ "system": "https://fhir.nhs.uk/STU3/CodeSystem/ITK-ResponseCode-1", "code": code }] },
        }]}}));
    }
    json!({ "resourceType": "Bundle", "type": "message", "id": "answer", "entry": entry })
}

/// Lets MESH itself report that it could not hand a message over.
pub(crate) async fn report(base: &str, http: &reqwest::Client, linked: &str, code: &str) {
    let body = json!({
        "mailbox_id": OURS, "code": code, "description": "Message not collected by recipient after 5 days",
        "workflow_id": "LIVEWELL_WRITE_BACK", "status": "undeliverable", "linked_message_id": linked,
    });
    let request = http.post(format!("{base}/messageexchange/admin/report")).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}
