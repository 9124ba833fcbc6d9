//! Products with another matrix, another input, a part of the sum missing, other digits.

use std::borrow::Cow;
use std::ops::Range;

use reference::Activations;
use reference::exact::ops::{self, MatrixBytes};

use super::narrow::NARROWINGS;
use super::operation::{Named, Source, level, source};
use super::substitutes::substitutes;
use super::{Answer, Evidence, Explanation, Label, No, Weight, same};

/// Outputs that are tried before all of them.
const SCREEN: usize = 16;

/// The activations and the matrix of a product, if they belong together.
pub(super) fn operands<'a>(
    evidence: &Evidence<'a>,
    input: &Named,
    name: &str,
) -> Result<(Cow<'a, [f32]>, Weight<'a>), No> {
    let (x, weight) = (evidence.input(input)?, evidence.weight(name)?);
    if x.len() != evidence.rows() * weight.columns || weight.rows != evidence.width {
        return Err(No::Lacks(format!("rows of {input} for `{name}`")));
    }
    Ok((x, weight))
}

/// Whether the product of rows of activations with a matrix is what the engine has.
pub(super) fn equals(evidence: &Evidence<'_>, weight: &Weight<'_>, x: &[f32]) -> bool {
    let columns = weight.columns;
    if x.len() != evidence.rows() * columns {
        return false;
    }
    let row = |row: usize| x[row * columns..][..columns].to_vec();
    equals_rows(evidence, weight, evidence.activations, &row)
}

/// The same for activations made row by row: a few outputs of a row that differs, then all.
fn equals_rows(
    evidence: &Evidence<'_>,
    weight: &Weight<'_>,
    activations: Activations,
    row: &dyn Fn(usize) -> Vec<f32>,
) -> bool {
    if weight.rows != evidence.width {
        return false;
    }
    let Some(first) = evidence.differing().next() else { return false };
    let (token, output) = (first / evidence.width, first % evidence.width);
    let begin = output / SCREEN * SCREEN;
    let count = SCREEN.min(weight.rows - begin);
    let bytes = &weight.bytes[begin * weight.row_bytes()..][..count * weight.row_bytes()];
    let some = MatrixBytes { bytes, rows: count, ..weight.matrix() };
    let values = ops::product(level(), activations, some, &row(token));
    let got = &evidence.actual_row(token)[begin..][..count];
    if !values.iter().zip(got).all(|(one, two)| same(*one, *two)) {
        return false;
    }
    let x: Vec<f32> = (0..evidence.rows()).flat_map(row).collect();
    evidence.equals(&ops::product(level(), activations, weight.matrix(), &x))
}

/// A row of activations with each value changed by its index and itself.
fn changed(
    x: &[f32],
    columns: usize,
    function: impl Fn(usize, f32) -> f32,
) -> impl Fn(usize) -> Vec<f32> {
    move |row| {
        let row = &x[row * columns..][..columns];
        row.iter().enumerate().map(|(k, value)| function(k, *value)).collect()
    }
}

/// The matrix of another name or of another layer.
pub(super) fn matrix(evidence: &Evidence<'_>) -> Answer {
    let Source::Product { input, weight: name } = source(evidence)? else { return Err(No::Idle) };
    let (x, own) = operands(evidence, &input, &name)?;
    let stem = name.split('.').nth(2);
    let mut names = Vec::new();
    if let (Some(layer), Some(stem)) = (evidence.layer, stem) {
        let others =
            ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        for other in others.into_iter().filter(|other| *other != stem) {
            names.push((Label::WrongMatrix, format!("blk.{layer}.{other}.weight")));
        }
        for other in (0..evidence.config.layers).filter(|other| *other != layer) {
            names.push((Label::WrongLayer, format!("blk.{other}.{stem}.weight")));
        }
    } else {
        names.push((Label::WrongMatrix, "token_embd.weight".to_owned()));
    }
    let mut known = false;
    for (label, other) in names {
        let Ok(weight) = evidence.weight(&other) else { continue };
        known = true;
        if (weight.rows, weight.columns) == (own.rows, own.columns) && equals(evidence, &weight, &x)
        {
            let text = format!("the product with `{other}`, exactly, {}", evidence.all());
            return Ok(Explanation::new(label, text).with("read", other).with("instead_of", name));
        }
    }
    Err(if known { No::Refuted } else { No::Lacks("other tensors of the file".into()) })
}

/// Another tap as the input.
pub(super) fn input(evidence: &Evidence<'_>) -> Answer {
    let Source::Product { input, weight } = source(evidence)? else { return Err(No::Idle) };
    let (_, weight) = operands(evidence, &input, &weight)?;
    for other in substitutes(evidence, &input) {
        if equals(evidence, &weight, &other.rows) {
            let text = format!(
                "the product of {} in the place of {input}, exactly, {}",
                other.what,
                evidence.all()
            );
            return Ok(Explanation::new(other.label, text)
                .with("read", other.what)
                .with("instead_of", input));
        }
    }
    Err(No::Refuted)
}

