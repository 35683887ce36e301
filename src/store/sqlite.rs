//! SQLite: many readers, one writer connection, and one durable commit for all who wait for it.
//!
//! A unit of work that reads and changes takes its turn at the writer, and is a savepoint in its open transaction. Done, it
//! lets the next one begin and waits. One that does nothing but insert, such as a referral about a person nobody knew, takes
//! no turn: it is gathered with others, and with the audit rows of disclosures. The committer writes what was gathered and
//! commits when its turn at the writer comes, for everyone who is done by then. So a lone writer pays one fsync, and
//! thirty-two pay about one between them.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, oneshot};

use super::checkpoints;
use super::credentials::{self, Credentials, Weakly};
use super::gathered::Gathered;
use super::inserts::Inserts;
use super::readers::Readers;
use super::refusals::Refusals;
use super::subscriptions::Listening;
use super::writer::{Writer, commit_when_done};
use super::{DatabaseSettings, StoreError};

/// The first version without the WAL-reset bug, which can lose committed writes.
const OLDEST_VERSION: (u32, u32, u32) = (3, 51, 3);

/// How long a writer waits for its turn before the caller is told to come back.
const TURN: Duration = Duration::from_secs(10);

/// Each has a thread and its pages: more help nobody.
const MOST_READERS: u32 = 8;

/// Pages that all readers together keep, in kB. At a million Tasks the inner pages of the indexes that a work list goes
/// through are some six megabytes, and each reader has its own.
const READERS_PAGES: u32 = 32 * 1024;

/// Pages the writer keeps, in kB as SQLite is told it. What a shared commit of thirty-two units changes fits: what does not is written twice.
const WRITER_PAGES: &str = "-16384";

/// Pages in the write-ahead log from which a commit takes into the database what is still to be taken, so that the log can
/// begin anew. While there are commits all the time, nothing else does.
const LONGEST_LOG: &str = "16000";

/// An open SQLite database.
pub struct Sqlite {
    pub(super) writer: Arc<Mutex<Writer>>,
    /// What units of work are that do nothing but insert, and audit rows of disclosures. The committer writes them, all
    /// that have come in few statements: none of them takes a turn at the writer.
    pub(super) inserts: Gathered<Inserts, ()>,
    pub(super) refusals: Refusals,
    /// Hashes of tokens.
    pub(super) credentials: Gathered<String, Option<Credentials>>,
    /// The committer has something to do.
    done: Arc<Notify>,
    /// Something was committed.
    pub(super) committed: Arc<Notify>,
    pub(super) readers: Arc<Readers>,
}

impl Sqlite {
    pub(super) async fn open(settings: &DatabaseSettings) -> Result<Arc<Sqlite>, StoreError> {
        let options = SqliteConnectOptions::from_str(&settings.url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("trusted_schema", "OFF")
            .statement_cache_capacity(256)
            .disable_statement_logging();
        make_private(options.get_filename());
        // A reader works or waits for the disk: two for each core keep both busy.
        let cores = std::thread::available_parallelism().map_or(2, |cores| u32::try_from(cores.get()).unwrap_or(2));
        let connections = settings.connections.min(MOST_READERS).min((2 * cores).max(4)).max(1);
        let readers = options
            .clone()
            .create_if_missing(false)
            .pragma("query_only", "ON")
            .pragma("cache_size", format!("-{}", READERS_PAGES / connections));
        let options = options
            .pragma("cache_size", WRITER_PAGES)
            .pragma("wal_autocheckpoint", LONGEST_LOG)
            // Where the pages lie that a savepoint would bring back: else in a file, a write for each page of each unit.
            .pragma("temp_store", "memory");
        let connection = options.connect().await?;
        let beside = options.clone().create_if_missing(false);
        let writer = Writer {
            connection,
            options,
            open: false,
            beginning: false,
            unfinished: false,
            doubtful: false,
            waiting: Vec::new(),
            listening: None,
        };
        let (done, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let sqlite = Arc::new(Sqlite {
            writer: Arc::new(Mutex::new(writer)),
            inserts: Gathered::told(Arc::clone(&done)),
            refusals: Refusals::default(),
            credentials: Gathered::told(Arc::clone(&asked)),
            done,
            committed: Arc::default(),
            readers: Readers::new(readers, connections),
        });
        tokio::spawn(checkpoints::take(Arc::downgrade(&sqlite), beside, Arc::clone(&sqlite.committed)));
        // On a thread of its own: the writer waits for each of its steps, which must not queue behind requests.
        let commits = commit_when_done(Arc::downgrade(&sqlite), Arc::clone(&sqlite.done));
        let alone = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(sqlx::Error::from)?;
        std::thread::Builder::new()
            .name("commits".to_owned())
            .spawn(move || alone.block_on(commits))
            .map_err(sqlx::Error::from)?;
        tokio::spawn(credentials::answer(Weakly::Sqlite(Arc::downgrade(&sqlite)), asked));
        Ok(sqlite)
    }

    /// Takes what is in the log into the database file.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let options = self.writer.lock().await.options.clone();
        Ok(checkpoints::take_all(options).await?)
    }

    pub(super) async fn migrate(&self, migrations: &Migrator) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        // Not `run`: its future cannot be sent between threads ("implementation of Acquire is not general enough").
        // In one transaction, begun as a writer: of several processes that start at once one migrates, and the others
        // find it done. Killed half way, nothing of it is there.
        let mut all = writer.connection.begin_with("begin immediate").await?;
        migrations.run_direct(None, &mut *all, false).await?;
        Ok(all.commit().await?)
    }

