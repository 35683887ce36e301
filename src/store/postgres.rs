//! PostgreSQL: its own concurrency, its own pool.
//!
//! Writers run at READ COMMITTED. What they build on is guarded by versions and unique keys, and by [`Tx::hold`] where
//! neither can see the other; whoever loses a race is told so ([`StoreError::is_race`]) and does the whole act again.

use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::migrate::{Migration, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool, SqlSafeStr, Transaction};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::credentials::{self, Credentials, Weakly};
use super::gathered::{Gathered, until_told};
use super::inserts::{Inserts, ROWS_AT_ONCE};
use super::refusals::Refusals;
use super::{DatabaseSettings, StoreError};

/// The first release that is tried with this service.
const OLDEST_VERSION: i32 = 15;

/// How long a request waits for a connection before its caller is told to come back.
const TURN: Duration = Duration::from_secs(5);

/// How long a connection may have stood idle before it is asked, when it is taken, whether it still lives. One that was
/// used a moment ago is not: that would be a round trip for every transaction.
const IDLE: Duration = Duration::from_millis(500);

/// An open PostgreSQL database.
pub struct Postgres {
    pub(super) pool: PgPool,
    /// Turns of transactions that write. Those that wait for each other leave connections to those that read.
    writers: Arc<Semaphore>,
    /// Audit rows of disclosures.
    pub(super) disclosures: Gathered<Inserts, ()>,
    pub(super) refusals: Refusals,
    /// Hashes of tokens.
    pub(super) credentials: Gathered<String, Option<Credentials>>,
}

