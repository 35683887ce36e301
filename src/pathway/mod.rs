//! What Live Well does, as pure rules over values: what a referral is, what to check, the life of a Task, how a pathway
//! moves on, and the Patient Activation Measure. Time and random bits are arguments.

pub mod eligibility;
pub mod pam;
pub mod plan;
pub mod referral;
pub mod role;
pub mod task;

pub use plan::Plan;
pub use task::TaskState;
