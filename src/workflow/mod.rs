//! The acts: what a person or a clock does, one file each. Every door that lets someone do an act calls the same
//! function; each act is one transaction with its follow-up work and its audit.

mod actor;
mod ahead;
mod allot;
mod asking;
mod attempts;
mod audit_event;
mod based_on;
mod care_manager;
mod claim;
mod complete;
mod condition;
mod definitions;
mod deliver;
mod error;
pub mod export;
mod house;
mod identify;
mod keep;
mod links;
mod load;
mod meta;
mod ods;
mod patch;
mod practices;
mod record;
mod refer;
mod remove;
mod resend;
mod retry;
mod status;
mod submit;
pub mod subscription;
mod tasks;
mod transaction;
mod unit;
mod withdraw;

pub use actor::{Actor, Staff};
pub use asking::Asking;
pub use attempts::Attempts;
pub use audit_event::audit_event;
pub use claim::{Work, claim, claim_next, release};
pub use complete::{Completion, complete};
pub use definitions::terminology;
pub use deliver::{
    Attempted, Dispatch, Heeded, Posting, Prepared, Route, Taken, Terms, Wish, acknowledge, deliveries, destination_of,
    hold, keep_leases, look_after, look_for_routes, nothing_to_send, post, prepare, settle, take,
};
pub use error::{Error, Result};
pub use house::{House, Rules, Webhooks};
pub use links::conditional;
pub use load::{DIRECTORY, Loaded, load, publish};
pub use meta::{Labelling, label};
pub use patch::Patch;
pub use practices::{Served, practices};
pub use retry::retrying;
pub use status::status;
pub use submit::{Answer, Ask, Entry, Submission, rehearse, response_bundle, submit};
pub use transaction::BORN_HERE;
pub use unit::{Unit, Written, audit_row};
