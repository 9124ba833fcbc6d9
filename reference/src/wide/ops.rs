//! The operations of `wide` one by one, on plain slices: f64 everywhere, sums in any order.

use half::{bf16, f16};

use crate::WeightType;
use crate::blocks::{Block, group_values, offset};

/// The values of a row of blocks, exact but for the rounding of f64.
pub fn dequantise(kind: WeightType, row: &[u8], out: &mut [f64]) {
    let values = kind.block_values();
    assert_eq!(row.len() / kind.block_bytes(), out.len() / values);
    let mut block = Block::EMPTY;
    for (bytes, out) in row.chunks_exact(kind.block_bytes()).zip(out.chunks_exact_mut(values)) {
        match (kind, bytes) {
            (WeightType::F32, &[a, b, c, d]) => out[0] = f32::from_le_bytes([a, b, c, d]).into(),
            (WeightType::F16, &[a, b]) => out[0] = f16::from_le_bytes([a, b]).to_f64(),
            (WeightType::Bf16, &[a, b]) => out[0] = bf16::from_le_bytes([a, b]).to_f64(),
            _ => {
                block.read(kind, bytes);
                widen(kind, &block, out);
            }
        }
    }
}

/// `d * sc * w - dmin * mn`, or `d * w + m`, group by group.
fn widen(kind: WeightType, block: &Block, out: &mut [f64]) {
    let (d, m, offset) = (f64::from(block.d()), f64::from(block.m()), f64::from(offset(kind)));
    let grouped = kind.block_values() == 256;
    let size = group_values(kind);
    for (group, (out, q)) in out.chunks_mut(size).zip(block.q.chunks(size)).enumerate() {
        let (scale, shift) = if grouped {
            (d * f64::from(block.scales[group]), -m * f64::from(block.mins[group]))
        } else {
            (d, m)
        };
        for (out, q) in out.iter_mut().zip(q) {
            *out = scale * (f64::from(*q) - offset) + shift;
        }
    }
}

/// Rows of the embedding.
#[must_use]
pub fn embed(kind: WeightType, table: &[u8], columns: usize, tokens: &[u32]) -> Vec<f64> {
    let row_bytes = columns / kind.block_values() * kind.block_bytes();
    let mut out = vec![0.0; tokens.len() * columns];
    for (out, token) in out.chunks_exact_mut(columns).zip(tokens) {
        dequantise(kind, &table[*token as usize * row_bytes..][..row_bytes], out);
    }
    out
}

/// `matrix · x` for rows of `x` side by side; the result has `rows` values for each.
#[must_use]
pub fn product(kind: WeightType, matrix: &[u8], rows: usize, x: &[f64]) -> Vec<f64> {
    super::product(kind, matrix, rows, x)
}

/// The norm of every row; `weight` is as long as a row.
#[must_use]
pub fn rms_norm(x: &[f64], weight: &[f64], eps: f32) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let squares: f64 = row.iter().map(|x| x * x).sum();
        let r = 1.0 / (squares / row.len() as f64 + f64::from(eps)).sqrt();
        out.extend(row.iter().zip(weight).map(|(x, weight)| x * r * weight));
    }
    out
}

/// The rotary embedding of a row of heads at `position`, by frequencies.
#[must_use]
pub fn rope(x: &[f64], head_size: usize, frequencies: &[f64], position: usize) -> Vec<f64> {
    let mut out = x.to_vec();
    for head in out.chunks_exact_mut(head_size) {
        for (pair, frequency) in head.as_chunks_mut().0.iter_mut().zip(frequencies) {
            let angle = position as f64 * frequency;
            let (cosine, sine) = (libm::cos(angle), libm::sin(angle));
            let [x0, x1]: [f64; 2] = *pair;
            *pair = [x0 * cosine - x1 * sine, x0 * sine + x1 * cosine];
        }
    }
    out
}

/// One query head over as many keys and values as there are.
#[must_use]
pub fn attention(query: &[f64], keys: &[f64], values: &[f64]) -> Vec<f64> {
    let head_size = query.len();
    let scale = 1.0 / (head_size as f64).sqrt();
    let scores = keys
        .chunks_exact(head_size)
        .map(|key| query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * scale);
    let scores: Vec<f64> = scores.collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut out = vec![0.0; head_size];
    let mut sum = 0.0;
    for (score, value) in scores.iter().zip(values.chunks_exact(head_size)) {
        let weight = (score - largest).exp();
        sum += weight;
        for (out, value) in out.iter_mut().zip(value) {
            *out += weight * value;
        }
    }
    out.iter_mut().for_each(|out| *out /= sum);
    out
}

/// The gate of the feed-forward part.
#[must_use]
pub fn swiglu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
}

/// The residual.
#[must_use]
pub fn add(stream: &[f64], branch: &[f64]) -> Vec<f64> {
    stream.iter().zip(branch).map(|(stream, branch)| stream + branch).collect()
}
