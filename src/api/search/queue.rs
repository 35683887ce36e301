//! Search of Tasks: the queue's own table, most urgent first.

use super::super::error::Error;
use super::super::state::{Call, State};
use super::answer;
use super::criteria::{moments, persons, split, token};
use super::request::{Request, refuse};
use crate::pathway::referral::priority_rank;
use crate::store::{At, TaskQuery, Tx};

/// What Tasks are searched by here.
pub(crate) const PARAMETERS: [(&str, &str); 15] = [
    ("_id", "token"),
    ("_lastUpdated", "date"),
    ("status", "token"),
    ("code", "token"),
    ("priority", "token"),
    ("focus", "reference"),
    ("patient", "reference"),
    ("subject", "reference"),
    ("owner", "reference"),
    ("performer", "token"),
    ("location", "reference"),
    ("due", "date"),
    ("overdue", "token"),
    ("modified", "date"),
    ("patient.identifier", "token"),
];

pub(super) async fn search(doors: &State, call: &Call, request: Request) -> Result<axum::response::Response, Error> {
    let mut tx = doors.store.read().await?;
    let mut wanted = TaskQuery::default();
    let mut ignored = Vec::new();
    for (name, value) in &request.filters {
        if !read(&mut tx, call, &mut wanted, name, value).await? {
            if !request.lenient {
                let known: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
                let text = format!("Tasks are searched by: {}.", known.join(", "));
                return Err(refuse("Task", name, &text));
            }
            ignored.push(name.clone());
        }
    }
    wanted.by_id = match request.sort.as_deref() {
        None | Some("-priority,due") => false,
        Some("_id") => true,
        Some(_) => return Err(refuse("Task", "_sort", "Tasks are sorted by -priority,due (the default) or by _id.")),
    };
    let after = request.after.as_deref().map(place).transpose()?;
    let after = after.as_ref().map(|(priority, due, id)| (*priority, *due, id.as_str()));
    let mut found = tx.search_tasks(&wanted, &call.actor.sight, after, request.count + 1).await?;
    let total = if request.total { Some(tx.count_tasks(&wanted, &call.actor.sight).await?) } else { None };
    drop(tx);
    let more = i64::try_from(found.len()).unwrap_or(i64::MAX) > request.count && request.count > 0;
    found.truncate(usize::try_from(request.count).unwrap_or(0));
    let next = found.last().filter(|_| more).map(|(t, _)| format!("{} {} {}", t.priority, t.due.0, t.id));
    let matches: Vec<_> = found.into_iter().map(|(_, stored)| stored).collect();
    Ok(answer(doors, call, "Task", &request, &matches, next, total, &ignored))
}

/// The place in the order at which a page stopped.
fn place(after: &str) -> Result<(i64, i64, String), Error> {
    let bad = || refuse("Task", "_page", "This page link is not whole. Begin the search again.");
    let mut words = after.split(' ');
    let mut word = || words.next().ok_or_else(bad);
    let (priority, due, id) = (word()?, word()?, word()?);
    Ok((priority.parse().map_err(|_| bad())?, due.parse().map_err(|_| bad())?, id.to_owned()))
}

/// No value of any parameter: stands where two lists have nothing in common.
const NONE: &str = "(none)";

/// A parameter that is repeated restricts once more: what both lists name.
fn both(list: &mut Vec<String>, more: Vec<String>) {
    if list.is_empty() {
        *list = more;
        return;
    }
    list.retain(|value| more.contains(value));
    if list.is_empty() {
        list.push(NONE.to_owned());
    }
}

/// Adds one parameter; false when Tasks are not searched by it.
async fn read(tx: &mut Tx, call: &Call, wanted: &mut TaskQuery, name: &str, value: &str) -> Result<bool, Error> {
    if let Some(found) = persons(tx, call, name, value).await? {
        wanted.persons = Some(match wanted.persons.take() {
            Some(before) => before.into_iter().filter(|person| found.contains(person)).collect(),
            None => found,
        });
        return Ok(true);
    }
    if split(value).is_empty() {
        return Err(refuse("Task", name, "This parameter has no value. Give it one, or leave it out."));
    }
    let codes = || split(value).iter().map(|t| token(t).1).collect::<Vec<_>>();
    let ids = |kind: &str| -> Vec<String> {
        let strip = |v: &String| match call.doors.house.local(v) {
            Some((found, id)) if found == kind => id.to_owned(),
            Some(_) => "nothing of that type".to_owned(),
            None => v.clone(),
        };
        split(value).iter().map(strip).collect()
    };
    let bad_date = || refuse("Task", name, "This is not a FHIR date or time.");
    let flag = || match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(refuse("Task", name, "This is true or false.")),
    };
    match name {
        "_id" => both(&mut wanted.ids, split(value)),
        "_lastUpdated" | "modified" => wanted.updated.push(moments(value).ok_or_else(bad_date)?),
        "due" => wanted.due.push(moments(value).ok_or_else(bad_date)?),
        "status" => both(&mut wanted.statuses, codes()),
        "status:not" => wanted.not_statuses.extend(codes()),
        "code" => both(&mut wanted.codes, codes()),
        "performer" => both(&mut wanted.roles, codes()),
        "priority" => wanted.priorities = codes().iter().map(|p| i64::from(priority_rank(p))).collect(),
        "focus" | "focus:ServiceRequest" => both(&mut wanted.referrals, ids("ServiceRequest")),
        "location" | "location:Location" => both(&mut wanted.localities, ids("Location")),
        "owner" | "owner:PractitionerRole" => {
            let owners = ids("PractitionerRole").into_iter().map(|id| format!("PractitionerRole/{id}"));
            both(&mut wanted.owners, owners.collect());
        }
        "owner:missing" => wanted.owner_missing = Some(flag()?),
        "overdue" => {
            let now = Some(At::from(call.now));
            if flag()? { wanted.overdue_at = now } else { wanted.not_overdue_at = now }
        }
        _ => return Ok(false),
    }
    Ok(true)
}
