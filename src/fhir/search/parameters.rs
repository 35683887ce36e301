//! The search parameters, as R4 defines them, with a few of ours.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::path::{self, Path};
use crate::fhir::Resource;
use crate::fhir::check::required_systems;

/// What a search parameter compares (`http://hl7.org/fhir/search-param-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compares {
    Token,
    Reference,
    Date,
    String,
    Number,
    Quantity,
    Uri,
    Composite,
}

impl Compares {
    /// The code of the value set.
    pub fn code(self) -> &'static str {
        match self {
            Compares::Token => "token",
            Compares::Reference => "reference",
            Compares::Date => "date",
            Compares::String => "string",
            Compares::Number => "number",
            Compares::Quantity => "quantity",
            Compares::Uri => "uri",
            Compares::Composite => "composite",
        }
    }

    fn of(code: &str) -> Option<Compares> {
        use Compares::{Composite, Date, Number, Quantity, Reference, String, Token, Uri};
        [Token, Reference, Date, String, Number, Quantity, Uri, Composite].into_iter().find(|c| c.code() == code)
    }

    /// Whether values of this R4 type can be compared so.
    fn takes(self, kind: &str) -> bool {
        match self {
            Compares::Token => {
                matches!(kind, "code" | "Coding" | "CodeableConcept" | "Identifier" | "ContactPoint" | "boolean")
                    || matches!(kind, "id" | "string" | "uri" | "canonical")
            }
            Compares::Reference => matches!(kind, "Reference" | "canonical" | "uri"),
            Compares::Date => matches!(kind, "date" | "dateTime" | "instant" | "Period" | "Timing"),
            Compares::String => matches!(kind, "string" | "markdown" | "HumanName" | "Address"),
            Compares::Number => matches!(kind, "integer" | "decimal" | "positiveInt" | "unsignedInt"),
            Compares::Quantity => matches!(kind, "Quantity" | "Age" | "Duration" | "Count" | "Money" | "Range"),
            Compares::Uri => matches!(kind, "uri" | "url" | "canonical" | "oid" | "uuid"),
            Compares::Composite => false,
        }
    }
}

/// A search parameter.
#[derive(Debug)]
pub struct Param {
    pub code: &'static str,
    pub compares: Compares,
    /// The resource types a reference may lead to; none: any.
    pub targets: Vec<&'static str>,
    /// It says whom a resource is about, which every resource knows of itself.
    pub person: bool,
    /// The codes under which its values stand in the index: its own, or those of the parameters it is made of.
    pub stands: Vec<&'static str>,
    /// Only references to this type count: `patient` among `subject`.
    pub only: Option<&'static str>,
    /// The two sides of a composite.
    pub components: Vec<Component>,
    /// The code systems that a bare code belongs to.
    pub systems: Vec<&'static str>,
    pub(super) paths: Vec<Path>,
    /// How its definition writes the alternatives.
    parts: Vec<&'static str>,
}

/// One side of a composite parameter.
#[derive(Debug)]
pub struct Component {
    pub compares: Compares,
    /// From where each path of the composite leads.
    pub(super) paths: Vec<Vec<Path>>,
}

/// A parameter of the definitions that is not offered, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Absent {
    pub kind: &'static str,
    pub code: &'static str,
    pub why: &'static str,
}

struct Table {
    of: HashMap<&'static str, Vec<Param>>,
    patient_compartment: HashMap<&'static str, Vec<&'static str>>,
    absent: Vec<Absent>,
}

/// The elements by which a resource says whom it is about.
const ABOUT: [&str; 5] = ["subject", "patient", "for", "beneficiary", "individual"];

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { of: HashMap::new(), patient_compartment: HashMap::new(), absent: Vec::new() };
    table.read(include_str!("../../../fhir-profiles/r4/search-parameters.txt"));
    table.read(include_str!("../../../fhir-profiles/search-parameters.txt"));
    for params in table.of.values_mut() {
        stand_together(params);
    }
    table
});

/// The parameters of every type, and those of this one.
pub fn params(kind: &str) -> impl Iterator<Item = &'static Param> {
    ["Resource", "DomainResource", kind].into_iter().filter_map(|of| TABLE.of.get(of)).flatten()
}

/// The parameter of this code on this type.
pub fn param(kind: &str, code: &str) -> Option<&'static Param> {
    params(kind).find(|p| p.code == code)
}

/// The codes of the parameters that put a type into the compartment of a Patient.
pub(super) fn patient_compartment(kind: &str) -> &'static [&'static str] {
    TABLE.patient_compartment.get(kind).map(Vec::as_slice).unwrap_or_default()
}

/// What R4 defines and is not offered here.
pub fn absent() -> &'static [Absent] {
    &TABLE.absent
}

impl Table {
    fn read(&mut self, text: &'static str) {
        let mut kind = "";
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match (line.strip_prefix(' '), kind.strip_prefix('@')) {
                (None, _) => kind = line,
                (Some(line), Some("Patient")) => {
                    let mut words = line.split(' ');
                    let of = words.next().unwrap_or_default();
                    self.patient_compartment.insert(of, words.collect());
                }
                (Some(_), Some(_)) => {}
                (Some(line), None) => self.parameter(kind, line),
            }
        }
    }

    fn parameter(&mut self, kind: &'static str, line: &'static str) {
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap_or_default();
        let (code, compares, targets, expression, components) = (field(), field(), field(), field(), field());
        match Param::read(kind, code, compares, targets, expression, components) {
            Ok(param) => self.of.entry(kind).or_default().push(param),
            Err(why) => self.absent.push(Absent { kind, code, why }),
        }
    }
}

