//! The search index: the rows by which resources are found, written with the resource and written anew when a release
//! finds by more than the one before.

use crate::fhir::search::{INDEX_GENERATION, IndexRow, indexed, rows};

use super::query::{Bind, Query};
use super::{StoreError, Stored, Tx};

/// Rows one statement takes away at most; a larger set goes in several.
const ROWS_AT_ONCE: usize = 32;

/// The tables of the index: name, columns, and the columns of a resource's row without its type and id.
const TABLES: [(&str, &str); 4] = [
    ("lookup (kind, id, param, value, system)", "lookup"),
    ("lookup_time (kind, id, param, low, high)", "lookup_time"),
    ("lookup_number (kind, id, param, low, high, system, code, unit)", "lookup_number"),
    ("lookup_pair (kind, id, param, value, system, other, other_system, low, high)", "lookup_pair"),
];

/// Which of [`TABLES`] a row stands in, and its columns there.
fn columns(row: IndexRow) -> (usize, Vec<Bind>) {
    match row {
        IndexRow::Word { param, value, system } => (0, vec![param.into(), value.into(), system.into()]),
        IndexRow::Time { param, low, high } => (1, vec![param.into(), low.into(), high.into()]),
        IndexRow::Number { param, range, system, code, unit } => {
            (2, vec![param.into(), range.low.0.into(), range.high.0.into(), system.into(), code.into(), unit.into()])
        }
        IndexRow::Pair { param, value, system, other, other_system, range } => (
            3,
            vec![
                param.into(),
                value.into(),
                system.into(),
                other.into(),
                other_system.into(),
                range.low.0.into(),
                range.high.0.into(),
            ],
        ),
    }
}

impl Tx {
    /// Adds index rows: kind, id and row of each. What is there already stays. Put off until the next statement, or the
    /// commit.
    pub async fn add_index(&mut self, rows: Vec<(&str, &str, IndexRow)>) -> Result<(), StoreError> {
        let mut by_table: [Vec<Vec<Bind>>; 4] = Default::default();
        for (kind, id, row) in rows {
            let (table, further) = columns(row);
            let bound = [Bind::from(kind), Bind::from(id)].into_iter().chain(further).collect();
            if let Some(of_table) = by_table.get_mut(table) {
                of_table.push(bound);
            }
        }
        for ((insert, _), of_table) in TABLES.into_iter().zip(by_table) {
            self.put_off(insert, of_table, " on conflict do nothing").await?;
        }
        Ok(())
    }

    /// Takes index rows of a resource away.
    pub async fn remove_index(&mut self, kind: &str, id: &str, rows: &[IndexRow]) -> Result<(), StoreError> {
        let mut by_table: [Vec<Vec<Bind>>; 4] = Default::default();
        for row in rows {
            let (table, bound) = columns(row.clone());
            if let Some(of_table) = by_table.get_mut(table) {
                of_table.push(bound);
            }
        }
        let keys = [
            " and (param, value, system) in (values ",
            " and (param, low, high) in (values ",
            " and (param, low, high, system, code, unit) in (values ",
            " and (param, value, system, other, other_system, low, high) in (values ",
        ];
        for (((_, table), key), of_table) in TABLES.into_iter().zip(keys).zip(by_table) {
            for some in of_table.chunks(ROWS_AT_ONCE) {
                let mut query = Query::new("delete from ");
                query.push(table).push(" where id = ").bind(id).push(" and kind = ").bind(kind);
                query.push(key).bind_rows(some.iter().cloned()).push(")");
                self.run(query).await?;
            }
        }
        Ok(())
    }

    /// Takes every index row of a resource away.
    pub async fn clear_index(&mut self, kind: &str, id: &str) -> Result<(), StoreError> {
        for (_, table) in TABLES {
            let mut query = Query::new("delete from ");
            query.push(table).push(" where id = ").bind(id).push(" and kind = ").bind(kind);
            self.run(query).await?;
        }
        Ok(())
    }

