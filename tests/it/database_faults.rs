//! The database goes away, fills up, cannot be written or is damaged: callers are told to come back, nothing that was
//! acknowledged is lost, and the service recovers by itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use livewell::app;
use livewell::config::{Config, DatabaseUrl};
use livewell::store::{DatabaseSettings, PersonRow, Sight, Store, StoreError};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

use crate::database::{Database as Made, connect};
use crate::support::caller::{Answer, Caller};
use crate::support::{Database, TestApp, app as harness, build};

/// Within which the service is back once its database is.
const BACK: Duration = Duration::from_secs(10);

/// A PostgreSQL server of a test's own, to be stopped as it likes.
struct Server {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Server {
    /// Starts one, where `TEST_POSTGRES_BIN` names the programs. `settings` are `-c` options.
    fn start(settings: &str) -> Option<Server> {
        let Ok(programs) = std::env::var("TEST_POSTGRES_BIN") else {
            eprintln!("skipped: TEST_POSTGRES_BIN names no PostgreSQL programs (./tests/run does)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server { programs: programs.into(), folder, port };
        if is_root() {
            run(Command::new("chown").arg("65534:65534").arg(server.folder.path()));
        }
        server.tool("initdb", &["-U", "livewell", "-A", "trust", "-E", "UTF8", "--locale=C"]);
        let options = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 50\n{settings}\n"
        );
        let file = server.data().join("postgresql.auto.conf");
        std::fs::write(file, options).unwrap();
        server.up();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn url(&self) -> String {
        format!("postgres://livewell@127.0.0.1:{}/postgres", self.port)
    }

    fn up(&self) {
        self.tool("pg_ctl", &["-w", "-s", "-l", &self.folder.path().join("log").display().to_string(), "start"]);
    }

    /// As the power going: nothing is written that was not.
    fn down(&self) {
        self.tool("pg_ctl", &["-w", "-s", "-m", "immediate", "stop"]);
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(self.programs.join(name));
                command
            }
            false => Command::new(self.programs.join(name)),
        };
        run(command.arg("-D").arg(self.data()).args(arguments));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.down();
        }
    }
}

fn run(command: &mut Command) {
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{command:?}: {ended}");
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// Callers who send referrals, one after the other, each until it is acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    turned_away: Arc<AtomicUsize>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(practice: &Caller) -> Load {
        let (stop, acknowledged, turned_away) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Load { stop, acknowledged, turned_away, senders: Vec::new() };
        for _ in 0..4 {
            let (practice, stop) = (practice.clone(), Arc::clone(&load.stop));
            let (acknowledged, turned_away) = (Arc::clone(&load.acknowledged), Arc::clone(&load.turned_away));
            load.senders.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let referral = build::referral();
                    loop {
                        let answer = practice.post("ServiceRequest", &referral).await;
                        if matches!(answer.status, 200 | 201) {
                            acknowledged.lock().unwrap().insert(answer.id());
                            break;
                        }
                        told_to_come_back(&answer);
                        turned_away.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }));
        }
        load
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until something new is acknowledged.
    async fn goes_on(&self) {
        let (before, began) = (self.acknowledged(), Instant::now());
        while self.acknowledged() == before {
            assert!(began.elapsed() < BACK, "it is not back after {BACK:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until more callers were told to come back than there are.
    async fn is_turned_away(&self, began: Instant) {
        let before = self.turned_away.load(Ordering::SeqCst);
        while self.turned_away.load(Ordering::SeqCst) < before + 8 {
            assert!(began.elapsed() < Duration::from_secs(20), "nobody is told that nothing can be written");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the load and compares what was acknowledged with what is there, one by one.
    async fn nothing_is_lost_or_doubled(self, app: &TestApp) {
        self.stop.store(true, Ordering::SeqCst);
        for sender in self.senders {
            sender.await.unwrap();
        }
        let there = app.rows("select id from referral order by id").await;
        let there: BTreeSet<String> = there.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect();
        assert_eq!(there, *self.acknowledged.lock().unwrap(), "what is there is what was acknowledged");
        assert_eq!(app.count("task").await, i64::try_from(there.len()).unwrap());
    }
}

#[track_caller]
fn told_to_come_back(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|s| (1..=60).contains(&s)), "{:?}", answer.headers);
    assert_eq!(answer.issue(), "transient", "{}", answer.text);
}

async fn ready(app: &TestApp) -> u16 {
    app.http.get(format!("{}/readyz", app.base)).send().await.unwrap().status().as_u16()
}

fn leaked(url: String) -> &'static str {
    Box::leak(url.into_boxed_str())
}

#[test]
fn postgresql_that_is_stopped_and_started_five_times_under_load_loses_nothing() {
    let Some(server) = Server::start("") else { return };
    harness::run(Database::At(leaked(server.url())), async move |app: TestApp| {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let load = Load::begin(&practice);
        load.goes_on().await;
        for outage in [6, 1, 0, 0, 2] {
            server.down();
            tokio::time::sleep(Duration::from_secs(outage)).await;
            if outage > 5 {
                assert_eq!(ready(&app).await, 503);
                assert!(load.turned_away.load(Ordering::SeqCst) > 0, "nobody was told");
            }
            server.up();
            load.goes_on().await;
            assert_eq!(ready(&app).await, 200);
        }
        load.nothing_is_lost_or_doubled(&app).await;
        app.kill();
    });
}

#[test]
fn connections_that_are_killed_under_load_lose_nothing() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let load = Load::begin(&practice);
        for _ in 0..5 {
            load.goes_on().await;
            let mut beside = connect(&app.config.database.url.0).await;
            let killed: i64 = sqlx::query_scalar(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                 where datname = current_database() and pid <> pg_backend_pid() and application_name = 'livewell'",
            )
            .fetch_one(&mut beside)
            .await
            .unwrap();
            assert!(killed > 0, "there was nothing to kill");
            beside.close().await.unwrap();
            load.goes_on().await;
        }
        load.nothing_is_lost_or_doubled(&app).await;
    });
}

