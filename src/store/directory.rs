//! The directory: practices, their localities and where they are reached. Only rows without a sender count, so that
//! nothing a referral brings along can redirect anything.

use super::{At, StoreError, Stored, Tx};
use crate::fhir::systems::ODS;
use crate::fhir::{Resource, path};
use crate::pathway::affiliation::{Ours, counts};

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

/// The practice with this ODS code, its Organization and the affiliations that name it (JSON, one a line): the first by id
/// that counts gives it its locality.
pub(super) fn as_practice(
    ods: String,
    organization: String,
    affiliations: &str,
    ours: Ours<'_>,
    now: At,
) -> Result<Practice, StoreError> {
    let mut affiliation: Option<Resource> = None;
    for body in affiliations.lines() {
        let other = read("OrganizationAffiliation", "", body)?;
        let is_first = affiliation.as_ref().is_none_or(|known| other.id() < known.id());
        if is_first && counts(&other, ours, now.time()) {
            affiliation = Some(other);
        }
    }
    let locality = affiliation
        .as_ref()
        .and_then(|a| a.text("location.reference"))
        .and_then(|reference| reference.strip_prefix("Location/"))
        .unwrap_or_default()
        .to_owned();
    Ok(Practice { ods, organization, locality, affiliated: affiliation.is_some() })
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

    /// The ids of all Organizations with this ODS code.
    pub async fn organizations_with_code(&mut self, ods: &str) -> Result<Vec<String>, StoreError> {
        let found: Vec<(String,)> = sql!(
            self,
            fetch_all,
            "select r.id from lookup l join resource r on r.kind = 'Organization' and r.id = l.id \
             where l.kind = 'Organization' and l.param = 'identifier' and l.value = $1 and l.system = $2 \
             and r.sender = '' and not r.deleted order by l.id",
            ods,
            ODS
        )?;
        Ok(found.into_iter().map(|(id,)| id).collect())
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

    /// Whether a PractitionerRole is one at the organisation with this ODS code. One that names no organisation is.
    pub async fn is_at(&mut self, role: &Resource, ods: &str) -> Result<bool, StoreError> {
        let Some(organization) = role.value().get("organization") else { return Ok(true) };
        if path::text(organization, "identifier.system") == Some(ODS) {
            return Ok(path::text(organization, "identifier.value") == Some(ods));
        }
        let Some(reference) = path::text(organization, "reference") else { return Ok(true) };
        let named = match reference.strip_prefix("Organization/") {
            Some(id) => self.directory_resource("Organization", id).await?,
            None => None,
        };
        Ok(named.is_some_and(|organization| organization.identifier(ODS) == Some(ods)))
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
