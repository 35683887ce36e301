//! The same load on another FHIR server, by its base URL: a transaction of Patient, ServiceRequest and Task, a create, a
//! read, an update and a search of Tasks. What livewell is asked beside it (tokens, rules, deliveries, audit) it is not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::client::{Ask, Connection};
use super::load::{Act, Span, closed};
use super::report::{Report, Result as Line};
use super::service::Failed;

/// A server, reached without TLS.
pub(crate) struct Another {
    address: SocketAddr,
    /// Path of its base, without a slash at its end.
    base: String,
    token: String,
}

/// Ids of Patients that were made.
type Made = Arc<Mutex<Vec<String>>>;

impl Another {
    pub(crate) async fn at(url: &str, token: &str) -> Result<Another, Failed> {
        let rest = url.strip_prefix("http://").ok_or("the base URL begins with http://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = tokio::net::lookup_host(host).await?.next().ok_or("the host has no address")?;
        let base = format!("/{path}").trim_end_matches('/').to_owned();
        Ok(Another { address, base, token: token.to_owned() })
    }

    pub(crate) async fn measure(&self, span: Span, report: &mut Report) -> Result<(), Failed> {
        let name = format!("{}{}", self.address, self.base);
        let made = Made::default();
        for clients in [1, 8, 32] {
            let acts: [(&str, Act); 5] = [
                ("Patient + ServiceRequest + Task", self.transaction()),
                ("create Patient", self.create(&made)),
                ("read", self.read(&made)),
                ("update Patient", self.update(&made)),
                ("search Tasks", self.search()),
            ];
            for (what, act) in acts {
                let measured = closed(self.address, clients, span, act).await;
                report.add(Line::new(&name, format!("{what}, {clients} clients"), 0, &measured));
            }
        }
        Ok(())
    }

    fn ask(&self, below: &str) -> Ask {
        Ask::get(format!("{}{below}", self.base), &self.token)
    }

    fn transaction(&self) -> Act {
        // The base itself, which may be the root of the host.
        let ask = self.ask(if self.base.is_empty() { "/" } else { "" });
        Arc::new(move |connection: &mut Connection, number| {
            let ask = Ask { method: hyper::Method::POST, body: transaction(number).to_string().into(), ..ask.clone() };
            Box::pin(async move { connection.send(&ask).await?.expect(200).map(drop) })
        })
    }

    fn create(&self, made: &Made) -> Act {
        let (ask, made) = (self.ask("/Patient"), Arc::clone(made));
        Arc::new(move |connection: &mut Connection, number| {
            let ask = Ask { method: hyper::Method::POST, body: patient(number).to_string().into(), ..ask.clone() };
            let made = Arc::clone(&made);
            Box::pin(async move {
                let id = connection.send(&ask).await?.expect(201)?.json()["id"].as_str().map(str::to_owned);
                made.lock().map_err(|e| e.to_string())?.extend(id);
                Ok(())
            })
        })
    }

    fn read(&self, made: &Made) -> Act {
        let (ask, made) = (self.ask("/Patient/"), Arc::clone(made));
        Arc::new(move |connection: &mut Connection, number| {
            let (mut ask, id) = (ask.clone(), one(&made, number));
            Box::pin(async move {
                ask.path.push_str(&id?);
                connection.send(&ask).await?.expect(200).map(drop)
            })
        })
    }

    fn update(&self, made: &Made) -> Act {
        let (ask, made) = (self.ask("/Patient/"), Arc::clone(made));
        Arc::new(move |connection: &mut Connection, number| {
            let (mut ask, id) = (ask.clone(), one(&made, number));
            Box::pin(async move {
                let id = id?;
                let mut changed = patient(number);
                changed["id"] = json!(id);
                ask.path.push_str(&id);
                ask = Ask { method: hyper::Method::PUT, body: changed.to_string().into(), ..ask };
                connection.send(&ask).await?.expect(200).map(drop)
            })
        })
    }

    fn search(&self) -> Act {
        let ask = self.ask("/Task?status=requested&_count=20");
        Arc::new(move |connection: &mut Connection, _| {
            let ask = ask.clone();
            Box::pin(async move { connection.send(&ask).await?.expect(200).map(drop) })
        })
    }
}

fn one(made: &Made, number: u64) -> Result<String, String> {
    let made = made.lock().map_err(|e| e.to_string())?;
    let at = number.wrapping_mul(48_271) as usize % made.len().max(1);
    made.get(at).cloned().ok_or_else(|| "no Patient was made".to_owned())
}

fn patient(number: u64) -> Value {
    json!({
        "resourceType": "Patient",
        "identifier": [{ "system": "https://practice.example/Id/patient", "value": format!("bench-{number}") }],
        "name": [{ "family": format!("Family{number}"), "given": ["Given"] }],
        "gender": "female", "birthDate": "1957-03-04",
    })
}

/// A referral as a server without our rules is sent it.
fn transaction(number: u64) -> Value {
    let urn = |kind: u64| format!("urn:uuid:{kind:08x}-0000-4000-8000-{number:012x}");
    let (person, request, task) = (urn(1), urn(2), urn(3));
    let entry = |url: &str, resource: Value| {
        let kind = resource["resourceType"].clone();
        json!({ "fullUrl": url, "resource": resource, "request": { "method": "POST", "url": kind } })
    };
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
        entry(&person, patient(number)),
        entry(&request, json!({
            "resourceType": "ServiceRequest", "status": "active", "intent": "order", "priority": "routine",
            "identifier": [{ "system": "https://practice.example/Id/referral", "value": format!("bench-{number}") }],
            "code": { "text": "Social prescribing" }, "subject": { "reference": person },
            "authoredOn": "2026-03-02T09:00:00Z",
            "reasonCode": [{ "text": "Lives alone since the summer, would like company and to become more active." }],
        })),
        entry(&task, json!({
            "resourceType": "Task", "status": "requested", "intent": "order", "priority": "routine",
            "code": { "text": "contact-patient" }, "focus": { "reference": request }, "for": { "reference": person },
            "authoredOn": "2026-03-02T09:00:00Z",
            "restriction": { "period": { "end": "2026-03-04T09:00:00Z" } },
        })),
    ] })
}
