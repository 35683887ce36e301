//! A resource held against a search, without a database.

use std::collections::HashSet;

use super::criterion::{Criterion, Pair, Persons, Second, Table, Unit, Word};
use super::rows::IndexRow;
use crate::fhir::Resource;
use crate::fhir::when::Interval;

/// Whether all of these hold of a resource with these `rows` ([`super::all_rows`]); `None` where only the database can tell: who a person is, what a chain leads
/// to, and the place of a Task in the queue. `person` is our Patient it is about, '' for nobody; `None`: not known.
pub fn matches(resource: &Resource, rows: &[IndexRow], person: Option<&str>, criteria: &[Criterion]) -> Option<bool> {
    Held { resource, person, rows }.all(criteria)
}

struct Held<'a> {
    resource: &'a Resource,
    person: Option<&'a str>,
    rows: &'a [IndexRow],
}

impl Held<'_> {
    /// Whether all hold. One that does not is enough, whatever cannot be told of the others.
    fn all(&self, criteria: &[Criterion]) -> Option<bool> {
        let mut told = Some(true);
        for criterion in criteria {
            match self.holds(criterion) {
                Some(false) => return Some(false),
                Some(true) => {}
                None => told = None,
            }
        }
        told
    }

    /// Whether one holds. One that does is enough.
    fn any(&self, criteria: &[Criterion]) -> Option<bool> {
        let mut told = Some(false);
        for criterion in criteria {
            match self.holds(criterion) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => told = None,
            }
        }
        told
    }

    fn holds(&self, criterion: &Criterion) -> Option<bool> {
        Some(match criterion {
            Criterion::Ids(ids) => self.resource.id().is_some_and(|id| ids.iter().any(|one| one == id)),
            Criterion::LastUpdated(from, before) => {
                let at = self.resource.text("meta.lastUpdated").and_then(Interval::parse);
                at.is_some_and(|at| *from <= at.low && at.low < *before)
            }
            Criterion::Words { params, any, not } => {
                let found = self.rows.iter().any(|row| match row {
                    IndexRow::Word { param, value, system } => {
                        params.contains(param) && any.iter().any(|word| word.holds(value, system))
                    }
                    _ => false,
                });
                found != *not
            }
            Criterion::Times { params, any } => self.rows.iter().any(|row| match row {
                IndexRow::Time { param, low, high } => {
                    params.contains(param) && any.iter().any(|span| span.holds(*low, *high))
                }
                _ => false,
            }),
            Criterion::Numbers { params, any } => self.rows.iter().any(|row| match row {
                IndexRow::Number { param, range, system, code, unit } => {
                    params.contains(param)
                        && any.iter().any(|(span, wanted)| span.holds(range) && wanted.holds(system, code, unit))
                }
                _ => false,
            }),
            Criterion::Pairs { params, any } => self
                .rows
                .iter()
                .any(|row| matches!(row, IndexRow::Pair { param, .. } if params.contains(param)) && paired(row, any)),
            Criterion::Missing { link, table, missing } => {
                let there: HashSet<&str> =
                    self.rows.iter().filter(|row| row.table() == *table).map(IndexRow::param).collect();
                let about = link.person && self.person.is_some_and(|person| !person.is_empty());
                (about || link.params.iter().any(|param| there.contains(param.as_str()))) != *missing
            }
            Criterion::Persons(named) => return self.is_about(named),
            Criterion::Any(any) => return self.any(any),
            Criterion::Nothing => false,
            Criterion::Chain { .. } | Criterion::Has { .. } | Criterion::Queue(_) => return None,
        })
    }

    /// Whether it is about one of these people. By what other names a person goes only the database can tell.
    fn is_about(&self, named: &Persons) -> Option<bool> {
        match self.person? {
            "" => Some(false),
            person => named.patients.iter().any(|one| one == person).then_some(true),
        }
    }
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
