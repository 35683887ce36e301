//! Every state against everything that can happen to it.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::super::verdict::Why;
use super::*;
use DeliveryState::*;

const TOOK: Duration = Duration::from_millis(300);
const WITHIN: Duration = Duration::from_secs(72 * 3600);

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn in_state(state: DeliveryState) -> Delivery {
    Delivery { state, attempts: 2, failures: 2, queued_at: start(), due_at: None, reason: None }
}

fn verdicts() -> Vec<Verdict> {
    vec![
        Verdict::Delivered { receipts: Vec::new() },
        Verdict::Retry { after: None, why: Why::Status(503) },
        Verdict::Refused { why: Why::Status(422), outcome: None },
        Verdict::Unknown { why: Why::ConnectionLost },
        Verdict::NeedsPerson { reason: Reason::PatientNotFound },
        Verdict::Sent { message: "m".into(), within: WITHIN },
    ]
}

#[test]
fn every_state_meets_every_verdict() {
    let table = [
        (Pending, Some([Delivered, Retrying, Refused, Unknown, NeedsPerson, Sent])),
        (Retrying, Some([Delivered, Retrying, Refused, Unknown, NeedsPerson, Sent])),
        (Unknown, Some([Delivered, Unknown, Refused, Unknown, NeedsPerson, Sent])),
        (Sent, Some([Delivered, Sent, Refused, Sent, NeedsPerson, Sent])),
        (Received, Some([Delivered, Received, Refused, Received, NeedsPerson, Received])),
        (Accepted, None),
        (Delivered, None),
        (Refused, None),
        (NeedsPerson, None),
        (NoRoute, None),
        (Cancelled, None),
    ];
    assert_eq!(table.len(), DeliveryState::ALL.len());
    for (from, to) in table {
        for (at, verdict) in verdicts().iter().enumerate() {
            let next = in_state(from).attempted(verdict, TOOK, start(), Pace::REAL, 0.5);
            match to {
                Some(row) => {
                    let next = next.unwrap();
                    assert_eq!(next.state, row[at], "{from:?} {verdict:?}");
                    let due = next.state.is_due_for_attempts() || next.state.awaits_acknowledgement();
                    assert_eq!(next.due_at.is_some(), due, "{from:?} {verdict:?}");
                    assert_eq!(next.reason.is_some(), next.state == NeedsPerson);
                }
                None => assert_eq!(next.unwrap_err().state, from),
            }
        }
    }
}

#[test]
fn every_state_meets_every_act_of_a_person() {
    // replayed, cancelled, route found, route lost, begun
    let table = [
        (Pending, [None, Some(Cancelled), None, Some(NoRoute), Some(Pending)]),
        (Retrying, [Some(Pending), Some(Cancelled), None, Some(NoRoute), Some(Retrying)]),
        (Unknown, [Some(Unknown), None, None, Some(NoRoute), Some(Unknown)]),
        (Sent, [None, None, None, None, Some(Sent)]),
        (Received, [None, None, None, None, Some(Received)]),
        (Accepted, [None, None, None, None, None]),
        (Delivered, [None, None, None, None, None]),
        (Refused, [Some(Pending), Some(Cancelled), None, None, None]),
        (NeedsPerson, [Some(Pending), Some(Cancelled), None, None, None]),
        (NoRoute, [None, Some(Cancelled), Some(Pending), None, None]),
        (Cancelled, [Some(Pending), None, None, None, None]),
    ];
    for (from, row) in table {
        let results = [
            in_state(from).replayed(start()),
            in_state(from).cancelled(),
            in_state(from).route_found(start()),
            in_state(from).route_lost(),
            in_state(from).begun(),
        ];
        for (result, expected) in results.into_iter().zip(row) {
            assert_eq!(result.ok().map(|d| d.state), expected, "{from:?}");
        }
    }
}

#[test]
fn every_state_meets_every_acknowledgement() {
    let passed = Acknowledgement::Passed;
    let failed = |stage| Acknowledgement::Failed { stage, why: "itk-20009".into(), said: String::new() };
    let answers = [
        passed(Stage::Transport),
        passed(Stage::Infrastructure),
        passed(Stage::Business),
        passed(Stage::Filing),
        failed(Stage::Transport),
        failed(Stage::Infrastructure),
        failed(Stage::Business),
        failed(Stage::Filing),
    ];
    let (a, d, r) = (Some(Accepted), Some(Delivered), Some(Refused));
    // In the order of `answers`; none where nothing changes.
    let table = [
        (Pending, [None, None, a, d, None, None, None, None]),
        (Retrying, [None, None, a, d, None, None, None, None]),
        (Unknown, [None, Some(Received), a, d, r, r, r, r]),
        (Sent, [None, Some(Received), a, d, r, r, r, r]),
        (Received, [None, None, a, d, None, None, r, r]),
        (Accepted, [None, None, None, d, None, None, None, r]),
        (Delivered, [None, None, None, None, None, None, None, None]),
        (Refused, [None, None, a, d, None, None, None, None]),
        (NeedsPerson, [None, None, a, d, r, r, r, r]),
        (NoRoute, [None, None, a, d, None, None, None, None]),
        (Cancelled, [None, None, a, d, None, None, None, None]),
    ];
    assert_eq!(table.len(), DeliveryState::ALL.len());
    for (from, row) in table {
        for (answer, expected) in answers.iter().zip(row) {
            let next = in_state(from).acknowledged(answer, start(), WITHIN);
            assert_eq!(next.as_ref().map(|d| d.state), expected, "{from:?} {answer:?}");
            // The same again changes nothing: acknowledgements come twice.
            let again = next.and_then(|next| next.acknowledged(answer, start(), WITHIN));
            assert_eq!(again, None, "{from:?} {answer:?} twice");
        }
    }
}

