//! No statement that callers wait for goes through a whole table, however many rows it has.

use sqlx::Row;

use super::empty::Empty;
use super::*;
use crate::fhir::search::{Column, Context, Criterion, Persons, QueueTest, read, sort};

/// Tables that grow with the years.
const BIG: [&str; 14] = [
    "resource",
    "resource_history",
    "lookup",
    "lookup_time",
    "lookup_number",
    "lookup_pair",
    "person",
    "referral",
    "referral_identifier",
    "episode",
    "task",
    "delivery",
    "audit",
    "access_token",
];

/// Aliases by which the statements call them.
const ALIASES: [(&str, &str); 11] = [
    ("r", "resource"),
    ("a", "resource"),
    ("q", "resource"),
    ("l", "lookup"),
    ("m", "lookup"),
    ("x", "lookup_time"),
    ("p", "person"),
    ("f", "referral"),
    ("t", "task"),
    ("d", "delivery"),
    ("e", "delivery"),
];

/// Why a step of a plan costs more the more rows there are.
fn costly(step: &str) -> Option<&'static str> {
    let mut words = step.split(' ');
    let (verb, table) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let table = ALIASES.iter().find(|(alias, _)| *alias == table).map_or(table, |(_, table)| table);
    match verb {
        "SCAN" if BIG.contains(&table) => Some("goes through the whole table"),
        // The type alone is no restriction: a million Tasks are one type.
        "SEARCH" if table == "resource" && step.ends_with("(kind=?)") => Some("goes through a whole type"),
        _ if step == "USE TEMP B-TREE FOR ORDER BY" => Some("sorts all that matches"),
        _ => None,
    }
}

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("plans.db").display());
    let store = Store::open(&DatabaseSettings { url, connections: 1 }).await.unwrap();
    store.migrate().await.unwrap();
    (folder, store)
}

/// The costly steps in the plans of everything that `tx` ran.
async fn costly_steps(mut tx: Tx) -> Vec<String> {
    let texts = std::mem::take(&mut tx.ran);
    assert!(!texts.is_empty(), "nothing was run");
    let connection = match &mut tx.conn {
        Conn::SqliteWrite(unit) => unit.connection(),
        _ => panic!("a transaction that writes, on SQLite"),
    };
    let mut found = Vec::new();
    for text in texts {
        let plan = sqlx::query(sqlx::AssertSqlSafe(format!("explain query plan {text}")));
        for row in plan.fetch_all(&mut *connection).await.unwrap() {
            let step: String = row.get("detail");
            if let Some(why) = costly(&step) {
                found.push(format!("{step} {why}: {text}"));
            }
        }
    }
    found
}

const NOW: At = At(1_772_442_000_000_000);

