//! Who is calling, and what they may see.
//!
//! SMART Backend Services: a registered client proves who it is with a signed assertion ([`assertion`], checked
//! against its [`key_set`]), asks for [`scope`]s at the token endpoint ([`oauth`]), and gets an opaque [`token`] that
//! lives five minutes at most. On each request the token becomes a [`caller`], who may be a system that names the
//! acting person ([`acting`]).

pub mod acting;
pub mod admit;
pub mod assertion;
#[cfg(test)]
mod assertion_tests;
pub mod caller;
#[cfg(test)]
mod hostile_assertions;
pub mod key_set;
pub mod oauth;
mod strict_json;
#[cfg(test)]
mod test_keys;
pub mod token;
pub mod tokens;

pub use crate::fhir::scope;
