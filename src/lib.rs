//! Live Well's link to the GP record: e-referrals in, the human task queue, write-back to the practice, in FHIR R4.
//!
//! # The house
//!
//! Each room has one kind of work, and uses only those below it; a test (`tests/it/layering.rs`) holds the arrows.
//!
//! | Room | Holds | Uses |
//! |---|---|---|
//! | [`api`] | the doors: every route on one page, one table from error to status. Alone knows axum | `workflow`, `store`, `auth`, `pathway`, `fhir` |
//! | [`worker`] | the loops: deliveries, notifications, answers through MESH, exports, keys that rotate, the search index after an upgrade | `workflow`, `store`, `outbound`, `pathway`, `fhir` |
//! | [`auth`] | who is calling, and what they may see | `store`, `outbound`, `pathway`, `fhir` |
//! | [`outbound`] | calls to practices and key sets. Alone opens connections | `pathway`, `fhir` |
//! | [`workflow`] | the acts of people and clocks, one file each, each one transaction | `store`, `pathway`, `fhir` |
//! | [`store`] | persistence, on SQLite or PostgreSQL. Alone knows sqlx | `pathway`, `fhir` |
//! | [`pathway`] | what Live Well does, as rules over values. No I/O; time is an argument | `fhir` |
//! | [`fhir`] | the language: JSON and XML, the checker, search parameters, codes. No I/O | nothing |
//!
//! Around them: [`app`] wires a running service, [`cli`] has the commands, [`config`] the settings, [`telemetry`] the log,
//! [`time`] the clock; [`demo`] shows the loop over HTTP and is used by nothing.
//!
//! # A way in
//!
//! A referral comes through [`api::router`] to [`workflow::submit`], which hands each resource to the act that knows it;
//! the act writes resources, index, Tasks, deliveries and audit through one [`store::Tx`]. The [`worker`] takes the
//! deliveries from there, and [`outbound::Outbound::deliver`] brings them to the practice.

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
