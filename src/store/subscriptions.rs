//! Subscriptions: who hears of what, what happened for each, and in which delivery it leaves.

use std::sync::Arc;

use super::query::Query;
use super::{At, Conn, Sight, StoreError, Tx};

/// The subscriptions for which events are counted.
pub(super) type Listening = Arc<[SubscriptionRow]>;

/// The columns of a [`SubscriptionRow`].
macro_rules! columns {
    () => {
        "id, client, organization, staff, topic, filters, state, error, content, endpoint, headers, secret, old_secret, \
         old_until, heartbeat, timeout, max_count, events, handshake, ends_at, heard_at"
    };
}

/// The machine's side of a Subscription. Not printable: it holds the subscriber's secrets.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct SubscriptionRow {
    /// Id of the Subscription.
    pub id: String,
    /// The client that made it.
    pub client: String,
    /// ODS code of its organisation then.
    pub organization: String,
    /// The member of staff it acted as (`PractitionerRole/id`), '' for none.
    pub staff: String,
    /// The topic's canonical URL, '' for a plain R4 criteria.
    pub topic: String,
    /// JSON list of searches that a change must match.
    pub filters: String,
    /// `requested`, `active`, `error` or `off`.
    pub state: String,
    /// Why it is in state `error`.
    pub error: String,
    /// `empty`, `id-only` or `full-resource`.
    pub content: String,
    pub endpoint: String,
    /// JSON list of header names and values.
    pub headers: String,
    pub secret: String,
    /// The secret before, and until when it still signs too.
    pub old_secret: String,
    pub old_until: At,
    /// Seconds; 0 for none.
    pub heartbeat: i64,
    /// Seconds an attempt may take; 0 for the channel's own.
    pub timeout: i64,
    pub max_count: i64,
    /// The number of the last event.
    pub events: i64,
    /// Id of the delivery that tries the endpoint.
    pub handshake: String,
    pub ends_at: At,
    /// When something was last queued for it.
    pub heard_at: At,
}

/// Something that happened, for one subscription.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct EventRow {
    pub subscription: String,
    pub number: i64,
    pub at: At,
    /// `Type/id`.
    pub focus: String,
    pub version: i64,
    /// `create`, `update` or `delete`.
    pub interaction: String,
    /// References, parted by spaces.
    pub context: String,
    /// Id of the delivery that carries it, '' for none.
    pub delivery: String,
}

