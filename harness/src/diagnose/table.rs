//! The table of hypotheses, in the order in which they are believed.

use super::hypothesis::Needs::{Anything, Values};
use super::hypothesis::{Diagnosis, Hypothesis, Needs};
use super::{
    Answer, Certainty, Evidence, Explanation, clamped, elsewhere, flips, keys, memory, operation,
    places, product, reading, rotary, rounding, rowwise, scaled,
};

const fn hypothesis(
    name: &'static str,
    needs: Needs,
    examine: fn(&Evidence<'_>) -> Answer,
) -> Hypothesis {
    Hypothesis { name, needs, examine }
}

/// All of them; what needs least to be believed comes first: memory, then right values at wrong
/// places, then another operation, then other weights, then other numbers.
pub const HYPOTHESES: [Hypothesis; 38] = [
    hypothesis("race", Anything, memory::race),
    hypothesis("weight on the device", Anything, memory::device_weight),
    hypothesis("bit flip", Anything, memory::bit_flip),
    hypothesis("not written", Anything, memory::not_written),
    hypothesis("uninitialised", Anything, memory::uninitialised),
    hypothesis("transposed", Values, places::transposed),
    hypothesis("wrong row", Values, places::wrong_row),
    hypothesis("head order", Values, places::head_order),
    hypothesis("shifted", Values, places::shifted),
    hypothesis("wrong layer", Values, elsewhere::wrong_layer),
    hypothesis("stale", Values, elsewhere::stale),
    hypothesis("terms of the residual", Values, rowwise::residual),
    hypothesis("gate", Values, rowwise::swiglu),
    hypothesis("epsilon", Values, rowwise::epsilon),
    hypothesis("norm", Values, rowwise::norm),
    hypothesis("rotary position", Values, rotary::position),
    hypothesis("rotary convention", Values, rotary::convention),
    hypothesis("keys that are read", Values, keys::windows),
    hypothesis("head mapping", Values, keys::head_mapping),
    hypothesis("layer of the cache", Values, keys::layer),
    hypothesis("inputs of attention", Values, keys::inputs),
    hypothesis("precision of the cache", Values, keys::precision),
    hypothesis("scaled", Values, scaled::scaled),
    hypothesis("clamped", Anything, clamped::clamped),
    hypothesis("row of the embedding", Values, reading::table_row),
    hypothesis("matrix", Values, product::matrix),
    hypothesis("input of a product", Values, product::input),
    hypothesis("part of a product", Values, product::missing_part),
    hypothesis("transposed weights", Values, reading::transposed),
    hypothesis("dequantisation", Values, reading::dequantisation),
    hypothesis("weight type", Values, reading::weight_type),
    hypothesis("contraction index", Values, product::contraction),
    hypothesis("overlap", Values, elsewhere::overlap),
    hypothesis("bit of a weight", Anything, flips::weight_bit),
    hypothesis("denormals", Anything, rounding::denormals),
    hypothesis("narrowed", Values, rounding::narrowed),
    hypothesis("digits", Values, product::digits),
    hypothesis("within the bounds", Anything, rounding::within_bound),
];

/// Says what it is when nothing says why.
const LAST: Hypothesis = hypothesis("non-finite", Anything, memory::non_finite);

/// Tests every hypothesis.
pub fn diagnose(evidence: &Evidence<'_>) -> Diagnosis {
    if !evidence.is_whole() || evidence.differing().next().is_none() {
        return Diagnosis::of(evidence, &[], None);
    }
    let inputs_fit = operation::recompute(evidence).ok().map(|rows| {
        let pairs = rows.iter().zip(&evidence.expected);
        rows.len() == evidence.expected.len()
            && pairs.into_iter().all(|(one, two)| super::same(*one, *two))
    });
    let mut table = HYPOTHESES.to_vec();
    table.push(LAST);
    let mut found = Diagnosis::of(evidence, &table, inputs_fit);
    if found.first().is_none() {
        found.explanations = rows_alone(evidence);
    }
    found
}

/// What explains the rows that differ, exactly, where they stand side by side and others are right:
/// a tile, the last row, a piece of the prompt.
fn rows_alone(evidence: &Evidence<'_>) -> Vec<Explanation> {
    let Some(rows) = evidence.rows_that_differ() else { return Vec::new() };
    let (first, last) = (rows.start, rows.end - 1);
    let count = evidence.rows();
    let mut found = Diagnosis::of(&evidence.with_rows(rows), &HYPOTHESES, None).explanations;
    found.retain(|explanation| explanation.certainty == Certainty::Exact);
    for explanation in &mut found {
        let which =
            if first == last { format!("row {first}") } else { format!("rows {first} to {last}") };
        explanation.evidence =
            format!("in {which} of {count}, the others are equal: {}", explanation.evidence);
    }
    found
}
