//! Search of the audit trail: the parameters of AuditEvent that its rows can answer
//! (<https://hl7.org/fhir/R4/auditevent.html#search>).

use super::super::error::Error;
use super::super::state::Call;
use super::Matched;
use super::request::{Request, refuse};
use crate::fhir::audit_event::{Facet, meant, outcomes_meant};
use crate::fhir::search::{Context, Criterion, Persons, Refused, SortKey, Sorted, Word, read as read_one};
use crate::fhir::systems::{CLIENT, ODS};
use crate::fhir::{Invalid, Issue, IssueCode};
use crate::store::{At, Interactions, Place, Sight, TrailSearch, TrailTest, Tx};
use crate::workflow::audit_event;

/// The type under which the audit trail is read.
pub(crate) const TRAIL: &str = "AuditEvent";

/// What it is searched by.
pub(super) const PARAMETERS: [&str; 10] =
    ["_id", "_lastUpdated", "action", "agent", "date", "entity", "outcome", "patient", "subtype", "type"];

/// A search of the trail, read from its parameters, and those that were passed over.
pub(super) fn read(call: &Call, request: &Request, order: &[SortKey]) -> Result<(TrailSearch, Vec<String>), Error> {
    let base = call.doors.fhir_base();
    let context = Context { base: &base, now: At::from(call.now).0, value_set: &|_| None, queue: false };
    let mut tests = Vec::new();
    let mut ignored = Vec::new();
    for (name, value) in &request.filters {
        let code = name.split([':', '.']).next().unwrap_or_default();
        match test(&context, code, name, value) {
            Ok(test) => tests.push(test),
            Err(Refused::Because(text)) => return Err(refuse(TRAIL, name, &text)),
            Err(Refused::Unknown) if request.lenient => ignored.push(name.clone()),
            Err(Refused::Unknown) => {
                let text = format!("{TRAIL} is searched by {}, without chains.", PARAMETERS.join(", "));
                return Err(refuse(TRAIL, name, &text));
            }
        }
    }
    if let Some(patient) = &request.patient {
        tests.push(TrailTest::Persons(Persons { patients: vec![patient.clone()], ..Persons::default() }));
    }
    let after = request.after.as_ref().map(|place| place.id.clone());
    let search = TrailSearch { tests, oldest_first: oldest_first(order)?, after, limit: request.count };
    bounded(call, &search, request.total)?;
    Ok((search, ignored))
}

fn test(context: &Context<'_>, code: &str, name: &str, value: &str) -> Result<TrailTest, Refused> {
    let unknown = if PARAMETERS.contains(&code) {
        Refused::Because(
            "The audit trail is not searched by this form or modifier: it takes patient, entity (Type/id), agent \
             (PractitionerRole/id), agent:identifier, date, _lastUpdated, _id, action, type, subtype and outcome."
                .to_owned(),
        )
    } else {
        Refused::Unknown
    };
    // A row is of one moment: its date is when it was written.
    let asked = if name == "date" { "_lastUpdated" } else { name };
    let criterion = match code {
        // It is about somebody as a record is.
        "patient" => read_one(context, "Encounter", asked, value)?,
        _ if PARAMETERS.contains(&code) => read_one(context, TRAIL, asked, value)?,
        _ => return Err(unknown),
    };
    match (code, criterion) {
        ("_id", Criterion::Ids(ids)) => Ok(TrailTest::Ids(ids)),
        ("date" | "_lastUpdated", criterion) => moments(criterion).map(TrailTest::At).ok_or(unknown),
        ("patient", criterion) => people(criterion).map(TrailTest::Persons).ok_or(unknown),
        ("entity", Criterion::Words { params, any, not: false }) if params == ["entity"] => {
            Ok(TrailTest::Targets(values(any).filter(|value| !value.starts_with("http")).collect()))
        }
        ("agent", Criterion::Words { params, any, not: false }) if params == ["agent"] => {
            Ok(TrailTest::Actors(values(any).filter(|value| value.starts_with("PractitionerRole/")).collect()))
        }
        ("agent", Criterion::Words { any, not: false, .. }) => agents(any).ok_or(unknown),
        ("outcome", Criterion::Words { any, not, .. }) => {
            let (any, not) = outcomes_meant(&any, not);
            Ok(TrailTest::Outcomes { any, not })
        }
        ("action", Criterion::Words { params, any, not }) => interactions(Facet::Action, params, any, not, unknown),
        ("type", Criterion::Words { params, any, not }) => interactions(Facet::Type, params, any, not, unknown),
        ("subtype", Criterion::Words { params, any, not }) => interactions(Facet::Subtype, params, any, not, unknown),
        _ => Err(unknown),
    }
}

