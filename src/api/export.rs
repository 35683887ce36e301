//! Bulk export: `$export` of the system, of all people and of a Group, its status, its files
//! (<https://hl7.org/fhir/uv/bulkdata/STU2/export.html>).

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State as Extract};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::conditions::{lenient, prefers};
use super::error::Error;
use super::state::{Call, State};
use crate::auth::scope::Interaction;
use crate::fhir::when::start_of;
use crate::fhir::{Invalid, Issue, IssueCode, check};
use crate::workflow::export::{self, Level, Progress, Wanted};
use crate::workflow::{self, retrying};

const NDJSON: &str = "application/fhir+ndjson";
/// How long a caller should wait before it asks again, in seconds.
const ASK_AGAIN: &str = "2";

/// `GET /fhir/$export`.
pub(super) async fn system(Extract(doors): Extract<State>, call: Call) -> Result<Response, Error> {
    begin(&doors, &call, Level::System, "$export").await
}

/// `GET /fhir/Patient/$export`.
pub(super) async fn patient(Extract(doors): Extract<State>, call: Call) -> Result<Response, Error> {
    begin(&doors, &call, Level::Patient, "Patient/$export").await
}

/// `GET /fhir/Group/{id}/$export`.
pub(super) async fn group(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let path = format!("Group/{id}/$export");
    begin(&doors, &call, Level::Group(id), &path).await
}

async fn begin(doors: &State, call: &Call, level: Level, path: &str) -> Result<Response, Error> {
    if !prefers(call, "respond-async") {
        let text = "An export takes its time: send Prefer: respond-async, and ask the Content-Location of the answer.";
        return Err(Invalid::malformed(Issue::general(IssueCode::Required, text)).into());
    }
    let query = serde_urlencoded::to_string(&call.query).unwrap_or_default();
    let mark = if query.is_empty() { "" } else { "?" };
    let request = format!("{}/{path}{mark}{query}", doors.fhir_base());
    let (types, filters) = (types_of(call)?, filters(call));
    let wanted = Wanted { level, types, filters, since: since(call)?, request };
    let (store, house, actor) = (&doors.store, &doors.house, &call.actor);
    let id = retrying(|| export::begin(store, house, actor, call.now, &call.request_id, &wanted)).await?;
    let mut response = StatusCode::ACCEPTED.into_response();
    put(&mut response, header::CONTENT_LOCATION.as_str(), &format!("{}/$export-status/{id}", doors.fhir_base()));
    Ok(response)
}

/// The types that are asked for and may be read; every one that may be where none is named.
fn types_of(call: &Call) -> Result<Vec<String>, Error> {
    let refused =
        |name: &str, text: String| Error::from(Invalid::malformed(Issue::error(IssueCode::Value, name, text)));
    let mut wanted = Vec::new();
    for (name, value) in &call.query {
        match name.as_str() {
            "_type" => wanted.extend(value.split(',').filter(|t| !t.is_empty()).map(str::to_owned)),
            "_since" | "_typeFilter" | "_format" | "_pretty" => {}
            "_outputFormat" if matches!(value.as_str(), NDJSON | "application/ndjson" | "ndjson") => {}
            "_outputFormat" => return Err(refused(name, format!("Files are {NDJSON} here."))),
            _ if lenient(call) => {}
            _ => {
                let text = "Export takes _type, _typeFilter, _since and _outputFormat here. Send Prefer: handling=lenient to pass over \
                            others.";
                return Err(refused(name, text.to_owned()));
            }
        }
    }
    if wanted.is_empty() {
        let all = call.doors.types.all().filter(|kind| call.may(kind, Interaction::Read).is_ok());
        let all: Vec<String> = all.map(str::to_owned).collect();
        if all.is_empty() {
            call.may("*", Interaction::Read)?;
        }
        return Ok(all);
    }
    for kind in &wanted {
        if !call.doors.types.all().any(|served| served == kind) {
            return Err(refused("_type", "_type names a resource type that is not served here.".to_owned()));
        }
        call.may(kind, Interaction::Read)?;
    }
    wanted.sort();
    wanted.dedup();
    Ok(wanted)
}

