//! What a diagnosis may ask for: the rows that were kept, the file's tensors, the device's.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use reference::KvType;
use reference::operation::{Operations, TensorBytes, stored};

use super::kept::Kept;
use super::search::Block;
use crate::diagnose::{Library, Weight};
use crate::run::lane::Lane;
use crate::sides::question::{Answer, Question};

/// The library of one divergence.
pub(super) struct RunLibrary<'a> {
    /// The reference's rows before the divergence.
    pub(super) kept: &'a Kept,
    /// The rows at it.
    pub(super) block: &'a Block,
    /// How keys and values are kept.
    pub(super) kv: KvType,
    /// Reads the file as the reference does.
    pub(super) operations: RefCell<&'a mut Operations>,
    /// The engine, which knows what the device holds.
    pub(super) engine: RefCell<&'a mut Lane>,
}

fn weight(tensor: TensorBytes) -> Weight<'static> {
    let TensorBytes { kind, rows, columns, bytes } = tensor;
    Weight { kind, rows, columns, bytes: Cow::Owned(bytes) }
}

impl RunLibrary<'_> {
    fn of_block(
        &self,
        tap: &str,
        layer: Option<usize>,
        positions: &Range<usize>,
    ) -> Option<Vec<f32>> {
        let block = self.block;
        let inside = positions.start >= block.first_position
            && positions.end <= block.positions().end
            && block.tap == tap
            && block.layer == layer;
        let row = |position: usize| (position - block.first_position) * block.width;
        inside.then(|| block.expected[row(positions.start)..row(positions.end)].to_vec())
    }
}

impl Library for RunLibrary<'_> {
    fn rows(
        &self,
        tap: &str,
        layer: Option<usize>,
        positions: Range<usize>,
    ) -> Option<Cow<'_, [f32]>> {
        let rows = self.of_block(tap, layer, &positions).or_else(|| match tap {
            "keys" => self.kept.rows("k_rope", layer, positions).map(|x| stored(self.kv, &x)),
            "values" => self.kept.rows("v", layer, positions).map(|x| stored(self.kv, &x)),
            _ => self.kept.rows(tap, layer, positions),
        });
        rows.map(Cow::Owned)
    }

    fn weight(&self, name: &str) -> Option<Weight<'_>> {
        self.operations.borrow_mut().tensor(name).ok().map(weight)
    }

    fn device_weight(&self, name: &str) -> Option<Weight<'_>> {
        let shape = self.weight(name)?;
        let question = Question::Weight { tensor: name.to_owned() };
        match self.engine.borrow_mut().ask(question) {
            Ok(Answer::Weight(Some(bytes))) => Some(Weight { bytes: Cow::Owned(bytes), ..shape }),
            _ => None,
        }
    }
}
