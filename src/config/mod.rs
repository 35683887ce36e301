//! The settings, on one page: every key, its unit, its default.
//!
//! Defaults, then a TOML file, then environment variables `LIVEWELL_SECTION_KEY` (`LIVEWELL_HTTP_LISTEN`); the later
//! wins. An unknown key is an error: a misspelt setting must not pass in silence.
//! `deploy/livewell.example.toml` shows every key with its default, and a test holds the two together.

mod load;
mod mesh;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::pathway::delivery::{Limits as DeliveryLimits, Pace};
use crate::pathway::write_back::Preferences;

pub use load::{ConfigError, environment};
pub use mesh::{Mesh, Secret};
pub(crate) use validate::is_ods;

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub database: Database,
    pub http: Http,
    pub service: Service,
    pub auth: Auth,
    pub delivery: Delivery,
    pub mesh: Mesh,
    pub subscription: Subscription,
    pub pathway: Pathway,
    pub fhir: Fhir,
    pub profiles: Profiles,
    pub limits: Limits,
    pub telemetry: Telemetry,
}

/// `[database]`: where everything is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/NAME`. Default `sqlite:livewell.db`, in the current folder.
    pub url: DatabaseUrl,
    /// Connections this instance holds to PostgreSQL at most. Default 24: three instances leave room in the 100 that a
    /// server allows by itself. On SQLite at most eight are for reading.
    pub connections: u32,
}

impl Default for Database {
    fn default() -> Database {
        Database { url: DatabaseUrl::default(), connections: 24 }
    }
}

/// `[http]`: the front door.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on. Default `127.0.0.1:8080`; port 0 takes a free one. TLS is the business of a proxy.
    pub listen: SocketAddr,
    /// The origin that callers use, without `/fhir`: it goes into `Location`, links and the audience of tokens.
    /// Default `http://<listen>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Connections served at once; the next wait to be accepted. Default 2048. Each takes a file descriptor.
    pub max_connections: usize,
    /// Requests worked on at once; the next are answered 503 with `Retry-After`. Default 512.
    pub max_requests: usize,
    /// Seconds in which a request's head must arrive; also how long HTTP/1 keeps an idle connection. Default 10.
    pub header_seconds: u64,
    /// Seconds in which a request's body must arrive. Default 30.
    pub body_seconds: u64,
    /// Seconds after which a caller is answered 503 though the work goes on. Default 30.
    pub request_seconds: u64,
    /// Seconds that a stop waits for requests under way. Default 25.
    pub drain_seconds: u64,
}

/// `[service]`: who runs this service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// ODS code of the Live Well organisation. Default: the one that the loaded localities (Location) name in
    /// `managingOrganization`. While there is neither, no client counts as Live Well's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
}

/// `[auth]`: tokens and keys.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Seconds an access token lives. Default and maximum 300 (SMART Backend Services: "SHOULD NOT exceed five minutes").
    pub token_seconds: u64,
    /// PEM file (PKCS#8, EC P-384) with the private key that signs what the service sends.
    /// Default: a key made at first start and kept in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<PathBuf>,
    /// PEM file with the key that will take its place: published with it, so that others know it before it signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_signing_key: Option<PathBuf>,
    /// PEM file with the key that was in its place: published with it while instances with the old configuration run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_signing_key: Option<PathBuf>,
}

/// `[delivery]`: what leaves for practices and subscribers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Whether plain http, loopback and private addresses may be called (practices, subscriptions, key sets).
    /// Default false; true is for tests and demonstrations.
    pub allow_private_addresses: bool,
    /// Deliveries that one process sends at once. Default 100.
    pub workers: usize,
    /// Deliveries under way to one practice at once, from all processes together. Default 4.
    pub in_flight: u32,
    /// Attempts a minute to one practice, over time. Default 1200.
    pub per_minute: u32,
    /// Attempts to one practice at once after a quiet time, before `per_minute` holds. Default 60.
    pub burst: u32,
    /// Seconds in which one attempt ends. Default 60.
    pub attempt_seconds: u64,
    /// Seconds after which what a process had in hand is taken up by another when it gives no sign of life; it gives one
    /// in a quarter of that. Default 20.
    pub lease_seconds: u64,
    /// Factor on the waits between attempts, the minute of an open circuit breaker, and the 72 hours after which a person
    /// is asked. Default 1; less is for tests.
    pub pace: f64,
    /// `[delivery.practice.<ODS>]`: what differs for one practice, by its ODS code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub practice: BTreeMap<String, Practice>,
}

