//! The expressions of search parameters: the part of FHIRPath that R4 writes them in, compiled against R4's own types.
//!
//! Unions, `as`, `ofType`, `where(resolve() is Type)`, `where(element='text')`, `where(hasExtension('url'))`, an index,
//! and `x.exists() and x != false`. An expression outside of that is no [`Path`], and its parameter is not offered.

use serde_json::Value;

use crate::fhir::check::element_types;

/// One alternative of an expression.
#[derive(Debug)]
pub(super) struct Path {
    root: &'static str,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// To an element: for each type one may stand on, its JSON name and the type there.
    Child(Vec<Edge>),
    /// Only references to this resource type.
    Resolves(&'static str),
    Where(&'static str, &'static str),
    HasExtension(&'static str),
    First,
    /// Whether there is a value that is not `false`.
    Given,
}

#[derive(Debug)]
struct Edge {
    of: &'static str,
    name: String,
    to: &'static str,
}

/// A value and its R4 type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    pub kind: &'static str,
}

static TRUE: Value = Value::Bool(true);
static FALSE: Value = Value::Bool(false);

/// The alternatives of an expression on `base`; `None` where one of them cannot be followed.
pub(super) fn compile(base: &'static str, expression: &'static str) -> Option<Vec<Path>> {
    expression.split(" | ").map(|part| one(base, part.trim())).collect()
}

fn one(base: &'static str, part: &'static str) -> Option<Path> {
    if let Some((first, second)) = part.split_once(" and ") {
        let element = first.strip_suffix(".exists()")?;
        let mut path = (second == format!("{element} != false")).then(|| one(base, element))??;
        path.steps.push(Step::Given);
        return Some(path);
    }
    if let Some(inner) = part.strip_prefix('(') {
        let (inner, rest) = inner.split_once(')')?;
        let mut path = one(base, inner)?;
        path.follow(rest.strip_prefix('.').unwrap_or(rest))?;
        return Some(path);
    }
    if let Some((left, kind)) = part.split_once(" as ") {
        let mut path = one(base, left)?;
        path.only(kind)?;
        return Some(path);
    }
    let mut path = Path { root: base, steps: Vec::new() };
    let rest = match part.strip_prefix(base) {
        Some("") => "",
        Some(rest) if rest.starts_with('.') => &rest[1..],
        // The parameters of every resource begin at Resource; those of components where the composite leads.
        _ => part.strip_prefix("Resource.").unwrap_or(part),
    };
    path.follow(rest)?;
    Some(path)
}

/// Splits at dots that are in no bracket.
fn segments(text: &'static str) -> Vec<&'static str> {
    let (mut depth, mut from, mut found) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '.' if depth == 0 => {
                found.extend(text.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    found.extend(text.get(from..).filter(|last| !last.is_empty()));
    found
}

impl Path {
    fn follow(&mut self, rest: &'static str) -> Option<()> {
        for segment in segments(rest) {
            let called = segment.strip_suffix(')').and_then(|s| s.split_once('('));
            match called {
                Some(("as" | "ofType", kind)) => self.only(kind)?,
                Some(("where", condition)) => self.steps.push(condition_of(condition)?),
                Some(_) => return None,
                None => match segment.strip_suffix("[0]") {
                    Some(name) => {
                        self.child(name)?;
                        self.steps.push(Step::First);
                    }
                    None => self.child(segment)?,
                },
            }
        }
        Some(())
    }

    /// The types a value here may have.
    fn kinds(&self) -> Vec<&'static str> {
        let last = self.steps.iter().rev().find_map(|step| match step {
            Step::Child(edges) => Some(edges.iter().map(|edge| edge.to).collect()),
            _ => None,
        });
        last.unwrap_or_else(|| vec![self.root])
    }

    fn child(&mut self, element: &'static str) -> Option<()> {
        let mut kinds = self.kinds();
        kinds.sort_unstable();
        kinds.dedup();
        let edges: Vec<Edge> = kinds
            .into_iter()
            .flat_map(|of| element_types(of, element).into_iter().map(move |(name, to)| Edge { of, name, to }))
            .collect();
        (!edges.is_empty()).then(|| self.steps.push(Step::Child(edges)))
    }

    fn only(&mut self, kind: &str) -> Option<()> {
        let Some(Step::Child(edges)) = self.steps.last_mut() else { return None };
        edges.retain(|edge| edge.to.eq_ignore_ascii_case(kind));
        (!edges.is_empty()).then_some(())
    }

    /// The element of the resource that it is, where it leads no deeper.
    pub(super) fn element(&self) -> Option<&str> {
        match self.steps.as_slice() {
            [Step::Child(edges)] | [Step::Child(edges), Step::Resolves(_)] => edges.first().map(|e| e.name.as_str()),
            _ => None,
        }
    }

    /// The types of what it leads to.
    pub(super) fn leads_to(&self) -> Vec<&'static str> {
        if matches!(self.steps.last(), Some(Step::Given)) { vec!["boolean"] } else { self.kinds() }
    }

    /// The type and name of the last element on the way.
    pub(super) fn last_element(&self) -> Option<(&'static str, &str)> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Child(edges) => edges.first().map(|edge| (edge.of, edge.name.as_str())),
            _ => None,
        })
    }

