//! What a delivery sends, put together when it is sent: from what is recorded and consented to then.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::systems::{JOB_ROLE, NHS_NUMBER, ODS, REFERRAL_REFERENCE};
use crate::fhir::{Resource, path};
use crate::pathway::write_back::{Contents, Logical, Outgoing, PracticeCopy, Record, detail, outgoing};
use crate::store::{Leased, PersonRow, Sight, Store, Tx};

use super::super::links::references;
use super::super::{Error, House, Result};
use super::route::{NO_ENDPOINT, NO_IDENTITY, Route, endpoint};
use super::{corrupt, own_words};

/// A delivery in the hands of a worker, with what is to be sent.
pub struct Dispatch {
    pub leased: Leased,
    pub route: Route,
    pub nhs_number: String,
    pub birth_date: Option<String>,
    pub family: Option<String>,
    /// Who recorded it, and for whom.
    pub author: Logical,
    pub organization: Logical,
    /// Empty when consent lets nothing of it leave.
    pub outgoing: Vec<Outgoing>,
    /// An earlier attempt was made, so that what it sent may be there.
    pub look_first: bool,
}

/// What became of putting a delivery together.
pub enum Prepared {
    Ready(Box<Dispatch>),
    /// It has no way to go any more.
    Held {
        leased: Box<Leased>,
        why: &'static str,
    },
}

/// Puts together what a leased delivery sends, from what is recorded and consented to now.
pub async fn prepare(store: &Store, house: &House, now: DateTime<Utc>, leased: Leased) -> Result<Prepared> {
    let mut tx = store.read().await?;
    let person = tx.person(&leased.person).await?.ok_or(Error::NotFound)?;
    let Some(nhs_number) = person.nhs_number.clone() else {
        return Ok(Prepared::Held { leased: Box::new(leased), why: NO_IDENTITY });
    };
    let Some(route) = endpoint(&mut tx, &leased.practice).await? else {
        return Ok(Prepared::Held { leased: Box::new(leased), why: NO_ENDPOINT });
    };
    let organization = organization(&mut tx, house).await?;
    let author = logical(&mut tx, house, &leased.author).await?.unwrap_or_else(|| organization.clone());
    let outgoing = contents(&mut tx, house, now, (&leased, &person), &route, (&author, &organization)).await?;
    let look_first = leased.attempts > 1;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let leased = Leased { channel: route.channel().to_owned(), ..leased };
    Ok(Prepared::Ready(Box::new(Dispatch {
        route,
        nhs_number,
        birth_date: some(&person.birth_date),
        family: some(&person.family),
        author,
        organization,
        outgoing,
        look_first,
        leased,
    })))
}

/// What leaves, as the practice is to file it.
async fn contents(
    tx: &mut Tx,
    house: &House,
    now: DateTime<Utc>,
    (leased, person): (&Leased, &PersonRow),
    route: &Route,
    (author, organization): (&Logical, &Logical),
) -> Result<Vec<Outgoing>> {
    let resources = carried(tx, leased).await?;
    let consents = tx.resources_of_person(&person.id, "Consent").await?;
    let consents = consents.iter().map(|c| Ok((c.resource()?, c.sender.as_str()))).collect::<Result<Vec<_>>>()?;
    let consents = own_words::that_count(house, consents);
    let reader = own_words::reader(tx, &leased.practice).await?;
    let own_words = own_words::shared(&reader, &consents, &resources, now);
    let mut patients = BTreeSet::from([format!("Patient/{}", person.id)]);
    patients.extend(tx.resources_of_person(&person.id, "Patient").await?.iter().map(|p| format!("Patient/{}", p.id)));
    let Meanings { mut copies, directory } = meanings(tx, house, &leased.practice, &resources).await?;
    if matches!(route, Route::Mesh { .. }) {
        // A message names what is there by our identifier: the practice's own ids are no business of its transport.
        copies.values_mut().for_each(|copy| *copy = PracticeCopy { reference: String::new(), version: None });
    }
    let records: Vec<Record<'_>> = resources
        .iter()
        .map(|(resource, version)| Record { resource, version: u64::try_from(*version).unwrap_or(1) })
        .collect();
    Ok(outgoing(&Contents {
        delivery_id: &leased.id,
        recorded: leased.created_at.time(),
        records: &records,
        person: &patients,
        copies: &copies,
        directory: &directory,
        author,
        organization,
        detail: detail(&consents, &reader, now),
        own_words: &own_words,
        preferences: house.preferences(&leased.practice),
        codes: &house.codes,
    }))
}

