//! The directory is loaded: organisations, places, people and pathways. Loading the same again changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::fhir::search::{Criterion, IndexRow, Word, rows};
use crate::fhir::systems::ODS;
use crate::fhir::{IssueCode, Resource};
use crate::store::{Belongs, Page, Sight, Store};

use super::links::rewrite;
use super::unit::same_content;
use super::{Actor, Error, House, Result, Unit, deliver, ods, retrying};

/// The resource types of the directory.
pub const DIRECTORY: [&str; 17] = [
    "Organization",
    "Location",
    "Endpoint",
    "Practitioner",
    "PractitionerRole",
    "HealthcareService",
    "OrganizationAffiliation",
    "PlanDefinition",
    "CareTeam",
    "Questionnaire",
    "ValueSet",
    "CodeSystem",
    "ConceptMap",
    "ActivityDefinition",
    "StructureDefinition",
    "SearchParameter",
    "OperationDefinition",
];

/// What loading came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub created: usize,
    pub changed: usize,
    pub unchanged: usize,
}

/// Resources loaded in one unit of work.
const AT_ONCE: usize = 200;

/// Loads resources of the directory, each with its fullUrl, and lets what waited for a practice's Endpoint go. Each has
/// its id, or an identifier by which it is found again, or is known by its content. `progress` hears how many are done.
pub async fn load(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    resources: Vec<(String, Resource)>,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Loaded> {
    if let Some((_, other)) = resources.iter().find(|(_, r)| !DIRECTORY.contains(&r.kind())) {
        return Err(Error::rule(
            IssueCode::NotSupported,
            other.kind().to_owned(),
            format!(
                "load takes the directory: {}. What belongs to a person comes in through the FHIR API.",
                DIRECTORY.join(", ")
            ),
        ));
    }
    publish(store, house, actor, now, resources, progress).await
}

/// The same for what comes with the software, of whichever type: everyone reads it, and nobody changes it.
pub async fn publish(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    resources: Vec<(String, Resource)>,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Loaded> {
    let placed = once(place(store, house, actor, now, resources).await?)?;
    retrying(|| one_for_each_code(store, house, actor, now, &placed)).await?;
    let mut loaded = Loaded::default();
    let mut done = 0;
    for some in placed.chunks(AT_ONCE) {
        let kept = retrying(|| keep_all(store, house, actor, now, some)).await?;
        loaded.created += kept.created;
        loaded.changed += kept.changed;
        loaded.unchanged += kept.unchanged;
        done += some.len();
        progress(done);
    }
    house.learn_organization(store).await?;
    for some in placed.chunks(AT_ONCE) {
        retrying(|| let_go(store, house, actor, now, some)).await?;
    }
    Ok(loaded)
}

/// Refuses Organizations with an ODS code that another one has.
async fn one_for_each_code(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    resources: &[Resource],
) -> Result<()> {
    let organizations: Vec<_> = resources.iter().filter(|r| r.kind() == "Organization").cloned().collect();
    let mut unit = Unit::begin(store, house, actor, now, "load").await?;
    match ods::twice(&mut unit, &organizations).await? {
        Some((_, why)) => Err(why),
        None => Ok(()),
    }
}

async fn keep_all(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    resources: &[Resource],
) -> Result<Loaded> {
    let mut unit = Unit::begin(store, house, actor, now, "load").await?;
    let mut loaded = Loaded::default();
    for resource in resources {
        match keep(&mut unit, resource.clone()).await? {
            Kept::Created => loaded.created += 1,
            Kept::Changed => loaded.changed += 1,
            Kept::Unchanged => loaded.unchanged += 1,
        }
    }
    unit.commit().await?;
    Ok(loaded)
}

/// Lets go what waited for a way to one of these practices.
async fn let_go(store: &Store, house: &House, actor: &Actor, now: DateTime<Utc>, resources: &[Resource]) -> Result<()> {
    let mut unit = Unit::begin(store, house, actor, now, "load").await?;
    for ods in resources.iter().filter_map(|resource| resource.identifier(ODS)) {
        deliver::route_is_known(&mut unit, ods).await?;
    }
    unit.commit().await?;
    Ok(())
}

/// Each once. The same resource twice says the same; two that differ do not say which of them is meant.
fn once(placed: Vec<Resource>) -> Result<Vec<Resource>> {
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut all: Vec<Resource> = Vec::with_capacity(placed.len());
    for resource in placed {
        let name = resource.reference();
        match by_name.get(&name).and_then(|at| all.get(*at)) {
            Some(before) if same_content(before, &resource) => {}
            Some(_) => {
                return Err(Error::conflict(
                    name.clone(),
                    format!("{name} comes twice, and the two differ. Leave one of them out; nothing was loaded."),
                ));
            }
            None => {
                by_name.insert(name, all.len());
                all.push(resource);
            }
        }
    }
    Ok(all)
}

/// Gives each resource its id, and points references between them at the ids.
async fn place(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    resources: Vec<(String, Resource)>,
) -> Result<Vec<Resource>> {
    let mut unit = Unit::begin(store, house, actor, now, "load").await?;
    let mut targets = HashMap::new();
    let mut placed = Vec::with_capacity(resources.len());
    for (full_url, mut resource) in resources {
        let id = match resource.id() {
            Some(id) => id.to_owned(),
            None => known_id(&mut unit, &resource).await?,
        };
        resource.map_mut().insert("id".to_owned(), json!(id));
        if !full_url.is_empty() {
            targets.insert(full_url, resource.reference());
        }
        placed.push(resource);
    }
    let targets: HashMap<&str, String> = targets.iter().map(|(from, to)| (from.as_str(), to.clone())).collect();
    for resource in &mut placed {
        rewrite(resource.value_mut(), &targets);
    }
    Ok(placed)
}

enum Kept {
    Created,
    Changed,
    Unchanged,
}

async fn keep(unit: &mut Unit<'_>, resource: Resource) -> Result<Kept> {
    let (kind, id) = (resource.kind().to_owned(), resource.id().unwrap_or_default().to_owned());
    let kept = match unit.tx.resource(&kind, &id, &Sight::Everything).await? {
        None => {
            unit.create(resource.clone(), Belongs::default());
            Kept::Created
        }
        Some(stored) if stored.belongs() != Belongs::default() => {
            return Err(Error::conflict(
                kind,
                format!("The id {id} is taken by a resource that is not of the directory."),
            ));
        }
        Some(stored) if !stored.deleted && same_content(&stored.resource()?, &resource) => return Ok(Kept::Unchanged),
        Some(_) => {
            unit.change(resource.clone()).await?;
            Kept::Changed
        }
    };
    unit.audit("load", &format!("{kind}/{id}"), "");
    Ok(kept)
}

/// The id of a resource that came without one: that of the one with the same identifier, else one made from its content.
async fn known_id(unit: &mut Unit<'_>, resource: &Resource) -> Result<String> {
    let identifiers = rows(resource, false).into_iter().filter_map(|row| match row {
        IndexRow::Word { param, value, system } if param == "identifier" => {
            Some(Word::Is { value, system: Some(system) })
        }
        _ => None,
    });
    let any: Vec<_> = identifiers.collect();
    if !any.is_empty() {
        let words = Criterion::Words { params: vec!["identifier".to_owned()], any, not: false };
        let found = unit.tx.search(resource.kind(), &[words], &Sight::Directory, &[], &Page::first(1)).await?;
        if let Some(there) = found.matches.first() {
            return Ok(there.id.clone());
        }
    }
    let digest = Sha256::digest(resource.value().to_string());
    Ok(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_comes_twice_is_one_and_two_that_differ_are_refused_by_name() {
        let organization = |name: &str| {
            Resource::from_value(json!({ "resourceType": "Organization", "id": "o", "name": name })).unwrap()
        };
        let place = Resource::from_value(json!({ "resourceType": "Location", "id": "o" })).unwrap();
        let same = once(vec![organization("One"), place, organization("One")]).unwrap();
        assert_eq!(same.iter().map(Resource::reference).collect::<Vec<_>>(), ["Organization/o", "Location/o"]);
        let Err(Error::Conflict(issue)) = once(vec![organization("One"), organization("Other")]) else {
            panic!("one of them would be lost");
        };
        assert_eq!(issue.expression.as_deref(), Some("Organization/o"));
    }
}
