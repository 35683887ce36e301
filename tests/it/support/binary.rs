//! The real binary in a process of its own, on a database of its own, to be killed and stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use livewell::demo::keys::DemoKey;
use livewell::time::Clock;
use serde_json::Value;
use tempfile::TempDir;

use super::caller::JWT_BEARER;
use super::database::{Database, Made};
use super::free_port;

const SCOPE: &str = "system/*.cruds";
/// Longer than anything takes, shorter than a person waits for a hanging test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test that needs no service in its own process.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// `livewell` on a database of its own, with the keys of its clients.
pub(crate) struct Binary {
    pub(crate) folder: Arc<TempDir>,
    address: String,
    http: reqwest::Client,
    keys: BTreeMap<&'static str, Arc<DemoKey>>,
    settings: Vec<(&'static str, String)>,
    database: Made,
    child: Mutex<Option<Child>>,
}

impl Binary {
    /// None where there is no server for the database.
    pub(crate) async fn new(database: Database) -> Option<Binary> {
        let folder = tempfile::tempdir().unwrap();
        let database = database.make(folder.path()).await?;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(10));
        Some(Binary {
            folder: Arc::new(folder),
            address: free_address(),
            http: http.build().unwrap(),
            keys: BTreeMap::new(),
            settings: Vec::new(),
            database,
            child: Mutex::default(),
        })
    }

    /// The same with a setting: `("LIVEWELL_DELIVERY_PACE", "0.01")`.
    pub(crate) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Binary {
        self.settings.push((variable, value.into()));
        self
    }

    /// Another instance on the same database.
    pub(crate) fn beside(&self) -> Binary {
        Binary {
            folder: Arc::clone(&self.folder),
            address: free_address(),
            http: self.http.clone(),
            keys: self.keys.clone(),
            settings: self.settings.clone(),
            database: self.database.clone(),
            child: Mutex::default(),
        }
    }

    pub(crate) fn url(&self, below: &str) -> String {
        format!("http://{}{below}", self.address)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livewell"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("LIVEWELL_DATABASE_URL", &self.database.url).env("LIVEWELL_HTTP_LISTEN", &self.address);
        command.env("LIVEWELL_SERVICE_ORGANIZATION", "TESTLW").env("LIVEWELL_TELEMETRY_LEVEL", "error");
        command.env("LIVEWELL_DELIVERY_ALLOW_PRIVATE_ADDRESSES", "true");
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn does(&self, arguments: &[&str]) {
        let ended = self.command(arguments).stdout(Stdio::null()).status().unwrap();
        assert!(ended.success(), "livewell {arguments:?}");
    }

    pub(crate) fn file(&self, name: &str, content: &Value) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, content.to_string()).unwrap();
        file
    }

    /// Registers a client as an operator does.
    pub(crate) fn register(&mut self, id: &'static str, organization: &str, more: &[&str]) {
        let key = DemoKey::generate(id);
        self.register_key(id, organization, &key.jwks(), more);
        self.keys.insert(id, Arc::new(key));
    }

    /// Registers a client that signs with a key of its own.
    pub(crate) fn register_key(&self, id: &str, organization: &str, keys: &Value, more: &[&str]) {
        let jwks = self.file(&format!("{id}.jwks.json"), keys);
        let jwks = jwks.to_str().unwrap().to_owned();
        let mut arguments = vec!["client", "add", "--id", id, "--organization", organization, "--scope", SCOPE];
        arguments.extend(["--jwks", &jwks]);
        arguments.extend(more);
        self.does(&arguments);
    }

    pub(crate) async fn start(&self) {
        *self.child.lock().unwrap() = Some(self.command(&["serve"]).stdout(Stdio::null()).spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while !self.http.get(self.url("/readyz")).send().await.is_ok_and(|answer| answer.status() == 200) {
            assert!(Instant::now() < until, "it does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal such as `STOP` to the running process.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.lock().unwrap().as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Kills it and takes its database away.
    pub(crate) async fn end(&self) {
        self.kill();
        self.database.clone().drop().await;
    }

    /// A token of this client; none while the service is down.
    pub(crate) async fn token(&self, id: &str) -> Option<String> {
        let endpoint = self.url("/oauth/token");
        let assertion = self.keys[id].assertion(id, &endpoint, Clock::System.now());
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", &assertion),
            ("scope", SCOPE),
        ];
        let answer = self.http.post(endpoint).form(&form).send().await.ok()?;
        let said: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        said["access_token"].as_str().map(str::to_owned)
    }

    /// What it answers to whoever asks.
    pub(crate) async fn get(&self, below: &str) -> String {
        self.http.get(self.url(below)).send().await.unwrap().text().await.unwrap()
    }

    /// One request; nothing when no whole answer came.
    async fn post(&self, token: &str, below: &str, key: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.http.post(self.url(below)).bearer_auth(token).body(body.to_string());
        let request = request.header("content-type", "application/fhir+json").header("idempotency-key", key);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Sends until it is acknowledged, however often the service ends meanwhile, and gives the id.
    pub(crate) async fn send(&self, client: &str, token: &mut Option<String>, below: &str, body: &Value) -> String {
        let key = uuid::Uuid::new_v4().to_string();
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "never acknowledged");
            if token.is_none() {
                *token = self.token(client).await;
            }
            match token {
                Some(held) => match self.post(held, below, &key, body).await {
                    Some((200 | 201, made)) => return made["id"].as_str().unwrap().to_owned(),
                    Some((401, _)) => *token = None,
                    Some((503, _)) | None => tokio::time::sleep(Duration::from_millis(10)).await,
                    Some((status, said)) => panic!("{status}: {said}"),
                },
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    pub(crate) async fn rows(&self, query: &str) -> Vec<Vec<Value>> {
        self.database.rows(query).await
    }

    pub(crate) async fn count(&self, from: &str) -> i64 {
        self.rows(&format!("select count(*) from {from}")).await[0][0].as_i64().unwrap()
    }

    /// Changes rows from beside the service.
    pub(crate) async fn run(&self, statement: &str) {
        self.database.rows(statement).await;
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}