/// `[delivery.practice.<ODS>]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Practice {
    /// The client id under which that practice's system knows this service. Default `livewell`.
    pub client_id: String,
    /// `delivery.in_flight` for this practice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// `delivery.per_minute` for this practice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// `delivery.burst` for this practice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// `[delivery.practice.<ODS>.entries]`: which kinds of entry it wants in its record, each `full`, `summary` or `none`.
    /// Default: all in full, the plan in summary.
    #[serde(skip_serializing_if = "is_default")]
    pub entries: Preferences,
}

fn is_default(entries: &Preferences) -> bool {
    *entries == Preferences::default()
}

/// `[subscription]`: who hears of what happens.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subscription {
    /// Whether a notification may carry the resource itself. Default false: it names it, and who reads it needs a token.
    pub full_resource: bool,
}

/// `[pathway]`: clinical policy that differs between places.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pathway {
    /// Which published cut-offs turn a PAM score into a level. Default `B`.
    pub pam_cut_offs: PamCutOffs,
    /// What becomes of an NHS number whose check digit is wrong. Default `strict`.
    pub nhs_number: NhsNumberPolicy,
}

/// The published level cut-offs of PAM-13, which differ for scores from 67.1 to 72.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum PamCutOffs {
    /// Level 3 to 67.0, level 4 from 67.1 (older papers, e.g. PMC5665291).
    A,
    /// Level 3 to 72.4, level 4 from 72.5 (current).
    #[default]
    B,
}

/// What becomes of an NHS number whose check digit is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NhsNumberPolicy {
    /// The resource is refused.
    #[default]
    Strict,
    /// It is kept as sent and flagged, and identifies nobody.
    Lenient,
}

/// `[fhir]`: which resource types are served, and how. Every other type that is served is read and written, but
/// for AuditEvent, which is only read.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fhir {
    /// Types that are read and never written by callers. Default: the definitions that come with the software.
    pub read_only: Vec<String>,
    /// Types that are not served at all. Default none.
    pub off: Vec<String>,
}

/// `[profiles]`: the FHIR conformance resources.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profiles {
    /// Folder laid out like `fhir-profiles/`: a file there (`codes.json`, `PlanDefinition/llwir.json`) replaces the
    /// embedded one of that name, and definitions that are not among the embedded are added. No default: the embedded
    /// ones alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// What becomes of a resource that is valid R4 but breaks a profile it is checked against. Default `warn`.
    pub mode: ProfileMode,
    /// `[profiles.types]`: the profiles that resources of a type are checked against, by their canonicals, beside those
    /// that they claim in `meta.profile`. Default: ours of each type that has one for all its resources
    /// (`CarePlan`, `Consent`, `Goal`, `Patient`, `ServiceRequest`). An empty list: none. A type that is not named keeps
    /// its default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, Vec<String>>,
    /// `[profiles.practice.<ODS>]`: what differs for what one practice sends, by its ODS code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub practice: BTreeMap<String, PracticeProfiles>,
}

/// `[profiles.practice.<ODS>]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PracticeProfiles {
    /// As `profiles.mode`, for what this practice sends.
    pub mode: ProfileMode,
}

/// What becomes of a resource that breaks a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileMode {
    /// Refused with 422. Earlier releases called it `enforce`.
    #[serde(alias = "enforce")]
    Reject,
    /// Accepted; the answer says what is wrong as warnings. Earlier releases called it `flag`.
    #[default]
    #[serde(alias = "flag")]
    Warn,
    /// Not looked at.
    Off,
}

impl Profiles {
    /// What becomes of a resource that a practice (ODS) sent and that breaks a profile.
    pub fn mode_for(&self, ods: &str) -> ProfileMode {
        self.practice.get(ods).map_or(self.mode, |practice| practice.mode)
    }
}

