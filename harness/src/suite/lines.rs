//! The lines of `suite.jsonl`, which stream: a killed suite has those of the cases that ended.

use serde::Serialize;

use super::{CaseResult, SuiteResult};

/// One line, on the disk or on standard output.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SuiteLine<'a> {
    /// The cases are known.
    SuiteStarted {
        /// The version of lockstep.
        lockstep: &'a str,
        /// The file, without its folder.
        suite: &'a str,
        /// The number that stands for the day, or was asked for.
        seed: Option<u64>,
        /// How many cases there are.
        cases_count: usize,
    },
    /// A case has its answer.
    Case(&'a CaseResult),
    /// Every case has.
    SuiteFinished {
        /// The worst answer.
        exit_code: u8,
        /// In how many runs the planted bit was seen.
        canary_seen: usize,
        /// Of how many.
        canary_runs: usize,
        /// The last line of the terminal.
        summary: String,
    },
}

impl<'a> SuiteLine<'a> {
    /// The first.
    pub fn first(result: &'a SuiteResult) -> Self {
        let SuiteResult { lockstep, suite, seed, cases_count, .. } = result;
        Self::SuiteStarted { lockstep, suite, seed: *seed, cases_count: *cases_count }
    }

    /// The last.
    pub fn last(result: &SuiteResult) -> Self {
        let (canary_seen, canary_runs) = result.canaries();
        let (exit_code, summary) = (result.exit_code, result.summary());
        Self::SuiteFinished { exit_code, canary_seen, canary_runs, summary }
    }
}
