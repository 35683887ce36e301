//! A resource held against a search, without a database.

use std::collections::HashSet;

use super::criterion::{Criterion, Pair, Second, Table, Unit, Word};
use super::rows::{IndexRow, rows};
use crate::fhir::Resource;
use crate::fhir::when::Interval;

/// Whether all of these hold of a resource; `None` where only the database can tell: who a person is, what a chain leads
/// to, and the place of a Task in the queue.
pub fn matches(resource: &Resource, criteria: &[Criterion]) -> Option<bool> {
    let rows = rows(resource, false);
    let mut all = true;
    for criterion in criteria {
        all &= holds(criterion, resource, &rows)?;
    }
    Some(all)
}

fn holds(criterion: &Criterion, resource: &Resource, rows: &[IndexRow]) -> Option<bool> {
    Some(match criterion {
        Criterion::Ids(ids) => resource.id().is_some_and(|id| ids.iter().any(|one| one == id)),
        Criterion::LastUpdated(from, before) => {
            let at = resource.text("meta.lastUpdated").and_then(Interval::parse);
            at.is_some_and(|at| *from <= at.low && at.low < *before)
        }
        Criterion::Words { params, any, not } => {
            let found = rows.iter().any(|row| match row {
                IndexRow::Word { param, value, system } => {
                    params.contains(param) && any.iter().any(|word| word.holds(value, system))
                }
                _ => false,
            });
            found != *not
        }
        Criterion::Times { params, any } => rows.iter().any(|row| match row {
            IndexRow::Time { param, low, high } => {
                params.contains(param) && any.iter().any(|span| span.holds(*low, *high))
            }
            _ => false,
        }),
        Criterion::Numbers { params, any } => rows.iter().any(|row| match row {
            IndexRow::Number { param, range, system, code, unit } => {
                params.contains(param)
                    && any.iter().any(|(span, wanted)| span.holds(range) && wanted.holds(system, code, unit))
            }
            _ => false,
        }),
        Criterion::Pairs { params, any } => rows
            .iter()
            .any(|row| matches!(row, IndexRow::Pair { param, .. } if params.contains(param)) && paired(row, any)),
        Criterion::Missing { link, table, missing } => {
            let there: HashSet<&str> = rows.iter().filter(|row| row.table() == *table).map(IndexRow::param).collect();
            link.params.iter().any(|param| there.contains(param.as_str())) != *missing
        }
        Criterion::Any(any) => {
            let mut found = false;
            for one in any {
                found |= holds(one, resource, rows)?;
            }
            found
        }
        Criterion::Nothing => false,
        Criterion::Persons(_) | Criterion::Chain { .. } | Criterion::Has { .. } | Criterion::Queue(_) => return None,
    })
}

fn paired(row: &IndexRow, any: &[Pair]) -> bool {
    let IndexRow::Pair { value, system, other, other_system, range, .. } = row else { return false };
    any.iter().any(|pair| {
        pair.first.holds(value, system)
            && match &pair.second {
                Second::Word(word) => word.holds(other, other_system),
                Second::Range(spans, unit) => {
                    unit.holds(other_system, other, other) && spans.iter().any(|span| span.holds(range))
                }
            }
    })
}

impl Word {
    fn holds(&self, value: &str, system: &str) -> bool {
        match self {
            Word::Is { value: wanted, system: None } => wanted == value,
            Word::Is { value: wanted, system: Some(of) } => wanted == value && of == system,
            Word::Of(of) => of == system,
            Word::Begins(start) => value.starts_with(start.as_str()),
            Word::Contains(part) => value.contains(part.as_str()),
        }
    }
}

impl Unit {
    fn holds(&self, system: &str, code: &str, unit: &str) -> bool {
        match (&self.system, &self.code) {
            (Some(of), Some(wanted)) => of == system && wanted == code,
            (Some(of), None) => of == system,
            (None, Some(wanted)) => wanted == code || wanted == unit,
            (None, None) => true,
        }
    }
}

impl IndexRow {
    /// The parameter under which it stands.
    pub fn param(&self) -> &str {
        match self {
            IndexRow::Word { param, .. }
            | IndexRow::Time { param, .. }
            | IndexRow::Number { param, .. }
            | IndexRow::Pair { param, .. } => param,
        }
    }

    fn table(&self) -> Table {
        match self {
            IndexRow::Word { .. } => Table::Words,
            IndexRow::Time { .. } => Table::Times,
            IndexRow::Number { .. } => Table::Numbers,
            IndexRow::Pair { .. } => Table::Pairs,
        }
    }
}
