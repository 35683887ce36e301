//! What becomes of a thing that has to reach a practice: the verdict on each attempt, the states, what the practice answers
//! later, and when to try again.

pub mod acknowledgement;
mod redacted;
mod schedule;
mod state;
mod verdict;

pub use acknowledgement::{Acknowledgement, Stage};
pub use redacted::redacted;
pub use schedule::{Failure, backoff, patience};
pub use state::{Delivery, DeliveryState, NotPossible};
pub use verdict::{Reason, Receipt, Verdict, Why};
