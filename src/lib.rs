//! Live Well's link to the GP record.
//!
//! Rooms, and which may use which (a test holds the arrows):
//! `fhir` (the language) <- `pathway` (the rules) <- `store` (persistence) <- `workflow` (the acts) <- `api` (the doors);
//! `outbound` (calls to practices), `auth` (who is calling), `worker` (the loops), `demo` (the loop shown).

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod demo;
pub mod fhir;
pub mod outbound;
pub mod pathway;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod worker;
pub mod workflow;