fn words(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Runs what work lists and claims ask.
async fn work_lists(tx: &mut Tx) {
    let north = words(&["north"]);
    let sight = Sight::Localities(north.clone());
    let is = |column, any: &[&str]| Criterion::Queue(QueueTest::Is { column, any: words(any), not: false });
    let unowned =
        [is(Column::Status, &["requested"]), is(Column::Role, &["health-coach"]), is(Column::Locality, &["north"])];
    let own = [is(Column::Status, &["accepted", "in-progress"]), is(Column::Owner, &["PractitionerRole/coach-north"])];
    tx.search_tasks(&unowned, &sight, None, 21).await.unwrap();
    tx.search_tasks(&unowned, &sight, Some((3, 1, "a")), 21).await.unwrap();
    tx.search_tasks(&own, &sight, None, 21).await.unwrap();
    for localities in [None, Some(north.as_slice())] {
        for practice in [None, Some("TESTA1")] {
            tx.next_unclaimed(&WorkOrder { role: "health-coach", localities, practice, now: NOW }).await.unwrap();
        }
    }
}

#[tokio::test]
async fn work_lists_and_claims_read_no_more_than_they_answer() {
    let (_folder, store) = store().await;
    let mut tx = store.write().await.unwrap();
    work_lists(&mut tx).await;
    // SQLite leaves each locality at its first Task that is handed out: it sorts one for each.
    let found = costly_steps(tx).await;
    let first_of_each =
        |f: &str| f.starts_with("USE TEMP B-TREE") && f.contains("t.locality in ('', $2)") && f.contains("limit 1");
    let found: Vec<_> = found.into_iter().filter(|f| !first_of_each(f)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Runs what is asked of people, referrals and deliveries.
async fn lookups(tx: &mut Tx) {
    let practice = Sight::Practice("TESTA1".to_owned());
    tx.credentials(&words(&["hash", "other", "third"])).await.unwrap();
    tx.resource("ServiceRequest", "a", &practice).await.unwrap();
    tx.person_by_nhs_number("9990000018").await.unwrap();
    tx.persons_by_identifier("9990000018", Some("https://fhir.nhs.uk/Id/nhs-number"), &practice).await.unwrap();
    tx.practice("TESTA1", "TESTLW", NOW).await.unwrap();
    tx.directory_organization("TESTA1").await.unwrap();
    tx.organizations_with_code("TESTA1").await.unwrap();
    tx.open_episode("a").await.unwrap();
    tx.referral_by_identifier("TESTA1", &[("system".to_owned(), "value".to_owned())]).await.unwrap();
    tx.referrals_of_person("a").await.unwrap();
    tx.referral("a").await.unwrap();
    tx.tasks_of_referral("a").await.unwrap();
    tx.resources_of_referral("a", "Encounter").await.unwrap();
    tx.resources_of_person("a", "Task").await.unwrap();
    tx.deliveries_of_referral("a", &practice).await.unwrap();
    tx.delivery("a").await.unwrap();
    tx.has_parked_delivery("a").await.unwrap();
    tx.has_open_task_for_practice("TESTA1", "no-route").await.unwrap();
    tx.destinations_due(NOW).await.unwrap();
    tx.hold_destination("TESTA1").await.unwrap();
    tx.hold_destination_in_turn("TESTA1").await.unwrap();
    tx.in_flight("TESTA1", NOW).await.unwrap();
    tx.lease_deliveries("TESTA1", "worker", NOW, NOW, 8).await.unwrap();
    tx.keep_leases("worker", &[("a".to_owned(), 1)], NOW).await.unwrap();
    tx.hurry("TESTA1", NOW).await.unwrap();
    tx.free_stuck_lines().await.unwrap();
    tx.waiting_deliveries("TESTA1", "").await.unwrap();
    tx.waiting_deliveries("", "a").await.unwrap();
    tx.practices_told_of("a").await.unwrap();
    tx.open_deliveries("TESTA1", "a").await.unwrap();
    let of_person = Criterion::Persons(Persons { patients: words(&["a"]), ..Persons::default() });
    tx.count_tasks(&[of_person], &practice).await.unwrap();
}

#[tokio::test]
async fn people_referrals_and_deliveries_are_found_by_an_index() {
    let (_folder, store) = store().await;
    let mut tx = store.write().await.unwrap();
    lookups(&mut tx).await;
    let found = costly_steps(tx).await;
    assert!(found.is_empty(), "{found:#?}");
}

/// The scans of whole tables that PostgreSQL would have to do for what `tx` ran, however dear it takes them to be: tables
/// as small as a test's it scans by choice.
async fn scans_on_postgres(mut tx: Tx) -> Vec<String> {
    let texts = std::mem::take(&mut tx.ran);
    assert!(!texts.is_empty(), "nothing was run");
    tx.hold("plans").await.unwrap();
    let Conn::PostgresWrite(unit) = &mut tx.conn else { panic!("a transaction that writes, on PostgreSQL") };
    let connection = unit.connection();
    let settings = "set local enable_seqscan = off; set local plan_cache_mode = force_generic_plan";
    sqlx::raw_sql(settings).execute(&mut *connection).await.unwrap();
    let mut found = Vec::new();
    for text in &texts {
        let binds = (1..).take_while(|n| text.contains(&format!("${n}"))).count();
        let nulls = vec!["null"; binds].join(", ");
        let execute = if binds == 0 { "planned".to_owned() } else { format!("planned({nulls})") };
        let prepare = format!("prepare planned as {text}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection).await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("explain execute {execute}"));
        let rows = sqlx::raw_sql(explain).fetch_all(&mut *connection).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        for (at, step) in steps.iter().enumerate() {
            let of_big = BIG.iter().any(|table| format!("{step} ").contains(&format!(" on {table} ")));
            let own = steps[at + 1..].iter().take_while(|next| !next.contains("->"));
            let is_led = own.into_iter().any(|next| next.contains("Index Cond"));
            if of_big && step.contains("Scan") && !step.contains("Bitmap Heap Scan") && !is_led {
                found.push(format!("{}: {text}", step.trim()));
            }
        }
        sqlx::raw_sql("deallocate planned").execute(&mut *connection).await.unwrap();
    }
    found
}

#[tokio::test]
async fn what_callers_wait_for_is_found_by_an_index_on_postgres_too() {
    let Some(database) = Empty::postgres().await else { return };
    let store = database.open().await;
    store.migrate().await.unwrap();
    let mut found = Vec::new();
    let mut tx = store.write().await.unwrap();
    work_lists(&mut tx).await;
    found.extend(scans_on_postgres(tx).await);
    let mut tx = store.write().await.unwrap();
    lookups(&mut tx).await;
    found.extend(scans_on_postgres(tx).await);
    let mut tx = store.write().await.unwrap();
    // Nothing leads to a Task by when it was put on hold.
    sql!(tx, fetch_all, "select id from task where held_at = $1", NOW).map(|rows: Vec<(String,)>| drop(rows)).unwrap();
    assert_eq!(scans_on_postgres(tx).await.len(), 1, "a scan is known when it is seen");
    drop(store);
    database.gone().await;
    // The indexes of what is still open have that alone; and tables without rows are joined whole, where with rows one
    // goes from line to line.
    let of_open = |step: &String| ["delivery_line on", "delivery_open on"].iter().any(|index| step.contains(index));
    let from_line_to_line = |step: &String| step.contains("with recursive line (practice, person)");
    found.retain(|step| !of_open(step) && !from_line_to_line(step));
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn each_kind_of_search_is_led_by_an_index() {
    let (_folder, store) = store().await;
    let codes = |_: &str| Some(vec![("urn:s".to_owned(), "a".to_owned()), ("urn:s".to_owned(), "b".to_owned())]);
    let context = Context { base: "http://127.0.0.1/fhir", now: NOW.0, value_set: &codes, queue: true };
    let localities = Sight::Localities(words(&["north"]));
    let practice = Sight::Practice("TESTA1".to_owned());
    let mut found = Vec::new();
    for (kind, name, value) in [
        ("Observation", "code", "http://loinc.org|1234-5"),
        ("Observation", "code", "1234-5,http://loinc.org|2345-6"),
        ("Observation", "combo-code", "1234-5"),
        ("Observation", "code:in", "urn:v"),
        ("Observation", "code:text", "blood"),
        ("Patient", "identifier:of-type", "urn:s|MR|1"),
        ("Patient", "family", "smi"),
        ("Patient", "family:exact", "Smith"),
        ("Patient", "family:contains", "mit"),
        ("Observation", "date", "ge2026"),
        ("Observation", "date", "ne2026"),
        ("Observation", "value-quantity", "gt5.4|http://unitsofmeasure.org|mg"),
        ("RiskAssessment", "probability", "0.8"),
        ("Observation", "code-value-quantity", "http://loinc.org|1234-5$gt5.4"),
        ("Observation", "code-value-string", "1234-5$yes"),
        ("Observation", "encounter", "Encounter/a"),
        ("Observation", "performer:identifier", "urn:s|a"),
        ("Observation", "patient", "Patient/a"),
        ("Observation", "patient.identifier", "https://fhir.nhs.uk/Id/nhs-number|9990000018"),
        ("Observation", "subject:Patient.name", "smi"),
        ("Observation", "encounter.status", "finished"),
        ("Observation", "patient.general-practitioner.name", "high"),
        ("Patient", "_has:Observation:patient:code", "1234-5"),
        ("Encounter", "_has:Observation:encounter:code", "1234-5"),
        ("Patient", "_has:Encounter:patient:_has:Observation:encounter:code", "1234-5"),
        ("ServiceRequest", "_has:Task:focus:based-on", "CarePlan/a"),
        ("Task", "focus.status", "active"),
        ("Task", "based-on", "CarePlan/a"),
        ("PlanDefinition", "url", "http://a.example/x"),
        ("PlanDefinition", "url:below", "http://a.example"),
        ("PlanDefinition", "url:above", "http://a.example/x/y"),
        ("Patient", "_tag", "urn:s|a"),
        ("Patient", "_profile", "http://a.example/p"),
    ] {
        let criterion = read(&context, kind, name, value).unwrap();
        for sight in [&Sight::Everything, &localities, &practice] {
            let mut tx = store.write().await.unwrap();
            let criteria = [criterion.clone()];
            if kind == "Task" {
                tx.count_tasks(&criteria, sight).await.unwrap();
            }
            tx.count(kind, &criteria, sight).await.unwrap();
            tx.search(kind, &criteria, sight, &[], &Page::first(20)).await.unwrap();
            found.extend(costly_steps(tx).await.into_iter().map(|step| format!("{kind}?{name}: {step}")));
            // Of what criteria find, the organisation's own is sorted to the front.
            let mut tx = store.write().await.unwrap();
            tx.nearest(kind, &criteria, sight, ("TESTA1", false), &["a"]).await.unwrap();
            let steps = costly_steps(tx).await.into_iter().filter(|step| !step.starts_with("USE TEMP B-TREE"));
            found.extend(steps.map(|step| format!("{kind}?{name} as criteria: {step}")));
        }
    }
    let order = sort("Observation", "-date,code").unwrap();
    let mut tx = store.write().await.unwrap();
    let of_one = read(&context, "Observation", "patient", "a").unwrap();
    tx.search("Observation", &[of_one], &practice, &order, &Page::first(20)).await.unwrap();
    let sorted = costly_steps(tx).await;
    assert!(sorted.iter().all(|step| step.starts_with("USE TEMP B-TREE")), "a sort looks up each value: {sorted:#?}");
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn the_audit_trail_is_read_by_an_index_in_the_order_of_time() {
    let (_folder, store) = store().await;
    let person = Persons { patients: words(&["a"]), ..Persons::default() };
    let agents = TrailTest::Agents { clients: words(&["surgery"]), organizations: words(&["TESTA1"]) };
    let refused = TrailTest::Outcomes { any: words(&["success"]), not: true };
    let reads = TrailTest::Interactions(Interactions { named: words(&["read"]), begin: vec!["$"] });
    let searches = [
        vec![TrailTest::Ids(words(&["a"]))],
        vec![TrailTest::At(vec![(NOW.0, NOW.0 + 1)]), reads.clone()],
        vec![TrailTest::Persons(person.clone()), reads.clone()],
        vec![TrailTest::Targets(words(&["ServiceRequest/a"])), TrailTest::Persons(person)],
        vec![TrailTest::Actors(words(&["PractitionerRole/a"])), refused.clone()],
        vec![agents, TrailTest::At(vec![(NOW.0, i64::MAX)])],
        vec![refused, reads],
        vec![],
    ];
    let mut found = Vec::new();
    for tests in searches {
        for sight in [Sight::Everything, Sight::Localities(words(&["north"])), Sight::Practice("TESTA1".to_owned())] {
            for (oldest_first, after) in [(true, None), (false, None), (false, Some("b".to_owned()))] {
                let mut tx = store.write().await.unwrap();
                // Whom a resource is about is a row of its own.
                tx.insert_resources(&[about("ServiceRequest", "a")]).await.unwrap();
                let whole = tests.is_empty();
                let search = TrailSearch { tests: tests.clone(), oldest_first, after, limit: 20 };
                tx.search_trail(&search, &sight).await.unwrap();
                if !whole {
                    tx.count_trail(&search, &sight).await.unwrap();
                }
                let steps = costly_steps(tx).await.into_iter();
                // The whole trail is read from its end, in the order of its index, as far as the page is long.
                let in_order = |step: &String| whole && step.starts_with("SCAN audit USING INDEX");
                // An index that has the refusals alone.
                let refused = |step: &String| step.starts_with("SCAN audit USING INDEX audit_refused");
                // Of the directory's resources the versions that were read are few, and brought into order.
                let versions = |step: &String| step.starts_with("USE TEMP B-TREE") && step.contains("audit.target >= ");
                found.extend(steps.filter(|step| !in_order(step) && !refused(step) && !versions(step)));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn about(kind: &str, id: &str) -> Stored {
    Stored {
        kind: kind.to_owned(),
        id: id.to_owned(),
        version: 1,
        updated_at: NOW,
        deleted: false,
        sender: "TESTA1".to_owned(),
        person: "a".to_owned(),
        referral: String::new(),
        body: format!("{{\"resourceType\":\"{kind}\",\"id\":\"{id}\"}}"),
    }
}

#[tokio::test]
async fn a_history_is_read_page_by_page() {
    let (_folder, store) = store().await;
    let mut tx = store.write().await.unwrap();
    let practice = Sight::Practice("TESTA1".to_owned());
    let north = Sight::Localities(words(&["north"]));
    let after = HistoryKey { updated_at: NOW, kind: "Task".to_owned(), id: "a".to_owned(), version: 2 };
    let whose = [
        HistoryOf::Instance("Task".to_owned(), "a".to_owned()),
        HistoryOf::Types(words(&["Task"])),
        HistoryOf::Types(words(&["Patient"])),
    ];
    for of in whose {
        for sight in [&Sight::Everything, &practice, &north] {
            for after in [None, Some(after.clone())] {
                let page = HistoryPage { since: Some(NOW), at: None, after: after.clone(), limit: 50 };
                tx.history(&of, &page, sight).await.unwrap();
                let page = HistoryPage { since: None, at: Some((NOW, NOW)), after, limit: 50 };
                tx.history(&of, &page, sight).await.unwrap();
            }
        }
    }
    // The types there are.
    tx.history(
        &HistoryOf::Types(words(&["Task", "Patient"])),
        &HistoryPage { since: None, at: None, after: None, limit: 1 },
        &practice,
    )
    .await
    .unwrap();
    let found = costly_steps(tx).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_costly_step_is_known_when_it_is_seen() {
    for (step, is) in [
        ("SCAN task", true),
        ("SCAN t USING INDEX task_of_owner", true),
        ("SEARCH r USING INDEX sqlite_autoindex_resource_1 (kind=?)", true),
        ("USE TEMP B-TREE FOR ORDER BY", true),
        ("SEARCH r USING INDEX sqlite_autoindex_resource_1 (kind=? AND id=?)", false),
        ("SCAN CONSTANT ROW", false),
        ("USE TEMP B-TREE FOR RIGHT PART OF ORDER BY", false),
    ] {
        assert_eq!(costly(step).is_some(), is, "{step}");
    }
}
