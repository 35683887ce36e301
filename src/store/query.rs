//! Statements that are put together while a transaction goes on.

use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::inserts::VALUES_AT_ONCE;
use super::sql::{Connection, Row, Values};
use super::{StoreError, Tx};

/// A statement put together from fixed pieces and bound values: the one place where SQL text is not a literal.
///
/// Only text written in this room is pushed; whatever came from outside is bound.
#[derive(Default)]
pub(super) struct Query {
    text: String,
    binds: Vec<Bind>,
    /// Each value stands in the text where it is bound, without its number: SQLite goes through all numbers to find one.
    unnumbered: bool,
}

/// A value that a [`Query`] binds.
#[derive(Clone)]
pub(super) enum Bind {
    Text(Arc<str>),
    Nullable(Option<String>),
    Number(i64),
    Real(f64),
    Flag(bool),
}

impl From<&str> for Bind {
    fn from(value: &str) -> Bind {
        Bind::Text(value.into())
    }
}

impl From<String> for Bind {
    fn from(value: String) -> Bind {
        Bind::Text(value.into())
    }
}

impl From<i64> for Bind {
    fn from(value: i64) -> Bind {
        Bind::Number(value)
    }
}

impl From<f64> for Bind {
    fn from(value: f64) -> Bind {
        Bind::Real(value)
    }
}

impl From<super::At> for Bind {
    fn from(value: super::At) -> Bind {
        Bind::Number(value.0)
    }
}

impl From<bool> for Bind {
    fn from(value: bool) -> Bind {
        Bind::Flag(value)
    }
}

impl Values {
    fn and_all(self, binds: Vec<Bind>) -> Values {
        binds.into_iter().fold(self, |values, bind| match bind {
            Bind::Text(value) => values.and(value),
            Bind::Nullable(value) => values.and(value),
            Bind::Number(value) => values.and(value),
            Bind::Real(value) => values.and(value),
            Bind::Flag(value) => values.and(value),
        })
    }
}

impl Query {
    pub(super) fn new(text: &'static str) -> Query {
        Query { text: text.to_owned(), ..Query::default() }
    }

    /// A statement for SQLite, of many values: none of them is found by a number.
    pub(super) fn unnumbered() -> Query {
        Query { unnumbered: true, ..Query::default() }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Query {
        self.text.push_str(text);
        self
    }

    /// Text that ends in a number.
    pub(super) fn push_number(&mut self, text: &'static str, number: i64) -> &mut Query {
        self.text.push_str(text);
        self.text.push_str(&number.to_string());
        self
    }

    /// A bound value, as the next `$n`.
    pub(super) fn bind(&mut self, value: impl Into<Bind>) -> &mut Query {
        self.binds.push(value.into());
        if self.unnumbered {
            self.text.push('?');
        } else {
            self.text.push('$');
            self.text.push_str(&self.binds.len().to_string());
        }
        self
    }

    /// `(a, b), (c, d)`: rows of bound values.
    pub(super) fn bind_rows(&mut self, rows: impl IntoIterator<Item = Vec<Bind>>) -> &mut Query {
        for (at, row) in rows.into_iter().enumerate() {
            self.push(if at == 0 { "(" } else { ", (" });
            for (column, value) in row.into_iter().enumerate() {
                if column > 0 {
                    self.push(", ");
                }
                self.bind(value);
            }
            self.push(")");
        }
        self
    }
}

impl Query {
    pub(super) async fn run_on_postgres(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.execute(Connection::Postgres(connection), Values::Postgres(PgArguments::default())).await
    }

    /// Runs it outside a [`Tx`], as part of what the connection is doing.
    pub(super) async fn run_on(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        self.execute(Connection::Sqlite(connection), Values::Sqlite(SqliteArguments::default())).await
    }

    async fn execute(self, connection: Connection<'_>, none: Values) -> Result<(), sqlx::Error> {
        let keep = self.is_worth_keeping();
        let values = none.and_all(self.binds);
        connection.execute(AssertSqlSafe(self.text).into_sql_str(), values, keep).await.map(drop)
    }

    /// A prepared statement is kept for the next time, unless it is so long that there will hardly be one.
    fn is_worth_keeping(&self) -> bool {
        self.binds.len() <= VALUES_AT_ONCE
    }

    /// As the end of a unit of SQLite's: between its savepoint, unless that was `begun`, and its release.
    pub(super) fn into_unit(mut self, begun: bool) -> Query {
        let mark = if begun { "" } else { "savepoint unit; " };
        let end = if self.text.is_empty() { "release unit" } else { "; release unit" };
        self.text = format!("{mark}{}{end}", self.text);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl Tx {
    /// Runs a [`Query`] that answers rows.
    pub(super) async fn rows<T: Row>(&mut self, query: Query) -> Result<Vec<T>, StoreError> {
        let values = self.values().and_all(query.binds);
        self.fetch_all(AssertSqlSafe(query.text), values).await
    }

    /// Runs a [`Query`] that changes rows; answers how many.
    pub(super) async fn run(&mut self, query: Query) -> Result<u64, StoreError> {
        let values = self.values().and_all(query.binds);
        self.execute(AssertSqlSafe(query.text), values).await
    }
}
