//! Write-back: queued with its cause, prepared when it is sent, settled when the practice has answered.

mod prepare;
mod route;
mod settle;

use crate::store::{Leased, StoreError};

use super::Error;

pub use prepare::{Dispatch, Prepared, prepare};
pub use route::look_for_routes;
pub(super) use route::{endpoint, identity_is_settled, queue, route_is_known};
pub use settle::{Attempted, hold, lease, nothing_to_send, settle};

fn corrupt(leased: &Leased, why: &str) -> Error {
    Error::Store(StoreError::Corrupt { table: "delivery", id: leased.id.clone(), why: why.to_owned() })
}
