//! Tasks: how they are made, and the one way in which a caller changes them.

use serde_json::{Value, json};

use crate::fhir::systems::{ODS, ROLE, TASK_CODE, TASK_INPUT, TASK_OUTCOME};
use crate::fhir::when::{instant, start_of};
use crate::fhir::{IssueCode, Resource, path};
use crate::pathway::plan::Step;
use crate::pathway::referral::priority_rank;
use crate::pathway::task::{Event, NotAllowed, TaskState};
use crate::store::{At, Belongs, PersonRow, ReferralRow, StoreError, TaskRow};

use super::actor::Staff;
use super::complete::{self, Completion};
use super::unit::same_content;
use super::{Error, Result, Unit, allot, care_manager};

/// How long before it is due a Task is first handed out: a review in a year is nobody's work today. Local policy.
const AHEAD: chrono::Duration = chrono::Duration::days(21);

/// Opens the Task of a step of the pathway.
pub(super) async fn open(
    unit: &mut Unit<'_>,
    step: &Step,
    referral: &ReferralRow,
    priority: &str,
    due: At,
    notes: &[String],
) -> Result<()> {
    let id = Unit::new_id();
    // Often before it was made: a clock that is set back must not keep a Task from being handed out.
    let ready = At::from(due.time() - AHEAD);
    let mut task = blank(unit, &id, &step.code, &step.title, &step.role, priority, due);
    task["restriction"]["period"]["start"] = json!(instant(ready.time().max(unit.now)));
    task["instantiatesCanonical"] = json!(unit.house.plan.canonical());
    task["basedOn"] = json!([{ "reference": format!("CarePlan/{}", referral.care_plan) }]);
    task["focus"] = json!({ "reference": format!("ServiceRequest/{}", referral.id), "display": referral.reference });
    task["for"] = json!({ "reference": format!("Patient/{}", referral.person) });
    task["requester"] = json!({ "type": "Organization", "identifier": { "system": ODS, "value": referral.sender } });
    if !referral.locality.is_empty() {
        task["location"] = json!({ "reference": format!("Location/{}", referral.locality) });
    }
    let mut inputs: Vec<Value> = step
        .inputs
        .iter()
        .map(|input| {
            let said = if input.required { "required" } else { "if there is one" };
            json!({
                "type": { "coding": [{ "system": TASK_INPUT, "code": input.code }] },
                "valueString": format!("{} ({}): {}", input.resource_type, said, input.text),
            })
        })
        .collect();
    let outcomes: Vec<&str> = step.outcomes.iter().map(|o| o.code.as_str()).collect();
    if !outcomes.is_empty() {
        inputs
            .push(json!({ "type": { "text": "outcome" }, "valueString": format!("One of: {}", outcomes.join(", ")) }));
    }
    if !inputs.is_empty() {
        task["input"] = Value::Array(inputs);
    }
    note(&mut task, unit.now, notes);
    let row = TaskRow {
        locality: referral.locality.clone(),
        practice: referral.practice.clone(),
        referral: referral.id.clone(),
        person: referral.person.clone(),
        ready,
        ..row(unit, &task, &step.code, &step.role, due)
    };
    let belongs =
        Belongs { sender: unit.house.organization(), person: referral.person.clone(), referral: referral.id.clone() };
    unit.tx.insert_tasks(&[row]).await?;
    unit.create(Resource::from_value(task)?, belongs);
    Ok(())
}

/// Opens a Task for a co-ordinator: something that only a person can settle. Once is enough while one is open.
pub(super) async fn for_co_ordinator(
    unit: &mut Unit<'_>,
    code: &str,
    person: &PersonRow,
    practice: &str,
    referral: &str,
) -> Result<()> {
    let due = At::from(unit.now + chrono::Duration::hours(48));
    let id = Unit::new_id();
    let mut task = blank(unit, &id, code, &code.replace('-', " "), "co-ordinator", "urgent", due);
    if !person.id.is_empty() {
        task["for"] = json!({ "reference": format!("Patient/{}", person.id) });
    }
    if !referral.is_empty() {
        task["focus"] = json!({ "reference": format!("ServiceRequest/{referral}") });
    }
    if !practice.is_empty() {
        note(&mut task, unit.now, &[format!("Practice {practice}.")]);
    }
    let row = TaskRow {
        practice: practice.to_owned(),
        referral: referral.to_owned(),
        person: person.id.clone(),
        ..row(unit, &task, code, "co-ordinator", due)
    };
    unit.tx.insert_tasks(&[row]).await?;
    let belongs =
        Belongs { sender: unit.house.organization(), person: person.id.clone(), referral: referral.to_owned() };
    unit.create(Resource::from_value(task)?, belongs);
    Ok(())
}

