//! Prefill equals decode: the same tokens in one call, in pieces and one by one have one hash.
//!
//! After the steps the sides run the prompt again from an empty cache, cut in other ways, and
//! then prompt and answer as one prompt. Only sides that follow the contract promise this.

use std::io;

use super::lane::{Lane, Reading};
use super::plan::{Lanes, References};
use super::step::Readings;
use super::{Runner, Stopped};
use crate::compare::rows::{self, RowVerdict};
use crate::compare::sequence::{Comparison, Tally};
use crate::compare::{Difference, Divergence, Phase, Place, Reason, Verdict};
use crate::event::{Chunking, Event, PrefillDecode, RowFacts};
use crate::landscape::Landscape;
use crate::sides::SideError;

/// The pieces a prompt is cut into: one by one, a small prime, and both sides of the 32 where
/// kernels change their way of working.
const PIECES_TOKENS: [usize; 4] = [1, 7, 32, 33];

/// The most tokens that are run again in each chunking: it bounds the cost by a constant, and is
/// four times the attention's chunk of 64 positions. A count and not a time, so that equal runs
/// check equal things.
const CHECKED_TOKENS_MAX: usize = 256;

/// How many tokens the whole check runs on each side, at most.
pub(super) fn work_tokens(prompt_tokens: usize) -> usize {
    let checked = prompt_tokens.min(CHECKED_TOKENS_MAX);
    let pieces = PIECES_TOKENS.iter().filter(|&&piece| piece < checked).count();
    let prefix = usize::from(checked < prompt_tokens);
    (pieces + prefix) * checked
}

/// One way to run tokens again.
struct Again<'a> {
    tokens: &'a [u32],
    piece_tokens: usize,
    step: usize,
    words: String,
}

impl Runner<'_, '_> {
    /// Runs all chunkings on every side that follows the contract.
    pub(super) fn prefill_decode(&mut self) -> io::Result<()> {
        if self.stopped == Stopped::Failed {
            return Ok(());
        }
        let Some(first) = self.first.take() else { return Ok(()) };
        let prompt = self.plan.prompt_ids.clone();
        let checked = prompt.len().min(CHECKED_TOKENS_MAX);
        let mut summary = PrefillDecode {
            chunkings_count: 0,
            diverging_count: 0,
            prompt_tokens_checked: checked,
            prompt_tokens: prompt.len(),
            decode_checked: false,
            not_checked: None,
        };
        let done = self
            .prompt_again(first, &prompt[..checked], &mut summary)
            .and_then(|()| self.answer_again(&mut summary));
        match done {
            Err(Failure::Display(error)) => return Err(error),
            Err(Failure::Side(error)) => {
                summary.not_checked = Some("a side failed".to_owned());
                self.fail(&error);
            }
            Err(Failure::Interrupted) => {
                summary.not_checked = Some("interrupted".to_owned());
                self.stopped = Stopped::Interrupted;
            }
            Ok(()) => {}
        }
        self.prefill_decode = Some(summary);
        Ok(())
    }

    fn prompt_again(
        &mut self,
        first: Readings,
        tokens: &[u32],
        summary: &mut PrefillDecode,
    ) -> Result<(), Failure> {
        let mut baseline = contract_sides(self.lanes, first);
        let mut not_checked = Vec::new();
        if matches!(self.lanes.references, References::Recorded(_)) {
            not_checked.push("the reference, which is a recording".to_owned());
        }
        if tokens.len() < summary.prompt_tokens {
            let (checked, all) = (tokens.len(), summary.prompt_tokens);
            not_checked.push(format!("the prompt beyond its first {checked} of {all} tokens"));
            let words = format!("one prefill of the first {checked} tokens");
            let again = Again { tokens, piece_tokens: checked, step: 0, words };
            baseline = self.again(&again, None, summary)?;
        }
        for piece_tokens in PIECES_TOKENS.into_iter().filter(|&piece| piece < tokens.len()) {
            let words = match piece_tokens {
                1 => "token by token".to_owned(),
                _ => format!("pieces of {piece_tokens} tokens"),
            };
            let again = Again { tokens, piece_tokens, step: 0, words };
            self.again(&again, Some(&baseline), summary)?;
        }
        summary.not_checked = (!not_checked.is_empty()).then(|| not_checked.join("; "));
        Ok(())
    }

    /// Prompt and answer as one prompt: its last row is the row of the last decode step.
    fn answer_again(&mut self, summary: &mut PrefillDecode) -> Result<(), Failure> {
        let tokens = self.sequence.clone();
        let steps = self.steps_compared;
        let Some(last) = self.last.clone().filter(|_| steps > 1) else { return Ok(()) };
        if tokens.len() > CHECKED_TOKENS_MAX {
            let words = format!("the {} tokens of prompt and answer in one prefill", tokens.len());
            let before = summary.not_checked.take().map(|before| before + "; ");
            summary.not_checked = Some(before.unwrap_or_default() + &words);
            return Ok(());
        }
        let words = format!("one prefill of all {} tokens", tokens.len());
        let piece_tokens = tokens.len();
        let again = Again { tokens: &tokens, piece_tokens, step: steps - 1, words };
        let baseline = contract_sides(self.lanes, last);
        self.again(&again, Some(&baseline), summary)?;
        summary.decode_checked = true;
        Ok(())
    }

