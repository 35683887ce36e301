//! What Live Well does, as pure rules over values: what a referral is, whom it
//! names, which practices are served, what to check, the life of a Task, how a pathway
//! moves on, the Patient Activation Measure, what a write-back contains and what becomes of it, what a subscriber hears.
//! Time and random bits are arguments.

pub mod affiliation;
pub mod delivery;
pub mod eligibility;
pub mod identity;
pub mod notification;
pub mod pam;
pub mod plan;
pub mod referral;
pub mod role;
pub mod task;
pub mod topic;
pub mod write_back;

pub use plan::Plan;
pub use task::TaskState;