/// Takes back what a co-ordinator was asked about a person, in whoever's hands it is.
pub(super) async fn ask_no_longer(unit: &mut Unit<'_>, person: &str, code: &str) -> Result<()> {
    for id in unit.tx.open_tasks_for_person(person, code).await? {
        if let (Some(row), Some(seen)) = (unit.tx.task(&id).await?, unit.get("Task", &id).await?) {
            apply(unit, row, seen.resource, Event::Cancel).await?;
        }
    }
    Ok(())
}

fn blank(unit: &Unit<'_>, id: &str, code: &str, title: &str, role: &str, priority: &str, due: At) -> Value {
    json!({
        "resourceType": "Task",
        "id": id,
        "status": "requested",
        "intent": "order",
        "priority": priority,
        "code": { "coding": [{ "system": TASK_CODE, "code": code, "display": title }] },
        "description": title,
        "authoredOn": instant(unit.now),
        "lastModified": instant(unit.now),
        "performerType": [{ "coding": [{ "system": ROLE, "code": role }] }],
        "restriction": { "period": { "end": instant(due.time()) } },
    })
}

fn note(task: &mut Value, now: chrono::DateTime<chrono::Utc>, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    let notes = texts.iter().map(|text| json!({ "time": instant(now), "text": text }));
    match task.get_mut("note").and_then(Value::as_array_mut) {
        Some(there) => there.extend(notes),
        None => task["note"] = notes.collect(),
    }
}

/// The place of a new Task in the queue: nobody's, open to be taken at once, in no locality.
fn row(unit: &Unit<'_>, task: &Value, code: &str, role: &str, due: At) -> TaskRow {
    TaskRow {
        id: path::text(task, "id").unwrap_or_default().to_owned(),
        version: 1,
        status: "requested".to_owned(),
        code: code.to_owned(),
        role: role.to_owned(),
        locality: String::new(),
        practice: String::new(),
        owner: String::new(),
        priority: i64::from(priority_rank(path::text(task, "priority").unwrap_or_default())),
        ready: At(0),
        due,
        referral: String::new(),
        person: String::new(),
        created_at: unit.now.into(),
        open: true,
        held_at: At(0),
    }
}

/// A Task the caller may see, with its place in the queue.
pub(super) async fn seen(unit: &mut Unit<'_>, id: &str) -> Result<(TaskRow, Resource)> {
    let seen = unit.see("Task", id).await?.ok_or(Error::NotFound)?;
    let row = unit.tx.task(id).await?.ok_or_else(|| {
        Error::Forbidden(
            "This Task is its sender's own and not in Live Well's queue, so it cannot be worked here.".to_owned(),
        )
    })?;
    Ok((row, seen.resource))
}

/// The acting member of staff, who must be someone for work to be theirs.
pub(super) fn staff<'a>(unit: &Unit<'a>) -> Result<&'a Staff> {
    unit.actor.staff.as_ref().ok_or_else(|| {
        Error::Forbidden(
            "Work is taken and done by a person. Call as a member of staff (a client registered with --staff), or name \
             the acting person in NHSD-Requesting-Practitioner."
                .to_owned(),
        )
    })
}

/// Moves a Task along, as the state machine allows, in the queue and as a resource.
pub(super) async fn apply(
    unit: &mut Unit<'_>,
    row: TaskRow,
    mut task: Resource,
    event: Event,
) -> Result<(TaskRow, Resource)> {
    let state = state_of(&row)?;
    let paused = event == Event::Hold;
    // Done as soon as it was taken, it was never said to be begun.
    let begins = event == Event::Start || event == Event::Complete && row.status == "accepted";
    if begins {
        care_manager::takes_over(unit, &row).await?;
    }
    let moved = state.apply(event).map_err(not_allowed)?;
    let mut row = row;
    let held = std::mem::replace(&mut row.held_at, if paused { unit.now.into() } else { At(0) });
    if held != At(0) {
        // The clock stood still meanwhile.
        row.due = At::from(row.due.time() + (unit.now - held.time()));
        say_due(&mut task, row.due);
    }
    row.status = moved.status().to_owned();
    row.owner = moved.owner().unwrap_or_default().to_owned();
    row.open = moved.is_open();
    let fields = task.map_mut();
    fields.insert("status".to_owned(), json!(row.status));
    match moved.owner() {
        Some(owner) => drop(fields.insert("owner".to_owned(), json!({ "reference": owner }))),
        None => drop(fields.shift_remove("owner")),
    }
    fields.insert("lastModified".to_owned(), json!(instant(unit.now)));
    if row.status == "in-progress" && !fields.contains_key("executionPeriod") {
        fields.insert("executionPeriod".to_owned(), json!({ "start": instant(unit.now) }));
    }
    if !row.open {
        let period = fields.entry("executionPeriod").or_insert_with(|| json!({}));
        period["end"] = json!(instant(unit.now));
    }
    save(unit, row, task).await
}

