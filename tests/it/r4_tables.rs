//! The tables in `fhir-profiles/r4/` are what the official R4 package says.
//!
//! `TEST_WRITE_TABLES=1 cargo test --test it r4_tables` writes them anew from `hl7.fhir.r4.core.tgz` (CC0).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use livewell::fhir::{Resource, check};
use serde_json::Value;

use crate::test_data;

const ORIGIN: &str = "\
# Generated from hl7.fhir.r4.core 4.0.1 (https://hl7.org/fhir/R4), published by HL7 under CC0 (public domain).
# Made and compared by tests/it/r4_tables.rs; do not edit.
";

/// The definitions of the package, by file name.
type Package = BTreeMap<String, Value>;

#[test]
fn the_r4_tables_are_what_the_definitions_say() {
    let Some(tgz) = test_data::present("r4-definitions/hl7.fhir.r4.core.tgz") else { return };
    let package = read_package(&tgz);
    for (name, made) in [
        ("structure.txt", structure(&package)),
        ("search-parameters.txt", search_parameters(&package)),
        ("summary.txt", summary(&package)),
    ] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("fhir-profiles/r4").join(name);
        if std::env::var_os("TEST_WRITE_TABLES").is_some() {
            fs::create_dir_all(shipped.parent().expect("a folder")).expect("the folder can be made");
            fs::write(&shipped, &made).expect("the table can be written");
        }
        let shipped = fs::read_to_string(&shipped).unwrap_or_default();
        let differs = made.lines().zip(shipped.lines()).find(|(m, s)| m != s);
        assert_eq!(differs, None, "{name} differs from the definitions (left: what they say)");
        assert_eq!(made.len(), shipped.len(), "{name} is not whole");
    }
}

#[test]
fn the_official_definitions_are_valid_r4() {
    let Some(tgz) = test_data::present("r4-definitions/hl7.fhir.r4.core.tgz") else { return };
    let package = read_package(&tgz);
    let issues_of =
        |definition: &Value| check::check(&Resource::from_value(definition.clone()).expect("a resource"), 100);
    let mut refused: Vec<&str> = Vec::new();
    for (name, definition) in &package {
        let issues = issues_of(definition);
        // Some parameters on extensions are published without the base that R4 requires.
        if !issues.is_empty() && issues.iter().any(|i| i.expression.as_deref() != Some("SearchParameter.base")) {
            refused.push(name);
        }
    }
    eprintln!("{} of {} official definitions refused", refused.len(), package.len());
    // Codes with a no-break space at the end; an id of more than 64 characters.
    let wrong = [
        "CodeSystem-v2-0550.json",
        "SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject.json",
    ];
    assert_eq!(refused, wrong);
}

pub(crate) fn read_package(tgz: &Path) -> Package {
    let unzipped = flate2::read::GzDecoder::new(File::open(tgz).expect("the package opens"));
    let mut archive = tar::Archive::new(unzipped);
    let mut package = Package::new();
    for entry in archive.entries().expect("a tar archive") {
        let mut entry = entry.expect("a tar entry");
        let name = entry.path().expect("a file name").to_string_lossy().into_owned();
        let Some(name) = name.strip_prefix("package/").map(str::to_owned) else { continue };
        let wanted = ["StructureDefinition-", "ValueSet-", "CodeSystem-", "SearchParameter-", "CompartmentDefinition-"];
        if wanted.iter().any(|w| name.starts_with(w)) {
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("UTF-8");
            package.insert(name, serde_json::from_str(&text).expect("JSON"));
        }
    }
    package
}

pub(crate) fn of_kind<'a>(package: &'a Package, kind: &str) -> impl Iterator<Item = &'a Value> {
    let prefix = format!("{kind}-");
    package.iter().filter(move |(name, _)| name.starts_with(&prefix)).map(|(_, v)| v)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn tail(canonical: &str) -> &str {
    canonical.rsplit('/').next().unwrap_or_default()
}

