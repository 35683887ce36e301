//! From a search parameter as it was sent to what it asks (<https://hl7.org/fhir/R4/search.html>).

use std::borrow::Cow;

use super::compare;
use super::criterion::{Column, Criterion, Link, Pair, Second, Table};
use super::parameters::{Compares, Param, param, patient_compartment};
use super::queue;
use super::values::{self, Unfit};
use super::words::{alternatives, parts, unescaped};
use crate::fhir::check::is_resource_type;

/// How many references a chain or a `_has` follows.
const LONGEST_CHAIN: usize = 4;

/// What a search is read with.
pub struct Context<'a> {
    /// The base of the FHIR API, by which a reference is known as local.
    pub base: &'a str,
    /// Microseconds since 1970 UTC.
    pub now: i64,
    /// The (system, code) pairs of a value set of ours.
    pub value_set: &'a ValueSets<'a>,
    /// Tasks are those of the queue, which has columns of its own; else any, as they stand.
    pub queue: bool,
}

/// Lists the (system, code) pairs of a value set by its canonical, where it is ours and can be listed.
pub type ValueSets<'a> = dyn Fn(&str) -> Option<Vec<(String, String)>> + Sync + 'a;

/// Why a parameter is not searched by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This type has no such parameter.
    Unknown,
    /// It has, and not so; the sentence says why.
    Because(String),
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Refused {
        Refused::Because(unfit.0)
    }
}

pub(super) fn because<T>(text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Because(text.into()))
}

/// What one parameter of a search on `kind` asks.
///
/// # Errors
/// [`Refused`], when it cannot be searched by.
pub fn read(context: &Context<'_>, kind: &str, name: &str, value: &str) -> Result<Criterion, Refused> {
    if alternatives(value).is_empty() {
        return because("This parameter has no value. Give it one, or leave it out.");
    }
    parameter(context, kind, name, value, 0)
}

/// That a resource is in the compartment of a Patient; `None` when the type never is.
pub fn in_compartment(context: &Context<'_>, kind: &str, patient: &str) -> Option<Criterion> {
    let codes = patient_compartment(kind);
    let any = codes.iter().filter_map(|code| read(context, kind, code, &format!("Patient/{patient}")).ok());
    let mut any: Vec<_> = any.collect();
    if kind == "Patient" {
        any.push(Criterion::Ids(vec![patient.to_owned()]));
    }
    (!any.is_empty()).then_some(Criterion::Any(any))
}

fn parameter(context: &Context<'_>, kind: &str, name: &str, value: &str, depth: usize) -> Result<Criterion, Refused> {
    if let Some(reverse) = name.strip_prefix("_has:") {
        return has(context, kind, reverse, value, depth + 1);
    }
    if let Some((link, rest)) = name.split_once('.') {
        return chain(context, kind, link, rest, value, depth + 1);
    }
    let (code, modifier) = match name.split_once(':') {
        Some((code, modifier)) => (code, Some(modifier)),
        None => (name, None),
    };
    match (code, modifier) {
        ("_id", None) => return Ok(Criterion::Ids(alternatives(value).into_iter().map(unescaped).collect())),
        ("_lastUpdated", None) => return last_updated(context, value),
        ("modified", None) if kind == "Task" && context.queue => return last_updated(context, value),
        _ => {}
    }
    let value = match kind {
        "Task" if context.queue => match queue::criterion(context, code, modifier, value)? {
            Some(criterion) => return Ok(criterion),
            None => Cow::Borrowed(value),
        },
        "Task" if modifier != Some("missing") => queue::typed(code, value),
        _ => Cow::Borrowed(value),
    };
    let value = value.as_ref();
    let param = known(kind, code)?;
    if modifier == Some("missing") {
        let missing = flag(value)?;
        return Ok(Criterion::Missing { link: missing_link(param), table: table(param), missing });
    }
    values::criterion(context, param, modifier, value).map_err(Refused::from)
}

