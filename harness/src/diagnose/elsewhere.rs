//! Right values of another tensor: another layer's, an earlier pass's, a neighbour in memory.

use super::operation::{Named, row_inputs};
use super::{Answer, Evidence, Explanation, Label, No, same};
use crate::sides::LAYER_TAPS;

/// How far back an earlier pass is looked for.
pub(super) const LAG_MAX: usize = 4096;
/// A run of values this long is no coincidence.
const RUN_MIN: usize = 4;

/// The name with a life as long as the program; the cache's rows have names as well.
pub(super) fn tap_named(name: &str) -> Option<&'static str> {
    let outside = ["embed", "final_norm", "logits", "keys", "values"];
    LAYER_TAPS.iter().chain(&outside).find(|tap| **tap == name).copied()
}

fn equal(one: &[f32], two: &[f32]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(*one, *two))
}

/// The same tap of another layer.
pub(super) fn wrong_layer(evidence: &Evidence<'_>) -> Answer {
    let (Some(layer), Some(tap)) = (evidence.layer, tap_named(&evidence.tap)) else {
        return Err(No::Idle);
    };
    let rows = evidence.differing_rows();
    let mut known = false;
    for other in (0..evidence.config.layers).filter(|other| *other != layer) {
        let named = Named { tap, layer: Some(other) };
        let Ok(values) = evidence.input(&named) else { continue };
        known = true;
        let width = evidence.width;
        let row = |row: usize| values.get(row * width..(row + 1) * width).unwrap_or_default();
        if rows.iter().all(|index| equal(evidence.actual_row(*index), row(*index))) {
            let text = format!(
                "{} of {} rows are those of layer {other} exactly; the others are equal",
                rows.len(),
                evidence.rows()
            );
            return Ok(Explanation::new(Label::WrongLayer, text)
                .with("layer", other)
                .with("instead_of", layer));
        }
    }
    Err(if known { No::Refuted } else { No::Lacks(format!("`{tap}` of other layers")) })
}

/// The same tap at a position of an earlier pass.
pub(super) fn stale(evidence: &Evidence<'_>) -> Answer {
    let tap = tap_named(&evidence.tap).ok_or(No::Idle)?;
    let start = evidence.pass_positions.start;
    if start == 0 {
        return Err(No::Idle);
    }
    let named = Named { tap, layer: evidence.layer };
    let mut known = false;
    let mut sources = Vec::new();
    for row in evidence.differing_rows() {
        let position = evidence.first_position + row;
        let earlier = (start.saturating_sub(LAG_MAX)..start).rev();
        let source = earlier.into_iter().find(|earlier| {
            let values = evidence.rows_of(&named, *earlier..*earlier + 1);
            known |= values.is_ok();
            values.is_ok_and(|values| equal(&values, evidence.actual_row(row)))
        });
        match source {
            Some(source) => sources.push((position, source)),
            None if known => return Err(No::Refuted),
            None => return Err(No::Lacks(format!("{named} at earlier positions"))),
        }
    }
    let (position, source) = *sources.first().ok_or(No::Refuted)?;
    let text = format!(
        "got at position {position} is what position {source} had, {} positions before; \
         {} of {} rows are such, exactly, and the others are equal",
        position - source,
        sources.len(),
        evidence.rows()
    );
    Ok(Explanation::new(Label::Stale, text)
        .with("position", source)
        .with("positions_before", position - source))
}

/// A run of elements holds a run of another tensor of the pass.
pub(super) fn overlap(evidence: &Evidence<'_>) -> Answer {
    let indices: Vec<usize> = evidence.differing().collect();
    let (Some(first), Some(last)) = (indices.first(), indices.last()) else {
        return Err(No::Refuted);
    };
    let run = &evidence.actual[*first..=*last];
    if run.len() < RUN_MIN {
        return Err(No::Refuted);
    }
    let layers = evidence.config.layers;
    let near = evidence
        .layer
        .map_or(0..layers.min(1), |layer| layer.saturating_sub(1)..(layer + 2).min(layers));
    let mut named = vec![Named { tap: "embed", layer: None }];
    for layer in near {
        named.extend(LAYER_TAPS.map(|tap| Named { tap, layer: Some(layer) }));
    }
    let inputs = row_inputs(evidence);
    let mut known = false;
    for named in named {
        let Ok(values) = evidence.rows_of(&named, evidence.pass_positions.clone()) else {
            continue;
        };
        known = true;
        let own = named.tap == evidence.tap && named.layer == evidence.layer;
        let at = values
            .windows(run.len())
            .position(|values| same(values[0], run[0]) && equal(values, run));
        // What an operation passed on unchanged is no neighbour's.
        let passed_on = inputs.contains(&named) && values.len() == evidence.actual.len();
        let Some(at) = at.filter(|at| !((own || passed_on) && at == first)) else { continue };
        if own && at.abs_diff(*first).is_multiple_of(evidence.width) {
            return Ok(part_of_row(evidence, (*first, *last), at));
        }
        let text = format!(
            "elements {first} to {last} of the flat tensor, {} of {}, are {named} from element \
             {at} on, exactly; the others are equal",
            run.len(),
            evidence.actual.len()
        );
        return Ok(Explanation::new(Label::Overlap, text)
            .with("tensor", named)
            .with("first", first)
            .with("elements", run.len())
            .with("from", at));
    }
    Err(if known { No::Refuted } else { No::Lacks("other taps of the pass".into()) })
}

/// A run of elements that holds the same columns of another row.
fn part_of_row(evidence: &Evidence<'_>, (first, last): (usize, usize), at: usize) -> Explanation {
    let width = evidence.width;
    let (row, from, columns) = (first / width, at / width, last - first + 1);
    let text = format!(
        "{columns} columns of row {row}, from {} on, are those of row {from}, exactly; the others \
         are equal",
        first % width
    );
    Explanation::new(Label::WrongRow, text)
        .with("row", row)
        .with("is_row", from)
        .with("columns", columns)
}
