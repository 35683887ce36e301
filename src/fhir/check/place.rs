//! Where the walk stands, kept as a chain on the stack and written out only when something is wrong there.

use std::fmt::{self, Write as _};

use crate::fhir::{Issue, IssueCode};

/// An element on the way from the root: FHIRPath when displayed, e.g. `Patient.name[0].given[1]`.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    up: Option<&'a Place<'a>>,
    name: &'a str,
    /// The type a choice (`value[x]`) was sent as: `value.ofType(Quantity)`.
    of_type: Option<&'a str>,
    index: Option<usize>,
    depth: u8,
}

impl<'a> Place<'a> {
    /// Where a resource begins: its type.
    pub(super) fn root(resource_type: &'a str) -> Place<'a> {
        Place { up: None, name: resource_type, of_type: None, index: None, depth: 0 }
    }

    /// An element below this one.
    pub(super) fn child(&'a self, name: &'a str) -> Place<'a> {
        Place { up: Some(self), name, of_type: None, index: None, depth: self.depth.saturating_add(1) }
    }

    /// A choice below this one.
    pub(super) fn choice(&'a self, name: &'a str, of_type: &'a str) -> Place<'a> {
        Place { of_type: Some(of_type), ..self.child(name) }
    }

    /// An item of this list.
    pub(super) fn item(self, index: usize) -> Place<'a> {
        Place { index: Some(index), ..self }
    }

    /// How far below the root.
    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    /// The element name without the way to it.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            write!(f, "{up}.")?;
        }
        f.write_str(self.name)?;
        if let Some(of_type) = self.of_type {
            write!(f, ".ofType({of_type})")?;
        }
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

/// What was found, up to a limit at which the walk stops.
pub(super) struct Findings {
    issues: Vec<Issue>,
    max: usize,
}

impl Findings {
    pub(super) fn new(max: usize) -> Findings {
        Findings { issues: Vec::new(), max }
    }

    /// Whether the limit is reached: nothing more needs to be looked at.
    pub(super) fn full(&self) -> bool {
        self.issues.len() >= self.max
    }

    /// An error here.
    pub(super) fn error(&mut self, code: IssueCode, at: &Place<'_>, text: impl Into<String>) {
        if !self.full() {
            self.issues.push(Issue::error(code, at.to_string(), text));
        }
    }

    pub(super) fn into_issues(self) -> Vec<Issue> {
        self.issues
    }
}

/// A name from the message if it looks like an element name, else nothing: a key can hold anything, also patient data.
pub(super) fn sayable(name: &str) -> Option<&str> {
    const LONGEST: usize = 64;
    let plain = name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (plain && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')).then_some(name)
}

/// `text` with a bound, for texts that list what is allowed.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let mut out = String::new();
    for (position, name) in names.enumerate() {
        match position {
            0 => out.push_str(name),
            MOST => {
                out.push_str(", ...");
                break;
            }
            _ => {
                let _ = write!(out, ", {name}");
            }
        }
    }
    out
}