/// Writes a Task's new version: one for a unit of work, however often the unit touches it.
pub(super) async fn save(unit: &mut Unit<'_>, mut row: TaskRow, task: Resource) -> Result<(TaskRow, Resource)> {
    unit.change(task.clone()).await?;
    let before = std::mem::replace(&mut row.version, unit.version_of(&task));
    if !unit.tx.update_task(&row, before).await? {
        return Err(StoreError::Conflict.into());
    }
    Ok((row, task))
}

pub(super) fn state_of(row: &TaskRow) -> Result<TaskState> {
    TaskState::from_parts(&row.status, (!row.owner.is_empty()).then_some(row.owner.as_str()))
        .map_err(|why| Error::Store(StoreError::Corrupt { table: "task", id: row.id.clone(), why: why.to_string() }))
}

pub(super) fn not_allowed(why: NotAllowed) -> Error {
    Error::rule(IssueCode::BusinessRule, "Task.status", why.text)
}

/// How far ahead a Task may be due.
const LATEST_DUE: chrono::Duration = chrono::Duration::days(3653);

/// Says in a Task when it is due.
pub(super) fn say_due(task: &mut Resource, due: At) {
    let restriction = task.map_mut().entry("restriction").or_insert_with(|| json!({}));
    restriction["period"]["end"] = json!(instant(due.time()));
}

/// What a PUT may change beside the state.
const OPEN_TO_CHANGE: [&str; 8] =
    ["priority", "note", "output", "businessStatus", "statusReason", "executionPeriod", "lastModified", "restriction"];

/// Changes a Task as a PUT or PATCH asks: status and owner by the state machine; priority, notes and outputs as sent.
pub(super) async fn change_task(unit: &mut Unit<'_>, wanted: Resource) -> Result<()> {
    let id = wanted.id().unwrap_or_default().to_owned();
    if unit.tx.task(&id).await?.is_none() {
        return super::keep::change_kept(unit, wanted).await;
    }
    if !unit.actor.ours {
        return Err(Error::Forbidden(
            "Live Well's Tasks are worked by its staff. To withdraw a referral, PUT the ServiceRequest with status revoked."
                .to_owned(),
        ));
    }
    let (mut row, mut task) = seen(unit, &id).await?;
    unit.hold_person(&row.person).await?;
    unchanged_elsewhere(&task, &wanted)?;
    let (status, owner) = (wanted.text("status").unwrap_or_default(), allot::owner_of(unit.house, &wanted));
    let event = state_of(&row)?.change_to(status, owner.as_deref()).map_err(not_allowed)?;
    may_work_on(unit, &row)?;
    unit.audit("update", &format!("Task/{id}"), &row.person);
    let before = task.clone();
    take_over(&mut task, &wanted);
    if event.is_none() && same_content(&before, &task) {
        return Ok(());
    }
    row.priority = i64::from(priority_rank(task.text("priority").unwrap_or_default()));
    match wanted.text("restriction.period.end").and_then(start_of) {
        Some(due) if due > unit.now + LATEST_DUE => {
            let text = "This is years away. Say when the Task is due, at most ten years from now.";
            return Err(Error::rule(IssueCode::Value, "Task.restriction.period.end", text));
        }
        Some(due) => row.due = due.into(),
        None => say_due(&mut task, row.due),
    }
    unit.tx.reorder_task(&row.id, row.priority, row.due).await?;
    match event {
        None => drop(save(unit, row, task).await?),
        Some(Event::Complete) => {
            let outputs = wanted.all("output.valueReference.reference").into_iter().filter_map(Value::as_str);
            let outputs = outputs.map(str::to_owned).collect();
            let completion = Completion { outcome: outcome_of(&wanted)?, outputs, note: None };
            unit.change(task).await?;
            complete::complete_in(unit, &id, &completion).await?;
        }
        Some(event) => {
            if let Event::Claim { by } = &event {
                allot::may_be_given(unit, &row, by).await?;
            }
            let (row, task) = apply(unit, row, task, event).await?;
            if !row.open {
                hand_on(unit, &row, &task).await?;
            }
        }
    }
    Ok(())
}

