//! The store by itself, on both databases: what commits, what does not, and who waits for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use livewell::fhir::search::{Criterion, IndexRow, Word};
use livewell::store::{
    At, DatabaseSettings, NewDelivery, Page, PersonRow, Place, ReferralRow, Sight, Store, StoreError, Stored,
};
use tokio::task::JoinSet;

use crate::database::{Database, connect};

fn person(id: &str, nhs_number: Option<&str>) -> PersonRow {
    let [birth_date, family, practice, locality] = [const { String::new() }; 4];
    PersonRow { id: id.to_owned(), nhs_number: nhs_number.map(str::to_owned), birth_date, family, practice, locality }
}

async fn add(store: &Store, id: &str) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    tx.insert_person(&person(id, None)).await?;
    tx.commit().await
}

async fn is_there(store: &Store, id: &str) -> bool {
    store.read().await.unwrap().person(id).await.unwrap().is_some()
}

fn resource(id: &str) -> Stored {
    Stored {
        kind: "Patient".to_owned(),
        id: id.to_owned(),
        version: 1,
        updated_at: At(0),
        deleted: false,
        sender: String::new(),
        person: String::new(),
        referral: String::new(),
        body: "{\"resourceType\":\"Patient\"}".to_owned(),
    }
}

fn referral(id: &str) -> ReferralRow {
    let [digest, submission, practice, locality] = [const { String::new() }; 4];
    let [episode, care_plan, outcome] = [const { String::new() }; 3];
    let [reference, person, state] = [format!("LW-{id}"), format!("person-{id}"), "received".to_owned()];
    let (id, sender) = (id.to_owned(), "TESTA1".to_owned());
    let (received_at, since) = (At(0), At(0));
    #[rustfmt::skip]
    return ReferralRow {
        id, reference, sender, digest, submission, person, practice, locality, episode, care_plan, state, outcome,
        received_at, since,
    };
}

