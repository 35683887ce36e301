//! Reading a PlanDefinition into a [`Plan`].

use serde_json::Value;

use super::{After, Input, Next, Outcome, Plan, Span, Step};
use crate::fhir::{Resource, path, systems};

/// Why a PlanDefinition is not a pathway that can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {text}")]
pub struct PlanError {
    /// The element, e.g. `PlanDefinition.action[3].action[0].relatedAction[0].actionId`.
    pub at: String,
    /// What it should be.
    pub text: String,
}

fn wrong<T>(at: impl Into<String>, text: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError { at: at.into(), text: text.into() })
}

pub(super) fn plan(resource: &Resource) -> Result<Plan, PlanError> {
    let fields = resource.value();
    if resource.kind() != "PlanDefinition" {
        return wrong(resource.kind(), "A pathway is a PlanDefinition.");
    }
    let said = |name: &str| match fields.get(name).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => wrong(format!("PlanDefinition.{name}"), "A pathway has a url and a version, which its CarePlans carry."),
    };
    let url = said("url")?;
    let plan = Plan {
        version: said("version")?,
        title: fields.get("title").and_then(Value::as_str).unwrap_or(&url).to_owned(),
        url,
        steps: read_each(fields, "PlanDefinition", "action", step)?,
        closing_step: extension(fields, "pathway-closing-step", "valueCode").and_then(text),
        pam_cut_offs: extension(fields, "pathway-pam-cut-offs", "valueCode").and_then(text),
        min_age: min_age(fields),
    };
    check(&plan)?;
    Ok(plan)
}

/// What only the whole can say: steps are known by their code, once, and everything named exists.
fn check(plan: &Plan) -> Result<(), PlanError> {
    if plan.steps.is_empty() {
        return wrong("PlanDefinition.action", "A pathway has at least one step.");
    }
    if plan.closing_step.is_some() && plan.closing_step().is_none() {
        return wrong("PlanDefinition.extension(pathway-closing-step)", "The closing step is no step of the pathway.");
    }
    for (i, step) in plan.steps.iter().enumerate() {
        let at = format!("PlanDefinition.action[{i}]");
        if plan.steps.iter().filter(|other| other.code == step.code).count() > 1 {
            return wrong(format!("{at}.code"), format!("{} is there twice; a step is known by its code.", step.code));
        }
        if step.outcomes.is_empty() {
            return wrong(format!("{at}.action"), format!("{} has no outcome, so it could never end.", step.code));
        }
        if step.after.as_ref().is_some_and(|after| plan.step(&after.step).is_none()) {
            return wrong(format!("{at}.relatedAction.actionId"), "It counts from a step that does not exist.");
        }
        for (j, outcome) in step.outcomes.iter().enumerate() {
            let at = format!("{at}.action[{j}]");
            if outcome.next.iter().any(|next| plan.step(&next.step).is_none()) {
                return wrong(format!("{at}.relatedAction.actionId"), "It leads to a step that does not exist.");
            }
            if outcome.when_exhausted.as_deref().is_some_and(|code| step.outcome(code).is_none()) {
                return wrong(format!("{at}.extension(pathway-when-exhausted)"), "The step has no such outcome.");
            }
        }
    }
    let timed = |step: &Step| step.due.is_some() || step.after.is_some();
    match plan.steps.iter().position(|step| !timed(step)) {
        Some(i) => wrong(
            format!("PlanDefinition.action[{i}].timingDuration"),
            "A step is due some time after what caused it: give a timingDuration, or a relatedAction with after-end.",
        ),
        None => Ok(()),
    }
}

fn step(action: &Value, at: &str) -> Result<Step, PlanError> {
    let code = code_of(action, at, systems::TASK_CODE)?;
    Ok(Step {
        title: action.get("title").and_then(Value::as_str).unwrap_or(&code).to_owned(),
        role: role(action, at)?,
        inputs: read_each(action, at, "input", input)?,
        outcomes: read_each(action, at, "action", outcome)?,
        due: duration(action.get("timingDuration"), &format!("{at}.timingDuration"))?,
        due_when_urgent: duration(
            extension(action, "pathway-urgent-timing", "valueDuration"),
            &format!("{at}.extension(pathway-urgent-timing)"),
        )?,
        after: after(action, at)?,
        max_attempts: extension(action, "pathway-max-attempts", "valuePositiveInt").and_then(number),
        session_limit: extension(action, "pathway-session-limit", "valuePositiveInt").and_then(number),
        code,
    })
}

fn outcome(action: &Value, at: &str) -> Result<Outcome, PlanError> {
    // An outcome's own id is not referred to, so only its code counts.
    let code = coded(action, systems::TASK_OUTCOME)
        .map(str::to_owned)
        .map_or_else(|| wrong(format!("{at}.code"), "An outcome has a code of the task-outcome system."), Ok)?;
    Ok(Outcome {
        title: action.get("title").and_then(Value::as_str).unwrap_or(&code).to_owned(),
        next: read_each(action, at, "relatedAction", next)?,
        when_exhausted: extension(action, "pathway-when-exhausted", "valueCode").and_then(text),
        closure: extension(action, "pathway-closure", "valueCode").and_then(text),
        code,
    })
}

