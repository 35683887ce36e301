//! A Task is done: its outcome moves the pathway on, in the same unit of work.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::fhir::etag::Tags;
use crate::fhir::systems::{ODS, TASK_INPUT, TASK_OUTCOME};
use crate::fhir::when::{instant, start_of};
use crate::fhir::{Invalid, InvalidKind, Issue, IssueCode, Resource, path, profiles};
use crate::pathway::plan::{Follow, History, Input, Step, is_urgent};
use crate::pathway::task::Event;
use crate::store::{At, Belongs, DeliveryItem, ReferralRow, Store, TaskRow};

use super::{Actor, Error, House, Result, Unit, Written, condition, deliver, tasks};

/// What a Task is completed with.
pub struct Completion {
    /// An outcome code of the step.
    pub outcome: String,
    /// What was recorded: references to it, relative or absolute, of a version or not.
    pub outputs: Vec<String>,
    pub note: Option<String>,
}

/// Completes a Task and opens what follows.
#[expect(clippy::too_many_arguments, reason = "who, when and what of one act")]
pub async fn complete(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    request_id: &str,
    id: &str,
    completion: &Completion,
    if_match: Option<&Tags>,
) -> Result<Written> {
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let (row, _) = tasks::seen(&mut unit, id).await?;
    condition::current("Task", id, row.version, if_match)?;
    unit.audit("$complete", &format!("Task/{id}"), &row.person);
    complete_in(&mut unit, id, completion).await?;
    let written = unit.commit().await?;
    written.into_iter().find(|w| w.kind == "Task" && w.id == id).ok_or(Error::NotFound)
}

/// [`complete`] inside a unit of work.
pub(super) async fn complete_in(unit: &mut Unit<'_>, id: &str, completion: &Completion) -> Result<()> {
    let (row, mut task) = tasks::seen(unit, id).await?;
    unit.hold_person(&row.person).await?;
    tasks::may_work_on(unit, &row)?;
    // What is wrong is told in the order in which it is put right: whose the Task is, its outcome, what was recorded.
    tasks::state_of(&row)?.apply(Event::Complete).map_err(tasks::not_allowed)?;
    let house = unit.house;
    let step = house.plan.step(&row.code);
    let named: Vec<String> = completion.outputs.iter().map(|output| relative(house, output)).collect();
    let follow = match step {
        Some(step) => {
            let urgent = is_urgent(task.text("priority"));
            let when = clinical_time(unit, &named).await?.unwrap_or(unit.now);
            Some(follow(unit, step, &row, &completion.outcome, urgent, when).await?)
        }
        None => None,
    };
    if let Some(step) = step {
        required(unit, step, &row, &completion.outcome, &named).await?;
    }
    outputs(unit, &mut task, &row.person, step, &named).await?;
    let outcome = follow.as_ref().map_or(completion.outcome.as_str(), |f| f.outcome.as_str());
    task.map_mut()
        .insert("businessStatus".to_owned(), json!({ "coding": [{ "system": TASK_OUTCOME, "code": outcome }] }));
    let mut said: Vec<String> = completion.note.iter().cloned().collect();
    if let Some(follow) = &follow {
        said.extend(follow.warnings.iter().cloned());
    }
    add_notes(unit, &mut task, &said);
    let (referral, priority) = (row.referral.clone(), task.text("priority").unwrap_or("routine").to_owned());
    tasks::apply(unit, row, task, Event::Complete).await?;
    if let Some(follow) = follow
        && let Some(referral) = unit.tx.referral(&referral).await?
    {
        move_on(unit, &referral, &follow, &priority).await?;
    }
    Ok(())
}

/// A reference into this service as `Type/id`; any other as it is.
fn relative(house: &House, reference: &str) -> String {
    house.local(reference).map_or_else(|| reference.to_owned(), |(kind, id)| format!("{kind}/{id}"))
}

