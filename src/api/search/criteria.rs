//! From search parameters to conditions on the index.

use super::super::error::Error;
use super::super::state::Call;
use super::request::{Request, refuse};
use crate::fhir::check::is_resource_type;
use crate::fhir::index::{self, Param, ParamType};
use crate::fhir::systems::NHS_NUMBER;
use crate::fhir::when::{ALWAYS_AFTER, ALWAYS_BEFORE, Interval};
use crate::store::{At, Criterion, Tx};

/// The parameters by which a person is meant, on every type that is about one.
const PERSON: [&str; 3] = ["patient", "subject", "for"];

/// The conditions of a search, and the parameters that were passed over.
pub(super) async fn read(
    tx: &mut Tx,
    call: &Call,
    kind: &str,
    request: &Request,
) -> Result<(Vec<Criterion>, Vec<String>), Error> {
    let mut criteria = Vec::new();
    let mut ignored = Vec::new();
    for (name, value) in &request.filters {
        match one(tx, call, kind, name, value).await? {
            Some(criterion) => criteria.push(criterion),
            None if request.lenient => ignored.push(name.clone()),
            None => return Err(unknown(kind, name)),
        }
    }
    match request.sort.as_deref() {
        None | Some("_id") => {}
        Some(_) if request.lenient => ignored.push("_sort".to_owned()),
        Some(_) => return Err(refuse(kind, "_sort", "This type is sorted by _id, which is the order of creation.")),
    }
    Ok((criteria, ignored))
}

/// A parameter that this type does not have here.
pub(super) fn unknown(kind: &str, name: &str) -> Error {
    let known: Vec<&str> = index::params(kind).map(|p| p.code).collect();
    let text = format!(
        "{kind} is not searched by this parameter here. It is searched by: _id, _lastUpdated, patient, patient.identifier, \
         {}. Send Prefer: handling=lenient to pass over what is not known.",
        known.join(", ")
    );
    refuse(kind, name, &text)
}

async fn one(tx: &mut Tx, call: &Call, kind: &str, name: &str, value: &str) -> Result<Option<Criterion>, Error> {
    if name == "_id" {
        return Ok(Some(Criterion::Ids(split(value))));
    }
    if name == "_lastUpdated" {
        let (low, high) = moments(value).ok_or_else(|| refuse(kind, name, "This is not a FHIR date or time."))?;
        return Ok(Some(Criterion::LastUpdated(low, high)));
    }
    if let Some(persons) = persons(tx, call, name, value).await? {
        return Ok(Some(if persons.is_empty() { Criterion::Nothing } else { Criterion::Persons(persons) }));
    }
    let (code, modifier) = match name.split_once(':') {
        Some((code, modifier)) => (code, Some(modifier)),
        None => (name, None),
    };
    let Some(param) = index::param(kind, code) else { return Ok(None) };
    match modifier {
        Some("missing") => {
            let missing = match value {
                "true" => true,
                "false" => false,
                _ => return Err(refuse(kind, name, ":missing is true or false.")),
            };
            Ok(Some(Criterion::Missing { param: code.to_owned(), missing }))
        }
        _ => Ok(indexed(call, param, modifier, value).transpose().map_err(|text| refuse(kind, name, &text))?),
    }
}

/// Our Patients that a person parameter means, however the person was named; `None` when it is no person parameter.
///
/// The lookup itself is not filtered: the rows it leads to are, and an answer without rows is the same for a person who
/// is not there and one the caller may not see.
pub(super) async fn persons(tx: &mut Tx, call: &Call, name: &str, value: &str) -> Result<Option<Vec<String>>, Error> {
    let base = name.split([':', '.']).next().unwrap_or_default();
    if !PERSON.contains(&base) {
        return Ok(None);
    }
    let rest = &name[base.len()..];
    let mut persons = Vec::new();
    for alternative in split(value) {
        if matches!(rest, ".identifier" | ":identifier" | ":Patient.identifier") {
            let (system, value) = token(&alternative);
            if system.as_deref().unwrap_or(NHS_NUMBER) == NHS_NUMBER {
                persons.extend(tx.person_by_nhs_number(&digits(&value)).await?.map(|p| p.id));
            }
            if system.as_deref() != Some(NHS_NUMBER) {
                persons.extend(tx.persons_by_identifier(&value, system.as_deref(), &call.actor.sight).await?);
            }
            continue;
        }
        if !matches!(rest, "" | ":Patient") {
            return Ok(None);
        }
        let house = &call.doors.house;
        let id = match house.local(&alternative) {
            Some(("Patient", id)) => id.to_owned(),
            Some(_) => continue,
            None => alternative,
        };
        match tx.person(&id).await? {
            Some(person) => persons.push(person.id),
            None => persons.extend(tx.persons_of_patients(&[id], &call.actor.sight).await?),
        }
    }
    persons.sort();
    persons.dedup();
    Ok(Some(persons))
}

