//! A pathway as data: the steps of a PlanDefinition, what each asks for, what can come of it, and what follows when.
//!
//! How a PlanDefinition says it: each `action` is a step and becomes a Task, the first one first; its `input` is what has
//! to be recorded; each `action` inside it is an outcome, whose `relatedAction` (`before-start`) names the steps that
//! follow. Attempts, session limits and closures are extensions of ours. See `fhir-profiles/PlanDefinition/llwir.json`.

mod follow;
mod read;
mod span;

use chrono::{DateTime, Utc};

pub use follow::{Closure, Follow, History, NewTask, UnknownOutcome};
pub use read::PlanError;
pub use span::Span;

use super::referral::priority_rank;
use crate::fhir::Resource;
use crate::fhir::codes::CodeTable;

/// A pathway, read from its PlanDefinition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    url: String,
    version: String,
    title: String,
    /// In the order of the PlanDefinition, never empty.
    steps: Vec<Step>,
    closing_step: Option<String>,
    pam_cut_offs: Option<String>,
    min_age: Option<u32>,
}

/// One step: what becomes a Task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `Task.code`, e.g. `contact-patient`.
    pub code: String,
    /// For people, e.g. "Contact the person".
    pub title: String,
    /// Whose work it is: a code of the role system, `Task.performerType`.
    pub role: String,
    /// What has to be, or may be, recorded.
    pub inputs: Vec<Input>,
    /// What can come of it.
    pub outcomes: Vec<Outcome>,
    /// When it is due after what caused it.
    pub due: Option<Span>,
    /// When it is due instead if the referral has a priority above routine.
    pub due_when_urgent: Option<Span>,
    /// When it is due counted from the end of an earlier step, as reviews are from the first meeting.
    pub after: Option<After>,
    /// After how many attempts without success it counts as exhausted.
    pub max_attempts: Option<u32>,
    /// How many sessions the pathway plans for. A warning and never a wall.
    pub session_limit: Option<u32>,
}

/// A time counted from the end of another step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The code of that step.
    pub step: String,
    /// How long after its end.
    pub offset: Span,
}

/// Something a step asks to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// A code of the task-input system; for an Observation also the name in the code table.
    pub code: String,
    /// The resource type.
    pub resource_type: String,
    /// Whether the step cannot be completed without it.
    pub required: bool,
    /// A sentence for the person who does it.
    pub text: String,
}

/// Something that can come of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A code of the task-outcome system.
    pub code: String,
    /// For people, e.g. "Accepted".
    pub title: String,
    /// The steps that follow.
    pub next: Vec<Next>,
    /// The outcome that takes its place when the attempts of the step are used up.
    pub when_exhausted: Option<String>,
    /// The closure with which the pathway ends here.
    pub closure: Option<String>,
}

/// A step that follows an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its code.
    pub step: String,
    /// When it is due after the outcome; the step's own timing where absent.
    pub offset: Option<Span>,
}

impl Plan {
    /// Reads a PlanDefinition. The error names the element and what it should be.
    pub fn from_resource(plan_definition: &Resource) -> Result<Plan, PlanError> {
        read::plan(plan_definition)
    }

    /// The canonical URL, without version.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The business version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// URL and version, as `CarePlan.instantiatesCanonical` carries them: `https://…/llwir|1.0.0`.
    pub fn canonical(&self) -> String {
        format!("{}|{}", self.url, self.version)
    }

    /// The pathway's name for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// All steps, in the order of the PlanDefinition.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step a new referral begins with.
    pub fn first_step(&self) -> &Step {
        self.steps.first().expect("a Plan is read with at least one step")
    }

    /// The step with this code.
    pub fn step(&self, code: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.code == code)
    }

    /// The step that is created when a step ends and nothing else of the pathway is open.
    pub fn closing_step(&self) -> Option<&Step> {
        self.step(self.closing_step.as_deref()?)
    }

    /// Which published PAM cut-offs the pathway uses, e.g. `B`.
    pub fn pam_cut_offs(&self) -> Option<&str> {
        self.pam_cut_offs.as_deref()
    }

    /// The age in years from which the pathway is meant (`useContext` age). Something to check, never a refusal.
    pub fn min_age(&self) -> Option<u32> {
        self.min_age
    }

    /// When the first contact is due for a referral received at `received` with this `ServiceRequest.priority`.
    pub fn contact_due(&self, received: DateTime<Utc>, priority: Option<&str>) -> DateTime<Utc> {
        self.first_step().due_from(received, is_urgent(priority))
    }

    /// What comes of `outcome` on `step` at `completed_at`: the Tasks that follow, or the end. See [`Follow`].
    pub fn follow(
        &self,
        step: &Step,
        outcome: &str,
        completed_at: DateTime<Utc>,
        history: &History,
    ) -> Result<Follow, UnknownOutcome> {
        follow::follow(self, step, outcome, completed_at, history)
    }
}

impl Step {
    /// The outcome with this code.
    pub fn outcome(&self, code: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.code == code)
    }

    /// Whether this outcome may come of an attempt that met nobody: it is counted as an attempt, stands in for the last of
    /// them, or ends the pathway, as for a person who cancels and wants no more.
    pub fn may_have_met_nobody(&self, outcome: &str) -> bool {
        let stands_in = |other: &Outcome| other.when_exhausted.as_deref() == Some(outcome);
        self.outcomes.iter().any(stands_in)
            || self.outcome(outcome).is_some_and(|said| said.when_exhausted.is_some() || said.closure.is_some())
    }

    /// When the step is due if it is caused at `at`; `at` itself where the pathway gives no time.
    pub fn due_from(&self, at: DateTime<Utc>, urgent: bool) -> DateTime<Utc> {
        let span = self.due_when_urgent.filter(|_| urgent).or(self.due);
        span.map_or(at, |span| span.after(at))
    }

    /// The required inputs that none of `recorded` meets: what a refusal to complete has to name.
    pub fn missing<'s>(&'s self, recorded: &[Resource], codes: &CodeTable) -> Vec<&'s Input> {
        let met = |input: &Input| recorded.iter().any(|resource| input.is_met_by(resource, codes));
        self.inputs.iter().filter(|input| input.required && !met(input)).collect()
    }
}

impl Input {
    /// Whether this resource is what is asked for: the type, and for an Observation the code.
    pub fn is_met_by(&self, resource: &Resource, codes: &CodeTable) -> bool {
        resource.kind() == self.resource_type
            && (self.resource_type != "Observation"
                || resource.value().get("code").is_some_and(|concept| codes.is(&self.code, concept)))
    }
}

/// Whether a `ServiceRequest.priority` is above routine.
pub fn is_urgent(priority: Option<&str>) -> bool {
    priority_rank(priority.unwrap_or("routine")) < priority_rank("routine")
}

#[cfg(test)]
mod tests;