impl Param {
    fn read(
        kind: &'static str,
        code: &'static str,
        compares: &str,
        targets: &'static str,
        expression: &'static str,
        components: &'static str,
    ) -> Result<Param, &'static str> {
        let compares = Compares::of(compares).ok_or("its value type is not searched")?;
        if code == "phonetic" {
            return Err("names are not compared by sound");
        }
        let mut paths = path::compile(kind, expression).ok_or("its expression is outside of what is followed")?;
        let components = match compares {
            Compares::Composite => Component::read_all(&paths, components)?,
            _ => {
                let all = paths.len();
                paths.retain(|path| path.leads_to().into_iter().any(|kind| compares.takes(kind)));
                if paths.is_empty() || (paths.len() < all && !expression.contains("SampledData")) {
                    return Err("its values are of a type that is not compared so");
                }
                Vec::new()
            }
        };
        let targets = if targets == "*" { "" } else { targets };
        let targets: Vec<_> = targets.split(',').filter(|target| !target.is_empty()).collect();
        let about = |path: &Path| path.element().is_some_and(|element| ABOUT.contains(&element));
        let person = compares == Compares::Reference
            && paths.iter().all(about)
            && (targets.is_empty() || targets.contains(&"Patient"));
        let systems = match paths.as_slice() {
            [only] if only.leads_to() == ["code"] => {
                only.last_element().map(|(of, element)| required_systems(of, element)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let parts = expression.split(" | ").collect();
        Ok(Param { code, compares, targets, person, stands: vec![code], only: None, components, systems, paths, parts })
    }

    /// Whether it leads to a definition by its canonical URL, not to a resource by its id.
    pub(super) fn is_canonical(&self) -> bool {
        !self.paths.iter().any(|path| path.leads_to().contains(&"Reference"))
            && self.paths.iter().any(|path| path.leads_to().contains(&"canonical"))
            || self.paths.iter().all(|path| path.leads_to() == ["uri"])
    }

    /// The values it finds in a resource.
    pub(super) fn values<'a>(&self, resource: &'a Resource) -> Vec<&'a Value> {
        let whole = resource.value();
        self.paths.iter().flat_map(|path| path.values(whole, whole)).map(|node| node.value).collect()
    }

    /// Whether its values stand in the index under its own code.
    pub(super) fn stands_alone(&self) -> bool {
        self.stands == [self.code]
    }
}

impl Component {
    fn read_all(leads: &[Path], text: &'static str) -> Result<Vec<Component>, &'static str> {
        let components: Option<Vec<Component>> = text.split("; ").map(|one| Component::read(leads, one)).collect();
        match components.ok_or("a component of it is outside of what is followed")? {
            both if both.len() == 2 && both.first().is_some_and(|c| c.compares == Compares::Token) => Ok(both),
            _ => Err("only composites of a token and one more value are searched"),
        }
    }

    fn read(leads: &[Path], text: &'static str) -> Option<Component> {
        let (compares, expression) = text.split_once(' ')?;
        let compares = Compares::of(compares)?;
        let follow = |lead: &Path| match lead.leads_to().as_slice() {
            [kind] => path::compile(kind, expression)
                .filter(|paths| paths.iter().all(|p| p.leads_to().into_iter().any(|kind| compares.takes(kind)))),
            _ => None,
        };
        let paths: Option<Vec<Vec<Path>>> = leads.iter().map(follow).collect();
        Some(Component { compares, paths: paths? })
    }
}

/// Finds the parameters whose values stand in the index already, as those of others: `combo-code` is `code` and
/// `component-code`, `patient` is `subject` where that is a Patient. Each row that is not written is a write saved.
fn stand_together(params: &mut [Param]) {
    let known: Vec<(&'static str, Compares, Vec<&'static str>, String)> =
        params.iter().map(|p| (p.code, p.compares, p.parts.clone(), component_types(p))).collect();
    for param in params.iter_mut() {
        let of = component_types(param);
        if let [part] = param.parts.as_slice()
            && let Some((whole, "Patient")) = part.strip_suffix(')').and_then(|p| p.split_once(".where(resolve() is "))
            && let Some((code, ..)) = known
                .iter()
                .find(|(_, compares, parts, _)| *compares == Compares::Reference && parts.as_slice() == [whole])
        {
            param.stands = vec![code];
            param.only = Some("Patient");
        }
        if param.parts.len() > 1 {
            let smaller: Vec<_> = known
                .iter()
                .filter(|(code, compares, parts, types)| {
                    *code != param.code
                        && *compares == param.compares
                        && *types == of
                        && parts.len() < param.parts.len()
                        && parts.iter().all(|part| param.parts.contains(part))
                })
                .collect();
            if param.parts.iter().all(|part| smaller.iter().any(|(_, _, parts, _)| parts.contains(part))) {
                param.stands = smaller.iter().map(|(code, ..)| *code).collect();
            }
        }
    }
}

/// The value types of the components, by which composites of one expression are told apart.
fn component_types(param: &Param) -> String {
    let kinds = |c: &Component| {
        let leads = c.paths.first().and_then(|paths| paths.first()).map(Path::leads_to).unwrap_or_default();
        format!("{}:{}", c.compares.code(), leads.join(","))
    };
    param.components.iter().map(kinds).collect::<Vec<_>>().join(" ")
}
