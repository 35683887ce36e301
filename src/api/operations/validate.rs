//! `$validate`: would this be taken, and if not, why (<https://hl7.org/fhir/R4/resource-operation-validate.html>).

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::VALIDATE;
use super::inputs::Inputs;
use crate::api::error::Error;
use crate::api::format::parse;
use crate::api::resources::disclose;
use crate::api::state::Call;
use crate::api::types::served;
use crate::auth::scope::Interaction;
use crate::fhir::etag::Tags;
use crate::fhir::outcome::operation_outcome;
use crate::fhir::{Issue, IssueCode, Resource, Severity, check};
use crate::workflow::{self, Ask, Entry, Submission, rehearse};

/// `POST /fhir/{type}/$validate`.
pub(in crate::api) async fn validate(Path(kind): Path<String>, call: Call, body: Bytes) -> Result<Response, Error> {
    validated(&call, &kind, None, &body).await
}

/// `GET` or `POST /fhir/{type}/{id}/$validate`.
pub(in crate::api) async fn validate_one(
    Path((kind, id)): Path<(String, String)>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    validated(&call, &kind, Some(&id), &body).await
}

/// What for a resource is validated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As content, by no act.
    Content,
    Create,
    Update,
    Delete,
    Profile,
}

impl Mode {
    fn read(inputs: &Inputs) -> Result<Option<Mode>, Error> {
        Ok(Some(match inputs.text("mode")? {
            None => Mode::Content,
            Some("create") => Mode::Create,
            Some("update") => Mode::Update,
            Some("delete") => Mode::Delete,
            Some("profile") => Mode::Profile,
            Some(_) => return Ok(None),
        }))
    }
}

/// What is to be validated.
struct Asked {
    /// Absent: the stored resource.
    resource: Option<Resource>,
    /// Absent: one that R4 does not know.
    mode: Option<Mode>,
    profiles: Vec<String>,
}

impl Asked {
    /// A resource alone is the body; with mode or profile beside it, it is in a Parameters resource or they in the URL.
    fn read(call: &Call, body: &[u8]) -> Result<Asked, Error> {
        let mut inputs = Inputs::of_query(call, &VALIDATE)?;
        let mut resource = None;
        if !body.is_empty() {
            let sent = parse(call, body)?;
            let parameters = sent.all("parameter");
            let named = |p: &&Value| matches!(p["name"].as_str(), Some("resource" | "mode" | "profile"));
            if sent.kind() == "Parameters" && parameters.iter().any(named) {
                inputs.add(call, &VALIDATE, sent.value())?;
                let inner = inputs.resource("resource")?.cloned();
                resource = inner.map(Resource::from_value).transpose()?;
            } else {
                resource = Some(sent);
            }
        }
        let profiles = inputs.texts("profile")?.into_iter().map(str::to_owned).collect();
        Ok(Asked { resource, mode: Mode::read(&inputs)?, profiles })
    }
}

async fn validated(call: &Call, kind: &str, id: Option<&str>, body: &[u8]) -> Result<Response, Error> {
    if !check::is_resource_type(kind) {
        return Err(workflow::Error::NotFound.into());
    }
    let asked = Asked::read(call, body)?;
    allowed(call, kind, id, asked.resource.as_ref())?;
    let stored = match id {
        Some(id) => Some(stored(call, kind, id).await?),
        None => None,
    };
    let mut issues = Vec::new();
    match (asked.mode, asked.resource.as_ref().or(stored.as_ref())) {
        (None, _) => issues.push(wrong("mode is create, update, delete or profile.")),
        (Some(Mode::Delete), _) if id.is_none() => issues.push(wrong("To delete is validated at Type/id/$validate.")),
        (Some(Mode::Create), _) if id.is_some() => issues.push(wrong("To create is validated at Type/$validate.")),
        (Some(Mode::Delete), _) => issues = rehearsed(call, kind, id.map(str::to_owned), None, Ask::Delete).await?,
        (Some(Mode::Profile), _) if asked.profiles.is_empty() => {
            issues.push(wrong("The mode profile needs the parameter profile, a canonical."));
        }
        (Some(_), None) => issues.push(wrong("There is nothing to validate. Send a resource.")),
        (Some(mode), Some(resource)) => {
            issues = content(call, kind, resource, &asked.profiles);
            let sound = !issues.iter().any(|issue| issue.severity == Severity::Error);
            if sound && matches!(mode, Mode::Create | Mode::Update) {
                issues.extend(would_be_refused(call, mode, id, resource).await?);
            }
        }
    }
    if issues.is_empty() {
        let said = Issue::general(IssueCode::Informational, "Nothing wrong was found.");
        issues.push(Issue { severity: Severity::Information, ..said });
    }
    Ok(call.format.value(StatusCode::OK, &operation_outcome(&issues)))
}