on_each_store! {
    /// PostgreSQL answers such a commit with success and keeps nothing, SQLite keeps what went before.
    async fn after_a_failed_statement_nothing_is_committed(database: Database) {
        let store = database.open().await;
        add(&store, "taken").await.unwrap();
        let mut tx = store.write().await.unwrap();
        tx.insert_person(&person("new", None)).await.unwrap();
        tx.insert_person(&person("taken", None)).await.unwrap();
        // Inserts are written with the next statement, or with the commit.
        let error = tx.person("new").await.err().unwrap();
        assert!(matches!(error, StoreError::Conflict), "{error:?}");
        assert!(matches!(tx.commit().await, Err(StoreError::Aborted)));
        assert!(matches!(add(&store, "taken").await, Err(StoreError::Conflict)));
        assert!(!is_there(&store, "new").await);
        add(&store, "next").await.unwrap();
    }

    async fn a_transaction_that_is_dropped_leaves_nothing_and_blocks_nobody(database: Database) {
        let store = database.open().await;
        for id in 0..20 {
            let mut tx = store.write().await.unwrap();
            tx.insert_person(&person(&format!("dropped-{id}"), None)).await.unwrap();
            drop(tx);
            add(&store, &format!("kept-{id}")).await.unwrap();
        }
        for id in 0..20 {
            assert!(!is_there(&store, &format!("dropped-{id}")).await);
            assert!(is_there(&store, &format!("kept-{id}")).await);
        }
    }

    /// A caller that hangs up, a task that is aborted: wherever it is at that moment, no connection stays in an open
    /// transaction and nobody waits for one.
    async fn a_writer_that_is_aborted_anywhere_leaves_nothing_and_blocks_nobody(database: Database) {
        let store = database.open().await;
        for wait in 0..60_u64 {
            let writer = store.clone();
            let task = tokio::spawn(async move {
                let mut tx = writer.write().await?;
                tx.insert_person(&person("aborted", Some("9990000018"))).await?;
                tx.hold("something").await?;
                tx.insert_person(&person("aborted", None)).await?;
                tx.person("aborted").await.map(drop)
            });
            tokio::time::sleep(std::time::Duration::from_micros(wait * 50)).await;
            task.abort();
            let _ = task.await;
        }
        // As many at once as there are connections, each of which would wait for a row that a lost one holds.
        let mut writers = JoinSet::new();
        for n in 0..16 {
            let store = store.clone();
            writers.spawn(async move {
                let mut tx = store.write().await?;
                tx.hold("something").await?;
                tx.insert_person(&person(&format!("after-{n}"), Some(&format!("99900001{n:02}")))).await?;
                tx.commit().await
            });
        }
        let written = writers.join_all().await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        assert!(!is_there(&store, "aborted").await);
    }

    async fn what_a_reader_sees_does_not_change_while_it_reads(database: Database) {
        let store = database.open().await;
        let mut reader = store.read().await.unwrap();
        assert!(reader.person("late").await.unwrap().is_none());
        add(&store, "late").await.unwrap();
        assert!(reader.person("late").await.unwrap().is_none());
        assert!(is_there(&store, "late").await);
    }

    /// Labels are put on without a new version: a change that was read before must not take them off again.
    async fn what_was_amended_since_it_was_read_is_not_replaced(database: Database) {
        let store = database.open().await;
        let mut tx = store.write().await.unwrap();
        tx.insert_resources(&[resource("a")]).await.unwrap();
        tx.commit().await.unwrap();
        let read = resource("a");
        let labelled = Stored { body: read.body.replacen('{', r#"{"language":"en","#, 1), ..read.clone() };
        let mut tx = store.write().await.unwrap();
        assert!(tx.amend_resource(&read, &labelled.body).await.unwrap());
        tx.commit().await.unwrap();
        let change = Stored { version: 2, ..read.clone() };
        for (built_on, replaced) in [(&read, false), (&labelled, true)] {
            let mut tx = store.write().await.unwrap();
            assert_eq!(tx.replace_resource(&change, built_on).await.unwrap(), replaced);
        }
    }

    /// Pages by id and names that begin with something mean the same whatever language a database sorts in.
    async fn text_is_ordered_by_its_bytes(database: Database) {
        let store = database.open().await;
        let names = [("a", "smith"), ("B", "smithé"), ("b-2", "smit"), ("Z", "zebra"), ("10", "smi th"), ("9", "smith-jones")];
        let mut tx = store.write().await.unwrap();
        let rows: Vec<_> = names.iter().map(|(id, _)| resource(id)).collect();
        tx.insert_resources(&rows).await.unwrap();
        let words: Vec<_> = names
            .iter()
            .map(|(id, name)| {
                let row = IndexRow::Word { param: "family".into(), value: (*name).into(), system: String::new() };
                ("Patient", *id, row)
            })
            .collect();
        tx.add_index(words).await.unwrap();
        tx.commit().await.unwrap();

        let mut tx = store.read().await.unwrap();
        let mut paged = Vec::new();
        let mut after = None;
        loop {
            let page = Page { after, limit: 2 };
            let found = tx.search("Patient", &[], &Sight::Everything, &[], &page).await.unwrap();
            paged.extend(found.matches.into_iter().map(|m| m.id));
            if !found.more {
                break;
            }
            after = paged.last().map(|id| Place { keys: Vec::new(), id: id.clone() });
        }
        assert_eq!(paged, ["10", "9", "B", "Z", "a", "b-2"]);

        let any = vec![Word::Begins("smith".to_owned())];
        let begins = Criterion::Words { params: vec!["family".to_owned()], any, not: false };
        let found = tx.search("Patient", &[begins], &Sight::Everything, &[], &Page::first(10)).await.unwrap();
        let found: Vec<_> = found.matches.into_iter().map(|m| m.id).collect();
        assert_eq!(found, ["9", "B", "a"], "smith, smithé and smith-jones; neither smit nor smi th");
    }

    async fn of_many_that_send_one_referral_at_once_one_is_first_and_the_others_are_told(database: Database) {
        let store = database.open().await;
        let mut senders = JoinSet::new();
        for n in 0..32 {
            let store = store.clone();
            senders.spawn(async move {
                let mut tx = store.write().await?;
                let identifiers = [("urn:x".to_owned(), "1".to_owned()), ("urn:x".to_owned(), "1".to_owned())];
                if tx.referral_by_identifier("TESTA1", &identifiers).await?.is_some() {
                    return Ok(false);
                }
                tx.insert_referral(&referral(&n.to_string()), &identifiers).await?;
                tx.commit().await?;
                Ok(true)
            });
        }
        let ended: Vec<Result<bool, StoreError>> = senders.join_all().await;
        assert_eq!(ended.iter().filter(|e| matches!(e, Ok(true))).count(), 1, "{ended:?}");
        assert!(ended.iter().all(|e| e.as_ref().map_or_else(StoreError::is_race, |_| true)), "{ended:?}");
    }

    async fn a_held_name_is_had_by_one_at_a_time(database: Database) {
        let store = database.open().await;
        let inside = Arc::new(AtomicUsize::new(0));
        let mut holders = JoinSet::new();
        for _ in 0..8 {
            let (store, inside) = (store.clone(), Arc::clone(&inside));
            holders.spawn(async move {
                let mut tx = store.write().await.unwrap();
                tx.hold("person 1").await.unwrap();
                let others = inside.fetch_add(1, Ordering::SeqCst);
                // A round trip, in which another would come in.
                tx.person("nobody").await.unwrap();
                inside.fetch_sub(1, Ordering::SeqCst);
                tx.commit().await.unwrap();
                others
            });
        }
        assert_eq!(holders.join_all().await, [0; 8]);
    }

    async fn deliveries_have_a_place_each_and_are_leased_once_and_in_order(database: Database) {
        let store = database.open().await;
        let mut queued = JoinSet::new();
        for n in 0..24 {
            let store = store.clone();
            queued.spawn(async move {
                loop {
                    match queue(&store, n).await {
                        Err(why) if why.is_race() => {}
                        ended => return ended,
                    }
                }
            });
        }
        for ended in queued.join_all().await {
            ended.unwrap();
        }
        // Three people at two practices: six chains. Workers never have two of one chain, and nothing twice.
        let mut settled: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
        for _ in 0..4 {
            let mut workers = JoinSet::new();
            for _ in 0..4 {
                let store = store.clone();
                workers.spawn(async move {
                    let mut leased = Vec::new();
                    for practice in ["TESTA0", "TESTA1"] {
                        let mut tx = store.write().await.unwrap();
                        leased.extend(tx.lease_deliveries(practice, "w", At(10), At(20), 2).await.unwrap());
                        tx.commit().await.unwrap();
                    }
                    leased
                });
            }
            let leased: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
            let chains: BTreeSet<_> = leased.iter().map(|d| (d.practice.clone(), d.person.clone())).collect();
            assert_eq!((leased.len(), chains.len()), (6, 6), "one of each chain, and none twice");
            for mut delivery in leased {
                delivery.settled_at = Some(At(11));
                let mut tx = store.write().await.unwrap();
                assert!(tx.settle_delivery(&delivery).await.unwrap());
                assert!(!tx.settle_delivery(&delivery).await.unwrap(), "a lease concludes once");
                tx.commit().await.unwrap();
                settled.entry((delivery.practice, delivery.person)).or_default().push(delivery.place);
            }
        }
        assert_eq!(settled.len(), 6);
        assert!(settled.values().all(|places| places == &[1, 2, 3, 4]), "{settled:?}");
    }

    async fn many_instances_may_migrate_at_once_and_again(database: Database) {
        let mut instances = JoinSet::new();
        for _ in 0..4 {
            let store = Store::open(&DatabaseSettings { url: database.url.clone(), connections: 2 }).await.unwrap();
            instances.spawn(async move { store.migrate().await });
        }
        let ended = instances.join_all().await;
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    }
}

async fn queue(store: &Store, n: usize) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    tx.insert_delivery(&NewDelivery {
        id: format!("delivery-{n}"),
        purpose: "write-back",
        practice: format!("TESTA{}", n % 2),
        person: format!("person-{}", n % 3),
        referral: String::new(),
        items: Vec::new(),
        author: String::new(),
        state: "pending",
        why: "",
        due_at: At(1),
        created_at: At(1),
    })
    .await?;
    tx.commit().await
}

#[tokio::test]
async fn every_text_column_of_postgresql_is_compared_by_bytes() {
    let Some(database) = Database::postgres().await else { return };
    database.open().await;
    let wrong: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text from information_schema.columns where table_schema = 'public' \
         and table_name not like '\\_sqlx%' and data_type in ('text', 'character varying') \
         and collation_name is distinct from 'C'",
    )
    .fetch_all(&mut connect(&database.url).await)
    .await
    .unwrap();
    assert_eq!(wrong, [], "these columns are sorted in the language of the database");
}

