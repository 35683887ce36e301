//! One differential against one resource: only what the profile adds is looked at here.

use serde_json::{Map, Value};

use super::super::place::{Findings, Place, listed};
use super::super::scope::relative_type;
use super::super::tables::tables;
use super::constraints::Element;
use super::slicing::{self, Belongs, Slicing};
use super::tree::{Node, Slice, TypeRule};
use super::{Profile, Profiles};
use crate::fhir::terminology::Membership;
use crate::fhir::{IssueCode, Severity};

/// A profile at work.
pub(super) struct Overlay<'a> {
    pub(super) profiles: &'a Profiles,
    pub(super) profile: &'a Profile,
    pub(super) found: &'a mut Findings,
}

/// One occurrence of an element.
#[derive(Clone, Copy)]
struct Item<'v> {
    /// Absent where a primitive has only a companion.
    value: Option<&'v Value>,
    companion: Option<&'v Value>,
    /// The type a choice was sent as.
    of_type: Option<&'v str>,
    index: Option<usize>,
}

impl<'v> Item<'v> {
    /// The object that holds the children: the value itself, or the companion of a primitive.
    fn fields(&self) -> Option<&'v Map<String, Value>> {
        self.value.and_then(Value::as_object).or_else(|| self.companion.and_then(Value::as_object))
    }

    fn place<'a>(&self, at: &'a Place<'a>, node: &'a Node) -> Place<'a>
    where
        'v: 'a,
    {
        let place = match self.of_type {
            Some(of_type) => at.choice(&node.name, of_type),
            None => at.child(&node.name),
        };
        self.index.map_or(place, |index| place.item(index))
    }
}

