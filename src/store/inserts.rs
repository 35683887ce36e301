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
    /// No event was counted for what they are part of, because nobody listened: while somebody does they are refused.
    pub(super) unheard: bool,
}

/// Values from which on what was put off is written before more is; both databases take far more in one statement.
const MOST_VALUES: usize = 8000;

/// Rows that are put off, or disclosures that are written, at once.
pub(super) const ROWS_AT_ONCE: usize = 64;

/// Values that one of the statements binds in which SQLite is given the rows of many units.
pub(super) const VALUES_AT_ONCE: usize = 1024;

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
        together.unheard = several.iter().any(|inserts| inserts.unheard);
        together
    }

    /// One statement, with an answer.
    pub(super) fn for_postgres(self) -> Query {
        let mut query = Query::new("with ");
        for (at, table) in (0..).zip(self.all) {
            query.push(if at == 0 { "" } else { ", " });
            query.push_number("part", at).push(" as (insert into ").push(table.into).push(" values ");
            query.bind_rows(table.rows).push(table.otherwise).push(")");
        }
        // A division by zero refuses all of it.
        query.push(match self.unheard {
            true => {
                " select 1 / (case when exists (select 1 from subscription where state <> 'off') then 0 else 1 end)"
            }
            false => " select 1",
        });
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

    /// Statements of one table each, whatever the units are that their rows are of: the same texts come again, and are
    /// kept prepared.
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
    /// Puts inserts off until the next statement, or the commit, with all others that were: one round trip, and on
    /// PostgreSQL one statement, for whatever a unit of work makes. What is wrong with it is said then.
    /// One that builds on another of the same transaction is not to be put off.
    pub(super) async fn put_off(
        &mut self,
        into: &'static str,
        rows: impl IntoIterator<Item = Vec<Bind>>,
        otherwise: &'static str,
    ) -> Result<(), StoreError> {
        let mut rows = rows.into_iter().collect::<Vec<_>>().into_iter().peekable();
        while rows.peek().is_some() {
            if self.later.values > MOST_VALUES {
                self.write_later().await?;
            }
            self.later.add(into, rows.by_ref().take(ROWS_AT_ONCE), otherwise);
        }
        Ok(())
    }

    /// That nobody listens was found before this began. Where somebody does by the time what was put off is written, all is
    /// refused as a lost race.
    pub fn expect_no_listener(&mut self) {
        self.later.unheard = true;
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
    use super::super::empty::{Empty, patient};
    use super::super::{At, Sight, Store, StoreError, SubscriptionRow};

    async fn insert(store: &Store, ids: &[&str]) -> Result<(), StoreError> {
        let mut tx = store.write().await?;
        let rows: Vec<_> = ids.iter().map(|id| patient(id, "{}".to_owned())).collect();
        tx.insert_resources(&rows).await?;
        tx.commit().await
    }

    async fn is_there(store: &Store, id: &str) -> bool {
        let mut tx = store.read().await.unwrap();
        tx.resource("Patient", id, &Sight::Everything).await.unwrap().is_some()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_unit_that_is_refused_takes_none_along_of_those_that_are_written_with_it() {
        for database in Empty::each().await {
            let store = database.open().await;
            store.migrate().await.unwrap();
            insert(&store, &["there"]).await.unwrap();
            // More than one statement takes.
            let names: Vec<String> = (0..300).map(|n| format!("new-{n}")).collect();
            let units: Vec<_> = names
                .iter()
                .map(|name| {
                    let (store, name, taken) = (store.clone(), name.clone(), name.ends_with('7'));
                    let unit = async move {
                        match taken {
                            true => insert(&store, &[&name, "there"]).await,
                            false => insert(&store, &[&name]).await,
                        }
                    };
                    (tokio::spawn(unit), taken)
                })
                .collect();
            for (unit, taken) in units {
                let ended = unit.await.unwrap();
                assert_eq!(matches!(ended, Err(StoreError::Conflict)), taken);
                assert_eq!(ended.is_ok(), !taken);
            }
            for name in names {
                assert_eq!(is_there(&store, &name).await, !name.ends_with('7'), "{name}");
            }
            drop(store);
            database.gone().await;
        }
    }

    fn listener() -> SubscriptionRow {
        SubscriptionRow {
            id: "listener".to_owned(),
            client: "practice".to_owned(),
            organization: "TESTA1".to_owned(),
            staff: String::new(),
            topic: String::new(),
            filters: "[]".to_owned(),
            state: "requested".to_owned(),
            error: String::new(),
            content: "id-only".to_owned(),
            endpoint: "https://practice.example/hook".to_owned(),
            headers: "[]".to_owned(),
            secret: String::new(),
            old_secret: String::new(),
            old_until: At(0),
            heartbeat: 0,
            timeout: 0,
            max_count: 1,
            events: 0,
            handshake: String::new(),
            ends_at: At::NEVER,
            heard_at: At(0),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_made_for_nobody_to_hear_of_is_refused_once_somebody_listens() {
        for database in Empty::each().await {
            let store = database.open().await;
            store.migrate().await.unwrap();
            for (id, listens) in [("before", false), ("after", true)] {
                if listens {
                    let mut tx = store.write().await.unwrap();
                    tx.put_subscription(&listener()).await.unwrap();
                    tx.commit().await.unwrap();
                }
                // Gathered with others, and in a turn of its own.
                for turn in [false, true] {
                    let id = format!("{id}-{turn}");
                    let mut tx = store.write().await.unwrap();
                    if turn {
                        tx.hold("something").await.unwrap();
                    }
                    tx.insert_resources(&[patient(&id, "{}".to_owned())]).await.unwrap();
                    tx.expect_no_listener();
                    let other = format!("beside-{id}");
                    let other = [other.as_str()];
                    let (ended, beside) = tokio::join!(tx.commit(), insert(&store, &other));
                    beside.unwrap();
                    assert_eq!(ended.is_ok(), !listens, "{id}: {ended:?}");
                    assert_eq!(ended.is_err_and(|error| error.is_race()), listens, "{id}");
                    assert_eq!(is_there(&store, &id).await, !listens, "{id}");
                }
            }
            drop(store);
            database.gone().await;
        }
    }
}
