//! The reference as a whole, on tiny models made here.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod bounds;
#[path = "../checks/mod.rs"]
mod checks;
mod chunking;
mod distance;
mod refusals;
mod stock;
mod taps;
mod tiny;
