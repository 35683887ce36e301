//! What an entry comes to, and on which id.

use serde_json::json;

use crate::fhir::{IssueCode, Resource};
use crate::store::{Sight, Stored};

use super::super::condition::{self, Criteria};
use super::super::submit::{Ask, Entry, as_found};
use super::beside::Beside;
use super::{BORN_HERE, Does, Error, Result, Step, Unit};

/// What an entry comes to once those `beside` it are done.
pub(super) async fn step(
    unit: &mut Unit<'_>,
    entry: Entry,
    criteria: Option<&Criteria>,
    beside: &Beside,
) -> Result<Step> {
    let kind = entry.kind.clone();
    let meant = match criteria {
        Some(criteria) => beside.meant(unit, criteria, &entry.expression).await?,
        None => None,
    };
    let (mut id, mut does) = match &entry.ask {
        Ask::Read => (entry.id.clone().unwrap_or_default(), Does::Look),
        Ask::Create(_) if meant.is_some() => {
            let written = meant.map(as_found).ok_or(Error::NotFound)?;
            unit.audit("conditional create", &format!("{kind}/{}", written.id), "");
            (written.id.clone(), Does::Found(written))
        }
        Ask::Create(resource) => (Unit::new_id(), Does::Make(resource.clone())),
        Ask::Delete => delete(unit, &entry, meant).await?,
        Ask::Update(_) | Ask::Patch(_) => change_of(unit, &entry, meant).await?,
    };
    if let Does::Make(resource) = &does
        && matches!(entry.ask, Ask::Update(_))
    {
        id = chosen(unit, &entry, resource, &id).await?;
    }
    if let Some(resource) = does.resource_mut() {
        resource.map_mut().insert("id".to_owned(), json!(id));
    }
    Ok(Step { entry, id, does })
}

/// A delete removes what is there; where nothing is, all is as it is wanted.
async fn delete(unit: &mut Unit<'_>, entry: &Entry, meant: Option<Stored>) -> Result<(String, Does)> {
    let id = meant.map(|stored| stored.id).or_else(|| entry.id.clone()).unwrap_or_default();
    match unit.see(&entry.kind, &id).await? {
        Some(seen) => {
            condition::current(&entry.kind, &id, seen.version, entry.if_match.as_ref())?;
            Ok((id, Does::Remove))
        }
        None => Ok((id, Does::Nothing)),
    }
}

/// An update changes what is there. What is not there is made, by criteria or under an id of the caller's choosing; what
/// the caller deleted comes back.
async fn change_of(unit: &mut Unit<'_>, entry: &Entry, meant: Option<Stored>) -> Result<(String, Does)> {
    let kind = entry.kind.as_str();
    let id = match (&meant, &entry.id) {
        (Some(stored), _) => stored.id.clone(),
        (None, Some(id)) => id.clone(),
        (None, None) => String::new(),
    };
    let seen = if id.is_empty() { None } else { unit.see(kind, &id).await? };
    match (seen, &entry.ask) {
        (Some(_), _) if entry.if_none_match => {
            Err(Error::Stale(format!("{kind}/{id} is there already, and If-None-Match says that it must not be.")))
        }
        (Some(seen), ask) => {
            condition::current(kind, &id, seen.version, entry.if_match.as_ref())?;
            if kind == "Task" && entry.if_match.is_none() {
                return Err(Error::NeedsVersion);
            }
            let resource = match ask {
                Ask::Patch(patch) => patch.apply(&seen.resource)?,
                Ask::Update(resource) => resource.clone(),
                Ask::Create(_) | Ask::Delete | Ask::Read => return Err(Error::NotFound),
            };
            if entry.criteria.is_some() && resource.id().is_some_and(|sent| sent != id) {
                return Err(Error::rule(
                    IssueCode::Value,
                    format!("{}.id", entry.expression),
                    "The resource that the criteria mean has another id than the one that was sent. Leave the id out.",
                ));
            }
            Ok((id, Does::Change(resource)))
        }
        (None, Ask::Update(resource)) => {
            let sight = unit.actor.sight.clone();
            let gone = unit.tx.resource(kind, &id, &sight).await?.is_some_and(|stored| stored.deleted);
            if entry.if_match.is_some() && (gone || chooses(unit, kind)) {
                return Err(Error::Stale(format!("There is no {kind} that If-Match could name a version of.")));
            }
            Ok((id, if gone { Does::Restore(resource.clone()) } else { Does::Make(resource.clone()) }))
        }
        (None, _) => Err(Error::NotFound),
    }
}

/// Whether the caller may choose the id of a new resource of this kind. Only who sees everything may: to all others the
/// answer would tell whether something they may not see has that id.
fn chooses(unit: &Unit<'_>, kind: &str) -> bool {
    unit.actor.sight == Sight::Everything && unit.actor.staff.is_none() && !BORN_HERE.contains(&kind)
}

/// The id under which an update makes what it did not find.
async fn chosen(unit: &mut Unit<'_>, entry: &Entry, resource: &Resource, id: &str) -> Result<String> {
    let kind = entry.kind.as_str();
    let wanted = match entry.criteria {
        Some(_) => resource.id(),
        None => Some(id),
    };
    match wanted {
        Some(_) if !chooses(unit, kind) && entry.criteria.is_none() => return Err(Error::NotFound),
        Some(_) if !chooses(unit, kind) => {
            return Err(Error::rule(
                IssueCode::Value,
                format!("{}.id", entry.expression),
                "Nothing matches the criteria, and the id of a new resource is chosen here. Leave the id out.",
            ));
        }
        _ if !entry.may_create => {
            return Err(Error::Forbidden(format!(
                "Nothing is there to update, and to create it needs the scope system/{kind}.c, which the access token \
                 does not carry."
            )));
        }
        Some(id) => {
            if entry.criteria.is_some() && unit.tx.resource(kind, id, &Sight::Everything).await?.is_some() {
                return Err(Error::conflict(
                    format!("{}.id", entry.expression),
                    "The resource with this id is not the one that the criteria mean. Leave the id out, or PUT to the id.",
                ));
            }
            return Ok(id.to_owned());
        }
        None => {}
    }
    Ok(Unit::new_id())
}
