//! `sql!`: one statement text, run on whichever database the transaction is on.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, FromRow, Postgres, SqlSafeStr, SqlStr, Sqlite, Type};

use super::{Conn, StoreError, Tx};

/// Runs one statement: `sql!(tx, fetch_optional, "select ... where id = $1", id)`.
///
/// The method is one of sqlx's (`execute`, `fetch_all`, `fetch_optional`, `fetch_one`); rows come as the type the
/// context asks for. Where the dialects differ: `sql!(tx, fetch_all, { sqlite: "...", postgres: "..." }, args)`.
macro_rules! sql {
    ($tx:expr, $method:ident, { sqlite: $lite:expr, postgres: $pg:expr } $(, $arg:expr)* $(,)?) => {{
        let values = $tx.values()$(.and($arg))*;
        let text = if values.are_for_postgres() { $pg } else { $lite };
        $tx.$method(text, values).await
    }};
    ($tx:expr, $method:ident, $text:expr $(, $arg:expr)* $(,)?) => {{
        let values = $tx.values()$(.and($arg))*;
        $tx.$method($text, values).await
    }};
}

/// What `$1`, `$2`, ... stand for in a statement, as its database takes them.
pub(crate) enum Values {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
    /// One of them cannot be told to the database.
    Wrong(BoxDynError),
}

impl Values {
    /// These and one more.
    pub(crate) fn and<'t, T>(mut self, value: T) -> Values
    where
        T: Encode<'t, Sqlite> + Type<Sqlite> + Encode<'t, Postgres> + Type<Postgres>,
    {
        let added = match &mut self {
            Values::Sqlite(values) => Arguments::add(values, value),
            Values::Postgres(values) => Arguments::add(values, value),
            Values::Wrong(_) => Ok(()),
        };
        match added {
            Ok(()) => self,
            Err(error) => Values::Wrong(error),
        }
    }

    pub(crate) fn are_for_postgres(&self) -> bool {
        matches!(self, Values::Postgres(_))
    }

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

/// The connection that a transaction is on.
enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// The rows that a database answered with.
enum Rows {
    Sqlite(Vec<SqliteRow>),
    Postgres(Vec<PgRow>),
}

impl Rows {
    fn read<T: Row>(self) -> Result<Vec<T>, sqlx::Error> {
        match self {
            Rows::Sqlite(rows) => rows.iter().map(T::from_row).collect(),
            Rows::Postgres(rows) => rows.iter().map(T::from_row).collect(),
        }
    }
}

/// What a row is read as, on both databases.
pub(crate) trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> {}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>> Row for T {}

// What waits for a database is not generic, so that it is compiled once and not for each statement; what is generic does
// not wait.
impl Connection<'_> {
    async fn execute(self, text: SqlStr, values: Values, keep: bool) -> Result<u64, sqlx::Error> {
        match (self, values) {
            (Connection::Sqlite(c), Values::Sqlite(values)) => {
                let done = sqlx::query_with(text, values).persistent(keep).execute(c).await;
                done.map(|done| done.rows_affected())
            }
            (Connection::Postgres(c), Values::Postgres(values)) => {
                let done = sqlx::query_with(text, values).persistent(keep).execute(c).await;
                done.map(|done| done.rows_affected())
            }
            (_, values) => Err(values.not_for_this()),
        }
    }

    async fn fetch(self, text: SqlStr, values: Values) -> Result<Rows, sqlx::Error> {
        match (self, values) {
            (Connection::Sqlite(c), Values::Sqlite(values)) => {
                sqlx::query_with(text, values).fetch_all(c).await.map(Rows::Sqlite)
            }
            (Connection::Postgres(c), Values::Postgres(values)) => {
                sqlx::query_with(text, values).fetch_all(c).await.map(Rows::Postgres)
            }
            (_, values) => Err(values.not_for_this()),
        }
    }

    /// No more than the first row.
    async fn fetch_first(self, text: SqlStr, values: Values) -> Result<Rows, sqlx::Error> {
        match (self, values) {
            (Connection::Sqlite(c), Values::Sqlite(values)) => {
                let row = sqlx::query_with(text, values).fetch_optional(c).await?;
                Ok(Rows::Sqlite(row.into_iter().collect()))
            }
            (Connection::Postgres(c), Values::Postgres(values)) => {
                let row = sqlx::query_with(text, values).fetch_optional(c).await?;
                Ok(Rows::Postgres(row.into_iter().collect()))
            }
            (_, values) => Err(values.not_for_this()),
        }
    }
}

impl Values {
    fn not_for_this(self) -> sqlx::Error {
        match self {
            Values::Wrong(error) => sqlx::Error::Encode(error),
            _ => sqlx::Error::Protocol("the values are for the other database".to_owned()),
        }
    }
}

impl Tx {
    /// No values yet, for the database that this is on.
    pub(crate) fn values(&self) -> Values {
        match self.is_on_postgres() {
            true => Values::Postgres(PgArguments::default()),
            false => Values::Sqlite(SqliteArguments::default()),
        }
    }

    fn connection(&mut self) -> Connection<'_> {
        match &mut self.conn {
            Conn::SqliteRead(c) => Connection::Sqlite(c.connection()),
            Conn::SqliteWrite(c) => Connection::Sqlite(c.connection()),
            Conn::PostgresRead(c) => Connection::Postgres(c),
            Conn::PostgresLook(c) => Connection::Postgres(c),
            Conn::PostgresWrite(unit) => Connection::Postgres(unit.connection()),
        }
    }

    /// How many rows a statement changed.
    pub(crate) async fn execute(&mut self, text: impl SqlSafeStr, values: Values) -> Result<u64, StoreError> {
        let text = text.into_sql_str();
        self.about_to_run(text.as_str()).await?;
        let result = self.connection().execute(text, values, true).await;
        self.note(result)
    }

    pub(crate) async fn fetch_all<T: Row>(
        &mut self,
        text: impl SqlSafeStr,
        values: Values,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.fetch(text.into_sql_str(), values, false).await?;
        self.note(rows.read())
    }

    pub(crate) async fn fetch_optional<T: Row>(
        &mut self,
        text: impl SqlSafeStr,
        values: Values,
    ) -> Result<Option<T>, StoreError> {
        let rows = self.fetch(text.into_sql_str(), values, true).await?;
        self.note(rows.read().map(|mut rows| rows.pop()))
    }

    pub(crate) async fn fetch_one<T: Row>(&mut self, text: impl SqlSafeStr, values: Values) -> Result<T, StoreError> {
        let row = self.fetch_optional(text, values).await?;
        self.note(row.ok_or(sqlx::Error::RowNotFound))
    }

    async fn fetch(&mut self, text: SqlStr, values: Values, only_first: bool) -> Result<Rows, StoreError> {
        self.about_to_run(text.as_str()).await?;
        let connection = self.connection();
        let result = match only_first {
            true => connection.fetch_first(text, values).await,
            false => connection.fetch(text, values).await,
        };
        self.note(result)
    }
}

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
