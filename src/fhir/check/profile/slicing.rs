//! How the items of a sliced list are told apart (<https://hl7.org/fhir/R4/profiling.html#slicing>).

use serde_json::{Map, Value};

use super::tree::{Node, Slice};
use super::{Chain, Profiles, overlay};
use crate::fhir::terminology::{Membership, Terminology};

/// The slicing of an element.
#[derive(Clone, Debug, Default)]
pub(super) struct Slicing {
    /// Nothing but the slices is allowed.
    pub(super) closed: bool,
    /// The slices come in the order of their definition.
    pub(super) ordered: bool,
    /// What is in no slice comes after all that is.
    pub(super) open_at_end: bool,
    discriminators: Vec<Discriminator>,
}

#[derive(Clone, Debug)]
struct Discriminator {
    kind: String,
    path: String,
}

/// What an item of one slice must be like.
pub(super) struct Test {
    path: Vec<String>,
    wanted: Wanted,
}

enum Wanted {
    /// All of these.
    Values(Vec<Expected>),
    Exists(bool),
    /// A type of a choice, or of a resource.
    Types(Vec<String>),
    /// A resource, or a value, that fits one of these profiles.
    Profiles(Vec<String>),
    /// A reference to a resource that can be one of these.
    Targets(Vec<String>),
    /// The definitions at hand do not say.
    Unknown,
}

#[derive(Clone)]
enum Expected {
    Fixed(Value),
    Pattern(Value),
    InValueSet(String),
}

/// Whether an item belongs to a slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Belongs {
    Yes,
    No,
    /// Not disproved: a value set that cannot be listed, a discriminator that needs the referenced resource.
    Unknown,
}

impl Belongs {
    fn and(self, other: Belongs) -> Belongs {
        match (self, other) {
            (Belongs::No, _) | (_, Belongs::No) => Belongs::No,
            (Belongs::Yes, Belongs::Yes) => Belongs::Yes,
            _ => Belongs::Unknown,
        }
    }

    fn or(self, other: Belongs) -> Belongs {
        match (self, other) {
            (Belongs::Yes, _) | (_, Belongs::Yes) => Belongs::Yes,
            (Belongs::No, Belongs::No) => Belongs::No,
            _ => Belongs::Unknown,
        }
    }
}

impl Slicing {
    pub(super) fn read(slicing: &Value) -> Slicing {
        let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let discriminators =
            slicing.get("discriminator").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Slicing {
            closed: text(slicing, "rules") == "closed",
            ordered: slicing.get("ordered") == Some(&Value::Bool(true)),
            open_at_end: text(slicing, "rules") == "openAtEnd",
            discriminators: discriminators
                .iter()
                .map(|d| Discriminator { kind: text(d, "type"), path: text(d, "path") })
                .collect(),
        }
    }

    /// The slicing every list of extensions and every choice has without saying so.
    fn implied(node: &Node) -> Option<Slicing> {
        let discriminator = match (node.name.as_str(), node.choice) {
            ("extension" | "modifierExtension", _) => ("value", "url"),
            (_, true) => ("type", "$this"),
            _ => return None,
        };
        let discriminator = Discriminator { kind: discriminator.0.to_owned(), path: discriminator.1.to_owned() };
        Some(Slicing { discriminators: vec![discriminator], ..Slicing::default() })
    }
}

/// The slicing of a node with slices: its own, that of a profile it is based on, or the implied one.
pub(super) fn of(node: &Node, chain: &Chain<'_>) -> Option<Slicing> {
    let unsliced = unsliced_id(&node.id);
    let declared = [node.id.as_str(), &unsliced]
        .into_iter()
        .find_map(|id| chain.iter().find_map(|profile| profile.root.find(id).and_then(|n| n.slicing.clone())));
    declared.filter(|s| !s.discriminators.is_empty()).or_else(|| Slicing::implied(node))
}

/// The id without slice names: `Observation.component:systolic.code.coding` is sliced as `Observation.component.code.coding` is.
fn unsliced_id(id: &str) -> String {
    id.split('.').map(|segment| segment.split(':').next().unwrap_or(segment)).collect::<Vec<_>>().join(".")
}

/// The tests of a slice, from what the profiles of the chain say of it.
pub(super) fn tests(slice: &Slice, slicing: &Slicing, chain: &Chain<'_>) -> Vec<Test> {
    slicing.discriminators.iter().map(|d| test(slice, d, chain)).collect()
}

