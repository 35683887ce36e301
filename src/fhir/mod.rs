//! The language: FHIR R4 resources as values. No I/O, no async, nothing of ours above it.

pub mod codec;
pub mod outcome;
pub mod path;
pub mod resource;

pub use outcome::{Invalid, Issue, IssueCode, Severity};
pub use resource::Resource;
