//! Statements that are put together while a transaction goes on, and those that are put off to its end.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::sql::{Connection, Row, Values};
use super::{Conn, StoreError, Tx};

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
    Text(String),
    Nullable(Option<String>),
    Number(i64),
    Real(f64),
    Flag(bool),
}

impl From<&str> for Bind {
    fn from(value: &str) -> Bind {
        Bind::Text(value.to_owned())
    }
}

impl From<String> for Bind {
    fn from(value: String) -> Bind {
        Bind::Text(value)
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

    /// A statement of many values, which on SQLite need no numbers.
    pub(super) fn of_many(text: &'static str, on_postgres: bool) -> Query {
        Query { unnumbered: !on_postgres, ..Query::new(text) }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Query {
        self.text.push_str(text);
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
    /// Ends what [`put_off`](Tx::put_off) put together for PostgreSQL.
    pub(super) fn end_parts(mut self) -> Query {
        self.push(") select 1");
        self
    }

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
        self.binds.len() < 1000
    }

    /// What was put off, as the end of a unit of SQLite's: between its savepoint, unless that was `begun`, and its release.
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

/// Values that one statement binds at most; both databases take more.
const MOST_BINDS: usize = 8000;

impl Tx {
    /// Puts an insert off until the next statement, or the commit, with all others that were: one round trip, and on
    /// PostgreSQL one statement, for whatever a unit of work makes. What is wrong with it is said then.
    /// An insert that builds on another of the same transaction is not to be put off.
    pub(super) async fn put_off(
        &mut self,
        text: &'static str,
        rows: impl IntoIterator<Item = Vec<Bind>>,
        otherwise: &'static str,
    ) -> Result<(), StoreError> {
        if self.later.binds.len() > MOST_BINDS {
            self.write_later().await?;
        }
        let postgres = self.is_on_postgres();
        let first = self.later.is_empty();
        if first {
            self.later = Query::of_many("", postgres);
        }
        let query = &mut self.later;
        match (postgres, first) {
            (true, true) => drop(query.push("with part0 as (")),
            (true, false) => query.text.push_str(&format!("), part{} as (", query.binds.len())),
            (false, true) => {}
            (false, false) => drop(query.push("; ")),
        }
        query.push(text).bind_rows(rows).push(otherwise);
        Ok(())
    }

    /// Writes what was put off.
    pub(super) async fn write_later(&mut self) -> Result<(), StoreError> {
        if self.later.is_empty() {
            return Ok(());
        }
        let query = std::mem::take(&mut self.later);
        let written = match &mut self.conn {
            Conn::SqliteRead(c) => query.run_on(c.connection()).await,
            Conn::SqliteWrite(unit) => {
                unit.take_turn().await?;
                match unit.before_changes().await {
                    Ok(()) => query.run_on(unit.connection()).await,
                    Err(error) => Err(error),
                }
            }
            Conn::PostgresRead(c) => query.end_parts().run_on_postgres(c).await,
            Conn::PostgresLook(c) => query.end_parts().run_on_postgres(c).await,
            Conn::PostgresWrite(unit) => {
                unit.begin().await?;
                query.end_parts().run_on_postgres(unit.connection()).await
            }
        };
        self.note(written)
    }

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
