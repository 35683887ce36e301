//! Whose work something is: the Live Well role of a PractitionerRole.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::when::Interval;
use crate::fhir::{Resource, path, profiles, systems};

/// What national job roles are at Live Well, from a ConceptMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMap {
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    system: String,
    code: String,
    role: String,
}

impl RoleMap {
    /// The embedded map: R9807 health-coach, R9815 link-worker, R9801 co-ordinator.
    pub fn embedded() -> RoleMap {
        let map = profiles::resource("ConceptMap", "job-role").expect("the map of job roles is embedded");
        RoleMap::from_resource(&map)
    }

    /// Reads a ConceptMap whose groups lead to the role system; other groups and rows without a target are left out.
    pub fn from_resource(concept_map: &Resource) -> RoleMap {
        let said = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut rows = Vec::new();
        for group in concept_map.all("group") {
            let Some(system) =
                said(group, "source").filter(|_| said(group, "target").as_deref() == Some(systems::ROLE))
            else {
                continue;
            };
            let elements = group.get("element").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            rows.extend(elements.iter().filter_map(|element| {
                let role = said(element.pointer("/target/0")?, "code")?;
                Some(Row { system: system.clone(), code: said(element, "code")?, role })
            }));
        }
        RoleMap { rows }
    }

    /// The roles of a PractitionerRole, each once. Where a `code` carries a local role, that is what it means and the
    /// national coding beside it adds nothing: the link worker for serious mental illness carries R9815 too.
    pub fn roles_of(&self, practitioner_role: &Resource) -> Vec<String> {
        let mut roles = Vec::new();
        for concept in practitioner_role.all("code") {
            let codings = concept.get("coding").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let local: Vec<&str> = codings.iter().filter_map(|coding| code_in(coding, systems::ROLE)).collect();
            let found = if local.is_empty() { self.mapped(codings) } else { local };
            for role in found {
                if !roles.iter().any(|known| known == role) {
                    roles.push(role.to_owned());
                }
            }
        }
        roles
    }

    fn mapped<'a>(&'a self, codings: &[Value]) -> Vec<&'a str> {
        let said = |row: &&Row| codings.iter().any(|coding| code_in(coding, &row.system) == Some(&row.code));
        self.rows.iter().filter(said).map(|row| row.role.as_str()).collect()
    }
}

/// Whether a PractitionerRole is of someone who has it now: it is not said to be inactive, and `now` is in its period.
pub fn is_active(practitioner_role: &Resource, now: DateTime<Utc>) -> bool {
    let (role, now) = (practitioner_role.value(), now.timestamp_micros());
    let period = role.get("period").and_then(Interval::of_element);
    role.get("active").and_then(Value::as_bool) != Some(false)
        && period.is_none_or(|period| period.low <= now && now < period.high)
}

/// The localities (Location ids) of a PractitionerRole. A place that cannot be told is kept as a place that nothing is
/// in: it must not turn into all places.
pub fn localities_of(practitioner_role: &Resource) -> Vec<String> {
    let id = |place: &Value| {
        let reference = path::text(place, "reference").unwrap_or_default();
        reference.rsplit_once("Location/").map_or("unknown", |(_, id)| id).to_owned()
    };
    practitioner_role.all("location").into_iter().map(id).collect()
}

fn code_in<'a>(coding: &'a Value, system: &str) -> Option<&'a str> {
    let in_system = coding.get("system").and_then(Value::as_str) == Some(system);
    coding.get("code").and_then(Value::as_str).filter(|_| in_system)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fhir::codes::CodeTable;

    fn roles(code: Value) -> Vec<String> {
        let role = Resource::from_value(json!({ "resourceType": "PractitionerRole", "code": code })).unwrap();
        RoleMap::embedded().roles_of(&role)
    }

    #[test]
    fn a_national_job_role_alone_is_mapped() {
        let codes = CodeTable::embedded();
        for (name, role) in [
            ("job-health-coach", "health-coach"),
            ("job-link-worker", "link-worker"),
            ("job-co-ordinator", "co-ordinator"),
        ] {
            assert_eq!(roles(json!([codes.concept(name)])), [role]);
        }
    }

    #[test]
    fn a_local_role_says_more_than_the_national_one_beside_it() {
        let national = CodeTable::embedded().coding("job-link-worker").unwrap();
        let local = json!({ "system": systems::ROLE, "code": "smi-link-worker" });
        assert_eq!(roles(json!([{ "coding": [national, local] }])), ["smi-link-worker"]);
        assert_eq!(roles(json!([{ "coding": [national] }, { "coding": [local] }])), ["link-worker", "smi-link-worker"]);
    }

    #[test]
    fn a_role_known_to_nobody_is_no_role() {
        assert_eq!(roles(json!([{ "coding": [{ "system": "https://x.example", "code": "health-coach" }] }])), [""; 0]);
        assert_eq!(roles(json!([{ "text": "health coach" }])), [""; 0]);
    }
}
