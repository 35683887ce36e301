//! Messages through MESH: which message carried which delivery, and what was heard of it.

use super::query::Query;
use super::{At, DeliveryItem, StoreError, Tx};

/// A message that carries a delivery.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct MeshMessageRow {
    pub delivery: String,
    /// Counted from 1.
    pub number: i64,
    /// `mex-localid`.
    pub local_id: String,
    /// `Bundle.identifier`, which an answer names.
    pub identifier: String,
    /// MESH's id, '' until MESH has said it.
    pub mesh_id: String,
    /// JSON list of [`DeliveryItem`]: what it carries.
    pub records: String,
    pub made_at: At,
    pub sent_at: Option<At>,
    pub received_at: Option<At>,
    pub accepted_at: Option<At>,
    pub filed_at: Option<At>,
    pub failed_at: Option<At>,
    /// Why it failed, a short code.
    pub why: String,
    /// What the practice's OperationOutcome said of it, redacted.
    pub said: String,
}

/// By what an answer names a message.
#[derive(Clone, Copy, Debug)]
pub enum MessageName<'a> {
    Mesh(&'a str),
    Local(&'a str),
    Identifier(&'a str),
}

impl MeshMessageRow {
    /// What it carries.
    pub fn records(&self) -> Result<Vec<DeliveryItem>, StoreError> {
        serde_json::from_str(&self.records).map_err(|error| StoreError::Corrupt {
            table: "mesh_message",
            id: self.local_id.clone(),
            why: format!("records: {error}"),
        })
    }
}

impl Tx {
    /// The message that carries a delivery: the last, where there were several.
    pub async fn mesh_message(&mut self, delivery: &str) -> Result<Option<MeshMessageRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select delivery, number, local_id, identifier, mesh_id, records, made_at, sent_at, received_at, \
             accepted_at, filed_at, failed_at, why, said from mesh_message where delivery = $1 \
             order by number desc limit 1",
            delivery
        )
    }

    /// The messages that carry the deliveries of a referral.
    pub async fn mesh_messages_of_referral(&mut self, referral: &str) -> Result<Vec<MeshMessageRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select m.delivery, m.number, m.local_id, m.identifier, m.mesh_id, m.records, m.made_at, m.sent_at, \
             m.received_at, m.accepted_at, m.filed_at, m.failed_at, m.why, m.said \
             from mesh_message m join delivery d on d.id = m.delivery where d.referral = $1 \
             order by m.delivery, m.number",
            referral
        )
    }

    /// The message that an answer names: the last of that name.
    pub async fn mesh_message_named(&mut self, name: MessageName<'_>) -> Result<Option<MeshMessageRow>, StoreError> {
        let mut query = Query::new(
            "select delivery, number, local_id, identifier, mesh_id, records, made_at, sent_at, received_at, \
             accepted_at, filed_at, failed_at, why, said from mesh_message where ",
        );
        let value = match name {
            MessageName::Mesh(id) => {
                // Named by nothing it would be every message that MESH has not named yet.
                query.push("mesh_id <> '' and mesh_id = ");
                id
            }
            MessageName::Local(id) => {
                query.push("local_id = ");
                id
            }
            MessageName::Identifier(id) => {
                query.push("identifier = ");
                id
            }
        };
        query.bind(value).push(" order by number desc limit 1");
        Ok(self.rows(query).await?.pop())
    }

    /// Writes down a message before it leaves. False when the lease of its delivery was lost: it must not leave then.
    pub async fn insert_mesh_message(&mut self, new: &MeshMessageRow, lease: i64) -> Result<bool, StoreError> {
        let inserted = sql!(
            self,
            execute,
            "insert into mesh_message (delivery, number, local_id, identifier, mesh_id, records, made_at, why, said) \
             select $1, $2, $3, $4, '', $5, $6, '', '' from delivery \
             where id = $1 and lease = $7 and settled_at is null",
            &new.delivery,
            new.number,
            &new.local_id,
            &new.identifier,
            &new.records,
            new.made_at,
            lease
        )?;
        Ok(inserted == 1)
    }

    /// Writes down what is known of a message now.
    pub async fn update_mesh_message(&mut self, row: &MeshMessageRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "update mesh_message set mesh_id = $3, records = $4, sent_at = $5, received_at = $6, accepted_at = $7, \
             filed_at = $8, failed_at = $9, why = $10, said = $11 where delivery = $1 and number = $2",
            &row.delivery,
            row.number,
            &row.mesh_id,
            &row.records,
            row.sent_at,
            row.received_at,
            row.accepted_at,
            row.filed_at,
            row.failed_at,
            &row.why,
            &row.said
        )?;
        Ok(())
    }

    /// Takes the turn `name` if it is due and nobody has it: until `until` at most, and the next is due at `next`.
    pub async fn take_turn(&mut self, name: &str, now: At, until: At, next: At) -> Result<bool, StoreError> {
        let taken = sql!(
            self,
            execute,
            "insert into turn (name, due_at, held_until) values ($1, $4, $3) on conflict (name) do update \
             set due_at = $4, held_until = $3 where turn.due_at <= $2 and turn.held_until <= $2",
            name,
            now,
            until,
            next
        )?;
        Ok(taken == 1)
    }

    /// Gives a turn back before its time.
    pub async fn end_turn(&mut self, name: &str) -> Result<(), StoreError> {
        sql!(self, execute, "update turn set held_until = 0 where name = $1", name)?;
        Ok(())
    }
}