fn test(slice: &Slice, discriminator: &Discriminator, chain: &Chain<'_>) -> Test {
    let whole = discriminator.path == "$this";
    if let (Some(url), "exists") = (extension_url(&discriminator.path), discriminator.kind.as_str()) {
        let wanted = extension_node(slice, url, chain).and_then(exists).map_or(Wanted::Unknown, Wanted::Exists);
        return Test { path: vec![discriminator.path.clone()], wanted };
    }
    if let Some(before) = discriminator.path.strip_suffix("resolve()") {
        return reference_test(slice, before.trim_end_matches('.').trim_start_matches("$this"), chain);
    }
    // Other functions need more than the item.
    if discriminator.path.contains('(') {
        return Test { path: Vec::new(), wanted: Wanted::Unknown };
    }
    let path: Vec<String> = match whole {
        true => Vec::new(),
        false => discriminator.path.trim_start_matches("$this.").split('.').map(str::to_owned).collect(),
    };
    let id =
        std::iter::once(slice.node.id.as_str()).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(".");
    let wanted = match discriminator.kind.as_str() {
        "value" | "pattern" => {
            let expected = expected(&slice.node.id, &path, chain);
            if expected.is_empty() { Wanted::Unknown } else { Wanted::Values(expected) }
        }
        "exists" => match nodes(&id, chain).find_map(exists) {
            Some(wanted) => Wanted::Exists(wanted),
            None => Wanted::Unknown,
        },
        "type" => match types(slice, &id, whole, chain) {
            types if types.is_empty() => Wanted::Unknown,
            types => Wanted::Types(types),
        },
        "profile" => match profiles(&id, chain) {
            profiles if profiles.is_empty() => Wanted::Unknown,
            profiles => Wanted::Profiles(profiles),
        },
        _ => Wanted::Unknown,
    };
    Test { path, wanted }
}

/// A slice told apart by what its references point to: of that, a reference by itself says the type at most.
fn reference_test(slice: &Slice, path: &str, chain: &Chain<'_>) -> Test {
    let path: Vec<String> =
        path.trim_start_matches('.').split('.').filter(|s| !s.is_empty()).map(str::to_owned).collect();
    let id =
        std::iter::once(slice.node.id.as_str()).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(".");
    let targets: Vec<String> =
        nodes(&id, chain).flat_map(|node| &node.types).flat_map(|t| t.targets.iter().cloned()).collect();
    Test { path, wanted: if targets.is_empty() { Wanted::Unknown } else { Wanted::Targets(targets) } }
}

/// The profiles that the chain asks of an element.
fn profiles(id: &str, chain: &Chain<'_>) -> Vec<String> {
    nodes(id, chain).flat_map(|node| &node.types).flat_map(|t| t.profiles.iter().cloned()).collect()
}

/// The url of a step `extension('url')`.
fn extension_url(step: &str) -> Option<&str> {
    let quoted = step.strip_prefix("extension(")?.strip_suffix(')')?;
    let url = |quote| quoted.strip_prefix(quote)?.strip_suffix(quote);
    url('\'').or_else(|| url('"'))
}

/// What the chain says of an extension, known by its profile, right below a slice.
fn extension_node<'a>(slice: &Slice, url: &str, chain: &'a Chain<'_>) -> Option<&'a Node> {
    let id = format!("{}.extension", slice.node.id);
    let lists = nodes(&id, chain);
    let slices = lists.flat_map(|list| &list.slices).map(|s| &s.node);
    slices.into_iter().find(|node| node.types.iter().any(|t| t.profiles.iter().any(|p| p == url)))
}

fn exists(node: &Node) -> Option<bool> {
    match (node.min, node.max) {
        (_, Some(0)) => Some(false),
        (1.., _) => Some(true),
        _ => None,
    }
}

/// What each profile of the chain says of an element; a choice also under its `[x]`.
fn nodes<'a>(id: &str, chain: &'a Chain<'_>) -> impl Iterator<Item = &'a Node> {
    let choice = format!("{id}[x]");
    let found = |id: &str| chain.iter().filter_map(|profile| profile.root.find(id)).collect::<Vec<_>>();
    let (plain, choice) = (found(id), found(&choice));
    plain.into_iter().chain(choice)
}

fn types(slice: &Slice, id: &str, whole: bool, chain: &Chain<'_>) -> Vec<String> {
    if let Some(node) = nodes(id, chain).find(|n| !n.types.is_empty()) {
        return node.types.iter().map(|t| t.code.clone()).collect();
    }
    // `value[x]:valueQuantity` says its type by its name.
    let by_name = slice.name.strip_prefix(slice.node.name.as_str()).filter(|_| whole && slice.node.choice);
    by_name.map(str::to_owned).into_iter().collect()
}

/// The values that fixed values, patterns, bindings and extension definitions demand at `path` below a slice.
fn expected(slice_id: &str, path: &[String], chain: &Chain<'_>) -> Vec<Expected> {
    let mut expected = Vec::new();
    for depth in 0..=path.len() {
        let (here, below) = path.split_at(depth);
        let id = std::iter::once(slice_id).chain(here.iter().map(String::as_str)).collect::<Vec<_>>().join(".");
        for node in nodes(&id, chain) {
            let fixed = node.fixed.iter().flat_map(|v| reached(v, below)).map(|v| Expected::Fixed(v.clone()));
            let pattern = node.pattern.iter().flat_map(|v| reached(v, below)).map(|v| Expected::Pattern(v.clone()));
            expected.extend(fixed.chain(pattern));
            if let (Some(set), []) = (&node.required_value_set, below) {
                expected.push(Expected::InValueSet(set.clone()));
            }
            if let ([url], Some(profile)) = (below, node.types.first().and_then(|t| t.profiles.first()))
                && url == "url"
            {
                expected.push(Expected::Fixed(Value::from(profile.as_str())));
            }
        }
    }
    expected
}