impl Tx {
    /// Writes a subscription, new or changed. How many events it had, and what the endpoint was last sent, stay.
    pub async fn put_subscription(&mut self, row: &SubscriptionRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into subscription (id, client, organization, staff, topic, filters, state, error, content, endpoint, \
             headers, secret, old_secret, old_until, heartbeat, timeout, max_count, events, handshake, ends_at, heard_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) \
             on conflict (id) do update set topic = excluded.topic, filters = excluded.filters, state = excluded.state, \
             error = excluded.error, content = excluded.content, endpoint = excluded.endpoint, \
             headers = excluded.headers, secret = excluded.secret, old_secret = excluded.old_secret, \
             old_until = excluded.old_until, heartbeat = excluded.heartbeat, timeout = excluded.timeout, \
             max_count = excluded.max_count, handshake = excluded.handshake, ends_at = excluded.ends_at",
            &row.id,
            &row.client,
            &row.organization,
            &row.staff,
            &row.topic,
            &row.filters,
            &row.state,
            &row.error,
            &row.content,
            &row.endpoint,
            &row.headers,
            &row.secret,
            &row.old_secret,
            row.old_until,
            row.heartbeat,
            row.timeout,
            row.max_count,
            row.events,
            &row.handshake,
            row.ends_at,
            row.heard_at
        )?;
        if let Conn::SqliteWrite(unit) = &mut self.conn {
            unit.keep_listening(None);
        }
        Ok(())
    }

    /// A subscription.
    pub async fn subscription(&mut self, id: &str) -> Result<Option<SubscriptionRow>, StoreError> {
        sql!(self, fetch_optional, concat!("select ", columns!(), " from subscription where id = $1"), id)
    }

    /// A subscription, which nobody else changes or counts an event for until this transaction ends.
    pub async fn hold_subscription(&mut self, id: &str) -> Result<Option<SubscriptionRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            {
                sqlite: concat!("select ", columns!(), " from subscription where id = $1"),
                postgres: concat!("select ", columns!(), " from subscription where id = $1 for update")
            },
            id
        )
    }

    /// The subscriptions for which events are counted, by id. On SQLite the units of one shared transaction read them
    /// once: how many events each had, and when it was last sent something, is as it was then.
    pub async fn listening_subscriptions(&mut self) -> Result<Listening, StoreError> {
        match &mut self.conn {
            Conn::SqliteWrite(unit) => {
                unit.take_turn().await?;
                if let Some(known) = unit.listening() {
                    return Ok(known);
                }
            }
            Conn::PostgresWrite(unit) => {
                if let Some(aside) = unit.aside().await? {
                    return Tx::on(Conn::PostgresLook(aside)).read_listening().await;
                }
            }
            _ => {}
        }
        // What was put off has nothing to do with them, and stays so.
        let later = std::mem::take(&mut self.later);
        let listening = self.read_listening().await;
        self.later = later;
        if let (Conn::SqliteWrite(unit), Ok(listening)) = (&mut self.conn, &listening) {
            unit.keep_listening(Some(Arc::clone(listening)));
        }
        listening
    }

    async fn read_listening(&mut self) -> Result<Listening, StoreError> {
        let rows: Vec<SubscriptionRow> = sql!(
            self,
            fetch_all,
            concat!("select ", columns!(), " from subscription where state <> 'off' order by id")
        )?;
        Ok(rows.into())
    }

    /// The subscriptions a client made, by id.
    pub async fn subscriptions_of(&mut self, client: &str) -> Result<Vec<SubscriptionRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            concat!("select ", columns!(), " from subscription where client = $1 order by id"),
            client
        )
    }

    /// Counts `more` events for a subscription and answers the number of the last. Others that count for the same one wait
    /// until this transaction ends, so that numbers have no gap and grow in the order of the commits.
    pub async fn count_events(&mut self, id: &str, more: i64, now: At) -> Result<Option<i64>, StoreError> {
        let last: Option<(i64,)> = sql!(
            self,
            fetch_optional,
            "update subscription set events = events + $2, heard_at = $3 where id = $1 returning events",
            id,
            more,
            now
        )?;
        Ok(last.map(|(last,)| last))
    }

    /// Notes that something is queued for a subscription that was quiet since `before`. False when it was not.
    pub async fn break_silence(&mut self, id: &str, before: At, now: At) -> Result<bool, StoreError> {
        let changed = sql!(
            self,
            execute,
            "update subscription set heard_at = $3 where id = $1 and heard_at = $2 and state = 'active'",
            id,
            before,
            now
        )?;
        Ok(changed == 1)
    }

    /// Writes events.
    pub async fn insert_events(&mut self, events: &[EventRow]) -> Result<(), StoreError> {
        for some in events.chunks(100) {
            let mut query = Query::new(
                "insert into subscription_event (subscription, number, at, focus, version, interaction, context, \
                 delivery) values ",
            );
            query.bind_rows(some.iter().map(|e| {
                vec![
                    e.subscription.as_str().into(),
                    e.number.into(),
                    e.at.into(),
                    e.focus.as_str().into(),
                    e.version.into(),
                    e.interaction.as_str().into(),
                    e.context.as_str().into(),
                    e.delivery.as_str().into(),
                ]
            }));
            self.run(query).await?;
        }
        Ok(())
    }

    /// The events that a delivery carries, in order.
    pub async fn events_of_delivery(&mut self, delivery: &str) -> Result<Vec<EventRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select subscription, number, at, focus, version, interaction, context, delivery from subscription_event \
             where delivery = $1 and delivery <> '' order by number",
            delivery
        )
    }

    /// The events of a subscription from one number to another, both included, at most `limit`.
    pub async fn events(&mut self, id: &str, from: i64, to: i64, limit: i64) -> Result<Vec<EventRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select subscription, number, at, focus, version, interaction, context, delivery from subscription_event \
             where subscription = $1 and number >= $2 and number <= $3 order by number limit $4",
            id,
            from,
            to,
            limit
        )
    }

    /// The notification that was queued last and not tried yet, with how many events it carries: more may go with it.
    pub async fn open_notification(&mut self, id: &str) -> Result<Option<(String, i64)>, StoreError> {
        let destination = format!("Subscription/{id}");
        sql!(
            self,
            fetch_optional,
            {
                sqlite: "select d.id, (select count(*) from subscription_event e where e.delivery = d.id) from delivery d \
                    where d.practice = $1 and d.person = '' and d.settled_at is null and d.attempts = 0 \
                    order by d.place desc limit 1",
                postgres: "select d.id, (select count(*) from subscription_event e where e.delivery = d.id) from delivery d \
                    where d.practice = $1 and d.person = '' and d.settled_at is null and d.attempts = 0 \
                    order by d.place desc limit 1 for update"
            },
            destination
        )
    }

    /// Whether something is still to be sent to a subscriber.
    pub async fn notifications_wait(&mut self, id: &str) -> Result<bool, StoreError> {
        let found: Option<(String,)> = sql!(
            self,
            fetch_optional,
            "select id from delivery where practice = $1 and person = '' and settled_at is null limit 1",
            format!("Subscription/{id}")
        )?;
        Ok(found.is_some())
    }

    /// Calls off what is still to be sent to a subscriber.
    pub async fn cancel_notifications(&mut self, id: &str, why: &str, now: At) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "update delivery set state = 'cancelled', why = $2, due_at = $3, settled_at = $4, lease_until = 0 \
             where practice = $1 and person = '' and settled_at is null",
            format!("Subscription/{id}"),
            why,
            At::NEVER,
            now
        )?;
        Ok(())
    }

    /// Forgets a subscription and what happened for it: with it go its headers and its secrets.
    pub async fn forget_subscription(&mut self, id: &str) -> Result<(), StoreError> {
        sql!(self, execute, "delete from subscription_event where subscription = $1", id)?;
        sql!(self, execute, "delete from subscription where id = $1", id)?;
        if let Conn::SqliteWrite(unit) = &mut self.conn {
            unit.keep_listening(None);
        }
        Ok(())
    }

    /// Forgets events from before `before`.
    pub async fn forget_events(&mut self, before: At) -> Result<(), StoreError> {
        sql!(self, execute, "delete from subscription_event where at < $1", before)?;
        Ok(())
    }

    /// Which of these resources (type and id) a caller may see; deleted ones count.
    pub async fn visible(
        &mut self,
        of: &[(&str, &str)],
        sight: &Sight,
    ) -> Result<std::collections::HashSet<(String, String)>, StoreError> {
        let mut seen = std::collections::HashSet::new();
        for some in of.chunks(100) {
            let mut query = Query::new("select r.kind, r.id from resource r where (");
            for (at, (kind, id)) in some.iter().enumerate() {
                query.push(if at == 0 { "(r.kind = " } else { " or (r.kind = " }).bind(*kind);
                query.push(" and r.id = ").bind(*id).push(")");
            }
            query.push(")");
            sight.restrict(&mut query);
            let found: Vec<(String, String)> = self.rows(query).await?;
            seen.extend(found);
        }
        Ok(seen)
    }
}
