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

/// Calls `act` on every object at a path of element names.
fn at_path(value: &mut Value, path: &[&str], act: &mut impl FnMut(&mut Value)) {
    match (value, path.split_first()) {
        (Value::Array(items), _) => items.iter_mut().for_each(|item| at_path(item, path, act)),
        (value, None) => act(value),
        (value, Some((step, rest))) => {
            if let Some(child) = value.get_mut(*step) {
                at_path(child, rest, act);
            }
        }
    }
}

/// A copy with something changed; nothing where the change found nothing to change.
fn changed(value: &Value, change: impl FnOnce(&mut Value)) -> Option<Value> {
    let mut copy = value.clone();
    change(&mut copy);
    (copy != *value).then_some(copy)
}

/// Broken in one way each, by what the profile says of elements that are no slices.
fn broken_elements(value: &Value, rules: &[&Value]) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for rule in rules {
        let id = rule["id"].as_str().expect("an id");
        let Some((_, below)) = id.split_once('.').filter(|_| !id.contains([':', '['])) else { continue };
        let path: Vec<&str> = below.split('.').collect();
        let (last, before) = path.split_last().expect("at least one step");
        let on_holder = |act: &dyn Fn(&mut Value)| changed(value, |v| at_path(v, before, &mut |holder| act(holder)));
        let mut add = |what: &str, mutant: Option<Value>| broken.extend(mutant.map(|m| (format!("{what} {id}"), m)));
        if rule["min"].as_u64().is_some_and(|min| min > 0) {
            add(
                "without",
                on_holder(&|holder| {
                    let fields = holder.as_object_mut().expect("an object");
                    fields.remove(*last);
                    fields.remove(&format!("_{last}"));
                }),
            );
        }
        if rule["max"] == "1" {
            add(
                "doubled",
                on_holder(&|holder| {
                    if let Some(Value::Array(items)) = holder.get_mut(*last) {
                        items.extend(items.first().cloned());
                    }
                }),
            );
        }
        if rule["max"] == "0" {
            add(
                "with",
                on_holder(&|holder| {
                    holder.as_object_mut().expect("an object").insert((*last).to_owned(), json!(["x"]));
                }),
            );
        }
        if rule.as_object().expect("an object").keys().any(|k| k.starts_with("fixed")) {
            add(
                "other value at",
                on_holder(&|holder| {
                    if let Some(text @ Value::String(_)) = holder.get_mut(*last) {
                        *text = json!("https://example.org/another");
                    }
                }),
            );
        }
    }
    broken
}

/// Broken in the slices: one doubled that may be there once, one without an element it requires.
fn broken_slices(value: &Value, rules: &[&Value]) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for slice in rules.iter().filter(|r| r["sliceName"].is_string()) {
        let id = slice["id"].as_str().expect("an id");
        let Some((_, below)) = id.split_once('.').filter(|_| id.matches(':').count() == 1) else { continue };
        let path: Vec<&str> = below.split('.').map(|s| s.split(':').next().expect("a name")).collect();
        let (last, before) = path.split_last().expect("at least one step");
        let below_slice =
            |r: &&&Value| r["id"].as_str().is_some_and(|i| i.strip_prefix(id).is_some_and(|i| i.starts_with('.')));
        let children: Vec<(&str, &Value)> =
            rules.iter().filter(below_slice).map(|r| (&r["id"].as_str().expect("an id")[id.len() + 1..], *r)).collect();
        let fixed =
            children.iter().find_map(|(name, r)| Some((*name, r.get("fixedUri").or_else(|| r.get("fixedCode"))?)));
        let url = slice["type"][0]["profile"][0].as_str().map(|url| ("url", json!(url)));
        let Some((by, wanted)) = url.or_else(|| fixed.map(|(name, v)| (name, v.clone()))) else { continue };
        let belongs = |item: &Value| item.pointer(&format!("/{}", by.replace('.', "/"))) == Some(&wanted);
        if slice["max"] == "1" {
            let mutant = changed(value, |v| {
                at_path(v, before, &mut |holder| {
                    if let Some(Value::Array(items)) = holder.get_mut(*last) {
                        items.extend(items.iter().find(|i| belongs(i)).cloned());
                    }
                });
            });
            broken.extend(mutant.map(|m| (format!("doubled {id}"), m)));
        }
        if slice["min"].as_u64().is_some_and(|min| min > 0) {
            let mutant = changed(value, |v| {
                at_path(v, before, &mut |holder| {
                    if let Some(Value::Array(items)) = holder.get_mut(*last) {
                        items.retain(|i| !belongs(i));
                    }
                });
            });
            broken.extend(mutant.map(|m| (format!("without {id}"), m)));
        }
        for (name, child) in children.iter().filter(|(name, r)| *name != by && r["min"].as_u64().is_some_and(|m| m > 0))
        {
            let mutant = changed(value, |v| {
                at_path(v, &path, &mut |item| {
                    if belongs(item) {
                        item.as_object_mut().expect("an object").remove(*name);
                    }
                });
            });
            broken.extend(mutant.map(|m| (format!("without {}", child["id"]), m)));
        }
    }
    broken
}

/// Broken in the extensions: another type of value, no value, a code of no system.
fn broken_extensions(value: &Value, definitions: &[Value]) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for definition in definitions.iter().filter(|d| d["type"] == "Extension") {
        let rules: Vec<&Value> = definition["differential"]["element"].as_array().into_iter().flatten().collect();
        let Some(rule) = rules.iter().find(|r| r["id"] == "Extension.value[x]") else { continue };
        let mut add = |what: &str, act: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mutant = changed(value, |v| each_extension(v, url(definition), act));
            broken.extend(mutant.map(|m| (format!("{what} {}", url(definition)), m)));
        };
        if rule["type"].is_array() {
            add("value of another type in", &|e| {
                e.retain(|k, _| !k.starts_with("value"));
                e.insert("valueBase64Binary".to_owned(), json!("AAAA"));
            });
        }
        if rule["min"].as_u64().is_some_and(|min| min > 0) {
            add("no value in", &|e| e.retain(|k, _| !k.starts_with("value")));
        }
    }
    broken
}

fn each_extension(value: &mut Value, url: &str, act: &dyn Fn(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_extension(item, url, act)),
        Value::Object(fields) => {
            if fields.get("url").and_then(Value::as_str) == Some(url) {
                act(fields);
            }
            fields.values_mut().for_each(|v| each_extension(v, url, act));
        }
        _ => {}
    }
}

#[test]
fn every_example_broken_against_its_profile_is_refused() {
    let Some((profiles, definitions)) = uk_core() else { return };
    let (mut all, mut passed) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for (name, value, profile) in examples_with_profile(&definitions) {
        let rules = rules(profile, &definitions);
        for (kind, mutants) in [
            ("elements", broken_elements(&value, &rules)),
            ("slices", broken_slices(&value, &rules)),
            ("extensions", broken_extensions(&value, &definitions)),
        ] {
            for (how, mutant) in mutants {
                *all.entry(kind).or_default() += 1;
                if profiles.check(url(profile), &resource(&mutant), MAX).is_empty() {
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
