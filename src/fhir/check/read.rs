//! Reads `structure.txt` into the tables.

use std::collections::HashMap;

use super::primitive::Primitive;
use super::tables::{Element, ElementType, Kind, Special, Tables, TargetsId, Type, TypeId, ValueSet, ValueSetId};
use super::{invariants, presence};

/// The tables, from the text of `structure.txt`; its first lines say how it is written.
pub(super) fn tables(text: &'static str) -> Tables {
    let read = Lines::read(text);
    let by_name: HashMap<_, _> = (0u16..).zip(&read.types).map(|(i, t)| (t.name, TypeId(i))).collect();
    let value_set_by_name = (0u16..).zip(&read.value_sets).map(|(i, v)| (v.name, ValueSetId(i))).collect();
    let mut build = Build {
        read: &read,
        by_name: &by_name,
        value_set_by_name,
        targets: Vec::new(),
        targets_by_text: HashMap::new(),
    };
    let types: Vec<Type> = read.types.iter().map(|t| build.type_from(t)).collect();
    let targets = build.targets;
    let value_set_by_canonical = (0u16..).zip(&read.canonicals).map(|(i, c)| (*c, ValueSetId(i))).collect();
    let primitives = types.iter().filter(|t| matches!(t.kind, Kind::Primitive(_)));
    let primitives = primitives.filter_map(|t| by_name.get(t.name).copied()).collect();
    Tables { types, by_name, value_sets: read.value_sets, value_set_by_canonical, targets, primitives }
}

/// The text, cut into its lines.
struct Lines {
    types: Vec<TypeLines>,
    value_sets: Vec<ValueSet>,
    canonicals: Vec<&'static str>,
}

struct TypeLines {
    name: &'static str,
    kind: &'static str,
    base: &'static str,
    elements: Vec<&'static str>,
}

impl Lines {
    fn read(text: &'static str) -> Lines {
        let mut lines = Lines { types: Vec::new(), value_sets: Vec::new(), canonicals: Vec::new() };
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            match (line.strip_prefix(' '), line.strip_prefix('=')) {
                (Some(codes), _) if !lines.value_sets.is_empty() => {
                    let mut parts = codes.split('\t');
                    let system = parts.next().unwrap_or_default();
                    if let Some(set) = lines.value_sets.last_mut() {
                        set.systems.push((system, parts.collect()));
                    }
                }
                (Some(element), _) => {
                    if let Some(of) = lines.types.last_mut() {
                        of.elements.push(element);
                    }
                }
                (_, Some(set)) => {
                    let (name, canonical) = set.split_once(' ').unwrap_or((set, set));
                    lines.value_sets.push(ValueSet { name, systems: Vec::new() });
                    lines.canonicals.push(canonical);
                }
                _ => {
                    let mut parts = line.split(' ');
                    let mut next = || parts.next().unwrap_or_default();
                    let (name, kind, base) = (next(), next(), next());
                    lines.types.push(TypeLines { name, kind, base, elements: Vec::new() });
                }
            }
        }
        lines
    }

    fn named(&self, name: &str) -> Option<&TypeLines> {
        self.types.binary_search_by(|t| t.name.cmp(name)).ok().and_then(|i| self.types.get(i))
    }
}

/// Turns names into indexes.
struct Build<'a> {
    read: &'a Lines,
    by_name: &'a HashMap<&'static str, TypeId>,
    value_set_by_name: HashMap<&'static str, ValueSetId>,
    targets: Vec<Vec<&'static str>>,
    targets_by_text: HashMap<&'static str, TargetsId>,
}

impl Build<'_> {
    fn type_from(&mut self, lines: &TypeLines) -> Type {
        let kind = match lines.kind {
            "primitive" => Kind::Primitive(Primitive::named(lines.name)),
            "resource" => Kind::Resource,
            "backbone" => Kind::Backbone,
            _ => Kind::Complex,
        };
        let mut elements = Vec::new();
        let mut required = Vec::new();
        let mut from = Some(lines);
        while let Some(these) = from.filter(|t| t.kind != "primitive") {
            for line in &these.elements {
                let name = line.split(' ').next().unwrap_or_default().trim_end_matches("[x]");
                if !elements.iter().any(|e: &Element| e.name == name) {
                    required.extend(line.split(' ').nth(1).filter(|c| matches!(*c, "1" | "+")).map(|_| name));
                    elements.push(self.element_from(line));
                }
            }
            from = self.read.named(these.base);
        }
        elements.sort_by_key(|e| e.name);
        for (choice, element) in (0u8..).zip(elements.iter_mut().filter(|e| e.choice.is_some())) {
            element.choice = Some(choice);
        }
        let special = match lines.name {
            "Reference" => Special::Reference,
            "Bundle" => Special::Bundle,
            "Element" => Special::Companion,
            _ => Special::None,
        };
        let (presence, values) = (Vec::new(), Vec::new());
        let mut made = Type { name: lines.name, kind, elements, required: 0, special, presence, values };
        made.required = required.iter().map(|name| made.bit(name)).sum();
        let specialised = self.read.named(lines.base).map_or("", |b| b.name);
        made.presence = presence::rules_of(&made, specialised);
        made.values = invariants::rules_of(made.name);
        made
    }

    fn element_from(&mut self, line: &'static str) -> Element {
        let mut parts = line.split(' ');
        let mut next = || parts.next().unwrap_or_default();
        let (name, cardinality, types, value_set) = (next(), next(), next(), next());
        let stem = name.strip_suffix("[x]");
        Element {
            name: stem.unwrap_or(name),
            many: matches!(cardinality, "*" | "+"),
            choice: stem.map(|_| 0),
            types: types.split('|').filter_map(|t| self.element_type_from(t)).collect(),
            value_set: value_set.strip_prefix('=').and_then(|v| self.value_set_by_name.get(v).copied()),
        }
    }

    fn element_type_from(&mut self, said: &'static str) -> Option<ElementType> {
        let (name, targets) = match said.strip_suffix(')').and_then(|s| s.split_once('(')) {
            Some((name, targets)) => (name, self.targets_from(targets)),
            None => (said, None),
        };
        Some(ElementType { id: *self.by_name.get(name)?, targets })
    }

    fn targets_from(&mut self, said: &'static str) -> Option<TargetsId> {
        if let Some(id) = self.targets_by_text.get(said) {
            return Some(*id);
        }
        let id = TargetsId(u16::try_from(self.targets.len()).ok()?);
        self.targets.push(said.split(',').collect());
        self.targets_by_text.insert(said, id);
        Some(id)
    }
}
