//! The stand-in practice system: a GP record behind a FHIR R4 endpoint, with its own storage, patients and tokens.
//!
//! It shares nothing with the service but HTTP. One stand-in hosts several practices on one port, each under its ODS
//! code: `/{ods}/fhir` and `/{ods}/oauth/token`.

mod change;
mod doors;
mod faults;
mod record;
mod refusal;
mod search;
mod serve;
#[cfg(test)]
mod tests;
mod tokens;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fhir::IssueCode;
use crate::fhir::systems::NHS_NUMBER;
use crate::time::Clock;
use change::{Change, Wish, make};
pub use faults::{Aim, Fault, Faults, Traffic};
use record::Record;
use refusal::Refusal;
use tokens::{Right, Tokens};

/// What a stand-in starts with.
#[derive(Clone, Debug)]
pub struct StandInSettings {
    /// The practices it hosts.
    pub practices: Vec<PracticeSeed>,
    /// Where the accepted client publishes its keys, e.g. `http://127.0.0.1:8080/.well-known/jwks.json`. They are kept for
    /// as long as their Cache-Control says, and asked for anew where an assertion names one that is not among them.
    pub client_jwks_url: String,
    /// The `client_id` that gets tokens, e.g. `livewell`.
    pub accepted_client_id: String,
    /// What it goes by: assertions and tokens run out by it, and what is written is stamped with it.
    pub clock: Clock,
}

/// One practice and the people registered with it.
#[derive(Clone, Debug)]
pub struct PracticeSeed {
    /// ODS code, e.g. `TESTP1`; the first part of every path.
    pub ods: String,
    /// Added when the record does not have them yet.
    pub patients: Vec<PatientSeed>,
}

/// A person whom a practice knows before the story begins.
#[derive(Clone, Debug)]
pub struct PatientSeed {
    /// Ten digits, from the test range 999 000 0000 to 999 999 9999.
    pub nhs_number: String,
    pub family: String,
    pub given: String,
    /// `YYYY-MM-DD`.
    pub birth_date: String,
    /// `http://hl7.org/fhir/administrative-gender`.
    pub gender: String,
}

/// A running stand-in. It stops when dropped; [`StandIn::stop`] also waits for the requests under way.
pub struct StandIn {
    practices: Arc<Practices>,
    stopping: DropGuard,
    serving: JoinHandle<()>,
}

impl StandIn {
    /// Opens the records in `folder` (one journal for each practice, made if it is not there), adds the seeded patients
    /// that are missing, and serves on `listener`. Fails when a journal cannot be read or written.
    pub async fn start(listener: TcpListener, folder: PathBuf, settings: StandInSettings) -> io::Result<StandIn> {
        let address = listener.local_addr()?;
        std::fs::create_dir_all(&folder)?;
        let mut records = BTreeMap::new();
        for practice in &settings.practices {
            let mut record = Record::open(&folder.join(format!("{}.ndjson", practice.ods)))?;
            register(&mut record, practice, settings.clock.now())?;
            records.insert(practice.ods.clone(), Mutex::new(record));
        }
        let http = super::plain_http(Duration::from_secs(5));
        let practices = Arc::new(Practices {
            address,
            records,
            tokens: Mutex::default(),
            faults: Arc::new(Faults::none()),
            takes_transactions: AtomicBool::new(true),
            client_jwks_url: settings.client_jwks_url,
            client_keys: Mutex::default(),
            accepted_client_id: settings.accepted_client_id,
            http: http.map_err(io::Error::other)?,
            started: settings.clock.now(),
            clock: settings.clock,
        });
        let stop = CancellationToken::new();
        let routes = doors::routes(Arc::clone(&practices));
        let serving = tokio::spawn(serve::serve(listener, routes, Arc::clone(&practices.faults), stop.clone()));
        Ok(StandIn { practices, stopping: stop.drop_guard(), serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.practices.address
    }

    /// The FHIR base of a practice: `http://127.0.0.1:8081/TESTP1/fhir`.
    pub fn base(&self, ods: &str) -> String {
        self.practices.base(ods)
    }

    /// The knobs that make it fail.
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.practices.faults)
    }

    /// A bearer token with which the practice's own staff read their record; it lasts as long as the stand-in.
    pub fn reader_token(&self, ods: &str) -> String {
        self.practices.tokens().grant(ods, Right::Read, DateTime::<Utc>::MAX_UTC)
    }

    /// A bearer token with which the practice's own staff read and change their record.
    pub fn staff_token(&self, ods: &str) -> String {
        self.practices.tokens().grant(ods, Right::Write, DateTime::<Utc>::MAX_UTC)
    }

    /// The keys (`kid`) of the client by which it got tokens so far.
    pub fn signers(&self) -> BTreeSet<String> {
        self.practices.tokens().signers()
    }

