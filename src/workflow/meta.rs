//! Profiles, tags and labels are put on a resource, and taken off
//! (<https://hl7.org/fhir/R4/resource-operation-meta-add.html>).
//!
//! What a resource says does not change with them, so no version is made: `versionId` and `lastUpdated` stay, and nobody is
//! told. R4's definition leaves that open; its drafts and the releases before it say it, and HAPI FHIR does so.

use serde_json::{Value, json};

use crate::fhir::search::rows;
use crate::fhir::systems::REFERRAL_FLAG;
use crate::fhir::{Invalid, IssueCode, Resource, path};
use crate::store::{Belongs, Store, StoreError, Stored};

use super::{Actor, Error, House, Result, Unit, keep};

/// Whether profiles, tags and labels are put on or taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelling {
    Add,
    Remove,
}

/// Profiles, tags and labels of one resource at most.
const MOST: usize = 200;
/// The lists of `Resource.meta` that are sets.
const SETS: [&str; 3] = ["profile", "security", "tag"];

/// What a resource must be like once something was put on it: checked as an update is.
type Check<'a> = dyn Fn(Value) -> std::result::Result<Resource, Invalid> + Send + Sync + 'a;

/// Puts what `sent` (a Meta) names on a resource, or takes it off. Answers its meta, as it then is.
#[expect(clippy::too_many_arguments, reason = "who, when and what, as every act has them")]
pub async fn label(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: chrono::DateTime<chrono::Utc>,
    request_id: &str,
    (kind, id): (&str, &str),
    (labelling, sent): (Labelling, &Value),
    check: &Check<'_>,
) -> Result<Value> {
    let mut unit = Unit::begin(store, house, actor, now, request_id).await?;
    let stored = unit.tx.resource(kind, id, &actor.sight).await?.ok_or(Error::NotFound)?;
    if stored.deleted {
        return Err(Error::Gone);
    }
    let before = stored.resource()?;
    may_label(&unit, &before, &stored.belongs())?;
    if !unit.actor.ours {
        names_no_flag(sent)?;
    }
    let mut after = before.clone();
    change(&mut after, labelling, sent)?;
    if after != before {
        if labelling == Labelling::Add {
            check(after.value().clone())?;
        }
        write(&mut unit, &stored, &before, &after).await?;
    }
    let act = if labelling == Labelling::Add { "$meta-add" } else { "$meta-delete" };
    unit.audit(act, &format!("{kind}/{id}"), &stored.person);
    unit.commit().await?;
    Ok(after.value().get("meta").cloned().unwrap_or_else(|| json!({})))
}

/// Who may change a resource labels it; our Patients are labelled by any client of Live Well.
fn may_label(unit: &Unit<'_>, resource: &Resource, belongs: &Belongs) -> Result<()> {
    let our_patient = belongs.sender.is_empty() && !belongs.person.is_empty();
    if unit.actor.ours && our_patient { Ok(()) } else { keep::is_the_callers(unit, resource, belongs) }
}

/// Refuses to put on or take off what Live Well flags: it is there for whoever works with the resource.
fn names_no_flag(sent: &Value) -> Result<()> {
    match path::all(sent, "tag").iter().any(|tag| path::text(tag, "system") == Some(REFERRAL_FLAG)) {
        true => Err(Error::Forbidden(format!("The flags of {REFERRAL_FLAG} are Live Well's own. Leave them out."))),
        false => Ok(()),
    }
}

/// Changes the current version in place, with its rows of the index.
async fn write(unit: &mut Unit<'_>, stored: &Stored, before: &Resource, after: &Resource) -> Result<()> {
    let body = after.value().to_string();
    if !unit.tx.amend_resource(stored, &body).await? {
        return Err(StoreError::Conflict.into());
    }
    let about_person = !stored.person.is_empty();
    let (old, new) = (rows(before, about_person), rows(after, about_person));
    let gone: Vec<_> = old.iter().filter(|row| !new.contains(row)).cloned().collect();
    unit.tx.remove_index(&stored.kind, &stored.id, &gone).await?;
    let come = new.into_iter().filter(|row| !old.contains(row));
    let come: Vec<_> = come.map(|row| (&*stored.kind, &*stored.id, row)).collect();
    Ok(unit.tx.add_index(come).await?)
}