/// Takes over what a PUT may change beside the state.
fn take_over(task: &mut Resource, wanted: &Resource) {
    for element in OPEN_TO_CHANGE.iter().filter(|e| !matches!(**e, "executionPeriod" | "lastModified")) {
        match wanted.value().get(*element) {
            Some(value) => drop(task.map_mut().insert((*element).to_owned(), value.clone())),
            // A Task is always due.
            None if *element == "restriction" => {}
            None => drop(task.map_mut().shift_remove(*element)),
        }
    }
}

/// A step that ended without being done, on a referral that goes on, becomes a co-ordinator's: nobody's referral may end
/// in nobody's hands.
async fn hand_on(unit: &mut Unit<'_>, row: &TaskRow, task: &Resource) -> Result<()> {
    let house = unit.house;
    let Some(step) = house.plan.step(&row.code) else { return Ok(()) };
    let Some(referral) = unit.tx.referral(&row.referral).await? else { return Ok(()) };
    if matches!(referral.state.as_str(), "closed" | "withdrawn") {
        return Ok(());
    }
    let step = Step { role: "co-ordinator".to_owned(), ..step.clone() };
    let note = format!("Task/{} for the same step ended as {}. Decide how the referral goes on.", row.id, row.status);
    open(unit, &step, &referral, task.text("priority").unwrap_or("routine"), row.due, &[note]).await
}

fn unchanged_elsewhere(task: &Resource, wanted: &Resource) -> Result<()> {
    let mut names: Vec<&String> = task.value().as_object().into_iter().flatten().map(|(name, _)| name).collect();
    names.extend(wanted.value().as_object().into_iter().flatten().map(|(name, _)| name));
    for name in names {
        let free =
            OPEN_TO_CHANGE.contains(&name.as_str()) || matches!(name.as_str(), "meta" | "status" | "owner" | "text");
        if !free && task.value().get(name) != wanted.value().get(name) {
            return Err(Error::rule(
                IssueCode::BusinessRule,
                format!("Task.{name}"),
                format!("Task.{name} is set by the pathway and cannot be changed. Send it as it was read."),
            ));
        }
    }
    Ok(())
}

fn outcome_of(wanted: &Resource) -> Result<String> {
    let coded = wanted.all("businessStatus.coding").into_iter().find(|c| path::text(c, "system") == Some(TASK_OUTCOME));
    coded.and_then(|c| path::text(c, "code")).map(str::to_owned).ok_or_else(|| {
        Error::rule(
            IssueCode::Required,
            "Task.businessStatus",
            format!("A completed Task says its outcome. Use $complete, or send businessStatus with a code of {TASK_OUTCOME}."),
        )
    })
}

/// Why a Task that has an owner is not this person's to take: over, theirs already, or somebody else's.
pub(super) fn taken(row: &TaskRow, staff: &Staff) -> Error {
    let text = if !row.open {
        format!("This Task is {}: its work has ended. Take another with $claim-next.", row.status)
    } else if row.owner == staff.reference {
        "This Task is yours already. Record what is done and $complete it, or $release it for others.".to_owned()
    } else {
        "This Task is taken: someone else owns it. Take another with $claim-next, or ask them to $release it."
            .to_owned()
    };
    Error::conflict("Task.owner", text)
}

/// Refuses a Task that is someone else's, or another role's or locality's.
pub(super) fn may_work_on(unit: &Unit<'_>, row: &TaskRow) -> Result<()> {
    let staff = staff(unit)?;
    if !row.owner.is_empty() && row.owner != staff.reference && !staff.co_ordinates() {
        return Err(taken(row, staff));
    }
    if !staff.may_do_work_for(&row.role) {
        return Err(Error::Forbidden(format!("This Task is for the role {}, which you do not have.", row.role)));
    }
    if !staff.works_in(&row.locality) {
        return Err(Error::Forbidden("This Task is in another locality than yours.".to_owned()));
    }
    Ok(())
}
