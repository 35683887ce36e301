//! From one release to the next: every earlier schema comes up to date with what it holds, however often it is cut off
//! on the way, and the release before goes on beside the new one while instances are replaced.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::empty::Empty;
use super::*;

/// Each column of each table, and whether it holds numbers, texts or flags.
async fn columns(store: &Store) -> Vec<(String, String, String)> {
    let mut tx = store.read().await.unwrap();
    let all: Vec<(String, String, String)> = sql!(
        tx,
        fetch_all,
        {
            sqlite: "select t.name, c.name, lower(c.type) from sqlite_schema t, pragma_table_info(t.name) c \
                where t.type = 'table' and t.name not like '\\_sqlx%' escape '\\' order by t.name, c.cid",
            postgres: "select table_name::text, column_name::text, data_type::text from information_schema.columns \
                where table_schema = current_schema() and table_name not like '\\_sqlx%' \
                order by table_name, ordinal_position"
        }
    )
    .unwrap();
    all
}

/// Runs a statement put together here, as a transaction of its own.
async fn run(store: &Store, text: String) -> Result<(), String> {
    let mut tx = store.write().await.unwrap();
    let values = tx.values();
    tx.execute(AssertSqlSafe(text), values).await.map_err(|error| error.to_string())?;
    tx.commit().await.map_err(|error| error.to_string())
}

/// A row of a table as a release writes it that knows these columns only.
fn insert(table: &str, columns: &[&(String, String, String)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(_, name, _)| name.as_str()).collect();
    let value = |(_, name, kind): &&(String, String, String)| match kind.as_str() {
        "text" => format!("'old {name}'"),
        "boolean" => "false".to_owned(),
        _ => "7".to_owned(),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    format!("insert into {table} ({}) values ({})", names.join(", "), values.join(", "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_earlier_schema_comes_up_to_date_with_what_it_holds() {
    for earlier in 1..=MIGRATIONS.iter().count() {
        for database in Empty::each().await {
            let store = database.at(earlier).await;
            assert_eq!(store.is_migrated().await.unwrap(), earlier == MIGRATIONS.iter().count());
            let then = columns(&store).await;
            let of_person: Vec<_> = then.iter().filter(|(table, ..)| table == "person").collect();
            run(&store, insert("person", &of_person)).await.unwrap();
            drop(store);
            let store = database.open().await;
            store.migrate().await.unwrap();
            assert!(store.is_migrated().await.unwrap());
            assert!(store.look().await.unwrap().person("old id").await.unwrap().is_some());
            drop(store);
            database.gone().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_cut_off_anywhere_is_done_by_the_next_start() {
    let mut cut_off = 0;
    for wait in [0, 500, 2_000, 5_000, 10_000, 20_000, 40_000] {
        for database in Empty::each().await {
            let store = database.open().await;
            let migrating = tokio::spawn(async move { store.migrate().await });
            tokio::time::sleep(Duration::from_micros(wait)).await;
            migrating.abort();
            cut_off += usize::from(migrating.await.is_err());
            let store = database.open().await;
            store.migrate().await.unwrap();
            assert!(store.is_migrated().await.unwrap());
            drop(store);
            database.gone().await;
        }
    }
    assert!(cut_off >= 3, "{cut_off} were on their way");
}

/// The release before knows the tables and columns of its own schema and no others. On the new schema each is there, a
/// row that names nothing else is taken, and it can be read and changed by what the old release knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_earlier_release_goes_on_beside_the_new_one() {
    for earlier in 1..MIGRATIONS.iter().count() {
        for database in Empty::each().await {
            let store = database.at(earlier).await;
            let then = columns(&store).await;
            store.migrate().await.unwrap();
            let mut tables: Vec<&str> = then.iter().map(|(table, ..)| table.as_str()).collect();
            tables.dedup();
            assert!(tables.len() >= 15, "{tables:?}");
            for table in tables {
                let known: Vec<_> = then.iter().filter(|(t, ..)| t == table).collect();
                run(&store, insert(table, &known)).await.unwrap_or_else(|why| panic!("{table}: {why}"));
                let names: Vec<String> = known.iter().map(|(_, name, _)| format!("{name} = {name}")).collect();
                let changes = format!("update {table} set {} where {}", names.join(", "), names.join(" and "));
                run(&store, changes).await.unwrap_or_else(|why| panic!("{table}: {why}"));
            }
            drop(store);
            database.gone().await;
        }
    }
}
