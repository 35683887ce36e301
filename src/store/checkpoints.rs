//! Takes what commits wrote into SQLite's log into the database file, beside the writer: it would stand still meanwhile.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Notify;

use super::gathered::until_told;
use super::sqlite::Sqlite;

/// Pages that wait in the log until they are taken. A page that many commits change is taken once.
const WORTH_TAKING: i64 = 4000;

/// How often the log is looked at while there are commits.
const PAUSE: Duration = Duration::from_millis(25);

/// How long it is left alone when it could not be taken.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// How long another process that reads or writes is waited for at the end; what it still needs stays in the log.
const FOR_OTHERS: Duration = Duration::from_secs(1);

/// Until the database is closed. `committed` is told of commits.
pub(super) async fn take(database: Weak<Sqlite>, options: SqliteConnectOptions, committed: Arc<Notify>) {
    let mut connection = None;
    while database.strong_count() > 0 {
        until_told(&committed).await;
        match take_if_worth_it(&mut connection, &options).await {
            Ok(()) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                // The writer takes them too, once the log is too long.
                tracing::warn!(error = %error, "the log could not be taken into the database; it is tried again");
                connection = None;
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Takes the whole log, once nobody else is at work: the database file is then all there is.
pub(super) async fn take_all(options: SqliteConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = options.busy_timeout(FOR_OTHERS).connect().await?;
    sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut connection).await?;
    connection.close().await
}

async fn take_if_worth_it(
    connection: &mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
) -> Result<(), sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.connect().await?),
    };
    let (_, pages, taken): (i64, i64, i64) =
        sqlx::query_as("pragma wal_checkpoint(noop)").fetch_one(&mut *connection).await?;
    if pages - taken >= WORTH_TAKING {
        sqlx::query("pragma wal_checkpoint(passive)").execute(connection).await?;
    }
    Ok(())
}
