//! The reference as a whole: on tiny models made here, and on SmolLM2 where it is in the cache.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod chunking;
mod distance;
mod real_model;
mod refusals;
mod stock;
mod taps;
mod tiny;
