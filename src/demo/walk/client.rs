//! A caller of the service over HTTP: signs in with a signed assertion, sends FHIR, reads answers.

use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::demo::cast::DemoClient;
use crate::fhir::path;
use crate::time::Clock;

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{method} {url} got no answer: {why}")]
    NoAnswer { method: Method, url: String, why: String },
    #[error("{method} {url} answered {status}: {said}")]
    Refused { method: Method, url: String, status: StatusCode, said: String },
    /// It answered, but not what the contract promises.
    #[error("{0}")]
    Unexpected(String),
}

/// Short for a [`Fault::Unexpected`].
pub(super) fn unexpected(what: impl Into<String>) -> Fault {
    Fault::Unexpected(what.into())
}

/// An answer of 2xx.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The ETag, to send back as If-Match.
    pub(super) etag: Option<String>,
    pub(super) location: Option<String>,
    /// Null when there was none.
    pub(super) body: Value,
}

/// A signed-in caller of one FHIR base.
#[derive(Clone, Debug)]
pub(in crate::demo) struct Caller {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Caller {
    /// A caller who has a token already.
    pub(super) fn with_token(http: &reqwest::Client, base: &str, token: &str) -> Caller {
        Caller { http: http.clone(), base: base.to_owned(), token: token.to_owned() }
    }

    /// Finds the token endpoint of a FHIR base and signs in there (SMART Backend Services). Answers also how many
    /// seconds the token lasts.
    pub(in crate::demo) async fn sign_in(
        http: &reqwest::Client,
        base: &str,
        client: &DemoClient,
    ) -> Result<(Caller, u64), Fault> {
        let smart = format!("{base}/.well-known/smart-configuration");
        let found = received(Method::GET, &smart, http.get(&smart)).await?.body;
        let endpoint = path::text(&found, "token_endpoint").ok_or_else(|| unexpected("no token_endpoint is named"))?;
        let assertion = client.key.assertion(&client.id, endpoint, Clock::System.now());
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
            ("scope", client.scope.as_str()),
        ];
        let token = received(Method::POST, endpoint, http.post(endpoint).form(&form)).await?.body;
        let bearer = path::text(&token, "access_token").ok_or_else(|| unexpected("the answer has no access_token"))?;
        let seconds = token["expires_in"].as_u64().ok_or_else(|| unexpected("the token does not say how long"))?;
        Ok((Caller::with_token(http, base, bearer), seconds))
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The address of something below the base.
    pub(super) fn link(&self, below: &str) -> String {
        format!("{}/{below}", self.base)
    }

    pub(super) async fn get(&self, below: &str) -> Result<Answer, Fault> {
        let url = self.link(below);
        received(Method::GET, &url, self.http.get(&url).bearer_auth(&self.token)).await
    }

    /// The resources that a search finds.
    pub(in crate::demo) async fn search(&self, kind: &str, parameters: &[(&str, &str)]) -> Result<Vec<Value>, Fault> {
        let mut url =
            reqwest::Url::parse(&self.link(kind)).map_err(|e| unexpected(format!("the base is no URL: {e}")))?;
        url.query_pairs_mut().extend_pairs(parameters);
        let shown = url.to_string();
        let found = received(Method::GET, &shown, self.http.get(url).bearer_auth(&self.token)).await?.body;
        let is_match = |entry: &&Value| path::text(entry, "search.mode").is_none_or(|mode| mode == "match");
        let entries = found.get("entry").and_then(Value::as_array).into_iter().flatten().filter(is_match);
        Ok(entries.filter_map(|entry| entry.get("resource").cloned()).collect())
    }

    /// POSTs below the base (the empty path is the base itself); `if_match` where a version is changed.
    pub(super) async fn post(&self, below: &str, body: &Value, if_match: Option<&str>) -> Result<Answer, Fault> {
        let url = if below.is_empty() { self.base.clone() } else { self.link(below) };
        let mut request = self.http.post(&url).bearer_auth(&self.token).body(body.to_string());
        request = request.header(header::CONTENT_TYPE, "application/fhir+json");
        if let Some(etag) = if_match {
            request = request.header(header::IF_MATCH, etag);
        }
        received(Method::POST, &url, request).await
    }

    /// POSTs a transaction and answers the reference (`Type/id`) that each entry got, in order.
    pub(in crate::demo) async fn transact(&self, entries: Vec<Value>) -> Result<Vec<Made>, Fault> {
        let count = entries.len();
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries });
        let answer = self.post("", &bundle, None).await?.body;
        let made: Vec<Made> = path::all(&answer, "entry.response").into_iter().filter_map(made).collect();
        if made.len() == count {
            Ok(made)
        } else {
            Err(unexpected(format!("{count} entries were sent and {} were answered with a location", made.len())))
        }
    }
}

/// One entry of a transaction-response.
#[derive(Debug)]
pub(in crate::demo) struct Made {
    /// `201 Created`.
    pub(super) status: String,
    /// `ServiceRequest/123`.
    pub(super) reference: String,
    pub(super) etag: Option<String>,
}

fn made(response: &Value) -> Option<Made> {
    Some(Made {
        status: path::text(response, "status")?.to_owned(),
        reference: reference_in(path::text(response, "location")?)?,
        etag: path::text(response, "etag").map(str::to_owned),
    })
}

/// `Type/id` out of a Location, absolute or not, with or without a version.
pub(super) fn reference_in(location: &str) -> Option<String> {
    let unversioned = location.split("/_history/").next()?;
    let mut from_end = unversioned.rsplit('/');
    let (id, kind) = (from_end.next()?, from_end.next()?);
    Some(format!("{kind}/{id}"))
}

async fn received(method: Method, url: &str, request: reqwest::RequestBuilder) -> Result<Answer, Fault> {
    let lost = |e: reqwest::Error| Fault::NoAnswer {
        method: method.clone(),
        url: url.to_owned(),
        why: innermost(&e.without_url()),
    };
    let request = request.header(header::ACCEPT, "application/fhir+json, application/json;q=0.9");
    let response = request.send().await.map_err(lost)?;
    let status = response.status();
    let said = |r: &Response, name: header::HeaderName| {
        r.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (etag, location) = (said(&response, header::ETAG), said(&response, header::LOCATION));
    let bytes = response.bytes().await.map_err(lost)?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if !status.is_success() {
        return Err(Fault::Refused { method, url: url.to_owned(), status, said: reason(&body) });
    }
    Ok(Answer { status, etag, location, body })
}

/// What an OperationOutcome or an OAuth error says, each issue with its element.
fn reason(body: &Value) -> String {
    let issues = path::all(body, "issue").into_iter().map(|issue| {
        let text = path::text(issue, "details.text").or_else(|| path::text(issue, "diagnostics"));
        let text = text.or_else(|| path::text(issue, "code")).unwrap_or("no reason");
        match path::text(issue, "expression") {
            Some(element) => format!("{element}: {text}"),
            None => text.to_owned(),
        }
    });
    let issues = issues.collect::<Vec<String>>().join("; ");
    if !issues.is_empty() {
        return issues;
    }
    let oauth = path::text(body, "error_description").or_else(|| path::text(body, "error"));
    oauth.unwrap_or("without a reason").to_owned()
}

/// The deepest cause: `Connection refused` says more than `error sending request`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
