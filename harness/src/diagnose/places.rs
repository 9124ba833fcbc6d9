//! The right values at wrong places of the same tensor: transposed, another row, shifted, heads.

use super::operation::{Named, Source, level, source};
use super::{Answer, Certainty, Evidence, Explanation, Label, No, same};
use reference::exact::ops;

/// Sides of square tiles that matrix units and hand-written kernels have.
const TILES: [usize; 6] = [16, 32, 8, 4, 64, 2];

/// The values in another order; `place` says which element of the reference stands at an index.
fn moved(evidence: &Evidence<'_>, place: impl Fn(usize) -> usize) -> bool {
    let holds = |index: usize| same(evidence.expected[place(index)], evidence.actual[index]);
    evidence.differing().take(8).all(holds) && (0..evidence.actual.len()).all(holds)
}

/// `[a][b]` as `[b][a]`: the index of the source of an element.
fn exchanged(index: usize, a: usize, b: usize) -> usize {
    (index % a) * b + index / a
}

/// Rows and columns exchanged: the whole tensor, tiles, heads.
pub(super) fn transposed(evidence: &Evidence<'_>) -> Answer {
    let (rows, width) = (evidence.rows(), evidence.width);
    let explain = |what: String| {
        let text = format!("got equals expected with {what} exchanged, {}", evidence.all());
        Explanation::new(Label::Transposed, text)
    };
    if rows > 1 && width > 1 {
        for (a, b) in [(rows, width), (width, rows)] {
            if moved(evidence, |index| exchanged(index, a, b)) {
                return Ok(
                    explain(format!("all {rows} rows and {width} columns")).with("unit", "all")
                );
            }
        }
        for side in TILES {
            if let Some(found) = tiles(evidence, side) {
                return Ok(found);
            }
        }
    }
    let Some((heads, size)) = evidence.heads() else { return Err(No::Refuted) };
    for (a, b) in [(heads, size), (size, heads)] {
        let place = |index: usize| index / width * width + exchanged(index % width, a, b);
        if heads > 1 && size > 1 && moved(evidence, place) {
            return Ok(explain(format!("{heads} heads and {size} dimensions")).with("unit", "head"));
        }
    }
    for (a, b) in [(heads, rows), (rows, heads)] {
        let place = |index: usize| exchanged(index / size, a, b) * size + index % size;
        if heads > 1 && rows > 1 && moved(evidence, place) {
            let what = format!("{rows} positions and {heads} heads");
            return Ok(explain(what).with("unit", "positions and heads"));
        }
    }
    Err(No::Refuted)
}

/// Every tile of `side` by `side` transposed; tiles that do not fit are whole, or read beyond.
fn tiles(evidence: &Evidence<'_>, side: usize) -> Option<Explanation> {
    let (rows, width) = (evidence.rows(), evidence.width);
    let source_of = |index: usize| {
        let (row, column) = (index / width, index % width);
        (row / side * side + column % side, column / side * side + row % side)
    };
    let full = |index: usize| {
        let end = |at: usize| (at / side + 1) * side;
        end(index / width) <= rows && end(index % width) <= width
    };
    if !(0..evidence.actual.len()).any(full) && rows.min(width) < 2 {
        return None;
    }
    let unit = format!("tiles of {side} by {side}");
    let explain = |text: String| {
        Explanation::new(Label::Transposed, text).with("unit", "tile").with("tile", side)
    };
    let place = |index: usize| {
        let (row, column) = source_of(index);
        if full(index) { row * width + column } else { index }
    };
    if moved(evidence, place) {
        let text = format!("got equals expected with {unit} transposed, {}", evidence.all());
        return Some(explain(text));
    }
    let candidate = |index: usize| {
        let (row, column) = source_of(index);
        (row < rows && column < width).then(|| evidence.expected[row * width + column])
    };
    let open =
        evidence.equals_inside(&(0..evidence.actual.len()).map(candidate).collect::<Vec<_>>())?;
    let inside = evidence.actual.len() - open;
    let text = format!(
        "got equals expected with {unit} transposed, {inside} of {inside} elements; \
         {open} come from rows or columns beyond the tensor"
    );
    Some(explain(text).certain(if open == 0 { Certainty::Exact } else { Certainty::ExactInside }))
}