/// A folder on a file system of its own, small and to be filled; `None`, and said, where this user may not mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        match mount.status() {
            Ok(ended) if ended.success() => Some(SmallDisk(folder)),
            _ => {
                eprintln!("skipped: this user may not mount a small file system");
                None
            }
        }
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.path().join("livewell.db").display())
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Fills the disk under load twice: writers are told to come back, and are served again once there is room. A service
/// whose own mark goes to this disk says that it is not ready meanwhile.
async fn writers_are_turned_away_until_there_is_room(app: TestApp, disk: SmallDisk, marks_go_there: bool) {
    let practice = app.practice("TESTA1").await;
    practice.token().await;
    let load = Load::begin(&practice);
    load.goes_on().await;
    for _ in 0..2 {
        disk.fill();
        let began = Instant::now();
        load.is_turned_away(began).await;
        // What is left in the log's file may still hold a few pages, such as the one that readiness writes.
        while marks_go_there && ready(&app).await != 503 {
            assert!(began.elapsed() < Duration::from_secs(20), "a service that cannot write says that it is ready");
        }
        disk.make_room();
        load.goes_on().await;
        assert_eq!(ready(&app).await, 200);
    }
    load.nothing_is_lost_or_doubled(&app).await;
    app.kill();
}

#[test]
fn a_full_disk_turns_writers_away_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    harness::run(Database::At(leaked(disk.url())), async move |app: TestApp| {
        writers_are_turned_away_until_there_is_room(app, disk, true).await;
    });
}

#[test]
fn a_full_disk_of_postgresql_turns_writers_away_until_there_is_room() {
    let Some(server) = Server::start("") else { return };
    let Some(disk) = SmallDisk::mount() else { return };
    // The tables only, not the write-ahead log: without that, PostgreSQL stops, which is another test.
    let tables = disk.0.path().join("tables");
    std::fs::create_dir(&tables).unwrap();
    if is_root() {
        run(Command::new("chown").arg("65534:65534").arg(&tables));
    }
    let url = server.url();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut owner = connect(&url).await;
        for statement in [
            format!("create tablespace small location '{}'", tables.display()),
            "alter role livewell set default_tablespace = 'small'".to_owned(),
        ] {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut owner).await.unwrap();
        }
        owner.close().await.unwrap();
    });
    harness::run(Database::At(leaked(url)), async move |app: TestApp| {
        writers_are_turned_away_until_there_is_room(app, disk, false).await;
    });
    drop(server);
}

