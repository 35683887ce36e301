//! An entry of a Bundle, read as the request that it is.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::conditions::{only_if_absent, tags};
use super::super::error::Error;
use super::super::inner;
use super::super::state::Call;
use super::super::types::served;
use super::super::write::{checked_by, steps, whole};
use super::{conditions, refused};
use crate::auth::scope::Interaction;
use crate::fhir::{Invalid, Issue, IssueCode, Resource, check, path};
use crate::workflow::{Ask, Entry, conditional};

/// What the url of an entry means.
enum Target {
    Type(String),
    Instance(String, String),
    Criteria(String, String),
    /// A version, a history, an operation.
    Other(String),
}

/// The entry of a transaction as the acts take it, if the caller may do what it asks.
pub(super) fn of_transaction(call: &Call, at: usize, entry: &Value) -> Result<Entry, Error> {
    let place = format!("Bundle.entry[{at}]");
    let method = method(entry)?;
    let target = target(&url(call, &method, entry)?)?;
    let (kind, id, criteria) = match target {
        Target::Type(kind) => (kind, None, None),
        Target::Instance(kind, id) => (kind, Some(id), None),
        Target::Criteria(kind, criteria) => (kind, None, Some(criteria)),
        Target::Other(kind) if method == Method::GET => (kind, None, None),
        Target::Other(_) => {
            return Err(unsupported(
                "Bundle.entry.request.url",
                "Operations are not taken in a transaction. Call it by itself.",
            ));
        }
    };
    if method == Method::GET {
        // What it needs is asked for by the door that reads it.
        let ask = Ask::Read;
        let mut read = blank(call, kind, ask, place)?;
        read.id = id;
        if let Some(id) = &read.id {
            served(&read.kind)?;
            call.may(&read.kind, Interaction::Read)?;
            check_id(id)?;
        }
        return Ok(read);
    }
    if served(&kind).is_err() {
        let text =
            "This type is not kept here as a resource of its own. Leave the entry out; /fhir/metadata lists what is.";
        return Err(unsupported("Bundle.entry.resource", text));
    }
    let ask = ask(call, &method, entry)?;
    let interaction = match &ask {
        Ask::Create(_) => Interaction::Create,
        Ask::Update(_) | Ask::Patch(_) => Interaction::Update,
        Ask::Delete => Interaction::Delete,
        Ask::Read => Interaction::Read,
    };
    call.may(&kind, interaction)?;
    if criteria.is_some() {
        call.may(&kind, Interaction::Search)?;
    }
    let mut asked = blank(call, kind, ask, place)?;
    asked.full_url = path::text(entry, "fullUrl").unwrap_or_default().to_owned();
    asked.if_match = path::text(entry, "request.ifMatch").map(|text| tags("request.ifMatch", text)).transpose()?;
    let absent = path::text(entry, "request.ifNoneMatch").map(|text| tags("request.ifNoneMatch", text)).transpose()?;
    asked.if_none_match = only_if_absent(absent.as_ref())?;
    let if_none_exist = path::text(entry, "request.ifNoneExist").map(str::to_owned);
    match (&asked.ask, &id, &criteria) {
        (Ask::Create(_), None, None) => asked.criteria = if_none_exist,
        (Ask::Create(_), ..) | (_, None, None) => {
            return Err(refused(
                IssueCode::Value,
                "Bundle.entry.request.url",
                "POST goes to Type; PUT, PATCH and DELETE go to Type/id, or to Type?criteria.",
            ));
        }
        _ => (asked.id, asked.criteria) = (id, criteria),
    }
    if let Some(resource) = asked.resource() {
        matches_url(&asked, resource)?;
        for (_, kind, ..) in conditional(resource) {
            call.may(&kind, Interaction::Search)?;
        }
    }
    Ok(asked)
}

fn blank(call: &Call, kind: String, ask: Ask, place: String) -> Result<Entry, Error> {
    Ok(Entry {
        full_url: String::new(),
        id: None,
        criteria: None,
        if_match: None,
        if_none_match: false,
        may_create: call.may(&kind, Interaction::Create).is_ok(),
        kind,
        ask,
        expression: format!("{place}.resource"),
    })
}

/// Refuses a resource that is not what its url says.
fn matches_url(asked: &Entry, resource: &Resource) -> Result<(), Error> {
    let place = asked.expression.strip_suffix(".resource").unwrap_or_default();
    if resource.kind() != asked.kind {
        let text =
            format!("The url of this entry is {kind} to create, or {kind}/id to update.", kind = resource.kind());
        return Err(refused(IssueCode::Value, format!("{place}.request.url"), text));
    }
    if let (Ask::Update(_), Some(id)) = (&asked.ask, &asked.id)
        && resource.id() != Some(id)
    {
        let text = "PUT goes to Type/id with the id that the resource has.";
        return Err(refused(IssueCode::Value, format!("{place}.request.url"), text));
    }
    match asked.ask {
        Ask::Update(_) => whole(resource, &asked.expression),
        _ => Ok(()),
    }
}

