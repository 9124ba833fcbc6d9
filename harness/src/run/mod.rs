//! The run: the same token ids to every side, step by step, and a comparison after each.

mod filled;
pub mod lane;
mod plan;
mod prefill_decode;
mod step;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub use plan::{Drive, Lanes, Plan, References};

use crate::compare::sequence::Tally;
use crate::compare::triangle::Usual;
use crate::compare::{Phase, Reason, Verdict, canary};
use crate::event::{
    Display, Duration, Event, Outcome, PrefillDecode, Progress, Start, Step, Stopped, WorstRatio,
};
use crate::find::search::Search;
use crate::identity::RunIdentity;
use crate::number::Number;
use crate::sides::SideError;
use step::Readings;

/// Runs a plan to its end. Only a display can fail it: what sides do wrong is in the outcome.
pub fn run(
    plan: &Plan<'_>,
    lanes: &mut Lanes,
    identity: RunIdentity,
    interrupted: &AtomicBool,
    display: &mut dyn Display,
) -> io::Result<Outcome> {
    run_searching(plan, lanes, identity, interrupted, display, None)
}

/// As [`run`]; a search sees every pair of records, and its first step that diverges is the last.
pub fn run_searching(
    plan: &Plan<'_>,
    lanes: &mut Lanes,
    identity: RunIdentity,
    interrupted: &AtomicBool,
    display: &mut dyn Display,
    search: Option<&mut Search>,
) -> io::Result<Outcome> {
    assert!(!plan.prompt_ids.is_empty(), "a run has a prompt");
    assert!(plan.max_tokens > 0, "a run has a step");
    let start = Start {
        identity,
        prompt_tokens: plan.prompt_ids.iter().map(|&id| (plan.text)(id)).collect(),
        prompt_ids: plan.prompt_ids.clone(),
        steps_max: plan.max_tokens,
    };
    display.show(Event::Started(&start))?;
    let mut runner = Runner::new(plan, lanes, interrupted, display);
    runner.search = search;
    if let Some(reason) = same_identity(runner.lanes) {
        runner.verdict = Verdict::Inconclusive(reason);
        runner.stopped = Stopped::Failed;
    } else {
        let begin = Instant::now();
        runner.steps()?;
        if plan.prefill_decode && runner.stopped != Stopped::Diverged {
            runner.prefill_decode()?;
        }
        runner.duration.run_seconds = begin.elapsed().as_secs_f64();
    }
    let outcome = runner.finish();
    display.show(Event::Finished(&outcome))?;
    Ok(outcome)
}

/// A side is never compared with itself.
fn same_identity(lanes: &Lanes) -> Option<Reason> {
    let engine = lanes.engine.identity();
    let same = lanes.references().into_iter().any(|lane| lane.identity() == engine);
    same.then(|| Reason::SameIdentity {
        identity: format!("{} on {}, {}", engine.implementation, engine.device, engine.build),
    })
}

struct Runner<'a, 'p> {
    plan: &'a Plan<'p>,
    lanes: &'a mut Lanes,
    interrupted: &'a AtomicBool,
    display: &'a mut dyn Display,
    verdict: Verdict,
    device_failed: bool,
    tally: Tally,
    steps_compared: usize,
    steps_agreeing: usize,
    stopped: Stopped,
    sequence: Vec<u32>,
    chosen_ids: Vec<u32>,
    first: Option<Readings>,
    last: Option<Readings>,
    prefill_decode: Option<PrefillDecode>,
    worst_ratio: Option<WorstRatio>,
    usual: Usual,
    progress: Progress,
    duration: Duration,
    search: Option<&'a mut Search>,
}