impl Postgres {
    /// Connects when it is first used: [`Postgres::check_settings`] says whether it can.
    pub(super) fn open(settings: &DatabaseSettings) -> Result<Arc<Postgres>, StoreError> {
        let (disclosed, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let postgres = Arc::new(Postgres {
            pool: pool(settings)?,
            writers: Arc::new(Semaphore::new(writers(settings.connections))),
            disclosures: Gathered::told(Arc::clone(&disclosed)),
            refusals: Refusals::default(),
            credentials: Gathered::told(Arc::clone(&asked)),
        });
        tokio::spawn(write_disclosures(Arc::downgrade(&postgres), disclosed));
        tokio::spawn(credentials::answer(Weakly::Postgres(Arc::downgrade(&postgres)), asked));
        Ok(postgres)
    }

    /// Connects once, outside the pool, so that what is wrong is said at once and in words.
    pub(super) async fn check_settings(&self) -> Result<(), StoreError> {
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        durable(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Begins a transaction. In a task of its own, because a connection whose `begin` is dropped half way goes back to
    /// the pool inside an open transaction (transact-rs/sqlx 4385).
    pub(super) async fn begin(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, sqlx::Postgres>, StoreError> {
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
        Ok(begun.map_err(|_| StoreError::Unavailable(None))??)
    }

    /// Brings the schema up to date. Several that start at once take turns, which may take longer than a request may.
    pub(super) async fn migrate(&self, migrations: &Migrator) -> Result<(), StoreError> {
        let options =
            self.pool.connect_options().as_ref().clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        let ours = Migrator::with_migrations(migrations.iter().map(by_bytes).collect());
        let done = ours.run_direct(None, &mut connection, false).await;
        // Ends the session and with it the lock that migrating takes, also when it failed.
        connection.close().await?;
        Ok(done?)
    }
}

/// How many connections may be in transactions that write: all but a third of them.
fn writers(connections: u32) -> usize {
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    (connections - connections / 3).max(1)
}

fn pool(settings: &DatabaseSettings) -> Result<PgPool, StoreError> {
    let options = PgConnectOptions::from_str(&settings.url)?
        .application_name("livewell")
        .statement_cache_capacity(256)
        .options([
            ("statement_timeout", "15s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "20s"),
            ("default_transaction_isolation", "read committed"),
            ("default_transaction_read_only", "off"),
        ])
        .disable_statement_logging();
    Ok(PgPoolOptions::new()
        .max_connections(settings.connections.max(1))
        .acquire_timeout(TURN)
        .max_lifetime(Duration::from_secs(30 * 60))
        .test_before_acquire(false)
        .before_acquire(|connection, standing| {
            Box::pin(async move {
                if standing.idle_for > IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        // Settings can change while the service runs: no connection without them is ever used.
        .after_connect(|connection, _| Box::pin(async move { durable(connection).await.map_err(not_durable) }))
        .connect_lazy_with(options))
}

/// A transaction that writes. It begins with its first statement, so that one that is a single statement needs no more.
pub(crate) struct Unit {
    postgres: Arc<Postgres>,
    begun: Option<Transaction<'static, sqlx::Postgres>>,
    /// Until it has ended, after `begun`.
    turn: Option<OwnedSemaphorePermit>,
}

impl Unit {
    pub(super) fn on(postgres: &Arc<Postgres>) -> Unit {
        Unit { postgres: Arc::clone(postgres), begun: None, turn: None }
    }

    /// Begins it, unless it has begun.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        if self.begun.is_none() {
            let turn = tokio::time::timeout(TURN, Arc::clone(&self.postgres.writers).acquire_owned()).await;
            self.turn = turn.ok().and_then(Result::ok);
            if self.turn.is_none() {
                return Err(StoreError::Unavailable(None));
            }
            self.begun = Some(self.postgres.begin("begin").await?);
        }
        Ok(())
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.begun.as_mut().expect("a transaction that has begun")
    }

    /// A connection for a read that need not be part of it; none once it has begun.
    pub(super) async fn aside(&self) -> Result<Option<PoolConnection<sqlx::Postgres>>, StoreError> {
        match self.begun {
            Some(_) => Ok(None),
            None => Ok(Some(self.postgres.pool.acquire().await?)),
        }
    }

    /// Writes `later` and makes all of it durable.
    pub(super) async fn commit(self, later: Inserts) -> Result<(), StoreError> {
        match self.begun {
            Some(mut begun) => {
                if !later.is_empty() {
                    later.for_postgres().run_on_postgres(&mut begun).await?;
                }
                begun.commit().await.map_err(StoreError::of_commit)
            }
            None if later.is_empty() => Ok(()),
            // A statement is a transaction by itself.
            None => {
                let mut connection = self.postgres.pool.acquire().await?;
                later.for_postgres().run_on_postgres(&mut connection).await.map_err(StoreError::of_commit)
            }
        }
    }
}

/// Writes the audit rows of disclosures, all that wait in one durable statement, until the database is closed.
async fn write_disclosures(database: Weak<Postgres>, come: Arc<Notify>) {
    loop {
        until_told(&come).await;
        let Some(postgres) = database.upgrade() else { return };
        let (rows, waiting) = postgres.disclosures.take();
        let mut waiting = waiting.into_iter();
        for some in rows.chunks(ROWS_AT_ONCE) {
            let together = postgres.write(Inserts::together(some)).await;
            let away = matches!(together, Err(StoreError::Unavailable(_)));
            for (row, who) in some.iter().zip(waiting.by_ref()) {
                // One by one where all at once are refused, so that one takes no other along.
                let written = match &together {
                    Ok(()) => Ok(()),
                    Err(_) if away => Err(StoreError::Unavailable(None)),
                    Err(_) => postgres.write(row.clone()).await,
                };
                if let Err(error) = &written {
                    tracing::error!(error = %error, "an audit row could not be written; what it allows is not disclosed");
                }
                let _ = who.send(written.map_err(|_| StoreError::Unavailable(None)));
            }
        }
    }
}

impl Postgres {
    /// In one statement, which is a transaction by itself.
    async fn write(&self, rows: Inserts) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(rows.for_postgres().run_on_postgres(&mut connection).await?)
    }
}

fn not_durable(error: StoreError) -> sqlx::Error {
    sqlx::Error::Configuration(Box::new(error))
}

async fn durable(connection: &mut PgConnection) -> Result<(), StoreError> {
    let (version, encoding, fsync, pages, commit): (i32, String, String, String, String) = sqlx::query_as(
        "select current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), \
         current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')",
    )
    .fetch_one(connection)
    .await?;
    if version < OLDEST_VERSION {
        return Err(wrong(format!("the server is version {version}; {OLDEST_VERSION} or later is needed")));
    }
    if encoding != "UTF8" {
        return Err(wrong(format!(
            "the database is in {encoding}, and must be in UTF8: create it with encoding 'UTF8'"
        )));
    }
    for (setting, found, good) in [
        ("fsync", fsync, &["on"][..]),
        ("full_page_writes", pages, &["on"][..]),
        ("synchronous_commit", commit, &["on", "remote_apply"][..]),
    ] {
        if !good.contains(&found.as_str()) {
            return Err(wrong(format!(
                "{setting} is {found}, and must be {}, or what was acknowledged can be lost. Set it for the server, \
                 the database and the role, and start again",
                good.join(" or ")
            )));
        }
    }
    Ok(())
}

fn wrong(text: String) -> StoreError {
    StoreError::Settings(format!("PostgreSQL: {text}"))
}

/// The migration with text ordered and compared by its bytes, as SQLite does: ranges of names, pages by id and unique
/// keys must not depend on the language a database was created with.
fn by_bytes(migration: &Migration) -> Migration {
    let sql = migration.sql.as_str().replace(" text", " text collate \"C\"");
    Migration::new(
        migration.version,
        migration.description.clone(),
        migration.migration_type,
        AssertSqlSafe(sql).into_sql_str(),
        migration.no_tx,
    )
}
