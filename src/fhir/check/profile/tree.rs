//! A differential as a tree: what one StructureDefinition says of each element, and nothing of what its base says.

use serde_json::Value;

use super::bounds::Bounds;
use super::constraints::Constraint;
use super::slicing::Slicing;

/// What a profile says of one element, and of the elements below it.
#[derive(Default)]
pub(super) struct Node {
    /// The id in the StructureDefinition: `Patient.identifier:nhsNumber.value`.
    pub(super) id: String,
    /// The JSON name, without `[x]`.
    pub(super) name: String,
    /// The name of the `_` companion.
    pub(super) companion: String,
    /// `value[x]`.
    pub(super) choice: bool,
    pub(super) min: u64,
    /// Absent: not limited here.
    pub(super) max: Option<u64>,
    pub(super) fixed: Option<Value>,
    pub(super) pattern: Option<Value>,
    /// Empty: not narrowed here.
    pub(super) types: Vec<TypeRule>,
    /// The value set of a required binding.
    pub(super) required_value_set: Option<String>,
    /// The value set of an extensible binding.
    pub(super) extensible_value_set: Option<String>,
    pub(super) max_length: Option<u64>,
    pub(super) bounds: Bounds,
    pub(super) constraints: Vec<Constraint>,
    /// How the items of this list are told apart; filled in from the chain of profiles.
    pub(super) slicing: Option<Slicing>,
    pub(super) slices: Vec<Slice>,
    pub(super) children: Vec<Node>,
}

/// A type an element may have.
pub(super) struct TypeRule {
    pub(super) code: String,
    pub(super) profiles: Vec<String>,
    pub(super) targets: Vec<String>,
}

/// A named part of a list.
pub(super) struct Slice {
    pub(super) name: String,
    pub(super) node: Node,
    /// What an item must be to belong here; filled in from the chain of profiles.
    pub(super) tests: Vec<super::slicing::Test>,
}

impl Node {
    fn named(id: &str, segment: &str) -> Node {
        let name = segment.strip_suffix("[x]").unwrap_or(segment);
        Node {
            id: id.to_owned(),
            name: name.to_owned(),
            companion: format!("_{name}"),
            choice: name.len() != segment.len(),
            ..Node::default()
        }
    }

    /// The tree of a StructureDefinition's differential (its snapshot, where it has only that).
    pub(super) fn of(definition: &Value) -> Option<Node> {
        let elements = |view: &str| definition.get(view)?.get("element")?.as_array();
        let elements = elements("differential").or_else(|| elements("snapshot"))?;
        let root_name = definition.get("type")?.as_str()?;
        let mut root = Node::named(root_name, root_name);
        for element in elements {
            let id = element.get("id").or_else(|| element.get("path")).and_then(Value::as_str)?;
            root.descend(id, id.split_once('.').map(|(_, below)| below)).read(element);
        }
        Some(root)
    }

    /// The node of an id, made where it is not there yet.
    fn descend(&mut self, id: &str, below: Option<&str>) -> &mut Node {
        let Some(below) = below else { return self };
        let (segment, rest) = below.split_once('.').map_or((below, None), |(segment, rest)| (segment, Some(rest)));
        let up_to = rest.map_or(id, |rest| id.get(..id.len() - rest.len() - 1).unwrap_or(id));
        let (element, slice) = segment.split_once(':').map_or((segment, None), |(e, s)| (e, Some(s)));
        let element_id = slice.map_or(up_to, |s| up_to.get(..up_to.len() - s.len() - 1).unwrap_or(up_to));
        let made = Node::named(element_id, element);
        let position = self.children.iter().position(|c| c.name == made.name && c.choice == made.choice);
        let position = position.unwrap_or_else(|| {
            self.children.push(made);
            self.children.len() - 1
        });
        let child = &mut self.children[position];
        let Some(slice) = slice else { return child.descend(id, rest) };
        child.slice(element_id, element, slice).descend(id, rest)
    }

    /// The node of a slice, and of a slice of a slice (`a/b`), made where it is not there yet.
    fn slice(&mut self, element_id: &str, element: &str, name: &str) -> &mut Node {
        let mut node = self;
        for end in name.match_indices('/').map(|(at, _)| at).chain([name.len()]) {
            let name = name.get(..end).unwrap_or(name);
            let position = node.slices.iter().position(|s| s.name == name).unwrap_or_else(|| {
                let made = Node::named(&format!("{element_id}:{name}"), element);
                node.slices.push(Slice { name: name.to_owned(), node: made, tests: Vec::new() });
                node.slices.len() - 1
            });
            node = &mut node.slices[position].node;
        }
        node
    }

    /// Takes over what an ElementDefinition says.
    fn read(&mut self, element: &Value) {
        let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
        let texts = |of: &Value, name: &str| -> Vec<String> {
            let list = of.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Value::as_str).map(without_version).map(str::to_owned).collect()
        };
        self.min = element.get("min").and_then(Value::as_u64).unwrap_or(self.min);
        self.max = element.get("max").and_then(Value::as_str).map_or(self.max, |max| max.parse().ok());
        for (key, value) in element.as_object().into_iter().flatten() {
            if key.starts_with("fixed") {
                self.fixed = Some(value.clone());
            } else if key.starts_with("pattern") {
                self.pattern = Some(value.clone());
            }
        }
        for of_type in element.get("type").and_then(Value::as_array).into_iter().flatten() {
            let (profiles, targets) = (texts(of_type, "profile"), texts(of_type, "targetProfile"));
            self.types.push(TypeRule { code: text(of_type, "code").unwrap_or_default(), profiles, targets });
        }
        if let Some(binding) = element.get("binding") {
            let value_set = text(binding, "valueSet").map(|v| without_version(&v).to_owned());
            match binding.get("strength").and_then(Value::as_str) {
                Some("required") => self.required_value_set = value_set,
                Some("extensible") => self.extensible_value_set = value_set,
                _ => {}
            }
        }
        self.bounds.read(element);
        self.max_length = element.get("maxLength").and_then(Value::as_u64).or(self.max_length);
        self.constraints.extend(Constraint::read(element));
        if let Some(slicing) = element.get("slicing") {
            self.slicing = Some(Slicing::read(slicing));
        }
    }

    /// The node with this id, in this tree.
    pub(super) fn find(&self, id: &str) -> Option<&Node> {
        if self.id == id {
            return Some(self);
        }
        let below = |node: &&Node| {
            id.strip_prefix(node.id.as_str()).is_some_and(|r| r.is_empty() || r.starts_with(['.', ':', '/']))
        };
        let slices = self.slices.iter().map(|s| &s.node);
        self.children.iter().chain(slices).filter(below).find_map(|node| node.find(id))
    }

    /// Calls `act` on this node and on all below it.
    pub(super) fn each<'a>(&'a self, act: &mut impl FnMut(&'a Node)) {
        act(self);
        self.children.iter().chain(self.slices.iter().map(|s| &s.node)).for_each(|node| node.each(act));
    }

    /// Calls `act` on this node and on all below it, to change them.
    pub(super) fn each_mut(&mut self, act: &mut impl FnMut(&mut Node)) {
        act(self);
        self.children.iter_mut().chain(self.slices.iter_mut().map(|s| &mut s.node)).for_each(|node| node.each_mut(act));
    }
}

/// A canonical without `|version`.
pub(super) fn without_version(canonical: &str) -> &str {
    canonical.split('|').next().unwrap_or(canonical)
}
