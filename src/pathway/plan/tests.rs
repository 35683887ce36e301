#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::*;
use crate::fhir::profiles;

fn llwir() -> Plan {
    Plan::from_resource(&profiles::resource("PlanDefinition", "llwir").unwrap()).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    at("2026-11-30T09:00:00Z")
}

/// A pathway on which something else is open, so that no step is the last.
fn under_way() -> History {
    History { open: BTreeSet::from(["review-3-months".to_owned()]), ..History::default() }
}

fn follow(step: &str, outcome: &str, history: &History) -> Follow {
    let plan = llwir();
    plan.follow(plan.step(step).unwrap(), outcome, now(), history).unwrap()
}

fn steps(follow: &Follow) -> Vec<&str> {
    follow.tasks.iter().map(|task| task.step.as_str()).collect()
}

#[test]
fn a_new_referral_is_contacted_by_a_health_coach_within_48_hours_and_an_urgent_one_within_24() {
    let plan = llwir();
    let first = plan.first_step();
    assert_eq!((first.code.as_str(), first.role.as_str()), ("contact-patient", "health-coach"));
    for (priority, hours) in
        [(None, 48), (Some("routine"), 48), (Some("urgent"), 24), (Some("asap"), 24), (Some("stat"), 24)]
    {
        assert_eq!(plan.contact_due(now(), priority) - now(), TimeDelta::hours(hours), "{priority:?}");
    }
    assert_eq!(plan.canonical(), "https://livewell.example/PlanDefinition/llwir|1.0.0");
    assert_eq!((plan.pam_cut_offs(), plan.min_age()), (Some("B"), Some(18)));
}