/// Whoever may do something with the type may ask whether a resource of it is right; for a Bundle, with each type in it.
fn allowed(call: &Call, kind: &str, id: Option<&str>, resource: Option<&Resource>) -> Result<(), Error> {
    if id.is_some() {
        return call.may(kind, Interaction::Read);
    }
    let some = |kind: &str| {
        let others = [Interaction::Create, Interaction::Update, Interaction::Search];
        let denied = call.may(kind, Interaction::Read);
        if others.into_iter().any(|other| call.may(kind, other).is_ok()) { Ok(()) } else { denied }
    };
    match resource.filter(|resource| resource.kind() == "Bundle") {
        None => some(kind),
        Some(bundle) => {
            let kinds = bundle.all("entry.resource.resourceType");
            kinds.into_iter().filter_map(Value::as_str).try_for_each(some)
        }
    }
}

async fn stored(call: &Call, kind: &str, id: &str) -> Result<Resource, Error> {
    served(kind)?;
    let mut tx = call.doors.store.read().await?;
    let stored = tx.resource(kind, id, &call.actor.sight).await?.ok_or(workflow::Error::NotFound)?;
    drop(tx);
    disclose(call, "$validate", &format!("{kind}/{id}"), &stored.person).await?;
    if stored.deleted {
        return Err(workflow::Error::Gone.into());
    }
    Ok(stored.resource()?)
}

/// What a resource breaks of base R4, and of its profiles and those that are asked for.
fn content(call: &Call, kind: &str, resource: &Resource, profiles: &[String]) -> Vec<Issue> {
    let (max, checks) = (call.doors.limits.issues, &call.doors.profiles);
    if resource.kind() != kind {
        let text = format!("The URL says {kind} and the body another type. Send the resource to the URL of its type.");
        return vec![Issue::error(IssueCode::Invalid, "resourceType", text)];
    }
    let mut issues = check::check(resource, max);
    for profile in profiles.iter().filter(|profile| !checks.known.knows(profile)) {
        let place = super::inputs::place("profile");
        let shown = if profile.len() <= 200 { profile.as_str() } else { "one that is named" };
        let text = format!("This profile is not held here, so nothing was checked against it: {shown}.");
        issues.push(Issue::error(IssueCode::NotFound, place, text));
    }
    let also: Vec<&str> = profiles.iter().map(String::as_str).collect();
    issues.extend(checks.broken_by(resource, &also, max.saturating_sub(issues.len())));
    issues
}

/// Why the act of this mode would be refused.
async fn would_be_refused(call: &Call, mode: Mode, id: Option<&str>, resource: &Resource) -> Result<Vec<Issue>, Error> {
    if served(resource.kind()).is_err() {
        return Ok(Vec::new());
    }
    let mut resource = resource.clone();
    match mode {
        Mode::Update => {
            let Some(sent) = resource.id().map(str::to_owned) else {
                return Ok(vec![Issue::error(
                    IssueCode::Required,
                    format!("{}.id", resource.kind()),
                    "An update names the id.",
                )]);
            };
            if id.is_some_and(|id| id != sent) {
                let place = format!("{}.id", resource.kind());
                return Ok(vec![Issue::error(IssueCode::Value, place, "The id in the body is that of the URL.")]);
            }
            let mut tx = call.doors.store.read().await?;
            let current = tx.resource(resource.kind(), &sent, &call.actor.sight).await?;
            let if_match = current.map(|current| Tags::Versions(vec![current.version]));
            let kind = resource.kind().to_owned();
            rehearsed(call, &kind, Some(sent), if_match, Ask::Update(resource)).await
        }
        _ => {
            resource.map_mut().shift_remove("id");
            let kind = resource.kind().to_owned();
            rehearsed(call, &kind, None, None, Ask::Create(resource)).await
        }
    }
}

/// Why an act would be refused: it is done, and not kept.
async fn rehearsed(
    call: &Call,
    kind: &str,
    id: Option<String>,
    if_match: Option<Tags>,
    ask: Ask,
) -> Result<Vec<Issue>, Error> {
    let entry = Entry {
        full_url: String::new(),
        kind: kind.to_owned(),
        id,
        criteria: None,
        if_match,
        if_none_match: false,
        may_create: call.may(kind, Interaction::Create).is_ok(),
        ask,
        expression: kind.to_owned(),
    };
    let submission = Submission { entries: vec![entry], bundle: false, key: None };
    let doors = &call.doors;
    match rehearse(&doors.store, &doors.house, &call.actor, call.now, &call.request_id, &submission).await {
        Ok(()) => Ok(Vec::new()),
        Err(why) => {
            let why = Error::from(why);
            why.refusal().ok_or(why)
        }
    }
}

fn wrong(text: &str) -> Issue {
    Issue::error(IssueCode::Invalid, "Parameters.parameter", text)
}
