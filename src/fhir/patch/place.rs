//! The paths of FHIRPath Patch: a small part of FHIRPath that names elements of one resource.

use serde_json::Value;

use crate::fhir::check;

/// A way down from the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Element(String),
    Index(usize),
    First,
    Last,
    Extension(String),
    OfType(String),
    /// Each of these holds: a path from the item, and what it is.
    Where(Vec<(Vec<Step>, Value)>),
}

/// A key into a JSON tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Name(String),
    At(usize),
}

/// An element that a path came to: where it stands in the JSON tree, and the name of its type.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub keys: Vec<Key>,
    pub type_name: &'static str,
}

/// What a path is made of, from a resource of this type: `Patient.name[0].family`.
pub(super) fn parse(text: &str, kind: &str) -> Result<Vec<Step>, String> {
    if text.len() > LONGEST {
        return Err(format!("A path has at most {LONGEST} characters."));
    }
    let mut reader = Reader { rest: text.trim(), depth: 0 };
    let steps = reader.path()?;
    if !reader.rest.is_empty() {
        return Err(format!("This path is not readable from its character {} on.", text.len() - reader.rest.len() + 1));
    }
    match steps.split_first() {
        Some((Step::Element(first), rest)) if first == kind => Ok(rest.to_vec()),
        _ => Err(format!("The path begins with the type of the resource, {kind}.")),
    }
}

/// Characters of a path, and how deep its conditions nest, at most.
const LONGEST: usize = 1000;
const DEEPEST: usize = 4;

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl Reader<'_> {
    fn eat(&mut self, token: &str) -> bool {
        let trimmed = self.rest.trim_start();
        match trimmed.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) { Ok(()) } else { Err(format!("The path lacks a {token}.")) }
    }

    fn name(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        if name.is_empty() { Err("The path lacks the name of an element.".to_owned()) } else { Ok(name.to_owned()) }
    }

    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            let name = self.name()?;
            match (name.as_str(), self.eat("(")) {
                (_, false) => steps.push(Step::Element(name)),
                ("first", true) => steps.push(Step::First),
                ("last", true) => steps.push(Step::Last),
                ("extension", true) => steps.push(Step::Extension(self.text()?)),
                ("ofType" | "as", true) => steps.push(Step::OfType(self.name()?)),
                ("where", true) => steps.push(self.conditions()?),
                _ => {
                    return Err(
                        "Paths take where(), first(), last(), ofType(), extension() and [n] here; this is another \
                         function. Name the element in one of these ways."
                            .to_owned(),
                    );
                }
            }
            if !matches!(steps.last(), Some(Step::Element(_))) {
                self.expect(")")?;
            }
            while self.eat("[") {
                let number = self.name()?;
                steps.push(Step::Index(
                    number.parse().map_err(|_| "A place in a list is a number, from 0.".to_owned())?,
                ));
                self.expect("]")?;
            }
            if steps.len() > 64 {
                return Err("The path is too long.".to_owned());
            }
            if !self.eat(".") {
                return Ok(steps);
            }
        }
    }

    fn conditions(&mut self) -> Result<Step, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("The conditions of this path nest too deep.".to_owned());
        }
        let mut all = Vec::new();
        loop {
            let path = self.path()?;
            self.expect("=")?;
            all.push((path, self.literal()?));
            if !self.eat("and ") {
                self.depth -= 1;
                return Ok(Step::Where(all));
            }
        }
    }

    fn literal(&mut self) -> Result<Value, String> {
        if self.rest.trim_start().starts_with('\'') {
            return self.text().map(Value::String);
        }
        self.rest = self.rest.trim_start();
        let end = self.rest.find([')', ' ']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "true" | "false" => Ok(Value::Bool(word == "true")),
            _ => word
                .parse::<serde_json::Number>()
                .map(Value::Number)
                .map_err(|_| "A condition compares with a 'text', a number, true or false.".to_owned()),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        self.expect("'")?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                c => text.push(c),
            }
        }
        Err("A text in the path has no end.".to_owned())
    }
}

/// Every element that the steps come to.
pub(super) fn evaluate(root: &Value, from: Place, steps: &[Step]) -> Vec<Place> {
    steps.iter().fold(vec![from], |here, step| match step {
        Step::Element(name) => here.iter().flat_map(|place| below(root, place, name)).collect(),
        Step::Index(n) => here.into_iter().nth(*n).into_iter().collect(),
        Step::First => here.into_iter().next().into_iter().collect(),
        Step::Last => here.into_iter().last().into_iter().collect(),
        Step::OfType(wanted) => here.into_iter().filter(|place| place.type_name.eq_ignore_ascii_case(wanted)).collect(),
        Step::Extension(url) => {
            let extensions = here.iter().flat_map(|place| below(root, place, "extension"));
            extensions.filter(|place| at(root, &place.keys).and_then(|e| e.get("url")?.as_str()) == Some(url)).collect()
        }
        Step::Where(all) => here
            .into_iter()
            .filter(|place| {
                all.iter().all(|(path, wanted)| {
                    evaluate(root, place.clone(), path).iter().any(|found| at(root, &found.keys) == Some(wanted))
                })
            })
            .collect(),
    })
}

/// The elements of this name under a place; of a choice, the one that is there.
fn below(root: &Value, place: &Place, name: &str) -> Vec<Place> {
    let Some(fields) = at(root, &place.keys).and_then(Value::as_object) else { return Vec::new() };
    let Some((json, value)) = fields.iter().find(|(json, _)| *json == name || is_choice(place.type_name, name, json))
    else {
        return Vec::new();
    };
    let Some(member) = member_of(place.type_name, json, value) else { return Vec::new() };
    let with = |mut keys: Vec<Key>, key: Key| {
        keys.push(key);
        Place { keys, type_name: member }
    };
    let this = with(place.keys.clone(), Key::Name(json.clone()));
    match value {
        Value::Array(items) => (0..items.len()).map(|n| with(this.keys.clone(), Key::At(n))).collect(),
        _ => vec![this],
    }
}

/// The type of an element, of a contained resource its own.
fn member_of(type_name: &str, json: &str, value: &Value) -> Option<&'static str> {
    let of = check::member(type_name, json)?.type_name;
    let first = value.as_array().and_then(|items| items.first()).unwrap_or(value);
    let own = first.get("resourceType").and_then(Value::as_str);
    Some(own.and_then(|own| check::resource_types().find(|kind| *kind == own)).unwrap_or(of))
}

/// Whether a JSON name is the choice `name[x]` of a type.
pub(super) fn is_choice(type_name: &str, name: &str, json: &str) -> bool {
    json.len() > name.len()
        && json.strip_prefix(name).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        && check::has_choice(type_name, name)
        && check::member(type_name, json).is_some()
}

/// The value at a place.
pub(super) fn at<'v>(root: &'v Value, keys: &[Key]) -> Option<&'v Value> {
    keys.iter().try_fold(root, |here, key| match key {
        Key::Name(name) => here.get(name),
        Key::At(n) => here.get(*n),
    })
}

/// The value at a place, to change.
pub(super) fn at_mut<'v>(root: &'v mut Value, keys: &[Key]) -> Option<&'v mut Value> {
    keys.iter().try_fold(root, |here, key| match key {
        Key::Name(name) => here.get_mut(name),
        Key::At(n) => here.get_mut(*n),
    })
}
