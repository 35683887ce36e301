//! Who subscribes hears of what they may see, in order, without a gap, until they may not or do not want to.

mod endpoint;
mod hearing;
mod making;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::build;
use crate::support::caller::Caller;

const TOPIC: &str = "https://livewell.example/SubscriptionTopic/";
const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";
const SECRET: &str = "https://livewell.example/StructureDefinition/webhook-secret";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HOUR: u64 = 3600;

/// A Subscription to a topic (or a plain criteria), with its endpoint.
fn subscription(criteria: &str, endpoint: &str) -> Value {
    let criteria = if criteria.contains('?') { criteria.to_owned() } else { format!("{TOPIC}{criteria}") };
    json!({
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "Tells the practice's system",
        "criteria": criteria,
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
            "_payload": { "extension": [{ "url": format!("{BACKPORT}backport-payload-content"), "valueCode": "id-only" }] },
        },
    })
}

/// Adds an extension to the channel.
fn with(mut subscription: Value, name: &str, member: &str, value: Value) -> Value {
    let url = if name.contains("://") { name.to_owned() } else { format!("{BACKPORT}{name}") };
    let extension = json!({ "url": url, member: value });
    match subscription["channel"]["extension"].as_array_mut() {
        Some(there) => there.push(extension),
        None => subscription["channel"]["extension"] = json!([extension]),
    }
    subscription
}

/// Subscribes, and waits until it is active.
async fn subscribed(caller: &Caller, wanted: &Value) -> String {
    let made = caller.post("Subscription", wanted).await.expect(201);
    reaches(caller, &made.id(), "active").await;
    made.id()
}

/// Waits until a Subscription is in a state, and answers it.
async fn reaches(caller: &Caller, id: &str, state: &str) -> Value {
    for _ in 0..1500 {
        let read = caller.get(format!("Subscription/{id}")).await.expect(200).body;
        if read["status"] == state {
            return read;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not become {state}");
}

async fn refers(caller: &Caller) -> String {
    caller.post("ServiceRequest", &build::referral()).await.expect(201).id()
}

/// The status that `$status` tells.
async fn status(caller: &Caller, id: &str) -> Value {
    let told = caller.get(format!("Subscription/{id}/$status")).await.expect(200);
    told.body["entry"][0]["resource"].clone()
}