/// A few pairs of "row 3 is row 5", or what all have in common.
fn rows_in_words(pairs: &[(usize, usize)], last: usize) -> String {
    let (row, from) = pairs[0];
    if pairs.len() > 1 && pairs.iter().all(|(_, source)| *source == from) {
        return format!("{} rows are row {from}", pairs.len());
    }
    let steps = |(row, from): &(usize, usize)| from.cast_signed() - row.cast_signed();
    let step = steps(&(row, from));
    if pairs.len() > 1 && pairs.iter().all(|pair| steps(pair) == step) {
        return format!("{} rows are the row {step:+} away", pairs.len());
    }
    let shown = pairs.iter().take(4).map(|(row, from)| {
        let which = if *from == last { " (the last)" } else { "" };
        format!("row {row} is row {from}{which}")
    });
    let more = if pairs.len() > 4 { ", …" } else { "" };
    format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
}

/// Every row that differs is another row of the pass.
pub(super) fn wrong_row(evidence: &Evidence<'_>) -> Answer {
    if evidence.pass_positions.len() > evidence.rows() {
        return wrong_readout(evidence);
    }
    if evidence.rows() < 2 {
        return Err(No::Idle);
    }
    let equal = |row: usize, from: usize| {
        let pairs = evidence.actual_row(row).iter().zip(evidence.expected_row(from));
        pairs.into_iter().all(|(one, two)| same(*one, *two))
    };
    let mut pairs = Vec::new();
    for row in evidence.differing_rows() {
        let from = (0..evidence.rows()).find(|from| equal(row, *from)).ok_or(No::Refuted)?;
        pairs.push((row, from));
    }
    let (row, from) = pairs[0];
    let words = rows_in_words(&pairs, evidence.rows() - 1);
    let text = format!("{words}, exactly, {}; the other rows are equal", evidence.all());
    Ok(Explanation::new(Label::WrongRow, text)
        .with("row", row)
        .with("is_row", from)
        .with("rows", pairs.len()))
}

/// The readout of another position than the last: its norm, and its logits.
fn wrong_readout(evidence: &Evidence<'_>) -> Answer {
    let last = Named { tap: "ffn_residual", layer: evidence.config.layers.checked_sub(1) };
    let norm = evidence.vector("output_norm.weight")?;
    let (start, end) = (evidence.pass_positions.start, evidence.positions().start);
    for position in (start..end).rev().filter(|position| *position != end) {
        let stream = evidence.rows_of(&last, position..position + 1)?;
        let hidden = ops::rms_norm(level(), &stream, &norm, evidence.config.eps);
        let holds = match source(evidence)? {
            Source::Norm { .. } => evidence.equals(&hidden),
            Source::Product { weight, .. } => {
                super::product::equals(evidence, &evidence.weight(&weight)?, &hidden)
            }
            _ => return Err(No::Idle),
        };
        if holds {
            let row = position - start;
            let words = if row == 0 { ", the first" } else { "" };
            let text = format!(
                "got is the readout of row {row}{words}, not of row {}, {}",
                end - start,
                evidence.all()
            );
            return Ok(Explanation::new(Label::WrongRow, text)
                .with("is_row", row)
                .with("position", position));
        }
    }
    Err(No::Refuted)
}

