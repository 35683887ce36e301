//! The practices served, and where each one's record is reached.

use crate::fhir::systems::ODS;
use crate::store::Store;

use super::{Result, Route, deliver};

/// A practice that the directory affiliates with Live Well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// ODS code; '' where its Organization has none, or is not there.
    pub ods: String,
    /// Id of its Organization.
    pub organization: String,
    /// The way its write-back goes.
    pub route: Option<Route>,
}

/// Every practice with an affiliation, by the id of the affiliation.
pub async fn practices(store: &Store) -> Result<Vec<Served>> {
    let mut tx = store.read().await?;
    let mut found = Vec::new();
    for affiliation in tx.directory("OrganizationAffiliation").await? {
        let reference = affiliation.text("participatingOrganization.reference").unwrap_or_default();
        let Some(id) = reference.strip_prefix("Organization/") else { continue };
        let organization = tx.directory_resource("Organization", id).await?;
        let ods = organization.as_ref().and_then(|o| o.identifier(ODS)).unwrap_or_default().to_owned();
        let route = if ods.is_empty() { None } else { deliver::endpoint(&mut tx, &ods).await? };
        found.push(Served { ods, organization: id.to_owned(), route });
    }
    Ok(found)
}
