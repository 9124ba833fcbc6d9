//! Suites: many cases in one file, each a run of its own, with one answer for all of them.

mod error;
mod expand;
mod fields;
mod file;
mod result;
mod seed;
#[cfg(test)]
mod tests;

pub use error::SuiteError;
pub use file::{CASES_MAX, Case, Drawn, Suite, parse};
pub use result::{CaseResult, NotRun, SuiteResult, Word, worst};
pub use seed::{Seed, SeedError, day};