/// The resources a delivery carries, each in the version that caused it, less what the practice has already.
async fn carried(tx: &mut Tx, leased: &Leased) -> Result<Vec<(Resource, i64)>> {
    let mut resources = Vec::new();
    for item in leased.items()? {
        let key = format!("{}/{}", item.kind, item.id);
        let held = tx.practice_copy(&leased.practice, &key).await?;
        if held.is_some_and(|copy| copy.our_version >= item.version) {
            // A later version is there already: an older one must not replace it.
            continue;
        }
        let current = tx.resource(&item.kind, &item.id, &Sight::Everything).await?;
        if current.is_none_or(|current| current.person != leased.person) {
            return Err(corrupt(leased, "it carries something that is not this person's"));
        }
        let row = tx.version(&item.kind, &item.id, item.version, &Sight::Everything).await?.ok_or(Error::NotFound)?;
        let value = serde_json::from_str(&row.body).map_err(|e| corrupt(leased, &e.to_string()))?;
        resources.push((Resource::from_value(value)?, item.version));
    }
    Ok(resources)
}

/// What the references in a write-back mean to the practice, by our reference.
#[derive(Default)]
struct Meanings {
    /// What it holds of ours.
    copies: BTreeMap<String, PracticeCopy>,
    /// Staff, organisations, places and referrals.
    directory: BTreeMap<String, Logical>,
}

async fn meanings(tx: &mut Tx, house: &House, practice: &str, resources: &[(Resource, i64)]) -> Result<Meanings> {
    let mut found = Meanings::default();
    for (resource, _) in resources {
        let mut keys = vec![resource.reference()];
        keys.extend(references(resource).into_iter().map(|(reference, _)| reference));
        for key in keys {
            if let Some(copy) = tx.practice_copy(practice, &key).await? {
                let version = (!copy.practice_version.is_empty()).then_some(copy.practice_version);
                found.copies.insert(key.clone(), PracticeCopy { reference: copy.practice_reference, version });
            }
            if let Some(logical) = logical(tx, house, &key).await? {
                found.directory.insert(key, logical);
            }
        }
    }
    Ok(found)
}

/// Live Well itself, as a practice is told of it.
async fn organization(tx: &mut Tx, house: &House) -> Result<Logical> {
    let known = tx.directory_organization(&house.organization()).await?;
    Ok(Logical {
        kind: "Organization".to_owned(),
        identifier: Some((ODS.to_owned(), house.organization())),
        display: known.and_then(|o| o.text("name").map(str::to_owned)),
        role: None,
    })
}

/// What a reference of ours means to a practice that has none of our resources: an identifier and a name.
async fn logical(tx: &mut Tx, house: &House, reference: &str) -> Result<Option<Logical>> {
    let Some((kind, id)) = house.local(reference) else { return Ok(None) };
    if kind == "ServiceRequest" {
        let identifier = tx.referral(id).await?.map(|r| (REFERRAL_REFERENCE.to_owned(), r.reference));
        // One that is no referral to us is ours, and goes by our identifier as any record does.
        return Ok(identifier.map(|known| Logical {
            kind: kind.to_owned(),
            display: None,
            identifier: Some(known),
            role: None,
        }));
    }
    if !matches!(
        kind,
        "PractitionerRole" | "Practitioner" | "Organization" | "Location" | "HealthcareService" | "CareTeam"
    ) {
        return Ok(None);
    }
    let Some(resource) = tx.directory_resource(kind, id).await? else { return Ok(None) };
    let mut display = name_of(&resource);
    if kind == "PractitionerRole"
        && let Some(id) = resource.text("practitioner.reference").and_then(|r| r.strip_prefix("Practitioner/"))
        && let Some(practitioner) = tx.directory_resource("Practitioner", id).await?
    {
        let role = resource.text("code.coding.display").or_else(|| resource.text("code.text")).map(str::to_lowercase);
        display = name_of(&practitioner).map(|name| match role {
            Some(role) => format!("{name}, {role}"),
            None => name,
        });
    }
    let role = resource.all("code.coding").into_iter().find(|c| path::text(c, "system") == Some(JOB_ROLE)).cloned();
    Ok(Some(Logical { kind: kind.to_owned(), identifier: first_identifier(&resource), display, role }))
}

fn name_of(resource: &Resource) -> Option<String> {
    if let Some(Value::String(name)) = resource.value().get("name") {
        return Some(name.clone());
    }
    let name = *resource.all("name").first()?;
    if let Some(text) = path::text(name, "text") {
        return Some(text.to_owned());
    }
    let given = path::text(name, "given").unwrap_or_default();
    let family = path::text(name, "family").unwrap_or_default();
    Some(format!("{given} {family}").trim().to_owned()).filter(|n| !n.is_empty())
}

fn first_identifier(resource: &Resource) -> Option<(String, String)> {
    resource
        .all("identifier")
        .into_iter()
        .filter(|i| path::text(i, "system") != Some(NHS_NUMBER))
        .find_map(|i| Some((path::text(i, "system")?.to_owned(), path::text(i, "value")?.to_owned())))
}
