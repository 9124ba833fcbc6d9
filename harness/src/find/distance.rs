//! Where bits cannot be equal: each operation of the step against f64 on the engine's own inputs.
//!
//! **Invariant:** the only limits are the bounds that CONTRACT.md derives in section 15; NaN is
//! inside none.

use std::ops::Range;

use reference::operation::{OperationInputs, Operations};
use serde::Serialize;

use super::inputs::inputs;
use super::search::Search;
use crate::number::Number;
use crate::sides::LAYER_TAPS;

/// The most rows of a pass that are judged at each of its ends: f64 over all weights costs seconds
/// a row of a large model.
const ROWS_AT_EACH_END: usize = 4;

/// What was judged, and the first operation that is too far away.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distances {
    /// How many operations.
    pub operations_judged: usize,
    /// The positions.
    pub positions: Vec<Range<usize>>,
    /// The first that is outside of its bound.
    pub first: Option<Excess>,
}

/// An element outside of its bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Excess {
    /// The tap.
    pub tap: &'static str,
    /// Its layer.
    pub layer: Option<usize>,
    /// The position.
    pub position: usize,
    /// The column.
    pub column: usize,
    /// What the engine has.
    pub actual: Number,
    /// What f64 has on the engine's own inputs.
    pub expected: Number,
    /// How far they are apart.
    pub distance: Number,
    /// How far they may be.
    pub bound: Number,
    /// How many elements of the tap are outside.
    pub outside_count: usize,
    /// Of how many.
    pub elements_count: usize,
}

/// Judges the operations of the last step one by one until one is outside.
pub fn judge(search: &Search, operations: &mut Operations) -> Distances {
    let layers = operations.config().layers;
    let step = search.step_positions();
    let positions = match step.len() {
        count if count <= 2 * ROWS_AT_EACH_END => vec![step.clone()],
        _ => vec![step.start..step.start + ROWS_AT_EACH_END, step.end - ROWS_AT_EACH_END..step.end],
    };
    let mut judged = Distances { operations_judged: 0, positions, first: None };
    let last = step.end.saturating_sub(1)..step.end;
    let inside = (0..layers).flat_map(|layer| LAYER_TAPS.map(|tap| (tap, Some(layer))));
    let all = std::iter::once(("embed", None)).chain(inside);
    for (tap, layer) in all.chain([("final_norm", None), ("logits", None)]) {
        let ranges = match tap {
            "final_norm" | "logits" => vec![last.clone()],
            _ => judged.positions.clone(),
        };
        for range in ranges {
            let Some(excess) = operation(search, operations, (tap, layer), range) else { continue };
            judged.operations_judged += 1;
            if excess.is_some() {
                judged.first = excess;
                return judged;
            }
        }
    }
    judged
}

/// One operation on some rows: what is outside, or nothing where it cannot be judged.
fn operation(
    search: &Search,
    operations: &mut Operations,
    (tap, layer): (&'static str, Option<usize>),
    positions: Range<usize>,
) -> Option<Option<Excess>> {
    let (kept, layers) = (search.kept(), operations.config().layers);
    let tokens = search.tokens_at(positions.clone());
    let actual = kept.rows(tap, layer, positions.clone())?;
    let inputs = inputs(kept, (tap, layer), layers, (positions.clone(), &tokens));
    let given = OperationInputs {
        first_position: inputs.first_position,
        tokens: &inputs.tokens,
        tensors: &inputs.tensors,
    };
    let judged = operations.judge(tap, layer, given).ok()??;
    let width = actual.len() / positions.len().max(1);
    let distance = |index: usize| (f64::from(actual[index]) - judged.expected[index]).abs();
    // Written so that NaN is outside.
    let inside = |index: &usize| distance(*index) <= judged.bounds[*index];
    let outside: Vec<usize> = (0..actual.len()).filter(|index| !inside(index)).collect();
    Some(outside.first().map(|&index| Excess {
        tap,
        layer,
        position: positions.start + index / width,
        column: index % width,
        actual: Number::F32(actual[index]),
        expected: Number::F64(judged.expected[index]),
        distance: Number::F64(distance(index)),
        bound: Number::F64(judged.bounds[index]),
        outside_count: outside.len(),
        elements_count: actual.len(),
    }))
}

impl Distances {
    /// In words: what was found, and which kind of evidence that is.
    pub fn words(&self) -> String {
        let rows: Vec<String> = self
            .positions
            .iter()
            .map(|range| format!("{} to {}", range.start, range.end.saturating_sub(1)))
            .collect();
        let rows = rows.join(", ");
        match &self.first {
            None => format!(
                "all {} operations of the step, at positions {rows}, are inside their derived \
                 bounds of f64 on the engine's own inputs: what is too far is no single operation; \
                 it is judged by the rule of three alone",
                self.operations_judged
            ),
            Some(excess) => {
                let layer = excess.layer.map_or_else(String::new, |l| format!("layer {l} "));
                format!(
                    "{layer}tap {} at position {} [{}]: engine {}, f64 on the engine's own inputs \
                     {}: {:.3e} apart, the derived bound is {:.3e}; {} of {} elements are outside \
                     (evidence: bound, not bits; positions {rows})",
                    excess.tap,
                    excess.position,
                    excess.column,
                    excess.actual,
                    excess.expected,
                    excess.distance.to_f64(),
                    excess.bound.to_f64(),
                    excess.outside_count,
                    excess.elements_count,
                )
            }
        }
    }
}
