//! The one connection that writes to SQLite, and the transaction on it that all who are done by then share.

use std::sync::{Arc, Weak};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Notify;

use super::StoreError;
use super::gathered::{Waiting, until_told};
use super::inserts::Inserts;
use super::sqlite::Sqlite;
use super::subscriptions::Listening;

pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) options: SqliteConnectOptions,
    /// A transaction is open on the connection.
    pub(super) open: bool,
    /// A transaction is being begun: left standing when whoever begins it is cut off.
    pub(super) beginning: bool,
    /// A unit was begun and neither released nor rolled back.
    pub(super) unfinished: bool,
    /// A statement failed for another reason than what it was to write.
    pub(super) doubtful: bool,
    /// Units released into the open transaction, waiting to hear that it is durable.
    pub(super) waiting: Vec<Waiting<()>>,
    /// The subscriptions that listen, once they were read in the open transaction: nobody else changes them meanwhile.
    pub(super) listening: Option<Listening>,
}

impl Writer {
    /// Begins the transaction that units share, where none is open.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        self.roll_back_unfinished().await?;
        if !self.open {
            // Still set where whoever begins is cut off here: then nobody knows whether it is open.
            self.beginning = true;
            let begun = sqlx::query("begin immediate").execute(&mut self.connection).await;
            self.beginning = false;
            if let Err(error) = begun {
                self.reconnect_if_broken().await;
                return Err(error.into());
            }
            self.open = true;
            self.listening = None;
        }
        Ok(())
    }

    /// Refuses, as a lost race, what was made for nobody to hear of while somebody listens.
    async fn expect(&mut self, inserts: &Inserts) -> Result<(), StoreError> {
        if inserts.unheard {
            let listens: Option<i64> = sqlx::query_scalar("select 1 from subscription where state <> 'off' limit 1")
                .fetch_optional(&mut self.connection)
                .await?;
            return listens.map_or(Ok(()), |_| Err(StoreError::Conflict));
        }
        Ok(())
    }

    /// Writes the end of a unit.
    pub(super) async fn finish(&mut self, later: Inserts) -> Result<(), StoreError> {
        let written = self.write_and_release(later).await;
        self.doubtful |= written.as_ref().is_err_and(|error| !matches!(error, StoreError::Conflict));
        written
    }

    async fn write_and_release(&mut self, later: Inserts) -> Result<(), StoreError> {
        self.expect(&later).await?;
        let begun = std::mem::replace(&mut self.unfinished, true);
        later.for_sqlite().into_unit(begun).run_on(&mut self.connection).await?;
        self.unfinished = false;
        Ok(())
    }

    /// Writes what was gathered into the open transaction: all at once, or one by one where one is refused, so that it
    /// takes no other along.
    async fn write_gathered(&mut self, gathered: Vec<Inserts>, waiting: Vec<Waiting<()>>) {
        if gathered.len() > 1 && self.begin().await.is_ok() {
            match self.write_together(&gathered).await {
                Ok(()) => return self.waiting.extend(waiting),
                Err(error) => self.doubt(&error).await,
            }
        }
        let mut all = gathered.into_iter().zip(waiting);
        while let Some((one, who)) = all.next() {
            if let Err(error) = self.begin().await {
                // It waited for its turn as long as one may: so did all who are left.
                refuse(who, error);
                return all.for_each(|(_, who)| refuse(who, StoreError::Unavailable(None)));
            }
            match self.finish(one).await {
                Ok(()) => self.waiting.push(who),
                Err(error) => {
                    self.doubt(&error).await;
                    refuse(who, error);
                }
            }
        }
    }

    async fn write_together(&mut self, gathered: &[Inserts]) -> Result<(), StoreError> {
        let together = Inserts::together(gathered);
        self.expect(&together).await?;
        let mut pieces = together.for_sqlite_in_pieces();
        self.unfinished = true;
        let last = pieces.pop().unwrap_or_default();
        if !pieces.is_empty() {
            sqlx::query("savepoint unit").execute(&mut self.connection).await?;
        }
        let begun = !pieces.is_empty();
        for piece in pieces {
            piece.run_on(&mut self.connection).await?;
        }
        last.into_unit(begun).run_on(&mut self.connection).await?;
        self.unfinished = false;
        Ok(())
    }

    /// After an error that is not about what was written SQLite may have given the whole transaction up: nothing in it is
    /// taken for durable.
    async fn doubt(&mut self, error: &StoreError) {
        if !matches!(error, StoreError::Conflict) {
            tracing::error!(error = %error, "inserts could not be written; who waits for them is told");
            self.give_up().await;
        }
    }

    async fn roll_back_unfinished(&mut self) -> Result<(), StoreError> {
        if self.beginning {
            // Nothing was done in it and nobody waits for it. Fails where it did not begin.
            let _ = sqlx::query("rollback").execute(&mut self.connection).await;
            self.beginning = false;
        }
        // Cleared last: if this is cut off, whoever comes next has the same doubt.
        if self.doubtful && self.open && self.begins_anew().await {
            self.waiting.drain(..).for_each(|one| drop(one.send(Err(StoreError::Unavailable(None)))));
            self.unfinished = false;
            self.listening = None;
        }
        self.doubtful = false;
        if !self.unfinished {
            return Ok(());
        }
        self.listening = None;
        let undone = async {
            sqlx::query("rollback to unit").execute(&mut self.connection).await?;
            sqlx::query("release unit").execute(&mut self.connection).await
        };
        match undone.await {
            Ok(_) => {}
            // Whoever began it was cut off before the savepoint was made, or after it was released.
            Err(sqlx::Error::Database(error)) if error.message().starts_with("no such savepoint") => {}
            Err(error) => {
                // SQLite gives the whole transaction up on a full disk or an I/O error: nothing in it is durable.
                self.unfinished = false;
                self.give_up().await;
                return Err(error.into());
            }
        }
        self.unfinished = false;
        Ok(())
    }

    /// SQLite may give a transaction up by itself, on an error of the disk for one: only then another one begins.
    async fn begins_anew(&mut self) -> bool {
        sqlx::query("begin immediate").execute(&mut self.connection).await.is_ok()
    }

    /// Commits what is open and tells everyone who waits.
    async fn commit(&mut self) {
        if self.roll_back_unfinished().await.is_err() || !self.open {
            return;
        }
        self.open = false;
        match sqlx::query("commit").execute(&mut self.connection).await {
            Ok(_) => self.waiting.drain(..).for_each(|one| drop(one.send(Ok(())))),
            Err(error) => {
                tracing::error!(error = %error, "a commit failed; its writers are told, nothing of it was kept");
                self.open = true;
                self.give_up().await;
            }
        }
    }

    async fn give_up(&mut self) {
        for one in self.waiting.drain(..) {
            let _ = one.send(Err(StoreError::Unavailable(None)));
        }
        if self.open {
            self.open = false;
            // Fails where SQLite has rolled back by itself.
            let _ = sqlx::query("rollback").execute(&mut self.connection).await;
        }
        self.reconnect_if_broken().await;
    }

    async fn reconnect_if_broken(&mut self) {
        if self.connection.ping().await.is_err()
            && let Ok(fresh) = self.options.connect().await
        {
            self.connection = fresh;
        }
    }
}