/// Refuses, naming it, when something the step requires was not recorded.
async fn required(unit: &mut Unit<'_>, step: &Step, row: &TaskRow, outcome: &str, outputs: &[String]) -> Result<()> {
    let attempt_counts = step.may_have_met_nobody(outcome);
    let mut missing = Vec::new();
    for input in step.inputs.iter().filter(|input| input.required) {
        if !recorded(unit, input, row, attempt_counts, outputs).await? {
            let hint = match input.resource_type.as_str() {
                "Encounter" if attempt_counts => " One that is only planned does not count.",
                "Encounter" => " One that is only planned, or was cancelled, does not count for this outcome.",
                _ => "",
            };
            missing.push(Issue::error(
                IssueCode::Required,
                "Task.output",
                format!(
                    "Before this Task is complete it needs: {} ({}). Record it on the referral and name it as \
                     output.{hint}",
                    input.text, input.resource_type
                ),
            ));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid(Invalid { issues: missing, kind: InvalidKind::Unprocessable }))
}

/// Whether an output is what is required, or it was recorded on the referral since the Task was opened.
async fn recorded(
    unit: &mut Unit<'_>,
    input: &Input,
    row: &TaskRow,
    attempt_counts: bool,
    outputs: &[String],
) -> Result<bool> {
    for output in outputs {
        let Some((kind, id)) = output.split_once('/') else { continue };
        if kind == input.resource_type
            && let Some(seen) = unit.see(kind, id).await?
            && seen.belongs.person == row.person
            && is_what_is_needed(unit, input, attempt_counts, &seen.resource)
        {
            return Ok(true);
        }
    }
    let stored = unit.tx.resources_of_referral(&row.referral, &input.resource_type).await?;
    let ours = unit.house.organization();
    for candidate in stored.iter().filter(|s| s.sender == ours && s.updated_at >= row.created_at) {
        if is_what_is_needed(unit, input, attempt_counts, &candidate.resource()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_what_is_needed(unit: &Unit<'_>, input: &Input, attempt_counts: bool, resource: &Resource) -> bool {
    let stands = match (resource.kind(), resource.text("status")) {
        ("Encounter", status) => took_place(status) || attempt_counts && status == Some("cancelled"),
        (_, status) => status != Some("entered-in-error"),
    };
    stands && input.is_met_by(resource, &unit.house.codes)
}

/// Whether an Encounter of this status is one in which people met, or are meeting.
fn took_place(status: Option<&str>) -> bool {
    matches!(status, Some("finished" | "in-progress" | "arrived" | "triaged" | "onleave"))
}

async fn outputs(
    unit: &mut Unit<'_>,
    task: &mut Resource,
    person: &str,
    step: Option<&Step>,
    outputs: &[String],
) -> Result<()> {
    let mut listed = Vec::new();
    for (at, output) in outputs.iter().enumerate() {
        let seen = match unit.house.local(output).map(|(kind, id)| (kind.to_owned(), id.to_owned())) {
            Some((kind, id)) => unit.see(&kind, &id).await?,
            None => None,
        };
        let Some(seen) = seen.filter(|seen| seen.belongs.person == person) else {
            return Err(Error::rule(
                IssueCode::NotFound,
                format!("Parameters.parameter.where(name='output')[{at}].value"),
                "This output is not here, or is about someone else. Record it for this person first, then name it.",
            ));
        };
        let code = step
            .and_then(|s| s.inputs.iter().find(|i| i.resource_type == seen.resource.kind()))
            .map_or_else(|| seen.resource.kind().to_lowercase(), |input| input.code.clone());
        listed.push(json!({
            "type": { "coding": [{ "system": TASK_INPUT, "code": code }] },
            "valueReference": { "reference": seen.resource.reference() },
        }));
    }
    if !listed.is_empty() {
        task.map_mut().insert("output".to_owned(), Value::Array(listed));
    }
    Ok(())
}

async fn follow(
    unit: &mut Unit<'_>,
    step: &Step,
    row: &TaskRow,
    outcome: &str,
    urgent: bool,
    when: DateTime<Utc>,
) -> Result<Follow> {
    let mut history = history(unit, step, row, outcome, urgent).await?;
    history.ended.insert(step.code.clone(), when);
    unit.house.plan.follow(step, outcome, unit.now, &history).map_err(|unknown| {
        Error::rule(IssueCode::CodeInvalid, "Parameters.parameter.where(name='outcome').value", unknown.to_string())
    })
}

/// When what is named as output took place: reviews count from the meeting, not from when it was written down.
async fn clinical_time(unit: &mut Unit<'_>, outputs: &[String]) -> Result<Option<DateTime<Utc>>> {
    for id in outputs.iter().filter_map(|output| output.strip_prefix("Encounter/")) {
        if let Some(seen) = unit.see("Encounter", id).await?
            && took_place(seen.resource.text("status"))
        {
            return Ok(seen.resource.text("period.start").and_then(start_of).filter(|when| *when <= unit.now));
        }
    }
    Ok(None)
}

/// What has happened on this referral so far, as the pathway counts it. The Task that ends now is counted.
async fn history(unit: &mut Unit<'_>, step: &Step, row: &TaskRow, outcome: &str, urgent: bool) -> Result<History> {
    let mut history = History { urgent, attempts: 1, sessions: 1, ..History::default() };
    let mut in_a_row = true;
    for task in unit.tx.tasks_of_referral(&row.referral).await?.into_iter().rev().filter(|t| t.id != row.id) {
        if task.open {
            // What a co-ordinator has to settle is no step, and does not keep a pathway from its end.
            if unit.house.plan.step(&task.code).is_some() {
                history.open.insert(task.code);
            }
            continue;
        }
        if task.status != "completed" {
            continue;
        }
        let Some(seen) = unit.get("Task", &task.id).await? else { continue };
        let ended = seen.resource.text("executionPeriod.end").and_then(start_of).unwrap_or(unit.now);
        if task.code == step.code {
            let same = seen.resource.text("businessStatus.coding.code") == Some(outcome);
            in_a_row &= same;
            history.attempts += u32::from(in_a_row);
            history.sessions += 1;
        }
        history.ended.entry(task.code).or_insert(ended);
    }
    Ok(history)
}

fn add_notes(unit: &Unit<'_>, task: &mut Resource, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    let notes = task.map_mut().entry("note").or_insert_with(|| json!([]));
    if let Some(notes) = notes.as_array_mut() {
        notes.extend(texts.iter().map(|text| json!({ "time": instant(unit.now), "text": text })));
    }
}

/// Opens the Tasks that follow, or ends the referral.
async fn move_on(unit: &mut Unit<'_>, referral: &ReferralRow, follow: &Follow, priority: &str) -> Result<()> {
    let house = unit.house;
    for next in &follow.tasks {
        if let Some(step) = house.plan.step(&next.step) {
            tasks::open(unit, step, referral, priority, At::from(next.due), &[]).await?;
        }
    }
    match &follow.ends {
        Some(closure) => close(unit, referral, &closure.code).await,
        None => {
            let state =
                if !follow.tasks.is_empty() && follow.tasks.iter().all(|t| t.step == house.plan.first_step().code) {
                    "contacting"
                } else {
                    "active"
                };
            let since = if state == referral.state { referral.since } else { unit.now.into() };
            unit.tx.update_referral(&referral.id, state, "", since).await?;
            Ok(())
        }
    }
}

/// The referral is over: its open Tasks are cancelled, its plan and, with the last one, its spell end.
pub(super) async fn close(unit: &mut Unit<'_>, referral: &ReferralRow, outcome: &str) -> Result<()> {
    unit.tx.update_referral(&referral.id, "closed", outcome, unit.now.into()).await?;
    if let Some(seen) = unit.get("ServiceRequest", &referral.id).await? {
        let mut request = seen.resource;
        request.map_mut().insert("status".to_owned(), json!("completed"));
        unit.change(request).await?;
    }
    end(unit, referral, "completed").await?;
    tell_of_closure(unit, referral, outcome).await
}

/// The practice hears that the support has ended, and how: an entry of its own, whoever recorded what before.
async fn tell_of_closure(unit: &mut Unit<'_>, referral: &ReferralRow, outcome: &str) -> Result<()> {
    let codes = &unit.house.codes;
    let (Some(notification), Some(closed)) =
        (codes.concept("communication-notification"), codes.concept("activity-service-closed"))
    else {
        return Ok(());
    };
    let id = Unit::new_id();
    let mut said = json!({
        "resourceType": "Communication",
        "id": id,
        "basedOn": [{ "reference": format!("ServiceRequest/{}", referral.id) }],
        "status": "completed",
        "category": [notification],
        "topic": closed,
        "subject": { "reference": format!("Patient/{}", referral.person) },
        "sent": instant(unit.now),
        "sender": match &unit.actor.staff {
            Some(staff) => json!({ "reference": staff.reference }),
            None => json!({ "type": "Organization", "identifier": { "system": ODS, "value": unit.house.organization() } }),
        },
    });
    if !outcome.is_empty() {
        said["reasonCode"] = json!([outcome_concept(outcome)]);
    }
    let belongs =
        Belongs { sender: unit.house.organization(), person: referral.person.clone(), referral: referral.id.clone() };
    unit.audit("create", &format!("Communication/{id}"), &referral.person);
    unit.create(Resource::from_value(said)?, belongs);
    let item = DeliveryItem { kind: "Communication".to_owned(), id, version: 1 };
    deliver::queue(unit, &referral.person, &referral.id, vec![item]).await
}

/// An outcome with its term.
fn outcome_concept(outcome: &str) -> Value {
    let concepts = profiles::resource("CodeSystem", "task-outcome");
    let display = concepts.as_ref().and_then(|codes| {
        let known = codes.all("concept").into_iter().find(|c| path::text(c, "code") == Some(outcome))?;
        path::text(known, "display").map(str::to_owned)
    });
    let mut coding = json!({ "system": TASK_OUTCOME, "code": outcome });
    if let Some(display) = display {
        coding["display"] = json!(display);
    }
    json!({ "coding": [coding] })
}

/// Cancels the steps of the pathway that are open of a referral, and ends its plan and its spell. What a co-ordinator has
/// to settle (a delivery that failed, who somebody is) is as unsettled as before, and stays.
pub(super) async fn end(unit: &mut Unit<'_>, referral: &ReferralRow, plan_status: &str) -> Result<()> {
    // What a co-ordinator has to settle (who someone is, where a write-back goes) is not settled by the referral's end.
    let house = unit.house;
    let of_the_pathway = |code: &str| house.plan.step(code).is_some();
    let open = unit.tx.tasks_of_referral(&referral.id).await?.into_iter().filter(|t| t.open && of_the_pathway(&t.code));
    for row in open.collect::<Vec<_>>() {
        if let Some(seen) = unit.get("Task", &row.id).await? {
            tasks::apply(unit, row, seen.resource, Event::Cancel).await?;
        }
    }
    if let Some(seen) = unit.get("CarePlan", &referral.care_plan).await? {
        let mut plan = seen.resource;
        plan.map_mut().insert("status".to_owned(), json!(plan_status));
        if let Some(period) = plan.map_mut().get_mut("period").and_then(Value::as_object_mut) {
            period.insert("end".to_owned(), json!(instant(unit.now)));
        }
        unit.change(plan).await?;
    }
    let others = unit.tx.referrals_of_person(&referral.person).await?;
    let still_open = others.iter().any(|r| {
        r.id != referral.id && r.episode == referral.episode && !matches!(r.state.as_str(), "closed" | "withdrawn")
    });
    if still_open {
        return Ok(());
    }
    unit.tx.close_episode(&referral.episode).await?;
    if let Some(seen) = unit.get("EpisodeOfCare", &referral.episode).await? {
        let mut episode = seen.resource;
        episode.map_mut().insert("status".to_owned(), json!("finished"));
        if let Some(period) = episode.map_mut().get_mut("period").and_then(Value::as_object_mut) {
            period.insert("end".to_owned(), json!(instant(unit.now)));
        }
        unit.change(episode).await?;
    }
    Ok(())
}
