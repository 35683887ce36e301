//! The product from outside: HTTP in, database and practice out.

mod r4_tables;
mod test_data;
mod validation;
#![expect(clippy::unwrap_used, reason = "tests")]
mod edge;
mod layering;
mod settings;