/// `[limits]`: how big a request may be. Over it the answer is 413 or 422 and says the limit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a body. Default 8388608 (8 MiB).
    pub bytes: usize,
    /// JSON values (objects, arrays, strings, numbers, ...) in a body, since each takes far more memory than text.
    /// Default 500000.
    pub values: usize,
    /// Entries of a Bundle. Default 5000.
    pub entries: usize,
    /// Levels of nesting. Default 64.
    pub depth: usize,
    /// Issues told in one answer; the rest are counted. Default 100.
    pub issues: usize,
}

/// `[telemetry]`: the log on standard error.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// `pretty` for people, `json` for machines. Default `pretty`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,livewell::worker=debug`. Default `info`.
    pub level: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Pretty,
    Json,
}

/// A database URL, which prints without its password.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct DatabaseUrl(pub String);

impl Default for DatabaseUrl {
    fn default() -> DatabaseUrl {
        DatabaseUrl("sqlite:livewell.db".to_owned())
    }
}

/// The URL with `[redacted]` for the password and for any parameters, which can hold one too.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (url, parameters) = match self.0.split_once('?') {
            Some((url, _)) if url.starts_with("postgres") => (url, "?[redacted]"),
            _ => (self.0.as_str(), ""),
        };
        // A password may itself hold `@` unescaped: the host starts after the last one.
        let hidden = url.split_once("://").and_then(|(scheme, rest)| {
            let (user, host) = rest.rsplit_once('@')?;
            let (name, _) = user.split_once(':')?;
            Some(format!("{scheme}://{name}:[redacted]@{host}"))
        });
        write!(f, "{}{parameters}", hidden.as_deref().unwrap_or(url))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Default for Http {
    fn default() -> Http {
        Http {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            base_url: None,
            max_connections: 2048,
            max_requests: 512,
            header_seconds: 10,
            body_seconds: 30,
            request_seconds: 30,
            drain_seconds: 25,
        }
    }
}

impl Http {
    /// The origin that callers use, without a trailing slash: `base_url`, or else `http://` and `bound`, the address
    /// that was bound (which differs from `listen` when its port is 0).
    pub fn origin(&self, bound: SocketAddr) -> String {
        match &self.base_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{bound}"),
        }
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { token_seconds: 300, signing_key: None, next_signing_key: None, previous_signing_key: None }
    }
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            allow_private_addresses: false,
            workers: 100,
            in_flight: 4,
            per_minute: 1200,
            burst: 60,
            attempt_seconds: 60,
            lease_seconds: 20,
            pace: 1.0,
            practice: BTreeMap::new(),
        }
    }
}

impl Default for Fhir {
    fn default() -> Fhir {
        let definitions =
            ["CodeSystem", "ConceptMap", "OperationDefinition", "SearchParameter", "StructureDefinition", "ValueSet"];
        Fhir { read_only: definitions.map(str::to_owned).to_vec(), off: Vec::new() }
    }
}

impl Default for Practice {
    fn default() -> Practice {
        let entries = Preferences::default();
        Practice { client_id: "livewell".to_owned(), in_flight: None, per_minute: None, burst: None, entries }
    }
}

impl Delivery {
    /// The client id under which the practice with `ods` knows this service.
    pub fn client_id(&self, ods: &str) -> &str {
        self.practice.get(ods).map_or("livewell", |practice| &practice.client_id)
    }

    /// What is sent at most to a destination: a practice by its ODS code, or a subscription.
    pub fn limits(&self, destination: &str) -> DeliveryLimits {
        let own = self.practice.get(destination);
        DeliveryLimits {
            in_flight: own.and_then(|p| p.in_flight).unwrap_or(self.in_flight),
            per_minute: own.and_then(|p| p.per_minute).unwrap_or(self.per_minute),
            burst: own.and_then(|p| p.burst).unwrap_or(self.burst),
        }
    }

    /// How fast the clocks of delivery run.
    pub fn pace(&self) -> Pace {
        Pace(self.pace)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 8 * 1024 * 1024, values: 500_000, entries: 5_000, depth: 64, issues: 100 }
    }
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry { format: LogFormat::Pretty, level: "info".to_owned() }
    }
}
