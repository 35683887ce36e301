//! What Live Well does, as pure functions and state machines over values. No I/O, no clock, no randomness: time and chance are arguments.

pub mod delivery;
pub mod write_back;
