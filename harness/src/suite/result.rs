//! What the cases of a suite say, and what they say together.

use serde::{Deserialize, Serialize};

use super::figures::Figures;
use super::found::Found;

/// The answer of one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Equal bits, or distances within their limits.
    Agrees,
    /// The sides part.
    Diverges,
    /// Nothing can be concluded.
    Inconclusive,
    /// The device is missing or failed.
    Device,
    /// The case itself cannot be run.
    Input,
    /// There was no time left.
    NotRun,
}

impl Word {
    /// From the exit code of a run; none for a case that was not begun.
    pub fn of(code: Option<u8>) -> Self {
        match code {
            None => Self::NotRun,
            Some(0) => Self::Agrees,
            Some(1) => Self::Diverges,
            Some(2) => Self::Input,
            Some(3) => Self::Device,
            Some(_) => Self::Inconclusive,
        }
    }

    /// At the head of its line.
    pub fn head(self) -> &'static str {
        match self {
            Self::Agrees => "AGREES",
            Self::Diverges => "DIVERGES",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Device => "DEVICE",
            Self::Input => "BAD INPUT",
            Self::NotRun => "NOT RUN",
        }
    }
}

/// Why a case was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRun {
    /// The time is spent.
    Budget,
    /// The user.
    Interrupted,
    /// Its turn has not come.
    Pending,
}

impl NotRun {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Budget => "not run (budget)",
            Self::Interrupted => "not run (interrupted)",
            Self::Pending => "not yet run",
        }
    }
}

/// One case with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// What it says.
    pub verdict: Word,
    /// The exit code that its run alone would have; none where it was not begun.
    pub exit_code: Option<u8>,
    /// How long it took, loading included.
    pub duration_seconds: f64,
    /// In one sentence.
    pub message: String,
    /// What it ran on: file, options, seed, model and program in one hash. Equal keys say that a
    /// result can be taken over; a case that did not come so far has none.
    pub key: Option<String>,
    /// Whether it is the result of an earlier run of the same suite.
    pub reused: bool,
    /// The stream of its tokens, where they are drawn.
    pub seed: Option<u64>,
    /// Where the reference's side came from, where a recording was written or asked for.
    pub reference: Option<String>,
    /// How much was compared, where something ran.
    pub figures: Option<Figures>,
    /// The first operation that differs, after a divergence that was looked into.
    pub found: Option<Found>,
    /// The command that runs it again.
    pub replay: Option<String>,
}

impl CaseResult {
    /// One that has a name and a verdict only.
    pub fn new(name: impl Into<String>, code: Option<u8>, message: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict: Word::of(code),
            exit_code: code,
            duration_seconds: 0.0,
            message: message.into(),
            key: None,
            reused: false,
            seed: None,
            reference: None,
            figures: None,
            found: None,
            replay: None,
        }
    }
}

/// All cases: the whole of `suite.json`.
#[derive(Clone, Debug, Serialize)]
pub struct SuiteResult {
    /// The version of lockstep.
    pub lockstep: &'static str,
    /// The file, without its folder.
    pub suite: String,
    /// Whether every case has its answer: false while it is written on.
    pub complete: bool,
    /// The worst answer, as an exit code.
    pub exit_code: u8,
    /// The number that stands for the day, or was asked for with --seed.
    pub seed: Option<u64>,
    /// How many were asked for.
    pub cases_count: usize,
    /// The cases that are done, and those that will not be run.
    pub cases: Vec<CaseResult>,
}

impl SuiteResult {
    /// How many cases have an answer.
    pub fn count(&self, word: Word) -> usize {
        self.cases.iter().filter(|case| case.verdict == word).count()
    }

    /// The last line: what was found, and what was not done.
    pub fn summary(&self) -> String {
        let run = self.cases.iter().filter(|case| case.exit_code.is_some()).count();
        let mut words = format!("{run} of {} cases run: ", self.cases_count);
        let counts: Vec<String> = [
            (Word::Agrees, "agree"),
            (Word::Diverges, "diverge"),
            (Word::Inconclusive, "inconclusive"),
            (Word::Device, "without their device"),
            (Word::Input, "with bad input"),
        ]
        .into_iter()
        .map(|(word, name)| (self.count(word), word, name))
        // The first three always: their absence is news too.
        .filter(|(count, word, _)| *count > 0 || *word <= Word::Inconclusive)
        .map(|(count, _, name)| format!("{count} {name}"))
        .collect();
        words.push_str(&counts.join(", "));
        let interrupted = self.cases.iter().any(|case| case.message == NotRun::Interrupted.words());
        let why = if interrupted { NotRun::Interrupted } else { NotRun::Budget };
        let (seen, runs) = self.canaries();
        let words = format!("{words}; {} {}", self.count(Word::NotRun), why.words());
        format!("{words}; canary seen in {seen} of {runs}")
    }

    /// In how many runs the planted bit was seen, of how many that compared or tried to.
    pub fn canaries(&self) -> (usize, usize) {
        let runs = || self.cases.iter().filter_map(|case| case.figures.as_ref());
        (runs().filter(|figures| figures.canary_seen == Some(true)).count(), runs().count())
    }
}

/// The exit code of many: a divergence over doubt, doubt over a device, a device over bad input. A
/// case that was not begun changes nothing, unless nothing else was run.
pub fn worst(codes: &[Option<u8>]) -> u8 {
    let begun = || codes.iter().copied().flatten();
    let worst = [1, 4, 3, 2, 0].into_iter().find(|code| begun().any(|found| found == *code));
    worst.unwrap_or(4)
}
