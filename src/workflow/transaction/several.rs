//! Transactions about several people take turns with each other on PostgreSQL. Each holds its people one after the other,
//! as it comes to them: two that hold the same people in opposite orders would wait for each other until PostgreSQL gives
//! one of them up, a second later. One about a single person waits for nobody who waits for it.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::fhir::systems::NHS_NUMBER;
use crate::fhir::{Resource, path};

use super::super::keep::ABOUT;
use super::{Entry, Result, Unit};

/// What transactions about several people hold.
const SEVERAL: &str = "several people";

/// Waits for its turn, if the entries may be about more than one person.
pub(super) async fn hold(unit: &mut Unit<'_>, entries: &[Entry]) -> Result<()> {
    if may_be_several(entries) {
        unit.tx.hold(SEVERAL).await?;
    }
    Ok(())
}

/// Told by what they say alone: two ways to name one person count as two people.
fn may_be_several(entries: &[Entry]) -> bool {
    let sent = entries.iter().filter_map(Entry::resource).filter(|resource| resource.kind() == "Patient");
    let with_url: HashMap<&str, &Resource> =
        entries.iter().filter_map(|e| Some((e.full_url.as_str(), e.resource()?))).collect();
    let mut named: HashSet<String> = sent.map(|patient| name_of(patient.value())).collect();
    for entry in entries {
        match entry.resource() {
            Some(resource) => {
                named.extend(subjects(resource.value()).map(|subject| name(subject, resource, &with_url)))
            }
            // What is changed or deleted by its id alone may be about anyone.
            None => drop(named.insert(format!("{}/{:?}", entry.kind, entry.id))),
        }
        if named.len() > 1 {
            return true;
        }
    }
    false
}

fn subjects(resource: &Value) -> impl Iterator<Item = &Value> {
    ABOUT.iter().filter_map(|element| resource.get(*element))
}

/// How a subject names its person.
fn name(subject: &Value, of: &Resource, sent: &HashMap<&str, &Resource>) -> String {
    let Some(reference) = path::text(subject, "reference") else {
        return path::text(subject, "identifier.value").unwrap_or_default().to_owned();
    };
    if let Some(patient) = sent.get(reference) {
        return name_of(patient.value());
    }
    let contained = of.all("contained").into_iter();
    let mut meant = contained.filter(|c| path::text(c, "id").is_some_and(|id| reference.strip_prefix('#') == Some(id)));
    meant.next().map_or_else(|| reference.to_owned(), name_of)
}

/// How a Patient names its person: by NHS number, else by all it says.
fn name_of(patient: &Value) -> String {
    let identifiers = patient.get("identifier").and_then(Value::as_array).into_iter().flatten();
    let mut numbers = identifiers.filter(|i| path::text(i, "system") == Some(NHS_NUMBER));
    let number = numbers.find_map(|i| path::text(i, "value"));
    number.map_or_else(|| patient.to_string(), str::to_owned)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workflow::Ask;

    fn entry(full_url: &str, resource: Value) -> Entry {
        let resource = Resource::from_value(resource).unwrap();
        Entry {
            full_url: full_url.to_owned(),
            kind: resource.kind().to_owned(),
            id: None,
            criteria: None,
            if_match: None,
            if_none_match: false,
            may_create: true,
            expression: String::new(),
            ask: Ask::Create(resource),
        }
    }

    #[test]
    fn a_person_who_is_named_in_one_way_is_one() {
        let number = |value: &str| json!({ "identifier": { "system": NHS_NUMBER, "value": value } });
        let about = |subject: Value| entry("", json!({ "resourceType": "Condition", "subject": subject }));
        let patient = |url: &str, value: &str| {
            entry(url, json!({ "resourceType": "Patient", "identifier": [number(value)["identifier"]] }))
        };
        let by_url = |url: &str| about(json!({ "reference": url }));
        let contained = entry(
            "",
            json!({ "resourceType": "ServiceRequest", "subject": { "reference": "#p" },
                "contained": [{ "resourceType": "Patient", "id": "p", "identifier": [number("1")["identifier"]] }] }),
        );
        let directory = || entry("", json!({ "resourceType": "Organization" }));
        let removed = Entry { ask: Ask::Delete, id: Some("7".to_owned()), ..directory() };
        for (several, entries) in [
            (false, vec![directory(), directory()]),
            (false, vec![patient("urn:a", "1"), by_url("urn:a"), about(number("1")), contained, directory()]),
            (false, vec![by_url("Patient/1"), by_url("Patient/1")]),
            (true, vec![by_url("Patient/1"), by_url("Patient/2")]),
            (true, vec![about(number("1")), about(number("2"))]),
            (true, vec![patient("urn:a", "1"), patient("urn:b", "2")]),
            (true, vec![by_url("Patient/1"), removed.clone()]),
            (false, vec![removed]),
        ] {
            assert_eq!(may_be_several(&entries), several, "{entries:?}");
        }
    }
}
