//! The conformance resources that come with the software: code systems, profiles, pathways, operations.

use super::Resource;

macro_rules! embed {
    ($($path:literal,)*) => {
        &[$(($path, include_str!(concat!("../../fhir-profiles/", $path)))),*]
    };
}

const EMBEDDED: &[(&str, &str)] = embed![
    "Basic/record-added.json",
    "Basic/referral-received.json",
    "Basic/referral-status-changed.json",
    "Basic/task-changed.json",
    "CodeSystem/activity.json",
    "CodeSystem/audited-interaction.json",
    "CodeSystem/connection-type.json",
    "CodeSystem/message-event.json",
    "CodeSystem/delivery-state.json",
    "CodeSystem/entry-route.json",
    "CodeSystem/pam-cut-offs.json",
    "CodeSystem/referral-flag.json",
    "CodeSystem/role.json",
    "CodeSystem/task-code.json",
    "CodeSystem/task-input.json",
    "CodeSystem/task-outcome.json",
    "ConceptMap/job-role.json",
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
    "StructureDefinition/webhook-secret.json",
    "PlanDefinition/llwir.json",
    "OperationDefinition/ServiceRequest-deliveries.json",
    "OperationDefinition/ServiceRequest-status.json",
    "OperationDefinition/Subscription-new-secret.json",
    "OperationDefinition/Task-claim-next.json",
    "OperationDefinition/Task-claim.json",
    "OperationDefinition/Task-complete.json",
    "OperationDefinition/Task-release.json",
    "SearchParameter/Task-due.json",
    "SearchParameter/Task-location.json",
    "SearchParameter/Task-overdue.json",
];

/// The base of our canonicals.
const BASE: &str = "https://livewell.example";

/// Our profiles that are for every resource of a type, whoever sends it. The others (a Task of the queue, an Encounter
/// with us, a PAM score) are for what claims them: a referral brings resources of these types along that are none.
pub const CHECKED: [(&str, &str); 5] = [
    ("CarePlan", "LiveWell-CarePlan"),
    ("Consent", "LiveWell-Consent"),
    ("Goal", "LiveWell-Goal"),
    ("Patient", "LiveWell-Patient"),
    ("ServiceRequest", "LiveWell-Referral"),
];

/// The canonical of our profile with this id.
pub fn canonical(id: &str) -> String {
    format!("{BASE}/StructureDefinition/{id}")
}

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
            // In R4 a topic is a Basic, which has neither element: its extensions say them.
            if resource.kind() == "Basic" {
                continue;
            }
            assert_eq!(resource.text("url"), Some(&*format!("https://livewell.example/{}/{id}", resource.kind())));
            assert_eq!(resource.text("version"), Some("1.0.0"));
        }
    }

    #[test]
    fn a_type_is_checked_by_a_profile_of_it() {
        for (kind, id) in CHECKED {
            let profile = resource("StructureDefinition", id).unwrap();
            assert_eq!((profile.text("type"), profile.text("url")), (Some(kind), Some(&*canonical(id))));
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

    #[test]
    fn the_demo_directory_holds_all_it_refers_to_and_only_test_organisations() {
        let bundle: Value = serde_json::from_str(include_str!("../../fhir-profiles/demo/directory.json")).unwrap();
        let bundle = Resource::from_value(bundle).unwrap();
        let held: BTreeSet<String> =
            bundle.all("entry.request.url").iter().filter_map(|url| url.as_str().map(str::to_owned)).collect();
        for entry in bundle.all("entry.resource") {
            let resource = Resource::from_value(entry.clone()).unwrap();
            assert!(held.contains(&resource.reference()));
            assert!(resource.identifier(crate::fhir::systems::ODS).is_none_or(|ods| ods.starts_with("TEST")));
            references(entry, &mut |reference| assert!(held.contains(reference), "{reference}"));
        }
        let count = |kind: &str| held.iter().filter(|url| url.starts_with(&format!("{kind}/"))).count();
        assert_eq!((count("Location"), count("OrganizationAffiliation"), count("Organization")), (3, 3, 5));
    }

    #[test]
    fn the_national_job_roles_are_those_of_the_code_table() {
        let map = resource("ConceptMap", "job-role").unwrap();
        for (name, role) in [
            ("job-health-coach", "health-coach"),
            ("job-link-worker", "link-worker"),
            ("job-co-ordinator", "co-ordinator"),
        ] {
            let code = crate::fhir::codes::CodeTable::embedded().code(name).unwrap();
            assert_eq!(map.text("group.source"), Some(&*code.system));
            let element = map.all("group.element").into_iter().find(|e| e["code"] == code.code.as_str()).unwrap();
            assert_eq!(element["target"][0]["code"], role);
        }
    }

    fn references(value: &Value, see: &mut impl FnMut(&str)) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| references(item, see)),
            Value::Object(fields) => {
                fields.get("reference").and_then(Value::as_str).into_iter().for_each(&mut *see);
                fields.values().for_each(|field| references(field, see));
            }
            _ => {}
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
