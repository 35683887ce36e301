//! The audit trail: rows that commit with the change, or before a disclosure leaves.

use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Builder;

use super::inserts::Inserts;
use super::query::Bind;
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
    /// How often: more than once for refusals that were counted.
    pub times: i64,
}

/// The id of a row of this moment. The trail is searched by time through its ids: they begin with the millisecond, and
/// those of one process stay in their order within it.
pub fn audit_id(at: At) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let place = COUNTER.fetch_add(1, Ordering::Relaxed) << 14;
    let [first, second, third, _] = place.to_be_bytes();
    let mut rest: [u8; 10] = rand::random();
    // Version and variant take the upper bits of the first and the third.
    (rest[0], rest[1], rest[2]) = (first >> 4, first << 4 | second >> 4, second << 2 & 0x3c | third >> 6);
    let millis = u64::try_from(at.0.div_euclid(1000)).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &rest).into_uuid().to_string()
}

const COLUMNS: &str =
    "audit (id, at, client, organization, actor, interaction, target, person, request_id, outcome, times)";

impl AuditRow {
    fn values(&self) -> Vec<Bind> {
        vec![
            self.id.as_str().into(),
            self.at.into(),
            self.client.as_str().into(),
            self.organization.as_str().into(),
            self.actor.as_str().into(),
            self.interaction.as_str().into(),
            self.target.as_str().into(),
            self.person.as_str().into(),
            self.request_id.as_str().into(),
            self.outcome.as_str().into(),
            self.times.into(),
        ]
    }
}

impl From<&AuditRow> for Inserts {
    fn from(row: &AuditRow) -> Inserts {
        Inserts::of(COLUMNS, [row.values()], "")
    }
}

impl Store {
    /// Writes the audit row of a disclosure, which may leave once this returns: the row is durable then.
    /// All that wait are written together: on SQLite with the next commit, on PostgreSQL in one statement.
    pub async fn disclose(&self, row: AuditRow) -> Result<(), StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.inserts.ask((&row).into()).await,
            Store::Postgres(postgres) => postgres.disclosures.ask((&row).into()).await,
        }
    }
}

impl Tx {
    /// Writes audit rows.
    pub async fn insert_audit(&mut self, rows: &[AuditRow]) -> Result<(), StoreError> {
        self.put_off(COLUMNS, rows.iter().map(AuditRow::values), "").await
    }
}
