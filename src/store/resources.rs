//! Resources: current versions and replaced versions.

use crate::fhir::search::indexed;

use super::query::Query;
use super::{At, Sight, StoreError, Tx};

/// Whose a resource is: what the row filter looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Belongs {
    /// The organisation (ODS) it came from or whose referral it came of; '' for the directory and the person's own.
    pub sender: String,
    /// Our Patient it is about; '' for none.
    pub person: String,
    /// The ServiceRequest it came of; '' for none.
    pub referral: String,
}

/// The current version of a resource, as stored.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct Stored {
    pub kind: String,
    pub id: String,
    pub version: i64,
    pub updated_at: At,
    pub deleted: bool,
    pub sender: String,
    pub person: String,
    pub referral: String,
    pub body: String,
}

impl Stored {
    /// Whose it is.
    pub fn belongs(&self) -> Belongs {
        Belongs { sender: self.sender.clone(), person: self.person.clone(), referral: self.referral.clone() }
    }
}

/// One version of a resource, current or replaced.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct VersionRow {
    pub version: i64,
    pub updated_at: At,
    pub deleted: bool,
    pub body: String,
}

impl Tx {
    /// The current version, if this caller may see it. A deleted resource is answered with `deleted` set.
    pub async fn resource(&mut self, kind: &str, id: &str, sight: &Sight) -> Result<Option<Stored>, StoreError> {
        let mut query = Query::new(
            "select r.kind, r.id, r.version, r.updated_at, r.deleted, r.sender, r.person, r.referral, r.body \
             from resource r where r.kind = ",
        );
        query.bind(kind).push(" and r.id = ").bind(id);
        sight.restrict(&mut query);
        Ok(self.rows(query).await?.pop())
    }

    /// One version this caller may see.
    pub async fn version(
        &mut self,
        kind: &str,
        id: &str,
        version: i64,
        sight: &Sight,
    ) -> Result<Option<VersionRow>, StoreError> {
        let Some(current) = self.resource(kind, id, sight).await? else { return Ok(None) };
        if current.version == version {
            let Stored { version, updated_at, deleted, body, .. } = current;
            return Ok(Some(VersionRow { version, updated_at, deleted, body }));
        }
        sql!(
            self,
            fetch_optional,
            "select version, updated_at, deleted, body from resource_history \
             where kind = $1 and id = $2 and version = $3",
            kind,
            id,
            version
        )
    }

    /// Resources of a kind that came of a referral, oldest first.
    pub async fn resources_of_referral(&mut self, referral: &str, kind: &str) -> Result<Vec<Stored>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select kind, id, version, updated_at, deleted, sender, person, referral, body from resource \
             where referral = $1 and referral <> '' and kind = $2 and not deleted order by id",
            referral,
            kind
        )
    }

    /// Resources of a kind about a person, oldest first.
    pub async fn resources_of_person(&mut self, person: &str, kind: &str) -> Result<Vec<Stored>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select kind, id, version, updated_at, deleted, sender, person, referral, body from resource \
             where person = $1 and person <> '' and kind = $2 and not deleted order by id",
            person,
            kind
        )
    }

    /// Stores new resources. Put off: [`StoreError::Conflict`] comes with the commit when one exists already.
    pub async fn insert_resources(&mut self, new: &[Stored]) -> Result<(), StoreError> {
        let organizations = self.organizations(new).await?;
        let rows = new.iter().zip(organizations).map(|(r, organization)| {
            vec![
                organization.into(),
                r.kind.as_str().into(),
                r.id.as_str().into(),
                r.version.into(),
                r.updated_at.into(),
                r.deleted.into(),
                r.sender.as_str().into(),
                r.person.as_str().into(),
                r.referral.as_str().into(),
                r.body.as_str().into(),
                indexed(r.version).into(),
            ]
        });
        let insert = "resource (organization, kind, id, version, updated_at, deleted, sender, person, \
                          referral, body, indexed)";
        self.put_off(insert, rows, "").await
    }

    /// Whose referral each came of, else who sent it: what resources are partitioned by.
    async fn organizations(&mut self, new: &[Stored]) -> Result<Vec<String>, StoreError> {
        for of in new.iter().filter(|r| !r.referral.is_empty()) {
            if !self.senders.contains_key(&of.referral) {
                self.referral(&of.referral).await?;
            }
        }
        Ok(new.iter().map(|r| self.senders.get(&r.referral).unwrap_or(&r.sender).clone()).collect())
    }

    /// Puts another text in the place of what `stored` is, in the same version. False when it is no longer that.
    pub async fn amend_resource(&mut self, stored: &Stored, body: &str) -> Result<bool, StoreError> {
        let changed = sql!(
            self,
            execute,
            "update resource set body = $5 where kind = $1 and id = $2 and version = $3 and body = $4",
            &stored.kind,
            &stored.id,
            stored.version,
            &stored.body,
            body
        )?;
        Ok(changed == 1)
    }

    /// Replaces `read`, the version before, which is kept as history. False when that is no longer the current one, or was
    /// amended since it was read. Where the index was behind with it, it stays so: what else is in the index of it is not
    /// known.
    pub async fn replace_resource(&mut self, new: &Stored, read: &Stored) -> Result<bool, StoreError> {
        let before = new.version - 1;
        sql!(
            self,
            execute,
            "insert into resource_history (organization, kind, id, version, updated_at, deleted, body) \
             select organization, kind, id, version, updated_at, deleted, body from resource \
             where kind = $1 and id = $2 and version = $3",
            &new.kind,
            &new.id,
            before
        )?;
        let changed = sql!(
            self,
            execute,
            "update resource set version = $4, updated_at = $5, deleted = $6, sender = $7, person = $8, \
             referral = $9, body = $10, indexed = case when indexed = $11 then $12 else 0 end \
             where kind = $1 and id = $2 and version = $3 and body = $13",
            &new.kind,
            &new.id,
            before,
            new.version,
            new.updated_at,
            new.deleted,
            &new.sender,
            &new.person,
            &new.referral,
            &new.body,
            indexed(before),
            indexed(new.version),
            &read.body
        )?;
        Ok(changed == 1)
    }
}
