//! Authorised requests to one practice within one attempt, and what their failures mean.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Url};

use super::super::wire::{Answer, Lost};
use super::super::{Lease, Outbound};
use super::{PracticeEndpoint, WriteBack};
use crate::pathway::delivery::{Verdict, Why, redacted};

const FHIR_JSON: &str = "application/fhir+json";

pub(super) struct Session<'a> {
    outbound: &'a Outbound,
    practice: &'a PracticeEndpoint,
    request_id: Option<HeaderValue>,
    lease: &'a Lease,
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
        Session { outbound, practice: &job.endpoint, request_id, lease: &job.lease, base, now, renewed: false, unclear }
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

    /// POSTs a Bundle to the base.
    pub(super) async fn transact(&mut self, bundle: Vec<u8>) -> Result<Answer, Verdict> {
        if !self.lease.is_held() {
            // Someone else may be sending it.
            return Err(self.retry(None, Why::LeaseLost));
        }
        let url = self.base.clone();
        self.write(&url, bundle, |client| client.post(url.clone())).await
    }

    /// POSTs a resource, where none is there that meets the condition.
    pub(super) async fn create(
        &mut self,
        kind: &str,
        resource: Vec<u8>,
        if_none_exist: Option<&str>,
    ) -> Result<Answer, Verdict> {
        let url = self.url(&[kind]);
        self.write(&url, resource, |client| {
            let request = client.post(url.clone());
            if_none_exist.into_iter().fold(request, |request, condition| request.header("if-none-exist", condition))
        })
        .await
    }

    /// PUTs a resource, where it is still of this version.
    pub(super) async fn update(
        &mut self,
        kind: &str,
        id: &str,
        resource: Vec<u8>,
        version: Option<&str>,
    ) -> Result<Answer, Verdict> {
        let url = self.url(&[kind, id]);
        self.write(&url, resource, |client| {
            let request = client.put(url.clone());
            version.into_iter().fold(request, |request, v| request.header("if-match", format!("W/\"{v}\"")))
        })
        .await
    }

    /// Sends what changes something. From here the outcome is unclear until the practice has answered.
    async fn write(
        &mut self,
        url: &Url,
        body: Vec<u8>,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Answer, Verdict> {
        self.unclear.store(true, Ordering::Relaxed);
        let request = |client: &reqwest::Client| {
            let request = request(client).header(CONTENT_TYPE, FHIR_JSON);
            request.header("prefer", "return=minimal").body(body.clone())
        };
        let answer = self.call(url, request).await;
        match answer {
            Ok(answer) => Ok(answer),
            Err(Failed::Verdict(verdict)) => {
                self.nothing_is_unclear();
                Err(verdict)
            }
            Err(Failed::Lost(lost)) if lost.sent => Err(Verdict::Unknown { why: lost.why }),
            Err(Failed::Lost(lost)) => {
                self.nothing_is_unclear();
                Err(self.lost_reading(Failed::Lost(lost)))
            }
        }
    }

    /// The practice said plainly what it did.
    pub(super) fn nothing_is_unclear(&self) {
        self.unclear.store(false, Ordering::Relaxed);
    }

    /// What an answer that is not a success means, where nothing more is to be done about it here.
    pub(super) fn refusal(&self, answer: &Answer) -> Verdict {
        let why = Why::Status(answer.status);
        match answer.status {
            // What is refused now says nothing about what was sent before.
            _ if self.unclear.load(Ordering::Relaxed) => Verdict::Unknown { why },
            _ if answer.may_pass() => self.retry(answer.retry_after(self.now), why),
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

/// What a practice's OperationOutcome says, less all that could be about a patient.
fn outcome(answer: &Answer) -> Option<String> {
    redacted(&answer.json().ok()?)
}