    /// Writes the index rows of at most `limit` resources anew that the index is behind with: those stored by a release
    /// that found by less. Answers how many they were. On PostgreSQL several may do this at once, each with its own.
    pub async fn catch_up_index(&mut self, limit: i64) -> Result<usize, StoreError> {
        let mut query = Query::new(
            "select kind, id, version, updated_at, deleted, sender, person, referral, body from resource \
             where indexed <> version * 100 + 1 order by kind, id limit ",
        );
        query.bind(limit);
        if self.is_on_postgres() {
            query.push(" for update skip locked");
        }
        let behind: Vec<Stored> = self.rows(query).await?;
        for stored in &behind {
            self.clear_index(&stored.kind, &stored.id).await?;
            if !stored.deleted {
                let resource = stored.resource()?;
                let found = rows(&resource, !stored.person.is_empty());
                let found: Vec<_> = found.into_iter().map(|row| (&*stored.kind, &*stored.id, row)).collect();
                self.add_index(found).await?;
            }
            sql!(
                self,
                execute,
                "update resource set indexed = $4 where kind = $1 and id = $2 and version = $3",
                &stored.kind,
                &stored.id,
                stored.version,
                indexed(stored.version)
            )?;
        }
        Ok(behind.len())
    }

    /// Whether the index is behind with resources of this kind.
    pub async fn index_is_behind(&mut self, kind: &str) -> Result<bool, StoreError> {
        let found: Option<(i64,)> = sql!(
            self,
            fetch_optional,
            "select version from resource where kind = $1 and indexed <> version * 100 + 1 limit 1",
            kind
        )?;
        Ok(found.is_some())
    }

    /// How many resources the index is behind with, counted up to `most`.
    pub async fn index_behind(&mut self, most: i64) -> Result<i64, StoreError> {
        let found: (i64,) = sql!(
            self,
            fetch_one,
            "select count(*) from (select 1 from resource where indexed <> version * 100 + 1 limit $1) behind",
            most
        )?;
        Ok(found.0)
    }
}

// The statements above, and the index `resource_behind`, name the generation: a later one needs an index of its own.
const _: () = assert!(INDEX_GENERATION == 1);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fhir::search::Criterion;
    use crate::store::empty::{Empty, patient, raw};
    use crate::store::{Page, Sight};

    #[tokio::test]
    async fn what_an_earlier_release_stored_and_changed_is_found_anew_and_its_old_rows_are_gone() {
        let database = Empty::sqlite();
        let store = database.open().await;
        store.migrate().await.unwrap();
        let stored = |id: &str| {
            let body = json!({ "resourceType": "Patient", "id": id, "name": [{ "family": "Müller" }], "active": true });
            patient(id, body.to_string())
        };
        let mut tx = store.write().await.unwrap();
        tx.insert_resources(&[stored("a"), stored("b"), stored("c")]).await.unwrap();
        assert_eq!(tx.index_behind(10).await.unwrap(), 0, "what this release stores is not behind");
        // As the release before: one never indexed by this one, one changed since it was.
        raw(&mut tx, "update resource set indexed = 0 where id = 'a'").await;
        raw(&mut tx, "update resource set version = 2 where id = 'b'").await;
        raw(
            &mut tx,
            "insert into lookup values ('Patient', 'family', 'müller', '', 'a'), ('Patient', 'family', 'old', '', 'b')",
        )
        .await;
        assert_eq!(tx.index_behind(10).await.unwrap(), 2);
        let change = Stored { version: 2, ..stored("a") };
        assert!(tx.replace_resource(&change, &stored("a")).await.unwrap());
        assert_eq!(tx.index_behind(10).await.unwrap(), 2, "a change does not hide what the index lacks");
        tx.commit().await.unwrap();

        for done in [1, 1, 0] {
            let mut tx = store.write().await.unwrap();
            assert_eq!(tx.catch_up_index(1).await.unwrap(), done, "it goes on where it was interrupted");
            tx.commit().await.unwrap();
        }
        let mut tx = store.read().await.unwrap();
        let word = |param: &str, value: &str| Criterion::Words {
            params: vec![param.to_owned()],
            any: vec![crate::fhir::search::Word::of_value(value)],
            not: false,
        };
        let sight = Sight::Everything;
        for (criterion, found) in [
            (word("family", "muller"), vec!["a", "b"]),
            (word("active", "true"), vec!["a", "b"]),
            (word("family", "old"), vec![]),
            (word("family", "müller"), vec![]),
        ] {
            let page =
                tx.search("Patient", std::slice::from_ref(&criterion), &sight, &[], &Page::first(9)).await.unwrap();
            let ids: Vec<_> = page.matches.iter().map(|m| m.id.as_str()).collect();
            assert_eq!(ids, found, "{criterion:?}");
        }
    }
}
