//! The parameters of Task that the Task queue answers from its own columns.

use super::criterion::Column;
use super::parameters::Compares;

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
