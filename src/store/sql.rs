//! `sql!`: one statement text, run on whichever database the transaction is on.

/// Runs one statement: `sql!(tx, fetch_optional, "select ... where id = $1", id)`.
///
/// The method is one of sqlx's (`execute`, `fetch_all`, `fetch_optional`, `fetch_one`); rows come as the type the
/// context asks for. Where the dialects differ: `sql!(tx, fetch_all, { sqlite: "...", postgres: "..." }, args)`.
macro_rules! sql {
    ($tx:expr, execute, { sqlite: $lite:expr, postgres: $pg:expr } $(, $arg:expr)* $(,)?) => {{
        $tx.running($lite);
        let result = match &mut $tx.conn {
            $crate::store::Conn::SqliteRead(c) => sqlx::query($lite)$(.bind($arg))*.execute(&mut **c).await.map(|d| d.rows_affected()),
            $crate::store::Conn::SqliteWrite(c) => sqlx::query($lite)$(.bind($arg))*.execute(c.connection()).await.map(|d| d.rows_affected()),
            $crate::store::Conn::Postgres(c) => sqlx::query($pg)$(.bind($arg))*.execute(&mut **c).await.map(|d| d.rows_affected()),
        };
        $tx.note(result)
    }};
    ($tx:expr, $method:ident, { sqlite: $lite:expr, postgres: $pg:expr } $(, $arg:expr)* $(,)?) => {{
        $tx.running($lite);
        let result = match &mut $tx.conn {
            $crate::store::Conn::SqliteRead(c) => sqlx::query_as($lite)$(.bind($arg))*.$method(&mut **c).await,
            $crate::store::Conn::SqliteWrite(c) => sqlx::query_as($lite)$(.bind($arg))*.$method(c.connection()).await,
            $crate::store::Conn::Postgres(c) => sqlx::query_as($pg)$(.bind($arg))*.$method(&mut **c).await,
        };
        $tx.note(result)
    }};
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
                Bind::Number(value) => query.bind(value),
                Bind::Real(value) => query.bind(value),
                Bind::Flag(value) => query.bind(value),
            };
        }
        query
    }};
}

impl Query {
    /// Runs it outside a [`Tx`](super::Tx), as part of what the connection is doing.
    pub(super) async fn run_on(self, connection: &mut sqlx::SqliteConnection) -> Result<(), sqlx::Error> {
        let text = sqlx::AssertSqlSafe(self.text);
        bound!(sqlx::query(text), self.binds).execute(connection).await.map(drop)
    }
}

impl super::Tx {
    /// Runs a [`Query`] that answers rows.
    pub(super) async fn rows<T>(&mut self, query: Query) -> Result<Vec<T>, super::StoreError>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>,
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        self.running(&query.text);
        let text = sqlx::AssertSqlSafe(query.text);
        let result = match &mut self.conn {
            super::Conn::SqliteRead(c) => bound!(sqlx::query_as(text), query.binds).fetch_all(&mut **c).await,
            super::Conn::SqliteWrite(c) => bound!(sqlx::query_as(text), query.binds).fetch_all(c.connection()).await,
            super::Conn::Postgres(c) => bound!(sqlx::query_as(text), query.binds).fetch_all(&mut **c).await,
        };
        self.note(result)
    }

    /// Runs a [`Query`] that changes rows; answers how many.
    pub(super) async fn run(&mut self, query: Query) -> Result<u64, super::StoreError> {
        self.running(&query.text);
        let text = sqlx::AssertSqlSafe(query.text);
        let result = match &mut self.conn {
            super::Conn::SqliteRead(c) => {
                bound!(sqlx::query(text), query.binds).execute(&mut **c).await.map(|d| d.rows_affected())
            }
            super::Conn::SqliteWrite(c) => {
                bound!(sqlx::query(text), query.binds).execute(c.connection()).await.map(|d| d.rows_affected())
            }
            super::Conn::Postgres(c) => {
                bound!(sqlx::query(text), query.binds).execute(&mut **c).await.map(|d| d.rows_affected())
            }
        };
        self.note(result)
    }
}
