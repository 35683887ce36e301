//! `sql!`: one statement text, run on whichever database the transaction is on.

/// The expression, with the text and the connection of the database that a [`Tx`](super::Tx) is on.
macro_rules! on_connection {
    ($tx:expr, ($lite:expr, $pg:expr), |$text:ident, $connection:ident| $run:expr) => {
        match &mut $tx.conn {
            $crate::store::Conn::SqliteRead(c) => {
                let ($text, $connection) = ($lite, c.connection());
                $run
            }
            $crate::store::Conn::SqliteWrite(c) => {
                let ($text, $connection) = ($lite, c.connection());
                $run
            }
            $crate::store::Conn::Postgres(c) => {
                let ($text, $connection) = ($pg, &mut **c);
                $run
            }
            $crate::store::Conn::PostgresLook(c) => {
                let ($text, $connection) = ($pg, &mut **c);
                $run
            }
        }
    };
}

/// Runs one statement: `sql!(tx, fetch_optional, "select ... where id = $1", id)`.
///
/// The method is one of sqlx's (`execute`, `fetch_all`, `fetch_optional`, `fetch_one`); rows come as the type the
/// context asks for. Where the dialects differ: `sql!(tx, fetch_all, { sqlite: "...", postgres: "..." }, args)`.
macro_rules! sql {
    ($tx:expr, execute, { sqlite: $lite:expr, postgres: $pg:expr } $(, $arg:expr)* $(,)?) => {
        match $tx.about_to_run($lite).await {
            Err(error) => Err(error),
            Ok(()) => {
                let result = on_connection!($tx, ($lite, $pg), |text, connection| {
                    sqlx::query(text)$(.bind($arg))*.execute(connection).await.map(|done| done.rows_affected())
                });
                $tx.note(result)
            }
        }
    };
    ($tx:expr, $method:ident, { sqlite: $lite:expr, postgres: $pg:expr } $(, $arg:expr)* $(,)?) => {
        match $tx.about_to_run($lite).await {
            Err(error) => Err(error),
            Ok(()) => {
                let result = on_connection!($tx, ($lite, $pg), |text, connection| {
                    sqlx::query_as(text)$(.bind($arg))*.$method(connection).await
                });
                $tx.note(result)
            }
        }
    };
    ($tx:expr, $method:ident, $text:expr $(, $arg:expr)* $(,)?) => {
        sql!($tx, $method, { sqlite: $text, postgres: $text } $(, $arg)*)
    };
}

/// A statement put together from fixed pieces and bound values: the one place where SQL text is not a literal.
///
/// Only text written in this room is pushed; whatever came from outside is bound.
#[derive(Default)]
pub(super) struct Query {
    text: String,
    binds: Vec<Bind>,
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
        Query { text: text.to_owned(), binds: Vec::new() }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Query {
        self.text.push_str(text);
        self
    }

    /// A bound value, as the next `$n`.
    pub(super) fn bind(&mut self, value: impl Into<Bind>) -> &mut Query {
        self.binds.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.binds.len().to_string());
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

macro_rules! bound {
    ($query:expr, $binds:expr) => {{
        let mut query = $query;
        for bind in $binds {
            query = match bind {
                Bind::Text(value) => query.bind(value),
                Bind::Nullable(value) => query.bind(value),
                Bind::Number(value) => query.bind(value),
                Bind::Real(value) => query.bind(value),
                Bind::Flag(value) => query.bind(value),
            };
        }
        query
    }};
}

impl Query {
    /// Ends what [`put_off`](super::Tx::put_off) put together for PostgreSQL.
    fn end_parts(&mut self) -> Query {
        self.push(") select 1");
        std::mem::take(self)
    }

    pub(super) async fn run_on_postgres(self, connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
        let keep = self.is_worth_keeping();
        let text = sqlx::AssertSqlSafe(self.text);
        bound!(sqlx::query(text), self.binds).persistent(keep).execute(connection).await.map(drop)
    }

    /// Runs it outside a [`Tx`](super::Tx), as part of what the connection is doing.
    pub(super) async fn run_on(self, connection: &mut sqlx::SqliteConnection) -> Result<(), sqlx::Error> {
        let keep = self.is_worth_keeping();
        let text = sqlx::AssertSqlSafe(self.text);
        bound!(sqlx::query(text), self.binds).persistent(keep).execute(connection).await.map(drop)
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

impl super::Tx {
    /// Puts an insert off until the next statement, or the commit, with all others that were: one round trip, and on
    /// PostgreSQL one statement, for whatever a unit of work makes. What is wrong with it is said then.
    /// An insert that builds on another of the same transaction is not to be put off.
    pub(super) async fn put_off(
        &mut self,
        text: &'static str,
        rows: impl IntoIterator<Item = Vec<Bind>>,
        otherwise: &'static str,
    ) -> Result<(), super::StoreError> {
        if self.later.binds.len() > MOST_BINDS {
            self.write_later().await?;
        }
        let postgres = matches!(self.conn, super::Conn::Postgres(_) | super::Conn::PostgresLook(_));
        let first = self.later.is_empty();
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
    pub(super) async fn write_later(&mut self) -> Result<(), super::StoreError> {
        if self.later.is_empty() {
            return Ok(());
        }
        let mut query = std::mem::take(&mut self.later);
        let written = match &mut self.conn {
            super::Conn::SqliteRead(c) => query.run_on(c.connection()).await,
            super::Conn::SqliteWrite(unit) => match unit.before_changes().await {
                Ok(()) => query.run_on(unit.connection()).await,
                Err(error) => Err(error),
            },
            super::Conn::Postgres(c) => query.end_parts().run_on_postgres(c).await,
            super::Conn::PostgresLook(c) => query.end_parts().run_on_postgres(c).await,
        };
        self.note(written)
    }

    /// Runs a [`Query`] that answers rows.
    pub(super) async fn rows<T>(&mut self, query: Query) -> Result<Vec<T>, super::StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>,
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        self.about_to_run(&query.text).await?;
        let text = sqlx::AssertSqlSafe(query.text);
        let result = on_connection!(self, (text, text), |text, connection| {
            bound!(sqlx::query_as(text), query.binds).fetch_all(connection).await
        });
        self.note(result)
    }

    /// Runs a [`Query`] that changes rows; answers how many.
    pub(super) async fn run(&mut self, query: Query) -> Result<u64, super::StoreError> {
        self.about_to_run(&query.text).await?;
        let text = sqlx::AssertSqlSafe(query.text);
        let result = on_connection!(self, (text, text), |text, connection| {
            bound!(sqlx::query(text), query.binds).execute(connection).await.map(|done| done.rows_affected())
        });
        self.note(result)
    }
}
