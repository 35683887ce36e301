//! Inserts that a unit of work puts off to its end, where they are written in few statements: its own, and on SQLite those
//! of all who are done at that moment.

use super::query::{Bind, Query};
use super::{Conn, StoreError, Tx};

/// Rows for one table.
#[derive(Clone)]
struct Rows {
    /// The table and its columns.
    into: &'static str,
    rows: Vec<Vec<Bind>>,
    /// What follows the rows: what becomes of one that is there already.
    otherwise: &'static str,
}

/// Inserts of which none builds on another.
#[derive(Clone, Default)]
pub(super) struct Inserts {
    all: Vec<Rows>,
    values: usize,
}

/// Values that are put off at most; both databases take more in one statement.
const MOST_VALUES: usize = 8000;

/// Values that one of the statements binds in which SQLite is given the rows of many units. Each is prepared once for
/// every number of rows it was ever written for.
const VALUES_AT_ONCE: usize = 1024;

impl Inserts {
    /// Rows for a table.
    pub(super) fn of(
        into: &'static str,
        rows: impl IntoIterator<Item = Vec<Bind>>,
        otherwise: &'static str,
    ) -> Inserts {
        let mut inserts = Inserts::default();
        inserts.add(into, rows, otherwise);
        inserts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn add(&mut self, into: &'static str, rows: impl IntoIterator<Item = Vec<Bind>>, otherwise: &'static str) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        let at = self.all.iter().position(|one| one.into == into && one.otherwise == otherwise);
        let at = at.unwrap_or_else(|| {
            self.all.push(Rows { into, rows: Vec::new(), otherwise });
            self.all.len() - 1
        });
        let Some(table) = self.all.get_mut(at) else { return };
        for row in rows {
            self.values += row.len();
            table.rows.push(row);
        }
    }

    /// Those of several units, as if they were of one.
    pub(super) fn together(several: &[Inserts]) -> Inserts {
        let mut together = Inserts::default();
        for one in several.iter().flat_map(|inserts| &inserts.all) {
            together.add(one.into, one.rows.iter().cloned(), one.otherwise);
        }
        together
    }

    /// One statement, with an answer.
    pub(super) fn for_postgres(self) -> Query {
        let mut query = Query::new("with ");
        for (at, table) in self.all.into_iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " });
            query.push_name("part", at).push(" as (insert into ").push(table.into).push(" values ");
            query.bind_rows(table.rows).push(table.otherwise).push(")");
        }
        query.push(" select 1");
        query
    }

    /// One text of several statements.
    pub(super) fn for_sqlite(self) -> Query {
        let mut query = Query::unnumbered();
        for (at, table) in self.all.into_iter().enumerate() {
            query.push(if at == 0 { "" } else { "; " });
            table.write(&mut query);
        }
        query
    }

    /// Statements that come again and again, whatever the units are that they are of.
    pub(super) fn for_sqlite_in_pieces(self) -> Vec<Query> {
        let mut pieces = Vec::new();
        for Rows { into, rows, otherwise } in self.all {
            let at_once = VALUES_AT_ONCE / rows.first().map_or(1, |row| row.len().max(1));
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() {
                let some = Rows { into, rows: rows.by_ref().take(at_once.max(1)).collect(), otherwise };
                let mut query = Query::unnumbered();
                some.write(&mut query);
                pieces.push(query);
            }
        }
        pieces
    }
}

impl Rows {
    /// What is refused half way is undone by going back to where the unit began, so that SQLite need not keep, for each
    /// statement, what the pages were before it.
    fn write(self, query: &mut Query) {
        query.push("insert or fail into ").push(self.into).push(" values ");
        query.bind_rows(self.rows).push(self.otherwise);
    }
}

impl Tx {
    /// Puts an insert off until the next statement, or the commit, with all others that were: one round trip, and on
    /// PostgreSQL one statement, for whatever a unit of work makes. What is wrong with it is said then.
    /// An insert that builds on another of the same transaction is not to be put off.
    pub(super) async fn put_off(
        &mut self,
        into: &'static str,
        rows: impl IntoIterator<Item = Vec<Bind>>,
        otherwise: &'static str,
    ) -> Result<(), StoreError> {
        if self.later.values > MOST_VALUES {
            self.write_later().await?;
        }
        self.later.add(into, rows, otherwise);
        Ok(())
    }

    /// Writes what was put off.
    pub(super) async fn write_later(&mut self) -> Result<(), StoreError> {
        if self.later.is_empty() {
            return Ok(());
        }
        let later = std::mem::take(&mut self.later);
        let written = match &mut self.conn {
            Conn::SqliteRead(c) => later.for_sqlite().run_on(c.connection()).await,
            Conn::SqliteWrite(unit) => {
                unit.take_turn().await?;
                match unit.before_changes().await {
                    Ok(()) => later.for_sqlite().run_on(unit.connection()).await,
                    Err(error) => Err(error),
                }
            }
            Conn::PostgresRead(c) => later.for_postgres().run_on_postgres(c).await,
            Conn::PostgresLook(c) => later.for_postgres().run_on_postgres(c).await,
            Conn::PostgresWrite(unit) => {
                unit.begin().await?;
                later.for_postgres().run_on_postgres(unit.connection()).await
            }
        };
        self.note(written)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::super::{At, DatabaseSettings, Sight, Store, StoreError, Stored};

    fn patient(id: &str) -> Stored {
        Stored {
            kind: "Patient".to_owned(),
            id: id.to_owned(),
            version: 1,
            updated_at: At(1),
            deleted: false,
            sender: String::new(),
            person: String::new(),
            referral: String::new(),
            body: "{}".to_owned(),
        }
    }

    async fn insert(store: &Store, ids: &[&str]) -> Result<(), StoreError> {
        let mut tx = store.write().await?;
        let rows: Vec<_> = ids.iter().map(|id| patient(id)).collect();
        tx.insert_resources(&rows).await?;
        tx.commit().await
    }

    #[tokio::test]
    async fn a_unit_that_is_refused_takes_none_along_of_those_that_are_written_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("inserts.db").display());
        let store = Store::open(&DatabaseSettings { url, connections: 1 }).await.unwrap();
        store.migrate().await.unwrap();
        insert(&store, &["there"]).await.unwrap();
        // Some two hundred rows of a table are more than one statement takes.
        let names: Vec<String> = (0..300).map(|n| format!("new-{n}")).collect();
        let units: Vec<_> = names
            .iter()
            .map(|name| {
                let (store, name) = (store.clone(), name.clone());
                let taken = name.ends_with('7');
                tokio::spawn(async move {
                    let ids = [&*name, if taken { "there" } else { "" }];
                    (insert(&store, if taken { &ids } else { &ids[..1] }).await, taken)
                })
            })
            .collect();
        for unit in units {
            let (ended, taken) = unit.await.unwrap();
            assert_eq!(matches!(ended, Err(StoreError::Conflict)), taken);
            assert_eq!(ended.is_ok(), !taken);
        }
        let mut tx = store.read().await.unwrap();
        for name in names {
            let found = tx.resource("Patient", &name, &Sight::Everything).await.unwrap();
            assert_eq!(found.is_some(), !name.ends_with('7'), "{name}");
        }
    }
}
