//! Write-back: queued with its cause, taken by a worker, prepared when it is sent, settled when the practice has answered.

mod acknowledge;
mod look_after;
mod message;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod model;
mod own_words;
mod prepare;
mod route;
mod settle;
mod take;
mod view;

use crate::store::{Leased, StoreError};

use super::Error;

pub use acknowledge::{Heeded, acknowledge};
pub use look_after::{Wish, look_after};
pub use message::{Posting, post};
pub use prepare::{Dispatch, Prepared, prepare};
pub use route::{Route, look_for_routes};
pub(super) use route::{endpoint, identity_is_settled, queue, route_is_known};
pub(super) use settle::conclude;
pub use settle::{Attempted, hold, nothing_to_send, settle};
pub use take::{Taken, Terms, destination_of, keep_leases, take};
pub use view::deliveries;
pub(super) use view::{at_the_practice, steps};

fn corrupt(leased: &Leased, why: &str) -> Error {
    Error::Store(StoreError::Corrupt { table: "delivery", id: leased.id.clone(), why: why.to_owned() })
}
