//! `sql!`: one statement text, run on whichever database the transaction is on.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, Encode, FromRow, Postgres, SqlSafeStr, SqlStr, Sqlite, Type};

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
}

/// The connection that a transaction is on.
pub(super) enum Connection<'c> {
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
    pub(super) async fn execute(self, text: SqlStr, values: Values, keep: bool) -> Result<u64, sqlx::Error> {
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
