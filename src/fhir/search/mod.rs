//! Search: the parameters of R4 as data, what they find in a resource, and what a search asks.
//!
//! [`rows()`] is the index of a resource, [`read`] the grammar, [`Criterion`] what both meet in: the store compiles it to
//! SQL over the index, [`matches()`] holds a resource against it without a database; a [`Filter`] is a search that can
//! always be told so.

mod compare;
mod criterion;
mod filter;
mod grammar;
mod held;
mod parameters;
mod path;
mod queue;
mod rows;
mod shape;
mod text;
mod values;
mod words;

pub use criterion::{Column, Criterion, Link, Pair, Persons, QueueTest, Second, Span, Table, Unit, Word, types_asked};
pub use filter::{Filter, referred};
pub use grammar::{Context, Refused, ValueSets, in_compartment, read, value_sets};
pub use held::matches;
pub use parameters::{Absent, Compares, Param, absent, param, params};
pub use queue::{own as own_task_parameters, target as column_target};
pub use rows::{IndexRow, Range, Real, all_rows, rows};
pub use shape::{Include, SortKey, Sorted, include, include_targets, included, references, sort, sort_value};
pub use words::{alternatives, too_much};

/// Which index rows a resource has: raised when [`rows()`] finds more or other ones than before, so that the rows of what
/// was stored earlier are written anew.
pub const INDEX_GENERATION: i64 = 1;

/// What `resource.indexed` says when the index has the rows of this version, by this release.
pub fn indexed(version: i64) -> i64 {
    version * 100 + INDEX_GENERATION
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;
