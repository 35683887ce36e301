//! Wiring: from a configuration to a running service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::edge::{self, EdgeSettings};
use crate::api::serve::{self, ServeSettings};
use crate::api::{self, Doors, PageSeal, ProfileChecks, Types};
use crate::auth::tokens::TokenEndpoint;
use crate::config::{self, Config, NhsNumberPolicy, PamCutOffs};
use crate::fhir::check::Profiles;
use crate::fhir::codec::{Limits, read_json, read_xml};
use crate::fhir::codes::CodeTable;
use crate::fhir::nhs_number::Checking;
use crate::fhir::{Resource, Severity, check, profiles};
use crate::outbound::{Guard, Mesh, Outbound, OutboundSettings, WebhookSecret};
use crate::pathway::pam::CutOffs;
use crate::pathway::plan::Plan;
use crate::pathway::role::RoleMap;
use crate::pathway::topic;
use crate::store::{DatabaseSettings, Store};
use crate::time::Clock;
use crate::worker::{self, Worker};
use crate::workflow::{self, Actor, House, Rules, Webhooks};

/// Why the service cannot start. Each text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("The database cannot be used: {}. Check database.url.", .0.explained().trim_end_matches('.'))]
    Store(#[from] crate::store::StoreError),
    #[error("The profiles cannot be used: {0}")]
    Profiles(String),
    #[error("The signing keys cannot be used: {0}")]
    Keys(#[from] worker::KeysError),
    #[error("The secret of page links cannot be used. Delete the one row of the table page_secret: another is made.")]
    PageSecret,
    #[error("{0}")]
    Outbound(#[from] crate::outbound::OutboundError),
    #[error("MESH cannot be used: {0}")]
    Mesh(#[from] crate::outbound::MeshError),
    #[error("The directory cannot be read: {0}")]
    Directory(#[from] workflow::Error),
    #[error("The address cannot be used: {0}")]
    Io(#[from] std::io::Error),
}

/// A service that is running.
pub struct Running {
    pub address: SocketAddr,
    pub store: Store,
    pub house: Arc<House>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    work: TaskTracker,
}

impl Running {
    /// Stops: no new connections, requests under way end, leased deliveries are settled.
    pub async fn stop(self) -> std::io::Result<()> {
        self.stop.cancel();
        let served = self.served.await.unwrap_or_else(|_| Err(std::io::Error::other("the server ended with a panic")));
        self.work.close();
        let _ = tokio::time::timeout(Duration::from_secs(30), self.work.wait()).await;
        if let Err(error) = self.store.write_counted_refusals(None).await {
            tracing::warn!(error = %error, "how many requests were refused of late could not be written");
        }
        self.store.close().await;
        served
    }

    /// Serves until the process is asked to stop.
    pub async fn until_asked_to_stop(self) -> std::io::Result<()> {
        serve::asked_to_stop().await?;
        tracing::info!("stopping: finishing what is under way");
        self.stop().await
    }
}

/// Opens the database, with its settings read back and its schema up to date.
pub async fn open_store(config: &Config) -> Result<Store, StartError> {
    let config::Database { url, connections } = config.database.clone();
    let store = Store::open(&DatabaseSettings { url: url.0, connections }).await?;
    store.check_settings().await?;
    store.migrate().await?;
    Ok(store)
}

/// The rules of this deployment: embedded, with what the profiles folder replaces.
pub fn house(config: &Config, base_url: String) -> Result<House, StartError> {
    let folder = config.profiles.dir.as_deref();
    let codes = match replaced(folder, "codes.json")? {
        Some(text) => CodeTable::parse(&text).map_err(|e| StartError::Profiles(e.to_string()))?,
        None => CodeTable::embedded().clone(),
    };
    let plan = resource(folder, "PlanDefinition", "llwir")?;
    let plan = Plan::from_resource(&plan).map_err(|e| StartError::Profiles(e.to_string()))?;
    let variant = match config.pathway.pam_cut_offs {
        PamCutOffs::A => "A",
        PamCutOffs::B => "B",
    };
    let cut_offs = resource(folder, "CodeSystem", "pam-cut-offs")?;
    let pam = CutOffs::from_code_system(&cut_offs, variant)
        .ok_or_else(|| StartError::Profiles(format!("CodeSystem/pam-cut-offs has no variant {variant}.")))?;
    let nhs_numbers = match config.pathway.nhs_number {
        NhsNumberPolicy::Strict => Checking::Strict,
        NhsNumberPolicy::Lenient => Checking::Lenient,
    };
    let organization = config.service.organization.clone().unwrap_or_default();
    let practices = config.delivery.practice.iter();
    let rules = Rules {
        codes,
        plan,
        base_url,
        pam,
        nhs_numbers,
        preferences: practices.map(|(ods, practice)| (ods.clone(), practice.entries.clone())).collect(),
        roles: RoleMap::from_resource(&resource(folder, "ConceptMap", "job-role")?),
        topics: topic::embedded(),
        full_resource: config.subscription.full_resource,
        webhooks: webhooks(config),
    };
    Ok(House::new(rules, organization))
}

fn webhooks(config: &Config) -> Webhooks {
    let guard = Guard { allow_private_addresses: config.delivery.allow_private_addresses };
    Webhooks {
        may_call: Box::new(move |address| guard.check(address).map(drop).map_err(|why| why.to_string())),
        is_secret: |text| WebhookSecret::parse(text).is_ok(),
        new_secret: || WebhookSecret::generate().ok(),
    }
}

/// A file of the profiles folder, where it is there.
fn replaced(folder: Option<&Path>, name: &str) -> Result<Option<String>, StartError> {
    let Some(path) = folder.map(|folder| folder.join(name)).filter(|path| path.is_file()) else { return Ok(None) };
    std::fs::read_to_string(&path).map(Some).map_err(|e| StartError::Profiles(format!("{}: {e}", path.display())))
}

/// A conformance resource: from the profiles folder (`Type/id.json`), else the embedded one.
fn resource(folder: Option<&Path>, kind: &str, id: &str) -> Result<Resource, StartError> {
    let name = format!("{kind}/{id}.json");
    if let Some(text) = replaced(folder, &name)? {
        return read_json(text.as_bytes(), &Limits::default())
            .map_err(|invalid| StartError::Profiles(format!("{name}: {}", invalid.issues[0].text)));
    }
    profiles::resource(kind, id).ok_or_else(|| StartError::Profiles(format!("{name} is missing.")))
}

/// The seal of page links, the same in all instances: made of the key that was there first, and kept when keys are replaced.
async fn page_seal(store: &Store, pem: &str) -> Result<PageSeal, StartError> {
    let mut tx = store.write().await?;
    let secret = tx.page_secret(&PageSeal::secret_of(pem)).await?;
    tx.commit().await?;
    PageSeal::from_secret(&secret).ok_or(StartError::PageSecret)
}

/// Starts the service on a listener.
pub async fn start(config: &Config, clock: Clock, listener: TcpListener) -> Result<Running, StartError> {
    let address = listener.local_addr()?;
    let store = open_store(config).await?;
    let profiles = profile_checks(config)?;
    let house = house(config, config.http.origin(address))?.knowing(profiles.known.terminology());
    let house = Arc::new(house);
    house.learn_organization(&store).await?;
    load_definitions(config, &store, &house, &clock).await?;
    let (keys, pem) = worker::keys(&config.auth, &store, clock.now()).await?;
    let keys = Arc::new(keys);
    let settings = OutboundSettings {
        allow_private_addresses: config.delivery.allow_private_addresses,
        attempt_timeout: Duration::from_secs(config.delivery.attempt_seconds),
        ..OutboundSettings::default()
    };
    let mesh = Mesh::open(&config.mesh, &settings)?.map(Arc::new);
    let outbound = Arc::new(Outbound::new(settings, Arc::clone(&keys))?);
    let wake = Arc::new(Notify::new());
    let (stop, work) = (CancellationToken::new(), TaskTracker::new());

    let worker = Worker::new(
        store.clone(),
        Arc::clone(&house),
        Arc::clone(&outbound),
        clock.clone(),
        config.delivery.clone(),
        Arc::clone(&wake),
    )
    .with_mesh(mesh)
    .with_keys(config.auth.signing_key.is_none().then(|| Arc::clone(&keys)));
    let worker = Arc::new(worker);
    worker.start(&stop, &work);
    let doors = Arc::new(Doors {
        store: store.clone(),
        house: Arc::clone(&house),
        tokens: TokenEndpoint {
            store: store.clone(),
            outbound,
            audience: format!("{}/oauth/token", house.base_url),
            lifetime: chrono::Duration::seconds(i64::try_from(config.auth.token_seconds).unwrap_or(300)),
        },
        profiles,
        types: Types::new(&config.fhir),
        limits: limits(config),
        jwks: Box::new(move |now| keys.public_jwks(now)),
        seal: page_seal(&store, &pem).await?,
        wake,
        started_at: clock.now(),
        clock,
    });
    let app = edge::layers(api::router(doors), EdgeSettings::new(&config.http, &config.limits, work.clone()));
    let serving = ServeSettings::new(&config.http, work.clone());
    let served = tokio::spawn(serve::serve(listener, app, serving, stop.clone().cancelled_owned()));
    tracing::info!(address = %address, "serving");
    Ok(Running { address, store, house, stop, served, work })
}

/// What resources are checked against: the embedded definitions, and every one in the profiles folder.
pub fn profile_checks(config: &Config) -> Result<ProfileChecks, StartError> {
    let mut definitions = profiles::resources();
    for path in config.profiles.dir.as_deref().map(json_files).transpose()?.unwrap_or_default() {
        let said = |why: &dyn std::fmt::Display| StartError::Profiles(format!("{}: {why}", path.display()));
        let text = std::fs::read(&path).map_err(|e| said(&e))?;
        if let Ok(resource) = read_json(&text, &Limits::default()) {
            definitions.push(resource);
        }
    }
    let known = Profiles::from_resources(definitions);
    let named = config.profiles.types.values().flatten();
    if let Some(unknown) = named.into_iter().find(|canonical| !known.knows(canonical)) {
        let why = format!("profiles.types names {unknown}, which is neither built in nor in profiles.dir.");
        return Err(StartError::Profiles(why));
    }
    Ok(ProfileChecks::new(known, config.profiles.clone()))
}

/// The JSON files of a folder and the folders in it.
fn json_files(folder: &Path) -> Result<Vec<PathBuf>, StartError> {
    let said = |e: std::io::Error| StartError::Profiles(format!("{}: {e}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(said)? {
        let path = entry.map_err(said)?.path();
        if path.is_dir() {
            files.extend(json_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The limits of what is read, as configured.
pub fn limits(config: &Config) -> Limits {
    let config::Limits { bytes, values, entries, depth, issues } = config.limits;
    Limits { bytes, values, entries, depth, issues }
}

/// Puts the pathways and the definitions that come with the software into the directory, where plans and integrators find
/// them by their id and their canonical URL. A file of the profiles folder stands for the embedded one of its name.
async fn load_definitions(config: &Config, store: &Store, house: &House, clock: &Clock) -> Result<(), StartError> {
    let folder = config.profiles.dir.as_deref();
    let mut all = Vec::new();
    // A Basic of ours is a topic (SubscriptionTopic, as R4 has it).
    let published = |known: &&Resource| workflow::DIRECTORY.contains(&known.kind()) || known.kind() == "Basic";
    for embedded in profiles::resources().iter().filter(published) {
        all.push((String::new(), resource(folder, embedded.kind(), embedded.id().unwrap_or_default())?));
    }
    let actor = Actor::service(&house.organization());
    workflow::publish(store, house, &actor, clock.now(), all, &mut |_| {}).await?;
    Ok(())
}

/// Resources of a FHIR Bundle (JSON or XML), of NDJSON, or the one resource that the text is, with the fullUrl each has.
///
/// # Errors
/// What cannot be read, or is not valid R4: a sentence that names the line or the entry.
pub fn directory_resources(text: &str, limits: &Limits) -> Result<Vec<(String, Resource)>, String> {
    if text.trim().is_empty() {
        return Err("the file is empty: load takes a FHIR Bundle, or one resource a line.".to_owned());
    }
    let whole = match text.trim_start().starts_with('<') {
        true => read_xml(text.as_bytes(), limits),
        false => read_json(text.as_bytes(), limits),
    };
    match whole {
        Ok(bundle) if bundle.kind() == "Bundle" => entries(&bundle),
        Ok(resource) => Ok(vec![(String::new(), valid(resource)?)]),
        Err(why) => lines(text, limits).unwrap_or_else(|| Err(said(&why))),
    }
}

/// Each line a resource; none where the first line is not one, so that the text is no NDJSON.
fn lines(text: &str, limits: &Limits) -> Option<Result<Vec<(String, Resource)>, String>> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    read_json(lines.peek()?.1.as_bytes(), limits).ok()?;
    let resource = |(at, line): (usize, &str)| {
        let read = read_json(line.as_bytes(), limits).map_err(|why| said(&why)).and_then(valid);
        read.map(|resource| (String::new(), resource)).map_err(|why| format!("line {}: {why}", at + 1))
    };
    Some(lines.map(resource).collect())
}

fn entries(bundle: &Resource) -> Result<Vec<(String, Resource)>, String> {
    let entries = bundle.value().get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let with_resource = entries.iter().enumerate().filter_map(|(at, entry)| Some((at, entry, entry.get("resource")?)));
    with_resource
        .map(|(at, entry, resource)| {
            let url = entry.get("fullUrl").and_then(Value::as_str).unwrap_or_default();
            let read = Resource::from_value(resource.clone()).map_err(|why| said(&why)).and_then(valid);
            read.map(|resource| (url.to_owned(), resource)).map_err(|why| format!("entry[{at}]: {why}"))
        })
        .collect()
}

/// The resource, if it is valid R4.
fn valid(resource: Resource) -> Result<Resource, String> {
    match check::check(&resource, 1).into_iter().find(|issue| issue.severity == Severity::Error) {
        Some(issue) => Err(told(&issue)),
        None => Ok(resource),
    }
}

fn said(invalid: &crate::fhir::Invalid) -> String {
    invalid.issues.first().map(told).unwrap_or_default()
}

fn told(issue: &crate::fhir::Issue) -> String {
    match &issue.expression {
        Some(place) => format!("{place}: {}", issue.text),
        None => issue.text.clone(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        directory_resources(text, &Limits::default()).unwrap_err()
    }

    #[test]
    fn a_file_is_a_bundle_a_resource_or_a_resource_a_line() {
        let read = |text: &str| directory_resources(text, &Limits::default()).unwrap();
        let one = r#"{"resourceType":"Organization","name":"A"}"#;
        assert_eq!(read(one).len(), 1);
        assert_eq!(read(&format!("{one}\n\n{one}\n")).len(), 2);
        let bundle = format!(
            r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"fullUrl":"urn:x:1","resource":{one}}}]}}"#
        );
        assert_eq!(read(&bundle)[0].0, "urn:x:1");
        assert_eq!(read(r#"<Organization xmlns="http://hl7.org/fhir"><name value="A"/></Organization>"#).len(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_place() {
        let good = r#"{"resourceType":"Organization","name":"A"}"#;
        assert!(refused(" \n").contains("is empty"));
        let said = refused(&format!("{good}\n{{\"resourceType\":\"Organization\",\"nme\":\"A\"}}"));
        assert!(said.starts_with("line 2: Organization.nme"), "{said}");
        let said = refused(
            r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Location","status":"open"}}]}"#,
        );
        assert!(said.starts_with("entry[0]: Location.status"), "{said}");
        // Over several lines it is one document, and the line is the parser's.
        let said = refused("{\n \"resourceType\": \"Organization\",\n \"name\": oops\n}");
        assert!(!said.starts_with("line") && said.contains("line 3"), "{said}");
    }
}
