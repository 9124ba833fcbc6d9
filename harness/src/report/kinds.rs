//! A run as the kinds of comparison that it made: steps, chunkings, canary, copies.
//!
//! Each is one test of a JUnit file, so that a tool which counts tests shows which kind failed.

use crate::compare::{Difference, Reason, Verdict};
use crate::event::Outcome;
use crate::report::record;
use crate::suite::{CaseResult, Figures, Found};

/// The kinds of one run, with what a search found and the command that runs it again.
pub fn kinds(outcome: &Outcome, found: Option<&Found>, replay: &str) -> Vec<CaseResult> {
    let mut kinds = vec![steps(outcome), chunkings(outcome), canary(outcome), copies(outcome)];
    kinds[0].figures = Some(Figures::of(outcome));
    kinds[0].duration_seconds = outcome.duration.run_seconds;
    let mut found = found.cloned();
    for kind in kinds.iter_mut().filter(|kind| !matches!(kind.exit_code, None | Some(0))) {
        kind.found = found.take();
        kind.replay = Some(replay.to_owned());
    }
    kinds
}

/// Whether the run's one verdict is about the chunkings.
fn of_chunkings(outcome: &Outcome) -> bool {
    matches!(&outcome.verdict, Verdict::Diverges(divergence)
        if matches!(divergence.difference, Difference::Chunking { .. }))
}

fn steps(outcome: &Outcome) -> CaseResult {
    let words = format!(
        "{} of {} compared agree, {} rows, {} elements, {} differing",
        outcome.steps_agreeing,
        outcome.steps_compared,
        outcome.tally.rows_compared,
        outcome.tally.elements_compared,
        outcome.tally.elements_differing,
    );
    let said_elsewhere = of_chunkings(outcome)
        || matches!(outcome.verdict, Verdict::Inconclusive(Reason::CanaryUnseen));
    match &outcome.verdict {
        Verdict::Agrees => CaseResult::new("steps", Some(0), words),
        _ if said_elsewhere => CaseResult::new("steps", Some(0), words),
        _ => CaseResult::new("steps", Some(outcome.exit_code()), record::message(outcome)),
    }
}

fn chunkings(outcome: &Outcome) -> CaseResult {
    let Some(summary) = &outcome.prefill_decode else {
        return CaseResult::new("chunkings", None, "not run");
    };
    let agreeing = summary.chunkings_count - summary.diverging_count;
    let words = format!("{agreeing} of {} have one hash", summary.chunkings_count);
    if of_chunkings(outcome) {
        return CaseResult::new("chunkings", Some(1), record::message(outcome));
    }
    let code = u8::from(summary.diverging_count > 0);
    match summary.chunkings_count {
        0 => CaseResult::new("chunkings", None, "not run: the prompt has one way only"),
        _ => CaseResult::new("chunkings", Some(code), words),
    }
}

fn canary(outcome: &Outcome) -> CaseResult {
    let unseen = matches!(outcome.verdict, Verdict::Inconclusive(Reason::CanaryUnseen));
    match outcome.canary {
        Some(canary) if canary.seen && !unseen => {
            let (bit, index) = (canary.bit, canary.index);
            let words = format!("bit {bit} of element {index} flipped: seen");
            CaseResult::new("canary", Some(0), words)
        }
        Some(_) => CaseResult::new("canary", Some(4), Reason::CanaryUnseen.to_string()),
        None => CaseResult::new("canary", Some(4), "there was no row to plant a bit in"),
    }
}

fn copies(outcome: &Outcome) -> CaseResult {
    let Some(copies) = outcome.copies else {
        return CaseResult::new("copies", None, "not run: the engine counted none");
    };
    let code = if copies.checked == copies.total { 0 } else { 4 };
    let words = format!("{} of {} checked", copies.checked, copies.total);
    CaseResult::new("copies", Some(code), words)
}
