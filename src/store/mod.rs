//! Persistence: the only room that knows sqlx.
//!
//! [`Store`] is the database, [`Tx`] one transaction on it. Every statement is one text that runs on SQLite and on
//! PostgreSQL through `sql!`; the queries of an area are an `impl Tx` block in the file of its name.

mod ahead;
mod at;
mod checkpoints;
mod error;
mod gathered;
mod inserts;
mod postgres;
mod query;
mod readers;
mod settings;
mod sqlite;
#[macro_use]
mod sql;

mod audit;
mod clients;
mod credentials;
mod criteria;
#[macro_use]
mod deliveries;
mod delivery_lists;
mod destinations;
mod directory;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
pub(crate) mod empty;
mod everything;
mod exports;
mod filter;
mod history;
mod index;
mod keys;
mod mesh;
mod people;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod query_plans;
mod referrals;
mod refusals;
mod resources;
mod search;
mod submissions;
mod subscriptions;
mod tasks;
mod trail;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod upgrades;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::migrate::Migrator;

pub use ahead::{Found as FoundAhead, Questions};
pub use at::At;
pub use audit::{AuditRow, audit_id};
pub use clients::{ClientRow, TokenRow};
pub use credentials::Credentials;
pub use deliveries::{AttemptRow, DeliveryItem, DeliveryRow, Leased, NewDelivery, PracticeCopyRow};
pub use delivery_lists::{DeliveryFilter, Depth};
pub use destinations::DestinationRow;
pub use directory::Practice;
pub use error::StoreError;
pub use everything::Wanted;
pub use exports::{ExportFileRow, ExportPart, ExportRow};
pub use filter::Sight;
pub use history::{HistoryKey, HistoryOf, HistoryPage, HistoryRow};
pub use keys::ServiceKeyRow;
pub use mesh::{MeshMessageRow, MessageName};
pub use people::PersonRow;
pub use referrals::{EpisodeRow, ReferralRow};
pub use resources::{Belongs, Stored, VersionRow};
pub use search::{Found, Key, Page, Place};
pub use settings::DatabaseSettings;
pub use submissions::SubmissionRow;
pub use subscriptions::{EventRow, SubscriptionRow};
pub use tasks::{QueuedTask, TaskRow, WorkOrder};
pub use trail::{Interactions, TrailSearch, TrailTest};

static MIGRATIONS: Migrator = sqlx_macros::migrate!("src/store/migrations");

/// The database: SQLite in a file, or PostgreSQL.
#[derive(Clone)]
pub enum Store {
    Sqlite(Arc<sqlite::Sqlite>),
    Postgres(Arc<postgres::Postgres>),
}

/// One transaction. Dropped without [`Tx::commit`], it leaves nothing behind.
pub struct Tx {
    pub(crate) conn: Conn,
    failed: bool,
    /// Inserts that are written with the next statement.
    later: inserts::Inserts,
    /// The sender of each referral that was met, by its id.
    senders: HashMap<String, String>,
    /// What was run, for the test that looks at query plans.
    #[cfg(test)]
    ran: Vec<String>,
}

/// How a name is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Beside others who hold it so, and nobody who holds it alone.
    WithOthers,
    Alone,
}

pub(crate) enum Conn {
    SqliteRead(readers::Reading),
    SqliteWrite(sqlite::Unit),
    PostgresRead(sqlx::Transaction<'static, sqlx::Postgres>),
    PostgresWrite(postgres::Unit),
    /// Outside a transaction.
    PostgresLook(sqlx::pool::PoolConnection<sqlx::Postgres>),
}

impl Store {
    /// Opens the database a URL names: `sqlite:FILE`, or `postgres://...`. An SQLite file is made where there is none.
    pub async fn open(settings: &DatabaseSettings) -> Result<Store, StoreError> {
        if settings.url.starts_with("postgres:") || settings.url.starts_with("postgresql:") {
            Ok(Store::Postgres(postgres::Postgres::open(settings)?))
        } else {
            Ok(Store::Sqlite(sqlite::Sqlite::open(settings).await?))
        }
    }

