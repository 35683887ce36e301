//! Why an act was not done.

use crate::fhir::{Invalid, Issue, IssueCode};
use crate::store::StoreError;

/// Why an act was not done; nothing of it was kept. `api` has the one table from these to statuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was sent is not readable, or breaks a rule.
    #[error("the input is refused")]
    Invalid(Invalid),
    /// There is no such thing, or the caller may not see it: the two answer alike.
    #[error("not found")]
    NotFound,
    /// It was there and was deleted.
    #[error("deleted")]
    Gone,
    /// The caller may not do this.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// It contradicts what is stored, or what someone else did first.
    #[error("conflict")]
    Conflict(Issue),
    /// The version the caller builds on is not the current one.
    #[error("the version is not current")]
    Stale(String),
    /// `If-Match` is needed and was not sent.
    #[error("If-Match is missing")]
    NeedsVersion,
    /// Conditional criteria match several.
    #[error("several matches")]
    Several(String),
    /// It cannot be told yet, and will be by itself.
    #[error("not yet")]
    NotYet(String),
    /// This service does not do that.
    #[error("not supported: {0}")]
    NotSupported(String),
    /// What is wrong with one entry of a Bundle, and so with all of it.
    #[error("{at}: {why}")]
    Entry { at: String, why: Box<Error> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// A rule that the element at `expression` breaks.
    pub fn rule(code: IssueCode, expression: impl Into<String>, text: impl Into<String>) -> Error {
        Error::Invalid(Invalid::unprocessable(Issue::error(code, expression, text)))
    }

    /// The same, naming the entry of a Bundle that it is about (`Bundle.entry[2]`). A failure of the store is nobody's.
    pub fn at(self, entry: &str) -> Error {
        let named = |issue: Issue| match issue.expression.as_deref() {
            None => Issue { expression: Some(entry.to_owned()), ..issue },
            Some(expression) if expression.starts_with("Bundle") => issue,
            Some(_) => issue.under(&format!("{entry}.resource")),
        };
        match self {
            Error::Invalid(Invalid { issues, kind }) => {
                Error::Invalid(Invalid { issues: issues.into_iter().map(named).collect(), kind })
            }
            Error::Conflict(issue) => Error::Conflict(named(issue)),
            Error::Store(_) | Error::Entry { .. } => self,
            _ => Error::Entry { at: entry.to_owned(), why: Box::new(self) },
        }
    }

    /// A contradiction with what is stored.
    pub fn conflict(expression: impl Into<String>, text: impl Into<String>) -> Error {
        Error::Conflict(Issue::error(IssueCode::Conflict, expression, text))
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        Error::Invalid(invalid)
    }
}

/// What an act answers.
pub type Result<T> = std::result::Result<T, Error>;
