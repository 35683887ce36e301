//! The service under test, with its practices, its staff and its clients.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use livewell::app::{self, Running};
use livewell::config::Config;
use livewell::demo::cast::Cast;
use livewell::demo::directory::Directory;
use livewell::demo::keys::DemoKey;
use livewell::demo::practice::{StandIn, StandInSettings};
use livewell::fhir::codec::Limits;
use livewell::store::{ClientRow, Store};
use livewell::time::Clock;
use livewell::workflow::{self, Actor};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use super::caller::Caller;
use super::database::{Database, Made};
use super::free_port;

/// When every test begins: a Monday morning.
const BEGIN: &str = "2026-03-02T09:00:00Z";

/// Longer than anything takes, shorter than a person waits for a hanging test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service with practices TESTA1 (north), TESTA2 (central), TESTA3 (south) and TESTA4 (no locality), whose records are
/// kept by one stand-in system, and the staff of the demo directory.
pub(crate) struct TestApp {
    /// `http://127.0.0.1:port`.
    pub(crate) base: String,
    /// Stands at 2026-03-02T09:00:00Z until advanced.
    pub(crate) clock: Clock,
    /// The practices' own system, with its knobs for faults.
    pub(crate) stand_in: StandIn,
    pub(crate) config: Config,
    pub(crate) http: reqwest::Client,
    database: Made,
    service: Mutex<Option<Service>>,
    callers: Mutex<Vec<Caller>>,
    _folder: Arc<TempDir>,
}

/// The service in a runtime of its own, so that it can be ended in the middle of anything.
struct Service {
    runtime: Runtime,
    running: Running,
}

/// Runs one test on one database, and leaves nothing behind.
pub(crate) fn run<F: Future<Output = ()> + 'static>(database: Database, test: impl FnOnce(TestApp) -> F + 'static) {
    run_with(database, |_| {}, test);
}

/// The same, with a changed configuration.
pub(crate) fn run_with<F: Future<Output = ()> + 'static>(
    database: Database,
    change: impl FnOnce(&mut Config),
    test: impl FnOnce(TestApp) -> F + 'static,
) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let Some(made) = database.make(folder.path()).await else {
            eprintln!("skipped: TEST_POSTGRES_URL names no PostgreSQL server");
            return;
        };
        let (kept, held) = (made.clone(), Arc::clone(&folder));
        let mut config = Config::default();
        // The clock stands still, and with it the bucket that would fill again.
        config.delivery.burst = 10_000;
        change(&mut config);
        let told = tokio::task::spawn_local(async move { test(TestApp::start(made, held, config).await).await }).await;
        kept.drop().await;
        if let Err(failed) = told {
            std::panic::resume_unwind(failed.into_panic());
        }
    }));
}

impl TestApp {
    async fn start(database: Made, folder: Arc<TempDir>, mut config: Config) -> TestApp {
        let clock = Clock::fixed(BEGIN.parse::<DateTime<Utc>>().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", free_port())).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let directory = Directory::embedded().unwrap();
        let settings = StandInSettings {
            practices: Cast::from(&directory).unwrap().seeds(),
            client_jwks_url: format!("{base}/.well-known/jwks.json"),
            accepted_client_id: "livewell".to_owned(),
            clock: clock.clone(),
        };
        let practices = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn::start(practices, folder.path().join("practices"), settings).await.unwrap();
        config.database.url = database.config();
        config.service.organization = Some(directory.live_well().unwrap());
        config.delivery.allow_private_addresses = true;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE).build().unwrap();
        let app = TestApp {
            base,
            clock,
            config,
            http,
            database,
            service: Mutex::default(),
            callers: Mutex::default(),
            _folder: folder,
            stand_in,
        };
        app.begin(listener).await;
        let bundle = directory.with_endpoints(|ods| app.stand_in.base(ods)).unwrap();
        app.load(&bundle).await;
        app
    }

