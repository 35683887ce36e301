//! `Patient/{id}/$everything`: all that the caller may see of a person, and the directory that it refers to
//! (<https://hl7.org/fhir/R4/patient-operation-everything.html>).

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::EVERYTHING;
use super::inputs::Inputs;
use super::value_sets::unprocessable;
use crate::api::error::Error;
use crate::api::listing::Listed;
use crate::api::resources::disclose;
use crate::api::state::Call;
use crate::auth::scope::Interaction;
use crate::fhir::care_dates::care_dates;
use crate::fhir::check::is_resource_type;
use crate::fhir::outcome::operation_outcome;
use crate::fhir::when::Interval;
use crate::fhir::{Issue, IssueCode};
use crate::store::{At, Stored, Tx, Wanted};
use crate::workflow;

/// Resources of the person on a page where `_count` does not say, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 500;
/// Resources of the directory on a page at most.
const MOST_INCLUDED: usize = 500;
/// Read from the database at a time, where some may lie outside start and end.
const AT_ONCE: i64 = 500;

/// What was asked for, and where its next page begins: a page link says this, sealed.
#[derive(Clone, Serialize, Deserialize)]
struct Asked {
    id: String,
    start: Option<String>,
    end: Option<String>,
    since: Option<String>,
    types: Vec<String>,
    count: usize,
    after: Option<(String, String)>,
}

/// `Patient/{id}/$everything`.
pub(in crate::api) async fn everything(Path(id): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("Patient", Interaction::Read)?;
    let inputs = Inputs::read(&call, &EVERYTHING, &body)?;
    let asked = match inputs.text("_page")? {
        Some(token) => continued(&call, &id, token)?,
        None => Asked::read(&inputs, &id)?,
    };
    let wanted = asked.wanted(&call)?;
    let mut tx = call.doors.store.read().await?;
    let patient = tx.resource("Patient", &id, &call.actor.sight).await?.ok_or(workflow::Error::NotFound)?;
    if patient.deleted {
        return Err(workflow::Error::Gone.into());
    }
    let (matches, more) = person(&mut tx, &call, &patient, &asked, &wanted).await?;
    let (directory, whole) = directory(&mut tx, &call, &matches, &wanted).await?;
    drop(tx);
    disclose(&call, "$everything", &format!("Patient/{id}"), &patient.person).await?;
    Ok(answer(&call, &asked, &matches, more, &directory, whole))
}

impl Asked {
    fn read(inputs: &Inputs, id: &str) -> Result<Asked, Error> {
        let date = |name: &str| -> Result<Option<String>, Error> {
            match inputs.text(name)? {
                Some(text) if Interval::parse(text).is_none() => {
                    Err(unprocessable(name, "This is not a FHIR date or time."))
                }
                text => Ok(text.map(str::to_owned)),
            }
        };
        let types: Vec<String> =
            inputs.texts("_type")?.into_iter().flat_map(|t| t.split(',')).map(|t| t.trim().to_owned()).collect();
        if types.iter().any(|kind| !is_resource_type(kind)) {
            return Err(unprocessable("_type", "These are names of R4 resource types, parted by commas."));
        }
        let count = inputs.count("_count")?.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
        let (start, end, since) = (date("start")?, date("end")?, date("_since")?);
        Ok(Asked { id: id.to_owned(), start, end, since, types, count, after: None })
    }

    /// The types that were asked for and that the caller's scopes let it read, and since when.
    fn wanted(&self, call: &Call) -> Result<Wanted, Error> {
        let readable = |kind: &&str| call.may(kind, Interaction::Read).is_ok();
        let asked = |kind: &&str| self.types.is_empty() || self.types.iter().any(|t| t == kind);
        let kinds: Vec<String> = call.doors.types.all().filter(readable).filter(asked).map(str::to_owned).collect();
        let all = kinds.len() == call.doors.types.all().count();
        let since = self.since.as_deref().and_then(Interval::parse).map(|since| At(since.low));
        Ok(Wanted { kinds: (!all).then_some(kinds), since })
    }

    /// Whether the care of a resource is within start and end; what says no time always is.
    fn spans(&self, resource: &Value) -> bool {
        if self.start.is_none() && self.end.is_none() {
            return true;
        }
        let edge = |text: &Option<String>| text.as_deref().and_then(Interval::parse);
        care_dates(resource).is_none_or(|care| {
            edge(&self.start).is_none_or(|start| care.high > start.low)
                && edge(&self.end).is_none_or(|end| care.low < end.high)
        })
    }

