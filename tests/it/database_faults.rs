//! The database goes away, fills up or cannot be written while the service runs: callers are told to come back, nothing
//! that was acknowledged is lost, and the service recovers by itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;

use crate::database::connect;
use crate::support::caller::{Answer, Caller};
use crate::support::{Database, TestApp, app as harness, build, free_port};

/// Within which the service is back once its database is.
pub(crate) const BACK: Duration = Duration::from_secs(10);

/// A PostgreSQL server of a test's own, to be stopped as it likes.
pub(crate) struct Server {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Server {
    /// Starts one, where `TEST_POSTGRES_BIN` names the programs. `settings` are `-c` options.
    pub(crate) fn start(settings: &str) -> Option<Server> {
        let Ok(programs) = std::env::var("TEST_POSTGRES_BIN") else {
            eprintln!("skipped: TEST_POSTGRES_BIN names no PostgreSQL programs (./tests/run does)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
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

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://livewell@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn up(&self) {
        self.tool("pg_ctl", &["-w", "-s", "-l", &self.folder.path().join("log").display().to_string(), "start"]);
    }

    /// As the power going: nothing is written that was not.
    pub(crate) fn down(&self) {
        self.tool("pg_ctl", &["-w", "-s", "-m", "immediate", "stop"]);
    }

    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) {
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
pub(crate) struct SmallDisk(pub(crate) TempDir);

impl SmallDisk {
    pub(crate) fn mount() -> Option<SmallDisk> {
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

    pub(crate) fn url(&self) -> String {
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