/// The searches of `_typeFilter`, parted by commas: one that a new search does not follow is in a value.
fn filters(call: &Call) -> Vec<String> {
    let mut filters: Vec<String> = Vec::new();
    for (_, value) in call.query.iter().filter(|(name, _)| name == "_typeFilter") {
        for (at, part) in value.split(',').enumerate() {
            let begins = part.split_once('?').is_some_and(|(kind, _)| check::is_resource_type(kind));
            match filters.last_mut().filter(|_| at > 0 && !begins) {
                Some(last) => last.extend([",", part]),
                None => filters.push(part.to_owned()),
            }
        }
    }
    filters
}

fn since(call: &Call) -> Result<Option<chrono::DateTime<chrono::Utc>>, Error> {
    let Some((_, said)) = call.query.iter().find(|(name, _)| name == "_since") else { return Ok(None) };
    match start_of(said).filter(|_| said.contains('T')) {
        Some(since) => Ok(Some(since)),
        None => {
            let text = "_since is a FHIR instant, for example the transactionTime of the export before.";
            Err(Invalid::malformed(Issue::error(IssueCode::Value, "_since", text)).into())
        }
    }
}

/// `GET /fhir/$export-status/{id}`.
pub(super) async fn status(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    match export::progress(&doors.store, &call.actor, call.now, &id).await? {
        Progress::TooSoon => {
            let text = "An export's status is asked once a second at most. Wait as Retry-After says.";
            let outcome = crate::fhir::outcome::operation_outcome(&[Issue::general(IssueCode::Throttled, text)]);
            let mut response = call.format.value(StatusCode::TOO_MANY_REQUESTS, &outcome);
            put(&mut response, header::RETRY_AFTER.as_str(), ASK_AGAIN);
            Ok(response)
        }
        Progress::Working(said) => {
            let mut response = StatusCode::ACCEPTED.into_response();
            put(&mut response, "x-progress", &said);
            put(&mut response, header::RETRY_AFTER.as_str(), ASK_AGAIN);
            Ok(response)
        }
        Progress::Done(manifest) => {
            let file = |name: &str| format!("{}/$export-file/{id}/{name}.ndjson", doors.fhir_base());
            let said = export::manifest(&manifest, file);
            let mut response = ([(header::CONTENT_TYPE, "application/json")], said.to_string()).into_response();
            let expires = manifest.expires_at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            put(&mut response, header::EXPIRES.as_str(), &expires);
            Ok(response)
        }
    }
}

/// `DELETE /fhir/$export-status/{id}`.
pub(super) async fn cancel(
    Extract(doors): Extract<State>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, Error> {
    let (store, house, actor) = (&doors.store, &doors.house, &call.actor);
    retrying(|| export::cancel(store, house, actor, call.now, &call.request_id, &id)).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// `GET /fhir/$export-file/{id}/{type}.ndjson`: sent part by part as it is read, whatever its size.
pub(super) async fn file(
    Extract(doors): Extract<State>,
    Path((id, file)): Path<(String, String)>,
    call: Call,
) -> Result<Response, Error> {
    let name = file.strip_suffix(".ndjson").ok_or(workflow::Error::NotFound)?;
    let kind = name.strip_suffix(export::DELETED).unwrap_or(name);
    call.may(kind, Interaction::Read)?;
    let (store, house, actor) = (&doors.store, &doors.house, &call.actor);
    let mut parts = export::open(store, house, actor, call.now, &call.request_id, (&id, name)).await?;
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            match parts.next().await {
                Ok(Some(lines)) => {
                    if send.send(Ok(Bytes::from(lines))).await.is_err() {
                        // Who read it has gone.
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(error = %error, "an export's file could not be read to its end");
                    let _ = send.send(Err(())).await;
                    return;
                }
            }
        }
    });
    let mut response = Response::new(Body::new(Parts(receive)));
    put(&mut response, header::CONTENT_TYPE.as_str(), NDJSON);
    Ok(response)
}

/// A body of parts that another task reads.
struct Parts(mpsc::Receiver<Result<Bytes, ()>>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|part| {
            part.map(|part| match part {
                Ok(lines) => Ok(Frame::data(lines)),
                // The connection is cut: a file that ends early must not pass for a whole one.
                Err(()) => Err(std::io::Error::other("the file could not be read to its end")),
            })
        })
    }
}

fn put(response: &mut Response, name: &'static str, value: &str) {
    let made: Result<HeaderValue, _> = HeaderValue::from_str(value);
    if let Ok(value) = made {
        response.headers_mut().insert(name, value);
    }
}