fn next(related: &Value, at: &str) -> Result<Next, PlanError> {
    if related.get("relationship").and_then(Value::as_str) != Some("before-start") {
        return wrong(format!("{at}.relationship"), "An outcome comes before the start of what follows: before-start.");
    }
    let offset = duration(related.get("offsetDuration"), &format!("{at}.offsetDuration"))?;
    Ok(Next { step: action_id(related, at)?, offset })
}

fn after(action: &Value, at: &str) -> Result<Option<After>, PlanError> {
    let Some(related) = action.pointer("/relatedAction/0") else { return Ok(None) };
    let at = format!("{at}.relatedAction[0]");
    if related.get("relationship").and_then(Value::as_str) != Some("after-end") {
        return wrong(format!("{at}.relationship"), "A step counts from the end of an earlier one: after-end.");
    }
    match duration(related.get("offsetDuration"), &format!("{at}.offsetDuration"))? {
        Some(offset) => Ok(Some(After { step: action_id(related, &at)?, offset })),
        None => wrong(format!("{at}.offsetDuration"), "Say how long after the end of the earlier step."),
    }
}

fn input(requirement: &Value, at: &str) -> Result<Input, PlanError> {
    let parts = extension_of(requirement, "pathway-input");
    let part = |name: &str, kind: &str| {
        let parts = parts?.get("extension")?.as_array()?;
        parts.iter().find(|p| p.get("url").and_then(Value::as_str) == Some(name))?.get(kind)
    };
    let resource_type = requirement.get("type").and_then(text);
    let (Some(resource_type), Some(code)) = (resource_type, part("code", "valueCode").and_then(text)) else {
        return wrong(at, "An input has a type and the extension pathway-input with a code.");
    };
    Ok(Input {
        text: part("text", "valueString").and_then(text).unwrap_or_else(|| code.clone()),
        required: part("required", "valueBoolean").and_then(Value::as_bool).unwrap_or(false),
        resource_type,
        code,
    })
}

/// The step's code, which is also its id: relatedAction refers by id and a Task says the code.
fn code_of(action: &Value, at: &str, system: &str) -> Result<String, PlanError> {
    match (coded(action, system), action.get("id").and_then(Value::as_str)) {
        (Some(code), Some(id)) if code == id => Ok(code.to_owned()),
        (Some(_), _) => wrong(format!("{at}.id"), "The id of a step is its code."),
        (None, _) => wrong(format!("{at}.code"), "A step has a code of the task-code system."),
    }
}

fn role(action: &Value, at: &str) -> Result<String, PlanError> {
    let codings = path::all(action, "participant.role.coding");
    let role = codings.into_iter().find(|c| c.get("system").and_then(Value::as_str) == Some(systems::ROLE));
    match role.and_then(|role| role.get("code")).and_then(text) {
        Some(role) => Ok(role),
        None => wrong(format!("{at}.participant"), "A step has a participant whose role is a code of the role system."),
    }
}

fn coded<'a>(action: &'a Value, system: &str) -> Option<&'a str> {
    let codings = path::all(action, "code.coding");
    let coding = codings.into_iter().find(|c| c.get("system").and_then(Value::as_str) == Some(system))?;
    coding.get("code").and_then(Value::as_str)
}

fn action_id(related: &Value, at: &str) -> Result<String, PlanError> {
    match related.get("actionId").and_then(text) {
        Some(id) => Ok(id),
        None => wrong(format!("{at}.actionId"), "A relatedAction names an action."),
    }
}

/// The lower bound of the age range the pathway is meant for.
fn min_age(fields: &Value) -> Option<u32> {
    let contexts = path::all(fields, "useContext");
    let age = contexts.into_iter().find(|context| {
        context.pointer("/code/system").and_then(Value::as_str) == Some(systems::USAGE_CONTEXT)
            && context.pointer("/code/code").and_then(Value::as_str) == Some("age")
    })?;
    age.pointer("/valueRange/low/value").and_then(number)
}

fn duration(said: Option<&Value>, at: &str) -> Result<Option<Span>, PlanError> {
    match said.map(Span::from_duration) {
        Some(None) => wrong(at, "Give a whole number with the UCUM code h, d, wk or mo."),
        Some(some) => Ok(some),
        None => Ok(None),
    }
}

fn extension_of<'a>(element: &'a Value, name: &str) -> Option<&'a Value> {
    element.get("extension")?.as_array()?.iter().find(|extension| {
        let url = extension.get("url").and_then(Value::as_str);
        url.and_then(|url| url.strip_prefix(systems::STRUCTURE_DEFINITION)) == Some(name)
    })
}

fn extension<'a>(element: &'a Value, name: &str, kind: &str) -> Option<&'a Value> {
    extension_of(element, name)?.get(kind)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok())
}

fn read_each<T>(
    parent: &Value,
    at: &str,
    name: &str,
    read: impl Fn(&Value, &str) -> Result<T, PlanError>,
) -> Result<Vec<T>, PlanError> {
    let items = parent.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().enumerate().map(|(i, item)| read(item, &format!("{at}.{name}[{i}]"))).collect()
}
