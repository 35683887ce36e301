//! A database that the service does not run on, or not as it is: it says why, in words.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use livewell::app;
use livewell::config::{Config, DatabaseUrl};
use livewell::store::{DatabaseSettings, PersonRow, Sight, Store, StoreError};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::database::{Database as Made, connect};
use crate::database_faults::{BACK, Server, SmallDisk};

fn config(url: &str) -> Config {
    let mut config = Config::default();
    config.database.url = DatabaseUrl(url.to_owned());
    config
}

/// Why the service does not start on this database.
async fn refusal(url: &str) -> String {
    match app::open_store(&config(url)).await {
        Ok(_) => panic!("it starts"),
        Err(why) => why.to_string(),
    }
}

#[tokio::test]
async fn a_read_only_database_is_refused_in_words() {
    let Some(disk) = SmallDisk::mount() else { return };
    // Closed in a runtime of its own, or the disk would be busy.
    let url = disk.url();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { drop(app::open_store(&config(&url)).await.unwrap()) });
    })
    .join()
    .unwrap();
    let began = Instant::now();
    while !Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(disk.0.path())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
    {
        assert!(began.elapsed() < BACK, "the database stays open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = refusal(&disk.url()).await;
    assert!(said.contains("readonly") || said.contains("unable to open"), "{said}");
}

#[tokio::test]
async fn what_is_no_database_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("livewell.db");
    std::fs::write(&file, [0xAA; 8192]).unwrap();
    let said = refusal(&format!("sqlite:{}", file.display())).await;
    assert!(said.contains("not a database"), "{said}");
    let said = refusal(&format!("sqlite:{}", folder.path().join("no/such/folder/livewell.db").display())).await;
    assert!(said.contains("unable to open"), "{said}");
    let said = refusal("postgres://nobody@127.0.0.1:1/none").await;
    assert!(said.contains("refused") && said.contains("database.url"), "{said}");
}

#[tokio::test]
async fn a_journal_that_cannot_be_a_write_ahead_log_is_refused() {
    let said = refusal("sqlite::memory:").await;
    assert!(said.contains("journal_mode is memory, and must be wal"), "{said}");
}

/// Damage is an error for whoever meets it, never a panic, and never an answer made up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_an_error() {
    let database = Made::sqlite();
    let store = database.open().await;
    for n in 0..40 {
        let mut tx = store.write().await.unwrap();
        let [birth_date, practice, locality] = [const { String::new() }; 3];
        let family = "x".repeat(500);
        tx.insert_person(&PersonRow {
            id: format!("{n:03}"),
            nhs_number: None,
            birth_date,
            family,
            practice,
            locality,
        })
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }
    let options: sqlx::sqlite::SqliteConnectOptions = database.url.parse().unwrap();
    let mut beside = options.connect().await.unwrap();
    sqlx::raw_sql("pragma wal_checkpoint(truncate)").execute(&mut beside).await.unwrap();
    let roots: Vec<(i64,)> = sqlx::query_as("select rootpage from sqlite_schema where tbl_name = 'person'")
        .fetch_all(&mut beside)
        .await
        .unwrap();
    beside.close().await.unwrap();
    let image = tempfile::tempdir().unwrap();
    let copy = image.path().join("livewell.db");
    let mut bytes = std::fs::read(database.file()).unwrap();
    for (root,) in roots {
        let at = (usize::try_from(root).unwrap() - 1) * 4096;
        bytes[at..at + 4096].fill(0xA5);
    }
    std::fs::write(&copy, bytes).unwrap();
    let damaged = opened(&copy).await;
    let mut tx = damaged.read().await.unwrap();
    assert!(tx.person("007").await.is_err());
    drop(tx);
    let mut tx = damaged.write().await.unwrap();
    let person = tx.person("008").await;
    assert!(person.is_err());
    assert!(tx.commit().await.is_err(), "nothing is built on what could not be read");
    // What is not damaged goes on. Who shares a commit with one that met the damage may have to come back.
    let mut tries = 0;
    while let Err(why) = reads_elsewhere(&damaged).await {
        tries += 1;
        assert!(matches!(why, StoreError::Unavailable(_)) && tries < 3, "{why:?}");
    }
}

async fn reads_elsewhere(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    assert!(tx.resource("Patient", "none", &Sight::Everything).await?.is_none());
    tx.commit().await
}

async fn opened(file: &Path) -> Store {
    let url = format!("sqlite:{}", file.display());
    Store::open(&DatabaseSettings { url, ..Default::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_may_lose_commits_is_refused() {
    let Some(database) = Made::postgres().await else { return };
    let mut beside = connect(&database.url).await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut beside).await.unwrap();
    for (setting, starts) in [("off", false), ("local", false), ("remote_apply", true), ("on", true)] {
        let change = format!("alter database {name} set synchronous_commit = {setting}");
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut beside).await.unwrap();
        match starts {
            true => drop(app::open_store(&config(&database.url)).await.unwrap()),
            false => {
                let said = refusal(&database.url).await;
                assert!(said.contains(&format!("synchronous_commit is {setting}, and must be on")), "{said}");
            }
        }
    }
    if let Some(server) = Server::start("fsync = off") {
        let said = refusal(&server.url()).await;
        assert!(said.contains("fsync is off, and must be on"), "{said}");
    }
    if let Some(server) = Server::start("full_page_writes = off") {
        let said = refusal(&server.url()).await;
        assert!(said.contains("full_page_writes is off, and must be on"), "{said}");
    }
}

/// A certificate authority and a certificate for 127.0.0.1 by it; `None`, and said, without openssl.
fn certificates(folder: &Path) -> Option<()> {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt && \
        openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr && \
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >ext && \
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt && \
        chmod 600 server.key && { [ $(id -u) -ne 0 ] || chown 65534:65534 server.key server.crt; } && chmod 755 .";
    let mut made = Command::new("sh");
    made.args(["-c", script]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match made.status() {
        Ok(ended) if ended.success() => Some(()),
        _ => {
            eprintln!("skipped: openssl makes no certificates here");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_postgresql_is_encrypted_and_checked() {
    let keys = tempfile::tempdir().unwrap();
    let Some(()) = certificates(keys.path()) else { return };
    let path = keys.path().display();
    let ssl = format!("ssl = on\nssl_cert_file = '{path}/server.crt'\nssl_key_file = '{path}/server.key'");
    let Some(server) = Server::start(&ssl) else { return };
    let url = server.url();
    let store =
        app::open_store(&config(&format!("{url}?sslmode=verify-full&sslrootcert={path}/ca.crt"))).await.unwrap();
    let _held = store.read().await.unwrap();
    let encrypted: bool = sqlx::query_scalar(
        "select bool_and(ssl) from pg_stat_ssl s join pg_stat_activity a using (pid) \
        where a.application_name = 'livewell'",
    )
    .fetch_one(&mut connect(&url).await)
    .await
    .unwrap();
    assert!(encrypted);
    let said = refusal(&format!("{url}?sslmode=verify-full")).await;
    assert!(said.to_lowercase().contains("certificate"), "{said}");
}
