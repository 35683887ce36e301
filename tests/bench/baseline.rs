//! What the machine itself can do, measured in the same run: results without it cannot be compared.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions};

/// Durable writes of 8 kB a second into a file in this folder, one after the other.
pub(crate) fn fsyncs_per_second(folder: &Path, span: Duration) -> io::Result<f64> {
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let block = [7_u8; 8192];
    let begun = Instant::now();
    let mut count = 0.0;
    while begun.elapsed() < span {
        file.write_all(&block)?;
        file.sync_data()?;
        count += 1.0;
    }
    Ok(count / begun.elapsed().as_secs_f64())
}

/// A table, its columns and its rows.
type Table = (&'static str, Vec<String>, Vec<Vec<Value>>);

/// What a referral leaves in each table, as rows of JSON values.
pub(crate) struct Footprint {
    tables: Vec<Table>,
    /// Ids that have to be new in each copy.
    ids: Vec<String>,
}

/// Each table with the rows that a referral ($1), about a person ($2) nobody knew before, wrote there.
const WRITTEN: [(&str, &str); 11] = [
    ("resource", "person = $2"),
    ("lookup", "id in (select id from resource where person = $2)"),
    ("lookup_time", "id in (select id from resource where person = $2)"),
    ("lookup_number", "id in (select id from resource where person = $2)"),
    ("lookup_pair", "id in (select id from resource where person = $2)"),
    ("person", "id = $2"),
    ("referral", "id = $1"),
    ("referral_identifier", "referral = $1"),
    ("episode", "person = $2"),
    ("task", "referral = $1"),
    ("audit", "person = $2"),
];

impl Footprint {
    /// Reads what one referral wrote.
    pub(crate) async fn of(database: &Path, referral: &str) -> Result<Footprint, sqlx::Error> {
        let mut connection = connect(database).await?;
        let person: String = sqlx::query_scalar("select person from referral where id = $1")
            .bind(referral)
            .fetch_one(&mut connection)
            .await?;
        let mut footprint = Footprint { tables: Vec::new(), ids: Vec::new() };
        for (table, condition) in WRITTEN {
            let columns: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(format!("select name from pragma_table_info('{table}')")))
                    .fetch_all(&mut connection)
                    .await?;
            let text = format!("select json_array({}) from {table} where {condition}", columns.join(", "));
            let rows: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(text)).bind(referral).bind(&person).fetch_all(&mut connection).await?;
            let rows: Vec<Vec<Value>> = rows.iter().filter_map(|row| serde_json::from_str(row).ok()).collect();
            if matches!(table, "resource" | "audit") {
                let at = columns.iter().position(|column| column == "id").unwrap_or(0);
                footprint.ids.extend(rows.iter().filter_map(|row| row.get(at)?.as_str().map(str::to_owned)));
            }
            footprint.tables.push((table, columns, rows));
        }
        Ok(footprint)
    }

    pub(crate) fn rows(&self) -> usize {
        self.tables.iter().map(|(_, _, rows)| rows.len()).sum()
    }

    /// Copies of it a second, one statement for each table, `at_once` copies for each durable commit, nothing else.
    pub(crate) async fn bare_rate(&self, database: &Path, at_once: u64, span: Duration) -> Result<f64, sqlx::Error> {
        let mut connection = connect(database).await?;
        let begun = Instant::now();
        let mut copies = 0;
        while begun.elapsed() < span {
            sqlx::query("begin immediate").execute(&mut connection).await?;
            for _ in 0..at_once {
                copies += 1;
                self.copy(&mut connection, &format!("{}{copies:07}", if at_once == 1 { 'a' } else { 'b' })).await?;
            }
            sqlx::query("commit").execute(&mut connection).await?;
        }
        Ok(copies as f64 / begun.elapsed().as_secs_f64())
    }

    async fn copy(&self, connection: &mut SqliteConnection, mark: &str) -> Result<(), sqlx::Error> {
        for (table, columns, rows) in &self.tables {
            let row = format!("({})", vec!["?"; columns.len()].join(", "));
            let text =
                format!("insert into {table} ({}) values {}", columns.join(", "), vec![row; rows.len()].join(", "));
            let mut query = sqlx::query(AssertSqlSafe(text));
            for (column, value) in rows.iter().flat_map(|row| columns.iter().zip(row)) {
                query = match value {
                    Value::String(text) => query.bind(self.renewed(table, column, text, mark)),
                    Value::Number(number) => query.bind(number.as_i64()),
                    Value::Bool(flag) => query.bind(*flag),
                    _ => query.bind(None::<String>),
                };
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// The value with the ids of this copy, of the same length; bodies stay.
    fn renewed(&self, table: &str, column: &str, text: &str, mark: &str) -> String {
        let unique = matches!(
            (table, column),
            ("person", "nhs_number") | ("referral", "reference") | ("referral_identifier", "value")
        );
        if unique {
            return format!("bare {mark}");
        }
        if text.len() > 80 || !self.ids.iter().any(|id| text.contains(id.as_str())) {
            return text.to_owned();
        }
        // The last eight digits of our ids are random: the mark takes their place.
        format!("{}{mark}", &text[..text.len() - mark.len()])
    }
}

async fn connect(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .statement_cache_capacity(256)
        .disable_statement_logging()
        .connect()
        .await
}
