//! What the checker says of published examples, and of examples broken on purpose.

use std::collections::BTreeMap;
use std::path::PathBuf;

use livewell::fhir::check::{self, Profiles};
use livewell::fhir::{Issue, Resource};
use serde_json::{Value, json};

use crate::test_data;

const MAX: usize = 100;

fn resource(value: &Value) -> Resource {
    Resource::from_value(value.clone()).expect("an object with a resourceType")
}

fn is_resource(value: &Value) -> bool {
    value["resourceType"].is_string()
}

/// What base R4 finds wrong in the files of a folder, by file.
fn refused(folder: PathBuf) -> (usize, BTreeMap<String, Vec<Issue>>) {
    let files = test_data::json_files(&folder);
    let all = files.len();
    let checked =
        files.iter().filter(|(_, v)| is_resource(v)).map(|(n, v)| (n.clone(), check::check(&resource(v), MAX)));
    let refused: BTreeMap<_, _> = checked.filter(|(_, issues)| !issues.is_empty()).collect();
    eprintln!("{}: {} of {all} refused by base R4", folder.display(), refused.len());
    for (name, issues) in &refused {
        said(name, issues);
    }
    (all, refused)
}

fn said(name: &str, issues: &[Issue]) {
    for issue in issues {
        eprintln!("  {name}: {}: {}", issue.expression.as_deref().unwrap_or("-"), issue.text);
    }
}

#[test]
fn examples_published_by_hl7_are_valid_r4() {
    let Some(folder) = test_data::present("hl7-r4-examples/json") else { return };
    let (all, refused) = refused(folder);
    assert!(all > 100, "only {all} examples");
    // Its id has more than 64 characters.
    let wrong = ["questionnaireresponse-extensions-QuestionnaireResponse-item-subject"];
    assert_eq!(refused.keys().map(String::as_str).collect::<Vec<_>>(), wrong);
}

#[test]
fn examples_published_by_uk_core_are_valid_r4() {
    let Some(folder) = test_data::present("uk-core/examples-json-derived") else { return };
    let (all, refused) = refused(folder);
    assert!(all > 200, "only {all} examples");
    // The first has two value[x]; the second refers to "Organization/" and a URL.
    let wrong = ["Extension-UKCore-ConditionEpisode-Example", "UKCore-Provenance-RARecordConsent-Example"];
    assert_eq!(refused.keys().map(String::as_str).collect::<Vec<_>>(), wrong);
}

#[test]
fn national_messages_and_synthetic_records_are_valid_r4() {
    for below in ["uk-bars-ig", "uk-genomics-ig", "synthea", "gravity-sdohcc/stu2-json-mitre"] {
        let Some(folder) = test_data::present(below) else { continue };
        let (_, refused) = refused(folder);
        assert_eq!(refused.len(), 0, "{below}");
    }
}

fn uk_core() -> Option<(Profiles, Vec<Value>)> {
    let mut definitions = Vec::new();
    for kind in ["structuredefinitions", "valuesets", "codesystems"] {
        let folder = test_data::present(&format!("uk-core/{kind}-json-derived"))?;
        definitions.extend(test_data::json_files(&folder).into_iter().map(|(_, v)| v).filter(is_resource));
    }
    Some((Profiles::from_resources(definitions.iter().map(resource)), definitions))
}

/// UK Core's examples, each with the profile its name says.
fn examples_with_profile(definitions: &[Value]) -> Vec<(String, Value, &Value)> {
    let Some(folder) = test_data::present("uk-core/examples-json-derived") else { return Vec::new() };
    let profiles: Vec<&Value> = definitions.iter().filter(|d| d["kind"] == "resource").collect();
    let named = |name: &str, value: &Value| {
        let says =
            |p: &&&Value| name.starts_with(p["id"].as_str().unwrap_or("-")) && p["type"] == value["resourceType"];
        profiles.iter().filter(says).max_by_key(|p| p["id"].as_str().map_or(0, str::len)).copied()
    };
    let files = test_data::json_files(&folder).into_iter();
    files.filter_map(|(name, value)| named(&name, &value).map(|profile| (name, value, profile))).collect()
}

fn url(definition: &Value) -> &str {
    definition["url"].as_str().expect("a canonical")
}

#[test]
fn examples_published_by_uk_core_fit_the_profile_they_are_named_after() {
    let Some((profiles, definitions)) = uk_core() else { return };
    let examples = examples_with_profile(&definitions);
    let mut wrong = Vec::new();
    for (name, value, profile) in &examples {
        let issues = profiles.check(url(profile), &resource(value), MAX);
        said(name, &issues);
        wrong.extend((!issues.is_empty()).then_some(name));
    }
    eprintln!("UK Core: {} of {} examples refused by their profile", wrong.len(), examples.len());
    assert!(examples.len() > 130);
    assert_eq!(wrong, Vec::<&String>::new());
}