impl<'a, 'p> Runner<'a, 'p> {
    fn new(
        plan: &'a Plan<'p>,
        lanes: &'a mut Lanes,
        interrupted: &'a AtomicBool,
        display: &'a mut dyn Display,
    ) -> Self {
        let again = match plan.prefill_decode {
            true => prefill_decode::work_tokens(plan.prompt_ids.len()),
            false => 0,
        };
        let total_tokens = plan.prompt_ids.len() + plan.max_tokens - 1 + again;
        let sides_seconds = lanes.all().map(|lane| (lane.name().to_owned(), 0.0)).collect();
        Self {
            plan,
            lanes,
            interrupted,
            display,
            verdict: Verdict::Agrees,
            device_failed: false,
            tally: Tally::default(),
            steps_compared: 0,
            steps_agreeing: 0,
            stopped: Stopped::MaxTokens,
            sequence: Vec::new(),
            chosen_ids: Vec::new(),
            first: None,
            last: None,
            prefill_decode: None,
            worst_ratio: None,
            usual: Usual::default(),
            progress: Progress { done_tokens: 0, total_tokens },
            duration: Duration { run_seconds: 0.0, sides_seconds },
            search: None,
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    fn steps(&mut self) -> io::Result<()> {
        let mut tokens = self.plan.prompt_ids.clone();
        for step in 0..self.plan.max_tokens {
            if self.interrupted() {
                self.stopped = Stopped::Interrupted;
                return Ok(());
            }
            let phase = if step == 0 { Phase::PrefillLast } else { Phase::Decode };
            let report = match self.step(step, phase, &tokens) {
                Ok(report) => report,
                Err(error) => {
                    self.fail(&error);
                    return Ok(());
                }
            };
            self.count(&report);
            self.advance(tokens.len())?;
            self.display.show(Event::Step(&report))?;
            if self.search.is_some() && matches!(self.verdict, Verdict::Diverges(_)) {
                self.stopped = Stopped::Diverged;
                return Ok(());
            }
            let Some(chosen) = report.chosen else {
                self.stopped = Stopped::NoChoice;
                return Ok(());
            };
            self.chosen_ids.push(chosen.id);
            if self.plan.end_ids.contains(&chosen.id) && !self.plan.past_end {
                self.stopped = Stopped::EndOfText;
                return Ok(());
            }
            tokens = vec![chosen.id];
        }
        Ok(())
    }

    fn count(&mut self, report: &Step) {
        self.steps_compared += 1;
        self.steps_agreeing += usize::from(matches!(report.verdict, Verdict::Agrees));
        self.tally.add(report.tally);
        self.note(report.verdict.clone());
        let Some(triangle) = report.triangle else { return };
        self.usual.add(triangle.stock_from_wide);
        let (hidden, logits) = (triangle.hidden_ratio, triangle.logits_ratio);
        let worst = self.worst_ratio.get_or_insert(WorstRatio {
            hidden_step: report.step,
            hidden_ratio: Number::F64(hidden),
            logits_step: report.step,
            logits_ratio: Number::F64(logits),
            familiar: triangle.familiar,
        });
        if let (Some(worst), Some(new)) = (&mut worst.familiar, triangle.familiar) {
            *worst = worst.worst(new);
        }
        // Written so that NaN, which is worse than everything, replaces and then stays.
        let better = |new: f64, old: Number| new <= old.to_f64() || old.to_f64().is_nan();
        if !better(hidden, worst.hidden_ratio) {
            (worst.hidden_step, worst.hidden_ratio) = (report.step, Number::F64(hidden));
        }
        if !better(logits, worst.logits_ratio) {
            (worst.logits_step, worst.logits_ratio) = (report.step, Number::F64(logits));
        }
    }

    fn advance(&mut self, tokens: usize) -> io::Result<()> {
        self.progress.done_tokens += tokens;
        self.display.show(Event::Progress(self.progress))
    }

    fn note(&mut self, found: Verdict) {
        let before = std::mem::replace(&mut self.verdict, Verdict::Agrees);
        self.verdict = before.and(found);
    }

    fn fail(&mut self, error: &SideError) {
        self.stopped = Stopped::Failed;
        self.device_failed |= matches!(
            error,
            SideError::Device { .. } | SideError::Memory { .. } | SideError::Refused { .. }
        );
        self.note(Verdict::Inconclusive(Reason::SideFailed { message: error.to_string() }));
    }

    fn finish(mut self) -> Outcome {
        let canary = self.last.as_ref().and_then(|last| canary::sing(&last.engine.hidden()));
        let triangle_blind = self.last.as_ref().is_some_and(|last| !last.canary_of_triangle());
        if self.stopped == Stopped::Interrupted {
            let steps_compared = self.steps_compared;
            self.note(Verdict::Inconclusive(Reason::Interrupted { steps_compared }));
        }
        if self.tally.rows_compared == 0 {
            self.note(Verdict::Inconclusive(Reason::NothingCompared));
        } else if triangle_blind || !canary.is_some_and(|canary| canary.seen) {
            self.note(Verdict::Inconclusive(Reason::CanaryUnseen));
        }
        Outcome {
            verdict: self.verdict,
            device_failed: self.device_failed,
            tally: self.tally,
            steps_compared: self.steps_compared,
            steps_agreeing: self.steps_agreeing,
            stopped: self.stopped,
            chosen_text: (self.plan.decode)(&self.chosen_ids),
            chosen_ids: self.chosen_ids,
            prefill_decode: self.prefill_decode,
            worst_ratio: self.worst_ratio,
            canary,
            copies: self.last.as_ref().and_then(|last| last.engine.copies),
            weights_verified: self.lanes.engine.verified().cloned(),
            duration: self.duration,
        }
    }
}