    async fn begin(&self, listener: TcpListener) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let listener = listener.into_std().unwrap();
        let started =
            runtime.spawn(async move { app::start(&config, clock, TcpListener::from_std(listener).unwrap()).await });
        let running = started.await.unwrap().unwrap();
        *self.service.lock().unwrap() = Some(Service { runtime, running });
    }

    /// Loads a Bundle into the directory, as `livewell load` does.
    pub(crate) async fn load(&self, bundle: &Value) {
        let resources = app::directory_resources(&bundle.to_string(), &Limits::default()).unwrap();
        let (store, house) = {
            let service = self.service.lock().unwrap();
            let running = &service.as_ref().expect("the service runs").running;
            (running.store.clone(), Arc::clone(&running.house))
        };
        let actor = Actor::service(&house.organization());
        workflow::load(&store, &house, &actor, self.clock.now(), resources, &mut |_| {}).await.unwrap();
    }

    /// The store of the running service.
    pub(crate) fn store(&self) -> Store {
        self.service.lock().unwrap().as_ref().expect("the service runs").running.store.clone()
    }

    /// The client of a practice (`TESTA1`), with every scope.
    pub(crate) async fn practice(&self, ods: &str) -> Caller {
        self.client(&format!("practice-{}", ods.to_lowercase()), ods, "system/*.cruds").await
    }

    /// The client of one member of staff: `coach-north` is PractitionerRole/coach-north. With every scope.
    pub(crate) async fn staff(&self, role_id: &str) -> Caller {
        let mut row = row(&format!("staff-{role_id}"), &self.organization(), "system/*.cruds");
        row.staff = format!("PractitionerRole/{role_id}");
        self.register(row).await
    }

    /// A system of the Live Well organisation, with every scope.
    pub(crate) async fn system(&self) -> Caller {
        self.client("live-well-system", &self.organization(), "system/*.cruds").await
    }

    /// A system of the Live Well organisation that names the acting person: [`Caller::acting_for`].
    pub(crate) async fn speaker(&self) -> Caller {
        let mut row = row("live-well-speaker", &self.organization(), "system/*.cruds");
        row.speaks_for_staff = true;
        self.register(row).await
    }

    /// Any client, registered when first asked for.
    pub(crate) async fn client(&self, id: &str, organization: &str, scope: &str) -> Caller {
        self.register(row(id, organization, scope)).await
    }

    /// Registers a client, as `livewell client add` does.
    pub(crate) async fn register(&self, mut row: ClientRow) -> Caller {
        if let Some(known) = self.callers.lock().unwrap().iter().find(|caller| caller.id == row.id) {
            return known.clone();
        }
        let key = DemoKey::generate(format!("{}-1", row.id));
        row.jwks = key.jwks().to_string();
        row.created_at = self.clock.now().into();
        let caller = Caller {
            id: row.id.clone(),
            scope: row.scopes.clone(),
            key: Arc::new(key),
            http: self.http.clone(),
            base: self.base.clone(),
            clock: self.clock.clone(),
            token: Arc::default(),
            headers: std::collections::BTreeMap::new(),
        };
        let mut tx = self.store().write().await.unwrap();
        tx.put_client(&row).await.unwrap();
        tx.commit().await.unwrap();
        self.callers.lock().unwrap().push(caller.clone());
        caller
    }

    /// ODS code of the Live Well organisation.
    pub(crate) fn organization(&self) -> String {
        self.config.service.organization.clone().unwrap()
    }

    /// When something is due next, in microseconds: a delivery, or a practice that is left alone until then.
    pub(crate) async fn next_due(&self) -> Option<i64> {
        let now = self.clock.now().timestamp_micros();
        let unsettled = "delivery d where d.settled_at is null and d.state <> 'no-route'";
        let times = format!(
            "select min(t) from (select min(d.due_at) as t from {unsettled} and d.due_at > {now} \
             union all select min(n.probe_at) from destination n where n.opened_at > 0 and n.probe_at > {now} \
             union all select min(n.paused_until) from destination n where n.paused_until > {now}) as times"
        );
        self.rows(&times).await[0][0].as_i64()
    }

    /// Waits until no delivery is due: all that can be sent now is sent and settled.
    pub(crate) async fn settled(&self) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let now = self.clock.now().timestamp_micros();
            let waiting = "delivery d where d.settled_at is null and not exists (select 1 from delivery e \
                           where e.practice = d.practice and e.person = d.person and e.place < d.place \
                           and e.settled_at is null)";
            // A practice that is paused, or whose circuit breaker is open, is sent nothing before its time.
            let closed = format!(
                "select 1 from destination n where n.practice = d.practice and (n.paused_until > {now} \
                 or (n.opened_at > 0 and n.probe_at > {now}))"
            );
            let waiting = self
                .count(&format!("{waiting} and d.due_at <= {now} and (d.lease_until > {now} or not exists ({closed}))"))
                .await;
            if waiting == 0 {
                return;
            }
            let shown = "select id, practice, state, why, attempts, due_at from delivery where settled_at is null";
            assert!(Instant::now() < patience, "still not delivered: {:?}", self.rows(shown).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The rows of a query, straight from the database.
    pub(crate) async fn rows(&self, query: &str) -> Vec<Vec<Value>> {
        self.database.rows(query).await
    }

    /// How often PostgreSQL gave up a transaction because two waited for each other, each time after a second.
    pub(crate) async fn deadlocks(&self) -> i64 {
        match self.config.database.url.0.starts_with("postgres") {
            true => {
                self.count("pg_stat_database, generate_series(1, deadlocks) where datname = current_database()").await
            }
            false => 0,
        }
    }

    /// How many rows: `app.count("resource where kind = 'Task'")`.
    pub(crate) async fn count(&self, from: &str) -> i64 {
        self.rows(&format!("select count(*) from {from}")).await[0][0].as_i64().unwrap()
    }

    /// How many rows there are in each table but those of tokens and audit: what a refusal must not change.
    pub(crate) async fn stored(&self) -> Vec<(&'static str, i64)> {
        let tables = [
            "resource",
            "resource_history",
            "lookup",
            "lookup_time",
            "lookup_number",
            "lookup_pair",
            "person",
            "referral",
            "referral_identifier",
            "episode",
            "task",
            "delivery",
            "delivery_attempt",
            "practice_copy",
            "mesh_message",
            "submission",
        ];
        let counts = tables.map(|table| format!("(select count(*) from {table})")).join(", ");
        let row = self.rows(&format!("select {counts}")).await.remove(0);
        tables.into_iter().zip(row.iter().map(|count| count.as_i64().unwrap())).collect()
    }

    /// Puts a Patient into a practice's own record.
    pub(crate) async fn register_at_practice(&self, ods: &str, patient: &Value) -> Value {
        let url = format!("{}/Patient", self.stand_in.base(ods));
        let request = self.http.post(&url).bearer_auth(self.stand_in.staff_token(ods));
        let request = request.header("Content-Type", "application/fhir+json").body(patient.to_string());
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Stops the service as a system manager does, if it runs, and starts it on the same database and address.
    pub(crate) async fn restart(&self) {
        let service = self.service.lock().unwrap().take();
        if let Some(Service { runtime, running }) = service {
            runtime.spawn(running.stop()).await.unwrap().unwrap();
            runtime.shutdown_background();
        }
        let address = self.base.trim_start_matches("http://");
        let patience = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(taken) => assert!(Instant::now() < patience, "{address}: {taken}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        self.begin(listener).await;
    }

    /// Ends the service where it stands: nothing is finished, nobody is told. [`TestApp::restart`] starts it again; a
    /// delivery that was under way is taken up again when its lease has lapsed (20 seconds of the clock).
    pub(crate) fn kill(&self) {
        if let Some(Service { runtime, running }) = self.service.lock().unwrap().take() {
            runtime.shutdown_background();
            drop(running);
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A registration to be completed by [`TestApp::register`].
pub(crate) fn row(id: &str, organization: &str, scope: &str) -> ClientRow {
    ClientRow {
        id: id.to_owned(),
        organization: organization.to_owned(),
        scopes: scope.to_owned(),
        jwks: String::new(),
        jwks_url: String::new(),
        staff: String::new(),
        speaks_for_staff: false,
        created_at: Clock::fixed(BEGIN.parse().unwrap()).now().into(),
        disabled_at: None,
    }
}