#[test]
fn an_answer_that_stays_out_is_asked_for_by_a_person() {
    let sent = Delivery::queued(true, start()).begun().unwrap();
    let sent = sent.attempted(&verdicts()[5], TOOK, start(), Pace::REAL, 0.5).unwrap();
    assert_eq!((sent.state, sent.due_at), (Sent, Some(start() + chrono::Duration::hours(72))));
    let received = sent.acknowledged(&Acknowledgement::Passed(Stage::Infrastructure), start(), WITHIN).unwrap();
    assert_eq!(received.due_at, Some(start() + chrono::Duration::hours(72)), "the wait counts from the sending");
    let late = Verdict::NeedsPerson { reason: Reason::AcknowledgementMissing };
    let asked = received
        .begun()
        .unwrap()
        .attempted(&late, TOOK, start() + chrono::Duration::hours(72), Pace::REAL, 0.5)
        .unwrap();
    assert_eq!((asked.state, asked.reason), (NeedsPerson, Some(Reason::AcknowledgementMissing)));
    let came = asked.acknowledged(&Acknowledgement::Passed(Stage::Business), start(), WITHIN).unwrap();
    assert_eq!((came.state, came.reason), (Accepted, None));
}

#[test]
fn an_unclear_outcome_is_never_forgotten() {
    let unclear = in_state(Unknown);
    let held = unclear.clone().route_lost().unwrap();
    assert_eq!(held.route_found(start()).unwrap().state, Unknown);
    let late = start() + chrono::Duration::hours(80);
    let given_up = unclear.attempted(&verdicts()[1], TOOK, late, Pace::REAL, 0.5).unwrap();
    assert_eq!((given_up.state, given_up.reason), (NeedsPerson, Some(Reason::OutcomeUnknown)));
    let again = given_up.replayed(late).unwrap();
    assert_eq!((again.state, again.queued_at, again.failures), (Unknown, late, 0));
    assert!(again.begun().unwrap().looks_first());
}

#[test]
fn an_attempt_that_ended_with_the_process_makes_the_next_one_look_first() {
    let first = Delivery::queued(true, start()).begun().unwrap();
    assert!(!first.looks_first());
    assert!(first.begun().unwrap().looks_first());
    assert_eq!(Delivery::queued(false, start()).state, NoRoute);
}

#[test]
fn a_dead_practice_is_tried_for_72_hours_and_then_a_person_is_asked() {
    // A small linear congruential sequence: any spread of jitter will do, and the run is the same each time.
    let mut seed: u32 = 7;
    for _ in 0..1000 {
        let mut now = start();
        let mut delivery = Delivery::queued(true, now);
        let mut attempts = 0;
        while delivery.state.is_due_for_attempts() {
            now = delivery.due_at.unwrap();
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let unit = f64::from(seed >> 8) / f64::from(1 << 24);
            let verdict = Verdict::Retry { after: None, why: Why::Unreachable };
            delivery = delivery.begun().unwrap().attempted(&verdict, TOOK, now, Pace::REAL, unit).unwrap();
            attempts += 1;
            assert!(attempts < 30);
        }
        assert_eq!((delivery.state, delivery.reason), (NeedsPerson, Some(Reason::RetriesExhausted)));
        let spanned = now - start();
        assert!(spanned >= chrono::Duration::hours(72) && spanned < chrono::Duration::hours(87), "{spanned}");
        assert!(attempts >= 11, "{attempts}");
    }
}

#[test]
fn the_72_hours_begin_with_the_first_failure_and_not_with_the_wait_behind_others() {
    let late = start() + chrono::Duration::hours(100);
    let failed = Verdict::Retry { after: None, why: Why::Status(503) };
    let first =
        Delivery::queued(true, start()).begun().unwrap().attempted(&failed, TOOK, late, Pace::REAL, 0.5).unwrap();
    assert_eq!((first.state, first.queued_at, first.failures), (Retrying, late, 1));
    let second =
        first.begun().unwrap().attempted(&failed, TOOK, late + chrono::Duration::hours(73), Pace::REAL, 0.5).unwrap();
    assert_eq!((second.state, second.reason), (NeedsPerson, Some(Reason::RetriesExhausted)));
}

#[test]
fn every_state_and_reason_is_found_by_its_word() {
    for state in DeliveryState::ALL {
        assert_eq!(DeliveryState::from_code(state.code()), Some(state));
    }
    assert_eq!(DeliveryState::from_code("posted"), None);
    for reason in Reason::ALL {
        assert_eq!(Reason::from_code(reason.code()), Some(reason));
    }
}