    pub(super) async fn check_settings(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let connection = &mut writer.connection;
        let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(&mut *connection).await?;
        check_version(&version)?;
        let journal: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut *connection).await?;
        if journal != "wal" {
            return Err(wrong(format!("journal_mode is {journal}, and must be wal: is the file on a network drive?")));
        }
        let synchronous: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(&mut *connection).await?;
        if synchronous != 2 {
            return Err(wrong(format!("synchronous is {synchronous}, and must be 2 (FULL)")));
        }
        let foreign_keys: i64 = sqlx::query_scalar("pragma foreign_keys").fetch_one(&mut *connection).await?;
        if foreign_keys != 1 {
            return Err(wrong("foreign_keys is off, and must be on".to_owned()));
        }
        Ok(())
    }
}

/// A new file is its owner's alone: it holds people's records, and the keys that the service signs with. What SQLite makes
/// beside it is as it is. Where it cannot be made, SQLite says why.
fn make_private(file: &Path) {
    let in_memory = file.to_string_lossy().starts_with("file:");
    if !in_memory {
        let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    }
}

fn wrong(text: String) -> StoreError {
    StoreError::Settings(format!("SQLite: {text}"))
}

fn check_version(version: &str) -> Result<(), StoreError> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < OLDEST_VERSION {
        return Err(wrong(format!(
            "version {version} can lose committed writes (WAL-reset bug); 3.51.3 or later is needed"
        )));
    }
    Ok(())
}

/// One unit of work on the writer's connection. It takes its turn when it first needs the database: what it is made of is
/// put together beside the work of others.
pub(crate) struct Unit {
    sqlite: Arc<Sqlite>,
    /// From its turn until it is committed.
    writer: Option<OwnedMutexGuard<Writer>>,
}

impl Unit {
    pub(super) fn on(sqlite: &Arc<Sqlite>) -> Unit {
        Unit { sqlite: Arc::clone(sqlite), writer: None }
    }

    /// Takes its turn, unless it has it.
    pub(super) async fn take_turn(&mut self) -> Result<(), StoreError> {
        if self.writer.is_none() {
            let turn = tokio::time::timeout(TURN, Arc::clone(&self.sqlite.writer).lock_owned()).await;
            let mut writer = turn.map_err(|_| StoreError::Unavailable(None))?;
            writer.begin().await?;
            self.writer = Some(writer);
        }
        Ok(())
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("a unit that has its turn")
    }

    /// The subscriptions that listen, if they were read in the open transaction.
    pub(super) fn listening(&mut self) -> Option<Listening> {
        self.writer().listening.clone()
    }

    /// Keeps what was read of them for the units that come; `None` once one changes them.
    pub(super) fn keep_listening(&mut self, listening: Option<Listening>) {
        self.writer().listening = listening;
    }

    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.writer().connection
    }

    /// A statement failed for another reason than what it was to write.
    pub(super) fn doubt(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.doubtful = true;
        }
    }

    /// Marks the place to come back to, before the first change.
    pub(super) async fn before_changes(&mut self) -> Result<(), sqlx::Error> {
        let writer = self.writer();
        if !writer.unfinished {
            // Set before: if this is cut off, the savepoint may be there all the same.
            writer.unfinished = true;
            sqlx::query("savepoint unit").execute(&mut writer.connection).await?;
        }
        Ok(())
    }

    /// Writes `later` and returns once the shared transaction is durable. A unit that only read waits for nothing.
    pub(super) async fn commit(mut self, later: Inserts) -> Result<(), StoreError> {
        let Some(writer) = &mut self.writer else {
            return if later.is_empty() {
                Ok(())
            } else {
                self.sqlite.inserts.ask_or(later, StoreError::Unknown).await
            };
        };
        if later.is_empty() && !writer.unfinished {
            return Ok(());
        }
        writer.finish(later).await?;
        let (sender, durable) = oneshot::channel();
        writer.waiting.push(sender);
        // Lets the next one in, and the committer know.
        drop(self);
        durable.await.unwrap_or(Err(StoreError::Unknown(None)))
    }
}

