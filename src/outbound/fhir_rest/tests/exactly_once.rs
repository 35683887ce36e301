//! Each thing exists at the practice once, whatever goes wrong on the way.

use super::*;

#[tokio::test]
async fn a_write_back_arrives_once_and_is_seen_there() {
    let practice = Practice::open().await;
    let receipts = receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_once(&practice);
    assert_eq!(receipts.len(), 3);
    assert_eq!(receipts[0].key, "Encounter/e1");
    assert!(practice.told().stored.contains_key(&receipts[0].practice_reference));
    assert_eq!(receipts[0].practice_version.as_deref(), Some("1"));
    assert_eq!(
        path::text(&practice.told().stored[&receipts[1].practice_reference], "encounter.reference"),
        Some(receipts[0].practice_reference.as_str())
    );
    assert!(practice.told().seen.iter().all(|(_, path)| !path.contains("9990000018")), "no NHS number in a URL");
}

#[tokio::test]
async fn looking_first_sends_nothing_that_is_there() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    let looked = receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(first, looked);
    assert_eq!(practice.told().transactions.len(), 1, "what is there is not sent again");
    assert_once(&practice);
}

#[tokio::test]
async fn an_entry_that_is_there_is_not_created_again_even_without_looking() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    let again = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    assert_eq!(first[..2], again[..2]);
    assert_eq!((practice.holds("Encounter"), practice.holds("Observation")), (1, 1));
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_next_attempt_finds_it() {
    let practice = Practice::open().await;
    practice.fails([Fault::DropReply]);
    let outbound = outbound();
    let verdict = outbound.deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::Unknown { why: Why::ConnectionLost });
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await).len(), 3);
    assert_eq!(practice.told().transactions.len(), 1);
    assert_once(&practice);
}

#[tokio::test]
async fn a_request_lost_on_the_way_is_sent_again_after_looking() {
    let practice = Practice::open().await;
    practice.fails([Fault::DropRequest]);
    let outbound = outbound();
    assert!(matches!(outbound.deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { .. }));
    assert_eq!(practice.holds("Encounter"), 0);
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_once(&practice);
}

#[tokio::test]
async fn whatever_goes_wrong_each_entry_exists_once_in_the_end() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let status = |s| Fault::Status(s, vec![], json!({}));
    practice.fails([
        status(503),
        Fault::DropRequest,
        status(500),
        Fault::DropReply,
        Fault::Body("<html>".into()),
        status(429),
    ]);
    let mut attempts = 0;
    let receipts = loop {
        attempts += 1;
        assert!(attempts < 10);
        match outbound.deliver(&job(&practice, set(), attempts > 1), now()).await {
            Verdict::Delivered { receipts } => break receipts,
            Verdict::Retry { .. } | Verdict::Unknown { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(receipts.len(), 3);
    assert_eq!(attempts, 5);
    assert_once(&practice);
}

#[tokio::test]
async fn an_answer_without_entries_is_completed_by_looking() {
    for body in [
        r#"{"resourceType":"Bundle","entry":[]}"#,
        r#"{"resourceType":"Bundle"}"#,
        r#"{"resourceType":"Bundle","entry":[{},{"response":null},7]}"#,
    ] {
        let practice = Practice::open().await;
        practice.fails([Fault::Body(body.into())]);
        assert_eq!(receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await).len(), 3, "{body}");
        assert_once(&practice);
    }
}

#[tokio::test]
async fn a_conflict_is_reconciled_by_looking() {
    let practice = Practice::open().await;
    practice.fails([Fault::Status(409, vec![], json!({}))]);
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_once(&practice);
}

#[tokio::test]
async fn a_practice_that_drops_identifiers_or_holds_copies_needs_a_person() {
    let practice = Practice::open().await;
    practice.fails([Fault::LoseIdentifiers]);
    let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::IdentifierNotKept });
    let practice = Practice::open().await;
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    let copy = practice.told().stored.values().find(|r| r["resourceType"] == "Encounter").cloned().unwrap();
    let mut second = copy.clone();
    second["id"] = json!("again");
    practice.told().stored.insert("Encounter/again".into(), second);
    for looks in [false, true] {
        let verdict = outbound().deliver(&job(&practice, set(), looks), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::SeveralCopies });
    }
}

#[tokio::test]
async fn a_practice_that_cannot_search_provenance_still_gets_each_thing_once() {
    let practice = Practice::open().await;
    let outbound = outbound();
    receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    practice.told().instead.insert("/fhir/Provenance".into(), (400, vec![], String::new()));
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await).len(), 2);
    assert_once(&practice);
}

