//! PostgreSQL that holds the big tables in partitions by organisation: `deploy/partition.sql`, and the service on it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::database::{Database as Made, connect, partition};
use crate::journey::{claim_next, complete, encounter, known, read, record};
use crate::support::{Database, TestApp, app as harness, build};

const PARTITIONED: [&str; 7] =
    ["resource", "resource_history", "referral_identifier", "task", "delivery", "practice_copy", "audit"];

/// A whole referral at each of three practices: sent, sent again, taken, recorded, completed, written back, looked up.
async fn the_loop_at_three_practices(app: TestApp) {
    for (ods, coach) in [("TESTA1", "coach-north"), ("TESTA2", "coach-central"), ("TESTA3", "coach-south")] {
        let practice = app.practice(ods).await;
        let referral = build::referral();
        let first = practice.post("ServiceRequest", &referral).await.expect(201).id();
        assert_eq!(practice.post("ServiceRequest", &referral).await.expect(200).id(), first);

        let journey = known(&app, ods, "urgent").await;
        let coach = app.staff(coach).await;
        let task = claim_next(&coach, "health-coach").await.expect(200).id();
        assert_eq!(format!("Task/{task}"), journey.task, "the urgent one comes first");
        record(&coach, &encounter(&app, &journey)).await;
        complete(&coach, &journey.task, "accepted").await.expect(200);
        app.settled().await;
        assert_eq!(app.stand_in.resources(ods, "Encounter").len(), 1);

        let status = practice.get(format!("{}/$status", journey.referral)).await.expect(200).body;
        let states: Vec<&Value> = status["parameter"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
        assert!(states.contains(&&Value::from("delivery")), "{status}");
        assert_eq!(read(&coach, &journey.task).await["status"], "completed");
        let history = practice.get(format!("{}/_history", journey.task)).await.expect(200);
        assert!(history.body["total"].as_i64().unwrap() >= 2, "{}", history.text);
        let own = practice.get("ServiceRequest?_count=50").await.expect(200);
        assert_eq!(own.resources().len(), 2, "{ods} sees its own and no other's");
    }
}

#[test]
fn on_partitions_the_service_does_what_it_does_and_each_organisation_has_its_place() {
    harness::run(Database::Partitioned, async |app: TestApp| {
        let stored =
            app.rows("select distinct relkind::text from pg_class where relname in ('resource', 'task')").await;
        assert_eq!(stored, [[Value::from("p")]], "the tables are partitioned");
        let columns = "select table_name::text from information_schema.columns where collation_name is distinct from 'C' \
                       and table_schema = 'public' and data_type = 'text' and table_name not like '\\_sqlx%'";
        assert!(app.rows(columns).await.is_empty(), "text is still compared by its bytes");
        the_loop_at_three_practices(app).await;
    });
}

/// What a referral brought, and what we made of it, lies where its organisation does; the index says nothing else.
#[test]
fn what_came_of_a_referral_lies_with_its_sender() {
    harness::run(Database::Partitioned, async |app: TestApp| {
        for ods in ["TESTA1", "TESTA2", "TESTA3"] {
            app.practice(ods).await.post("ServiceRequest", &build::referral()).await.expect(201);
        }
        let of_referrals = app
            .rows(
                "select f.sender, r.organization, count(*) from resource r join referral f on f.id = r.referral \
                 where r.referral <> '' group by f.sender, r.organization order by 1",
            )
            .await;
        assert_eq!(of_referrals.len(), 3);
        assert!(of_referrals.iter().all(|row| row[0] == row[1] && row[2].as_i64().unwrap() >= 3), "{of_referrals:?}");
        let places = app.rows("select organization, tableoid::regclass::text from resource group by 1, 2").await;
        let organizations: BTreeSet<&str> = places.iter().map(|row| row[0].as_str().unwrap()).collect();
        assert_eq!(places.len(), organizations.len(), "an organisation is in one partition: {places:?}");
    });
}

/// A database in use keeps what it has; run again, the script changes nothing.
#[tokio::test]
async fn a_database_in_use_is_partitioned_with_what_it_holds() {
    let Some(database) = Made::postgres().await else { return };
    let store = database.open().await;
    let mut beside = connect(&database.url).await;
    sqlx::raw_sql(
        "insert into resource (kind, id, version, updated_at, deleted, sender, person, referral, body, organization) \
         select 'Task', n::text, 1, 0, false, '', '', '', '{}', 'ORG' || n % 7 from generate_series(1, 500) n",
    )
    .execute(&mut beside)
    .await
    .unwrap();
    let indexes = "select count(*) from pg_index x join pg_class c on c.oid = x.indrelid where c.relname = any($1)";
    let indexes = || sqlx::query_scalar::<_, i64>(indexes).bind(PARTITIONED.map(str::to_owned).to_vec());
    let before = indexes().fetch_one(&mut beside).await.unwrap();
    for _ in 0..2 {
        partition(&database.url, 4);
        let kept: i64 = sqlx::query_scalar("select count(*) from resource").fetch_one(&mut beside).await.unwrap();
        assert_eq!(kept, 500);
        assert_eq!(indexes().fetch_one(&mut beside).await.unwrap(), before, "every index is there again");
    }
    assert!(store.is_migrated().await.unwrap());
}