impl Drop for Unit {
    /// What was begun and not committed is rolled back by whoever has the writer next.
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            self.sqlite.done.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::empty::{Empty, patient};
    use crate::store::{AuditRow, Sight, Store, TrailSearch};

    #[test]
    fn a_version_with_the_wal_reset_bug_is_refused() {
        for (version, good) in [
            ("3.51.2", false),
            ("3.7.0", false),
            ("3.46.1", false),
            ("3.51.3", true),
            ("3.53.0", true),
            ("4.0.0", true),
        ] {
            assert_eq!(check_version(version).is_ok(), good, "{version}");
        }
    }

    #[tokio::test]
    async fn connections_share_no_page_cache_and_no_counters_of_memory() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.expect("opens");
        let options: Vec<String> =
            sqlx::query_scalar("pragma compile_options").fetch_all(&mut connection).await.expect("reads");
        assert!(options.iter().any(|option| option == "DEFAULT_MEMSTATUS=0"), "{options:?}");
        assert!(!options.iter().any(|option| option == "ENABLE_MEMORY_MANAGEMENT"), "{options:?}");
    }

    #[tokio::test]
    async fn the_file_is_its_owners_alone_and_whole_by_itself_once_it_is_closed() {
        use std::os::unix::fs::PermissionsExt;
        let database = Empty::sqlite();
        let store = database.open().await;
        store.migrate().await.expect("migrates");
        let mut tx = store.write().await.expect("begins");
        tx.insert_resources(&[patient("a", "{}".to_owned())]).await.expect("inserts");
        tx.commit().await.expect("is durable");
        for file in std::fs::read_dir(database.folder()).expect("reads") {
            let mode = file.expect("is there").metadata().expect("is told").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
        store.close().await;
        let copy = Empty::sqlite();
        std::fs::copy(database.folder().join("livewell.db"), copy.folder().join("livewell.db")).expect("copies");
        let copied = copy.open().await;
        let mut tx = copied.read().await.expect("begins");
        assert!(tx.resource("Patient", "a", &Sight::Everything).await.expect("reads").is_some());
        // It goes on where it is closed and used all the same.
        let mut tx = store.write().await.expect("begins");
        tx.insert_resources(&[patient("b", "{}".to_owned())]).await.expect("inserts");
        tx.commit().await.expect("is durable");
    }

    #[tokio::test]
    async fn many_disclosures_at_once_are_all_in_the_trail_when_they_return() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("trail.db").display());
        let store = Store::open(&DatabaseSettings { url, connections: 1 }).await.expect("opens");
        store.migrate().await.expect("migrates");
        let row = |n: usize| AuditRow {
            id: format!("row-{n}"),
            at: crate::store::At(0),
            client: "practice".to_owned(),
            organization: "TESTA1".to_owned(),
            actor: String::new(),
            interaction: "read".to_owned(),
            target: format!("Patient/{n}"),
            person: String::new(),
            request_id: String::new(),
            outcome: "success".to_owned(),
            times: 1,
        };
        let all: Vec<_> = (0..100)
            .map(|n| {
                let (store, row) = (store.clone(), row(n));
                tokio::spawn(async move { store.disclose(row).await })
            })
            .collect();
        for one in all {
            one.await.expect("ends").expect("is durable");
        }
        let all = TrailSearch { limit: 1000, ..TrailSearch::default() };
        let mut tx = store.read().await.expect("reads");
        assert_eq!(tx.search_trail(&all, &Sight::Everything).await.expect("reads").0.len(), 100);
        drop(tx);
        // A row that cannot be written is an error for whoever waits, and no more than that.
        let (again, other) = tokio::join!(store.disclose(row(1)), store.disclose(row(100)));
        assert!(again.is_err());
        assert!(other.is_ok() || store.disclose(row(100)).await.is_ok());
    }
}