    /// Brings the schema up to date. Safe to repeat, and to interrupt.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.migrate(&MIGRATIONS).await,
            Store::Postgres(postgres) => postgres.migrate(&MIGRATIONS).await,
        }
    }

    /// Whether the schema is this release's; false where [`Store::migrate`] has something to do. Changes nothing.
    ///
    /// # Errors
    /// The schema is of a later release, or cannot be read.
    pub async fn is_migrated(&self) -> Result<bool, StoreError> {
        let mut tx = self.read().await?;
        let applied: Result<Vec<(i64,)>, StoreError> =
            sql!(tx, fetch_all, "select version from _sqlx_migrations where success order by version");
        let applied = match applied {
            // No such table.
            Err(StoreError::Database(sqlx::Error::Database(_))) => return Ok(false),
            applied => applied?,
        };
        let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        match applied.iter().find(|(version,)| !known.contains(version)) {
            Some((later,)) => Err(sqlx::migrate::MigrateError::VersionMissing(*later).into()),
            None => Ok(applied.len() == known.len()),
        }
    }

    /// To be called when the work is done: an SQLite file is then whole by itself, and can be copied without its log.
    pub async fn close(&self) {
        let closed = match self {
            Store::Sqlite(sqlite) => sqlite.close().await,
            Store::Postgres(_) => Ok(()),
        };
        if let Err(error) = closed {
            tracing::warn!(error = %error, "SQLite's log could not be taken into the file; it is read when it is next opened");
        }
    }

    /// Reads the settings back on which durability rests; an error says which one is wrong.
    pub async fn check_settings(&self) -> Result<(), StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.check_settings().await,
            Store::Postgres(postgres) => postgres.check_settings().await,
        }
    }

    /// A transaction that only reads: one snapshot, never in the way of a writer.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        let conn = match self {
            Store::Sqlite(sqlite) => Conn::SqliteRead(sqlite.readers.begin().await?),
            Store::Postgres(postgres) => {
                Conn::PostgresRead(postgres.begin("begin isolation level repeatable read read only").await?)
            }
        };
        Ok(Tx::on(conn))
    }

    /// For a single statement that reads: a snapshot of its own, and none of what beginning and ending one costs.
    /// Two statements may see different states.
    pub async fn look(&self) -> Result<Tx, StoreError> {
        let conn = match self {
            Store::Sqlite(sqlite) => Conn::SqliteRead(sqlite.readers.one().await?),
            Store::Postgres(postgres) => Conn::PostgresLook(postgres.pool.acquire().await?),
        };
        Ok(Tx::on(conn))
    }

    /// A transaction that writes; it begins with its first statement. On SQLite writers take turns from then on, and share
    /// one durable commit.
    pub async fn write(&self) -> Result<Tx, StoreError> {
        let conn = match self {
            Store::Sqlite(sqlite) => Conn::SqliteWrite(sqlite::Unit::on(sqlite)),
            Store::Postgres(postgres) => Conn::PostgresWrite(postgres::Unit::on(postgres)),
        };
        Ok(Tx::on(conn))
    }
}

impl Tx {
    fn on(conn: Conn) -> Tx {
        Tx {
            conn,
            failed: false,
            later: inserts::Inserts::default(),
            senders: HashMap::new(),
            #[cfg(test)]
            ran: Vec::new(),
        }
    }

    /// Before each statement: what was put off is written first, so that the statement sees it.
    pub(crate) async fn about_to_run(&mut self, text: &str) -> Result<(), StoreError> {
        #[cfg(test)]
        self.ran.push(text.to_owned());
        self.write_later().await?;
        self.begin_for(text).await
    }

    /// Begins what writes; on SQLite a text that changes something is preceded by the mark to come back to.
    async fn begin_for(&mut self, text: &str) -> Result<(), StoreError> {
        match &mut self.conn {
            Conn::SqliteWrite(unit) => {
                unit.take_turn().await?;
                if !text.starts_with("select") {
                    let marked = unit.before_changes().await;
                    self.note(marked)?;
                }
                Ok(())
            }
            Conn::PostgresWrite(unit) => unit.begin().await,
            Conn::SqliteRead(_) | Conn::PostgresRead(_) | Conn::PostgresLook(_) => Ok(()),
        }
    }

    /// Makes everything done in this transaction durable. After a failed statement it refuses, on both databases
    /// alike: PostgreSQL would answer such a commit with success and keep nothing.
    pub async fn commit(self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Aborted);
        }
        match self.conn {
            Conn::SqliteWrite(unit) => unit.commit(self.later).await,
            Conn::PostgresWrite(unit) => unit.commit(self.later).await,
            Conn::PostgresRead(tx) => Ok(tx.commit().await?),
            Conn::SqliteRead(_) | Conn::PostgresLook(_) => Ok(()),
        }
    }

    /// Holds a name until this transaction ends; another that wants it waits. For what no version and no unique key
    /// guards. On SQLite a writer is alone anyway.
    pub async fn hold(&mut self, name: &str) -> Result<(), StoreError> {
        self.hold_all(&[(name, Hold::Alone)]).await
    }

    /// Holds several names, one after the other: whoever holds names in one order waits for nobody who waits for them.
    pub async fn hold_all(&mut self, names: &[(&str, Hold)]) -> Result<(), StoreError> {
        if let Conn::SqliteWrite(unit) = &mut self.conn
            && !names.is_empty()
        {
            return unit.take_turn().await;
        }
        if !self.is_on_postgres() {
            return Ok(());
        }
        // What one select may list.
        for some in names.chunks(1000) {
            let mut query = query::Query::new("select ");
            for (at, (name, hold)) in some.iter().enumerate() {
                query.push(if at == 0 { "" } else { ", " }).push(match hold {
                    Hold::Alone => "pg_advisory_xact_lock(hashtextextended(",
                    Hold::WithOthers => "pg_advisory_xact_lock_shared(hashtextextended(",
                });
                query.bind(*name).push(", 0))");
            }
            self.run(query).await?;
        }
        Ok(())
    }

    fn is_on_postgres(&self) -> bool {
        matches!(self.conn, Conn::PostgresRead(_) | Conn::PostgresWrite(_) | Conn::PostgresLook(_))
    }

    /// Writes something that changes nothing, so that a commit shows whether the database takes a durable write: an
    /// empty transaction commits on a full disk too.
    pub async fn write_a_mark(&mut self) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            { sqlite: "pragma user_version = 1", postgres: "select pg_logical_emit_message(true, 'livewell', 'ready')" }
        )?;
        Ok(())
    }

    pub(crate) fn note<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        result.map_err(|error| {
            self.failed = true;
            let error = StoreError::from(error);
            match &mut self.conn {
                Conn::SqliteRead(reading) => reading.not_to_be_used_again(),
                Conn::SqliteWrite(unit) if !matches!(error, StoreError::Conflict) => unit.doubt(),
                _ => {}
            }
            error
        })
    }
}