    /// Takes transactions no more, or again, as its CapabilityStatement then says.
    pub fn take_transactions(&self, takes: bool) {
        self.practices.takes_transactions.store(takes, Ordering::Relaxed);
    }

    /// Every resource of a type in a practice's record, as it is now; empty for a practice it does not host.
    pub fn resources(&self, ods: &str, kind: &str) -> Vec<Value> {
        let record = self.practices.records.get(ods).map(held);
        record.map(|r| r.all(kind).into_iter().cloned().collect()).unwrap_or_default()
    }

    /// Takes no more requests, finishes those under way and lets the port go.
    pub async fn stop(self) {
        drop(self.stopping);
        let _ended = self.serving.await;
    }
}

/// Everything the doors share.
struct Practices {
    address: SocketAddr,
    records: BTreeMap<String, Mutex<Record>>,
    tokens: Mutex<Tokens>,
    faults: Arc<Faults>,
    takes_transactions: AtomicBool,
    client_jwks_url: String,
    /// The client's key set, and until when it may be kept.
    client_keys: Mutex<Option<(Value, DateTime<Utc>)>>,
    accepted_client_id: String,
    http: reqwest::Client,
    clock: Clock,
    started: DateTime<Utc>,
}

impl Practices {
    fn hosts(&self, ods: &str) -> bool {
        self.records.contains_key(ods)
    }

    fn base(&self, ods: &str) -> String {
        format!("http://{}/{ods}/fhir", self.address)
    }

    fn token_endpoint(&self, ods: &str) -> String {
        format!("http://{}/{ods}/oauth/token", self.address)
    }

    fn started(&self) -> String {
        self.started.to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    fn accepted_client(&self) -> &str {
        &self.accepted_client_id
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The accepted client's key set, asked for anew where what is kept is too old or has no key `kid`; nothing when it
    /// cannot be had.
    async fn client_keys(&self, kid: Option<&str>) -> Option<Value> {
        let kept = self.client_keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fits = |keys: &Value| kid.is_some_and(|kid| !tokens::named(keys, kid).is_empty());
        if let Some((keys, _)) = kept.filter(|(keys, until)| *until > self.clock.now() && fits(keys)) {
            return Some(keys);
        }
        let answer = self.http.get(&self.client_jwks_url).send().await.ok()?.error_for_status().ok()?;
        let seconds = max_age(answer.headers());
        let keys: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        let until = self.clock.now() + chrono::Duration::seconds(seconds);
        *self.client_keys.lock().unwrap_or_else(PoisonError::into_inner) = Some((keys.clone(), until));
        Some(keys)
    }

    /// Lets a request in that carries a token for this practice.
    fn admit(&self, ods: &str, headers: &HeaderMap, needed: Right) -> Result<(), Refusal> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|b| b.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match token.and_then(|(_, token)| self.tokens().right(token, ods, self.clock.now())) {
            Some(right) if right >= needed => Ok(()),
            Some(_) => {
                let text = "This token only reads.";
                Err(Refusal::general(StatusCode::FORBIDDEN, IssueCode::Forbidden, text))
            }
            None => {
                let text =
                    "A bearer token of this practice is needed; .well-known/smart-configuration says where from.";
                Err(Refusal::general(StatusCode::UNAUTHORIZED, IssueCode::Login, text))
            }
        }
    }

    fn look<T>(&self, ods: &str, read: impl FnOnce(&Record) -> Result<T, Refusal>) -> Result<T, Refusal> {
        read(&held(self.records.get(ods).ok_or_else(Refusal::not_found)?))
    }

    fn change<T>(&self, ods: &str, write: impl FnOnce(&mut Record) -> Result<T, Refusal>) -> Result<T, Refusal> {
        write(&mut held(self.records.get(ods).ok_or_else(Refusal::not_found)?))
    }
}

/// Seconds for which an answer may be kept (`Cache-Control`), a day at most.
fn max_age(headers: &reqwest::header::HeaderMap) -> i64 {
    let said = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let seconds = said.split(',').find_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok());
    seconds.unwrap_or(0).clamp(0, 86_400)
}

fn held(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the seeded patients that the record does not have yet.
fn register(record: &mut Record, practice: &PracticeSeed, now: DateTime<Utc>) -> io::Result<()> {
    for patient in &practice.patients {
        let change = Change {
            at: "Patient".to_owned(),
            full_url: None,
            wish: Wish::Create { if_none_exist: Some(format!("identifier={NHS_NUMBER}|{}", patient.nhs_number)) },
            resource: json!({
                "resourceType": "Patient",
                "identifier": [{ "system": NHS_NUMBER, "value": patient.nhs_number }],
                "active": true,
                "name": [{ "use": "official", "family": patient.family, "given": [patient.given] }],
                "gender": patient.gender,
                "birthDate": patient.birth_date,
            }),
        };
        make(record, vec![change], now).map_err(|refusal| io::Error::other(refusal.issue.text))?;
    }
    Ok(())
}
