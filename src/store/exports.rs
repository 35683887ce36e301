//! Bulk exports: what was asked for, how far it is, and the record as it was at a moment.

use super::query::Query;
use super::{At, Sight, StoreError, Tx};

/// The columns of an [`ExportRow`].
macro_rules! columns {
    () => {
        "id, client, request, types, scope, since, taken_at, state, place, after, counted, asked_at, expires_at, lease, \
         lease_until, filters, deleted"
    };
}

/// An export that was asked for.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct ExportRow {
    pub id: String,
    /// Who asked.
    pub client: String,
    /// The URL that was asked.
    pub request: String,
    /// JSON list of resource types.
    pub types: String,
    /// `all`, `people` (what is about anybody) or `group` (what is about the people it names).
    pub scope: String,
    /// What changed since then; 0 for everything.
    pub since: At,
    /// The moment whose record it is.
    pub taken_at: At,
    /// `working` or `done`.
    pub state: String,
    /// How far counting is: the type's place in `types`, the id after which it goes on, and what was counted of it.
    pub place: i64,
    pub after: String,
    pub counted: i64,
    /// When its status was last asked.
    pub asked_at: At,
    pub expires_at: At,
    /// Fencing number of the worker that counts.
    pub lease: i64,
    pub lease_until: At,
    /// JSON list of searches that restrict their types; '' for none.
    pub filters: String,
    /// What was deleted of the type that is being counted.
    pub deleted: i64,
}

/// A file of an export that is done.
#[derive(sqlx_macros::FromRow)]
pub struct ExportFileRow {
    pub kind: String,
    pub counted: i64,
    /// What was deleted since the moment from which on is exported.
    pub deleted: i64,
}

/// A part of one type's export, by id.
pub struct ExportPart {
    /// The resources as they were, each with our Patient it is about ('' for none).
    pub resources: Vec<(String, String)>,
    /// The ids of those that were deleted by then.
    pub deleted: Vec<String>,
    /// The id after which it goes on; `None` at the end.
    pub next: Option<String>,
}

#[derive(sqlx_macros::FromRow)]
struct Now {
    id: String,
    person: String,
    updated_at: At,
    deleted: bool,
    body: String,
}

#[derive(sqlx_macros::FromRow)]
struct Then {
    updated_at: At,
    deleted: bool,
    body: String,
}

