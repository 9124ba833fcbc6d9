//! lockstep: runs an engine and a reference on the same tokens, step by step, and names the first
//! bit in which they differ.
//!
//! **Invariant:** nothing is folded into success: a run that compared nothing, was stopped or
//! could not see its own planted fault has its own verdict and its own exit code.
#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod compare;
pub mod diagnose;
pub mod event;
pub mod faults;
pub mod fetch;
pub mod find;
pub mod identity;
pub mod landscape;
pub mod model;
pub mod number;
pub mod report;
pub mod run;
pub mod sides;
pub mod suite;
pub mod tokens;
pub mod trace;
