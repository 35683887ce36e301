//! Authorised requests to one practice within one attempt, and what their failures mean.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Url};
use serde_json::Value;

use super::super::Outbound;
use super::super::wire::{Answer, Lost};
use super::{PracticeEndpoint, WriteBack};
use crate::pathway::delivery::{Verdict, Why};

/// Longest part of a practice's OperationOutcome that is kept.
const OUTCOME_LIMIT: usize = 2048;

const FHIR_JSON: &str = "application/fhir+json";

pub(super) struct Session<'a> {
    outbound: &'a Outbound,
    practice: &'a PracticeEndpoint,
    request_id: Option<HeaderValue>,
    base: Url,
    now: DateTime<Utc>,
    renewed: bool,
    /// Something was sent whose effect is not known yet.
    unclear: &'a AtomicBool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        outbound: &'a Outbound,
        job: &'a WriteBack,
        base: Url,
        unclear: &'a AtomicBool,
        now: DateTime<Utc>,
    ) -> Session<'a> {
        let request_id = HeaderValue::from_str(&job.request_id).ok();
        Session { outbound, practice: &job.endpoint, request_id, base, now, renewed: false, unclear }
    }

    /// The URL of a path below the practice's base.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        under(&self.base, path)
    }

    /// A URL below the base with one search parameter.
    pub(super) fn search_url(&self, kind: &str, name: &str, value: &str) -> Url {
        let mut url = self.url(&[kind]);
        url.query_pairs_mut().append_pair(name, value);
        url
    }

    /// GETs below the base.
    pub(super) async fn get(&mut self, url: Url) -> Result<Answer, Verdict> {
        self.read(&url, |client| client.get(url.clone())).await
    }

    /// POSTs a search, its parameters in the body.
    pub(super) async fn search(&mut self, kind: &str, parameters: &[(&str, &str)]) -> Result<Answer, Verdict> {
        let url = self.url(&[kind, "_search"]);
        self.read(&url, |client| client.post(url.clone()).form(parameters)).await
    }

    /// Sends what changes nothing. A kept connection may have been closed by the practice a moment ago: then at once
    /// again, on a new one.
    async fn read(
        &mut self,
        url: &Url,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Answer, Verdict> {
        let mut answer = self.call(url, &request).await;
        if matches!(answer, Err(Failed::Lost(Lost { why: Why::ConnectionLost, .. }))) {
            answer = self.call(url, &request).await;
        }
        answer.map_err(|failed| self.lost_reading(failed))
    }

    /// POSTs a Bundle to the base. From here the outcome is unclear until the practice has answered.
    pub(super) async fn transact(&mut self, bundle: Vec<u8>) -> Result<Answer, Verdict> {
        let url = self.base.clone();
        self.unclear.store(true, Ordering::Relaxed);
        let request = |client: &reqwest::Client| {
            let request = client.post(url.clone()).header(CONTENT_TYPE, FHIR_JSON);
            request.header("prefer", "return=minimal").body(bundle.clone())
        };
        let answer = self.call(&url, request).await;
        match answer {
            Ok(answer) => Ok(answer),
            Err(Failed::Verdict(verdict)) => {
                self.nothing_was_written();
                Err(verdict)
            }
            Err(Failed::Lost(lost)) if lost.sent => Err(Verdict::Unknown { why: lost.why }),
            Err(Failed::Lost(lost)) => {
                self.nothing_was_written();
                Err(self.lost_reading(Failed::Lost(lost)))
            }
        }
    }

    /// The practice said plainly that it did not write.
    pub(super) fn nothing_was_written(&self) {
        self.unclear.store(false, Ordering::Relaxed);
    }

    /// What an answer that is not a success means, where nothing more is to be done about it here.
    pub(super) fn refusal(&self, answer: &Answer) -> Verdict {
        let why = Why::Status(answer.status);
        match answer.status {
            // What is refused now says nothing about what was sent before.
            _ if self.unclear.load(Ordering::Relaxed) => Verdict::Unknown { why },
            // Not implemented now is not implemented later.
            501 => Verdict::Refused { why, outcome: outcome(answer) },
            408 | 425 | 429 | 500..=599 => self.retry(answer.retry_after(self.now), why),
            _ => Verdict::Refused { why, outcome: outcome(answer) },
        }
    }

    /// Trying again may help; unless something was sent, whose fate is then still unknown.
    pub(super) fn retry(&self, after: Option<std::time::Duration>, why: Why) -> Verdict {
        if self.unclear.load(Ordering::Relaxed) { Verdict::Unknown { why } } else { Verdict::Retry { after, why } }
    }

    fn lost_reading(&self, failed: Failed) -> Verdict {
        match failed {
            Failed::Verdict(verdict) => verdict,
            Failed::Lost(Lost { why: Why::AddressRefused, .. }) => {
                Verdict::Refused { why: Why::AddressRefused, outcome: None }
            }
            Failed::Lost(lost) => self.retry(None, lost.why),
        }
    }

    /// Sends with the practice's token; after a 401 once more with a new one.
    async fn call(
        &mut self,
        url: &Url,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Answer, Failed> {
        // The token is for this origin. Every URL here is built from the base; this holds if one day one is not.
        if url.origin() != self.base.origin() {
            return Err(Failed::Lost(Lost { why: Why::AddressRefused, sent: false }));
        }
        let (wire, tokens) = (&self.outbound.wire, &self.outbound.tokens);
        loop {
            let authorization = tokens.authorization(wire, self.practice, &self.base, self.now).await;
            let mut prepared = request(&wire.client).header(ACCEPT, FHIR_JSON);
            if let Some(header) = authorization.map_err(Failed::Verdict)? {
                prepared = prepared.header(AUTHORIZATION, header);
            }
            if let Some(id) = &self.request_id {
                prepared = prepared.header("x-request-id", id.clone());
            }
            let answer = wire.send(url, prepared).await.map_err(Failed::Lost)?;
            if answer.status != 401 || self.renewed {
                return Ok(answer);
            }
            self.renewed = true;
            tokens.forget(self.practice, &self.base);
        }
    }
}

enum Failed {
    Lost(Lost),
    Verdict(Verdict),
}

/// The URL of a path below a base, whether or not the base ends in a slash.
pub(in crate::outbound) fn under(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    // An https URL always has a path.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// What a practice's OperationOutcome says, less all that could be about a patient: severity, code and expression.
fn outcome(answer: &Answer) -> Option<String> {
    let body =
        answer.json().ok().filter(|b| b.get("resourceType").and_then(Value::as_str) == Some("OperationOutcome"))?;
    let issues = body.get("issue").and_then(Value::as_array)?;
    let mut said = String::new();
    for issue in issues {
        let code = |name: &str| issue.get(name).and_then(Value::as_str).filter(|c| is_code(c)).unwrap_or("?");
        let mut line = format!("{} {}", code("severity"), code("code"));
        let places = issue.get("expression").or_else(|| issue.get("location")).and_then(Value::as_array);
        for place in places.into_iter().flatten().filter_map(Value::as_str).filter(|p| is_place(p)) {
            line.push_str(" at ");
            line.push_str(place);
        }
        if said.len() + line.len() + 2 > OUTCOME_LIMIT {
            break;
        }
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(&line);
    }
    (!said.is_empty()).then_some(said)
}

fn is_code(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// An element path. Not a filter such as `where(value='…')`, nor digits enough for an identifier.
fn is_place(text: &str) -> bool {
    let fits = text.len() <= 200 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".[]_".contains(&b));
    fits && !text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4)
}
