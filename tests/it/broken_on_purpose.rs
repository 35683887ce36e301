//! Copies of resources with something wrong in them.

use livewell::fhir::terminology::Terminology;
use serde_json::{Value, json};

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
pub(crate) fn broken_elements(value: &Value, rules: &[&Value]) -> Vec<(String, Value)> {
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
pub(crate) fn broken_slices(value: &Value, rules: &[&Value]) -> Vec<(String, Value)> {
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
pub(crate) fn broken_extensions(value: &Value, definitions: &[Value]) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for definition in definitions.iter().filter(|d| d["type"] == "Extension") {
        let rules: Vec<&Value> = definition["differential"]["element"].as_array().into_iter().flatten().collect();
        let Some(rule) = rules.iter().find(|r| r["id"] == "Extension.value[x]") else { continue };
        let mut add = |what: &str, act: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mutant = changed(value, |v| each_extension(v, definition["url"].as_str().expect("a canonical"), act));
            broken.extend(mutant.map(|m| (format!("{what} {}", definition["url"].as_str().expect("a canonical")), m)));
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

/// A code that no value set has.
const NO_CODE: &str = "no-such-code";

/// Puts a code of no value set wherever a coded value has one.
fn miscode(value: &mut Value) {
    match value {
        Value::String(code) => *code = NO_CODE.to_owned(),
        Value::Array(items) => items.iter_mut().for_each(miscode),
        Value::Object(fields) => match fields.get_mut("coding") {
            Some(codings) => miscode(codings),
            None => drop(fields.insert("code".to_owned(), json!(NO_CODE))),
        },
        _ => {}
    }
}

/// The value set of a required binding that can be listed, so that a wrong code is known to be one.
fn listable<'r>(rule: &'r Value, terminology: &Terminology) -> Option<&'r str> {
    let binding = &rule["binding"];
    let set = binding["valueSet"].as_str().filter(|_| binding["strength"] == "required")?;
    terminology.expand(set.split('|').next().unwrap_or(set)).is_ok().then_some(set)
}

/// Broken in the codes: one that is not in the value set that the profile requires.
pub(crate) fn broken_bindings(value: &Value, rules: &[&Value], terminology: &Terminology) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for rule in rules.iter().filter(|rule| listable(rule, terminology).is_some()) {
        let id = rule["id"].as_str().expect("an id");
        let Some((_, below)) = id.split_once('.').filter(|_| !id.contains([':', '['])) else { continue };
        let path: Vec<&str> = below.split('.').collect();
        broken
            .extend(changed(value, |v| at_path(v, &path, &mut miscode)).map(|m| (format!("another code at {id}"), m)));
    }
    broken
}

/// Broken in the codes of extensions: one that is not in the value set that the definition requires.
pub(crate) fn broken_extension_codes(
    value: &Value,
    definitions: &[Value],
    terminology: &Terminology,
) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for definition in definitions.iter().filter(|d| d["type"] == "Extension") {
        let rules = definition["differential"]["element"].as_array().into_iter().flatten();
        let mut value_rules = rules.filter(|r| r["id"] == "Extension.value[x]");
        if !value_rules.any(|rule| listable(rule, terminology).is_some()) {
            continue;
        }
        let url = definition["url"].as_str().expect("a canonical");
        let coded = |e: &mut serde_json::Map<String, Value>| {
            for kind in ["valueCode", "valueCoding", "valueCodeableConcept"] {
                e.get_mut(kind).into_iter().for_each(miscode);
            }
        };
        broken
            .extend(changed(value, |v| each_extension(v, url, &coded)).map(|m| (format!("another code in {url}"), m)));
    }
    broken
}

