//! The database of one test: made for it, looked into from beside the service, gone after it.

use std::path::Path;

use livewell::config::DatabaseUrl;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Row, TypeInfo, ValueRef};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// A file in the test's folder, in WAL mode.
    Sqlite,
    /// A database of its own on the server that `TEST_POSTGRES_URL` names.
    Postgres,
    /// The same, with its big tables in partitions.
    Partitioned,
    /// The one at this URL, which the test itself made and takes away.
    At(&'static str),
}

/// The database that was made for one test.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// What `database.url` is set to.
    pub(crate) url: String,
    /// On the PostgreSQL server: the server's own URL, and the name to drop.
    server: Option<(String, String)>,
}

impl Database {
    /// Makes the database; nothing where there is no server to make it on.
    pub(crate) async fn make(self, folder: &Path) -> Option<Made> {
        if let Database::At(url) = self {
            return Some(Made { url: url.to_owned(), server: None });
        }
        if self == Database::Sqlite {
            return Some(Made { url: format!("sqlite:{}", folder.join("livewell.db").display()), server: None });
        }
        let server = std::env::var("TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty())?;
        let name = format!("livewell_test_{}", uuid::Uuid::new_v4().simple());
        let url = crate::database::copy(&server, &name).await;
        if self == Database::Partitioned {
            crate::database::partition(&url, 4);
        }
        Some(Made { url, server: Some((server, name)) })
    }
}

impl Made {
    /// One that is there already, and stays.
    pub(crate) fn at(url: &str) -> Made {
        Made { url: url.to_owned(), server: None }
    }

    /// As the configuration takes it.
    pub(crate) fn config(&self) -> DatabaseUrl {
        DatabaseUrl(self.url.clone())
    }

    /// Drops it where it is not a file in the test's folder.
    pub(crate) async fn drop(self) {
        if let Some((server, name)) = self.server {
            on_server(&server, format!("drop database {name} with (force)")).await;
        }
    }

    /// The rows of a query, each value as JSON: numbers, texts, booleans, null.
    pub(crate) async fn rows(&self, query: &str) -> Vec<Vec<Value>> {
        if self.url.starts_with("postgres") {
            let mut connection = self.postgres().connect().await.unwrap();
            let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(postgres_row).collect()
        } else {
            let mut connection = self.sqlite().connect().await.unwrap();
            let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(sqlite_row).collect()
        }
    }

    fn sqlite(&self) -> sqlx::sqlite::SqliteConnectOptions {
        let options: sqlx::sqlite::SqliteConnectOptions = self.url.parse().unwrap();
        options.create_if_missing(false).busy_timeout(std::time::Duration::from_secs(5))
    }

    fn postgres(&self) -> sqlx::postgres::PgConnectOptions {
        self.url.parse().unwrap()
    }
}

async fn on_server(server: &str, statement: String) {
    let mut connection = sqlx::PgConnection::connect(server).await.expect("TEST_POSTGRES_URL can be reached");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// What a value is by its type's name, which both databases tell.
macro_rules! told {
    ($row:expr) => {
        $row.columns()
            .iter()
            .map(|column| {
                let at = column.ordinal();
                let raw = $row.try_get_raw(at).unwrap();
                if raw.is_null() {
                    return Value::Null;
                }
                let kind = raw.type_info().name().to_owned();
                match kind.as_str() {
                    "INTEGER" | "INT8" | "BIGINT" => json!($row.get::<i64, _>(at)),
                    "INT4" => json!($row.get::<i32, _>(at)),
                    "BOOLEAN" | "BOOL" => json!($row.get::<bool, _>(at)),
                    "REAL" | "FLOAT8" => json!($row.get::<f64, _>(at)),
                    _ => json!($row.get::<String, _>(at)),
                }
            })
            .collect()
    };
}

fn sqlite_row(row: &sqlx::sqlite::SqliteRow) -> Vec<Value> {
    told!(row)
}

fn postgres_row(row: &sqlx::postgres::PgRow) -> Vec<Value> {
    told!(row)
}
