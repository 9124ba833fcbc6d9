//! One case: it is run like `lockstep run`, and looked into like `lockstep find` if it diverges.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::limit::Limit;
use super::recordings::Recordings;
use crate::cli::options::RunOptions;
use crate::cli::sides::Source;
use crate::cli::{Failure, find, run};
use crate::compare::{Reason, Verdict};
use crate::event::Display;
use crate::report::files::{FilesDisplay, Folder};
use crate::report::record::message;
use crate::suite::{Case, CaseResult, Figures, Found, Word};

/// What a case is run with, the same for all.
pub(super) struct Runs<'a> {
    pub(super) out: Option<PathBuf>,
    pub(super) recordings: &'a Recordings,
    pub(super) interrupted: &'a Arc<AtomicBool>,
}

impl Runs<'_> {
    /// Runs a case to its end; whatever goes wrong is its result.
    pub(super) fn run(&self, case: &Case) -> CaseResult {
        let begin = Instant::now();
        let mut options = case.options.clone();
        options.out = self.out.as_ref().map(|out| out.join(&case.name));
        let mut result = self.result(case, &options).unwrap_or_else(|failure| {
            let (code, words) = match failure.absent {
                // Nobody mistyped anything, perhaps: what is missing has a way to get it.
                true => (4, format!("nothing was run: {}", failure.one_line())),
                false => (failure.code, failure.first_line()),
            };
            CaseResult::new(case.name.clone(), Some(code), words)
        });
        result.duration_seconds = begin.elapsed().as_secs_f64();
        result.seed = case.drawn.map(|drawn| drawn.seed);
        result
    }

    fn result(&self, case: &Case, options: &RunOptions) -> Result<CaseResult, Failure> {
        let limit = Limit::start(case.limit_minutes, self.interrupted);
        let mut begun = run::begin(options, case.drawn)?;
        let dated = case.drawn.is_some_and(|drawn| drawn.dated);
        let chosen = self.recordings.choose(options, &begun, dated)?;
        let (source, words, log) = chosen.into_parts();
        let recorded = matches!(source, Source::Recorded(_));
        let lanes = begun.load(options, source)?;
        let displays = |_: &RunOptions, folder| files(folder);
        let outcome = run::go(options, &mut begun, lanes, || limit.flag(), displays)?;
        // The case has its answer, whatever becomes of its recording.
        let kept = self.recordings.keep(log, &outcome).unwrap_or_else(|failure| {
            Some(format!("reference not recorded: {}", failure.first_line()))
        });
        let words_of_end = message(&outcome);
        let words_of_end = match (&outcome.verdict, case.limit_minutes) {
            (Verdict::Inconclusive(Reason::Interrupted { .. }), Some(minutes))
                if limit.is_over() && !self.interrupted.load(Ordering::SeqCst) =>
            {
                format!("over its limit of {minutes} minutes: {words_of_end}")
            }
            _ => words_of_end,
        };
        let code = outcome.exit_code();
        let mut result = CaseResult::new(case.name.clone(), Some(code), words_of_end);
        result.figures = Some(Figures::of(&outcome));
        result.reference = kept.or(words);
        if result.verdict == Word::Diverges && case.find_on_divergence {
            drop(begun);
            result.found = Some(match found(case, options, &limit.flag()) {
                Some(found) => found,
                None => Found::said(if recorded { NOT_RECORDED } else { NOT_AGAIN }),
            });
        }
        Ok(result)
    }
}

/// What is said where a search of the same run sees no divergence.
const NOT_AGAIN: &str =
    "the search saw no divergence: the same run does not give the same bits again";
/// And where the run was held against a recording.
const NOT_RECORDED: &str = "the search computed the reference, and saw no divergence: either the \
    recording is not what the reference gives, or the engine does not give the same bits again";

/// A search that ends otherwise says so in the place of what it would have found.
fn found(case: &Case, options: &RunOptions, stop: &AtomicBool) -> Option<Found> {
    Some(match find::look_into(options, case.drawn, stop) {
        Ok(Some(found)) => found,
        Ok(None) if stop.load(Ordering::SeqCst) => Found::said("the search was stopped"),
        Ok(None) => return None,
        Err(failure) => Found::said(format!("the search failed: {}", failure.first_line())),
    })
}

/// A case shows nothing while it runs; its files are those of a run.
fn files(folder: Option<Folder>) -> Result<Vec<Box<dyn Display>>, Failure> {
    let mut displays: Vec<Box<dyn Display>> = Vec::new();
    if let Some(folder) = folder {
        displays.push(Box::new(FilesDisplay::new(folder)?));
    }
    Ok(displays)
}