/// Broken in where an extension is: one of the resource alone, put on its meta.
pub(crate) fn misplaced_extensions(value: &Value, definitions: &[Value]) -> Vec<(String, Value)> {
    let of_resource = |url: &Value| {
        let contexts = definitions.iter().find(|d| d["url"] == *url).map(|d| &d["context"]);
        let contexts = contexts.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        contexts.iter().any(|c| c["expression"] == value["resourceType"])
            && contexts.iter().all(|c| {
                c["type"] == "element" && c["expression"].as_str().is_some_and(|e| e != "Resource" && e != "Element")
            })
    };
    let extensions = value["extension"].as_array().map(Vec::as_slice).unwrap_or_default();
    let misplaced = extensions.iter().filter(|e| of_resource(&e["url"])).map(|extension| {
        let mut mutant = value.clone();
        mutant["meta"]["extension"] = json!([extension]);
        (format!("{} on meta", extension["url"]), mutant)
    });
    misplaced.collect()
}

/// Broken in what a reference points to: a type that the profile does not name.
pub(crate) fn broken_targets(value: &Value, rules: &[&Value]) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for rule in rules {
        let id = rule["id"].as_str().expect("an id");
        let types = rule["type"].as_array().map(Vec::as_slice).unwrap_or_default();
        let narrowed = !types.is_empty()
            && types.iter().all(|t| {
                let targets = t["targetProfile"].as_array().map(Vec::as_slice).unwrap_or_default();
                let any = targets.iter().any(|t| t.as_str().is_some_and(|t| t.ends_with("/Resource")));
                t["code"] == "Reference" && !targets.is_empty() && !any
            });
        let Some((_, below)) = id.split_once('.').filter(|_| narrowed && !id.contains([':', '['])) else { continue };
        let path: Vec<&str> = below.split('.').collect();
        let mutant = changed(value, |v| {
            at_path(v, &path, &mut |reference| reference["reference"] = json!("Linkage/1"));
        });
        broken.extend(mutant.map(|m| (format!("another target at {id}"), m)));
    }
    broken
}

/// Broken in a closed list: something in it that is none of its slices.
pub(crate) fn strangers(value: &Value, rules: &[&Value]) -> Vec<(String, Value)> {
    let mut broken = Vec::new();
    for rule in rules.iter().filter(|rule| rule["slicing"]["rules"] == "closed") {
        let id = rule["id"].as_str().expect("an id");
        let Some((_, below)) = id.split_once('.').filter(|_| !id.contains([':', '['])) else { continue };
        let path: Vec<&str> = below.split('.').collect();
        let (last, before) = path.split_last().expect("at least one step");
        let mutant = changed(value, |v| {
            at_path(v, before, &mut |holder| {
                if let Some(Value::Array(items)) = holder.get_mut(*last) {
                    items.push(
                        json!({ "url": "https://example.org/stranger", "system": "https://example.org/stranger" }),
                    );
                }
            });
        });
        broken.extend(mutant.map(|m| (format!("a stranger in {id}"), m)));
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

/// Random numbers that are the same in every run (xorshift).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides.max(1)).expect("fits")).expect("fits")
    }
}

/// Changes one thing somewhere in a resource: removes, renames, wraps, unwraps, doubles, empties or replaces it.
pub(crate) fn disturb(value: &mut Value, dice: &mut Dice) {
    let inner = match value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if inner > 0 && dice.below(4) > 0 {
        let at = dice.below(inner);
        return match value {
            Value::Object(fields) => match (fields.keys().nth(at).cloned(), dice.below(8)) {
                (Some(key), _) if key == "resourceType" => {}
                (Some(key), 0) => drop(fields.remove(&key)),
                (Some(key), 1) => {
                    let moved = fields.remove(&key).unwrap_or_default();
                    fields.insert(format!("{key}X"), moved);
                }
                (Some(key), _) => disturb(&mut fields[&key], dice),
                (None, _) => {}
            },
            Value::Array(items) => disturb(&mut items[at], dice),
            _ => {}
        };
    }
    *value = match dice.below(10) {
        0 => json!([value.take()]),
        1 => json!({}),
        2 => json!([]),
        3 => json!(7),
        4 => json!(""),
        5 => json!("not a date"),
        6 => Value::Null,
        7 => json!(true),
        8 => json!({ "extension": [{ "url": "https://example.org/x", "valueString": "y" }] }),
        _ => json!({ "value": value.take() }),
    };
}
