//! The connections on which SQLite is read.
//!
//! Our own, not sqlx's pool: that pings a connection when it is taken and again when it is given back, each a round trip
//! to the connection's thread, which is as much as most reads cost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::StoreError;

/// How long a reader waits for a connection before its caller is told to come back.
const TURN: Duration = Duration::from_secs(5);

/// Connections for reading, made when they are first needed.
pub(super) struct Readers {
    options: SqliteConnectOptions,
    idle: Mutex<Vec<SqliteConnection>>,
    turns: Arc<Semaphore>,
}

/// One of them, in use.
pub(crate) struct Reading {
    /// There until this is dropped.
    connection: Option<SqliteConnection>,
    readers: Arc<Readers>,
    turn: Option<OwnedSemaphorePermit>,
    /// A transaction was begun on it.
    begun: bool,
    spoilt: bool,
}

impl Readers {
    pub(super) fn new(options: SqliteConnectOptions, connections: u32) -> Arc<Readers> {
        let turns = Arc::new(Semaphore::new(usize::try_from(connections.max(1)).unwrap_or(1)));
        Arc::new(Readers { options, idle: Mutex::default(), turns })
    }

    /// A connection for one statement.
    pub(super) async fn one(self: &Arc<Readers>) -> Result<Reading, StoreError> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(StoreError::Unavailable(None))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Reading {
            connection: Some(connection),
            readers: Arc::clone(self),
            turn: Some(turn),
            begun: false,
            spoilt: false,
        })
    }

    /// A connection on which one snapshot is read.
    pub(super) async fn begin(self: &Arc<Readers>) -> Result<Reading, StoreError> {
        let mut reading = self.one().await?;
        // Before: if this is cut off, it may have begun all the same.
        reading.begun = true;
        sqlx::query("begin").execute(reading.connection()).await?;
        Ok(reading)
    }
}

impl Reading {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("it is there until this is dropped")
    }

    /// Something went wrong on it: it is closed, and the next reader gets a fresh one.
    pub(super) fn not_to_be_used_again(&mut self) {
        self.spoilt = true;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let (Some(mut connection), turn) = (self.connection.take(), self.turn.take()) else { return };
        let readers = Arc::clone(&self.readers);
        if self.spoilt {
            return;
        }
        if !self.begun {
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // An open snapshot would keep the write-ahead log from being taken into the database.
            runtime.spawn(async move {
                if sqlx::query("rollback").execute(&mut connection).await.is_ok() {
                    readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                }
                drop(turn);
            });
        }
    }
}
