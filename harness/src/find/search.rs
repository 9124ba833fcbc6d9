//! The first tap that differs in a pass, in the order of computation, over all of its rows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::kept::Kept;
use crate::compare::sequence::Record;
use crate::compare::{Phase, rows};
use crate::sides::Row;

/// All rows of one tap of one pass, on both sides.
#[derive(Clone, Debug)]
pub struct Block {
    /// The tap's name.
    pub tap: Cow<'static, str>,
    /// Its layer.
    pub layer: Option<usize>,
    /// The position of row 0.
    pub first_position: usize,
    /// The token of each row.
    pub tokens: Vec<u32>,
    /// Values in a row.
    pub width: usize,
    /// The reference's rows.
    pub expected: Vec<f32>,
    /// The engine's.
    pub actual: Vec<f32>,
}

impl Block {
    /// The positions of the rows.
    pub fn positions(&self) -> Range<usize> {
        self.first_position..self.first_position + self.tokens.len()
    }

    /// The elements that differ: another value, or a value that is no number on one side only.
    pub fn differing(&self) -> Vec<usize> {
        let pairs = self.expected.iter().zip(&self.actual).enumerate();
        pairs.filter(|(_, (one, two))| !rows::same(**one, **two)).map(|(index, _)| index).collect()
    }
}

/// Where a search ended.
#[derive(Clone, Debug)]
pub struct Found {
    /// The step of the run.
    pub step: usize,
    /// Prompt or decode.
    pub phase: Phase,
    /// The positions of the pass; a readout has the last of them only.
    pub pass: Range<usize>,
    /// The tokens of the pass.
    pub tokens: Vec<u32>,
    /// The first tap that differs.
    pub block: Block,
}

/// Watches the records of both sides as they are paired.
#[derive(Debug)]
pub struct Search {
    kept: Kept,
    step: usize,
    phase: Phase,
    pass: Range<usize>,
    tokens: Vec<u32>,
    open: Option<Block>,
    differs: bool,
    found: Option<Found>,
    taps_seen: usize,
    step_start: Option<usize>,
    sequence: BTreeMap<usize, u32>,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            kept: Kept::default(),
            step: 0,
            phase: Phase::PrefillLast,
            pass: 0..0,
            tokens: Vec::new(),
            open: None,
            differs: false,
            found: None,
            taps_seen: 0,
            step_start: None,
            sequence: BTreeMap::new(),
        }
    }
}

impl Search {
    /// The step whose records come next.
    pub fn begin(&mut self, step: usize, phase: Phase) {
        (self.step, self.phase, self.step_start) = (step, phase, None);
    }

    /// A record of the engine alone, where nothing can be equal to it.
    pub fn keep(&mut self, record: Record) {
        self.see(record.clone(), record);
    }

    /// A pair of records with one key.
    pub fn see(&mut self, expected: Record, actual: Record) {
        let (Row::F32(one), Row::F32(two)) = (&expected.row, &actual.row) else { return };
        if self.found.is_some() || one.len() != two.len() {
            return;
        }
        let key = &expected.key;
        let goes_on = self.open.as_ref().is_some_and(|open| {
            open.tap == key.tap
                && open.layer == key.layer
                && open.positions().end == key.position
                && open.width == one.len()
        });
        if !goes_on {
            self.close();
            if self.found.is_some() {
                return;
            }
            self.open = Some(Block {
                tap: key.tap.clone(),
                layer: key.layer,
                first_position: key.position,
                tokens: Vec::new(),
                width: one.len(),
                expected: Vec::new(),
                actual: Vec::new(),
            });
            self.taps_seen += 1;
        }
        let Some(open) = &mut self.open else { return };
        open.tokens.push(key.token_id);
        open.expected.extend_from_slice(one);
        open.actual.extend_from_slice(two);
        let equal = |(one, two): (&f32, &f32)| rows::same(*one, *two);
        self.differs |= !one.iter().zip(two).all(equal);
    }

    /// No record of this step comes any more.
    pub fn close(&mut self) {
        let Some(block) = self.open.take() else { return };
        // The readout has one row of the pass; every other tap has all.
        if !matches!(&*block.tap, "final_norm" | "logits") {
            self.pass = block.positions();
            self.tokens.clone_from(&block.tokens);
            self.step_start.get_or_insert(block.first_position);
            if block.tap == "embed" {
                self.sequence.extend(block.positions().zip(block.tokens.iter().copied()));
            }
        }
        if self.differs {
            let (step, phase) = (self.step, self.phase);
            let (pass, tokens) = (self.pass.clone(), self.tokens.clone());
            self.found = Some(Found { step, phase, pass, tokens, block });
            return;
        }
        let rows = block.expected.chunks_exact(block.width.max(1));
        for (position, row) in block.positions().zip(rows) {
            self.kept.put(block.tap.clone(), block.layer, position, Row::F32(row.to_vec()));
        }
    }

    /// The first tap that differs.
    pub fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// The reference's rows before it.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The positions of the last step.
    pub fn step_positions(&self) -> Range<usize> {
        self.step_start.unwrap_or(self.pass.end)..self.pass.end
    }

    /// The tokens at positions that were run.
    pub fn tokens_at(&self, positions: Range<usize>) -> Vec<u32> {
        self.sequence.range(positions).map(|(_, token)| *token).collect()
    }

    /// How many taps of passes were compared.
    pub fn taps_seen(&self) -> usize {
        self.taps_seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Key;

    fn record(tap: &'static str, position: usize, values: &[f32]) -> Record {
        let key = Key { token_id: 7, position, layer: Some(0), tap: tap.into() };
        Record { key, row: Row::F32(values.to_vec()), hash: None }
    }

    fn see(search: &mut Search, tap: &'static str, position: usize, pair: [&[f32]; 2]) {
        let [one, two] = pair.map(|values| record(tap, position, values));
        search.see(one, two);
    }

    #[test]
    fn the_first_tap_is_found_with_all_of_its_rows() {
        let mut search = Search::default();
        search.begin(2, Phase::Decode);
        let same: &[f32] = &[1.0, 2.0];
        for position in 4..7 {
            see(&mut search, "q", position, [same, same]);
        }
        for position in 4..7 {
            let other: &[f32] = if position == 5 { &[1.0, 2.5] } else { same };
            see(&mut search, "k", position, [same, other]);
        }
        // Later taps differ because of it.
        see(&mut search, "v", 4, [same, &[9.0, 9.0]]);
        search.close();
        let found = search.found().unwrap();
        assert_eq!((&*found.block.tap, found.step, found.pass.clone()), ("k", 2, 4..7));
        assert_eq!(found.block.differing(), [3]);
        assert_eq!(found.block.actual.len(), 6);
        assert_eq!(search.kept().rows("q", Some(0), 4..7).unwrap().len(), 6);
        assert!(search.kept().rows("k", Some(0), 4..7).is_none());
    }

    #[test]
    fn nan_on_one_side_differs_and_on_both_does_not() {
        let nan: &[f32] = &[f32::NAN];
        let mut search = Search::default();
        see(&mut search, "q", 0, [nan, &[-f32::NAN]]);
        search.close();
        assert!(search.found().is_none());
        see(&mut search, "k", 0, [&[0.0], nan]);
        search.close();
        assert!(search.found().is_some());
    }
}
