//! The real binary, ended by SIGKILL at random moments: what was acknowledged is there, whole and once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use livewell::demo::directory::Directory;
use livewell::demo::practice::{Aim, Fault, PatientSeed, PracticeSeed, StandIn, StandInSettings, Traffic};
use livewell::fhir::path;
use livewell::fhir::systems::RECORD;
use livewell::time::Clock;
use rand::RngExt;
use serde_json::json;

use crate::journey::{referral_of, somebody};
use crate::support::binary::Binary;
use crate::support::subscriber::Subscriber;
use crate::support::{Database, build};

/// Longer than anything takes, shorter than a person waits for a hanging test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends and starts the service at random moments.
async fn kills(service: &Binary, times: usize) {
    for _ in 0..times {
        let moment = rand::rng().random_range(200..1200);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        service.kill();
        // The 20 seconds of a lease, passed.
        service.run("update delivery set lease_until = 0").await;
        service.start().await;
    }
}

#[test]
fn every_acknowledged_referral_is_there_whole_and_once_after_kill_9_sqlite() {
    acknowledged_through_kills(Database::Sqlite);
}

#[test]
fn every_acknowledged_referral_is_there_whole_and_once_after_kill_9_postgres() {
    acknowledged_through_kills(Database::Postgres);
}

fn acknowledged_through_kills(database: Database) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(mut service) = Binary::new(database).await else { return };
        service.register("sender", "TESTA1", &[]);
        service.start().await;
        let (service, over) = (Arc::new(service), Arc::new(AtomicBool::new(false)));
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (service, over) = (Arc::clone(&service), Arc::clone(&over));
            senders.spawn(async move {
                let (mut acknowledged, mut token) = (Vec::new(), None);
                while !over.load(Ordering::SeqCst) {
                    let mut referral = referral_of(&somebody(), "TESTA1", "routine");
                    let own = uuid::Uuid::new_v4().to_string();
                    referral["identifier"] = json!([{ "system": "https://practice.example/Id/referral", "value": own }]);
                    acknowledged.push(service.send("sender", &mut token, "/fhir/ServiceRequest", &referral).await);
                }
                acknowledged
            });
        }
        kills(&service, 8).await;
        over.store(true, Ordering::SeqCst);
        let acknowledged = senders.join_all().await.concat();
        assert!(acknowledged.len() > 50, "{}", acknowledged.len());

        // Each was sent until it was acknowledged: what is stored is what was acknowledged, no more and no less.
        assert_eq!(service.count("referral").await, i64::try_from(acknowledged.len()).unwrap());
        let each: std::collections::BTreeSet<String> = acknowledged.iter().map(|id| format!("'{id}'")).collect();
        let each = each.into_iter().collect::<Vec<_>>().join(", ");
        let whole = format!(
            "(select f.id from referral f join resource r on r.kind = 'ServiceRequest' and r.id = f.id \
             join task t on t.referral = f.id and t.code = 'contact-patient' and t.status = 'requested' \
             join resource tr on tr.kind = 'Task' and tr.id = t.id \
             join resource c on c.kind = 'CarePlan' and c.id = f.care_plan \
             join resource e on e.kind = 'EpisodeOfCare' and e.id = f.episode \
             join person p on p.id = f.person join resource pr on pr.kind = 'Patient' and pr.id = p.id \
             join audit a on a.interaction = 'create' and a.target = 'ServiceRequest/' || f.id \
             where f.id in ({each}) group by f.id having count(*) = 1) whole"
        );
        let whole = service.count(&whole).await;
        assert_eq!(whole, i64::try_from(acknowledged.len()).unwrap(), "some are not whole, or not once");
        for (orphans, what) in [
            ("resource where kind = 'Task' and id not in (select id from task)", "a Task without its place in the queue"),
            ("task where id not in (select id from resource where kind = 'Task')", "a place in the queue without its Task"),
            ("task where referral not in (select id from referral)", "a Task without its referral"),
            ("person where id not in (select person from referral)", "a person without a referral"),
            ("episode where id not in (select episode from referral)", "a spell without a referral"),
            ("lookup l where not exists (select 1 from resource r where r.kind = l.kind and r.id = l.id)", "an index entry of nothing"),
            ("audit where target like 'ServiceRequest/%' and interaction = 'create' and substr(target, 16) not in (select id from referral)", "an audit row of nothing"),
        ] {
            assert_eq!(service.count(orphans).await, 0, "{what}");
        }
        if matches!(database, Database::Sqlite) {
            assert_eq!(service.count("pragma_integrity_check where integrity_check <> 'ok'").await, 0, "it is damaged");
        }
        println!("{} referrals acknowledged through 8 kills", acknowledged.len());
    });
}