/// The parameter, also by the name that Task has for whom it is about.
pub(super) fn known(kind: &str, code: &str) -> Result<&'static Param, Refused> {
    let code = if kind == "Task" && code == "for" { "subject" } else { code };
    param(kind, code).filter(|p| !matches!(p.code, "_id" | "_lastUpdated")).ok_or(Refused::Unknown)
}

pub(super) fn flag(value: &str) -> Result<bool, Refused> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => because("This is true or false."),
    }
}

fn last_updated(context: &Context<'_>, value: &str) -> Result<Criterion, Refused> {
    let mut any = Vec::new();
    for one in alternatives(value) {
        match compare::moments(one, context.now) {
            Some(moments) => any.extend(moments.into_iter().map(|(from, to)| Criterion::LastUpdated(from, to))),
            None => return because("This is not a FHIR date or time."),
        }
    }
    Ok(match any.len() {
        1 => any.pop().unwrap_or(Criterion::Nothing),
        _ => Criterion::Any(any),
    })
}

fn missing_link(param: &Param) -> Link {
    let mut link = link(param, None);
    let further = match param.compares {
        Compares::Token => ":text",
        Compares::Reference => ":identifier",
        _ => return link,
    };
    let all: Vec<_> = param.stands.iter().map(|code| format!("{code}{further}")).collect();
    link.params.extend(all);
    link
}

pub(super) fn link(param: &Param, column: Option<Column>) -> Link {
    Link { params: param.stands.iter().map(|code| (*code).to_owned()).collect(), person: param.person, column }
}

pub(super) fn table(param: &Param) -> Table {
    match param.compares {
        Compares::Token | Compares::Reference | Compares::String | Compares::Uri => Table::Words,
        Compares::Date => Table::Times,
        Compares::Number | Compares::Quantity => Table::Numbers,
        Compares::Composite => Table::Pairs,
    }
}

/// The link by which resources of `kind` refer to others, and the types it leads to.
fn reference(kind: &str, code: &str) -> Result<(Link, Vec<&'static str>), Refused> {
    if kind == "Task"
        && let Some(column) = queue::column(code)
        && let Some(target) = queue::target(column)
    {
        return Ok((Link { column: Some(column), ..Link::default() }, vec![target]));
    }
    let param = known(kind, code)?;
    if param.compares != Compares::Reference || param.is_canonical() {
        return because("Only a parameter that is a reference to a resource leads on to another one.");
    }
    let targets = param.only.map_or_else(|| param.targets.clone(), |only| vec![only]);
    Ok((link(param, None), targets))
}

/// `subject:Patient.name`: what is asked of what a reference leads to.
fn chain(
    context: &Context<'_>,
    kind: &str,
    link: &str,
    rest: &str,
    value: &str,
    depth: usize,
) -> Result<Criterion, Refused> {
    not_too_deep(depth)?;
    let (code, said) = match link.split_once(':') {
        Some((code, said)) => (code, Some(said)),
        None => (link, None),
    };
    let (link, mut targets) = reference(kind, code)?;
    // A person is known by their number to whoever knows it, also where our Patient of theirs is not theirs to see.
    if link.person && rest == "identifier" && said.is_none_or(|said| said == "Patient") {
        return Ok(values::persons_by_identifier(&link.params, value));
    }
    if let Some(said) = said {
        if !is_resource_type(said) || !(targets.is_empty() || targets.contains(&said)) {
            return because("This reference does not lead to that type.");
        }
        let criteria = vec![parameter(context, said, rest, value, depth)?];
        return Ok(Criterion::Chain { link, kind: said.to_owned(), criteria });
    }
    if targets.is_empty() {
        return because("This reference may lead to any type. Say which, for example subject:Patient.name.");
    }
    let many = targets.len() > 1;
    let mut any = Vec::new();
    let mut refused = None;
    for target in targets.drain(..) {
        match parameter(context, target, rest, value, depth) {
            Ok(criterion) => {
                any.push(Criterion::Chain { link: link.clone(), kind: target.to_owned(), criteria: vec![criterion] })
            }
            Err(Refused::Because(why)) if !many => return because(why),
            Err(why) => refused = Some(why),
        }
    }
    match (any.len(), refused) {
        (0, Some(Refused::Because(why))) => because(why),
        (0, _) => because("What this reference leads to is not searched by that parameter."),
        (1, _) => Ok(any.pop().unwrap_or(Criterion::Nothing)),
        _ => Ok(Criterion::Any(any)),
    }
}

