//! The parameters of Task that the Task queue answers from its own columns.

use std::borrow::Cow;

use super::criterion::{Column, Criterion, QueueTest};
use super::grammar::{Context, Refused, because, flag, plain};
use super::parameters::Compares;
use super::words::{alternatives, token, unescaped};
use super::{compare, values};

/// Code, what it compares, and the column. `due`, `location` and `overdue` are ours, the others R4's.
const COLUMNS: [(&str, Compares, Option<Column>); 13] = [
    ("status", Compares::Token, Some(Column::Status)),
    ("code", Compares::Token, Some(Column::Code)),
    ("performer", Compares::Token, Some(Column::Role)),
    ("priority", Compares::Token, Some(Column::Priority)),
    ("owner", Compares::Reference, Some(Column::Owner)),
    ("focus", Compares::Reference, Some(Column::Referral)),
    ("location", Compares::Reference, Some(Column::Locality)),
    ("due", Compares::Date, Some(Column::Due)),
    ("overdue", Compares::Token, None),
    ("modified", Compares::Date, None),
    ("patient", Compares::Reference, None),
    ("subject", Compares::Reference, None),
    ("for", Compares::Reference, None),
];

/// Whether a parameter of Task stands in a column and needs no rows of the index.
pub(super) fn is_column(code: &str) -> bool {
    COLUMNS.iter().any(|(name, ..)| *name == code)
}

/// The column of a parameter of Task.
pub(super) fn column(code: &str) -> Option<Column> {
    COLUMNS.iter().find(|(name, ..)| *name == code).and_then(|(_, _, column)| *column)
}

/// The parameters of Task that are ours: code and what it compares.
pub fn own() -> impl Iterator<Item = (&'static str, Compares)> {
    COLUMNS.iter().filter(|(code, ..)| matches!(*code, "due" | "location" | "overdue")).map(|(c, t, _)| (*c, *t))
}

/// The type that a column of references leads to.
pub fn target(column: Column) -> Option<&'static str> {
    match column {
        Column::Owner => Some("PractitionerRole"),
        Column::Referral => Some("ServiceRequest"),
        Column::Locality => Some("Location"),
        _ => None,
    }
}

/// A parameter of Task that the queue answers from its columns.
pub(super) fn criterion(
    context: &Context<'_>,
    code: &str,
    modifier: Option<&str>,
    value: &str,
) -> Result<Option<Criterion>, Refused> {
    if code == "overdue" && modifier.is_none() {
        return Ok(Some(Criterion::Queue(QueueTest::Overdue { now: context.now, is: flag(value)? })));
    }
    let Some(column) = column(code) else { return Ok(None) };
    if column == Column::Due {
        return due(context, modifier, value).map(Some);
    }
    let leads_to = target(column);
    let not = match modifier {
        None => false,
        Some("not") if leads_to.is_none() => true,
        Some("missing") => {
            return Ok(Some(Criterion::Queue(QueueTest::Empty { column, is: flag(value)? })));
        }
        Some(said) if Some(said) == leads_to => false,
        Some(said) => return because(format!("{code} of a Task is not searched with :{}.", plain(said))),
    };
    let any: Vec<String> = alternatives(value)
        .into_iter()
        .filter_map(|one| match leads_to {
            Some(target) => {
                let said = unescaped(one);
                let local = values::local(context.base, &said).map(|(kind, id)| (kind.to_owned(), id.to_owned()));
                match local {
                    Some((kind, id)) => (kind == target).then_some(id),
                    None => Some(said),
                }
            }
            None => Some(token(one).1),
        })
        .map(|value| if column == Column::Owner { format!("PractitionerRole/{value}") } else { value })
        .collect();
    Ok(Some(if any.is_empty() { Criterion::Nothing } else { Criterion::Queue(QueueTest::Is { column, any, not }) }))
}

fn due(context: &Context<'_>, modifier: Option<&str>, value: &str) -> Result<Criterion, Refused> {
    if modifier.is_some() {
        return because("due of a Task has no modifiers.");
    }
    let mut any = Vec::new();
    for one in alternatives(value) {
        match compare::moments(one, context.now) {
            Some(moments) => any.extend(moments),
            None => return because("This is not a FHIR date or time."),
        }
    }
    Ok(Criterion::Queue(QueueTest::Due(any)))
}

/// Ids alone, where of any type that a reference of a Task may lead to one is usual.
pub(super) fn typed<'a>(code: &str, value: &'a str) -> Cow<'a, str> {
    let Some(target) = column(code).and_then(target) else { return Cow::Borrowed(value) };
    let with_type = |one: &str| if one.contains(['/', ':']) { one.to_owned() } else { format!("{target}/{one}") };
    Cow::Owned(alternatives(value).into_iter().map(with_type).collect::<Vec<_>>().join(","))
}