fn interactions(
    facet: Facet,
    params: Vec<String>,
    any: Vec<Word>,
    not: bool,
    unknown: Refused,
) -> Result<TrailTest, Refused> {
    // Not by their texts.
    if params.iter().any(|param| param.contains(':')) {
        return Err(unknown);
    }
    let (named, begin) = meant(facet, &any, not);
    Ok(TrailTest::Interactions(Interactions { named, begin }))
}

fn values(any: Vec<Word>) -> impl Iterator<Item = String> {
    any.into_iter().filter_map(|word| match word {
        Word::Is { value, .. } => Some(value),
        _ => None,
    })
}

/// `agent:identifier`: a client, or an organisation for all of its own.
fn agents(any: Vec<Word>) -> Option<TrailTest> {
    let (mut clients, mut organizations) = (Vec::new(), Vec::new());
    for word in any {
        let Word::Is { value, system } = word else { return None };
        if system.as_deref().is_none_or(|of| of == CLIENT) {
            clients.push(value.clone());
        }
        if system.as_deref().is_none_or(|of| of == ODS) {
            organizations.push(value);
        }
    }
    Some(TrailTest::Agents { clients, organizations })
}

fn moments(criterion: Criterion) -> Option<Vec<(i64, i64)>> {
    match criterion {
        Criterion::LastUpdated(from, before) => Some(vec![(from, before)]),
        Criterion::Any(any) => Some(any.into_iter().filter_map(moments).flatten().collect()),
        _ => None,
    }
}

fn people(criterion: Criterion) -> Option<Persons> {
    match criterion {
        Criterion::Persons(persons) => Some(persons),
        Criterion::Any(any) => any.into_iter().find_map(people),
        // A reference to somebody who is no Patient here.
        Criterion::Words { .. } => Some(Persons::default()),
        _ => None,
    }
}

fn oldest_first(order: &[SortKey]) -> Result<bool, Error> {
    let by_time = |key: &SortKey| match &key.by {
        Sorted::Id | Sorted::LastUpdated => true,
        Sorted::Value { params, .. } => *params == ["date"],
        Sorted::Queue(_) => false,
    };
    match order {
        [] => Ok(false),
        [only] if by_time(only) => Ok(!only.descending),
        _ => Err(refuse(TRAIL, "_sort", "The audit trail comes in the order of time: _sort=date or _sort=-date.")),
    }
}

/// Refuses what would go through the whole trail to find little, or to count it.
fn bounded(call: &Call, search: &TrailSearch, total: bool) -> Result<(), Error> {
    let leads = |test: &TrailTest| match test {
        TrailTest::Interactions(_) => false,
        TrailTest::Outcomes { any, not } => any.iter().all(|outcome| outcome != "success") != *not,
        _ => true,
    };
    let about = |test: &TrailTest| {
        matches!(test, TrailTest::Ids(_) | TrailTest::Persons(_) | TrailTest::Targets(_) | TrailTest::Actors(_))
    };
    let text = match call.actor.sight {
        Sight::Localities(_) if !search.tests.iter().any(about) => {
            "Say whose audit trail is asked for: by patient or entity, or by agent."
        }
        _ if !search.tests.iter().any(leads) && (total || !search.tests.is_empty()) => {
            "Of the whole audit trail this cannot be found quickly. Say when as well, by date, or ask by patient, entity \
             or agent."
        }
        _ => return Ok(()),
    };
    Err(Invalid::malformed(Issue::error(IssueCode::TooCostly, TRAIL, text)).into())
}

/// A page of the trail, as AuditEvents.
pub(super) async fn page(tx: &mut Tx, call: &Call, search: &TrailSearch) -> Result<Matched, Error> {
    if search.limit == 0 {
        return Ok(Matched { matches: Vec::new(), next: None });
    }
    let (rows, more) = tx.search_trail(search, &call.actor.sight).await?;
    let next = rows.last().filter(|_| more).map(|row| Place { keys: Vec::new(), id: row.id.clone() });
    Ok(Matched { matches: rows.iter().map(audit_event).collect(), next })
}
