//! One flipped bit of a weight: every bit of the row behind the output that differs is tried.

use reference::exact::ops::{self, MatrixBytes};

use super::operation::{Source, level, source, tokens};
use super::product::operands;
use super::{Answer, Evidence, Explanation, Label, No, Weight, same};

/// How many rows of flipped weights are made at once.
const BATCH: usize = 2048;
/// A coincidence that happens less than once in so many is none.
const CHANCE_MIN: f64 = 1000.0;

/// A flip that gives what the engine has, and how likely another would have as well.
struct Found {
    bit: usize,
    /// The probability that some flip gives these values by chance.
    chance: f64,
    count: usize,
}

/// Whether the device was asked for the weight and has the file's bytes.
fn holds_the_files(evidence: &Evidence<'_>) -> Result<bool, No> {
    let name = match source(evidence)? {
        Source::Embed => "token_embd.weight".to_owned(),
        Source::Norm { weight, .. } | Source::Product { weight, .. } => weight,
        _ => return Err(No::Idle),
    };
    let held = evidence.library.device_weight(&name);
    Ok(held.is_some_and(|held| evidence.weight(&name).is_ok_and(|file| held == file)))
}

/// One bit of a weight.
pub(super) fn weight_bit(evidence: &Evidence<'_>) -> Answer {
    if holds_the_files(evidence)? {
        return Err(No::Refuted);
    }
    let (name, row, found) = match source(evidence)? {
        Source::Product { input, weight: name } => {
            let (x, weight) = operands(evidence, &input, &name)?;
            let output = only_column(evidence)?;
            let outputs = |bytes: &[u8], row: usize| {
                let x = &x[row * weight.columns..][..weight.columns];
                let rows = bytes.len() / weight.row_bytes();
                let matrix = MatrixBytes { bytes, rows, ..weight.matrix() };
                ops::product(level(), evidence.activations, matrix, x)
            };
            let found = search(evidence, weight.row(output), output, &outputs)?;
            (name, output, found)
        }
        Source::Norm { stream, weight: name } => {
            let (x, weight) = (evidence.input_like(&stream)?, evidence.weight(&name)?);
            let column = only_column(evidence)?;
            let (width, size) = (evidence.width, weight.kind.block_bytes());
            if weight.kind.block_values() != 1 || weight.columns != width {
                return Err(No::Idle);
            }
            let outputs = |bytes: &[u8], row: usize| {
                let mut weights = ops::embed(weight.matrix(), &[0]);
                let each = bytes.chunks_exact(size).map(|value| {
                    let one = MatrixBytes { bytes: value, rows: 1, columns: 1, ..weight.matrix() };
                    weights[column] = ops::embed(one, &[0])[0];
                    let x = &x[row * width..][..width];
                    ops::rms_norm(level(), x, &weights, evidence.config.eps)[column]
                });
                each.collect()
            };
            let value = &weight.bytes[column * size..][..size];
            let mut found = search(evidence, value, column, &outputs)?;
            found.bit += column * size * 8;
            (name, 0, found)
        }
        Source::Embed => return embedding_bit(evidence),
        _ => return Err(No::Idle),
    };
    if found.chance * CHANCE_MIN > 1.0 {
        return Err(No::Refuted);
    }
    explain(evidence, &name, row, &found)
}

fn explain(evidence: &Evidence<'_>, name: &str, row: usize, found: &Found) -> Answer {
    let mut text = format!(
        "with bit {} of byte {} of row {row} of `{name}` flipped the reference gives {}",
        found.bit % 8,
        found.bit / 8,
        evidence.all()
    );
    if found.count > 1 {
        text.push_str(&format!("; so do {} other bits of the row", found.count - 1));
    }
    Ok(Explanation::new(Label::MemoryCorruption, text)
        .with("tensor", name)
        .with("weight_row", row)
        .with("byte", found.bit / 8)
        .with("bit", found.bit % 8))
}

/// The column in which all differences are.
fn only_column(evidence: &Evidence<'_>) -> Result<usize, No> {
    let mut columns = evidence.differing().map(|index| index % evidence.width);
    let first = columns.next().ok_or(No::Refuted)?;
    if columns.all(|column| column == first) { Ok(first) } else { Err(No::Refuted) }
}

