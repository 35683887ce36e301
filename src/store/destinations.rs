//! Destinations of deliveries: how each is doing, and what is taken for it. All instances see and change the same rows.

use super::query::Query;
use super::{At, Leased, StoreError, Tx};

/// The columns of a [`DestinationRow`].
macro_rules! destination {
    () => {
        "practice, failures, opened_at, probe_at, paused_until, full_at, served_at"
    };
}

/// How a destination is doing; see `pathway::delivery::Destination`.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct DestinationRow {
    /// ODS code of a practice, or `Subscription/<id>`.
    pub practice: String,
    /// In a row.
    pub failures: i64,
    /// 0 while the breaker is closed.
    pub opened_at: At,
    pub probe_at: At,
    pub paused_until: At,
    pub full_at: At,
    pub served_at: At,
}

impl Tx {
    /// The destinations for which something is due that nobody holds, who was served longest ago first.
    ///
    /// Goes from one destination with open deliveries to the next by the index, so that neither idle destinations nor the
    /// length of a queue cost anything.
    pub async fn destinations_due(&mut self, now: At) -> Result<Vec<String>, StoreError> {
        let mut found: Vec<(At, String)> = sql!(
            self,
            fetch_all,
            "with recursive waiting (practice) as (\
             select min(d.practice) from delivery d where d.settled_at is null and not d.behind and d.practice > '' \
             union all select (select min(d.practice) from delivery d where d.settled_at is null and not d.behind \
             and d.practice > waiting.practice) from waiting where waiting.practice is not null) \
             select coalesce(n.served_at, 0), w.practice from waiting w left join destination n on n.practice = w.practice \
             where exists (select 1 from delivery d where d.practice = w.practice and d.settled_at is null \
             and not d.behind and d.due_at <= $1 and d.lease_until <= $1)",
            now
        )?;
        found.sort();
        Ok(found.into_iter().map(|(_, practice)| practice).collect())
    }

    /// Holds a destination until this transaction ends, so that what is under way can be counted and added to. None
    /// where another instance holds it: that one takes what is due.
    pub async fn hold_destination(&mut self, practice: &str) -> Result<Option<DestinationRow>, StoreError> {
        let held = self.hold_destination_if_free(practice).await?;
        if held.is_some() {
            return Ok(held);
        }
        sql!(self, execute, "insert into destination (practice) values ($1) on conflict do nothing", practice)?;
        self.hold_destination_if_free(practice).await
    }

