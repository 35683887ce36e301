//! FHIR R4 documents in and out: JSON and XML, guarded and lossless.

mod json;
mod limits;
mod refusal;
mod xml;

pub use json::{read_json, write_json};
pub use limits::Limits;
pub use xml::{read_xml, write_xml};