#[tokio::test]
async fn a_written_entry_that_is_not_there_afterwards_is_not_delivered() {
    let practice = Practice::open().await;
    let said = json!({ "resourceType": "Bundle", "entry": [
        { "response": { "status": "201", "location": "Encounter/none" } },
        { "response": { "status": "201", "location": "Observation/none" } },
        { "response": { "status": "201", "location": "Provenance/none" } },
    ] });
    practice.fails([Fault::Status(200, vec![], said)]);
    let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::Unknown { why: Why::NotThereAfterwards });
}

/// A sequence that is the same for the same seed: linear congruential, good enough to choose faults by.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Three in ten attempts go wrong at the practice, and one in ten ends here as if the process had been killed.
#[tokio::test]
async fn through_faults_and_kills_every_entry_exists_once_and_none_is_missing() {
    use crate::pathway::delivery::{Delivery, DeliveryState, Pace};
    let practice = Practice::open().await;
    let outbound = outbound();
    let mut dice = Dice(20_260_503);
    let (mut kills, mut faults) = (0, 0);
    let numbered = |n: u32| {
        let text = serde_json::to_string(&set().iter().map(|o| o.resource.clone()).collect::<Vec<_>>()).unwrap();
        let (e, o, d) = (format!("e{n}x"), format!("o{n}x"), format!("d{n}x"));
        let text = text
            .replace("\"e1\"", &format!("\"{e}\""))
            .replace("\"o1\"", &format!("\"{o}\""))
            .replace("\"d1\"", &format!("\"{d}\""))
            .replace(&full_url("Encounter/e1"), &full_url(&format!("Encounter/{e}")))
            .replace(&full_url("Observation/o1"), &full_url(&format!("Observation/{o}")));
        let resources: Vec<Value> = serde_json::from_str(&text).unwrap();
        let keys = [format!("Encounter/{e}"), format!("Observation/{o}"), format!("Provenance/{d}")];
        keys.into_iter()
            .zip(resources)
            .map(|(key, resource)| Outgoing { key, version: 1, resource, previous: None })
            .collect::<Vec<_>>()
    };
    for n in 0..120 {
        let mut delivery = Delivery::queued(true, now());
        while delivery.state != DeliveryState::Delivered {
            assert!(delivery.attempts < 20 && delivery.state.is_due_for_attempts(), "{delivery:?}");
            delivery = delivery.begun().unwrap();
            let fault = match dice.up_to(100) {
                0..5 => Some(Fault::DropReply),
                5..10 => Some(Fault::DropRequest),
                10..18 => Some(Fault::Status(503, vec![], json!({}))),
                18..22 => Some(Fault::Status(429, vec![("retry-after", "1".into())], json!({}))),
                22..25 => Some(Fault::Status(504, vec![], json!({}))),
                25..28 => Some(Fault::Body(String::new())),
                28..30 => Some(Fault::Body(r#"{"resourceType":"Bundle","entry":[]}"#.into())),
                _ => None,
            };
            faults += u32::from(fault.is_some());
            practice.told().faults = fault.into_iter().collect();
            let job = job(&practice, numbered(n), delivery.looks_first());
            if dice.up_to(10) == 0 {
                kills += 1;
                let killed_after = Duration::from_micros(200 * dice.up_to(40));
                // What it came to is lost with the process, whatever it was.
                let _ = tokio::time::timeout(killed_after, outbound.deliver(&job, now())).await;
                continue;
            }
            let verdict = outbound.deliver(&job, now()).await;
            delivery = delivery.attempted(&verdict, Duration::ZERO, now(), Pace::REAL, 0.5).unwrap();
        }
    }
    assert!(kills > 5 && faults > 30, "{kills} {faults}");
    for kind in ["Encounter", "Observation", "Provenance"] {
        assert_eq!(practice.holds(kind), 120, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_run_side_by_side_on_any_thread() {
    let practice = Practice::open().await;
    let outbound = Arc::new(outbound());
    let run = |id: &'static str| {
        let (practice, outbound) = (practice.clone(), outbound.clone());
        tokio::spawn(async move {
            let one = resource("Encounter", id, 1, json!({}));
            let one = Outgoing { key: format!("Encounter/{id}"), version: 1, resource: one, previous: None };
            outbound.deliver(&job(&practice, vec![one], false), now()).await
        })
    };
    let all = ["a", "b", "c", "d"].map(run);
    for delivery in all {
        assert_eq!(receipts_of(delivery.await.unwrap()).len(), 1);
    }
    assert_eq!(practice.holds("Encounter"), 4);
}