#[test]
fn only_an_attempt_and_an_end_may_come_without_a_meeting() {
    let plan = llwir();
    let of = |step: &str| {
        let step = plan.step(step).unwrap();
        let codes = step.outcomes.iter().map(|outcome| outcome.code.as_str());
        codes.filter(|code| step.may_have_met_nobody(code)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("contact-patient"), ["declined", "no-answer", "unreachable"]);
    assert_eq!(of("session"), ["declined", "did-not-attend", "unreachable"]);
    assert!(!plan.first_step().may_have_met_nobody("no outcome of it"));
}

#[test]
fn an_accepted_contact_leads_to_a_first_meeting() {
    let follow = follow("contact-patient", "accepted", &History::default());
    assert_eq!(steps(&follow), ["first-meeting"]);
    let meeting = follow.tasks.first().unwrap();
    assert_eq!((meeting.due - now(), meeting.role.as_str()), (TimeDelta::days(14), "health-coach"));
    assert_eq!((follow.ends, follow.warnings), (None, vec![]));
}

#[test]
fn a_declined_contact_ends_the_pathway() {
    let follow = follow("contact-patient", "declined", &History::default());
    assert_eq!(follow.ends, Some(Closure { code: "declined".into() }));
    assert!(follow.tasks.is_empty());
}

#[test]
fn someone_who_is_not_reached_is_tried_three_times_then_written_to_and_then_closed() {
    let attempt =
        |attempts, urgent| follow("contact-patient", "no-answer", &History { attempts, urgent, ..History::default() });
    for attempts in [1, 2] {
        let again = attempt(attempts, false);
        assert_eq!((steps(&again), again.outcome.as_str()), (vec!["contact-patient"], "no-answer"));
        assert_eq!(again.tasks.first().unwrap().due - now(), TimeDelta::hours(48));
        assert_eq!(attempt(attempts, true).tasks.first().unwrap().due - now(), TimeDelta::hours(24));
    }
    let given_up = attempt(3, false);
    assert_eq!((steps(&given_up), given_up.outcome.as_str()), (vec!["send-letter"], "unreachable"));
    assert_eq!(given_up.warnings.len(), 1);
    let sent = follow("send-letter", "sent", &History::default());
    assert_eq!((steps(&sent), sent.tasks.first().unwrap().due - now()), (vec!["close"], TimeDelta::days(28)));
    let closed = follow("close", "unreachable", &History::default());
    assert_eq!(closed.ends, Some(Closure { code: "unreachable".into() }));
    assert_eq!(steps(&follow("close", "contact-again", &History::default())), ["contact-patient"]);
}

#[test]
fn giving_up_early_is_allowed_with_a_warning() {
    let early = follow("contact-patient", "unreachable", &History { attempts: 1, ..History::default() });
    assert_eq!((steps(&early), early.warnings.len()), (vec!["send-letter"], 1));
}

#[test]
fn the_first_meeting_brings_the_reviews_counted_by_the_calendar_from_the_meeting() {
    let mut history = History::default();
    history.ended.insert("first-meeting".into(), at("2026-11-30T08:00:00Z"));
    let after = follow("first-meeting", "coaching-and-link-worker", &history);
    let reviews = ["review-3-months", "review-6-months", "review-9-months", "review-12-months"];
    assert_eq!(steps(&after), [&["session", "link-work"], &reviews[..]].concat());
    let due: Vec<DateTime<Utc>> = after.tasks.iter().skip(2).map(|task| task.due).collect();
    let expected = ["2027-02-28T08:00:00Z", "2027-05-30T08:00:00Z", "2027-08-30T08:00:00Z", "2027-11-30T08:00:00Z"];
    assert_eq!(due, expected.map(at));
    for (outcome, first) in [
        ("coaching", "session"),
        ("link-worker", "link-work"),
        ("smi-link-worker", "smi-link-work"),
        ("signposted", "signpost"),
    ] {
        assert_eq!(steps(&follow("first-meeting", outcome, &history)), [&[first], &reviews[..]].concat());
    }
}

#[test]
fn a_second_first_meeting_brings_no_second_reviews() {
    let open = ["review-6-months", "review-9-months", "review-12-months"].map(str::to_owned).into();
    let after = follow("first-meeting", "coaching", &History { open, ..History::default() });
    assert_eq!(steps(&after), ["session", "review-3-months"]);
}

#[test]
fn who_does_not_come_is_invited_again_until_the_attempts_are_used_up() {
    for step in ["first-meeting", "session", "link-work", "smi-link-work", "review-3-months", "review-12-months"] {
        let missed = |attempts| follow(step, "did-not-attend", &History { attempts, ..History::default() });
        let again = missed(1);
        assert_eq!(steps(&again), [step]);
        assert_eq!(again.tasks.first().unwrap().due - now(), TimeDelta::days(14), "{step}");
        assert_eq!(steps(&missed(3)), ["send-letter"], "{step}");
    }
}

#[test]
fn more_sessions_than_planned_are_a_warning_and_never_a_wall() {
    for (step, limit) in [("session", 6), ("link-work", 8), ("smi-link-work", 8)] {
        let held = |sessions, outcome| follow(step, outcome, &History { sessions, ..under_way() });
        assert!(held(limit - 1, "another-session").warnings.is_empty());
        let beyond = held(limit, "another-session");
        assert_eq!((steps(&beyond), beyond.warnings.len()), (vec![step], 1));
        assert!(held(limit, "completed").warnings.is_empty());
        assert_eq!(held(limit + 1, "completed").warnings.len(), 1);
        assert!(held(limit, "did-not-attend").warnings.is_empty());
    }
}

#[test]
fn support_that_ends_waits_for_the_reviews_or_is_closed_where_none_is_left() {
    let waits = follow("session", "completed", &under_way());
    assert_eq!((steps(&waits), &waits.ends), (vec![], &None));
    assert_eq!(steps(&follow("session", "completed", &History::default())), ["close"]);
    assert_eq!(steps(&follow("review-9-months", "continue", &under_way())), Vec::<&str>::new());
    assert_eq!(steps(&follow("review-12-months", "moving-on", &under_way())), ["close"]);
}

#[test]
fn every_step_leads_somewhere_or_ends_and_every_closure_is_reached_from_the_first() {
    let plan = llwir();
    let mut reached = BTreeSet::from([plan.first_step().code.clone()]);
    let mut closures = BTreeSet::new();
    let mut waiting = vec![plan.first_step().code.clone()];
    while let Some(code) = waiting.pop() {
        let step = plan.step(&code).unwrap();
        for outcome in &step.outcomes {
            let after = plan.follow(step, &outcome.code, now(), &History::default()).unwrap();
            assert!(!after.tasks.is_empty() || after.ends.is_some(), "{code} {}", outcome.code);
            closures.extend(after.ends.map(|closure| closure.code));
            waiting.extend(after.tasks.into_iter().map(|task| task.step).filter(|s| reached.insert(s.clone())));
        }
    }
    assert_eq!(reached.len(), plan.steps().len());
    assert!(closures.is_superset(&["declined", "unreachable", "goals-achieved"].map(str::to_owned).into()));
}

#[test]
fn an_outcome_the_step_does_not_have_is_answered_with_those_it_has() {
    let plan = llwir();
    let refused = plan.follow(plan.first_step(), "coaching", now(), &History::default()).unwrap_err();
    assert_eq!(refused.allowed, ["accepted", "declined", "no-answer", "unreachable", "signposted"]);
    assert!(refused.to_string().contains("accepted, declined"));
}

#[test]
fn what_must_be_recorded_is_named_until_it_is() {
    let plan = llwir();
    let codes = CodeTable::embedded();
    let meeting = plan.step("first-meeting").unwrap();
    let missing: Vec<&str> = meeting.missing(&[], codes).into_iter().map(|input| input.code.as_str()).collect();
    assert_eq!(missing, ["encounter"]);
    let encounter = Resource::from_value(json!({ "resourceType": "Encounter" })).unwrap();
    assert!(meeting.missing(&[encounter], codes).is_empty());
    let pam = meeting.inputs.iter().find(|input| input.code == "pam-score").unwrap();
    let observation =
        |code: Value| Resource::from_value(json!({ "resourceType": "Observation", "code": code })).unwrap();
    assert!(!pam.required);
    assert!(pam.is_met_by(&observation(codes.concept("pam-score").unwrap()), codes));
    assert!(!pam.is_met_by(&observation(json!({ "text": "weight" })), codes));
}

#[test]
fn a_plan_that_could_not_run_is_refused_at_the_element() {
    let broken = |change: fn(&mut Value)| {
        let mut resource = profiles::resource("PlanDefinition", "llwir").unwrap();
        change(resource.value_mut());
        Plan::from_resource(&resource).unwrap_err().at
    };
    let first = "PlanDefinition.action[0]";
    assert_eq!(broken(|p| p["version"] = json!("")), "PlanDefinition.version");
    assert_eq!(broken(|p| p["action"] = json!([])), "PlanDefinition.action");
    assert_eq!(broken(|p| p["action"][0]["id"] = json!("x")), format!("{first}.id"));
    assert_eq!(broken(|p| p["action"][0]["code"] = json!([])), format!("{first}.code"));
    assert_eq!(broken(|p| p["action"][0]["participant"] = json!([])), format!("{first}.participant"));
    assert_eq!(broken(|p| p["action"][0]["action"] = json!([])), format!("{first}.action"));
    assert_eq!(broken(|p| p["action"][0]["timingDuration"]["code"] = json!("s")), format!("{first}.timingDuration"));
    assert_eq!(broken(|p| p["action"][0]["timingDuration"] = json!(null)), format!("{first}.timingDuration"));
    assert_eq!(broken(|p| p["action"][0]["input"][0]["extension"] = json!([])), format!("{first}.input[0]"));
    assert_eq!(
        broken(|p| p["action"][0]["action"][0]["relatedAction"][0]["actionId"] = json!("nowhere")),
        format!("{first}.action[0].relatedAction.actionId")
    );
    assert_eq!(
        broken(|p| p["action"][0]["action"][0]["relatedAction"][0]["relationship"] = json!("after")),
        format!("{first}.action[0].relatedAction[0].relationship")
    );
    assert_eq!(broken(|p| p["action"][1] = p["action"][0].clone()), format!("{first}.code"));
}
