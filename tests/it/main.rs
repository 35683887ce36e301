//! The product from outside: HTTP in, database and practice out.
#![expect(clippy::unwrap_used, reason = "tests")]

#[macro_use]
mod database;

mod access;
mod broken_on_purpose;
mod database_faults;
mod edge;
mod finding;
mod identity;
mod instances;
mod layering;
mod log;
mod metadata;
mod oracle;
mod r4_tables;
mod races;
mod readme;
mod referral;
mod resending;
mod settings;
mod smoke;
mod store;
#[expect(dead_code, reason = "what a test needs of a service is here before every test is")]
mod support;
mod test_data;
mod tokens;
mod validation;
mod withdrawal;