/// How many commits the write-ahead log of an SQLite file holds: frames that say how large the database is after them
/// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
fn commits(database: &Database) -> usize {
    let log = std::fs::read(database.file().with_extension("db-wal")).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let (page, salt) = (number(8) as usize, (number(16), number(20)));
    let frames = (32..).step_by(24 + page).take_while(|at| at + 24 + page <= log.len());
    frames.filter(|at| (number(at + 8), number(at + 12)) == salt && number(at + 4) != 0).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_writer_commits_by_itself() {
    let database = Database::sqlite();
    let store = database.open().await;
    for n in 0..5 {
        let before = commits(&database);
        add(&store, &n.to_string()).await.unwrap();
        assert_eq!(commits(&database), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_commits_and_one_that_fails_takes_nobody_with_it() {
    let database = Database::sqlite();
    let store = database.open().await;
    add(&store, "taken").await.unwrap();
    let before = commits(&database);
    let mut writers = JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        writers.spawn(async move {
            let mut tx = store.write().await?;
            tx.insert_person(&person(&format!("writer-{n}"), None)).await?;
            match n % 4 {
                1 => {
                    tx.insert_person(&person("taken", None)).await?;
                    assert!(matches!(tx.person("taken").await, Err(StoreError::Conflict)));
                }
                2 => {
                    assert!(tx.person(&format!("writer-{n}")).await?.is_some());
                    return Ok(());
                }
                _ => {}
            }
            tx.commit().await
        });
    }
    let ended = writers.join_all().await;
    assert_eq!(ended.iter().filter(|e| matches!(e, Err(StoreError::Aborted))).count(), 16, "{ended:?}");
    assert_eq!(ended.iter().filter(|e| e.is_ok()).count(), 48, "{ended:?}");
    let shared = commits(&database) - before;
    assert!((1..=16).contains(&shared), "32 writers made {shared} commits");
    let again = database.open().await;
    for n in 0..64 {
        assert_eq!(is_there(&again, &format!("writer-{n}")).await, matches!(n % 4, 0 | 3), "writer {n}");
    }
}

/// A copy of the files at some moment is what a process that was killed then leaves behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_loses_only_what_was_not_acknowledged() {
    let database = Database::sqlite();
    let store = database.open().await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let (store, acknowledged, over) = (store.clone(), Arc::clone(&acknowledged), Arc::clone(&over));
        writers.spawn(async move {
            for m in (0..).take_while(|_| !over.load(Ordering::SeqCst)) {
                let id = format!("{n}-{m}");
                add(&store, &id).await.unwrap();
                acknowledged.lock().unwrap().insert(id);
                // Slowly enough that the log stays the one it is: the files are copied one after the other.
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        });
    }
    let mut images = Vec::new();
    for _ in 0..10 {
        let known = acknowledged.lock().unwrap().clone();
        let image = tempfile::tempdir().unwrap();
        for name in ["livewell.db", "livewell.db-wal"] {
            std::fs::copy(database.file().with_file_name(name), image.path().join(name)).unwrap();
        }
        images.push((known, image));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::SeqCst);
    writers.join_all().await;
    assert!(images.iter().any(|(known, _)| !known.is_empty()), "it was never caught at work");
    for (known, image) in images {
        let url = format!("sqlite:{}", image.path().join("livewell.db").display());
        let left = Store::open(&DatabaseSettings { url, ..Default::default() }).await.unwrap();
        left.check_settings().await.unwrap();
        for id in known {
            assert!(is_there(&left, &id).await, "{id} was acknowledged and is gone");
        }
    }
}
