//! What is known about a tap that differs: both sides' rows, where they stand, and what to ask.
//!
//! **Invariant:** everything here but `actual` and `repeats` is the reference's or the file's.

use std::borrow::Cow;
use std::ops::Range;

use reference::{Activations, Config, KvType};

use super::Library;
use crate::compare::Phase;

/// How an operation answered when the engine ran it again on the same inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// How often it ran.
    pub runs: usize,
    /// How many different answers there were.
    pub answers: usize,
    /// How many elements were not the same in all of them.
    pub elements_differing: usize,
}

/// All rows of one tap of one pass, on both sides, with the means to ask for more.
///
/// What is optional makes hypotheses possible when it is there, and is no fault when it is not:
/// a diagnosis says which hypotheses lacked what.
#[derive(Clone)]
pub struct Evidence<'a> {
    /// The name in CONTRACT.md, section 12.
    pub tap: Cow<'static, str>,
    /// The layer, for the taps inside one.
    pub layer: Option<usize>,
    /// Prompt or decode.
    pub phase: Phase,
    /// The step of the run, 0 is the prompt.
    pub step: usize,
    /// The position of the first row.
    pub first_position: usize,
    /// How many positions the pass has; more than the rows for `final_norm` and `logits`, which
    /// have its last one only.
    pub pass_positions: Range<usize>,
    /// How many values a row has.
    pub width: usize,
    /// The reference's rows, one after the other.
    pub expected: Vec<f32>,
    /// The engine's rows, as many values.
    pub actual: Vec<f32>,
    /// The tokens of the pass, in the order of `pass_positions`.
    pub tokens: Option<Vec<u32>>,
    /// What the file says about the model.
    pub config: Config,
    /// How activations become integers.
    pub activations: Activations,
    /// How keys and values are kept.
    pub kv: KvType,
    /// What the engine answered to the same operation again and again.
    pub repeats: Option<Repeats>,
    /// Whether the engine's operation alone, on the reference's inputs, gave `actual` once more.
    pub alone_reproduces: Option<bool>,
    /// Further tensors of the reference: inputs, other layers, other positions, weights.
    pub library: &'a dyn Library,
}

impl std::fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence")
            .field("tap", &self.tap)
            .field("layer", &self.layer)
            .field("phase", &self.phase)
            .field("step", &self.step)
            .field("positions", &self.positions())
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl Evidence<'_> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.expected.len() / self.width
    }

    /// The positions of the rows.
    pub fn positions(&self) -> Range<usize> {
        self.first_position..self.first_position + self.rows()
    }

    /// One row of the reference.
    pub fn expected_row(&self, row: usize) -> &[f32] {
        &self.expected[row * self.width..][..self.width]
    }

    /// One row of the engine.
    pub fn actual_row(&self, row: usize) -> &[f32] {
        &self.actual[row * self.width..][..self.width]
    }

    /// Both sides of an element, row after row.
    pub fn pairs(&self) -> impl Iterator<Item = (f32, f32)> {
        self.expected.iter().copied().zip(self.actual.iter().copied())
    }

    /// The elements that differ, row after row.
    pub fn differing(&self) -> impl Iterator<Item = usize> {
        self.pairs().enumerate().filter(|(_, (one, two))| !same(*one, *two)).map(|(index, _)| index)
    }

    /// The rows with an element that differs.
    pub fn differing_rows(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = self.differing().map(|index| index / self.width).collect();
        rows.dedup();
        rows
    }

    /// The rows from the first that differs to the last, where all of these differ and no others.
    pub fn rows_that_differ(&self) -> Option<Range<usize>> {
        let rows = self.differing_rows();
        let (first, last) = (*rows.first()?, *rows.last()?);
        let is_part = rows.len() == last + 1 - first && rows.len() < self.rows();
        is_part.then_some(first..last + 1)
    }

    /// Some rows of it, of the same pass.
    pub fn with_rows(&self, rows: Range<usize>) -> Self {
        let values = rows.start * self.width..rows.end * self.width;
        Self {
            first_position: self.first_position + rows.start,
            expected: self.expected[values.clone()].to_vec(),
            actual: self.actual[values].to_vec(),
            ..self.clone()
        }
    }

    /// Whether the two sides can be compared at all, element by element.
    pub fn is_whole(&self) -> bool {
        self.width > 0
            && self.expected.len() == self.actual.len()
            && self.expected.len().is_multiple_of(self.width)
            && !self.expected.is_empty()
            && self.pass_positions.start <= self.first_position
            && self.positions().end <= self.pass_positions.end
    }
}

/// Equal bits, or NaN twice: payloads and signs of NaN are not compared (CONTRACT.md, section 1).
pub fn same(one: f32, two: f32) -> bool {
    one.to_bits() == two.to_bits() || (one.is_nan() && two.is_nan())
}