/// Kind, base and element lines of each type, by its name.
type Types<'a> = BTreeMap<&'a str, (&'a str, &'a str, Vec<(&'a str, String)>)>;

fn structure(package: &Package) -> String {
    let mut types = Types::new();
    let mut bound = BTreeSet::new();
    for definition in of_kind(package, "StructureDefinition").filter(|d| defines_a_type(d)) {
        let name = text(definition, "type");
        let kind = text(definition, "kind").split('-').next().unwrap_or_default();
        types.insert(name, (kind, tail(text(definition, "baseDefinition")), Vec::new()));
        if kind == "primitive" {
            continue;
        }
        let elements = &list(&definition["snapshot"], "element")[1..];
        for element in elements.iter().filter(|e| text(e, "max") != "0") {
            let path = text(element, "path");
            let (parent, child) = path.rsplit_once('.').expect("an element below the root");
            let own_content =
                elements.iter().any(|e| text(e, "path").strip_prefix(path).is_some_and(|p| p.starts_with('.')));
            if own_content {
                types.insert(path, ("backbone", text(&element["type"][0], "code"), Vec::new()));
            }
            let mut line = element_line(child, element, own_content.then_some(path), &mut bound);
            if kind == "resource" && parent == name && child == "id" {
                // The package calls Resource.id a string, which would let any text be an id.
                line = line.replace(" string", " id");
            }
            types.get_mut(parent).expect("a parent before its children").2.push((child, line));
        }
    }

    let mut out = format!(
        "{ORIGIN}\
# A type: `Name kind base`; below it, indented, the elements it adds to its base or changes: `name cardinality types =value-set`.
# Cardinality: ? 0..1, 1 1..1, * 0..*, + 1..*. `value[x]`: one of the types. `Reference(A,B)`: what it may point to.
# A required value set: `=name canonical`; below it, indented and parted by tabs, a system and its codes. None: only the shape can be checked.
"
    );
    for (name, (kind, base, lines)) in &types {
        writeln!(out, "{name} {kind} {}", if base.is_empty() { "-" } else { base }).expect("a string takes it");
        for (child, line) in lines {
            if !inherited(&types, base, child, line) {
                writeln!(out, " {line}").expect("a string takes it");
            }
        }
    }
    value_set_lines(package, &bound, &mut out);
    out
}

/// A line for each resource type: the elements that a summary has.
fn summary(package: &Package) -> String {
    let mut lines = Vec::new();
    for definition in of_kind(package, "StructureDefinition").filter(|d| defines_a_type(d)) {
        if text(definition, "kind") != "resource" || definition["abstract"] == true {
            continue;
        }
        let kind = text(definition, "type");
        let marked = list(&definition["snapshot"], "element").iter().filter(|e| e["isSummary"] == true);
        let paths = marked.filter_map(|e| text(e, "path").strip_prefix(&format!("{kind}.")));
        let paths: Vec<String> = paths
            .map(|path| path.replace("[x]", ""))
            .filter(|path| !["id", "meta", "implicitRules"].contains(&path.as_str()))
            .collect();
        let whole =
            |path: &&String| path.match_indices('.').all(|(at, _)| paths.iter().any(|parent| *parent == path[..at]));
        let kept: Vec<&str> = paths.iter().filter(whole).map(String::as_str).collect();
        lines.push(format!("{kind} {}", kept.join(" ")));
    }
    lines.sort();
    format!(
        "{ORIGIN}\
# The elements of each resource type that a summary has (ElementDefinition.isSummary), beside id, meta and implicitRules.
# Those of an element that the type defines itself stand with its path; of one without, a summary has all. A choice stands without [x].
{}
",
        lines.join("\n")
    )
}

/// Resources, datatypes and their abstract bases: not profiles, not logical models.
fn defines_a_type(definition: &Value) -> bool {
    text(definition, "kind") != "logical" && text(definition, "derivation") != "constraint"
}

fn inherited(types: &Types<'_>, base: &str, child: &str, line: &str) -> bool {
    let Some((_, further, lines)) = types.get(base) else { return false };
    match lines.iter().find(|(name, _)| *name == child) {
        Some((_, theirs)) => theirs == line,
        None => inherited(types, further, child, line),
    }
}

fn element_line(child: &str, element: &Value, backbone: Option<&str>, bound: &mut BTreeSet<String>) -> String {
    let many = text(&element["base"], "max") != "1";
    let cardinality = match (element["min"].as_u64().expect("a minimum"), many) {
        (0, false) => "?",
        (1, false) => "1",
        (0, true) => "*",
        (1, true) => "+",
        _ => panic!("{child}: a cardinality the table has no sign for"),
    };
    let types = match (backbone, element["contentReference"].as_str()) {
        (Some(path), _) => path.to_owned(),
        (_, Some(content)) => content.trim_start_matches('#').to_owned(),
        _ => list(element, "type").iter().map(type_name).collect::<Vec<_>>().join("|"),
    };
    let mut line = format!("{child} {cardinality} {types}");
    let binding = &element["binding"];
    if text(binding, "strength") == "required" {
        let canonical = text(binding, "valueSet").split('|').next().unwrap_or_default();
        write!(line, " ={}", tail(canonical)).expect("a string takes it");
        bound.insert(canonical.to_owned());
    }
    line
}

fn type_name(element_type: &Value) -> String {
    let code = text(element_type, "code");
    if code.starts_with("http://hl7.org/fhirpath/") {
        let said =
            list(element_type, "extension").iter().find(|e| text(e, "url").ends_with("structuredefinition-fhir-type"));
        return said.map_or("string", |e| text(e, "valueUrl")).to_owned();
    }
    let mut targets: Vec<&str> =
        list(element_type, "targetProfile").iter().filter_map(Value::as_str).map(tail).collect();
    targets.sort_unstable();
    match code {
        "Reference" if !targets.is_empty() && targets != ["Resource"] => format!("Reference({})", targets.join(",")),
        _ => code.to_owned(),
    }
}

fn value_set_lines(package: &Package, bound: &BTreeSet<String>, out: &mut String) {
    let sets: BTreeMap<&str, &Value> = of_kind(package, "ValueSet").map(|v| (text(v, "url"), v)).collect();
    let systems: BTreeMap<&str, &Value> = of_kind(package, "CodeSystem").map(|v| (text(v, "url"), v)).collect();
    for canonical in bound {
        writeln!(out, "={} {canonical}", tail(canonical)).expect("a string takes it");
        let Some(set) = sets.get(canonical.as_str()) else { continue };
        let included: Option<Vec<_>> = list(&set["compose"], "include").iter().map(|i| included(&systems, i)).collect();
        let Some(included) = included else { continue };
        for (system, codes) in included {
            writeln!(out, " {system}\t{}", codes.into_iter().collect::<Vec<_>>().join("\t"))
                .expect("a string takes it");
        }
    }
}

/// What one include of a value set lists; nothing where it cannot be listed from the package.
fn included<'a>(systems: &BTreeMap<&str, &'a Value>, include: &'a Value) -> Option<(&'a str, BTreeSet<&'a str>)> {
    if include.get("filter").is_some() || include.get("valueSet").is_some() {
        return None;
    }
    let system = text(include, "system");
    let mut codes = BTreeSet::new();
    match include.get("concept") {
        Some(_) => codes.extend(list(include, "concept").iter().map(|c| text(c, "code"))),
        None => {
            let definition = systems.get(system).filter(|s| text(s, "content") == "complete")?;
            gather_codes(list(definition, "concept"), &mut codes);
        }
    }
    Some((system, codes))
}

fn gather_codes<'a>(concepts: &'a [Value], codes: &mut BTreeSet<&'a str>) {
    for concept in concepts {
        codes.insert(text(concept, "code"));
        gather_codes(list(concept, "concept"), codes);
    }
}