impl Tx {
    /// Keeps what was asked for, with the people it is about where it names some.
    pub async fn insert_export(&mut self, export: &ExportRow, people: &[String]) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into export (id, client, request, types, scope, since, taken_at, state, place, after, counted, \
             asked_at, expires_at, lease, lease_until, filters, deleted) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            &export.id,
            &export.client,
            &export.request,
            &export.types,
            &export.scope,
            export.since,
            export.taken_at,
            &export.state,
            export.place,
            &export.after,
            export.counted,
            export.asked_at,
            export.expires_at,
            export.lease,
            export.lease_until,
            &export.filters,
            export.deleted
        )?;
        for some in people.chunks(400) {
            let mut query = Query::new("insert into export_person (export, person) values ");
            query.bind_rows(some.iter().map(|person| vec![export.id.as_str().into(), person.as_str().into()]));
            query.push(" on conflict do nothing");
            self.run(query).await?;
        }
        Ok(())
    }

    /// An export.
    pub async fn export(&mut self, id: &str) -> Result<Option<ExportRow>, StoreError> {
        sql!(self, fetch_optional, concat!("select ", columns!(), " from export where id = $1"), id)
    }

    /// Notes that an export's status was asked. False when that was less than `apart` ago.
    pub async fn ask_export(&mut self, id: &str, now: At, apart: At) -> Result<bool, StoreError> {
        let changed = sql!(
            self,
            execute,
            "update export set asked_at = $2 where id = $1 and asked_at <= $2 - $3",
            id,
            now,
            apart
        )?;
        Ok(changed == 1)
    }

    /// The files of an export that is done, those with nothing in them left out.
    pub async fn export_files(&mut self, id: &str) -> Result<Vec<ExportFileRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select kind, counted, deleted from export_file where export = $1 and counted + deleted > 0 order by kind",
            id
        )
    }

    /// Takes an export that has to be counted, until `until`. One whose worker died is taken like any other.
    pub async fn lease_export(&mut self, now: At, until: At) -> Result<Option<ExportRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            {
                sqlite: concat!("update export set lease = lease + 1, lease_until = $2 where id = (select id from export \
                    where state = 'working' and lease_until <= $1 order by id limit 1) returning ", columns!()),
                postgres: concat!("update export set lease = lease + 1, lease_until = $2 where id = (select id from export \
                    where state = 'working' and lease_until <= $1 order by id limit 1 for update skip locked) \
                    returning ", columns!())
            },
            now,
            until
        )
    }

    /// Writes down how far counting is, and what was counted of a type that is done. False when the export was cancelled or
    /// another has its lease.
    pub async fn advance_export(&mut self, row: &ExportRow, done: Option<ExportFileRow>) -> Result<bool, StoreError> {
        let changed = sql!(
            self,
            execute,
            "update export set state = $3, place = $4, after = $5, counted = $6, lease_until = $7, \
             deleted = $8 where id = $1 and lease = $2",
            &row.id,
            row.lease,
            &row.state,
            row.place,
            &row.after,
            row.counted,
            row.lease_until,
            row.deleted
        )?;
        if let Some(file) = done.filter(|_| changed == 1) {
            sql!(
                self,
                execute,
                "insert into export_file (export, kind, counted, deleted) values ($1, $2, $3, $4)",
                &row.id,
                &file.kind,
                file.counted,
                file.deleted
            )?;
        }
        Ok(changed == 1)
    }

    /// Forgets an export, and those that expired before `before`.
    pub async fn forget_exports(&mut self, id: &str, before: At) -> Result<(), StoreError> {
        sql!(self, execute, "delete from export where id = $1 or expires_at < $2", id, before)?;
        sql!(self, execute, "delete from export_person where export not in (select id from export)")?;
        sql!(self, execute, "delete from export_file where export not in (select id from export)")?;
        Ok(())
    }

    /// Up to `limit` resources of a type as they were at the export's moment, by id, after one. Looks at as many rows,
    /// whether or not they count.
    pub async fn export_part(
        &mut self,
        of: &ExportRow,
        kind: &str,
        after: &str,
        sight: &Sight,
        limit: i64,
    ) -> Result<ExportPart, StoreError> {
        let mut query =
            Query::new("select r.id, r.person, r.updated_at, r.deleted, r.body from resource r where r.kind = ");
        query.bind(kind).push(" and r.id > ").bind(after).push(" and r.updated_at >= ").bind(of.since);
        match of.scope.as_str() {
            "all" => {}
            "people" => {
                query.push(" and r.person <> ''");
            }
            _ => {
                query.push(" and r.person in (select person from export_person where export = ").bind(of.id.as_str());
                query.push(")");
            }
        }
        sight.restrict(&mut query);
        query.push(" order by r.id limit ").bind(limit);
        let rows: Vec<Now> = self.rows(query).await?;
        let full = i64::try_from(rows.len()).unwrap_or(0) == limit;
        let next = rows.last().map(|row| row.id.clone()).filter(|_| full);
        let mut part = ExportPart { resources: Vec::with_capacity(rows.len()), deleted: Vec::new(), next };
        for row in rows {
            let then = match row.updated_at <= of.taken_at {
                true => Some(Then { updated_at: row.updated_at, deleted: row.deleted, body: row.body }),
                false => self.then(kind, &row.id, of.taken_at).await?.filter(|then| then.updated_at >= of.since),
            };
            match then {
                Some(then) if then.deleted => part.deleted.push(row.id),
                Some(then) => part.resources.push((row.person, then.body)),
                None => {}
            }
        }
        Ok(part)
    }

    /// A resource that was changed since, as it was.
    async fn then(&mut self, kind: &str, id: &str, at: At) -> Result<Option<Then>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select updated_at, deleted, body from resource_history \
             where kind = $1 and id = $2 and updated_at <= $3 order by version desc limit 1",
            kind,
            id,
            at
        )
    }
}
