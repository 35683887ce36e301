//! The search index: the rows by which resources are found, written with the resource and written anew when a release
//! finds by more than the one before.

use crate::fhir::search::{INDEX_GENERATION, IndexRow, indexed, rows};

use super::sql::{Bind, Query};
use super::{StoreError, Stored, Tx};

/// Rows one insert statement takes at most; a larger set goes in several.
const ROWS_AT_ONCE: usize = 32;

/// The tables of the index: name, columns, and the columns of a resource's row without its type and id.
const TABLES: [(&str, &str); 4] = [
    ("insert into lookup (kind, id, param, value, system) values ", "lookup"),
    ("insert into lookup_time (kind, id, param, low, high) values ", "lookup_time"),
    ("insert into lookup_number (kind, id, param, low, high, system, code, unit) values ", "lookup_number"),
    ("insert into lookup_pair (kind, id, param, value, system, other, other_system, low, high) values ", "lookup_pair"),
];

/// Which of [`TABLES`] a row stands in, and its columns there.
fn columns(row: &IndexRow) -> (usize, Vec<Bind>) {
    match row {
        IndexRow::Word { param, value, system } => {
            (0, vec![param.as_str().into(), value.as_str().into(), system.as_str().into()])
        }
        IndexRow::Time { param, low, high } => (1, vec![param.as_str().into(), (*low).into(), (*high).into()]),
        IndexRow::Number { param, range, system, code, unit } => (
            2,
            vec![
                param.as_str().into(),
                range.low.0.into(),
                range.high.0.into(),
                system.as_str().into(),
                code.as_str().into(),
                unit.as_str().into(),
            ],
        ),
        IndexRow::Pair { param, value, system, other, other_system, range } => (
            3,
            vec![
                param.as_str().into(),
                value.as_str().into(),
                system.as_str().into(),
                other.as_str().into(),
                other_system.as_str().into(),
                range.low.0.into(),
                range.high.0.into(),
            ],
        ),
    }
}

impl Tx {
    /// Adds index rows: kind, id and row of each. What is there already stays. Put off until the next statement, or the
    /// commit.
    pub async fn add_index(&mut self, rows: &[(&str, &str, IndexRow)]) -> Result<(), StoreError> {
        let mut by_table: [Vec<Vec<Bind>>; 4] = Default::default();
        for (kind, id, row) in rows {
            let (table, further) = columns(row);
            let bound = [Bind::from(*kind), Bind::from(*id)].into_iter().chain(further).collect();
            if let Some(of_table) = by_table.get_mut(table) {
                of_table.push(bound);
            }
        }
        for ((insert, _), of_table) in TABLES.into_iter().zip(by_table) {
            for some in of_table.chunks(ROWS_AT_ONCE) {
                self.put_off(insert, some.iter().cloned(), " on conflict do nothing").await?;
            }
        }
        Ok(())
    }

    /// Takes index rows of a resource away.
    pub async fn remove_index(&mut self, kind: &str, id: &str, rows: &[IndexRow]) -> Result<(), StoreError> {
        let mut by_table: [Vec<Vec<Bind>>; 4] = Default::default();
        for row in rows {
            let (table, bound) = columns(row);
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
        if matches!(self.conn, super::Conn::Postgres(_)) {
            query.push(" for update skip locked");
        }
        let behind: Vec<Stored> = self.rows(query).await?;
        for stored in &behind {
            self.clear_index(&stored.kind, &stored.id).await?;
            if !stored.deleted {
                let resource = stored.resource()?;
                let found = rows(&resource, !stored.person.is_empty());
                let found: Vec<_> = found.into_iter().map(|row| (&*stored.kind, &*stored.id, row)).collect();
                self.add_index(&found).await?;
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