/// Tells who waits that nothing of theirs was kept.
fn refuse(who: Waiting<()>, error: StoreError) {
    if let Err(Err(error)) = who.send(Err(error)) {
        tracing::error!(error = %error, "inserts that nobody waits for could not be written");
    }
}

/// Commits for all who are done. Queueing for the writer like everyone else is what gathers them: whoever began to
/// wait during the last commit comes first.
pub(super) async fn commit_when_done(database: Weak<Sqlite>, done: Arc<Notify>) {
    loop {
        until_told(&done).await;
        let Some(sqlite) = database.upgrade() else { return };
        let mut writer = sqlite.writer.lock().await;
        let (gathered, waiting) = sqlite.inserts.take();
        writer.write_gathered(gathered, waiting).await;
        writer.commit().await;
        sqlite.committed.notify_one();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use std::time::Duration;

    use crate::store::empty::{Empty, patient, raw};
    use crate::store::{Sight, StoreError};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_in_a_transaction_that_sqlite_gave_up_is_refused_and_what_comes_after_is_kept() {
        let database = Empty::sqlite();
        let store = database.open().await;
        store.migrate().await.unwrap();

        // One has its turn, the next waits for it, and others are gathered: one transaction holds them all.
        let mut first = store.write().await.unwrap();
        raw(&mut first, "pragma max_page_count = 1000").await;
        first.insert_resources(&[patient("first", "{}".to_owned())]).await.unwrap();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let too_much = {
            let store = store.clone();
            tokio::spawn(async move {
                let mut tx = store.write().await.unwrap();
                begins.send(()).unwrap();
                tx.hold("its turn").await.unwrap();
                tx.insert_resources(&[patient("too-much", "x".repeat(8_000_000))]).await.unwrap();
                let ended = tx.resource("Patient", "first", &Sight::Everything).await.map(drop);
                drop(tx);
                ended
            })
        };
        begun.await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let first = tokio::spawn(first.commit());
        assert!(matches!(too_much.await.unwrap(), Err(StoreError::Unavailable(_))));
        assert!(matches!(first.await.unwrap(), Err(StoreError::Unavailable(_))), "it was rolled back with the other");

        let mut after = store.write().await.unwrap();
        after.insert_resources(&[patient("after", "{}".to_owned())]).await.unwrap();
        after.commit().await.unwrap();
        let mut tx = store.read().await.unwrap();
        for (id, kept) in [("first", false), ("too-much", false), ("after", true)] {
            assert_eq!(tx.resource("Patient", id, &Sight::Everything).await.unwrap().is_some(), kept, "{id}");
        }
    }
}