#[test]
fn every_write_back_exists_once_and_in_order_at_the_practice_after_kill_9() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut service = Binary::new(Database::Sqlite).await.unwrap();
        let people: Vec<String> = (0..6).map(|_| somebody()).collect();
        let seed = |number: &String| PatientSeed {
            nhs_number: number.clone(),
            family: "Example".to_owned(),
            given: "Pat".to_owned(),
            birth_date: "1951-04-22".to_owned(),
            gender: "female".to_owned(),
        };
        let practice = PracticeSeed { ods: "TESTA1".to_owned(), patients: people.iter().map(seed).collect() };
        let settings = StandInSettings {
            practices: vec![practice],
            client_jwks_url: service.url("/.well-known/jwks.json"),
            accepted_client_id: "livewell".to_owned(),
            clock: Clock::System,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn::start(listener, service.folder.path().join("practices"), settings).await.unwrap();
        let directory = Directory::embedded().unwrap().with_endpoints(|ods| stand_in.base(ods)).unwrap();
        let directory = service.file("directory.json", &directory);
        service.does(&["load", directory.to_str().unwrap()]);
        service.register("sender", "TESTA1", &[]);
        service.register("coach", "TESTLW", &["--staff", "PractitionerRole/coach-north"]);
        service.start().await;

        let mut token = None;
        let mut referrals = Vec::new();
        for number in &people {
            let referral = referral_of(number, "TESTA1", "routine");
            referrals.push(service.send("sender", &mut token, "/fhir/ServiceRequest", &referral).await);
        }
        let faults = stand_in.faults();
        faults.seed(rand::rng().random());
        let answer = |status| Fault::Answer { status, retry_after: None };
        faults.sometimes(0.10, Aim::at(Traffic::Writes), Fault::DropReply);
        faults.sometimes(0.05, Aim::at(Traffic::Writes), Fault::DropRequest);
        faults.sometimes(0.05, Aim::at(Traffic::All), answer(503));
        faults.sometimes(0.30, Aim::at(Traffic::Writes), Fault::Delay(Duration::from_millis(60)));

        let (service, over) = (Arc::new(service), Arc::new(AtomicBool::new(false)));
        let mut recorders = tokio::task::JoinSet::new();
        for (number, referral) in people.iter().zip(&referrals) {
            let (service, over) = (Arc::clone(&service), Arc::clone(&over));
            let mut encounter = build::encounter(&format!("ServiceRequest/{referral}"), "");
            encounter["subject"] = build::by_number(number);
            recorders.spawn(async move {
                let (mut acknowledged, mut token) = (Vec::new(), None);
                while !over.load(Ordering::SeqCst) {
                    acknowledged.push(service.send("coach", &mut token, "/fhir/Encounter", &encounter).await);
                    // As fast as six deliveries can be under way, so that each kill meets some.
                    let pause = rand::rng().random_range(20..200);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                acknowledged
            });
        }
        kills(&service, 8).await;
        over.store(true, Ordering::SeqCst);
        let recorded = recorders.join_all().await;
        faults.clear();

        let until = Instant::now() + PATIENCE;
        while service.count("delivery where settled_at is null").await > 0 {
            assert!(Instant::now() < until, "not delivered");
            // The waits between attempts, and of a circuit breaker that the faults opened, passed.
            service.run("update delivery set due_at = 0 where settled_at is null and lease_until = 0").await;
            service.run("update destination set probe_at = 0").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let total: usize = recorded.iter().map(Vec::len).sum();
        let expected = i64::try_from(total).unwrap();
        assert_eq!(service.count("resource where kind = 'Encounter'").await, expected, "recorded once");
        assert_eq!(service.count("delivery").await, expected, "each record has its delivery");
        assert_eq!(service.count("delivery where state = 'delivered'").await, expected);
        let audited = "audit where interaction = 'create' and target like 'Encounter/%'";
        assert_eq!(service.count(audited).await, expected);

        let mut there: BTreeMap<String, u64> = BTreeMap::new();
        for encounter in stand_in.resources("TESTA1", "Encounter") {
            let ours = path::all(&encounter, "identifier").into_iter().find(|i| i["system"] == RECORD).unwrap();
            let twice = there
                .insert(ours["value"].as_str().unwrap().to_owned(), encounter["id"].as_str().unwrap().parse().unwrap());
            assert_eq!(twice, None, "twice at the practice");
        }
        assert_eq!(there.len(), total, "none missing, none too many");
        assert_eq!(stand_in.resources("TESTA1", "Provenance").len(), total);
        for acknowledged in &recorded {
            let order: Vec<u64> = acknowledged.iter().map(|id| there[id]).collect();
            assert!(order.is_sorted(), "{order:?}");
        }
        println!("{total} write-backs through 8 kills and {} faults", faults.struck());
    });
}

