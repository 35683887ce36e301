//! What a subscriber is sent: the Bundles of HL7's Subscriptions R5 Backport for R4, in which a Parameters resource plays
//! SubscriptionStatus (<https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html>).

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::fhir::when::instant;

/// The canonical base of the Backport's definitions.
pub const BACKPORT: &str = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/";

/// How much of what happened a notification carries (`backport-content-value-set`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// That something happened.
    Empty,
    /// What it happened to, by reference.
    IdOnly,
    /// The resource itself.
    FullResource,
}

impl Content {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Content::Empty => "empty",
            Content::IdOnly => "id-only",
            Content::FullResource => "full-resource",
        }
    }

    /// The content whose code this is.
    pub fn from_code(code: &str) -> Option<Content> {
        [Content::Empty, Content::IdOnly, Content::FullResource].into_iter().find(|content| content.code() == code)
    }
}

/// Why a status is told (`http://hl7.org/fhir/ValueSet/subscription-notification-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The endpoint is tried.
    Handshake,
    /// Nothing happened, and the subscription lives.
    Heartbeat,
    /// Something happened.
    EventNotification,
    /// Somebody asked how it stands (`$status`).
    QueryStatus,
    /// Somebody asked what happened (`$events`).
    QueryEvent,
}

impl Kind {
    fn code(self) -> &'static str {
        match self {
            Kind::Handshake => "handshake",
            Kind::Heartbeat => "heartbeat",
            Kind::EventNotification => "event-notification",
            Kind::QueryStatus => "query-status",
            Kind::QueryEvent => "query-event",
        }
    }
}

/// How a subscription stands.
pub struct Status<'a> {
    /// The FHIR base, without a slash at the end.
    pub base: &'a str,
    /// Id of the Subscription.
    pub subscription: &'a str,
    /// The topic's canonical URL, '' for a plain R4 criteria.
    pub topic: &'a str,
    pub state: &'a str,
    /// Why it is in state `error`, '' otherwise.
    pub error: &'a str,
    /// Events since it was made.
    pub events: i64,
}

/// Something that happened.
pub struct Event {
    /// Counts from 1, without a gap, for each subscription.
    pub number: i64,
    pub at: DateTime<Utc>,
    /// `Task/id`.
    pub focus: String,
    /// `create`, `update` or `delete`.
    pub interaction: String,
    pub context: Vec<String>,
    /// The resource, where it is carried.
    pub resource: Option<Value>,
}

/// The Parameters that play SubscriptionStatus.
pub fn status(kind: Kind, status: &Status<'_>, events: &[Event], content: Content) -> Value {
    let mut parameters = vec![json!({
        "name": "subscription",
        "valueReference": { "reference": format!("{}/Subscription/{}", status.base, status.subscription) },
    })];
    if !status.topic.is_empty() {
        parameters.push(json!({ "name": "topic", "valueCanonical": status.topic }));
    }
    parameters.push(json!({ "name": "status", "valueCode": status.state }));
    parameters.push(json!({ "name": "type", "valueCode": kind.code() }));
    parameters.push(json!({ "name": "events-since-subscription-start", "valueString": status.events.to_string() }));
    parameters.extend(events.iter().map(|event| {
        let mut part = vec![
            json!({ "name": "event-number", "valueString": event.number.to_string() }),
            json!({ "name": "timestamp", "valueInstant": instant(event.at) }),
        ];
        if content != Content::Empty {
            let reference = |target: &str| json!({ "reference": format!("{}/{target}", status.base) });
            part.push(json!({ "name": "focus", "valueReference": reference(&event.focus) }));
            let context = event.context.iter();
            part.extend(context.map(|c| json!({ "name": "additional-context", "valueReference": reference(c) })));
        }
        json!({ "name": "notification-event", "part": part })
    }));
    if !status.error.is_empty() {
        parameters.push(json!({ "name": "error", "valueCodeableConcept": { "text": status.error } }));
    }
    json!({
        "resourceType": "Parameters",
        "meta": { "profile": [format!("{BACKPORT}backport-subscription-status-r4")] },
        "parameter": parameters,
    })
}

