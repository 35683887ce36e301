//! A client of the service, as an integrator writes one: a token by signed assertion, then FHIR over HTTP.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use livewell::demo::keys::DemoKey;
use livewell::time::Clock;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// What SMART calls an assertion that is a signed JWT.
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An access token, and until when it is used.
pub(crate) type Token = (String, DateTime<Utc>);

/// A registered client. It signs in when it first asks, and again when its token has run out.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Client id.
    pub(crate) id: String,
    /// What it asks the token endpoint for.
    pub(crate) scope: String,
    pub(crate) key: Arc<DemoKey>,
    pub(super) http: reqwest::Client,
    pub(super) base: String,
    pub(super) clock: Clock,
    pub(super) token: Arc<Mutex<Option<Token>>>,
    pub(super) headers: BTreeMap<String, String>,
}

/// A request that is not sent yet: await it.
pub(crate) struct Ask {
    caller: Caller,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// What came back. `body` is null where it is not JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
    asked: String,
}

impl Caller {
    /// `http://127.0.0.1:port`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, path: impl Into<String>) -> Ask {
        self.send(Method::GET, path)
    }

    pub(crate) fn post(&self, path: impl Into<String>, body: &Value) -> Ask {
        self.send(Method::POST, path).json(body)
    }

    pub(crate) fn put(&self, path: impl Into<String>, body: &Value) -> Ask {
        self.send(Method::PUT, path).json(body)
    }

    /// Any request. `path` is below `/fhir` (`Task?status=requested`; '' is `/fhir` itself), from the origin where it
    /// begins with `/`, or a whole URL.
    pub(crate) fn send(&self, method: Method, path: impl Into<String>) -> Ask {
        Ask { caller: self.clone(), method, path: path.into(), headers: Vec::new(), body: None }
    }

    /// The same client with a header on every request.
    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Caller {
        self.headers.insert(name.to_owned(), value.into());
        self
    }

    /// The same client, naming the member of staff it speaks for (`coach-north`) on every request.
    pub(crate) fn acting_for(self, role_id: &str) -> Caller {
        let role = json!({ "resourceType": "PractitionerRole", "id": role_id });
        self.with_header("NHSD-Requesting-Practitioner", STANDARD.encode(role.to_string()))
    }

    /// Its access token, got from the token endpoint when it has none that lasts.
    pub(crate) async fn token(&self) -> String {
        let now = self.clock.now();
        let held = self.token.lock().unwrap().clone();
        if let Some((token, until)) = held
            && now < until
        {
            return token;
        }
        let assertion = self.key.assertion(&self.id, &format!("{}/oauth/token", self.base), now);
        let answer = self.exchange(&assertion, &self.scope).await.expect(200);
        let token = answer.body["access_token"].as_str().unwrap().to_owned();
        let seconds = answer.body["expires_in"].as_i64().unwrap();
        *self.token.lock().unwrap() = Some((token.clone(), now + TimeDelta::seconds(seconds - 5)));
        token
    }

    /// Hands an assertion to the token endpoint.
    pub(crate) async fn exchange(&self, assertion: &str, scope: &str) -> Answer {
        let url = format!("{}/oauth/token", self.base);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion),
            ("scope", scope),
        ];
        received(format!("POST {url}"), self.http.post(&url).form(&form)).await
    }
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Ask {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// `If-Match` with this version.
    pub(crate) fn if_match(self, version: impl std::fmt::Display) -> Ask {
        self.header("If-Match", format!("W/\"{version}\""))
    }

    pub(crate) fn json(self, body: &Value) -> Ask {
        self.text("application/fhir+json", body.to_string())
    }

    /// A body as it stands.
    pub(crate) fn text(mut self, content_type: &str, body: impl Into<String>) -> Ask {
        self.body = Some(body.into());
        self.header("Content-Type", content_type)
    }

    async fn asked(self) -> Answer {
        let base = &self.caller.base;
        let url = match self.path.as_str() {
            "" => format!("{base}/fhir"),
            path if path.starts_with("http://") => path.to_owned(),
            path if path.starts_with('/') => format!("{base}{path}"),
            path => format!("{base}/fhir/{path}"),
        };
        let mut request = self.caller.http.request(self.method.clone(), &url);
        // A request may bring its own Authorization, also an empty one for none at all.
        match self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            Some((_, none)) if none.is_empty() => {}
            Some((_, other)) => request = request.header("Authorization", other),
            None => request = request.bearer_auth(self.caller.token().await),
        }
        for (name, value) in self.caller.headers.iter().chain(self.headers.iter().map(|(n, v)| (n, v))) {
            if !name.eq_ignore_ascii_case("authorization") {
                request = request.header(name, value);
            }
        }
        if let Some(body) = self.body {
            request = request.body(body);
        }
        received(format!("{} {url}", self.method), request).await
    }
}

impl IntoFuture for Ask {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.asked())
    }
}

async fn received(asked: String, request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap_or_else(|e| panic!("{asked}: {e:?}"));
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap_or_else(|e| panic!("{asked}: {e:?}"));
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text, asked }
}

impl Answer {
    /// The answer again, where it has this status; a panic that shows what came instead.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{} was answered {} with\n{}", self.asked, self.status, self.text);
        self
    }

    /// A header's text, '' for none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id of the resource that came back, or of the one that `Location` names.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        if let Some(id) = self.body["id"].as_str().filter(|_| self.body["resourceType"] != "OperationOutcome") {
            return id.to_owned();
        }
        let location = self.header("location").split("/_history/").next().unwrap_or_default();
        location.rsplit('/').next().filter(|id| !id.is_empty()).expect("an id or a Location").to_owned()
    }

    /// The version of the resource that came back.
    #[track_caller]
    pub(crate) fn version(&self) -> i64 {
        let from_etag = self.header("etag").trim_start_matches("W/").trim_matches('"').to_owned();
        self.body["meta"]["versionId"].as_str().map_or(from_etag, str::to_owned).parse().expect("a version")
    }

    /// The code of the first issue.
    pub(crate) fn issue(&self) -> &str {
        self.body["issue"][0]["code"].as_str().unwrap_or_default()
    }

    /// The first element that an issue points at.
    pub(crate) fn expression(&self) -> &str {
        self.body["issue"][0]["expression"][0].as_str().unwrap_or_default()
    }

    /// The resources of a Bundle.
    pub(crate) fn resources(&self) -> Vec<Value> {
        let entries = self.body["entry"].as_array().into_iter().flatten();
        entries.filter_map(|entry| entry.get("resource").cloned()).collect()
    }

    /// The `Type/id` that each entry of a transaction-response was given, in order.
    pub(crate) fn made(&self) -> Vec<String> {
        let entries = self.body["entry"].as_array().into_iter().flatten();
        entries.map(|entry| reference(entry["response"]["location"].as_str().unwrap_or_default())).collect()
    }
}

/// `Type/id` of a Location, absolute or not, with or without a version.
pub(crate) fn reference(location: &str) -> String {
    let mut from_end = location.split("/_history/").next().unwrap_or_default().rsplit('/');
    let (id, kind) = (from_end.next().unwrap_or_default(), from_end.next().unwrap_or_default());
    format!("{kind}/{id}")
}
