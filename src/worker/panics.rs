//! What no attempt survives: it is parked and asked about, and everything else goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Worker;
use super::deliver::{deliver_by, settle};
use crate::config;
use crate::fhir::codes::CodeTable;
use crate::fhir::nhs_number::Checking;
use crate::fhir::profiles;
use crate::outbound::{KeyRing, Outbound, OutboundSettings, ServiceKey};
use crate::pathway::delivery::Verdict;
use crate::pathway::pam::CutOffs;
use crate::pathway::plan::Plan;
use crate::pathway::role::RoleMap;
use crate::store::empty::Empty;
use crate::store::{DeliveryFilter, DeliveryItem, NewDelivery, PersonRow, Store};
use crate::time::Clock;
use crate::workflow::{House, Rules, Webhooks};

const PRACTICE: &str = "TESTA1";

fn house() -> House {
    let resource = |kind, id| profiles::resource(kind, id).unwrap();
    let rules = Rules {
        codes: CodeTable::embedded().clone(),
        plan: Plan::from_resource(&resource("PlanDefinition", "llwir")).unwrap(),
        base_url: "http://127.0.0.1".to_owned(),
        pam: CutOffs::from_code_system(&resource("CodeSystem", "pam-cut-offs"), "B").unwrap(),
        nhs_numbers: Checking::Strict,
        preferences: Default::default(),
        roles: RoleMap::from_resource(&resource("ConceptMap", "job-role")),
        topics: Vec::new(),
        full_resource: false,
        webhooks: Webhooks { may_call: Box::new(|_| Ok(())), is_secret: |_| true, new_secret: || None },
    };
    House::new(rules, "TESTLW".to_owned())
}

/// Queues a delivery about a person that carries `Encounter/<what>`.
async fn queue(store: &Store, clock: &Clock, person: &str, what: &str) {
    let now = clock.now().into();
    let mut tx = store.write().await.unwrap();
    let items = vec![DeliveryItem { kind: "Encounter".to_owned(), id: what.to_owned(), version: 1 }];
    tx.insert_delivery(&NewDelivery {
        id: what.to_owned(),
        purpose: "write-back",
        practice: PRACTICE.to_owned(),
        person: person.to_owned(),
        referral: String::new(),
        items,
        author: String::new(),
        state: "pending",
        why: "",
        due_at: now,
        created_at: now,
    })
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

/// The state and reason of each delivery that is not settled without a person, else those that need one.
async fn until_settled(store: &Store, many: usize) -> Vec<(String, String, String)> {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let mut tx = store.read().await.unwrap();
        let all: Vec<String> =
            ["delivered", "refused", "needs-person", "pending", "retrying", "unknown"].map(str::to_owned).to_vec();
        let filter = DeliveryFilter { states: all, ..DeliveryFilter::default() };
        let found = tx.find_deliveries(&filter, 100).await.unwrap();
        if found.len() == many && found.iter().all(|row| row.settled_at.is_some()) {
            return found.into_iter().map(|row| (row.id, row.state, row.why)).collect();
        }
        assert!(Instant::now() < patience, "not settled");
        drop(tx);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_panics_is_parked_and_asked_about_and_all_others_go_on() {
    for database in Empty::each().await {
        let store = database.open().await;
        store.migrate().await.unwrap();
        let clock = Clock::fixed(chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap());
        let mut tx = store.write().await.unwrap();
        for id in ["ada", "bea"] {
            let [family, birth_date, locality] = [const { String::new() }; 3];
            let practice = PRACTICE.to_owned();
            let person = PersonRow { id: id.to_owned(), nhs_number: None, birth_date, family, practice, locality };
            tx.insert_person(&person).await.unwrap();
        }
        tx.commit().await.unwrap();
        // One that no attempt survives, between others of the same person and beside those of another.
        for (person, what) in [("ada", "a1"), ("ada", "a2-poison"), ("ada", "a3"), ("bea", "b1"), ("bea", "b2")] {
            queue(&store, &clock, person, what).await;
        }

        let key = ServiceKey::from_pem(&ServiceKey::generate_pem().unwrap()).unwrap();
        let outbound = Outbound::new(OutboundSettings::default(), Arc::new(KeyRing::one(key))).unwrap();
        let settings = config::Delivery::default();
        let (house, wake) = (Arc::new(house()), Arc::new(Notify::new()));
        let worker = Worker::new(store.clone(), house, Arc::new(outbound), clock.clone(), settings, Arc::clone(&wake));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let attempt = async |worker: Arc<Worker>, leased: crate::store::Leased, grip, at, began| {
            let _in_hand: super::held::Grip = grip;
            assert!(!leased.items.contains("poison"), "nothing that this carries can be sent");
            settle(&worker, &leased, &[], &Verdict::Delivered { receipts: Vec::new() }, at, began).await
        };
        let running = tokio::spawn(deliver_by(Arc::new(worker), stop.clone(), tasks.clone(), attempt));

        let settled = until_settled(&store, 5).await;
        for (id, state, why) in &settled {
            let expected = if id == "a2-poison" { ("refused", "request-not-made") } else { ("delivered", "") };
            assert_eq!((state.as_str(), why.as_str()), expected, "{id}");
        }
        let mut tx = store.read().await.unwrap();
        // Shown where people look for what needs them, with its attempt; and never tried again by itself.
        let parked = tx.find_deliveries(&DeliveryFilter::default(), 10).await.unwrap();
        assert_eq!(parked.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a2-poison"]);
        let attempts = tx.attempts("a2-poison").await.unwrap();
        assert_eq!(attempts.iter().map(|a| (a.number, a.verdict.as_str())).collect::<Vec<_>>(), [(1, "refused")]);
        assert_eq!(tx.open_tasks_for_person("ada", "delivery-failed").await.unwrap().len(), 1);
        assert_eq!(tx.open_tasks_for_person("bea", "delivery-failed").await.unwrap().len(), 0);
        drop(tx);

        // The loop lives: what comes later goes, also about the same person.
        queue(&store, &clock, "ada", "a4").await;
        wake.notify_one();
        assert_eq!(until_settled(&store, 6).await.iter().filter(|(_, state, _)| state == "delivered").count(), 5);
        stop.cancel();
        running.await.unwrap();
        tasks.close();
        tasks.wait().await;
        drop(store);
        database.gone().await;
    }
}
