//! The product from outside: HTTP in, database and practice out.
#![expect(clippy::unwrap_used, reason = "tests")]

mod access;
mod broken_on_purpose;
mod changed_anyhow;
mod edge;
mod finding;
mod hostile;
mod identity;
mod layering;
mod log;
mod lossless;
mod others_bugs;
mod r4_tables;
mod real_input;
mod referral;
mod resending;
mod settings;
mod smoke;
#[expect(dead_code, reason = "what a test needs of a service is here before every test is")]
mod support;
mod test_data;
mod tokens;
mod validation;
mod wire;
mod withdrawal;