    /// The parameters, for a link. They say nothing of who it is.
    fn shown(&self) -> String {
        let given = [("start", &self.start), ("end", &self.end), ("_since", &self.since)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let types = (!self.types.is_empty()).then(|| ("_type", self.types.join(",")));
        let all: Vec<(&str, String)> = given.chain(types).chain([("_count", self.count.to_string())]).collect();
        serde_urlencoded::to_string(all).unwrap_or_default()
    }
}

fn continued(call: &Call, id: &str, token: &str) -> Result<Asked, Error> {
    let text = call.doors.seal.open(&call.caller.client_id, token);
    let asked: Option<Asked> = text.and_then(|text| serde_json::from_str(&text).ok());
    asked.filter(|asked| asked.id == id).ok_or_else(|| {
        unprocessable("_page", "This page link is not one of yours or is not whole. Begin again without it.")
    })
}

/// A page of what is about the person, and whether there is more behind it.
async fn person(
    tx: &mut Tx,
    call: &Call,
    patient: &Stored,
    asked: &Asked,
    wanted: &Wanted,
) -> Result<(Vec<(Stored, Value)>, bool), Error> {
    let mut found: Vec<(Stored, Value)> = Vec::new();
    let mut after = asked.after.clone();
    loop {
        let from = after.as_ref().map(|(kind, id)| (kind.as_str(), id.as_str()));
        let rows = tx.about_person(&patient.person, wanted, &call.actor.sight, from, AT_ONCE).await?;
        let last_rows = i64::try_from(rows.len()).is_ok_and(|read| read < AT_ONCE);
        for row in rows {
            after = Some((row.kind.clone(), row.id.clone()));
            let body = serde_json::from_str(&row.body).unwrap_or(Value::Null);
            if !asked.spans(&body) {
                continue;
            }
            if found.len() == asked.count {
                return Ok((found, true));
            }
            found.push((row, body));
        }
        if last_rows {
            return Ok((found, false));
        }
    }
}

/// What of the directory a page refers to, and what that refers to; false where that was more than a page takes.
async fn directory(
    tx: &mut Tx,
    call: &Call,
    matches: &[(Stored, Value)],
    wanted: &Wanted,
) -> Result<(Vec<(Stored, Value)>, bool), Error> {
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut found: Vec<(Stored, Value)> = Vec::new();
    let (mut from, mut whole) = (0, true);
    let mut next: Vec<&Value> = matches.iter().map(|(_, body)| body).collect();
    // A PractitionerRole, then the Practitioner and the Organization that it names.
    for _ in 0..2 {
        let mut asked = BTreeSet::new();
        next.iter().for_each(|body| references(call, body, &mut asked));
        let mut asked: Vec<(String, String)> = asked.into_iter().filter(|r| seen.insert(r.clone())).collect();
        whole &= found.len() + asked.len() <= MOST_INCLUDED;
        asked.truncate(MOST_INCLUDED - found.len().min(MOST_INCLUDED));
        let rows = tx.about_nobody(&asked, wanted, &call.actor.sight).await?;
        found.extend(rows.into_iter().map(|row| {
            let body = serde_json::from_str(&row.body).unwrap_or(Value::Null);
            (row, body)
        }));
        next = found.get(from..).unwrap_or_default().iter().map(|(_, body)| body).collect();
        from = found.len();
    }
    Ok((found, whole))
}

/// Every reference to a resource of ours in a value.
fn references(call: &Call, value: &Value, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(call, item, found)),
        Value::Object(fields) => {
            let reference = fields.get("reference").and_then(Value::as_str);
            if let Some((kind, id)) = reference.and_then(|reference| call.doors.house.local(reference)) {
                found.insert((kind.to_owned(), id.to_owned()));
            }
            fields.values().for_each(|field| references(call, field, found));
        }
        _ => {}
    }
}

fn answer(
    call: &Call,
    asked: &Asked,
    matches: &[(Stored, Value)],
    more: bool,
    directory: &[(Stored, Value)],
    whole: bool,
) -> Response {
    let base = call.doors.fhir_base();
    let mut entries: Vec<Listed<'_>> = matches.iter().map(|(row, _)| Listed::found(&base, row, "match")).collect();
    entries.extend(directory.iter().map(|(row, _)| Listed::found(&base, row, "include")));
    if !whole {
        let text =
            format!("More than {MOST_INCLUDED} resources of the directory are referred to; the others are left out.");
        let outcome = operation_outcome(&[Issue::warning(IssueCode::TooCostly, "Bundle.entry", text)]);
        entries.push(Listed::Made(json!({ "resource": outcome, "search": { "mode": "outcome" } })));
    }
    let address = format!("{base}/Patient/{}/$everything", asked.id);
    let mut links = vec![call.format.link("self", format!("{address}?{}", asked.shown()))];
    if let Some((last, _)) = matches.last().filter(|_| more) {
        let next = Asked { after: Some((last.kind.clone(), last.id.clone())), ..asked.clone() };
        let text = serde_json::to_string(&next).unwrap_or_default();
        let token = call.doors.seal.seal(&call.caller.client_id, &text);
        links.extend(token.map(|token| call.format.link("next", format!("{address}?_page={token}"))));
    }
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset" });
    if asked.after.is_none() && !more {
        bundle["total"] = json!(matches.len());
    }
    bundle["link"] = Value::Array(links);
    call.format.listing(bundle, &entries)
}