impl Overlay<'_> {
    /// The constraints of an element, and the rules on those below it.
    pub(super) fn object(&mut self, node: &Node, fields: &Map<String, Value>, at: &Place<'_>) {
        for constraint in &node.constraints {
            if !(constraint.holds)(&Element::of(fields)) {
                let text =
                    format!("{} (rule {} of the profile {}).", constraint.human, constraint.key, self.profile.name);
                match constraint.severity {
                    Severity::Error => self.found.error(IssueCode::Invariant, at, text),
                    _ => self.found.warning(IssueCode::Invariant, at, text),
                }
            }
        }
        self.children(&node.children, fields, at);
    }

    /// The rules on the elements of an object.
    fn children(&mut self, nodes: &[Node], fields: &Map<String, Value>, at: &Place<'_>) {
        for node in nodes {
            if self.found.full() {
                return;
            }
            let items = items(node, fields);
            self.count(node, None, (items.len(), items.len()), at);
            for item in &items {
                self.item(node, *item, &item.place(at, node));
            }
            if !node.slices.is_empty() {
                self.slices(node, &items, at);
            }
        }
    }

    /// Minimum and maximum, of the whole element or of one slice of it, against how many there are at least and at most.
    fn count(&mut self, node: &Node, slice: Option<&Slice>, (least, most): (usize, usize), at: &Place<'_>) {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (least, most) = (wide(least), wide(most));
        let (name, by) = (&node.name, &self.profile.name);
        let what = slice.map_or_else(|| name.clone(), |slice| format!("{name} (slice {})", slice.name));
        let place = at.child(name);
        if most < node.min {
            let text = format!("{what} is required at least {} time(s) by the profile {by}.", node.min);
            self.found.error(IssueCode::Required, &place, text);
        }
        match node.max {
            Some(0) if least > 0 => {
                self.found.error(IssueCode::Structure, &place, format!("{what} is not used in the profile {by}."));
            }
            Some(max) if least > max => {
                let text = format!("{what} is allowed at most {max} time(s) by the profile {by}.");
                self.found.error(IssueCode::Structure, &place, text);
            }
            _ => {}
        }
    }

    /// The rules on one occurrence of an element.
    fn item(&mut self, node: &Node, item: Item<'_>, at: &Place<'_>) {
        let by = &self.profile.name;
        if let Some(value) = item.value {
            if node.fixed.as_ref().is_some_and(|fixed| fixed != value) {
                let must = node.fixed.as_ref().and_then(Value::as_str).map_or_else(String::new, |f| format!(": {f}"));
                self.found.error(
                    IssueCode::Value,
                    at,
                    format!("{} has a fixed value in the profile {by}{must}.", node.name),
                );
            }
            if node.pattern.as_ref().is_some_and(|pattern| !fits(value, pattern)) {
                let text = format!("{} does not have the content that the profile {by} fixes.", node.name);
                self.found.error(IssueCode::Value, at, text);
            }
            if let (Some(max), Some(text)) = (node.max_length, value.as_str())
                && u64::try_from(text.chars().count()).is_ok_and(|length| length > max)
            {
                let text = format!("{} has at most {max} characters in the profile {by}.", node.name);
                self.found.error(IssueCode::Value, at, text);
            }
            if let Some(bound) = node.bounds.broken_by(value) {
                let text = format!("{} is {bound} in the profile {by}.", node.name);
                self.found.error(IssueCode::Value, at, text);
            }
            if let Some(set) = &node.required_value_set {
                self.binding(node, set, value, at);
            }
            if let Some(set) = &node.extensible_value_set {
                self.recommended(node, set, value, at);
            }
            if !node.types.is_empty() {
                self.types(node, item, value, at);
            }
        }
        match item.fields() {
            Some(fields) => self.object(node, fields, at),
            None if node.children.is_empty() => {}
            None => self.children(&node.children, &Map::new(), at),
        }
    }

    fn binding(&mut self, node: &Node, set: &str, value: &Value, at: &Place<'_>) {
        let bindable = value.is_string() || value.is_object();
        if bindable && self.profiles.terminology.holds(set, value) == Membership::Foreign {
            let by = &self.profile.name;
            let text = match self.profiles.terminology.told(set) {
                Some(codes) => format!("{} must be one of: {codes} (profile {by}).", node.name),
                None => format!("{} must have a code of the value set {set} (profile {by}).", node.name),
            };
            self.found.error(IssueCode::CodeInvalid, at, text);
        }
    }

    /// An extensible binding: another code is right where the set has none that fits, which only a person can tell.
    fn recommended(&mut self, node: &Node, set: &str, value: &Value, at: &Place<'_>) {
        let coded = value.is_string() || value.get("code").is_some() || value.get("coding").is_some();
        if coded && self.profiles.terminology.holds(set, value) == Membership::Foreign {
            let text = format!(
                "{} has a code outside the value set {set}, which is right only where that has none that fits (profile {}).",
                node.name, self.profile.name
            );
            self.found.warning(IssueCode::CodeInvalid, at, text);
        }
    }

    /// The type of a choice or an inner resource, the profile of a datatype, and what a reference may point to.
    fn types(&mut self, node: &Node, item: Item<'_>, value: &Value, at: &Place<'_>) {
        let by = &self.profile.name;
        let resource_type = value.get("resourceType").and_then(Value::as_str);
        let found = item.of_type.or(resource_type);
        let allowed = |t: &&TypeRule| {
            found.is_none_or(|found| {
                same_type(&t.code, found) || matches!(t.code.as_str(), "Resource" | "DomainResource")
            })
        };
        let rules: Vec<&TypeRule> = node.types.iter().filter(allowed).collect();
        if rules.is_empty() {
            let names = listed(node.types.iter().map(|t| t.code.as_str()));
            let text = format!("{} is one of these types in the profile {by}: {names}.", node.name);
            return self.found.error(IssueCode::Structure, at, text);
        }
        let targets: Vec<&str> = rules.iter().flat_map(|r| &r.targets).map(String::as_str).collect();
        if rules.iter().all(|r| r.code == "Reference" && !r.targets.is_empty())
            && let Some(evident) = evident_target(value)
            && !targets.iter().any(|t| self.profiles.may_be(t, evident))
        {
            let names = listed(targets.iter().map(|t| t.rsplit('/').next().unwrap_or(t)));
            let text = format!("{} can refer to these in the profile {by}: {names}.", node.name);
            return self.found.error(IssueCode::Structure, at, text);
        }
        // Extensions are checked against their own definitions wherever they are, so not again here.
        if let [TypeRule { code, profiles, .. }] = rules.as_slice()
            && let [canonical] = profiles.as_slice()
            && code != "Extension"
            && let Some(fields) = value.as_object()
        {
            self.profiles.check_object(canonical, fields, at, self.found);
        }
    }

    /// Which items belong to which slice, how many, in which order, and what each slice says of its items.
    fn slices(&mut self, node: &Node, items: &[Item<'_>], at: &Place<'_>) {
        let mut slice_of: Vec<Sorted> = vec![Sorted::Stranger; items.len()];
        for (position, slice) in node.slices.iter().enumerate() {
            let (mut certain, mut possible) = (Vec::new(), 0);
            for (item, sorted) in items.iter().zip(&mut slice_of) {
                if self.found.full() {
                    return;
                }
                let Some(value) = item.value else {
                    *sorted = Sorted::Unsure;
                    continue;
                };
                let belongs = slicing::belongs(&slice.tests, value, item.of_type, self.profiles);
                if belongs != Belongs::No {
                    possible += 1;
                    *sorted = Sorted::Unsure;
                }
                if belongs == Belongs::Yes {
                    *sorted = Sorted::Slice(position);
                    certain.push(*item);
                    self.item(&slice.node, *item, &item.place(at, node));
                }
            }
            // What may belong is enough for the minimum; only what certainly belongs counts against the maximum.
            self.count(&slice.node, Some(slice), (certain.len(), possible), at);
            if !slice.node.slices.is_empty() {
                self.slices(&slice.node, &certain, at);
            }
        }
        if let Some(slicing) = &node.slicing {
            self.sorted(node, slicing, items, &slice_of, at);
        }
    }

    /// The rules on a sliced list as a whole: nothing but the slices, the order of the slices, the others at the end.
    fn sorted(&mut self, node: &Node, slicing: &Slicing, items: &[Item<'_>], slice_of: &[Sorted], at: &Place<'_>) {
        let by = &self.profile.name;
        let mut last = 0;
        let mut stranger_before = false;
        for (item, sorted) in items.iter().zip(slice_of) {
            let wrong = match sorted {
                Sorted::Stranger if slicing.closed => {
                    let names = listed(node.slices.iter().map(|s| s.name.as_str()));
                    Some(format!("The profile {by} allows only these slices of {}: {names}.", node.name))
                }
                Sorted::Slice(position) if slicing.ordered && *position < last => {
                    let names = listed(node.slices.iter().map(|s| s.name.as_str()));
                    Some(format!("The profile {by} has the slices of {} in this order: {names}.", node.name))
                }
                Sorted::Slice(_) if slicing.open_at_end && stranger_before => {
                    Some(format!("The profile {by} has what is in no slice of {} at its end.", node.name))
                }
                _ => None,
            };
            match sorted {
                Sorted::Slice(position) => last = last.max(*position),
                Sorted::Stranger => stranger_before = true,
                Sorted::Unsure => {}
            }
            if let Some(text) = wrong {
                self.found.error(IssueCode::Structure, &item.place(at, node), text);
            }
        }
    }
}

/// Where an item of a sliced list stands.
#[derive(Clone, Copy)]
enum Sorted {
    /// In the slice at this position.
    Slice(usize),
    /// Perhaps in one.
    Unsure,
    /// In none.
    Stranger,
}

/// The occurrences of an element in an object.
fn items<'v>(node: &Node, fields: &'v Map<String, Value>) -> Vec<Item<'v>> {
    if !node.choice {
        return occurrences(fields.get(&node.name), fields.get(&node.companion), None);
    }
    let mut items = Vec::new();
    for (key, value) in fields {
        let (plain, is_companion) = key.strip_prefix('_').map_or((key.as_str(), false), |plain| (plain, true));
        let Some(of_type) = plain.strip_prefix(node.name.as_str()) else { continue };
        // Another name with the same beginning, or a type R4 does not have: not this choice.
        let Some(chosen) = tables().chosen(of_type) else { continue };
        match is_companion {
            false => items.extend(occurrences(Some(value), fields.get(&format!("_{key}")), Some(chosen))),
            true if !fields.contains_key(plain) => items.extend(occurrences(None, Some(value), Some(chosen))),
            true => {}
        }
    }
    items
}

