//! The directory: practices, their localities and where they are reached. Only rows without a sender count, so that
//! nothing a referral brings along can redirect anything.

use super::{StoreError, Stored, Tx};
use crate::fhir::Resource;

/// The identifier system of ODS organisation codes.
use crate::fhir::systems::ODS;

/// A practice (or any organisation) as the directory knows it.
#[derive(Clone, Debug)]
pub struct Practice {
    /// ODS code.
    pub ods: String,
    /// Id of its Organization.
    pub organization: String,
    /// Location id of its locality, '' for none.
    pub locality: String,
    /// An affiliation with Live Well names it, so it is one of the practices served.
    pub affiliated: bool,
}

impl Tx {
    /// The Organization with this ODS code.
    pub async fn directory_organization(&mut self, ods: &str) -> Result<Option<Resource>, StoreError> {
        let found: Option<Stored> = sql!(
            self,
            fetch_optional,
            "select r.kind, r.id, r.version, r.updated_at, r.deleted, r.sender, r.person, r.referral, r.body \
             from lookup l join resource r on r.kind = 'Organization' and r.id = l.id \
             where l.kind = 'Organization' and l.param = 'identifier' and l.value = $1 and l.system = $2 \
             and r.sender = '' and not r.deleted order by l.id limit 1",
            ods,
            ODS
        )?;
        found.map(|stored| stored.resource()).transpose()
    }

    /// A practice and the locality its affiliation with Live Well gives it.
    pub async fn practice(&mut self, ods: &str) -> Result<Option<Practice>, StoreError> {
        // The affiliation in the same statement: a referral asks for this before it can be stored.
        let found: Option<(String, Option<String>)> = sql!(
            self,
            fetch_optional,
            "select r.id, (select a.body from lookup m join resource a on a.kind = 'OrganizationAffiliation' \
             and a.id = m.id where m.kind = 'OrganizationAffiliation' and m.param = 'participating-organization' \
             and m.value = 'Organization/' || r.id and m.system = '' and a.sender = '' and not a.deleted \
             order by m.id limit 1) \
             from lookup l join resource r on r.kind = 'Organization' and r.id = l.id \
             where l.kind = 'Organization' and l.param = 'identifier' and l.value = $1 and l.system = $2 \
             and r.sender = '' and not r.deleted order by l.id limit 1",
            ods,
            ODS
        )?;
        let Some((organization, affiliation)) = found else { return Ok(None) };
        let affiliation = affiliation.map(|body| read("OrganizationAffiliation", "", &body)).transpose()?;
        let locality = affiliation
            .as_ref()
            .and_then(|a| a.text("location.reference"))
            .and_then(|reference| reference.strip_prefix("Location/"))
            .unwrap_or_default()
            .to_owned();
        Ok(Some(Practice { ods: ods.to_owned(), organization, locality, affiliated: affiliation.is_some() }))
    }

    /// A directory resource: one without a sender.
    pub async fn directory_resource(&mut self, kind: &str, id: &str) -> Result<Option<Resource>, StoreError> {
        let found: Option<Stored> = sql!(
            self,
            fetch_optional,
            "select kind, id, version, updated_at, deleted, sender, person, referral, body from resource \
             where kind = $1 and id = $2 and sender = '' and person = '' and not deleted",
            kind,
            id
        )?;
        found.map(|stored| stored.resource()).transpose()
    }

    /// Every directory resource of a kind, by id.
    pub async fn directory(&mut self, kind: &str) -> Result<Vec<Resource>, StoreError> {
        let found: Vec<Stored> = sql!(
            self,
            fetch_all,
            "select kind, id, version, updated_at, deleted, sender, person, referral, body from resource \
             where kind = $1 and sender = '' and person = '' and not deleted order by id",
            kind
        )?;
        found.iter().map(Stored::resource).collect()
    }
}

impl Stored {
    /// The resource with the id and meta of this version.
    pub fn resource(&self) -> Result<Resource, StoreError> {
        read(&self.kind, &self.id, &self.body)
    }
}

/// A stored body as the resource it is.
pub(super) fn read(kind: &str, id: &str, body: &str) -> Result<Resource, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { table: "resource", id: format!("{kind}/{id}"), why };
    let value = serde_json::from_str(body).map_err(|error| corrupt(error.to_string()))?;
    Resource::from_value(value).map_err(|_| corrupt("it has no resourceType".to_owned()))
}
