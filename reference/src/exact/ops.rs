//! The operations of `exact` one by one, on plain slices, for tests of operations.
//!
//! Each is the code that the forward pass runs. Rows lie side by side; a function that takes a
//! [`Level`] gives the same bits on every level.

use rayon::prelude::*;

use super::attention::{Attend, Cache, Shape};
use super::embed::Table;
use super::matrix::{self, Matrix};
use super::quantise::FixedPoint;
use super::rms_norm::RmsNorm;
use super::rope::{Rotate, Rotations};
use super::simd::Level;
use super::swiglu::Swiglu;
use super::{exponential, hash};
use crate::{Activations, KvType, WeightType, rotary};

/// Activations in fixed point (section 5).
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    /// `s` of every block.
    pub scales: Vec<f32>,
    /// The digits of every value, least significant first: `digits[j][i]`.
    pub digits: Vec<Vec<i8>>,
    /// `u` of every 32 values.
    pub u_32: Vec<f32>,
    /// `u` of every 16 values.
    pub u_16: Vec<f32>,
}

impl Quantised {
    /// `q` of every value.
    #[must_use]
    pub fn q(&self) -> Vec<i32> {
        let count = self.digits.first().map_or(0, Vec::len);
        let value = |index: usize| {
            let digits = self.digits.iter().rev();
            digits.fold(0, |value, digits| value * 256 + i32::from(digits[index]))
        };
        (0..count).map(value).collect()
    }
}

/// Section 5, for blocks of `block` values: 32 or 256.
#[must_use]
pub fn quantise_activations(
    level: Level,
    activations: Activations,
    x: &[f32],
    block: usize,
) -> Quantised {
    match activations {
        Activations::I24 => quantised::<3>(level, x, block),
        Activations::I16 => quantised::<2>(level, x, block),
        Activations::I8 => quantised::<1>(level, x, block),
    }
}

fn quantised<const D: usize>(level: Level, x: &[f32], block: usize) -> Quantised {
    let fixed = FixedPoint::<D>::new(level, x, x.len(), block);
    let digits = (0..D).map(|digit| {
        let words = fixed.words.iter().flat_map(|words| words[digit]);
        words.flat_map(i32::to_le_bytes).map(u8::cast_signed).collect()
    });
    let digits = digits.collect();
    Quantised { scales: fixed.scales, digits, u_32: fixed.u32, u_16: fixed.u16 }
}

/// A matrix in the bytes of a GGUF tensor.
#[derive(Clone, Copy, Debug)]
pub struct MatrixBytes<'a> {
    /// The type of its values.
    pub kind: WeightType,
    /// Its rows, one after the other.
    pub bytes: &'a [u8],
    /// How many rows.
    pub rows: usize,
    /// How many values a row has, `K`.
    pub columns: usize,
}

/// Sections 6 and 7: `rows` values for every `columns` values of `x`.
#[must_use]
pub fn product(
    level: Level,
    activations: Activations,
    matrix: MatrixBytes<'_>,
    x: &[f32],
) -> Vec<f32> {
    let MatrixBytes { kind, bytes, rows, columns } = matrix;
    let matrix = Matrix::new(kind, bytes, rows, columns);
    matrix::products(level, activations, x, &[&matrix])
}

/// Section 3: the rows `tokens` of an embedding.
#[must_use]
pub fn embed(matrix: MatrixBytes<'_>, tokens: &[u32]) -> Vec<f32> {
    let MatrixBytes { kind, bytes, columns, .. } = matrix;
    let table = Table { kind, columns, bytes: bytes.to_vec() };
    let mut out = Vec::with_capacity(tokens.len() * columns);
    for token in tokens {
        table.embed(*token as usize, &mut out);
    }
    out
}

/// Section 4: the norm of every row; `weight` is as long as a row.
#[must_use]
pub fn rms_norm(level: Level, x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        level.run(RmsNorm { x, weight, eps, out });
    }
    out
}

/// The rotary embedding of a model.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// The width of a head.
    pub head_size: usize,
    /// How many values of a head are rotated.
    pub dimensions: usize,
    /// The base of the frequencies.
    pub base: f32,
    /// `rope_freqs.weight` of the file.
    pub factors: Option<&'a [f32]>,
}

impl Rope<'_> {
    /// The frequencies in f64; `wide` uses the same.
    #[must_use]
    pub fn frequencies(&self) -> Vec<f64> {
        rotary::frequencies_of(self.base, self.dimensions, self.factors)
    }
}

/// Section 8: rows of `width` values at consecutive positions.
#[must_use]
pub fn rope(
    level: Level,
    rope: Rope<'_>,
    x: &[f32],
    width: usize,
    first_position: usize,
) -> Vec<f32> {
    let rows = x.len() / width;
    let rotations = Rotations::new(&rope.frequencies(), first_position, rows);
    let mut out = x.to_vec();
    for (index, row) in out.chunks_exact_mut(width).enumerate() {
        let rotations = rotations.position(first_position + index);
        level.run(Rotate { row, head_size: rope.head_size, rotations });
    }
    out
}

/// Queries, keys and values of consecutive positions.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// How many query heads.
    pub heads: usize,
    /// How many key and value heads.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_size: usize,
    /// How keys and values are kept.
    pub kv: KvType,
    /// Rows of `heads * head_size` values, the last positions.
    pub queries: &'a [f32],
    /// Rows of `kv_heads * head_size` values, from position 0.
    pub keys: &'a [f32],
    /// As the keys.
    pub values: &'a [f32],
}

/// Sections 9 and 10: a row of `heads * head_size` values for every query row.
#[must_use]
pub fn attention(level: Level, attention: Attention<'_>) -> Vec<f32> {
    let Attention { heads, kv_heads, head_size, kv, queries, keys, values } = attention;
    let mut cache = Cache::new(Shape { kv_heads, head_size, kv });
    let width = kv_heads * head_size;
    let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
    for (position, (keys, values)) in rows.enumerate() {
        cache.append(position, keys, values);
    }
    let first_position = keys.len() / width - queries.len() / (heads * head_size);
    let mut out = vec![0.0; queries.len()];
    out.par_chunks_mut(head_size).enumerate().for_each(|(index, out)| {
        level.run(Attend {
            cache: &cache,
            kv_head: index % heads / (heads / kv_heads),
            position: first_position + index / heads,
            query: &queries[index * head_size..][..head_size],
            out,
        });
    });
    out
}

/// Section 11.
#[must_use]
pub fn swiglu(level: Level, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; gate.len()];
    level.run(Swiglu { gate, up, out: &mut out });
    out
}

/// Section 11: the residual.
#[must_use]
pub fn add(stream: &[f32], branch: &[f32]) -> Vec<f32> {
    stream.iter().zip(branch).map(|(stream, branch)| stream + branch).collect()
}

/// Section 2.
#[must_use]
pub fn exp32(level: Level, x: &[f32]) -> Vec<f32> {
    exponential::exp32(level, x)
}

/// Section 13.
#[must_use]
pub fn row_hash(row: &[f32]) -> u64 {
    hash::row_hash(row)
}
