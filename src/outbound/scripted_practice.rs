//! A practice's system on a real socket for tests: a small FHIR server that does as it is told, also what it should not.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

/// What goes wrong with one transaction.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Writes it, then closes the connection without an answer.
    DropReply,
    /// Closes the connection without writing.
    DropRequest,
    /// Answers without writing.
    Status(u16, Vec<(&'static str, String)>, Value),
    /// Writes it and answers late.
    Slow(Duration),
    /// Writes it and answers with this body.
    Body(String),
    /// Writes it and answers with one chunk after the other, without end.
    Endless,
    /// Writes it, but keeps no identifiers.
    LoseIdentifiers,
    /// Writes it, and says it is elsewhere.
    LocateAt(String),
}

/// Status, headers and body.
type Instead = (u16, Vec<(&'static str, String)>, String);

#[derive(Default)]
pub(super) struct Told {
    pub(super) patients: Vec<Value>,
    pub(super) stored: BTreeMap<String, Value>,
    pub(super) faults: VecDeque<Fault>,
    /// `(method, path and query)` of every request.
    pub(super) seen: Vec<(String, String)>,
    pub(super) tokens: Vec<String>,
    pub(super) issued: usize,
    /// None: no SMART configuration.
    pub(super) smart: Option<Value>,
    pub(super) our_keys: Option<Value>,
    pub(super) token_answer: Option<(u16, Value)>,
    pub(super) expires_in: i64,
    pub(super) no_post_search: bool,
    pub(super) ignores_search: bool,
    /// Answers to be given for a path before anything else.
    pub(super) instead: BTreeMap<String, Instead>,
    pub(super) transactions: Vec<Value>,
    next: u32,
}

#[derive(Clone)]
pub(super) struct Practice {
    pub(super) address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

impl Practice {
    pub(super) async fn open() -> Practice {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let practice = Practice { address, told: Arc::default() };
        practice.told().patients = vec![patient("p1")];
        practice.told().expires_in = 300;
        let app = Router::new().fallback(answer).with_state(practice.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        practice
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    pub(super) fn base(&self) -> String {
        format!("http://{}/fhir", self.address)
    }

    /// Asks for tokens from now on, and verifies assertions with these keys.
    pub(super) fn wants_tokens(&self, keys: Value) {
        let endpoint = format!("http://{}/token", self.address);
        let mut told = self.told();
        told.smart = Some(json!({ "token_endpoint": endpoint, "scopes_supported": ["system/*.cruds", "launch"] }));
        told.our_keys = Some(keys);
    }

    pub(super) fn fails(&self, faults: impl IntoIterator<Item = Fault>) {
        self.told().faults.extend(faults);
    }

    /// How many entries of a type there are.
    pub(super) fn holds(&self, kind: &str) -> usize {
        self.told().stored.keys().filter(|k| k.starts_with(&format!("{kind}/"))).count()
    }

    pub(super) fn requests(&self, method: &str, path: &str) -> usize {
        self.told().seen.iter().filter(|(m, p)| m == method && p.starts_with(path)).count()
    }
}

pub(super) fn patient(id: &str) -> Value {
    json!({
        "resourceType": "Patient", "id": id, "birthDate": "1951-04-22", "name": [{ "family": "Núñez" }],
        "identifier": [{ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018" }]
    })
}

fn reply(status: u16, headers: &[(&str, String)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(body.into()).unwrap()
}

fn fhir(status: u16, body: &Value) -> Response<Body> {
    reply(status, &[("content-type", "application/fhir+json".into())], body.to_string())
}

/// Ends the connection's task, and with it the connection, without a word.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("hang up"))
}

async fn answer(State(practice): State<Practice>, request: Request) -> Response<Body> {
    let method = request.method().clone();
    let uri = request.uri().clone();
    let authorization = request.headers().get("authorization").map(|h| h.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(request.into_body(), 10_000_000).await.unwrap();
    let path = uri.path().to_owned();
    {
        let mut told = practice.told();
        told.seen.push((method.to_string(), uri.path_and_query().unwrap().to_string()));
        if let Some((status, headers, body)) = told.instead.get(&path).cloned() {
            return reply(status, &headers, body);
        }
    }
    if path == "/fhir/.well-known/smart-configuration" {
        let smart = practice.told().smart.clone();
        return smart.map_or_else(|| reply(404, &[], ""), |smart| fhir(200, &smart));
    }
    if path == "/token" {
        return token(&practice, &body);
    }
    if practice.told().smart.as_ref().is_some_and(|smart| smart.get("token_endpoint").is_some()) {
        let known = practice.told().tokens.iter().any(|t| authorization.as_deref() == Some(&format!("Bearer {t}")));
        if !known {
            return reply(401, &[], "");
        }
    }
    if method == Method::POST && path.trim_end_matches('/') == "/fhir" {
        return transaction(&practice, &body).await;
    }
    let rest = path.strip_prefix("/fhir/").unwrap_or_default().to_owned();
    match (method, rest.split('/').collect::<Vec<_>>().as_slice()) {
        (Method::POST, [_, "_search"]) if practice.told().no_post_search => reply(405, &[], ""),
        (Method::POST, [kind, "_search"]) => search(&practice, kind, &decoded(&body)),
        (Method::GET, [kind]) => search(&practice, kind, &decoded(uri.query().unwrap_or_default().as_bytes())),
        (Method::GET, [kind, id]) => match practice.told().stored.get(&format!("{kind}/{id}")) {
            Some(resource) => fhir(200, resource),
            None => reply(404, &[], ""),
        },
        _ => reply(400, &[], ""),
    }
}

fn decoded(form: &[u8]) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(form))).unwrap();
    url.query_pairs().into_owned().collect()
}

fn token(practice: &Practice, body: &Bytes) -> Response<Body> {
    let form = decoded(body);
    let mut told = practice.told();
    if let Some((status, answer)) = &told.token_answer {
        return fhir(*status, answer);
    }
    let jwk: Jwk = serde_json::from_value(told.our_keys.as_ref().unwrap()["keys"][0].clone()).unwrap();
    let mut rules = Validation::new(Algorithm::ES384);
    rules.set_audience(&[format!("http://{}/token", practice.address)]);
    rules.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    // Tests have their own clock.
    rules.validate_exp = false;
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let Ok(claims) = jsonwebtoken::decode::<Value>(&form["client_assertion"], &key, &rules).map(|t| t.claims) else {
        return fhir(400, &json!({ "error": "invalid_client" }));
    };
    assert_eq!(claims["iss"], claims["sub"]);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "system/*.cruds");
    told.issued += 1;
    let token = format!("token-{}", told.issued);
    told.tokens.push(token.clone());
    let expires_in = told.expires_in;
    fhir(
        200,
        &json!({ "access_token": token, "token_type": "bearer", "expires_in": expires_in, "scope": "system/*.cruds" }),
    )
}

fn search(practice: &Practice, kind: &str, by: &BTreeMap<String, String>) -> Response<Body> {
    let told = practice.told();
    let matches = |r: &&Value| {
        let identified = by.get("identifier").is_none_or(|token| {
            let (system, value) = token.split_once('|').unwrap();
            let all = r["identifier"].as_array().cloned().unwrap_or_default();
            told.ignores_search || all.iter().any(|i| i["system"] == system && i["value"] == value)
        });
        let targeted = by.get("target").is_none_or(|t| {
            r["target"].as_array().is_some_and(|all| all.iter().any(|target| target["reference"] == t.as_str()))
        });
        identified && targeted
    };
    let found: Vec<Value> = match kind {
        "Patient" => told.patients.iter().filter(matches).cloned().collect(),
        _ => told.stored.values().filter(|r| r["resourceType"] == kind).filter(matches).cloned().collect(),
    };
    let entry: Vec<Value> =
        found.into_iter().map(|r| json!({ "resource": r, "search": { "mode": "match" } })).collect();
    fhir(200, &json!({ "resourceType": "Bundle", "type": "searchset", "entry": entry }))
}

async fn transaction(practice: &Practice, body: &Bytes) -> Response<Body> {
    let fault = practice.told().faults.pop_front();
    match fault {
        Some(Fault::Status(status, headers, body)) => return reply(status, &headers, body.to_string()),
        Some(Fault::DropRequest) => hang_up(),
        _ => {}
    }
    let said = match apply(&mut practice.told(), body, matches!(fault, Some(Fault::LoseIdentifiers))) {
        Ok(said) => said,
        Err(status) => return reply(status, &[], ""),
    };
    match fault {
        Some(Fault::DropReply) => hang_up(),
        Some(Fault::Slow(late)) => tokio::time::sleep(late).await,
        Some(Fault::Body(body)) => return reply(200, &[], body),
        Some(Fault::Endless) => return reply(200, &[], "[1,".repeat(400_000)),
        Some(Fault::LocateAt(origin)) => {
            let text = said.to_string().replace("\"location\":\"", &format!("\"location\":\"{origin}/"));
            return reply(200, &[], text);
        }
        _ => {}
    }
    fhir(200, &said)
}

/// Applies a transaction, all or nothing, and gives the transaction-response.
fn apply(told: &mut Told, body: &Bytes, lose_identifiers: bool) -> Result<Value, u16> {
    let bundle: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(bundle["type"], "transaction");
    told.transactions.push(bundle.clone());
    let entries = bundle["entry"].as_array().unwrap();
    let mut after = told.stored.clone();
    let mut names = BTreeMap::new();
    let mut places = Vec::new();
    for entry in entries {
        let request = &entry["request"];
        let kind = entry["resource"]["resourceType"].as_str().unwrap();
        let mut resource = entry["resource"].clone();
        let (place, version, status) = if request["method"] == "PUT" {
            let place = request["url"].as_str().unwrap().to_owned();
            let there = after.get(&place).ok_or(404_u16)?;
            let version = there["meta"]["versionId"].as_str().unwrap();
            if request.get("ifMatch").is_some_and(|m| m != &json!(format!("W/\"{version}\""))) {
                return Err(412);
            }
            (place, version.parse::<u32>().unwrap() + 1, "200 OK")
        } else if let Some(there) = existing(&after, kind, request)? {
            names.insert(entry["fullUrl"].as_str().unwrap().to_owned(), there.clone());
            let version = after[&there]["meta"]["versionId"].as_str().unwrap().parse().unwrap();
            places.push((there, version, "200 OK"));
            continue;
        } else {
            told.next += 1;
            (format!("{kind}/n{}", told.next), 1, "201 Created")
        };
        names.insert(entry["fullUrl"].as_str().unwrap().to_owned(), place.clone());
        resource["id"] = json!(place.split_once('/').unwrap().1);
        resource["meta"]["versionId"] = json!(version.to_string());
        if lose_identifiers {
            resource.as_object_mut().unwrap().remove("identifier");
        }
        after.insert(place.clone(), resource);
        places.push((place, version, status));
    }
    for resource in after.values_mut() {
        follow(resource, &names);
    }
    told.stored = after;
    let entry: Vec<Value> = places
        .into_iter()
        .map(|(place, version, status)| {
            json!({ "response": { "status": status, "location": format!("{place}/_history/{version}"), "etag": format!("W/\"{version}\"") } })
        })
        .collect();
    Ok(json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": entry }))
}

fn existing(stored: &BTreeMap<String, Value>, kind: &str, request: &Value) -> Result<Option<String>, u16> {
    let Some(token) = request["ifNoneExist"].as_str().and_then(|q| q.strip_prefix("identifier=")) else {
        return Ok(None);
    };
    let (system, value) = token.split_once('|').unwrap();
    let carries = |r: &Value| {
        r["identifier"].as_array().is_some_and(|all| all.iter().any(|i| i["system"] == system && i["value"] == value))
    };
    let found: Vec<&String> =
        stored.iter().filter(|(_, r)| r["resourceType"] == kind && carries(r)).map(|(k, _)| k).collect();
    if found.len() > 1 { Err(412) } else { Ok(found.first().map(|k| (*k).clone())) }
}

fn follow(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|i| follow(i, names)),
        Value::Object(fields) => {
            if let Some(Value::String(said)) = fields.get_mut("reference")
                && let Some(place) = names.get(said.as_str())
            {
                said.clone_from(place);
            }
            fields.values_mut().for_each(|v| follow(v, names));
        }
        _ => {}
    }
}
