//! The language: FHIR R4 resources as values. No I/O, no async, nothing of ours above it.

pub mod index;
pub mod codes;
pub mod nhs_number;
pub mod check;
pub mod codec;
pub mod outcome;
pub mod path;
pub mod profiles;
pub mod resource;
pub mod systems;
pub mod when;

pub use nhs_number::NhsNumber;
pub use outcome::{Invalid, InvalidKind, Issue, IssueCode, Severity};
pub use resource::Resource;