#[test]
fn a_subscriber_hears_of_each_change_in_order_and_as_one_message_after_kill_9() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut service = Binary::new(Database::Sqlite).await.unwrap();
        service.register("sender", "TESTA1", &[]);
        service.start().await;
        let subscriber = Subscriber::start().await;
        let wanted = json!({
            "resourceType": "Subscription", "status": "requested", "reason": "Tells the practice's system",
            "criteria": "https://livewell.example/SubscriptionTopic/referral-received",
            "channel": { "type": "rest-hook", "endpoint": subscriber.url, "payload": "application/fhir+json" },
        });
        service.send("sender", &mut None, "/fhir/Subscription", &wanted).await;
        subscriber.wait_for("handshake", 1).await;
        let until = Instant::now() + PATIENCE;
        while service.count("subscription where state = 'active'").await == 0 {
            assert!(Instant::now() < until, "it does not become active");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        let (service, over) = (Arc::new(service), Arc::new(AtomicBool::new(false)));
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (service, over) = (Arc::clone(&service), Arc::clone(&over));
            senders.spawn(async move {
                let (mut acknowledged, mut token) = (0, None);
                while !over.load(Ordering::SeqCst) {
                    let mut referral = referral_of(&somebody(), "TESTA1", "routine");
                    let own = uuid::Uuid::new_v4().to_string();
                    referral["identifier"] =
                        json!([{ "system": "https://practice.example/Id/referral", "value": own }]);
                    service.send("sender", &mut token, "/fhir/ServiceRequest", &referral).await;
                    acknowledged += 1;
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                acknowledged
            });
        }
        kills(&service, 6).await;
        over.store(true, Ordering::SeqCst);
        let acknowledged: i64 = senders.join_all().await.into_iter().sum();
        let until = Instant::now() + PATIENCE;
        while service.count("delivery where settled_at is null").await > 0 {
            assert!(Instant::now() < until, "not told");
            // The waits between attempts, and of a circuit breaker that the faults opened, passed.
            service.run("update delivery set due_at = 0 where settled_at is null and lease_until = 0").await;
            service.run("update destination set probe_at = 0").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }

        let mut messages: BTreeMap<i64, String> = BTreeMap::new();
        let (mut order, mut repeats) = (Vec::new(), 0);
        for got in subscriber.taken("event-notification") {
            let id = got.headers["webhook-id"].to_str().unwrap().to_owned();
            for number in got.numbers() {
                match messages.insert(number, id.clone()) {
                    None => order.push(number),
                    // What a kill left unclear is sent again as the message that it was.
                    Some(first) => {
                        assert_eq!(first, id, "event {number} in two messages");
                        repeats += 1;
                    }
                }
            }
        }
        assert_eq!(order, (1..=acknowledged).collect::<Vec<_>>(), "none missing, none too many, none before another");
        println!("{acknowledged} events through 6 kills, {repeats} of them sent again");
    });
}