fn digits(value: &str) -> String {
    value.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn indexed(call: &Call, param: &Param, modifier: Option<&str>, value: &str) -> Option<Result<Criterion, String>> {
    let code = param.code.to_owned();
    let words = |any, not| Criterion::Words { param: code.clone(), any, not };
    match (param.compares, modifier) {
        (ParamType::Token, None) => Some(Ok(words(split(value).iter().map(|t| swapped(token(t))).collect(), false))),
        (ParamType::Token, Some("not")) => {
            Some(Ok(words(split(value).iter().map(|t| swapped(token(t))).collect(), true)))
        }
        (ParamType::Reference, Some("identifier")) => Some(Ok(Criterion::Words {
            param: format!("{code}:identifier"),
            any: split(value).iter().map(|t| swapped(token(t))).collect(),
            not: false,
        })),
        (ParamType::Reference, modifier) if modifier.is_none_or(is_resource_type) => {
            let any = split(value).into_iter().map(|v| (reference(call, param, modifier, &v), None)).collect();
            Some(Ok(words(any, false)))
        }
        (ParamType::Uri, None) => Some(Ok(words(split(value).into_iter().map(|v| (v, None)).collect(), false))),
        (ParamType::Name, None) => {
            let any = split(value).into_iter().map(|v| v.to_lowercase()).collect();
            Some(Ok(Criterion::Begins { param: code, any }))
        }
        (ParamType::Name, Some("exact")) => {
            Some(Ok(words(split(value).into_iter().map(|v| (v.to_lowercase(), None)).collect(), false)))
        }
        (ParamType::Date, None) => Some(date(code, value)),
        _ => None,
    }
}

/// A reference as the index has it. An id alone means the type the parameter points at, where that is plain.
fn reference(call: &Call, param: &Param, modifier: Option<&str>, value: &str) -> String {
    if let Some((kind, id)) = call.doors.house.local(value) {
        return format!("{kind}/{id}");
    }
    let kind = modifier.or(match param.code {
        "based-on" | "focus" | "incoming-referral" => Some("ServiceRequest"),
        "encounter" => Some("Encounter"),
        "organization" | "primary-organization" | "participating-organization" | "partof" => Some("Organization"),
        "location" => Some("Location"),
        "practitioner" => Some("Practitioner"),
        "endpoint" => Some("Endpoint"),
        "episode-of-care" => Some("EpisodeOfCare"),
        _ => None,
    });
    match kind {
        Some(kind) if !value.contains('/') && !value.contains(':') => format!("{kind}/{value}"),
        _ => value.to_owned(),
    }
}

fn date(param: String, value: &str) -> Result<Criterion, String> {
    let (prefix, text) = prefixed(value);
    let Interval { low, high } = Interval::parse(text).ok_or("This is not a FHIR date or time.")?;
    let any = (At(ALWAYS_BEFORE), At(ALWAYS_AFTER));
    let (low, high) = match prefix {
        "eq" => ((At(low), At(ALWAYS_AFTER)), (At(ALWAYS_BEFORE), At(high))),
        "gt" | "sa" => (any, (At(high + 1), At(ALWAYS_AFTER))),
        "ge" => (any, (At(low + 1), At(ALWAYS_AFTER))),
        "lt" | "eb" => ((At(ALWAYS_BEFORE), At(low - 1)), any),
        "le" => ((At(ALWAYS_BEFORE), At(high - 1)), any),
        _ => return Err("Dates are compared with eq, gt, ge, lt, le, sa or eb.".to_owned()),
    };
    Ok(Criterion::Time { param, low, high })
}

/// From and before, for a parameter on a single moment.
pub(super) fn moments(value: &str) -> Option<(At, At)> {
    let (prefix, text) = prefixed(value);
    let Interval { low, high } = Interval::parse(text)?;
    match prefix {
        "eq" => Some((At(low), At(high))),
        "gt" | "sa" => Some((At(high), At(ALWAYS_AFTER))),
        "ge" => Some((At(low), At(ALWAYS_AFTER))),
        "lt" | "eb" => Some((At(ALWAYS_BEFORE), At(low))),
        "le" => Some((At(ALWAYS_BEFORE), At(high))),
        _ => None,
    }
}

fn prefixed(value: &str) -> (&str, &str) {
    match value.get(..2) {
        Some(prefix) if prefix.bytes().all(|b| b.is_ascii_lowercase()) => (prefix, value.get(2..).unwrap_or_default()),
        _ => ("eq", value),
    }
}

/// Alternatives: split at commas that no backslash escapes.
pub(super) fn split(value: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            ('\\', Some(part)) => part.extend(chars.next()),
            (',', _) => parts.push(String::new()),
            (other, Some(part)) => part.push(other),
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// `system|code`, `|code`, `system|` or `code`: the system (where it is said) and the code.
pub(super) fn token(text: &str) -> (Option<String>, String) {
    match text.split_once('|') {
        Some((system, code)) => (Some(system.to_owned()), code.to_owned()),
        None => (None, text.to_owned()),
    }
}

fn swapped((system, code): (Option<String>, String)) -> (String, Option<String>) {
    (code, system)
}
