//! What leaves is valid R4, tried on HL7's own examples where they are at hand (`TEST_DATA`, else
//! `../shared/data` beside the repository).

use std::path::{Path, PathBuf};

use super::*;
use crate::fhir::check::check;
use crate::fhir::{Issue, Severity};

fn examples() -> Vec<Resource> {
    let folder = match std::env::var_os("TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    let Ok(files) = std::fs::read_dir(folder.join("hl7-r4-examples/json")) else { return Vec::new() };
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    let resources = files.flatten().filter_map(|f| Resource::from_value(read(f.path())?).ok());
    resources.filter(|r| writes_back(r) && r.id().is_some()).collect()
}

fn errors(resource: &Resource) -> Vec<Issue> {
    check(resource, 20).into_iter().filter(|i| i.severity == Severity::Error).collect()
}

#[test]
fn what_leaves_is_valid_r4_with_and_without_detail() {
    let mut all = examples();
    let handmade = [encounter(), observation(), goal(json!({ "text": "Walk to the library" }))];
    all.extend(handmade);
    let mut wrong = Vec::new();
    for resource in all.iter().filter(|r| errors(r).is_empty()) {
        for detail in [Detail::Full, Detail::CodedOnly] {
            let mut case = case();
            let subjects = resource.all("subject.reference").into_iter().chain(resource.all("patient.reference"));
            case.own_words.insert(resource.reference());
            case.person.extend(subjects.filter_map(Value::as_str).map(str::to_owned));
            for o in case.written(detail, &[resource]) {
                let errors = errors(&Resource::from_value(o.resource).unwrap());
                if !errors.is_empty() {
                    wrong.push(format!("{} {detail:?} {} {:?}", resource.reference(), o.key, errors));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{} of {}", wrong.join("\n"), wrong.len(), all.len());
}
