//! The practices served, and where each one's record is reached.

use chrono::{DateTime, Utc};

use crate::fhir::Resource;
use crate::fhir::systems::ODS;
use crate::pathway::affiliation::{Ours, counts};
use crate::store::Store;

use super::{House, Result, Route, deliver};

/// A practice that the directory affiliates with Live Well now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// ODS code; '' where its Organization has none, or is not there.
    pub ods: String,
    /// Id of its Organization.
    pub organization: String,
    /// The way its write-back goes.
    pub route: Option<Route>,
}

/// Every practice with an affiliation that counts, by the id of the affiliation.
pub async fn practices(store: &Store, house: &House, now: DateTime<Utc>) -> Result<Vec<Served>> {
    let mut tx = store.read().await?;
    let ods = house.organization();
    let organization = tx.directory_organization(&ods).await?;
    let organization = organization.as_ref().and_then(Resource::id).unwrap_or_default();
    let ours = Ours { ods: &ods, organization };
    let mut found = Vec::new();
    for affiliation in tx.directory("OrganizationAffiliation").await?.iter().filter(|a| counts(a, ours, now)) {
        let reference = affiliation.text("participatingOrganization.reference").unwrap_or_default();
        let Some(id) = reference.strip_prefix("Organization/") else { continue };
        let organization = tx.directory_resource("Organization", id).await?;
        let ods = organization.as_ref().and_then(|o| o.identifier(ODS)).unwrap_or_default().to_owned();
        let route = if ods.is_empty() { None } else { deliver::endpoint(&mut tx, &ods).await? };
        found.push(Served { ods, organization: id.to_owned(), route });
    }
    Ok(found)
}
