//! What becomes of a thing that has to reach a practice: the verdict on each attempt, the states, what the practice answers
//! later, when to try again, and how much a destination is sent.

pub mod acknowledgement;
mod destination;
mod redacted;
mod schedule;
mod state;
mod verdict;

pub use acknowledgement::{Acknowledgement, Stage};
pub use destination::{Destination, Limits, Room, Standing, shared_out};
pub use redacted::redacted;
pub use schedule::{Failure, Pace, backoff};
pub use state::{Delivery, DeliveryState, NotPossible};
pub use verdict::{Reason, Receipt, Verdict, Why};
