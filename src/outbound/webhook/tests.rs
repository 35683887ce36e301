//! What a subscriber gets, checked as a subscriber checks it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::{KeyRing, OutboundSettings, ServiceKey};
use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NOW: i64 = 1_614_265_330;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn outbound(allow_private_addresses: bool) -> Outbound {
    let key = ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap();
    Outbound::new(
        OutboundSettings { allow_private_addresses, ..OutboundSettings::default() },
        Arc::new(KeyRing::one(key)),
    )
    .unwrap()
}

fn notification(address: &str, secrets: &[&str]) -> Notification {
    Notification {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(),
        address: address.into(),
        secrets: secrets.iter().map(|s| WebhookSecret::parse(s).unwrap()).collect(),
        content_type: "application/json",
        payload: br#"{"test": 2432232314}"#.to_vec(),
        headers: Vec::new(),
    }
}

/// What a subscriber does with what it gets (Standard Webhooks 1.0, "Verifying webhook authenticity").
fn accepts(secret: &str, headers: &HeaderMap, body: &[u8], at: i64) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(time), Some(signatures)) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
    else {
        return false;
    };
    if time.parse::<i64>().map_or(true, |time| (time - at).abs() > 300) {
        return false;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap());
    let signed = [format!("{id}.{time}.").as_bytes(), body].concat();
    signatures
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .any(|said| STANDARD.decode(said).is_ok_and(|tag| tag.len() == 32 && hmac::verify(&key, &signed, &tag).is_ok()))
}

type Got = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// A subscriber that answers with `status` and keeps what it got.
async fn subscriber(status: u16, answer_headers: &'static [(&'static str, &'static str)]) -> (String, Got) {
    let got = Got::default();
    let kept = Arc::clone(&got);
    let answer = move |headers: HeaderMap, body: Bytes| async move {
        kept.lock().unwrap().push((headers, body.to_vec()));
        let mut said = HeaderMap::new();
        for (name, value) in answer_headers {
            said.insert(*name, value.parse().unwrap());
        }
        (StatusCode::from_u16(status).unwrap(), said)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    let app = Router::new().route("/hook", post(answer));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, got)
}