fn change(resource: &mut Resource, labelling: Labelling, sent: &Value) -> Result<()> {
    let refused = |text: &str| Error::rule(IssueCode::Invalid, "Parameters.parameter.where(name='meta').value", text);
    let meta = resource.map_mut().entry("meta").or_insert_with(|| json!({}));
    let Some(meta) = meta.as_object_mut() else {
        return Err(refused("The resource has no meta that could be changed."));
    };
    for set in SETS {
        let named = path::all(sent, set);
        if named.is_empty() {
            continue;
        }
        let mut all = meta.get(set).and_then(Value::as_array).cloned().unwrap_or_default();
        for one in named {
            if set != "profile" && path::text(one, "code").is_none() {
                return Err(refused("A tag or a label is told by its system and its code. Send both."));
            }
            if labelling == Labelling::Add && path::text(one, "code") == Some("SUBSETTED") {
                return Err(refused(
                    "SUBSETTED says that a resource was read in part. It is not put on what is stored.",
                ));
            }
            let there = all.iter().any(|other| same(one, other));
            match labelling {
                Labelling::Add if !there => all.push(one.clone()),
                Labelling::Add => {}
                Labelling::Remove => all.retain(|other| !same(one, other)),
            }
        }
        match all.is_empty() {
            true => drop(meta.shift_remove(set)),
            false => drop(meta.insert(set.to_owned(), Value::Array(all))),
        }
    }
    let many: usize = SETS.iter().filter_map(|set| meta.get(*set)?.as_array()).map(Vec::len).sum();
    if many > MOST && labelling == Labelling::Add {
        return Err(refused("A resource has at most 200 profiles, tags and labels here."));
    }
    Ok(())
}

/// Profiles are told by their URL, tags and labels by system and code.
fn same(one: &Value, other: &Value) -> bool {
    match one {
        Value::String(url) => other.as_str() == Some(url),
        _ => ["system", "code"].iter().all(|name| one.get(*name) == other.get(*name)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sets_told_by_system_and_code() {
        let meta =
            json!({ "versionId": "3", "tag": [{ "system": "s", "code": "a", "display": "A" }], "profile": ["p"] });
        let mut resource = Resource::from_value(json!({ "resourceType": "Basic", "meta": meta })).unwrap();
        let sent =
            json!({ "tag": [{ "system": "s", "code": "a" }, { "system": "t", "code": "a" }], "profile": ["p", "q"] });
        change(&mut resource, Labelling::Add, &sent).unwrap();
        let meta = &resource.value()["meta"];
        assert_eq!((meta["tag"].as_array().unwrap().len(), &meta["profile"]), (2, &json!(["p", "q"])));
        assert_eq!((&meta["tag"][0]["display"], &meta["versionId"]), (&json!("A"), &json!("3")));
        let gone = json!({ "tag": [{ "system": "s", "code": "a", "display": "other" }, { "code": "none" }], "profile": ["p", "q"] });
        change(&mut resource, Labelling::Remove, &gone).unwrap();
        assert_eq!(resource.value()["meta"], json!({ "versionId": "3", "tag": [{ "system": "t", "code": "a" }] }));
        for wrong in [json!({ "tag": [{ "system": "s" }] }), json!({ "tag": [{ "code": "SUBSETTED" }] })] {
            assert!(change(&mut resource, Labelling::Add, &wrong).is_err(), "{wrong}");
        }
        let many: Vec<Value> = (0..201).map(|n| json!({ "code": format!("c{n}") })).collect();
        assert!(change(&mut resource, Labelling::Add, &json!({ "security": many })).is_err());
    }
}