fn occurrences<'v>(value: Option<&'v Value>, companion: Option<&'v Value>, of_type: Option<&'v str>) -> Vec<Item<'v>> {
    let values = value.and_then(Value::as_array);
    let companions = companion.and_then(Value::as_array);
    if values.is_none() && companions.is_none() {
        let there = value.is_some() || companion.is_some();
        return there.then_some(Item { value, companion, of_type, index: None }).into_iter().collect();
    }
    let length = values.map_or(0, Vec::len).max(companions.map_or(0, Vec::len));
    let at = |list: Option<&'v Vec<Value>>, index: usize| list.and_then(|l| l.get(index)).filter(|v| !v.is_null());
    (0..length)
        .map(|index| Item { value: at(values, index), companion: at(companions, index), of_type, index: Some(index) })
        .collect()
}

/// Whether a value has at least what a pattern has (ElementDefinition.pattern[x]).
pub(super) fn fits(value: &Value, pattern: &Value) -> bool {
    match (value, pattern) {
        (Value::Object(value), Value::Object(pattern)) => {
            pattern.iter().all(|(key, wanted)| value.get(key).is_some_and(|found| fits(found, wanted)))
        }
        (Value::Array(value), Value::Array(pattern)) => {
            pattern.iter().all(|wanted| value.iter().any(|found| fits(found, wanted)))
        }
        _ => value == pattern,
    }
}

/// Whether a type is the one a choice name ends with: `dateTime` and `DateTime`.
pub(super) fn same_type(code: &str, found: &str) -> bool {
    let (mut code, mut found) = (code.chars(), found.chars());
    let first = |c: Option<char>| c.map(|c| c.to_ascii_uppercase());
    first(code.next()) == first(found.next()) && code.eq(found)
}

/// The type of what a reference points to, where the reference itself says it.
pub(super) fn evident_target(reference: &Value) -> Option<&str> {
    let text = |name: &str| reference.get(name).and_then(Value::as_str);
    text("reference").and_then(relative_type).or_else(|| text("type")).filter(|t| super::super::is_resource_type(t))
}
