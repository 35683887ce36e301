//! The language: FHIR R4 resources as values. No I/O, no async, nothing of ours above it.

pub mod audit_event;
pub mod care_dates;
pub mod check;
pub mod codec;
pub mod codes;
pub mod etag;
pub mod nhs_number;
pub mod outcome;
pub mod patch;
pub mod path;
pub mod profiles;
pub mod resource;
pub mod scope;
pub mod search;
pub mod systems;
pub mod terminology;
pub mod when;

pub use nhs_number::NhsNumber;
pub use outcome::{Invalid, InvalidKind, Issue, IssueCode, Severity};
pub use resource::Resource;
