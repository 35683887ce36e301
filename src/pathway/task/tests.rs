#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const NORA: &str = "PractitionerRole/coach-north";

fn states() -> Vec<TaskState> {
    let owner = || NORA.to_owned();
    let kept = || Some(NORA.to_owned());
    vec![
        TaskState::Requested,
        TaskState::Received,
        TaskState::Accepted { owner: owner() },
        TaskState::InProgress { owner: owner() },
        TaskState::OnHold { owner: owner() },
        TaskState::Completed { owner: kept() },
        TaskState::Failed { owner: kept() },
        TaskState::Rejected { owner: kept() },
        TaskState::Cancelled { owner: kept() },
        TaskState::EnteredInError { owner: kept() },
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Receive,
        Event::Claim { by: NORA.to_owned() },
        Event::Release,
        Event::Start,
        Event::Hold,
        Event::Resume,
        Event::Complete,
        Event::Reject,
        Event::Cancel,
        Event::Fail,
        Event::Annul,
    ]
}

#[test]
fn every_event_in_every_state() {
    // Rows: states in order. Columns: events in order. "-" is refused.
    let table = "
        received accepted -         -           -       -           -         rejected cancelled -      entered-in-error
        -        accepted -         -           -       -           -         rejected cancelled -      entered-in-error
        -        -        requested in-progress on-hold -           completed -        cancelled -      entered-in-error
        -        -        requested -           on-hold -           completed -        cancelled failed entered-in-error
        -        -        requested -           -       in-progress -         -        cancelled -      entered-in-error
        -        -        -         -           -       -           -         -        -         -      entered-in-error
        -        -        -         -           -       -           -         -        -         -      entered-in-error
        -        -        -         -           -       -           -         -        cancelled -      entered-in-error
        -        -        -         -           -       -           -         -        -         -      entered-in-error
        -        -        -         -           -       -           -         -        -         -      -";
    let mut expected = table.split_whitespace();
    for state in states() {
        for event in events() {
            let before = state.status();
            let wanted = expected.next().unwrap();
            let found = state.clone().apply(event.clone());
            assert_eq!(found.as_ref().map_or("-", |s| s.status()), wanted, "{before} {}", event.name());
            assert_eq!(state.allowed().contains(&event.name()), found.is_ok(), "{before} allows {}", event.name());
        }
    }
    assert_eq!(expected.next(), None);
}

#[test]
fn an_owner_is_there_exactly_while_somebody_has_the_work() {
    for state in states() {
        for event in events() {
            let Ok(after) = state.clone().apply(event) else { continue };
            let held = ["accepted", "in-progress", "on-hold", "completed", "failed"].contains(&after.status());
            assert!(!held || after.owner() == Some(NORA), "{after}");
            assert!(!after.is_claimable() || after.owner().is_none(), "{after}");
        }
    }
}

#[test]
fn a_state_is_read_back_from_its_status_and_owner() {
    for state in states() {
        assert_eq!(TaskState::from_parts(state.status(), state.owner()), Ok(state));
    }
    assert_eq!(TaskState::from_parts("draft", None), Err(NotAState::UnknownStatus));
    assert_eq!(TaskState::from_parts("accepted", None), Err(NotAState::OwnerMissing));
    assert_eq!(TaskState::from_parts("requested", Some(NORA)), Err(NotAState::OwnerUnexpected));
}

#[test]
fn a_put_that_changes_status_means_an_event_with_the_same_end() {
    for state in states() {
        for wanted in states() {
            if let Ok(Some(event)) = state.change_to(wanted.status(), wanted.owner()) {
                assert_eq!(state.clone().apply(event).unwrap().status(), wanted.status());
            }
        }
        assert_eq!(state.change_to(state.status(), state.owner()), Ok(None), "{state}");
    }
}

#[test]
fn a_put_to_accepted_is_a_claim_and_needs_an_owner() {
    let claim = TaskState::Requested.change_to("accepted", Some(NORA));
    assert_eq!(claim, Ok(Some(Event::Claim { by: NORA.to_owned() })));
    assert!(TaskState::Requested.change_to("accepted", None).unwrap_err().text.contains("owner"));
    assert!(TaskState::Requested.change_to("in-progress", Some(NORA)).is_err());
}

#[test]
fn a_put_need_not_repeat_the_owner_but_cannot_exchange_it() {
    let mine = TaskState::Accepted { owner: NORA.to_owned() };
    assert_eq!(mine.change_to("in-progress", None), Ok(Some(Event::Start)));
    assert_eq!(mine.change_to("requested", None), Ok(Some(Event::Release)));
    let refused = mine.change_to("accepted", Some("PractitionerRole/other")).unwrap_err();
    assert!(refused.text.contains("elease it first"), "{refused}");
    let refused = mine.change_to("completed", Some("PractitionerRole/other")).unwrap_err();
    assert_eq!(refused.from, "accepted");
}

#[test]
fn an_owner_is_not_told_that_somebody_else_has_the_task() {
    for status in ["accepted", "in-progress", "on-hold"] {
        let mine = TaskState::from_parts(status, Some(NORA)).unwrap();
        let refused = mine.apply(Event::Claim { by: NORA.to_owned() }).unwrap_err();
        assert!(refused.text.contains("has this owner already"), "{refused}");
        assert!(!refused.text.contains("taken") && !refused.text.contains("another"), "{refused}");
    }
    let held = TaskState::OnHold { owner: NORA.to_owned() };
    for owner in [None, Some(NORA)] {
        let refused = held.change_to("accepted", owner).unwrap_err();
        assert!(refused.text.contains("in-progress"), "{refused}");
    }
    let given_away = held.change_to("on-hold", Some("PractitionerRole/other")).unwrap_err();
    assert!(!given_away.text.contains("somebody else"), "{given_away}");
}

#[test]
fn a_claim_on_a_taken_task_says_that_it_is_taken() {
    for state in [TaskState::Accepted { owner: NORA.into() }, TaskState::OnHold { owner: NORA.into() }] {
        let refused = state.apply(Event::Claim { by: "PractitionerRole/other".into() }).unwrap_err();
        assert!(refused.text.contains("taken"));
        assert!(!refused.text.contains("PractitionerRole"));
    }
}