fn search_parameters(package: &Package) -> String {
    let mut of_base: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for parameter in of_kind(package, "SearchParameter").filter(|p| is_of_r4(p)) {
        let expression = text(parameter, "expression").split_whitespace().collect::<Vec<_>>().join(" ");
        for base in list(parameter, "base").iter().filter_map(Value::as_str) {
            let (code, kind) = (text(parameter, "code"), text(parameter, "type"));
            let mut line = [code, kind, &targets(parameter), &of_this_base(&expression, base)].join("\t");
            if kind == "composite" {
                write!(line, "\t{}", components(package, parameter)).expect("a string takes it");
            }
            of_base.entry(base).or_default().entry(code).or_insert(line);
        }
    }
    let mut out = format!(
        "{ORIGIN}\
# A resource type; below it, indented, a search parameter each, parted by tabs: code, type, target types, expression.
# Targets: * any. Parameters that search an extension or have no expression are left out.
# A composite has its components after that, parted by semicolons: value type and expression, from where its own leads.
# A compartment: `@Patient`; below it, indented, a type and the codes of the parameters that put it into the compartment.
"
    );
    for (base, lines) in of_base {
        writeln!(out, "{base}").expect("a string takes it");
        for line in lines.values() {
            writeln!(out, " {line}").expect("a string takes it");
        }
    }
    for compartment in of_kind(package, "CompartmentDefinition").filter(|c| text(c, "code") == "Patient") {
        writeln!(out, "@{}", text(compartment, "code")).expect("a string takes it");
        for resource in list(compartment, "resource").iter().filter(|r| r.get("param").is_some()) {
            let codes: Vec<&str> = list(resource, "param").iter().filter_map(Value::as_str).collect();
            writeln!(out, " {} {}", text(resource, "code"), codes.join(" ")).expect("a string takes it");
        }
    }
    out
}

/// The components of a composite: value type and expression of each.
fn components(package: &Package, composite: &Value) -> String {
    let component = |part: &Value| {
        let definition = text(part, "definition");
        let defined = of_kind(package, "SearchParameter").find(|p| text(p, "url") == definition);
        format!("{} {}", text(defined.expect("a component is defined"), "type"), text(part, "expression"))
    };
    list(composite, "component").iter().map(component).collect::<Vec<_>>().join("; ")
}

/// The parameters of R4 itself: with an expression, not on an extension, not the package's example.
fn is_of_r4(parameter: &Value) -> bool {
    let expression = text(parameter, "expression");
    !expression.is_empty() && !expression.contains(".extension(") && !text(parameter, "id").starts_with("example")
}

fn targets(parameter: &Value) -> String {
    const ALL_TYPES: usize = 140;
    let targets: Vec<&str> = list(parameter, "target").iter().filter_map(Value::as_str).collect();
    if targets.len() > ALL_TYPES { "*".to_owned() } else { targets.join(",") }
}

/// The alternatives of an expression that begin at this type; all of it where none does.
fn of_this_base(expression: &str, base: &str) -> String {
    let begins = |part: &&str| {
        part.trim_start_matches('(')
            .strip_prefix(base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ' ', ')']))
    };
    let parts: Vec<&str> = expression.split(" | ").filter(begins).collect();
    if parts.is_empty() { expression.to_owned() } else { parts.join(" | ") }
}