/// A file that nobody may change, not even who has it open, until this is dropped.
struct Immutable<'f>(&'f [PathBuf]);

impl Immutable<'_> {
    fn make(files: &[PathBuf]) -> Option<Immutable<'_>> {
        if mark("+i", files) {
            return Some(Immutable(files));
        }
        eprintln!("skipped: files cannot be made immutable here");
        None
    }
}

impl Drop for Immutable<'_> {
    fn drop(&mut self) {
        mark("-i", self.0);
    }
}

fn mark(how: &str, files: &[PathBuf]) -> bool {
    Command::new("chattr").arg(how).args(files).stderr(Stdio::null()).status().is_ok_and(|ended| ended.success())
}

#[test]
fn a_file_that_may_not_be_written_any_more_turns_writers_away_until_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("livewell.db");
    let url = leaked(format!("sqlite:{}", file.display()));
    harness::run(Database::At(url), async move |app: TestApp| {
        let files = [file.clone(), folder.path().join("livewell.db-wal")];
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        let load = Load::begin(&practice);
        load.goes_on().await;
        if let Some(unwritable) = Immutable::make(&files) {
            let began = Instant::now();
            load.is_turned_away(began).await;
            assert_eq!(ready(&app).await, 503);
            drop(unwritable);
            load.goes_on().await;
            assert_eq!(ready(&app).await, 200);
        }
        load.nothing_is_lost_or_doubled(&app).await;
        app.kill();
    });
}

fn config(url: &str) -> Config {
    let mut config = Config::default();
    config.database.url = DatabaseUrl(url.to_owned());
    config
}

/// Why the service does not start on this database.
async fn refusal(url: &str) -> String {
    match app::open_store(&config(url)).await {
        Ok(_) => panic!("it starts"),
        Err(why) => why.to_string(),
    }
}

#[tokio::test]
async fn a_read_only_database_is_refused_in_words() {
    let Some(disk) = SmallDisk::mount() else { return };
    // Closed in a runtime of its own, or the disk would be busy.
    let url = disk.url();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { drop(app::open_store(&config(&url)).await.unwrap()) });
    })
    .join()
    .unwrap();
    let began = Instant::now();
    while !Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(disk.0.path())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
    {
        assert!(began.elapsed() < BACK, "the database stays open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = refusal(&disk.url()).await;
    assert!(said.contains("readonly") || said.contains("unable to open"), "{said}");
}

#[tokio::test]
async fn what_is_no_database_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("livewell.db");
    std::fs::write(&file, [0xAA; 8192]).unwrap();
    let said = refusal(&format!("sqlite:{}", file.display())).await;
    assert!(said.contains("not a database"), "{said}");
    let said = refusal(&format!("sqlite:{}", folder.path().join("no/such/folder/livewell.db").display())).await;
    assert!(said.contains("unable to open"), "{said}");
    let said = refusal("postgres://nobody@127.0.0.1:1/none").await;
    assert!(said.contains("refused") && said.contains("database.url"), "{said}");
}

#[tokio::test]
async fn a_journal_that_cannot_be_a_write_ahead_log_is_refused() {
    let said = refusal("sqlite::memory:").await;
    assert!(said.contains("journal_mode is memory, and must be wal"), "{said}");
}