    async fn hold_destination_if_free(&mut self, practice: &str) -> Result<Option<DestinationRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            {
                sqlite: concat!("select ", destination!(), " from destination where practice = $1"),
                postgres: concat!("select ", destination!(), " from destination where practice = $1 for update skip locked")
            },
            practice
        )
    }

    /// The same, waiting for whoever holds it; none for one that nothing was taken for yet. To be held before any of its
    /// deliveries is changed.
    pub async fn hold_destination_in_turn(&mut self, practice: &str) -> Result<Option<DestinationRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            {
                sqlite: concat!("select ", destination!(), " from destination where practice = $1"),
                postgres: concat!("select ", destination!(), " from destination where practice = $1 for update")
            },
            practice
        )
    }

    /// How a destination is doing; none for one that nothing was taken for yet.
    pub async fn destination(&mut self, practice: &str) -> Result<Option<DestinationRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            concat!("select ", destination!(), " from destination where practice = $1"),
            practice
        )
    }

    /// All destinations there ever were, by name.
    pub async fn destinations(&mut self) -> Result<Vec<DestinationRow>, StoreError> {
        sql!(self, fetch_all, concat!("select ", destination!(), " from destination order by practice"))
    }

    /// Writes down how a destination is doing.
    pub async fn update_destination(&mut self, row: &DestinationRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "update destination set failures = $2, opened_at = $3, probe_at = $4, paused_until = $5, full_at = $6, \
             served_at = $7 where practice = $1",
            &row.practice,
            row.failures,
            row.opened_at,
            row.probe_at,
            row.paused_until,
            row.full_at,
            row.served_at
        )?;
        Ok(())
    }

    /// How many deliveries for a destination are in someone's hands.
    pub async fn in_flight(&mut self, practice: &str, now: At) -> Result<i64, StoreError> {
        let (count,): (i64,) = sql!(
            self,
            fetch_one,
            "select count(*) from delivery where practice = $1 and lease_until > 0 and lease_until > $2",
            practice,
            now
        )?;
        Ok(count)
    }

    /// Takes up to `limit` deliveries for a destination that are due, the first of each line only, until `until`. A lease
    /// that lapsed is taken like any other: a worker that died loses nothing. The destination must be held.
    pub async fn lease_deliveries(
        &mut self,
        practice: &str,
        worker: &str,
        now: At,
        until: At,
        limit: i64,
    ) -> Result<Vec<Leased>, StoreError> {
        // That nothing comes before it is looked at again: a release that knows nothing of `behind` may be running still.
        sql!(
            self,
            fetch_all,
            {
                sqlite: concat!(
                    "update delivery set lease = lease + 1, attempts = attempts + 1, lease_until = $4, worker = $2, \
                     lapses = lapses + case when lease_until > 0 then 1 else 0 end \
                     where id in (select d.id from delivery d where d.practice = $1 and d.settled_at is null \
                     and not d.behind and d.due_at <= $3 and d.lease_until <= $3 \
                     and not exists (select 1 from delivery e where e.practice = d.practice and e.person = d.person \
                     and e.place < d.place and e.settled_at is null) order by d.due_at, d.id limit $5) returning ",
                    columns!()
                ),
                postgres: concat!(
                    "with next (taken) as materialized (select d.id from delivery d where d.practice = $1 \
                     and d.settled_at is null and not d.behind and d.due_at <= $3 and d.lease_until <= $3 \
                     and not exists (select 1 from delivery e where e.practice = d.practice and e.person = d.person \
                     and e.place < d.place and e.settled_at is null) order by d.due_at, d.id limit $5 \
                     for update of d skip locked) \
                     update delivery set lease = lease + 1, attempts = attempts + 1, lease_until = $4, worker = $2, \
                     lapses = lapses + case when lease_until > 0 then 1 else 0 end from next \
                     where delivery.id = next.taken returning ",
                    columns!()
                )
            },
            practice,
            worker,
            now,
            until,
            limit
        )
    }

    /// Keeps deliveries that a worker has in hand for longer: the id and the lease of each that was kept. What is not among
    /// them is someone else's now.
    pub async fn keep_leases(
        &mut self,
        worker: &str,
        in_hand: &[(String, i64)],
        until: At,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let mut query = Query::new("update delivery set lease_until = ");
        query.bind(until).push(" where worker = ").bind(worker);
        query.push(" and lease_until > 0 and settled_at is null and id in (");
        for (at, (id, _)) in in_hand.iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " }).bind(id.as_str());
        }
        query.push(") returning id, lease");
        self.rows(query).await
    }

    /// A destination works again: what waited for a later attempt goes now.
    pub async fn hurry(&mut self, practice: &str, now: At) -> Result<u64, StoreError> {
        sql!(
            self,
            execute,
            "update delivery set due_at = $2 where practice = $1 and settled_at is null and not behind \
             and due_at > $2 and state in ('retrying', 'unknown')",
            practice,
            now
        )
    }

    /// Sets free what waits behind nothing, in lines whose first was settled by a release that knows nothing of
    /// `behind`. Looks at the first of each line alone.
    pub async fn free_stuck_lines(&mut self) -> Result<u64, StoreError> {
        sql!(
            self,
            execute,
            "with recursive line (practice, person) as (select one.practice, one.person from (select d.practice, d.person \
             from delivery d where d.settled_at is null and d.practice >= '' order by d.practice, d.person limit 1) as one \
             union all select n.practice, n.person from line, delivery n where n.id = (select d.id from delivery d \
             where d.settled_at is null and (d.practice, d.person) > (line.practice, line.person) \
             order by d.practice, d.person, d.place limit 1)) \
             update delivery set behind = false where behind and id in (select (select d.id from delivery d \
             where d.practice = line.practice and d.person = line.person and d.settled_at is null \
             order by d.place limit 1) from line)"
        )
    }
}
