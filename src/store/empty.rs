//! Databases for tests beside the code: each its own, on SQLite and on the PostgreSQL server of the test run.

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{At, Conn, DatabaseSettings, MIGRATIONS, Store, Stored, Tx};

/// A database without a schema, that goes when this goes.
pub(crate) struct Empty {
    url: String,
    folder: tempfile::TempDir,
    /// Of the server, and the name to drop.
    server: Option<(String, String)>,
}

impl Empty {
    pub(crate) fn sqlite() -> Empty {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("livewell.db").display());
        Empty { url, folder, server: None }
    }

    pub(crate) async fn postgres() -> Option<Empty> {
        let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
            eprintln!("skipped: TEST_POSTGRES_URL names no PostgreSQL server (./tests/run starts one)");
            return None;
        };
        let name = format!("livewell_upgrade_{}", uuid::Uuid::new_v4().simple());
        on(&server, &format!("create database {name}")).await;
        let (host, _) = server.rsplit_once('/').unwrap();
        let url = format!("{host}/{name}");
        Some(Empty { url, folder: tempfile::tempdir().unwrap(), server: Some((server, name)) })
    }

    /// Where the file of an SQLite database is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// One on each kind of database there is.
    pub(crate) async fn each() -> Vec<Empty> {
        std::iter::once(Empty::sqlite()).chain(Empty::postgres().await).collect()
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&DatabaseSettings { url: self.url.clone(), connections: 2 }).await.unwrap()
    }

    /// The database with the first so many migrations.
    pub(super) async fn at(&self, migrations: usize) -> Store {
        let store = self.open().await;
        let some = Migrator::with_migrations(MIGRATIONS.iter().take(migrations).cloned().collect());
        match &store {
            Store::Sqlite(sqlite) => sqlite.migrate(&some).await.unwrap(),
            Store::Postgres(postgres) => postgres.migrate(&some).await.unwrap(),
        }
        store
    }

    pub(crate) async fn gone(self) {
        if let Some((server, name)) = &self.server {
            on(server, &format!("drop database {name} with (force)")).await;
        }
    }
}

async fn on(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A Patient of nobody's, as it is stored first.
pub(super) fn patient(id: &str, body: String) -> Stored {
    Stored {
        kind: "Patient".to_owned(),
        id: id.to_owned(),
        version: 1,
        updated_at: At(1),
        deleted: false,
        sender: String::new(),
        person: String::new(),
        referral: String::new(),
        body,
    }
}

/// Runs a statement within a transaction that writes to SQLite, as nothing in the product would.
pub(super) async fn raw(tx: &mut Tx, text: &'static str) {
    let Conn::SqliteWrite(unit) = &mut tx.conn else { panic!("a transaction that writes, on SQLite") };
    unit.take_turn().await.unwrap();
    sqlx::query(text).execute(unit.connection()).await.unwrap();
}
