//! A subscriber's endpoint: keeps what it is sent, and answers as it is told to.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// One request that came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
    /// What it was answered with.
    pub(crate) answered: u16,
}

pub(crate) struct Subscriber {
    /// Where it listens.
    pub(crate) url: String,
    status: Arc<AtomicU16>,
    /// Milliseconds until it answers.
    pause: Arc<AtomicU64>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Subscriber {
    pub(crate) async fn start() -> Subscriber {
        let (status, got) = (Arc::new(AtomicU16::new(200)), Arc::<Mutex<Vec<Got>>>::default());
        let pause = Arc::<AtomicU64>::default();
        let (answer, kept, wait) = (Arc::clone(&status), Arc::clone(&got), Arc::clone(&pause));
        let hook = move |headers: HeaderMap, body: Bytes| async move {
            let answered = answer.load(Ordering::SeqCst);
            let text = String::from_utf8(body.to_vec()).unwrap();
            let body = serde_json::from_str(&text).unwrap_or(Value::Null);
            kept.lock().unwrap().push(Got { headers, text, body, answered });
            tokio::time::sleep(Duration::from_millis(wait.load(Ordering::SeqCst))).await;
            StatusCode::from_u16(answered).unwrap()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(hook))).await });
        Subscriber { url, status, pause, got }
    }

    /// Answers with this status from now on.
    pub(crate) fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Lets so much time pass before each answer from now on.
    pub(crate) fn waits(&self, pause: Duration) {
        self.pause.store(u64::try_from(pause.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Everything that came, also what was not taken.
    pub(crate) fn all(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// What was taken, of this kind (`handshake`, `heartbeat`, `event-notification`).
    pub(crate) fn taken(&self, kind: &str) -> Vec<Got> {
        self.all().into_iter().filter(|got| got.answered < 300 && got.says("type") == kind).collect()
    }

    /// Waits until so many of a kind were taken, and answers them.
    pub(crate) async fn wait_for(&self, kind: &str, count: usize) -> Vec<Got> {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let taken = self.taken(kind);
            if taken.len() >= count {
                return taken;
            }
            assert!(Instant::now() < patience, "{} of {count} {kind} came: {:#?}", taken.len(), self.all());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The numbers of the events that were taken, in the order they came.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        self.taken("event-notification").iter().flat_map(Got::numbers).collect()
    }
}

impl Got {
    /// A parameter of the status that the notification begins with, as text.
    pub(crate) fn says(&self, name: &str) -> String {
        said(&self.body["entry"][0]["resource"], name)
    }

    /// The numbers of its events.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        numbers(&self.body)
    }

    /// What its events happened to, as absolute URLs.
    pub(crate) fn foci(&self) -> Vec<String> {
        let entries = self.body["entry"].as_array().into_iter().flatten().skip(1);
        entries.map(|entry| entry["fullUrl"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether it is signed with this secret, as Standard Webhooks says.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let text = |name: &str| self.headers[name].to_str().unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap());
        let signed = format!("{}.{}.{}", text("webhook-id"), text("webhook-timestamp"), self.text);
        text("webhook-signature")
            .split(' ')
            .filter_map(|one| one.strip_prefix("v1,"))
            .any(|tag| hmac::verify(&key, signed.as_bytes(), &STANDARD.decode(tag).unwrap()).is_ok())
    }
}

/// A parameter of a status, as text.
pub(crate) fn said(status: &Value, name: &str) -> String {
    let parameters = status["parameter"].as_array().into_iter().flatten();
    let value = parameters.filter(|p| p["name"] == name).find_map(|p| {
        let fields = p.as_object().unwrap();
        fields.iter().find(|(name, _)| name.starts_with("value")).and_then(|(_, value)| value.as_str())
    });
    value.unwrap_or_default().to_owned()
}

/// The numbers of the events in a notification, or in the answer to `$events`.
pub(crate) fn numbers(bundle: &Value) -> Vec<i64> {
    let parameters = bundle["entry"][0]["resource"]["parameter"].as_array().into_iter().flatten();
    let events = parameters.filter(|p| p["name"] == "notification-event");
    events.map(|event| event["part"][0]["valueString"].as_str().unwrap().parse().unwrap()).collect()
}