/// Damage is an error for whoever meets it, never a panic, and never an answer made up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_an_error() {
    let database = Made::sqlite();
    let store = database.open().await;
    for n in 0..40 {
        let mut tx = store.write().await.unwrap();
        let [birth_date, practice, locality] = [const { String::new() }; 3];
        let family = "x".repeat(500);
        tx.insert_person(&PersonRow {
            id: format!("{n:03}"),
            nhs_number: None,
            birth_date,
            family,
            practice,
            locality,
        })
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }
    let options: sqlx::sqlite::SqliteConnectOptions = database.url.parse().unwrap();
    let mut beside = options.connect().await.unwrap();
    sqlx::raw_sql("pragma wal_checkpoint(truncate)").execute(&mut beside).await.unwrap();
    let roots: Vec<(i64,)> = sqlx::query_as("select rootpage from sqlite_schema where tbl_name = 'person'")
        .fetch_all(&mut beside)
        .await
        .unwrap();
    beside.close().await.unwrap();
    let image = tempfile::tempdir().unwrap();
    let copy = image.path().join("livewell.db");
    let mut bytes = std::fs::read(database.file()).unwrap();
    for (root,) in roots {
        let at = (usize::try_from(root).unwrap() - 1) * 4096;
        bytes[at..at + 4096].fill(0xA5);
    }
    std::fs::write(&copy, bytes).unwrap();
    let damaged = opened(&copy).await;
    let mut tx = damaged.read().await.unwrap();
    assert!(tx.person("007").await.is_err());
    drop(tx);
    let mut tx = damaged.write().await.unwrap();
    let person = tx.person("008").await;
    assert!(person.is_err());
    assert!(tx.commit().await.is_err(), "nothing is built on what could not be read");
    // What is not damaged goes on. Who shares a commit with one that met the damage may have to come back.
    let mut tries = 0;
    while let Err(why) = reads_elsewhere(&damaged).await {
        tries += 1;
        assert!(matches!(why, StoreError::Unavailable(_)) && tries < 3, "{why:?}");
    }
}

async fn reads_elsewhere(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    assert!(tx.resource("Patient", "none", &Sight::Everything).await?.is_none());
    tx.commit().await
}

async fn opened(file: &Path) -> Store {
    let url = format!("sqlite:{}", file.display());
    Store::open(&DatabaseSettings { url, ..Default::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_may_lose_commits_is_refused() {
    let Some(database) = Made::postgres().await else { return };
    let mut beside = connect(&database.url).await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut beside).await.unwrap();
    for (setting, starts) in [("off", false), ("local", false), ("remote_apply", true), ("on", true)] {
        let change = format!("alter database {name} set synchronous_commit = {setting}");
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut beside).await.unwrap();
        match starts {
            true => drop(app::open_store(&config(&database.url)).await.unwrap()),
            false => {
                let said = refusal(&database.url).await;
                assert!(said.contains(&format!("synchronous_commit is {setting}, and must be on")), "{said}");
            }
        }
    }
    if let Some(server) = Server::start("fsync = off") {
        let said = refusal(&server.url()).await;
        assert!(said.contains("fsync is off, and must be on"), "{said}");
    }
    if let Some(server) = Server::start("full_page_writes = off") {
        let said = refusal(&server.url()).await;
        assert!(said.contains("full_page_writes is off, and must be on"), "{said}");
    }
}

/// A certificate authority and a certificate for 127.0.0.1 by it; `None`, and said, without openssl.
fn certificates(folder: &Path) -> Option<()> {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt && \
        openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr && \
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >ext && \
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt && \
        chmod 600 server.key && { [ $(id -u) -ne 0 ] || chown 65534:65534 server.key server.crt; } && chmod 755 .";
    let mut made = Command::new("sh");
    made.args(["-c", script]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match made.status() {
        Ok(ended) if ended.success() => Some(()),
        _ => {
            eprintln!("skipped: openssl makes no certificates here");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_postgresql_is_encrypted_and_checked() {
    let keys = tempfile::tempdir().unwrap();
    let Some(()) = certificates(keys.path()) else { return };
    let path = keys.path().display();
    let ssl = format!("ssl = on\nssl_cert_file = '{path}/server.crt'\nssl_key_file = '{path}/server.key'");
    let Some(server) = Server::start(&ssl) else { return };
    let url = server.url();
    let store =
        app::open_store(&config(&format!("{url}?sslmode=verify-full&sslrootcert={path}/ca.crt"))).await.unwrap();
    let _held = store.read().await.unwrap();
    let encrypted: bool = sqlx::query_scalar(
        "select bool_and(ssl) from pg_stat_ssl s join pg_stat_activity a using (pid) \
        where a.application_name = 'livewell'",
    )
    .fetch_one(&mut connect(&url).await)
    .await
    .unwrap();
    assert!(encrypted);
    let said = refusal(&format!("{url}?sslmode=verify-full")).await;
    assert!(said.to_lowercase().contains("certificate"), "{said}");
}