/// `_has:Observation:patient:code`: that something refers to it of which this is true.
fn has(context: &Context<'_>, kind: &str, reverse: &str, value: &str, depth: usize) -> Result<Criterion, Refused> {
    not_too_deep(depth)?;
    let mut words = reverse.splitn(3, ':');
    let (Some(from), Some(code), Some(rest)) = (words.next(), words.next(), words.next()) else {
        return because("_has is written _has:Type:reference:parameter, for example _has:Observation:patient:code.");
    };
    if !is_resource_type(from) {
        return because("The first word after _has is a resource type.");
    }
    let (link, targets) = match reference(from, code) {
        Err(Refused::Unknown) => return because(format!("{from} is not searched by {}.", plain(code))),
        found => found?,
    };
    if !(targets.is_empty() || targets.contains(&kind)) {
        return because("That reference does not lead to this type.");
    }
    let criteria = match parameter(context, from, rest, value, depth) {
        Err(Refused::Unknown) => return because(format!("{from} is not searched by {}.", plain(rest))),
        found => vec![found?],
    };
    Ok(Criterion::Has { link, kind: from.to_owned(), criteria })
}

pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-:.".contains(*c)).take(60).collect()
}

fn not_too_deep(depth: usize) -> Result<(), Refused> {
    if depth > LONGEST_CHAIN {
        return because(format!("A search follows at most {LONGEST_CHAIN} references. Follow fewer."));
    }
    Ok(())
}

/// The two sides of each alternative of a composite.
pub(super) fn composite(context: &Context<'_>, param: &Param, value: &str) -> Result<Vec<Pair>, Unfit> {
    let [first, second] = param.components.as_slice() else { return Err(Unfit::new("This composite has no sides.")) };
    let mut pairs = Vec::new();
    for one in alternatives(value) {
        let sides = parts(one, '$');
        let [left, right] = sides.as_slice() else {
            return Err(Unfit::new("A composite is two values with a $ between them."));
        };
        let spans = match second.compares {
            Compares::Quantity | Compares::Number => {
                Some(compare::quantity(right).ok_or_else(|| Unfit::new("This is not a number or a quantity."))?)
            }
            Compares::Date => {
                let spans = compare::times(right, context.now);
                let spans = spans.ok_or_else(|| Unfit::new("This is not a FHIR date or time."))?;
                Some((spans.into_iter().map(values::as_numbers).collect(), super::criterion::Unit::default()))
            }
            _ => None,
        };
        let seconds = match spans {
            Some((spans, unit)) => vec![Second::Range(spans, unit)],
            None => values::side(context, second.compares, right).into_iter().map(Second::Word).collect(),
        };
        for word in values::side(context, first.compares, left) {
            pairs.extend(seconds.iter().map(|second| Pair { first: word.clone(), second: second.clone() }));
        }
    }
    Ok(pairs)
}

/// The value sets that a search asks for by `:in` and `:not-in`: their type, and the canonical of each.
pub fn value_sets(filters: &[(String, String)]) -> Vec<(&'static str, String)> {
    let named = filters.iter().filter(|(name, _)| name.ends_with(":in") || name.ends_with(":not-in"));
    named.map(|(_, value)| ("ValueSet", unescaped(value))).collect()
}