/// Tries every bit of `bytes` on the rows that differ; then on all rows.
fn search(
    evidence: &Evidence<'_>,
    bytes: &[u8],
    column: usize,
    outputs: &dyn Fn(&[u8], usize) -> Vec<f32>,
) -> Result<Found, No> {
    let got = |row: usize| evidence.actual_row(row)[column];
    let rows = evidence.differing_rows();
    let first = *rows.first().ok_or(No::Refuted)?;
    if !got(first).is_finite() {
        return Err(No::Refuted);
    }
    let bits: Vec<usize> = (0..bytes.len() * 8).collect();
    let (mut holding, mut near) = (Vec::new(), 0_u64);
    let window = Window::of(evidence.expected_row(first)[column], got(first));
    for batch in bits.chunks(BATCH) {
        let flipped: Vec<u8> = batch.iter().flat_map(|bit| flip(bytes, *bit)).collect();
        for (bit, value) in batch.iter().zip(outputs(&flipped, first)) {
            near += u64::from(window.holds(value));
            if same(value, got(first)) {
                holding.push(*bit);
            }
        }
    }
    let holds = |bit: &usize| {
        let flipped = flip(bytes, *bit);
        (0..evidence.rows()).all(|row| same(outputs(&flipped, row)[0], got(row)))
    };
    holding.retain(holds);
    let bit = *holding.first().ok_or(No::Refuted)?;
    let share = near as f64 / window.values();
    let count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
    Ok(Found { bit, chance: share.min(1.0).powi(count), count: holding.len() })
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// The values that are as near to what is expected as what the engine has, and twice as far.
struct Window {
    lowest: f64,
    highest: f64,
    ulp: f64,
}

impl Window {
    fn of(expected: f32, actual: f32) -> Self {
        let (expected, distance) =
            (f64::from(expected), 2.0 * (f64::from(actual) - f64::from(expected)).abs());
        let magnitude = (expected.abs() + distance) as f32;
        let ulp = f64::from(magnitude.next_up()) - f64::from(magnitude);
        Self { lowest: expected - distance, highest: expected + distance, ulp }
    }

    fn holds(&self, value: f32) -> bool {
        (self.lowest..=self.highest).contains(&f64::from(value))
    }

    /// How many different values there are at least.
    fn values(&self) -> f64 {
        ((self.highest - self.lowest) / self.ulp).max(1.0)
    }
}

/// One bit of the embedding, in the row of a token.
fn embedding_bit(evidence: &Evidence<'_>) -> Answer {
    let name = "token_embd.weight";
    let (weight, tokens) = (evidence.weight(name)?, tokens(evidence)?);
    let rows = evidence.differing_rows();
    let token = tokens[*rows.first().ok_or(No::Refuted)?];
    let of_token: Vec<usize> = (0..tokens.len()).filter(|row| tokens[*row] == token).collect();
    if rows != of_token {
        return Err(No::Refuted);
    }
    let (row, columns) = (rows[0], weight.columns);
    let got = evidence.actual_row(row);
    let equal = |one: &[f32], two: &[f32]| one.iter().zip(two).all(|(one, two)| same(*one, *two));
    if rows.iter().any(|other| !equal(evidence.actual_row(*other), got)) {
        return Err(No::Refuted);
    }
    // The block of the first difference holds the bit; in the others nothing may differ.
    let (values, size) = (weight.kind.block_values(), weight.kind.block_bytes());
    let column = evidence.differing().next().ok_or(No::Refuted)? % columns;
    let start = column / values * values;
    let elsewhere = |index: &usize| !(start..start + values).contains(&(index % columns));
    if evidence.differing().any(|index| elsewhere(&index)) {
        return Err(No::Refuted);
    }
    let block = &weight.row(token as usize)[start / values * size..][..size];
    let one = Weight { rows: 1, columns: values, bytes: block.into(), ..weight };
    let holds = |bit: &usize| {
        let bytes = flip(block, *bit);
        let values = ops::embed(MatrixBytes { bytes: &bytes, ..one.matrix() }, &[0]);
        equal(&values, &got[start..start + values.len()])
    };
    let mut holding: Vec<usize> = (0..size * 8).filter(holds).collect();
    let differing = evidence.differing().take(2).count();
    let window = Window::of(evidence.expected_row(row)[column], got[column]);
    let chance = if differing > 1 { 0.0 } else { (size * 8) as f64 / window.values() };
    let count = holding.len();
    let first = if count > 0 { holding.remove(0) } else { return Err(No::Refuted) };
    if !evidence.differing().any(|index| evidence.actual[index].is_finite())
        || chance * CHANCE_MIN > 1.0
    {
        return Err(No::Refuted);
    }
    let bit = first + start / values * size * 8;
    explain(evidence, name, token as usize, &Found { bit, chance, count })
}
