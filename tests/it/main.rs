//! The product from outside: HTTP in, database and practice out.
#![expect(clippy::unwrap_used, reason = "tests")]

mod access;
mod broken_on_purpose;
mod edge;
mod finding;
mod identity;
mod journey;
mod killed;
mod layering;
mod log;
mod queue;
mod r4_tables;
mod recording;
mod referral;
mod resending;
mod settings;
mod smoke;
#[expect(dead_code, reason = "what a test needs of a service is here before every test is")]
mod support;
mod test_data;
mod tokens;
mod validation;
mod withdrawal;
mod write_back;