/// A notification: the status first, then what it happened to. `id` makes the same notification the same Bundle
/// whenever it is sent again.
pub fn bundle(id: &str, now: DateTime<Utc>, kind: Kind, of: &Status<'_>, events: &[Event], content: Content) -> Value {
    let mut entries = vec![json!({
        "fullUrl": format!("urn:uuid:{id}"),
        "resource": status(kind, of, events, content),
        "request": { "method": "GET", "url": format!("{}/Subscription/{}/$status", of.base, of.subscription) },
        "response": { "status": "200" },
    })];
    for event in events.iter().filter(|_| content != Content::Empty) {
        let (method, answered) = match event.interaction.as_str() {
            "create" => ("POST", "201"),
            "delete" => ("DELETE", "204"),
            _ => ("PUT", "200"),
        };
        let kind = event.focus.split('/').next().unwrap_or_default();
        let mut entry = json!({
            "fullUrl": format!("{}/{}", of.base, event.focus),
            "request": { "method": method, "url": if method == "POST" { kind } else { &event.focus } },
            "response": { "status": answered },
        });
        if let Some(resource) = &event.resource {
            entry["resource"] = resource.clone();
        }
        entries.push(entry);
    }
    json!({
        "resourceType": "Bundle",
        "id": id,
        "meta": { "profile": [format!("{BACKPORT}backport-subscription-notification-r4")] },
        "type": "history",
        "timestamp": instant(now),
        "entry": entries,
    })
}

/// The answer to `$status`: a Bundle of statuses.
pub fn statuses(base: &str, now: DateTime<Utc>, all: &[Status<'_>]) -> Value {
    let entry = |of: &Status<'_>| {
        json!({
            "fullUrl": format!("{base}/Subscription/{}/$status", of.subscription),
            "resource": status(Kind::QueryStatus, of, &[], Content::Empty),
            "search": { "mode": "match" },
        })
    };
    let mut bundle = json!({
        "resourceType": "Bundle", "type": "searchset", "timestamp": instant(now), "total": all.len(),
    });
    if !all.is_empty() {
        bundle["entry"] = all.iter().map(entry).collect();
    }
    bundle
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::fhir::{Resource, check};

    fn at() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap()
    }

    fn event(number: i64, interaction: &str) -> Event {
        Event {
            number,
            at: at(),
            focus: "Task/t".to_owned(),
            interaction: interaction.to_owned(),
            context: vec!["ServiceRequest/r".to_owned()],
            resource: None,
        }
    }

    const OF: Status<'_> = Status {
        base: "https://lw.example/fhir",
        subscription: "s",
        topic: "https://livewell.example/SubscriptionTopic/task-changed",
        state: "active",
        error: "",
        events: 7,
    };

    #[test]
    fn every_notification_is_a_valid_r4_bundle_that_begins_with_its_status() {
        for kind in [Kind::Handshake, Kind::Heartbeat, Kind::EventNotification, Kind::QueryEvent] {
            for content in [Content::Empty, Content::IdOnly, Content::FullResource] {
                let mut events = vec![event(6, "create"), event(7, "update"), event(8, "delete")];
                if content == Content::FullResource {
                    events[0].resource =
                        Some(json!({ "resourceType": "Task", "id": "t", "status": "requested", "intent": "order" }));
                }
                let id = "0197f6d0-0000-7000-8000-000000000000";
                let bundle = Resource::from_value(bundle(id, at(), kind, &OF, &events, content)).unwrap();
                assert_eq!(check::check(&bundle, 10), [], "{}", bundle.value());
                assert_eq!(bundle.value()["entry"][0]["resource"]["resourceType"], "Parameters");
            }
        }
        let statuses = Resource::from_value(statuses(OF.base, at(), &[OF])).unwrap();
        assert_eq!(check::check(&statuses, 10), [], "{}", statuses.value());
    }

    #[test]
    fn id_only_names_what_it_happened_to_and_empty_names_nothing() {
        let said = bundle("x", at(), Kind::EventNotification, &OF, &[event(7, "update")], Content::IdOnly);
        assert_eq!(said["entry"][1]["fullUrl"], "https://lw.example/fhir/Task/t");
        assert_eq!(said["entry"][1].get("resource"), None);
        let part = &said["entry"][0]["resource"]["parameter"][5]["part"];
        assert_eq!(part[0]["valueString"], "7");
        assert_eq!(part[2]["valueReference"]["reference"], "https://lw.example/fhir/Task/t");
        assert_eq!(part[3]["valueReference"]["reference"], "https://lw.example/fhir/ServiceRequest/r");
        let said = bundle("x", at(), Kind::EventNotification, &OF, &[event(7, "update")], Content::Empty);
        assert_eq!(said["entry"].as_array().unwrap().len(), 1);
        assert!(!said.to_string().contains("Task/t"));
    }
}
