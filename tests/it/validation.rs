//! What the checker says of published examples, and of examples broken on purpose.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use livewell::fhir::check::{self, Profiles};
use livewell::fhir::{Issue, Resource, Severity};
use serde_json::Value;

use crate::broken_on_purpose::{
    Dice, broken_bindings, broken_elements, broken_extension_codes, broken_extensions, broken_slices, broken_targets,
    disturb, misplaced_extensions, strangers,
};
use crate::{oracle, test_data};

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

/// UK Core's definitions, read once.
fn uk_core() -> Option<&'static (Profiles, Vec<Value>)> {
    static UK_CORE: OnceLock<Option<(Profiles, Vec<Value>)>> = OnceLock::new();
    let read = || {
        let mut definitions = Vec::new();
        for kind in ["structuredefinitions", "valuesets", "codesystems"] {
            let folder = test_data::present(&format!("uk-core/{kind}-json-derived"))?;
            definitions.extend(test_data::json_files(&folder).into_iter().map(|(_, v)| v).filter(is_resource));
        }
        Some((Profiles::from_resources(definitions.iter().map(resource)), definitions))
    };
    UK_CORE.get_or_init(read).as_ref()
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
    let examples = examples_with_profile(definitions);
    let mut wrong = Vec::new();
    for (name, value, profile) in &examples {
        let mut issues = profiles.check(url(profile), &resource(value), MAX);
        said(name, &issues);
        issues.retain(|i| i.severity == Severity::Error);
        wrong.extend((!issues.is_empty()).then_some(name));
    }
    eprintln!("UK Core: {} of {} examples refused by their profile", wrong.len(), examples.len());
    assert!(examples.len() > 130);
    assert_eq!(wrong, Vec::<&String>::new());
}

/// The differential elements of a profile and of those it is based on.
fn rules<'a>(profile: &'a Value, definitions: &'a [Value]) -> Vec<&'a Value> {
    let mut rules = Vec::new();
    let mut next = Some(profile);
    while let Some(definition) = next {
        rules.extend(definition["differential"]["element"].as_array().into_iter().flatten());
        next = definitions.iter().find(|d| d["url"].is_string() && d["url"] == definition["baseDefinition"]);
    }
    rules
}

#[test]
fn every_example_broken_against_its_profile_is_refused() {
    let Some((profiles, definitions)) = uk_core() else { return };
    let (mut all, mut passed) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for (name, value, profile) in examples_with_profile(definitions) {
        let rules = rules(profile, definitions);
        for (kind, mutants) in [
            ("elements", broken_elements(&value, &rules)),
            ("slices", broken_slices(&value, &rules)),
            ("extensions", broken_extensions(&value, definitions)),
            ("bindings", broken_bindings(&value, &rules, profiles.terminology())),
            ("extension codes", broken_extension_codes(&value, definitions, profiles.terminology())),
            ("extensions misplaced", misplaced_extensions(&value, definitions)),
            ("targets", broken_targets(&value, &rules)),
            ("strangers", strangers(&value, &rules)),
        ] {
            for (how, mutant) in mutants {
                *all.entry(kind).or_default() += 1;
                let issues = profiles.check(url(profile), &resource(&mutant), MAX);
                if issues.iter().all(|issue| issue.severity != Severity::Error) {
                    passed.push(format!("{name}: {how}"));
                }
            }
        }
    }
    eprintln!("UK Core: of the broken examples {all:?}, not refused: {}", passed.len());
    passed.iter().for_each(|p| eprintln!("  {p}"));
    assert!(all.values().sum::<usize>() > 100);
    assert_eq!(passed, Vec::<String>::new());
}

#[test]
fn whatever_the_fhirkit_validator_refuses_is_refused_here() {
    let Some(folder) = test_data::present("uk-core/examples-json-derived") else { return };
    let examples: Vec<Value> = test_data::json_files(&folder).into_iter().map(|(_, v)| v).filter(is_resource).collect();
    let mut dice = Dice(20_260_101);
    let another = |example: &Value| {
        let mut copy = example.clone();
        disturb(&mut copy, &mut dice);
        is_resource(&copy).then_some(copy)
    };
    let disturbed: Vec<Value> = examples.iter().cycle().filter_map(another).take(3000).collect();
    let Some(theirs) = oracle::verdicts(&disturbed) else { return };
    let ours: Vec<Vec<Issue>> = disturbed.iter().map(|v| check::check(&resource(v), MAX)).collect();
    let count = |ours_refuses: bool, theirs_refuses: bool| {
        ours.iter().zip(&theirs).filter(|(o, t)| o.is_empty() != ours_refuses && (*t != "ok") == theirs_refuses).count()
    };
    eprintln!(
        "of {} disturbed: both refuse {}, both accept {}, only here {}, only fhirkit {}",
        disturbed.len(),
        count(true, true),
        count(false, false),
        count(true, false),
        count(false, true)
    );
    assert_eq!(theirs.len(), disturbed.len());
    let missed = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours.is_empty() && *theirs != "ok");
    let missed: Vec<&String> = missed.map(|(_, theirs)| theirs).collect();
    for (ours, _) in ours.iter().zip(&theirs).filter(|(o, t)| !o.is_empty() && *t == "ok") {
        said("only here", ours.get(..1).unwrap_or_default());
    }
    assert_eq!(missed, Vec::<&String>::new());
}

#[test]
fn whatever_is_sent_gets_an_answer_within_the_limit() {
    let Some((profiles, definitions)) = uk_core() else { return };
    let mut dice = Dice(7);
    for (_, mut value, profile) in examples_with_profile(definitions) {
        for _ in 0..20 {
            disturb(&mut value, &mut dice);
            if !is_resource(&value) {
                break;
            }
            let sent = resource(&value);
            for issues in [check::check(&sent, 5), profiles.check(url(profile), &sent, 5)] {
                assert!(issues.len() <= 5);
                assert!(issues.iter().all(|i| i.expression.is_some() && !i.text.is_empty()), "{issues:?}");
            }
        }
    }
}

#[test]
fn social_care_referrals_fit_the_profiles_they_claim() {
    let Some(folder) = test_data::present("gravity-sdohcc/definitions") else { return };
    let Some(examples) = test_data::present("gravity-sdohcc/stu2-json-mitre") else { return };
    let definitions = test_data::json_files(&folder).into_iter().map(|(_, v)| v).filter(is_resource);
    let profiles = Profiles::from_resources(definitions.map(|d| resource(&d)));
    let (mut all, mut wrong) = (0, Vec::new());
    for (name, value) in test_data::json_files(&examples).into_iter().filter(|(_, v)| is_resource(v)) {
        for claimed in value["meta"]["profile"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if profiles.knows(claimed) {
                all += 1;
                let mut issues = profiles.check(claimed, &resource(&value), MAX);
                issues.retain(|i| i.severity == Severity::Error);
                said(&format!("{name} as {claimed}"), &issues);
                wrong.extend((!issues.is_empty()).then(|| name.clone()));
            }
        }
    }
    eprintln!("Gravity: {} of {all} examples refused by the profile they claim", wrong.len());
    // Both break the newer definitions: a Reference where a concept is asked for, a Quantity without a code.
    let breaking = [
        "Group-SDOHCC-GroupSDOHPatientsForPayerExample",
        "Observation-SDOHCC-ObservationResponseNHANESQuestion6Example",
    ];
    assert_eq!(wrong, breaking);
}
