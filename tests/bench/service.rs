//! The service under load: the real binary in a process of its own, on a database of its own, with default settings
//! apart from the port and a log that says warnings only.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use livewell::app;
use livewell::config::{Config, DatabaseUrl};
use livewell::demo::keys::DemoKey;
use livewell::fhir::Resource;
use livewell::store::{ClientRow, Store};
use livewell::workflow::{self, Actor};
use serde_json::Value;

use super::client::{Ask, Connection};
use super::population::{LOCALITIES, OURS, PRACTICES, coach, directory, populate, practice};
use super::target::{self, Target};

const SCOPE: &str = "system/*.cruds";

pub(crate) type Failed = Box<dyn std::error::Error>;

/// A service that is running; it is stopped when dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) target: Target,
    /// As `database.url`.
    pub(crate) url: String,
    pub(crate) tasks: u64,
    /// How long the process took from its start to its first answer.
    pub(crate) start: Duration,
    key: DemoKey,
    child: Child,
}

impl Service {
    /// Makes a database with so many Tasks, and serves it. `reached` are practices, each with the address of its system.
    pub(crate) async fn start(
        folder: &Path,
        address: SocketAddr,
        tasks: u64,
        reached: &[(String, String)],
        target: &Target,
    ) -> Result<Service, Failed> {
        let file = folder.join(format!("{}-{tasks}.db", target.name()));
        let key = DemoKey::generate("bench-1");
        let file_url = format!("sqlite:{}", file.display());
        let begun = Instant::now();
        prepare(&file_url, &key, reached).await?;
        populate(&file, tasks, livewell::time::Clock::System.now().timestamp_micros()).await?;
        let url = match target {
            Target::Sqlite => file_url,
            Target::Postgres(server) => {
                let url = server.make(&format!("livewell_bench_{tasks}")).await?;
                opened(&url).await?;
                target::copy(&file, &url).await?;
                std::fs::remove_file(&file)?;
                url
            }
        };
        println!("{}: {tasks} Tasks written in {:.0} s", target.name(), begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let child = serve(&url, address)?;
        let target = target.clone();
        let mut service = Service { address, target, url, tasks, start: Duration::ZERO, key, child };
        service.answers().await?;
        service.start = begun.elapsed();
        Ok(service)
    }

    /// Stops it, puts the systems of practices into the directory, and serves again.
    pub(crate) async fn reach(&mut self, reached: &[(String, String)]) -> Result<(), Failed> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        load(&opened(&self.url).await?, reached).await?;
        self.child = serve(&self.url, self.address)?;
        self.answers().await
    }

    /// Puts files into the database it serves, with `livewell load`.
    pub(crate) fn load(&self, files: &[PathBuf]) -> Result<(), Failed> {
        let loaded = livewell(&self.url).arg("load").args(files).output()?;
        match loaded.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&loaded.stderr).into()),
        }
    }

    async fn answers(&self) -> Result<(), Failed> {
        let (begun, live) = (Instant::now(), Ask::get("/livez", ""));
        while Connection::to(self.address).send(&live).await.is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err("the service did not start in 20 s".into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Access tokens of the coaches, one for each locality.
    pub(crate) async fn coaches(&self) -> Result<Vec<String>, Failed> {
        let mut tokens = Vec::new();
        for at in 0..LOCALITIES {
            tokens.push(self.token(&coach(at), SCOPE).await?);
        }
        Ok(tokens)
    }

    /// Access tokens of all practices.
    pub(crate) async fn practices(&self) -> Result<Vec<String>, Failed> {
        let mut tokens = Vec::new();
        for at in 0..PRACTICES {
            tokens.push(self.token(&practice(at), SCOPE).await?);
        }
        Ok(tokens)
    }

    /// An access token from the token endpoint, for an assertion signed as any client signs one.
    async fn token(&self, client: &str, scope: &str) -> Result<String, Failed> {
        let answer = Connection::to(self.address).send(&self.token_request(client, scope)?).await?.expect(200)?;
        Ok(answer.json()["access_token"].as_str().unwrap_or_default().to_owned())
    }

    fn token_request(&self, client: &str, scope: &str) -> Result<Ask, Failed> {
        let endpoint = format!("http://{}/oauth/token", self.address);
        let assertion = self.key.assertion(client, &endpoint, livewell::time::Clock::System.now());
        let form = serde_urlencoded::to_string([
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
            ("scope", scope),
        ])?;
        let ask = Ask::post("/oauth/token", "", &Value::Null);
        Ok(Ask { content_type: "application/x-www-form-urlencoded", body: form.into(), ..ask })
    }

    /// Memory the process holds now, in MB.
    pub(crate) fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kb: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
        kb / 1024.0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The real binary on a database.
fn serve(url: &str, address: SocketAddr) -> std::io::Result<Child> {
    livewell(url).arg("serve").env("LIVEWELL_HTTP_LISTEN", address.to_string()).stdout(Stdio::null()).spawn()
}

/// The real binary, told which database and whose service.
fn livewell(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livewell"));
    command
        .env("LIVEWELL_DATABASE_URL", url)
        .env("LIVEWELL_SERVICE_ORGANIZATION", OURS)
        .env("LIVEWELL_DELIVERY_ALLOW_PRIVATE_ADDRESSES", "true")
        .env("LIVEWELL_TELEMETRY_LEVEL", "warn");
    command
}

fn config(url: &str) -> Config {
    let mut config = Config::default();
    config.database.url = DatabaseUrl(url.to_owned());
    config.service.organization = Some(OURS.to_owned());
    config
}

pub(crate) async fn opened(url: &str) -> Result<Store, Failed> {
    Ok(app::open_store(&config(url)).await?)
}

async fn load(store: &Store, reached: &[(String, String)]) -> Result<(), Failed> {
    let house = app::house(&config(""), String::new())?;
    let resources = directory(reached).into_iter().map(|value| Resource::from_value(value).map(|r| (String::new(), r)));
    let resources = resources.collect::<Result<Vec<_>, _>>().map_err(|_| "the directory is not FHIR")?;
    let (actor, now) = (Actor::service(OURS), livewell::time::Clock::System.now());
    workflow::load(store, &house, &actor, now, resources, &mut |_| {}).await?;
    Ok(())
}

/// A database with the directory and the clients, as `livewell load` and `livewell client add` leave it.
async fn prepare(url: &str, key: &DemoKey, reached: &[(String, String)]) -> Result<(), Failed> {
    let store = opened(url).await?;
    load(&store, reached).await?;
    let client = |id: String, organization: String, scopes: &str, staff: String| ClientRow {
        id,
        organization,
        scopes: scopes.to_owned(),
        jwks: key.jwks().to_string(),
        jwks_url: String::new(),
        staff,
        speaks_for_staff: false,
        created_at: livewell::time::Clock::System.now().into(),
        disabled_at: None,
    };
    let mut tx = store.write().await?;
    for at in 0..PRACTICES {
        tx.put_client(&client(practice(at), practice(at), SCOPE, String::new())).await?;
    }
    for at in 0..LOCALITIES {
        let staff = format!("PractitionerRole/{}", coach(at));
        tx.put_client(&client(coach(at), OURS.to_owned(), SCOPE, staff)).await?;
    }
    tx.commit().await?;
    Ok(())
}
