//! Notification fan-out: from a practice's referral until each of many subscribers has been told of it, over real HTTP to
//! endpoints in this process.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Json;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::client::{Ask, Connection};
use super::load::Measured;
use super::population::practice;
use super::service::{Failed, Service, free_address};
use super::target::Target;
use super::workloads::{Newcomers, referral};

pub(crate) const NAME: &str = "notification fan-out to 20 subscribers";
const SUBSCRIBERS: usize = 20;

/// What was heard: the referral's address, and when.
type Heard = Arc<Mutex<Vec<(String, Instant)>>>;

/// Sends `count` referrals one after the other, as fast as they are taken; the time of each notification counts from the
/// sending of its referral.
pub(crate) async fn fan_out(folder: &Path, target: &Target, count: usize) -> Result<Measured, Failed> {
    let folder = &folder.join("fan-out");
    std::fs::create_dir_all(folder)?;
    let address = free_address()?;
    let service = Service::start(folder, address, 4, &[], target).await?;
    let practices = service.practices().await?;
    let mut door = Connection::to(address);
    let (heard, endpoint) = listen().await?;
    subscribe(&mut door, &practices[0], &endpoint).await?;
    let newcomers = Newcomers::new();
    let mut sent = HashMap::new();
    let begun = Instant::now();
    for _ in 0..count {
        let (nhs_number, unique) = newcomers.next();
        let ask = Ask::post("/fhir/ServiceRequest", &practices[0], &referral(&practice(0), &nhs_number, unique));
        let at = Instant::now();
        let made = door.send(&ask).await?.expect(201)?.json();
        sent.insert(made["id"].as_str().unwrap_or_default().to_owned(), at);
    }
    while heard_of(&heard)?.len() < count * SUBSCRIBERS {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("{} of {} were told in a minute", heard_of(&heard)?.len(), count * SUBSCRIBERS).into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    let took = begun.elapsed();
    let mut all = Measured::default();
    for (url, at) in heard_of(&heard)? {
        let id = url.rsplit('/').next().unwrap_or_default();
        match sent.get(id) {
            Some(sent) => all.note(at - *sent, Ok(())),
            None => all.note(Duration::ZERO, Err("a referral that was not sent".to_owned())),
        }
    }
    Ok(all.finish(took))
}

fn heard_of(heard: &Heard) -> Result<Vec<(String, Instant)>, String> {
    Ok(heard.lock().map_err(|e| e.to_string())?.clone())
}

/// Endpoints that keep what they hear of.
async fn listen() -> Result<(Heard, String), Failed> {
    let heard = Heard::default();
    let kept = Arc::clone(&heard);
    let hook = move |Json(bundle): Json<Value>| async move {
        let now = Instant::now();
        let entries = bundle["entry"].as_array().into_iter().flatten().skip(1);
        let told = entries.filter_map(|entry| Some((entry["fullUrl"].as_str()?.to_owned(), now)));
        if let Ok(mut heard) = kept.lock() {
            heard.extend(told);
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}/hook", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook/{of}", post(hook))).await });
    Ok((heard, endpoint))
}

/// Subscribes every endpoint to the practice's referrals, and waits until all are active.
async fn subscribe(door: &mut Connection, practice: &str, endpoint: &str) -> Result<(), Failed> {
    for of in 0..SUBSCRIBERS {
        let wanted = json!({
            "resourceType": "Subscription", "status": "requested", "reason": "Tells the practice's system",
            "criteria": "https://livewell.example/SubscriptionTopic/referral-received",
            "channel": { "type": "rest-hook", "endpoint": format!("{endpoint}/{of}"), "payload": "application/fhir+json",
                "_payload": { "extension": [{
                    "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                    "valueCode": "id-only" }] } },
        });
        door.send(&Ask::post("/fhir/Subscription", practice, &wanted)).await?.expect(201)?;
    }
    let active = Ask::get("/fhir/Subscription?status=active&_summary=count", practice);
    let patience = Instant::now() + Duration::from_secs(20);
    while door.send(&active).await?.expect(200)?.json()["total"] != SUBSCRIBERS {
        if Instant::now() > patience {
            return Err("not every Subscription became active in 20 s".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
