//! How many attempts this process has settled: a counter for whoever watches, not a record.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Settled attempts by practice and verdict.
#[derive(Default)]
pub struct Attempts(Mutex<BTreeMap<(String, &'static str), i64>>);

impl Attempts {
    /// One more.
    pub(super) fn count(&self, practice: &str, verdict: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((practice.to_owned(), verdict)).or_default() += 1;
    }

    /// All of them.
    pub fn counted(&self) -> BTreeMap<(String, &'static str), i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
