//! An ODS code means one Organization of the directory: of two, nobody could tell where a practice's write-back goes.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::fhir::systems::ODS;
use crate::fhir::{Issue, IssueCode, Resource, path};

use super::{Error, Result, Unit};

/// Of these Organizations of the directory, as they are going to be, the first whose ODS code another one has: its id, and
/// what to do.
pub(super) async fn twice(unit: &mut Unit<'_>, organizations: &[Resource]) -> Result<Option<(String, Error)>> {
    if organizations.is_empty() {
        return Ok(None);
    }
    // Two that come at the same moment do not see each other.
    unit.tx.hold("ods codes").await?;
    let here: HashSet<&str> = organizations.iter().filter_map(Resource::id).collect();
    let mut known: HashMap<&str, &str> = HashMap::new();
    for organization in organizations {
        let id = organization.id().unwrap_or_default();
        for code in codes(organization) {
            let there = unit.tx.organizations_with_code(code).await?;
            let other = there.iter().map(String::as_str).find(|other| !here.contains(other));
            if let Some(other) = other.or(known.insert(code, id)).filter(|other| *other != id) {
                return Ok(Some((id.to_owned(), refusal(code, id, other))));
            }
        }
    }
    Ok(None)
}

fn codes(organization: &Resource) -> impl Iterator<Item = &str> {
    let ours = |identifier: &&Value| path::text(identifier, "system") == Some(ODS);
    organization.all("identifier").into_iter().filter(ours).filter_map(|identifier| path::text(identifier, "value"))
}

fn refusal(code: &str, id: &str, other: &str) -> Error {
    let text = format!(
        "The ODS code {code} is that of Organization/{other} already, so Organization/{id} cannot have it too. Update \
         Organization/{other}, or delete it or take the code out of it first."
    );
    Error::Conflict(Issue::error(IssueCode::Duplicate, "Organization.identifier", text))
}