/// Every element is the one some elements away, in the flat tensor or inside each row.
pub(super) fn shifted(evidence: &Evidence<'_>) -> Answer {
    let (width, total) = (evidence.width, evidence.actual.len());
    let first = evidence.differing().next().ok_or(No::Refuted)?;
    // A few values in the middle of a row that differs find the distance.
    let probe = (first / width * width + width / 2).min(total.saturating_sub(4));
    let window = &evidence.actual[probe..(probe + 4).min(total)];
    let found = evidence
        .expected
        .windows(window.len())
        .enumerate()
        .filter(|(_, values)| values.iter().zip(window).all(|(one, two)| same(*one, *two)));
    let steps: Vec<isize> = found
        .map(|(at, _)| at.cast_signed() - probe.cast_signed())
        .filter(|step| *step != 0)
        .collect();
    for step in steps.into_iter().take(32) {
        if let Some(found) = shifted_by(evidence, step) {
            return Ok(found);
        }
    }
    Err(No::Refuted)
}

/// What should stand at an index, where that is known.
type Value<'f> = &'f dyn Fn(usize) -> Option<f32>;

fn shifted_by(evidence: &Evidence<'_>, step: isize) -> Option<Explanation> {
    let (width, total) = (evidence.width, evidence.actual.len());
    // Whole rows and whole heads have names of their own.
    let is_heads =
        evidence.heads().is_some_and(|(_, size)| step.unsigned_abs().is_multiple_of(size));
    if step.unsigned_abs().is_multiple_of(width) {
        return None;
    }
    let explain = |what: &str, count: usize| {
        let text = format!(
            "got equals expected {step:+} elements away {what}, {count} of {count} elements"
        );
        Explanation::new(Label::Shifted, text).with("elements", step).with("edges", what)
    };
    let away = |index: usize, length: usize| {
        index.checked_add_signed(step).filter(|index| *index < length)
    };
    let around = |index: usize| {
        let column = (index % width).cast_signed() + step;
        let column = column.rem_euclid(width.cast_signed()).cast_unsigned();
        index / width * width + column
    };
    if !is_heads && moved(evidence, around) {
        return Some(explain("around each row", total));
    }
    let in_row = |index: usize| {
        let column = away(index % width, width)?;
        Some(evidence.expected[index / width * width + column])
    };
    let flat = |index: usize| Some(evidence.expected[away(index, total)?]);
    let sources: [(&str, Value<'_>); 2] =
        [("in the flat tensor", &flat), ("inside each row", &in_row)];
    for (what, value) in sources {
        let candidate: Vec<Option<f32>> = (0..total).map(value).collect();
        if let Some(open) = evidence.equals_inside(&candidate) {
            let mut found = explain(what, total - open);
            found.evidence.push_str(&format!("; {open} come from beyond the edge"));
            return Some(found.certain(Certainty::ExactInside));
        }
    }
    None
}

/// Heads in another order, the same in every row.
pub(super) fn head_order(evidence: &Evidence<'_>) -> Answer {
    let Some((heads, size)) = evidence.heads().filter(|(heads, _)| *heads > 1) else {
        return Err(No::Idle);
    };
    let part = |values: &[f32], row: usize, head: usize| -> Vec<u32> {
        let values = &values[row * evidence.width + head * size..][..size];
        values.iter().map(|value| value.to_bits()).collect()
    };
    let equal = |head: usize, from: usize| {
        (0..evidence.rows())
            .all(|row| part(&evidence.actual, row, head) == part(&evidence.expected, row, from))
    };
    let mut map = Vec::with_capacity(heads);
    for head in 0..heads {
        let order = std::iter::once(head).chain(0..heads);
        map.push(order.into_iter().find(|from| equal(head, *from)).ok_or(No::Refuted)?);
    }
    let text = format!("{}, {}", heads_in_words(&map), evidence.all());
    Ok(Explanation::new(Label::HeadMapping, text).with("heads", list(&map)))
}

/// "0, 1, 0, 1".
pub(super) fn list(map: &[usize]) -> String {
    map.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn heads_in_words(map: &[usize]) -> String {
    let shown: Vec<String> = map
        .iter()
        .enumerate()
        .filter(|(head, from)| head != *from)
        .take(4)
        .map(|(head, from)| format!("head {head} is head {from}"))
        .collect();
    shown.join(", ")
}
