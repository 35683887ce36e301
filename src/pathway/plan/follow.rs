//! How a pathway moves on: from a step and its outcome to the Tasks that follow, or the end.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Next, Outcome, Plan, Step};

/// What is known of a referral's way through its pathway when a step ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Whether the referral has a priority above routine ([`super::is_urgent`]).
    pub urgent: bool,
    /// How many times in a row this step ended without success, this time included.
    pub attempts: u32,
    /// How many sessions of this step were held, this one included.
    pub sessions: u32,
    /// When earlier steps ended, by step code: the first meeting's clinical time, for the reviews.
    pub ended: BTreeMap<String, DateTime<Utc>>,
    /// The codes of the steps of this pathway that are still open, this one not included.
    pub open: BTreeSet<String>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// The outcome that counts: as given, or the one in whose place the last allowed attempt puts it.
    pub outcome: String,
    /// The Tasks to create, in the order of the pathway.
    pub tasks: Vec<NewTask>,
    /// How the pathway ends, if it does: what is open of it is then cancelled, and referrer and GP record are told.
    pub ends: Option<Closure>,
    /// Sentences for the person who completed the step. Nothing is refused because of them.
    pub warnings: Vec<String>,
}

/// A Task to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// `Task.code`.
    pub step: String,
    /// For people.
    pub title: String,
    /// `Task.performerType`.
    pub role: String,
    /// `Task.restriction.period.end`.
    pub due: DateTime<Utc>,
}

/// The end of a pathway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    /// A code of the task-outcome system, e.g. `declined`.
    pub code: String,
}

/// An outcome that the step does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step} has no such outcome. Send one of: {}.", allowed.join(", "))]
pub struct UnknownOutcome {
    /// The code of the step.
    pub step: String,
    /// The outcomes it has.
    pub allowed: Vec<String>,
}

pub(super) fn follow(
    plan: &Plan,
    step: &Step,
    outcome: &str,
    completed_at: DateTime<Utc>,
    history: &History,
) -> Result<Follow, UnknownOutcome> {
    let unknown = || UnknownOutcome {
        step: step.code.clone(),
        allowed: step.outcomes.iter().map(|outcome| outcome.code.clone()).collect(),
    };
    let given = step.outcome(outcome).ok_or_else(unknown)?;
    let counts = that_counts(step, given, history);
    let mut tasks: Vec<NewTask> =
        counts.next.iter().filter_map(|next| new_task(plan, next, completed_at, history)).collect();
    let ends = counts.closure.clone().map(|code| Closure { code });
    if tasks.is_empty() && ends.is_none() && history.open.is_empty() {
        let closing = plan.closing_step().filter(|closing| closing.code != step.code);
        tasks.extend(closing.map(|closing| task(closing, closing.due_from(completed_at, history.urgent))));
    }
    Ok(Follow { outcome: counts.code.clone(), tasks, ends, warnings: warnings(step, given, counts, history) })
}

/// The outcome itself, or the one that takes its place because the attempts are used up.
fn that_counts<'s>(step: &'s Step, given: &'s Outcome, history: &History) -> &'s Outcome {
    let used_up = step.max_attempts.is_some_and(|max| history.attempts >= max);
    let instead = given.when_exhausted.as_deref().filter(|_| used_up);
    instead.and_then(|code| step.outcome(code)).unwrap_or(given)
}

/// The Task of a step that follows. `None` for a step that counts from an earlier one (a review) and is open already: a
/// second first meeting brings no second set of reviews.
fn new_task(plan: &Plan, next: &Next, completed_at: DateTime<Utc>, history: &History) -> Option<NewTask> {
    let step = plan.step(&next.step)?;
    if step.after.is_some() && history.open.contains(&step.code) {
        return None;
    }
    let counted = step.after.as_ref().map(|after| {
        // Without a known end, this completion is the nearest known time.
        after.offset.after(history.ended.get(&after.step).copied().unwrap_or(completed_at))
    });
    let due = match (next.offset, counted) {
        (Some(offset), _) => offset.after(completed_at),
        (None, Some(counted)) => counted,
        (None, None) => step.due_from(completed_at, history.urgent),
    };
    Some(task(step, due))
}

fn task(step: &Step, due: DateTime<Utc>) -> NewTask {
    NewTask { step: step.code.clone(), title: step.title.clone(), role: step.role.clone(), due }
}

fn warnings(step: &Step, given: &Outcome, counts: &Outcome, history: &History) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(max) = step.max_attempts {
        let gives_up = step.outcomes.iter().any(|o| o.when_exhausted.as_deref() == Some(&given.code));
        if gives_up && history.attempts < max {
            warnings.push(format!(
                "{} after {} of {max} attempts: the pathway plans for more before it gives up.",
                given.title, history.attempts
            ));
        }
        if given.code != counts.code {
            warnings.push(format!("The {max} attempts of the pathway are used up: {}.", counts.title.to_lowercase()));
        }
    }
    if let Some(limit) = step.session_limit {
        let again = given.when_exhausted.is_none() && counts.next.iter().any(|next| next.step == step.code);
        if history.sessions > limit || (again && history.sessions == limit) {
            warnings.push(format!(
                "{} sessions were held; the pathway plans for up to {limit}. More are possible where they help.",
                history.sessions
            ));
        }
    }
    warnings
}
