//! The database under the service: an SQLite file, or a database on a PostgreSQL server.
//!
//! The population is written once, as an SQLite file; for PostgreSQL it is copied over table by table, so that both hold
//! the same rows.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

use super::service::Failed;

/// Which database a service is measured on.
#[derive(Clone)]
pub(crate) enum Target {
    Sqlite,
    Postgres(Arc<Server>),
}

impl Target {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Target::Sqlite => "sqlite",
            Target::Postgres(_) => "postgresql",
        }
    }
}

/// A PostgreSQL server: the one that `BENCH_POSTGRES_URL` or `TEST_POSTGRES_URL` names, or one of our own, everything
/// durable, that is stopped when dropped.
pub(crate) struct Server {
    /// Of any database on it.
    url: String,
    programs: PathBuf,
    own: Option<PathBuf>,
}

impl Server {
    /// None, and said, where there are no PostgreSQL programs.
    pub(crate) fn find(folder: &Path) -> Result<Option<Arc<Server>>, Failed> {
        let Some(programs) = programs() else {
            println!("no PostgreSQL 15 or later found here: only SQLite is measured");
            return Ok(None);
        };
        let named = std::env::var("BENCH_POSTGRES_URL").or_else(|_| std::env::var("TEST_POSTGRES_URL"));
        if let Ok(url) = named {
            return Ok(Some(Arc::new(Server { url, programs, own: None })));
        }
        let data = folder.join("postgresql");
        std::fs::create_dir_all(&data)?;
        if is_root() {
            // PostgreSQL refuses root; the folders above have to let it through.
            run(Command::new("chown").args(["-R", "65534:65534"]).arg(&data))?;
            for above in data.ancestors().skip(1).take_while(|above| above.starts_with("/tmp") || *above == folder) {
                run(Command::new("chmod").arg("a+x").arg(above))?;
            }
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server =
            Server { url: format!("postgres://livewell@127.0.0.1:{port}/postgres"), programs, own: Some(data) };
        server.tool("initdb", &["-U", "livewell", "-A", "trust", "-E", "UTF8", "--locale=C"])?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200 \
             -c shared_buffers=256MB -c max_wal_size=4GB"
        );
        let log = server.own.as_ref().map_or_else(PathBuf::new, |data| data.with_extension("log"));
        if is_root() {
            std::fs::write(&log, "")?;
            run(Command::new("chown").arg("65534:65534").arg(&log))?;
        }
        server.tool("pg_ctl", &["-w", "-s", "-l", &log.display().to_string(), "-o", &options, "start"])?;
        Ok(Some(Arc::new(server)))
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<(), Failed> {
        let Some(data) = &self.own else { return Ok(()) };
        let mut command = as_owner(&self.programs.join(name));
        run(command.arg("-D").arg(data.join("db")).args(arguments))
    }

    /// `pgbench` with these arguments on a database; its transactions a second.
    pub(crate) fn pgbench(&self, url: &str, arguments: &[&str]) -> Result<f64, Failed> {
        let output = Command::new(self.programs.join("pgbench")).args(arguments).arg(url).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.ok_or_else(|| format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// A new empty database of this name; its URL.
    pub(crate) async fn make(&self, name: &str) -> Result<String, Failed> {
        let mut server = PgConnection::connect(&self.url).await?;
        for statement in [format!("drop database if exists {name} with (force)"), format!("create database {name}")] {
            server.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
        }
        server.close().await?;
        let (host, _) = self.url.rsplit_once('/').ok_or("a PostgreSQL URL ends with a database")?;
        Ok(format!("{host}/{name}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.tool("pg_ctl", &["-w", "-s", "-m", "immediate", "stop"]) {
            eprintln!("{error}");
        }
    }
}

fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("TEST_POSTGRES_BIN").map(PathBuf::from).into_iter().collect();
    for (above, below) in [("/usr/lib/postgresql", "bin"), ("/usr/local", "pgsql/bin")] {
        let versions = std::fs::read_dir(above).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = versions.map(|version| version.path().join(below)).collect();
        found.sort();
        folders.extend(found.into_iter().rev());
    }
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("pgbench").exists())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn as_owner(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) -> Result<(), Failed> {
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if ended.success() { Ok(()) } else { Err(format!("{command:?}: {ended}").into()) }
}

/// Copies every table of an SQLite file into a PostgreSQL database with the same schema.
pub(crate) async fn copy(file: &Path, url: &str) -> Result<(), Failed> {
    let mut from = SqliteConnectOptions::new().filename(file).disable_statement_logging().connect().await?;
    let mut to = PgConnection::connect(url).await?;
    to.execute(sqlx::raw_sql("set synchronous_commit = off")).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select name from sqlite_schema where type = 'table' and name not like '\\_sqlx%' escape '\\' \
         and name not like 'sqlite%'",
    )
    .fetch_all(&mut from)
    .await?;
    for table in tables {
        to.execute(sqlx::raw_sql(AssertSqlSafe(format!("truncate {table}")))).await?;
        copy_table(&mut from, &mut to, &table).await?;
    }
    to.execute(sqlx::raw_sql("vacuum analyze")).await?;
    to.execute(sqlx::raw_sql("checkpoint")).await?;
    to.close().await?;
    Ok(())
}

async fn copy_table(from: &mut SqliteConnection, to: &mut PgConnection, table: &str) -> Result<(), Failed> {
    let columns: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("select name from pragma_table_info('{table}')")))
            .fetch_all(&mut *from)
            .await?;
    // A line of COPY's text format, made by SQLite.
    let escaped = |column: &String| {
        format!(
            "coalesce(replace(replace(replace(replace(cast({column} as text), '\\', '\\\\'), char(9), '\\t'), \
             char(10), '\\n'), char(13), '\\r'), '\\N')"
        )
    };
    let line = columns.iter().map(escaped).collect::<Vec<_>>().join(" || char(9) || ");
    // A table of lines, to be read page by page.
    let lines = format!("create temp table line as select {line} as text from {table}");
    from.execute(sqlx::raw_sql(AssertSqlSafe(lines))).await?;
    let mut copying = to.copy_in_raw(&format!("copy {table} ({}) from stdin", columns.join(", "))).await?;
    for page in 0.. {
        let rows: Vec<String> = sqlx::query_scalar("select text from temp.line where rowid > $1 and rowid <= $2")
            .bind(page * PAGE)
            .bind((page + 1) * PAGE)
            .fetch_all(&mut *from)
            .await?;
        if rows.is_empty() {
            break;
        }
        copying.send((rows.join("\n") + "\n").into_bytes()).await?;
    }
    copying.finish().await?;
    from.execute(sqlx::raw_sql("drop table temp.line")).await?;
    Ok(())
}

/// Lines that are sent at once.
const PAGE: i64 = 5_000;