    /// Where it leads from a resource, or from an element of the path's root type.
    pub(super) fn values<'a>(&self, start: &'a Value, resource: &'a Value) -> Vec<Node<'a>> {
        let mut here = vec![Node { value: start, kind: self.root }];
        for step in &self.steps {
            here = step.take(here, resource);
        }
        here
    }
}

fn condition_of(condition: &'static str) -> Option<Step> {
    if let Some(kind) = condition.strip_prefix("resolve() is ") {
        return Some(Step::Resolves(kind));
    }
    if let Some(url) = condition.strip_prefix("hasExtension('").and_then(|rest| rest.strip_suffix("')")) {
        return Some(Step::HasExtension(url));
    }
    let (element, text) = condition.split_once('=')?;
    Some(Step::Where(element, text.strip_prefix('\'')?.strip_suffix('\'')?))
}

impl Step {
    fn take<'a>(&self, here: Vec<Node<'a>>, resource: &'a Value) -> Vec<Node<'a>> {
        match self {
            Step::Child(edges) => {
                let mut next = Vec::new();
                for node in here {
                    for edge in edges.iter().filter(|edge| edge.of == node.kind) {
                        match node.value.get(&edge.name) {
                            Some(Value::Array(items)) => {
                                next.extend(items.iter().map(|value| Node { value, kind: edge.to }));
                            }
                            Some(value) => next.push(Node { value, kind: edge.to }),
                            None => {}
                        }
                    }
                }
                next
            }
            Step::First => here.into_iter().take(1).collect(),
            Step::Given => {
                let given = here.iter().any(|node| node.value != &Value::Bool(false));
                vec![Node { value: if given { &TRUE } else { &FALSE }, kind: "boolean" }]
            }
            Step::Resolves(kind) => {
                here.into_iter().filter(|node| target_kind(node.value, resource) == Some(*kind)).collect()
            }
            Step::Where(element, text) => here
                .into_iter()
                .filter(|node| node.value.get(*element).and_then(Value::as_str) == Some(*text))
                .collect(),
            Step::HasExtension(url) => here
                .into_iter()
                .filter(|node| {
                    let extensions = node.value.get("extension").and_then(Value::as_array);
                    extensions.is_some_and(|all| all.iter().any(|e| e.get("url").and_then(Value::as_str) == Some(url)))
                })
                .collect(),
        }
    }
}

/// The type of what a Reference points to, as it says itself or as the contained resource says.
fn target_kind<'a>(reference: &'a Value, resource: &'a Value) -> Option<&'a str> {
    let Some(text) = reference.get("reference").and_then(Value::as_str) else {
        return reference.get("type").and_then(Value::as_str);
    };
    if let Some(id) = text.strip_prefix('#') {
        let contained = resource.get("contained").and_then(Value::as_array)?;
        let found = contained.iter().find(|c| c.get("id").and_then(Value::as_str) == Some(id))?;
        return found.get("resourceType").and_then(Value::as_str);
    }
    let text = text.split("/_history/").next().unwrap_or(text);
    let mut words = text.rsplit('/');
    words.next();
    words.next().filter(|kind| kind.starts_with(|c: char| c.is_ascii_uppercase()))
}
