//! The demo: the referral loop shown, with a stand-in for the practice's system.

pub mod keys;
pub mod practice;