#[tokio::test]
async fn a_subscriber_verifies_what_it_gets_and_refuses_it_when_anything_was_changed() {
    let (address, got) = subscriber(204, &[]).await;
    let verdict = outbound(true).notify(&notification(&address, &[SECRET]), now()).await;
    assert_eq!(verdict, Verdict::Delivered { receipts: Vec::new() });
    let (headers, body) = got.lock().unwrap().remove(0);
    assert!(accepts(SECRET, &headers, &body, NOW));
    assert_eq!(headers["content-type"], "application/json");

    let with = |name: &'static str, value: &str| {
        let mut changed = headers.clone();
        changed.insert(name, value.parse().unwrap());
        changed
    };
    let without = |name: &'static str| {
        let mut changed = headers.clone();
        changed.remove(name);
        changed
    };
    let signature = headers["webhook-signature"].to_str().unwrap().to_owned();
    let tampered: [(&str, HeaderMap, Vec<u8>, &str, i64); 14] = [
        ("another id", with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJel"), body.clone(), SECRET, NOW),
        ("another time", with("webhook-timestamp", "1614265331"), body.clone(), SECRET, NOW),
        ("another payload", headers.clone(), br#"{"test": 2432232315}"#.to_vec(), SECRET, NOW),
        ("another space", headers.clone(), br#"{"test":2432232314}"#.to_vec(), SECRET, NOW),
        ("more payload", headers.clone(), [&body[..], b" "].concat(), SECRET, NOW),
        ("no payload", headers.clone(), Vec::new(), SECRET, NOW),
        ("another secret", headers.clone(), body.clone(), OTHER, NOW),
        ("another scheme", with("webhook-signature", &signature.replace("v1,", "v2,")), body.clone(), SECRET, NOW),
        ("half a signature", with("webhook-signature", &signature[..20]), body.clone(), SECRET, NOW),
        ("an empty signature", with("webhook-signature", "v1,"), body.clone(), SECRET, NOW),
        ("no id", without("webhook-id"), body.clone(), SECRET, NOW),
        ("no time", without("webhook-timestamp"), body.clone(), SECRET, NOW),
        ("no signature", without("webhook-signature"), body.clone(), SECRET, NOW),
        ("played again later", headers.clone(), body.clone(), SECRET, NOW + 301),
    ];
    for (what, headers, body, secret, at) in tampered {
        assert!(!accepts(secret, &headers, &body, at), "{what}");
    }
    // What is moved over the border between id and time is not the same text.
    let mut moved = with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330");
    moved.insert("webhook-timestamp", "1614265330".parse().unwrap());
    assert!(!accepts(SECRET, &moved, &body, NOW));
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_the_old_and_the_new_verify() {
    let (address, got) = subscriber(200, &[]).await;
    outbound(true).notify(&notification(&address, &[OTHER, SECRET]), now()).await;
    let (headers, body) = got.lock().unwrap().remove(0);
    assert!(accepts(SECRET, &headers, &body, NOW) && accepts(OTHER, &headers, &body, NOW));
    assert!(!accepts(&WebhookSecret::generate().unwrap(), &headers, &body, NOW));
}

#[tokio::test]
async fn the_answer_decides_what_follows() {
    let outbound = outbound(true);
    for (status, passes) in [(408, true), (425, true), (429, true), (500, true), (502, true), (503, true), (504, true)]
        .into_iter()
        .chain([301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422, 501].map(|status| (status, false)))
    {
        let (address, got) = subscriber(status, &[("retry-after", "120"), ("location", "/hook")]).await;
        let verdict = outbound.notify(&notification(&address, &[SECRET]), now()).await;
        let why = Why::Status(status);
        let expected = match passes {
            true => Verdict::Retry { after: Some(Duration::from_secs(120)), why },
            false => Verdict::Refused { why, outcome: None },
        };
        assert_eq!(verdict, expected);
        assert_eq!(verdict.is_gone(), status == 410);
        assert_eq!(got.lock().unwrap().len(), 1, "{status}: no redirect is followed");
    }
}

#[tokio::test]
async fn nothing_leaves_unsigned_or_to_an_address_that_is_not_called() {
    let (address, got) = subscriber(200, &[]).await;
    let refused = |why| Verdict::Refused { why, outcome: None };
    let mut unsigned = notification(&address, &[]);
    assert_eq!(outbound(true).notify(&unsigned, now()).await, refused(Why::RequestNotMade));
    unsigned.secrets = vec![WebhookSecret::parse(SECRET).unwrap()];
    for id in ["", "a.1", "a b", "a\nb"] {
        unsigned.id = id.into();
        assert_eq!(outbound(true).notify(&unsigned, now()).await, refused(Why::RequestNotMade), "{id:?}");
    }
    assert_eq!(outbound(false).notify(&notification(&address, &[SECRET]), now()).await, refused(Why::AddressRefused));
    assert!(got.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hook", listener.local_addr().unwrap());
    drop(listener);
    let verdict = outbound(true).notify(&notification(&address, &[SECRET]), now()).await;
    assert_eq!(verdict, Verdict::Retry { after: None, why: Why::Unreachable });
}

#[tokio::test]
async fn a_subscribers_own_headers_go_along_and_replace_nothing_that_is_ours() {
    let (address, got) = subscriber(200, &[]).await;
    let mut sent = notification(&address, &[SECRET]);
    sent.headers =
        [("Authorization", "Bearer x"), ("Webhook-Id", "forged"), ("Content-Type", "text/plain"), ("Host", "h")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    outbound(true).notify(&sent, now()).await;
    let (headers, body) = got.lock().unwrap().remove(0);
    assert_eq!(headers["authorization"], "Bearer x");
    assert!(accepts(SECRET, &headers, &body, NOW));
    assert_eq!(
        (&headers["content-type"], headers.get_all("webhook-id").iter().count()),
        (&"application/json".parse().unwrap(), 1)
    );
    assert_ne!(headers["host"], "h");
}

#[test]
fn a_secret_is_long_enough_random_and_printed_nowhere() {
    let made = WebhookSecret::generate().unwrap();
    assert!(WebhookSecret::parse(&made).is_ok() && made != WebhookSecret::generate().unwrap());
    let short = format!("whsec_{}", STANDARD.encode([7; 23]));
    let long = format!("whsec_{}", STANDARD.encode([7; 65]));
    for text in ["", "whsec_", "whsec_%%%", &short, &long] {
        assert_eq!(WebhookSecret::parse(text).unwrap_err(), NotASecret);
    }
    let printed = format!("{:?} {:?}", WebhookSecret::parse(SECRET).unwrap(), notification("http://x/", &[SECRET]));
    assert!(!printed.contains("MfKQ") && !printed.contains("2432232314") && !printed.contains("http"), "{printed}");
}
