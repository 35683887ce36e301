//! The doors: what callers reach over HTTP. The only room that knows axum.

pub mod edge;
pub mod serve;