/// What the method asks for, with what it carries.
fn ask(call: &Call, method: &Method, entry: &Value) -> Result<Ask, Error> {
    let carried = || {
        let resource = entry.get("resource").cloned().ok_or_else(|| {
            let text = format!("A {method} carries its resource. Send it.");
            refused(IssueCode::Required, "Bundle.entry.resource", text)
        })?;
        Ok::<_, Error>(Resource::from_value(resource)?)
    };
    Ok(match method.as_str() {
        "POST" => Ask::Create(carried()?),
        "PUT" => Ask::Update(carried()?),
        "PATCH" => {
            let (headers, body) = patch_of(&carried()?)?;
            checked_by(call, steps(call, &headers, &body)?)
        }
        "DELETE" => Ask::Delete,
        _ => Ask::Read,
    })
}

/// The request that an entry is by itself.
pub(super) fn inner(call: &Call, entry: &Value) -> Result<inner::Ask, Error> {
    let method = method(entry)?;
    let mut headers = conditions(entry)?;
    let mut body = Vec::new();
    if let Some(resource) = entry.get("resource") {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/fhir+json"));
        body = resource.to_string().into_bytes();
        if method == Method::PATCH
            && let Ok(resource) = Resource::from_value(resource.clone())
        {
            let (patch, steps) = patch_of(&resource)?;
            headers.extend(patch);
            body = steps;
        }
    }
    let url = url(call, &method, entry)?;
    Ok(inner::Ask { method, url, headers, body })
}

/// The body of a PATCH, as a Bundle carries it: a JSON Patch in a Binary, a FHIRPath Patch as it is.
fn patch_of(resource: &Resource) -> Result<(HeaderMap, Vec<u8>), Error> {
    let mut headers = HeaderMap::new();
    let (media, body) = match resource.kind() {
        "Binary" => {
            let data = STANDARD.decode(resource.text("data").unwrap_or_default()).map_err(|_| {
                refused(IssueCode::Value, "Bundle.entry.resource.data", "The data of a Binary is base64.")
            })?;
            (resource.text("contentType").unwrap_or_default().to_owned(), data)
        }
        _ => ("application/fhir+json".to_owned(), resource.value().to_string().into_bytes()),
    };
    if let Ok(media) = HeaderValue::from_str(&media) {
        headers.insert(header::CONTENT_TYPE, media);
    }
    Ok((headers, body))
}

fn method(entry: &Value) -> Result<Method, Error> {
    match path::text(entry, "request.method") {
        Some("GET" | "HEAD") => Ok(Method::GET),
        Some("POST") => Ok(Method::POST),
        Some("PUT") => Ok(Method::PUT),
        Some("PATCH") => Ok(Method::PATCH),
        Some("DELETE") => Ok(Method::DELETE),
        _ => Err(refused(IssueCode::Required, "Bundle.entry.request", "Each entry says its request: method and url.")),
    }
}

/// The url of an entry below the base. One that is not below it (`/Type`, another server's) leads nowhere, or elsewhere than
/// its sender means. A search of all types is `?criteria`.
fn url(call: &Call, method: &Method, entry: &Value) -> Result<String, Error> {
    let url = path::text(entry, "request.url").unwrap_or_default();
    let base = call.doors.fhir_base();
    let rest = url.strip_prefix(&base).filter(|rest| rest.starts_with(['/', '?']));
    let below = rest.map_or(url, |rest| rest.strip_prefix('/').unwrap_or(rest));
    if below.is_empty() {
        let text = "Each entry says its request: method and url.";
        return Err(refused(IssueCode::Required, "Bundle.entry.request.url", text));
    }
    let first = below.split(['/', '?']).next().unwrap_or_default();
    let is_type = first.starts_with(|c: char| c.is_ascii_uppercase()) && first.bytes().all(|b| b.is_ascii_alphabetic());
    let searches_all = below.starts_with('?') && method == Method::GET;
    match is_type || searches_all || first.starts_with(['$', '_']) || first == "metadata" {
        true => Ok(below.to_owned()),
        false => Err(no_url()),
    }
}

fn no_url() -> Error {
    let text = "The url of an entry is Type, Type/id or Type?criteria, without a leading / and without another server's \
                address.";
    refused(IssueCode::Value, "Bundle.entry.request.url", text)
}

fn target(url: &str) -> Result<Target, Error> {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let parts: Vec<&str> = path.split('/').collect();
    match (parts.as_slice(), query) {
        ([kind], None) if check::is_resource_type(kind) => Ok(Target::Type((*kind).to_owned())),
        ([kind], Some(query)) if check::is_resource_type(kind) => {
            Ok(Target::Criteria((*kind).to_owned(), query.to_owned()))
        }
        ([kind, id], None) if check::is_resource_type(kind) && !id.starts_with(['$', '_']) => {
            Ok(Target::Instance((*kind).to_owned(), (*id).to_owned()))
        }
        ([kind, ..], _) => Ok(Target::Other((*kind).to_owned())),
        _ => Err(no_url()),
    }
}

/// Refuses what no id holds, and PostgreSQL does not look for.
fn check_id(id: &str) -> Result<(), Error> {
    match id.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(refused(IssueCode::Value, "Bundle.entry.request.url", "No resource has such an id.")),
    }
}

fn unsupported(expression: &str, text: &str) -> Error {
    Invalid::unprocessable(Issue::error(IssueCode::NotSupported, expression, text)).into()
}
