//! The cache where attention differs: rows that are not what the reference stores, of this pass or
//! of earlier ones, and rows that stand at other positions.

use std::ops::Range;

use reference::KvType;
use reference::operation::stored;

use super::search::{Block, Found, Search};
use crate::compare::rows;
use crate::diagnose::{Certainty, Explanation, Label};
use crate::run::lane::Lane;
use crate::sides::question::{Answer, Question};

/// Keys or values of a layer that are not the reference's.
pub(super) struct Cached {
    tap: &'static str,
    layer: usize,
    width: usize,
    /// The pass that attention differs in.
    pass: Range<usize>,
    /// The tokens of all positions.
    tokens: Vec<u32>,
    expected: Vec<f32>,
    actual: Vec<f32>,
}

fn equal(one: &[f32], two: &[f32]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| rows::same(*one, *two))
}

impl Cached {
    /// Reads the cache back: its keys, or else its values, if they differ.
    pub(super) fn read(
        found: &Found,
        search: &Search,
        engine: &mut Lane,
        kv: KvType,
    ) -> Option<Self> {
        let layer = found.block.layer?;
        let positions = 0..found.pass.end;
        let question = Question::Cache { layer, positions: positions.clone() };
        let Ok(Answer::Cache { keys, values }) = engine.ask(question) else { return None };
        for (tap, source, actual) in [("keys", "k_rope", keys), ("values", "v", values)] {
            let expected = search.kept().rows(source, Some(layer), positions.clone())?;
            let expected = stored(kv, &expected);
            if equal(&expected, &actual) {
                continue;
            }
            let tokens = search.tokens_at(positions.clone());
            if expected.len() != actual.len() || tokens.len() != positions.len() {
                return None;
            }
            let (pass, width) = (found.pass.clone(), expected.len() / positions.len());
            return Some(Self { tap, layer, width, pass, tokens, expected, actual });
        }
        None
    }

    fn differs(&self, positions: Range<usize>) -> bool {
        let values = positions.start * self.width..positions.end * self.width;
        !equal(&self.expected[values.clone()], &self.actual[values])
    }

    /// Whether rows of this pass differ, which its own store has written.
    pub(super) fn own_differ(&self) -> bool {
        self.differs(self.pass.clone())
    }

    /// Whether rows of earlier passes do, which attention has read before.
    pub(super) fn earlier_differ(&self) -> bool {
        self.differs(0..self.pass.start)
    }

    /// The rows of this pass.
    pub(super) fn own(&self) -> Block {
        self.block(self.pass.clone())
    }

    /// The rows of earlier passes.
    pub(super) fn earlier(&self) -> Block {
        self.block(0..self.pass.start)
    }

    fn block(&self, positions: Range<usize>) -> Block {
        let values = positions.start * self.width..positions.end * self.width;
        Block {
            tap: self.tap.into(),
            layer: Some(self.layer),
            first_position: positions.start,
            tokens: self.tokens[positions].to_vec(),
            width: self.width,
            expected: self.expected[values.clone()].to_vec(),
            actual: self.actual[values].to_vec(),
        }
    }

    /// The rows of this pass at earlier positions, all as far from their own. Later passes of a
    /// prompt may have written over some of them since.
    pub(super) fn stored_elsewhere(&self) -> Option<Explanation> {
        let standing = |off: usize| {
            let mut rows = self.pass.clone().map(|own| (own, own - off));
            let is_hit = rows.clone().all(|(_, there)| self.differs(there..there + 1));
            let equal = |(own, there): &(usize, usize)| {
                equal(self.row(&self.actual, *there), self.row(&self.expected, *own))
            };
            is_hit.then(|| rows.by_ref().filter(equal).count())
        };
        let counts = (1..=self.pass.start).map(|off| (standing(off).unwrap_or(0), off));
        // The nearest of those with the most rows.
        let (count, off) = counts.max_by_key(|(count, off)| (*count, usize::MAX - off))?;
        let first = self.row(&self.expected, self.pass.start);
        // A row of one value says nothing of its place.
        if count == 0 || first.iter().all(|value| *value == first[0]) {
            return None;
        }
        let (start, end, rows) = (self.pass.start, self.pass.end - 1, self.pass.len());
        let since = match rows - count {
            0 => String::new(),
            others => format!("; something else was written over {others} since"),
        };
        let text = format!(
            "{} of positions {start} to {end} were stored {off} positions too early: {count} of \
             {rows} rows stand there, exactly{since}",
            self.tap
        );
        let certainty = if count == rows { Certainty::Exact } else { Certainty::ExactInside };
        let sources = ["engine/kernels/kv_write.hip", "engine/src/llama/layer.rs"];
        Some(
            Explanation::new(Label::WrongRow, text)
                .with("positions_off", off)
                .with("rows", count)
                .certain(certainty)
                .looking_at(&sources),
        )
    }

    fn row<'a>(&self, values: &'a [f32], position: usize) -> &'a [f32] {
        &values[position * self.width..][..self.width]
    }
}
