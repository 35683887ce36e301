//! What the machine itself can do, measured in the same run: results without it cannot be compared.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use super::service::Failed;
use super::target::Server;

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
type Table = (String, Vec<String>, Vec<Vec<Value>>);

/// What a referral leaves in each table, as rows of JSON values.
pub(crate) struct Footprint {
    tables: Vec<Table>,
    /// Ids that have to be new in each copy.
    ids: Vec<String>,
}

/// Each table with the rows that a referral ($1), about a person ($2) nobody knew before, wrote there. Of the search
/// index, every table there is.
fn written(tables: &[String]) -> Vec<(&str, &'static str)> {
    let condition = |table: &str| match table {
        "resource" | "episode" | "audit" => Some("person = $2"),
        "person" => Some("id = $2"),
        "referral" => Some("id = $1"),
        "referral_identifier" | "task" => Some("referral = $1"),
        _ if table.starts_with("lookup") => Some("id in (select id from resource where person = $2)"),
        _ => None,
    };
    tables.iter().filter_map(|table| Some((table.as_str(), condition(table)?))).collect()
}

impl Footprint {
    /// Reads what one referral wrote.
    pub(crate) async fn of(url: &str, referral: &str) -> Result<Footprint, sqlx::Error> {
        let mut footprint = if url.starts_with("postgres") {
            Footprint::of_postgres(&mut PgConnection::connect(url).await?, referral).await?
        } else {
            Footprint::of_sqlite(&mut connect(url).await?, referral).await?
        };
        for (_, columns, rows) in footprint.tables.iter().filter(|(t, ..)| matches!(t.as_str(), "resource" | "audit")) {
            let at = columns.iter().position(|column| column == "id").unwrap_or(0);
            footprint.ids.extend(rows.iter().filter_map(|row| row.get(at)?.as_str().map(str::to_owned)));
        }
        Ok(footprint)
    }

    async fn of_sqlite(connection: &mut SqliteConnection, referral: &str) -> Result<Footprint, sqlx::Error> {
        let person: String = sqlx::query_scalar("select person from referral where id = $1")
            .bind(referral)
            .fetch_one(&mut *connection)
            .await?;
        let tables: Vec<String> = sqlx::query_scalar("select name from sqlite_schema where type = 'table'")
            .fetch_all(&mut *connection)
            .await?;
        let mut footprint = Footprint { tables: Vec::new(), ids: Vec::new() };
        for (table, condition) in written(&tables) {
            let columns: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(format!("select name from pragma_table_info('{table}')")))
                    .fetch_all(&mut *connection)
                    .await?;
            let text = format!("select json_array({}) from {table} where {condition}", columns.join(", "));
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(text))
                .bind(referral)
                .bind(&person)
                .fetch_all(&mut *connection)
                .await?;
            footprint.add(table, columns, &rows);
        }
        Ok(footprint)
    }

    async fn of_postgres(connection: &mut PgConnection, referral: &str) -> Result<Footprint, sqlx::Error> {
        let person: String = sqlx::query_scalar("select person from referral where id = $1")
            .bind(referral)
            .fetch_one(&mut *connection)
            .await?;
        let tables: Vec<String> =
            sqlx::query_scalar("select tablename::text from pg_tables where schemaname = current_schema()")
                .fetch_all(&mut *connection)
                .await?;
        let mut footprint = Footprint { tables: Vec::new(), ids: Vec::new() };
        for (table, condition) in written(&tables) {
            let columns: Vec<String> = sqlx::query_scalar(
                "select attname::text from pg_attribute where attrelid = $1::regclass and attnum > 0 \
                 and not attisdropped order by attnum",
            )
            .bind(table)
            .fetch_all(&mut *connection)
            .await?;
            let text = format!(
                "select json_build_array({})::text from {table} where {condition} and ($1::text || $2::text) <> ''",
                columns.join(", ")
            );
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(text))
                .bind(referral)
                .bind(&person)
                .fetch_all(&mut *connection)
                .await?;
            footprint.add(table, columns, &rows);
        }
        Ok(footprint)
    }

    fn add(&mut self, table: &str, columns: Vec<String>, rows: &[String]) {
        let rows: Vec<Vec<Value>> = rows.iter().filter_map(|row| serde_json::from_str(row).ok()).collect();
        if !rows.is_empty() {
            self.tables.push((table.to_owned(), columns, rows));
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.tables.iter().map(|(_, _, rows)| rows.len()).sum()
    }

    /// Copies of it a second, one statement for each table, `at_once` copies for each durable commit, nothing else.
    pub(crate) async fn bare_rate(&self, url: &str, at_once: u64, span: Duration) -> Result<f64, sqlx::Error> {
        let mut connection = connect(url).await?;
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

    /// Copies of it a second that `pgbench` inserts in bare transactions, with so many clients.
    pub(crate) fn pgbench_rate(
        &self,
        server: &Server,
        url: &str,
        folder: &Path,
        clients: u64,
        span: Duration,
    ) -> Result<f64, Failed> {
        let mut script = String::from("\\set n random(1, 99999999999999)\nbegin;\n");
        for (table, columns, rows) in &self.tables {
            let row = |row: &Vec<Value>| {
                let values = columns.iter().zip(row).map(|(column, value)| match value {
                    Value::String(text) => self.as_expression(table, column, text),
                    Value::Null => "null".to_owned(),
                    other => other.to_string(),
                });
                format!("({})", values.collect::<Vec<_>>().join(", "))
            };
            let rows = rows.iter().map(row).collect::<Vec<_>>().join(", ");
            script.push_str(&format!("insert into {table} ({}) values {rows};\n", columns.join(", ")));
        }
        script.push_str("commit;\n");
        let file = folder.join("referral.pgbench");
        std::fs::write(&file, script)?;
        let (file, clients, seconds) =
            (file.display().to_string(), clients.to_string(), span.as_secs().max(1).to_string());
        server.pgbench(url, &["-n", "-M", "prepared", "-f", &file, "-c", &clients, "-j", "2", "-T", &seconds])
    }

    /// The value in SQL, made new by pgbench's `:n` where it has to be.
    fn as_expression(&self, table: &str, column: &str, text: &str) -> String {
        // pgbench takes a colon before a name for a variable of its own, also inside quotes.
        let quoted =
            |text: &str| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''").replace(':', "\\072"));
        if is_unique(table, column) {
            return "'bare ' || :n".to_owned();
        }
        match self.is_to_be_renewed(text) {
            true => format!("{} || lpad(:n::text, 14, '0')", quoted(&text[..text.len() - 14])),
            false => quoted(text),
        }
    }

    fn is_to_be_renewed(&self, text: &str) -> bool {
        text.len() <= 80 && self.ids.iter().any(|id| text.contains(id.as_str()))
    }

    /// The value with the ids of this copy, of the same length; bodies stay.
    fn renewed(&self, table: &str, column: &str, text: &str, mark: &str) -> String {
        if is_unique(table, column) {
            return format!("bare {mark}");
        }
        if !self.is_to_be_renewed(text) {
            return text.to_owned();
        }
        // The last digits of our ids are random: the mark takes their place.
        format!("{}{mark}", &text[..text.len() - mark.len()])
    }
}

fn is_unique(table: &str, column: &str) -> bool {
    matches!((table, column), ("person", "nhs_number") | ("referral", "reference") | ("referral_identifier", "value"))
}

async fn connect(url: &str) -> Result<SqliteConnection, sqlx::Error> {
    url.parse::<SqliteConnectOptions>()?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .statement_cache_capacity(256)
        .disable_statement_logging()
        .connect()
        .await
}
