//! Section 7: one panel of a float matrix times a few rows of activations.

use super::simd::{Kernel, LANES, Lanes, Line};
use crate::WeightType;

/// Values in a chunk.
const CHUNK: usize = 64;
/// Chunks that a single row computes side by side, so that one `fma` need not wait for the last.
const ABREAST: usize = 4;

/// Sixteen rows of weights times `T` rows of activations.
pub(super) struct FloatPanelProduct<'a, const T: usize> {
    pub(super) kind: WeightType,
    pub(super) lines: &'a [Line],
    pub(super) rows: [&'a [f32]; T],
}

impl<const T: usize> Kernel for FloatPanelProduct<'_, T> {
    type Output = [[f32; LANES]; T];

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> [[f32; LANES]; T] {
        match self.kind {
            WeightType::F32 => {
                run::<L, T>(lanes, &self.rows, |column| load_f32(lanes, &self.lines[column].0))
            }
            WeightType::F16 => {
                run::<L, T>(lanes, &self.rows, |column| lanes.load_f16(half(self.lines, column)))
            }
            _ => run::<L, T>(lanes, &self.rows, |column| lanes.load_bf16(half(self.lines, column))),
        }
    }
}

#[inline(always)]
fn run<L: Lanes, const T: usize>(
    lanes: L,
    rows: &[&[f32]; T],
    weights: impl Fn(usize) -> L::F32,
) -> [[f32; LANES]; T] {
    let columns = rows[0].len();
    let mut y = [lanes.splat(0.0); T];
    let mut column = 0;
    while T == 1 && column + ABREAST * CHUNK <= columns {
        let mut sums = [lanes.splat(0.0); ABREAST];
        for index in 0..CHUNK {
            for (chunk, sum) in sums.iter_mut().enumerate() {
                let at = column + chunk * CHUNK + index;
                *sum = lanes.fma(weights(at), lanes.splat(rows[0][at]), *sum);
            }
        }
        for sum in sums {
            y[0] = lanes.add(y[0], sum);
        }
        column += ABREAST * CHUNK;
    }
    while column < columns {
        let end = columns.min(column + CHUNK);
        let mut sums = [lanes.splat(0.0); T];
        for at in column..end {
            let weights = weights(at);
            for token in 0..T {
                sums[token] = lanes.fma(weights, lanes.splat(rows[token][at]), sums[token]);
            }
        }
        for token in 0..T {
            y[token] = lanes.add(y[token], sums[token]);
        }
        column = end;
    }
    y.map(|y| lanes.store(y))
}

/// The sixteen 16-bit weights of a column.
#[inline(always)]
fn half(lines: &[Line], column: usize) -> &[u8; 32] {
    &lines[column / 2].0.as_chunks().0[column % 2]
}

/// The sixteen 32-bit weights of a column.
#[inline(always)]
fn load_f32<L: Lanes>(lanes: L, bytes: &[u8; 64]) -> L::F32 {
    let words: &[[u8; 4]; LANES] = bytes.as_chunks().0.try_into().expect("sixteen words");
    lanes.load(&words.map(f32::from_le_bytes))
}
