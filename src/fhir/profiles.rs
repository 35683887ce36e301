//! The conformance resources that come with the software: code systems, profiles, pathways, operations.

use super::Resource;

macro_rules! embed {
    ($($path:literal,)*) => {
        &[$(($path, include_str!(concat!("../../fhir-profiles/", $path)))),*]
    };
}

const EMBEDDED: &[(&str, &str)] = embed![
    "CodeSystem/activity.json",
    "CodeSystem/connection-type.json",
    "CodeSystem/delivery-state.json",
    "CodeSystem/entry-route.json",
    "CodeSystem/pam-cut-offs.json",
    "CodeSystem/referral-flag.json",
    "CodeSystem/role.json",
    "CodeSystem/task-code.json",
    "CodeSystem/task-input.json",
    "CodeSystem/task-outcome.json",
    "ValueSet/connection-type.json",
    "ValueSet/entry-route.json",
    "ValueSet/referral-flag.json",
    "ValueSet/role.json",
    "ValueSet/task-code.json",
    "ValueSet/task-input.json",
    "ValueSet/task-outcome.json",
    "StructureDefinition/LiveWell-CarePlan.json",
    "StructureDefinition/LiveWell-Consent.json",
    "StructureDefinition/LiveWell-Encounter.json",
    "StructureDefinition/LiveWell-EpisodeOfCare.json",
    "StructureDefinition/LiveWell-Goal.json",
    "StructureDefinition/LiveWell-PAMObservation.json",
    "StructureDefinition/LiveWell-Patient.json",
    "StructureDefinition/LiveWell-Referral.json",
    "StructureDefinition/LiveWell-Task.json",
    "StructureDefinition/pathway-closing-step.json",
    "StructureDefinition/pathway-closure.json",
    "StructureDefinition/pathway-input.json",
    "StructureDefinition/pathway-max-attempts.json",
    "StructureDefinition/pathway-pam-cut-offs.json",
    "StructureDefinition/pathway-session-limit.json",
    "StructureDefinition/pathway-urgent-timing.json",
    "StructureDefinition/pathway-when-exhausted.json",
    "PlanDefinition/llwir.json",
    "OperationDefinition/ServiceRequest-status.json",
    "OperationDefinition/Task-claim-next.json",
    "OperationDefinition/Task-claim.json",
    "OperationDefinition/Task-complete.json",
    "OperationDefinition/Task-release.json",
    "SearchParameter/Task-due.json",
    "SearchParameter/Task-location.json",
    "SearchParameter/Task-overdue.json",
];

/// Every embedded conformance resource: its path under `fhir-profiles/` and its text.
pub fn embedded() -> &'static [(&'static str, &'static str)] {
    EMBEDDED
}

/// Every embedded conformance resource, read.
pub fn resources() -> Vec<Resource> {
    EMBEDDED.iter().map(|(_, text)| read(text)).collect()
}

/// The embedded conformance resource with this type and id, e.g. `PlanDefinition`, `llwir`.
pub fn resource(kind: &str, id: &str) -> Option<Resource> {
    let path = format!("{kind}/{id}.json");
    EMBEDDED.iter().find(|(known, _)| *known == path).map(|(_, text)| read(text))
}

fn read(text: &str) -> Resource {
    let fields = serde_json::from_str(text).expect("embedded conformance resources are read by a test");
    Resource::from_value(fields).expect("embedded conformance resources are read by a test")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    #[test]
    fn what_lies_in_the_folder_is_embedded_and_nothing_else() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fhir-profiles");
        let mut found = BTreeSet::new();
        for folder in root.read_dir().unwrap().map(Result::unwrap) {
            let name = folder.file_name().into_string().unwrap();
            // Types that other parts of the software generate or load by themselves are theirs to list.
            if EMBEDDED.iter().all(|(path, _)| !path.starts_with(&format!("{name}/"))) {
                continue;
            }
            for file in folder.path().read_dir().unwrap().map(Result::unwrap) {
                found.insert(format!("{name}/{}", file.file_name().into_string().unwrap()));
            }
        }
        let listed: BTreeSet<String> = EMBEDDED.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(found, listed);
    }

    #[test]
    fn each_is_what_its_path_says_under_our_canonical_base() {
        for ((path, _), resource) in embedded().iter().zip(resources()) {
            let id = resource.id().unwrap();
            assert_eq!(*path, format!("{}/{id}.json", resource.kind()));
            assert_eq!(resource.text("url"), Some(&*format!("https://livewell.example/{}/{id}", resource.kind())));
            assert_eq!(resource.text("version"), Some("1.0.0"));
        }
    }

    #[test]
    fn every_local_code_and_profile_that_is_referred_to_exists() {
        let known: BTreeSet<String> = resources().iter().filter_map(|r| r.text("url").map(str::to_owned)).collect();
        for resource in resources() {
            visit(resource.value(), &mut |url| {
                let ours = ["CodeSystem", "ValueSet", "StructureDefinition", "PlanDefinition"]
                    .iter()
                    .any(|kind| url.starts_with(&format!("https://livewell.example/{kind}/")));
                let canonical = url.split(['#', '|']).next().unwrap_or_default();
                assert!(!ours || known.contains(canonical), "{} refers to {url}", resource.reference());
            });
        }
    }

    #[test]
    fn a_coding_in_a_local_system_uses_a_code_of_that_system() {
        for resource in resources() {
            codings(resource.value(), &mut |system, code| {
                let Some(id) = system.strip_prefix("https://livewell.example/CodeSystem/") else { return };
                let known = super::resource("CodeSystem", id).unwrap();
                assert!(
                    known.all("concept.code").iter().any(|c| c.as_str() == Some(code)),
                    "{}: {system}#{code}",
                    resource.reference()
                );
            });
        }
    }

    fn visit(value: &Value, see: &mut impl FnMut(&str)) {
        match value {
            Value::String(text) => see(text),
            Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
            Value::Object(fields) => fields.values().for_each(|field| visit(field, see)),
            _ => {}
        }
    }

    fn codings(value: &Value, see: &mut impl FnMut(&str, &str)) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| codings(item, see)),
            Value::Object(fields) => {
                if let (Some(system), Some(code)) =
                    (fields.get("system").and_then(Value::as_str), fields.get("code").and_then(Value::as_str))
                {
                    see(system, code);
                }
                fields.values().for_each(|field| codings(field, see));
            }
            _ => {}
        }
    }
}
