//! HTTP/1.1 written by hand, for requests that no well-behaved client library would send.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::caller::Caller;

/// Longer than any answer takes, shorter than a person waits for a hanging test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A caller who writes its requests byte by byte.
#[derive(Clone)]
pub(crate) struct Wire {
    /// `127.0.0.1:4711`.
    address: String,
    token: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Wire {
    /// The same client, with its token of now.
    pub(crate) async fn of(caller: &Caller) -> Wire {
        let address = caller.base().trim_start_matches("http://").to_owned();
        Wire { address, token: caller.token().await }
    }

    /// Sends `line` (`POST /fhir/Patient`), our token, the headers and the body on a connection of its own. A body, even
    /// an empty one, is announced with its length for every method but GET, HEAD and OPTIONS.
    pub(crate) async fn send(&self, line: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Heard {
        let mut head = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n",
            self.address, self.token
        )
        .into_bytes();
        for (name, value) in headers {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        let bodiless = ["GET ", "HEAD ", "OPTIONS "].iter().any(|method| line.starts_with(method));
        if !bodiless || !body.is_empty() {
            head.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        self.exchange(&head, body).await
    }

    /// POSTs FHIR JSON.
    pub(crate) async fn json(&self, path: &str, body: &Value) -> Heard {
        self.post(path, "application/fhir+json", body.to_string().as_bytes()).await
    }

    /// POSTs bytes of a media type.
    pub(crate) async fn post(&self, path: &str, media: &str, body: &[u8]) -> Heard {
        self.send(&format!("POST {path}"), &[("Content-Type", media.as_bytes())], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Heard {
        self.send(&format!("GET {path}"), &[], b"").await
    }

    /// Writes and reads at the same time: a server may answer before it has read all.
    async fn exchange(&self, head: &[u8], body: &[u8]) -> Heard {
        let began = Instant::now();
        let (mut reader, mut writer) = TcpStream::connect(&self.address).await.unwrap().into_split();
        let writing = async {
            // The server may have answered and closed already; what it answered is what counts.
            let _ = writer.write_all(head).await;
            let _ = writer.write_all(body).await;
            let _ = writer.flush().await;
        };
        let mut bytes = Vec::new();
        let (_, read) = tokio::join!(timeout(PATIENCE, writing), timeout(PATIENCE, reader.read_to_end(&mut bytes)));
        if bytes.is_empty() {
            read.expect("the server never answered").expect("the server reset the connection");
        }
        let took = began.elapsed();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.as_str(), ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Heard { status, head: head.to_owned(), text: body.to_owned(), took }
    }
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON; null when it is something else.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The elements that the issues of an OperationOutcome point at.
    pub(crate) fn expressions(&self) -> Vec<String> {
        let outcome = self.value();
        let issues = outcome["issue"].as_array().cloned().unwrap_or_default();
        let all = issues.iter().filter_map(|issue| issue["expression"].as_array()).flatten();
        all.filter_map(|e| e.as_str().map(str::to_owned)).collect()
    }

    /// What the answer lacks of an OperationOutcome that says what is wrong and what to do, if anything.
    pub(crate) fn no_outcome(&self) -> Option<String> {
        let outcome = self.value();
        if outcome["resourceType"] != "OperationOutcome" {
            return Some("the body is no OperationOutcome".to_owned());
        }
        if !self.header("content-type").is_some_and(|media| media.starts_with("application/fhir+json")) {
            return Some("the media type is not FHIR's".to_owned());
        }
        let issues = outcome["issue"].as_array().cloned().unwrap_or_default();
        if issues.is_empty() {
            return Some("no issue".to_owned());
        }
        let said = |issue: &Value| {
            let text = issue["diagnostics"].as_str().or(issue["details"]["text"].as_str()).unwrap_or_default();
            issue["code"].is_string() && text.len() > 10
        };
        (!issues.iter().all(said)).then(|| "an issue says nothing".to_owned())
    }
}