/// A stretch of the inner index that was not added, or was added twice.
pub(super) fn missing_part(evidence: &Evidence<'_>) -> Answer {
    let Source::Product { input, weight } = source(evidence)? else { return Err(No::Idle) };
    let (x, weight) = operands(evidence, &input, &weight)?;
    let columns = weight.columns;
    let (block, chunk) = match weight.kind.block_values() {
        1 => (1, 64),
        32 => (32, 256),
        _ => (256, 1024),
    };
    for (what, range) in parts(columns, block, chunk) {
        let less = changed(&x, columns, |k, value| if range.contains(&k) { 0.0 } else { value });
        if equals_rows(evidence, &weight, evidence.activations, &less) {
            let last = range.end - 1;
            let text = format!(
                "the sum without {what} (k from {} to {last}), exactly, {}",
                range.start,
                evidence.all()
            );
            return Ok(Explanation::new(Label::MissingTerm, text)
                .with("term", what)
                .with("from_k", range.start)
                .with("to_k", last));
        }
    }
    Err(No::Refuted)
}

/// Stretches of the inner index that a sum may forget. Chunks are what a sum is made of, blocks
/// what a loop steps over, and the end is what it forgets first.
fn parts(columns: usize, block: usize, chunk: usize) -> Vec<(String, Range<usize>)> {
    let mut parts = Vec::new();
    for (unit, values) in [("chunk", chunk), ("block", block), ("run of 32", 32), ("run of 8", 8)] {
        // Part of a quantised block cannot be left out of the activations without another scale.
        if values < block || values >= columns {
            continue;
        }
        let count = columns.div_ceil(values);
        let inner = if values == 1 { 1..1 } else { 1..count - 1 };
        for index in [count - 1, 0].into_iter().chain(inner) {
            let end = ((index + 1) * values).min(columns);
            parts.push((format!("{unit} {index} of {count}"), index * values..end));
            // What follows the last but one is the last.
            if index + 2 < count && values > 1 {
                parts.push((format!("everything after {unit} {index} of {count}"), end..columns));
            }
        }
    }
    parts
}

/// Activations with other digits, or rounded before the product.
pub(super) fn digits(evidence: &Evidence<'_>) -> Answer {
    let Source::Product { input, weight } = source(evidence)? else { return Err(No::Idle) };
    let (x, weight) = operands(evidence, &input, &weight)?;
    let explain = |what: String| {
        let text = format!("the product with {what}, exactly, {}", evidence.all());
        Explanation::new(Label::Rounding, text).with("activations", what)
    };
    for activations in [Activations::I24, Activations::I16, Activations::I8] {
        let as_is = changed(&x, weight.columns, |_, value| value);
        if activations != evidence.activations
            && equals_rows(evidence, &weight, activations, &as_is)
        {
            let (other, own) = (activations.name(), evidence.activations.name());
            return Ok(explain(format!("activations in {other} for {own}")));
        }
    }
    for (what, function) in NARROWINGS {
        let rounded = changed(&x, weight.columns, |_, value| function(value));
        if equals_rows(evidence, &weight, evidence.activations, &rounded) {
            return Ok(explain(format!("activations in {what}")));
        }
    }
    Err(No::Refuted)
}

/// Where in its run the activation for a weight comes from.
type Order = Box<dyn Fn(usize) -> usize>;

/// Activations that met the weights of other inner indices of the same group.
pub(super) fn contraction(evidence: &Evidence<'_>) -> Answer {
    let Source::Product { input, weight } = source(evidence)? else { return Err(No::Idle) };
    let (x, matrix) = operands(evidence, &input, &weight)?;
    let columns = matrix.columns;
    let explain = |what: String| {
        let text = format!("the product with {what}, exactly, {}", evidence.all());
        Explanation::new(Label::ContractionIndex, text)
            .with("order", what)
            .with("tensor", &weight)
            .with("input", &input)
    };
    let mut orders: Vec<(String, usize, Order)> = Vec::new();
    for run in [4, 8, 16, 32, 64, 128, 256] {
        if run > columns || !columns.is_multiple_of(run) {
            continue;
        }
        orders.push((format!("k reversed in runs of {run}"), run, Box::new(move |k| run - 1 - k)));
        orders.push((
            format!("the halves of every {run} k exchanged"),
            run,
            Box::new(move |k| (k + run / 2) % run),
        ));
        for a in [2, 4, 8, 16, 32].into_iter().filter(|a| *a < run) {
            let b = run / a;
            let order = move |k: usize| (k % a) * b + k / a;
            orders.push((format!("{a} by {b} of every {run} k transposed"), run, Box::new(order)));
        }
    }
    for (what, run, order) in &orders {
        let moved = |row: usize| -> Vec<f32> {
            let row = &x[row * columns..][..columns];
            (0..columns).map(|k| row[k / run * run + order(k % run)]).collect()
        };
        if equals_rows(evidence, &matrix, evidence.activations, &moved) {
            return Ok(explain(what.clone()));
        }
    }
    for side in [16, 8, 32, 4] {
        let (rows, full) = (evidence.rows() / side * side, columns / side * side);
        let place = |index: usize| {
            let (row, k) = (index / columns, index % columns);
            if row >= rows || k >= full {
                return index;
            }
            (row / side * side + k % side) * columns + k / side * side + row % side
        };
        let moved = |row: usize| -> Vec<f32> {
            (row * columns..(row + 1) * columns).map(|index| x[place(index)]).collect()
        };
        if rows > 0 && equals_rows(evidence, &matrix, evidence.activations, &moved) {
            return Ok(explain(format!("{side} by {side} tiles of the input transposed")));
        }
    }
    Err(No::Refuted)
}
