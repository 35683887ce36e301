//! The audit trail: rows that commit with the change, or before a disclosure leaves.

use super::sql::Query;
use super::{At, Store, StoreError, Tx};

/// Who did what to what, when, and how it ended.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct AuditRow {
    pub id: String,
    pub at: At,
    pub client: String,
    /// ODS code of the caller's organisation.
    pub organization: String,
    /// The acting member of staff (`PractitionerRole/id`), '' for a system.
    pub actor: String,
    /// A FHIR interaction (`create`, `read`, `search-type`, ...) or an operation (`$claim`).
    pub interaction: String,
    /// `Type/id`, or a type alone for a search.
    pub target: String,
    /// Our Patient it concerns, '' for none.
    pub person: String,
    pub request_id: String,
    /// `success`, or the status it was refused with.
    pub outcome: String,
}

/// Rows one insert statement takes at most.
const ROWS_AT_ONCE: usize = 64;

/// The statements that write these rows.
pub(super) fn inserts(rows: &[AuditRow]) -> impl Iterator<Item = Query> {
    rows.chunks(ROWS_AT_ONCE).map(|some| {
        let mut query = Query::new(
            "insert into audit (id, at, client, organization, actor, interaction, target, person, request_id, \
             outcome) values ",
        );
        query.bind_rows(some.iter().map(|a| {
            vec![
                a.id.as_str().into(),
                a.at.into(),
                a.client.as_str().into(),
                a.organization.as_str().into(),
                a.actor.as_str().into(),
                a.interaction.as_str().into(),
                a.target.as_str().into(),
                a.person.as_str().into(),
                a.request_id.as_str().into(),
                a.outcome.as_str().into(),
            ]
        }));
        query
    })
}

impl Store {
    /// Writes the audit row of a disclosure, which may leave once this returns: the row is durable then.
    /// On SQLite all that wait are written together, with the next commit.
    pub async fn disclose(&self, row: AuditRow) -> Result<(), StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.disclose(row).await,
            Store::Postgres(_) => {
                let mut tx = self.write().await?;
                tx.insert_audit(&[row]).await?;
                tx.commit().await
            }
        }
    }
}

impl Tx {
    /// Writes audit rows.
    pub async fn insert_audit(&mut self, rows: &[AuditRow]) -> Result<(), StoreError> {
        for query in inserts(rows) {
            self.run(query).await?;
        }
        Ok(())
    }

    /// The newest audit rows, newest first.
    pub async fn newest_audit(&mut self, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select id, at, client, organization, actor, interaction, target, person, request_id, outcome from audit \
             order by id desc limit $1",
            limit
        )
    }
}
