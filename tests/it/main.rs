//! The product from outside: HTTP in, database and practice out.
#![expect(clippy::unwrap_used, reason = "tests")]

#[macro_use]
mod database;

mod access;
mod answers;
mod broken_on_purpose;
mod bundles;
mod changed_anyhow;
mod clients;
mod clock;
mod conditional;
mod criteria;
mod database_faults;
mod deleting;
mod edge;
mod entries;
mod exactly_once;
mod export;
mod fair;
mod finding;
mod history;
mod hostile;
mod identity;
mod independent_practice;
mod instances;
mod journey;
mod kept_definitions;
mod keys;
mod killed;
mod labels;
mod layering;
mod log;
mod looking_after;
mod lossless;
mod mesh;
mod metadata;
mod negotiation;
mod openapi;
mod operations;
mod oracle;
mod others_bugs;
mod partitions;
mod patching;
mod profiles;
mod queue;
mod r4_tables;
mod races;
mod readme;
mod real_input;
mod recording;
mod referral;
mod resending;
mod searching;
mod settings;
mod smoke;
mod store;
mod subscription;
#[expect(dead_code, reason = "what a test needs of a service is here before every test is")]
mod support;
mod test_data;
mod tokens;
mod validation;
mod wire;
mod withdrawal;
mod write_back;
