//! A run as the kinds of comparison that it made: steps, chunkings, canary, copies.
//!
//! Each is one test of a JUnit file, so that a tool which counts tests shows which kind failed.

use crate::compare::{Difference, Reason, Verdict};
use crate::event::{Outcome, Stopped};
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
    let mut words = format!("{agreeing} of {} have one hash", summary.chunkings_count);
    if let Some(not_checked) = &summary.not_checked {
        words += &format!("; not checked: {not_checked}");
    }
    if of_chunkings(outcome) {
        return CaseResult::new("chunkings", Some(1), record::message(outcome));
    }
    // With chunkings that had begun, nothing else can end a run in these two ways.
    let cut_off = matches!(outcome.stopped, Stopped::Failed | Stopped::Interrupted);
    match summary.chunkings_count {
        _ if summary.diverging_count > 0 => CaseResult::new("chunkings", Some(1), words),
        _ if cut_off => CaseResult::new("chunkings", Some(4), words),
        0 => CaseResult::new("chunkings", None, "not run: the prompt has one way only"),
        _ => CaseResult::new("chunkings", Some(0), words),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::canary::Canary;
    use crate::compare::sequence::Tally;
    use crate::compare::{Divergence, Key, Phase, Place};
    use crate::event::{Duration, PrefillDecode};
    use crate::sides::Copies;

    /// A run in which everything was in order.
    fn good() -> Outcome {
        Outcome {
            verdict: Verdict::Agrees,
            device_failed: false,
            tally: Tally { rows_compared: 4, elements_compared: 40, ..Tally::default() },
            steps_compared: 2,
            steps_agreeing: 2,
            stopped: Stopped::MaxTokens,
            chosen_ids: vec![1, 2],
            chosen_text: None,
            prefill_decode: Some(PrefillDecode {
                chunkings_count: 3,
                diverging_count: 0,
                prompt_tokens_checked: 8,
                prompt_tokens: 8,
                decode_checked: true,
                not_checked: None,
            }),
            worst_ratio: None,
            canary: Some(Canary { index: 3, bit: 5, seen: true }),
            copies: Some(Copies { checked: 9, total: 9 }),
            weights_verified: None,
            duration: Duration::default(),
        }
    }

    fn codes(outcome: &Outcome) -> Vec<Option<u8>> {
        kinds(outcome, None, "again").iter().map(|kind| kind.exit_code).collect()
    }

    #[test]
    fn each_kind_fails_alone() {
        let ok = Some(0);
        assert_eq!(codes(&good()), [ok, ok, ok, ok]);
        let key = Key { token_id: 1, position: 7, layer: None, tap: "logits".into() };
        let divergence = |difference| {
            Verdict::Diverges(Box::new(Divergence {
                difference,
                place: Place { key: key.clone(), step: 0, phase: Phase::PrefillLast },
                element: None,
                differing_count: 1,
                elements_count: 10,
            }))
        };
        let mut steps = good();
        (steps.verdict, steps.steps_agreeing) = (divergence(Difference::Bits), 1);
        assert_eq!(codes(&steps), [Some(1), ok, ok, ok]);
        steps.prefill_decode.as_mut().unwrap().diverging_count = 2;
        assert_eq!(codes(&steps), [Some(1), Some(1), ok, ok]);
        let mut cut = good();
        let chunking = "token by token".to_owned();
        cut.verdict = divergence(Difference::Chunking { side: "engine".to_owned(), chunking });
        cut.prefill_decode.as_mut().unwrap().diverging_count = 1;
        assert_eq!(codes(&cut), [ok, Some(1), ok, ok]);
        let all = kinds(&cut, None, "again");
        assert!(all[1].message.contains("engine gives other bits in token by token"));
        assert_eq!((all[0].replay.as_deref(), all[1].replay.as_deref()), (None, Some("again")));
        let mut blind = good();
        blind.verdict = Verdict::Inconclusive(Reason::CanaryUnseen);
        assert_eq!(codes(&blind), [ok, ok, Some(4), ok]);
        let mut copies = good();
        copies.copies = Some(Copies { checked: 8, total: 9 });
        assert_eq!(codes(&copies), [ok, ok, ok, Some(4)]);
    }

    #[test]
    fn chunkings_that_were_cut_off_are_not_in_order() {
        let cut = |reason: Option<&str>, chunkings_count, stopped| {
            let mut outcome = good();
            outcome.stopped = stopped;
            let summary = outcome.prefill_decode.as_mut().unwrap();
            summary.not_checked = reason.map(str::to_owned);
            summary.chunkings_count = chunkings_count;
            let kind = chunkings(&outcome);
            (kind.exit_code, kind.message)
        };
        let partly = cut(Some("the prompt beyond its first 8"), 3, Stopped::MaxTokens);
        let words = "3 of 3 have one hash; not checked: the prompt beyond its first 8";
        assert_eq!(partly, (Some(0), words.to_owned()));
        for count in [3, 0] {
            let (code, words) = cut(Some("a side failed"), count, Stopped::Failed);
            assert_eq!(code, Some(4), "{words}");
            assert!(words.contains("a side failed"), "{words}");
            let (code, words) = cut(Some("interrupted"), count, Stopped::Interrupted);
            assert_eq!(code, Some(4), "{words}");
        }
        assert_eq!(cut(None, 0, Stopped::MaxTokens).0, None);
    }

    #[test]
    fn what_was_not_done_is_not_in_order() {
        let mut failed = good();
        let message = "the device is gone".to_owned();
        failed.verdict = Verdict::Inconclusive(Reason::SideFailed { message });
        failed.device_failed = true;
        (failed.prefill_decode, failed.canary, failed.copies) = (None, None, None);
        assert_eq!(codes(&failed), [Some(3), None, Some(4), None]);
        // Every kind that is red has to come with a verdict that is, and the other way round.
        assert_eq!(failed.exit_code(), 3);
    }
}
