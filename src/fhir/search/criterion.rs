//! What a search asks of a resource, as values: the store compiles them to SQL, and a resource can be held against them.

use std::collections::BTreeSet;

use super::rows::Range;

/// One search condition; all of a search's conditions hold together.
#[derive(Clone, Debug, PartialEq)]
pub enum Criterion {
    /// The id is one of these.
    Ids(Vec<String>),
    /// Last changed from the first moment to before the second, in microseconds since 1970 UTC.
    LastUpdated(i64, i64),
    /// A token, reference, string or URI; with `not`, none of its values is one of these.
    Words { params: Vec<String>, any: Vec<Word>, not: bool },
    /// A date or period.
    Times { params: Vec<String>, any: Vec<Span<i64>> },
    /// A number or quantity.
    Numbers { params: Vec<String>, any: Vec<(Span<f64>, Unit)> },
    /// A composite.
    Pairs { params: Vec<String>, any: Vec<Pair> },
    /// There is no value (or, with `false`, there is one).
    Missing { link: Link, table: Table, missing: bool },
    /// It is about one of these people.
    Persons(Persons),
    /// What a reference leads to is of this type, and all of these hold of it.
    Chain { link: Link, kind: String, criteria: Vec<Criterion> },
    /// A resource of this type refers to it, and all of these hold of that one.
    Has { link: Link, kind: String, criteria: Vec<Criterion> },
    /// One of these holds.
    Any(Vec<Criterion>),
    /// A column of the Task queue.
    Queue(QueueTest),
    /// Nothing matches: a condition on something that is not there.
    Nothing,
}

/// One alternative of a word.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// This value; no system means any.
    Is {
        value: String,
        system: Option<String>,
    },
    /// Any value of this system.
    Of(String),
    Begins(String),
    Contains(String),
}

impl Word {
    /// This value of any system.
    pub fn of_value(value: impl Into<String>) -> Word {
        Word::Is { value: value.into(), system: None }
    }
}

/// Where the low and the high end of an interval may lie; both bounds of each belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span<T> {
    pub low: (T, T),
    pub high: (T, T),
}

/// The unit of a quantity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unit {
    pub system: Option<String>,
    /// The code, or without a system the code or the unit as written.
    pub code: Option<String>,
}

/// One alternative of a composite.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub first: Word,
    pub second: Second,
}

/// What the second side of a composite has to be: one of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Second {
    Word(Word),
    Range(Vec<Span<f64>>, Unit),
}

/// By which table values are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Words,
    Times,
    Numbers,
    Pairs,
}

/// How a reference is found: by rows of the index, by whom a resource is about, or by a column of the Task queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub params: Vec<String>,
    /// A resource that is about someone refers to their Patient.
    pub person: bool,
    pub column: Option<Column>,
}

/// People, however they are named: ids of Patients (ours or a sender's), and business identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persons {
    pub patients: Vec<String>,
    pub nhs_numbers: Vec<String>,
    /// (system, value); no system means any.
    pub identifiers: Vec<(Option<String>, String)>,
}

/// A column of the Task queue that a parameter of Task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Status,
    Code,
    Role,
    Priority,
    Owner,
    Referral,
    Locality,
    Due,
}

/// A condition on the Task queue.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueTest {
    /// The column is (or, with `not`, is not) one of these.
    Is { column: Column, any: Vec<String>, not: bool },
    /// Due in one of these intervals: from, to before.
    Due(Vec<(i64, i64)>),
    /// Open, not paused, and due before `now`; or not so.
    Overdue { now: i64, is: bool },
    /// The column is empty, or is not.
    Empty { column: Column, is: bool },
}

impl Criterion {
    /// The business identifier is this one; no system means any.
    pub fn identifier(value: impl Into<String>, system: Option<String>) -> Criterion {
        let any = vec![Word::Is { value: value.into(), system }];
        Criterion::Words { params: vec!["identifier".to_owned()], any, not: false }
    }
}

impl Span<f64> {
    /// Whether a range lies so.
    pub fn holds(&self, range: &Range) -> bool {
        let within = |(from, to): (f64, f64), at: f64| from <= at && at <= to;
        within(self.low, range.low.0) && within(self.high, range.high.0)
    }
}

impl Span<i64> {
    /// Whether an interval lies so.
    pub fn holds(&self, low: i64, high: i64) -> bool {
        let within = |(from, to): (i64, i64), at: i64| from <= at && at <= to;
        within(self.low, low) && within(self.high, high)
    }
}

impl Persons {
    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.patients.is_empty() && self.nhs_numbers.is_empty() && self.identifiers.is_empty()
    }
}

/// The other types that a search asks something of.
pub fn types_asked(criteria: &[Criterion]) -> BTreeSet<&str> {
    let mut types = BTreeSet::new();
    for criterion in criteria {
        match criterion {
            Criterion::Chain { kind, criteria, .. } | Criterion::Has { kind, criteria, .. } => {
                types.insert(kind.as_str());
                types.extend(types_asked(criteria));
            }
            Criterion::Any(any) => types.extend(types_asked(any)),
            _ => {}
        }
    }
    types
}
