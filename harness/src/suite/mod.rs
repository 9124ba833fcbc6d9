//! Suites: many cases in one file, each a run of its own, with one answer for all of them.

mod error;
mod expand;
mod fields;
mod figures;
mod file;
mod found;
mod lines;
mod result;
mod seed;
mod source_lines;
#[cfg(test)]
mod tests;

pub use error::SuiteError;
pub use figures::Figures;
pub use file::{CASES_MAX, Case, Drawn, Suite, parse};
pub use found::{Found, SourcePlace};
pub use lines::SuiteLine;
pub use result::{CaseResult, NotRun, SuiteResult, Word, worst};
pub use seed::{Seed, SeedError, day};
pub use source_lines::line_of_kernel;
