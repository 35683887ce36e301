//! What becomes of a thing that has to reach a practice: the verdict on each attempt, the states, and when to try again.

mod schedule;
mod state;
mod verdict;

pub use schedule::{Failure, backoff, patience};
pub use state::{Delivery, DeliveryState, NotPossible};
pub use verdict::{Reason, Receipt, Verdict, Why};
