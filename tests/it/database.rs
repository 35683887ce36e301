//! A fresh database for a test: an SQLite file, or a database of its own on the PostgreSQL server of the test run.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use livewell::store::{DatabaseSettings, Store};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tempfile::TempDir;

/// A database that goes when this goes.
pub(crate) struct Database {
    pub(crate) url: String,
    kept: Kept,
}

enum Kept {
    Folder(TempDir),
    Server { url: String, name: String },
}

impl Database {
    pub(crate) fn sqlite() -> Database {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("livewell.db").display());
        Database { url, kept: Kept::Folder(folder) }
    }

    /// A copy of a database whose schema is up to date; `None`, and said, where no server is at hand.
    pub(crate) async fn postgres() -> Option<Database> {
        let Ok(url) = std::env::var("TEST_POSTGRES_URL") else {
            eprintln!("skipped: TEST_POSTGRES_URL names no PostgreSQL server (./tests/run starts one)");
            return None;
        };
        let name = format!("livewell_test_{}", uuid::Uuid::new_v4().simple());
        Some(Database { url: copy(&url, &name).await, kept: Kept::Server { url, name } })
    }

    /// The database, opened and with its schema.
    pub(crate) async fn open(&self) -> Store {
        let store = Store::open(&DatabaseSettings { url: self.url.clone(), ..Default::default() }).await.unwrap();
        store.check_settings().await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    /// The SQLite file.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.kept {
            Kept::Folder(folder) => folder.path().join("livewell.db"),
            Kept::Server { .. } => panic!("PostgreSQL has no file"),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Kept::Server { url, name } = &self.kept else { return };
        let (url, drop) = (url.clone(), format!("drop database if exists {name} with (force)"));
        // On a thread of its own: a test's runtime may be going down.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut server = connect(&url).await;
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}

/// Makes a database whose schema is up to date on a server, and answers its URL.
pub(crate) async fn copy(url: &str, name: &str) -> String {
    let mut server = connect(url).await;
    let template = template(&mut server, url).await;
    let copy = format!("create database {name} template {template}");
    // A template that another test copies at this moment is in use: that passes.
    while let Err(error) = sqlx::raw_sql(AssertSqlSafe(copy.clone())).execute(&mut server).await {
        assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("55006"), "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.close().await.unwrap();
    with_database(url, name)
}

/// Runs `deploy/partition.sql`, as an operator does.
pub(crate) fn partition(url: &str, partitions: u32) {
    let programs = std::env::var_os("TEST_POSTGRES_BIN").map(PathBuf::from).unwrap_or_default();
    let mut psql = std::process::Command::new(programs.join("psql"));
    psql.args([url, "-q", "-v", "ON_ERROR_STOP=1", "-v", &format!("partitions={partitions}"), "-f"]);
    psql.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/partition.sql"));
    let ended = psql.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.disable_statement_logging().connect().await.unwrap()
}

/// `url` with another database.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (before, after) = url.split_once('?').map_or((url, ""), |(before, after)| (before, after));
    let (host, _) = before.rsplit_once('/').unwrap();
    format!("{host}/{name}{}{after}", if after.is_empty() { "" } else { "?" })
}

/// The database that tests get a copy of, made by the first test that needs it.
async fn template(server: &mut PgConnection, url: &str) -> String {
    let mut hash = DefaultHasher::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files.iter().for_each(|file| std::fs::read(file).unwrap().hash(&mut hash));
    let name = format!("template_{:016x}", hash.finish());
    sqlx::query("select pg_advisory_lock(42)").execute(&mut *server).await.unwrap();
    let made: (bool,) =
        sqlx::query_as("select exists (select 1 from pg_database where datname = $1 and datistemplate)")
            .bind(&name)
            .fetch_one(&mut *server)
            .await
            .unwrap();
    if !made.0 {
        for statement in [format!("drop database if exists {name}"), format!("create database {name}")] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *server).await.unwrap();
        }
        let settings = DatabaseSettings { url: with_database(url, &name), connections: 1 };
        Store::open(&settings).await.unwrap().migrate().await.unwrap();
        let done = format!("alter database {name} is_template true");
        sqlx::raw_sql(AssertSqlSafe(done)).execute(&mut *server).await.unwrap();
    }
    sqlx::query("select pg_advisory_unlock(42)").execute(server).await.unwrap();
    name
}

/// Makes of each `async fn name(database: Database)` a test on SQLite and one on PostgreSQL.
macro_rules! on_each_store {
    ($($(#[$doc:meta])* async fn $name:ident($database:ident: Database) $body:block)*) => {$(
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn on($database: Database) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                on(Database::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(database) = Database::postgres().await {
                    on(database).await;
                }
            }
        }
    )*};
}