/// Every value at a path, lists walked through, choices found by the beginning of their name.
fn reached<'v>(value: &'v Value, path: &[String]) -> Vec<&'v Value> {
    if let Value::Array(items) = value {
        return items.iter().flat_map(|item| reached(item, path)).collect();
    }
    match (path.split_first(), value) {
        (None, _) => vec![value],
        (Some((step, rest)), Value::Object(fields)) if let Some(url) = extension_url(step) => {
            let extensions = fields.get("extension").and_then(Value::as_array).into_iter().flatten();
            let named = extensions.filter(|e| e.get("url").and_then(Value::as_str) == Some(url));
            named.flat_map(|extension| reached(extension, rest)).collect()
        }
        (Some((step, rest)), Value::Object(fields)) => match fields.get(step).or_else(|| choice(fields, step)) {
            Some(child) => reached(child, rest),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn choice<'v>(fields: &'v Map<String, Value>, stem: &str) -> Option<&'v Value> {
    let named = |key: &&String| key.strip_prefix(stem).is_some_and(|rest| rest.starts_with(char::is_uppercase));
    fields.keys().find(named).and_then(|key| fields.get(key))
}

/// Whether an item belongs to a slice with these tests; `of_type` is the type a choice was sent as.
pub(super) fn belongs(tests: &[Test], item: &Value, of_type: Option<&str>, profiles: &Profiles) -> Belongs {
    if tests.is_empty() {
        return Belongs::Unknown;
    }
    tests.iter().map(|test| test.passed_by(item, of_type, profiles)).fold(Belongs::Yes, Belongs::and)
}

fn yes_or_no(yes: bool) -> Belongs {
    if yes { Belongs::Yes } else { Belongs::No }
}

impl Test {
    fn passed_by(&self, item: &Value, of_type: Option<&str>, profiles: &Profiles) -> Belongs {
        let sets = profiles.terminology();
        match &self.wanted {
            Wanted::Unknown => Belongs::Unknown,
            Wanted::Exists(wanted) => yes_or_no(reached(item, &self.path).is_empty() != *wanted),
            Wanted::Types(types) if self.path.is_empty() => match of_type.or_else(|| resource_type(item)) {
                Some(found) => yes_or_no(types.iter().any(|t| overlay::same_type(t, found))),
                None => Belongs::Unknown,
            },
            Wanted::Types(types) => self.type_at_path(types, item),
            Wanted::Profiles(wanted) => {
                let fits =
                    |value: &&Value| wanted.iter().map(|p| profiles.fits(p, value)).fold(Belongs::No, Belongs::or);
                reached(item, &self.path).iter().map(fits).fold(Belongs::No, Belongs::or)
            }
            Wanted::Targets(targets) => {
                let evident = reached(item, &self.path).into_iter().find_map(overlay::evident_target);
                evident.map_or(Belongs::Unknown, |kind| match targets.iter().any(|t| profiles.may_be(t, kind)) {
                    // The type is right; whether the profile is, only the resource behind the reference says.
                    true if targets.iter().any(|t| profiles.knows(t)) => Belongs::Unknown,
                    may => yes_or_no(may),
                })
            }
            Wanted::Values(expected) => {
                let each = |value| expected.iter().map(|e| e.met_by(value, sets)).fold(Belongs::Yes, Belongs::and);
                let mut best = Belongs::No;
                for value in reached(item, &self.path) {
                    match each(value) {
                        Belongs::Yes => return Belongs::Yes,
                        Belongs::Unknown => best = Belongs::Unknown,
                        Belongs::No => {}
                    }
                }
                best
            }
        }
    }

    fn type_at_path(&self, types: &[String], item: &Value) -> Belongs {
        let Some((last, before)) = self.path.split_last() else { return Belongs::Unknown };
        let holders = reached(item, before);
        let found = holders.iter().filter_map(|h| h.as_object()).find_map(|fields| {
            let resource = fields.get(last).and_then(resource_type);
            resource.or_else(|| {
                fields
                    .keys()
                    .find_map(|k| k.strip_prefix(last.as_str()).filter(|rest| rest.starts_with(char::is_uppercase)))
            })
        });
        match found {
            Some(found) if types.iter().any(|t| overlay::same_type(t, found)) => Belongs::Yes,
            Some(_) => Belongs::No,
            None => Belongs::Unknown,
        }
    }
}

fn resource_type(value: &Value) -> Option<&str> {
    value.get("resourceType").and_then(Value::as_str)
}

impl Expected {
    fn met_by(&self, value: &Value, sets: &Terminology) -> Belongs {
        match self {
            Expected::Fixed(fixed) if value == fixed => Belongs::Yes,
            Expected::Pattern(pattern) if overlay::fits(value, pattern) => Belongs::Yes,
            Expected::Fixed(_) | Expected::Pattern(_) => Belongs::No,
            Expected::InValueSet(set) => match sets.holds(set, value) {
                Membership::Member => Belongs::Yes,
                Membership::Foreign => Belongs::No,
                Membership::Unknown => Belongs::Unknown,
            },
        }
    }
}
