//! What the sending practice keeps: one resource of each type that it can make, most of them about the person it referred.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::NOTHING;
use crate::support::caller::Caller;
use crate::support::{TestApp, build};
use crate::test_data;

/// Types differ in data alone: PostgreSQL is asked about these, and about those that mean something to Live Well.
const SOME: [&str; 10] = [
    "AllergyIntolerance",
    "Basic",
    "CarePlan",
    "Communication",
    "Condition",
    "DocumentReference",
    "Flag",
    "Organization",
    "Provenance",
    "QuestionnaireResponse",
];

pub(super) struct World {
    pub(super) sender: Caller,
    pub(super) system: Caller,
    /// By type, the resource that the sender made, as it is stored.
    pub(super) kept: BTreeMap<String, Value>,
    /// What the CapabilityStatement says of each type.
    pub(super) types: Vec<Value>,
}

impl World {
    /// TESTA1 refers Ada, who is registered there, and keeps what it can; the coach of the north begins to work.
    pub(super) async fn begin(app: &TestApp) -> World {
        let (sender, system, coach) =
            (app.practice("TESTA1").await, app.system().await, app.staff("coach-north").await);
        let statement = sender.get("metadata").await.expect(200).body;
        let types = statement["rest"][0]["resource"].as_array().unwrap().clone();
        let mut kept = BTreeMap::new();
        let patient = sender.post("Patient", &build::person(build::ADA)).await.expect(201).body;
        let patient_at = format!("Patient/{}", patient["id"].as_str().unwrap());
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": patient_at });
        let referral = sender.post("ServiceRequest", &referral).await.expect(201).body;
        let referral_at = format!("ServiceRequest/{}", referral["id"].as_str().unwrap());
        let task = coach.get(format!("Task?focus={referral_at}")).await.expect(200).resources().remove(0);
        let person = task["for"]["reference"].as_str().unwrap().to_owned();
        for resource in [patient, referral, task] {
            kept.insert(resource["resourceType"].as_str().unwrap().to_owned(), resource);
        }
        let encounter = coach.post("Encounter", &build::encounter(&referral_at, &person)).await.expect(201).body;
        let encounter_at = format!("Encounter/{}", encounter["id"].as_str().unwrap());
        kept.insert("Encounter".to_owned(), encounter);
        for record in [build::pam("56.4", 2), build::goal(), build::consent()] {
            let about = if record["resourceType"] == "Observation" { encounter_at.as_str() } else { "" };
            let made =
                coach.post(record["resourceType"].as_str().unwrap(), &build::about(record.clone(), &person, about));
            kept.insert(record["resourceType"].as_str().unwrap().to_owned(), made.await.expect(201).body);
        }
        let subscription = json!({
            "resourceType": "Subscription", "status": "off", "reason": "Not yet", "criteria": "Task?status=requested",
            "channel": { "type": "rest-hook", "endpoint": "http://127.0.0.1:9/hook", "payload": "application/fhir+json" },
        });
        kept.insert("Subscription".to_owned(), sender.post("Subscription", &subscription).await.expect(201).body);
        let mut world = World { sender, system, kept, types };
        let all = app.config.database.url.0.starts_with("sqlite");
        world.fill(&patient_at, |kind| all || SOME.contains(&kind)).await;
        let trail = world.system.get(format!("AuditEvent?entity={referral_at}&action=C")).await.expect(200);
        world.kept.insert("AuditEvent".to_owned(), trail.resources().remove(0));
        world
    }

    /// One more of each type that has none: about the person where it says whom it is about, else as HL7's example has it.
    async fn fill(&mut self, patient: &str, wanted: impl Fn(&str) -> bool) {
        let examples = test_data::present("hl7-r4-examples/json");
        let examples = examples.map(|folder| test_data::json_files(&folder)).unwrap_or_default();
        for kind in self.types.iter().map(|said| said["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>() {
            if self.kept.contains_key(&kind) || !wanted(&kind) {
                continue;
            }
            let mut candidates = vec![json!({ "resourceType": kind })];
            for element in ["subject", "patient"] {
                candidates.insert(0, json!({ "resourceType": kind, element: { "reference": patient } }));
            }
            candidates.extend(
                examples.iter().filter(|(_, e)| e["resourceType"] == kind.as_str()).map(|(_, e)| e.clone()).take(4),
            );
            for mut candidate in candidates {
                candidate.as_object_mut().unwrap().remove("id");
                let made = self.sender.post(kind.as_str(), &candidate).await;
                if made.status == 201 {
                    self.kept.insert(kind, made.body);
                    break;
                }
            }
        }
    }

    /// `Type/id` of what is kept of a type.
    pub(super) fn at(&self, kind: &str) -> Option<String> {
        self.kept.get(kind).map(|kept| format!("{kind}/{}", kept["id"].as_str().unwrap()))
    }

    pub(super) fn id(&self, kind: &str) -> Option<&str> {
        self.kept.get(kind).and_then(|kept| kept["id"].as_str())
    }

    /// The kept resource, or the same under the id of nothing.
    pub(super) fn body(&self, kind: &str, id: &str) -> Value {
        let mut body = self.kept.get(kind).cloned().unwrap_or_else(|| json!({ "resourceType": kind }));
        body["id"] = json!(id);
        body
    }

    /// The ids of all that is kept, and of what came of it.
    pub(super) fn ids(&self) -> Vec<&str> {
        self.kept.values().filter_map(|kept| kept["id"].as_str()).collect()
    }

    /// Nothing of it was changed or removed.
    pub(super) async fn is_as_it_was(&self) {
        for (kind, kept) in &self.kept {
            let at = self.at(kind).unwrap();
            let read = self.system.send(Method::GET, at.as_str()).await.expect(200).body;
            // The coach's record moved it on.
            if kind != "Task" && kind != "ServiceRequest" {
                assert_eq!(&read, kept, "{at}");
            }
            assert_ne!(read["id"], NOTHING);
        }
    }
}