    /// Runs tokens on all sides at the same time and compares each with its own baseline, or,
    /// without one, the sides with each other.
    fn again(
        &mut self,
        again: &Again<'_>,
        baseline: Option<&[Reading]>,
        summary: &mut PrefillDecode,
    ) -> Result<Vec<Reading>, Failure> {
        if self.interrupted() {
            return Err(Failure::Interrupted);
        }
        for lane in contract_lanes(self.lanes) {
            lane.replay(again.tokens, again.piece_tokens);
        }
        let finished: Vec<_> = contract_lanes(self.lanes)
            .into_iter()
            .map(|lane| (lane.name(), lane.identity().device.clone(), lane.finish()))
            .collect();
        let mut readings = Vec::new();
        for (side, device, reading) in finished {
            readings.push((side, device, reading.map_err(Failure::Side)?));
        }
        for (index, (side, device, reading)) in readings.iter().enumerate() {
            let (verdict, tally) = match baseline {
                Some(baseline) => against_itself(&baseline[index], reading, side, again),
                // The first has nobody before it, and would agree with itself.
                None if index == 0 => continue,
                None => against_each_other(&readings[0].2, reading, again),
            };
            summary.chunkings_count += 1;
            summary.diverging_count += usize::from(matches!(verdict, Verdict::Diverges(_)));
            let event = self.chunking(again, side, device.clone(), reading, verdict, tally);
            self.tally.add(tally);
            self.note(event.verdict.clone());
            self.display.show(Event::Chunking(&event)).map_err(Failure::Display)?;
        }
        self.advance(again.tokens.len()).map_err(Failure::Display)?;
        Ok(readings.into_iter().map(|(_, _, reading)| reading).collect())
    }

    fn chunking(
        &self,
        again: &Again<'_>,
        side: &'static str,
        device: String,
        reading: &Reading,
        verdict: Verdict,
        tally: Tally,
    ) -> Chunking {
        let Reading { readout, hidden_hash, logits_hash, .. } = reading;
        Chunking {
            side,
            device,
            words: again.words.clone(),
            piece_tokens: again.piece_tokens.min(self.plan.ubatch),
            tokens_checked: again.tokens.len(),
            step: again.step,
            position: readout.position,
            token: self.token(reading.token_id),
            hidden: RowFacts::of(&readout.hidden, *hidden_hash, readout.hidden_place),
            logits: RowFacts::of(&readout.logits, *logits_hash, readout.logits_place),
            landscape: Landscape::of(&readout.logits),
            verdict,
            tally,
        }
    }
}

enum Failure {
    Display(io::Error),
    Side(SideError),
    Interrupted,
}

/// The lanes whose bits do not depend on how a prompt is cut.
fn contract_lanes(lanes: &mut Lanes) -> Vec<&mut Lane> {
    match &mut lanes.references {
        References::Exact(reference) => vec![&mut lanes.engine, reference],
        References::Recorded(_) | References::Triangle { .. } => vec![&mut lanes.engine],
    }
}

fn contract_sides(lanes: &Lanes, readings: Readings) -> Vec<Reading> {
    match lanes.references {
        References::Exact(_) => vec![readings.engine, readings.reference],
        References::Recorded(_) | References::Triangle { .. } => vec![readings.engine],
    }
}

fn against_each_other(engine: &Reading, other: &Reading, again: &Again<'_>) -> (Verdict, Tally) {
    let mut comparison = Comparison::new(again.step, Phase::PrefillLast);
    comparison.pair(Some(&other.hidden()), Some(&engine.hidden()));
    comparison.pair(Some(&other.logits()), Some(&engine.logits()));
    let compared = comparison.finish();
    (compared.verdict, compared.tally)
}

fn against_itself(
    baseline: &Reading,
    reading: &Reading,
    side: &str,
    again: &Again<'_>,
) -> (Verdict, Tally) {
    let mut tally = Tally::default();
    let mut verdict = Verdict::Agrees;
    let taps = [
        ("final_norm", &baseline.readout.hidden, &reading.readout.hidden),
        ("logits", &baseline.readout.logits, &reading.readout.logits),
    ];
    for (tap, one, two) in taps {
        tally.rows_compared += 1;
        tally.elements_compared += one.len() as u64;
        let place = Place { key: baseline.key(tap), step: again.step, phase: Phase::PrefillLast };
        let same_place = baseline.key(tap) == reading.key(tap);
        let (element, differing_count) = match rows::compare(one, two) {
            RowVerdict::Agrees if same_place => continue,
            RowVerdict::Agrees => (None, 0),
            RowVerdict::Differs(found) => (found.element, found.differing_count),
            RowVerdict::NonFiniteOnBothSides { index, value } => {
                let reason = Reason::NonFiniteOnBothSides { place, index, value };
                verdict = verdict.and(Verdict::Inconclusive(reason));
                continue;
            }
        };
        tally.rows_differing += 1;
        tally.elements_differing += differing_count as u64;
        let (side, chunking) = (side.to_owned(), again.words.clone());
        verdict = verdict.and(Verdict::Diverges(Box::new(Divergence {
            difference: Difference::Chunking { side, chunking },
            place,
            element,
            differing_count,
            elements_count: one.len(),
        })));
    }
    (verdict, tally)
}
