//! Section 6: one panel of a quantised matrix times a few rows of activations.

use super::panels::Format;
use super::quantise::FixedPointRow;
use super::simd::{Kernel, LANES, Lanes, Line};

/// Sixteen rows of weights times `T` rows of activations with `D` digits.
pub(super) struct PanelProduct<'a, F, const T: usize, const D: usize> {
    pub(super) lines: &'a [Line],
    pub(super) rows: [FixedPointRow<'a, D>; T],
    pub(super) format: std::marker::PhantomData<F>,
}

impl<F: Format, const T: usize, const D: usize> Kernel for PanelProduct<'_, F, T, D> {
    type Output = [[f32; LANES]; T];

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> [[f32; LANES]; T] {
        let zero = lanes.splat(0.0);
        let mut y = [zero; T];
        let mut block = 0;
        for chunk in self.lines.chunks(F::CHUNK * F::LINES) {
            let mut sums = [zero; T];
            for lines in chunk.chunks_exact(F::LINES) {
                add_block::<F, L, T, D>(lanes, lines, &self.rows, block, &mut sums);
                block += 1;
            }
            for token in 0..T {
                y[token] = lanes.add(y[token], sums[token]);
            }
        }
        y.map(|y| lanes.store(y))
    }
}

/// Adds one block to the sums of its chunk.
#[inline(always)]
fn add_block<F: Format, L: Lanes, const T: usize, const D: usize>(
    lanes: L,
    lines: &[Line],
    rows: &[FixedPointRow<'_, D>; T],
    block: usize,
    sums: &mut [L::F32; T],
) {
    let dots = block_dots::<F, L, T, D>(lanes, lines, rows, block);
    let [d, m] = halves(&lines[0]).map(|bits| lanes.load_f16(bits));
    for token in 0..T {
        let scale = lanes.mul(d, lanes.splat(rows[token].scales[block]));
        let meeting = meet(lanes, dots[token]);
        sums[token] = lanes.fma(scale, meeting, sums[token]);
    }
    if !F::MINIMA {
        return;
    }
    if !F::GROUPED {
        for token in 0..T {
            sums[token] = lanes.fma(m, lanes.splat(rows[token].u32[block]), sums[token]);
        }
        return;
    }
    let mut minima = [lanes.splat(0.0); T];
    for group in 0..F::GROUPS {
        let mn = lanes.load_u8(sixteen(&lines[F::MINIMA_AT + group / 4], group % 4));
        let mn = lanes.to_f32(mn);
        for token in 0..T {
            let u = if F::GROUP == 32 { rows[token].u32 } else { rows[token].u16 };
            let u = lanes.splat(u[block * F::GROUPS + group]);
            minima[token] = lanes.fma(mn, u, minima[token]);
        }
    }
    for token in 0..T {
        sums[token] = lanes.fma(m, minima[token], sums[token]);
    }
}

/// The exact integers `D_j` of a block.
#[inline(always)]
fn block_dots<F: Format, L: Lanes, const T: usize, const D: usize>(
    lanes: L,
    lines: &[Line],
    rows: &[FixedPointRow<'_, D>; T],
    block: usize,
) -> [[L::I32; D]; T] {
    if !F::GROUPED {
        return group_dots::<F, L, T, D>(lanes, &lines[F::WEIGHTS_AT..], rows, block);
    }
    let mut dots = [[lanes.splat_i32(0); D]; T];
    let lines_per_group = F::GROUP / if F::NIBBLES { 8 } else { 4 };
    let weights = lines[F::WEIGHTS_AT..].chunks_exact(lines_per_group);
    for (group, weights) in weights.enumerate() {
        let scale = lanes.load_i8(sixteen(&lines[1 + group / 4], group % 4));
        let index = block * F::GROUPS + group;
        let parts = group_dots::<F, L, T, D>(lanes, weights, rows, index);
        for token in 0..T {
            for digit in 0..D {
                let scaled = lanes.mul_i32(parts[token][digit], scale);
                dots[token][digit] = lanes.add_i32(dots[token][digit], scaled);
            }
        }
    }
    dots
}

/// The integer sums over the group with this index in its row.
#[inline(always)]
fn group_dots<F: Format, L: Lanes, const T: usize, const D: usize>(
    lanes: L,
    lines: &[Line],
    rows: &[FixedPointRow<'_, D>; T],
    group: usize,
) -> [[L::I32; D]; T] {
    let mut dots = [[lanes.splat_i32(0); D]; T];
    for token in 0..T {
        for digit in 0..D {
            dots[token][digit] = lanes.splat_i32(correction::<F, D>(&rows[token], group, digit));
        }
    }
    let (thirty_two, first) = (group * F::GROUP / 32, group * F::GROUP % 32 / 4);
    let words: [_; T] = std::array::from_fn(|token| &rows[token].words[thirty_two]);
    let mut step = |weights: L::Weights, index: usize| {
        for token in 0..T {
            for digit in 0..D {
                let (dot, word) = (&mut dots[token][digit], words[token][digit][index]);
                *dot = if F::WIDE {
                    lanes.dot_wide(*dot, weights, word)
                } else {
                    lanes.dot_narrow(*dot, weights, word)
                };
            }
        }
    };
    if F::NIBBLES {
        for index in 0..F::GROUP / 8 {
            let [low, high] = lanes.nibbles(&lines[index]);
            step(low, first + 2 * index);
            step(high, first + 2 * index + 1);
        }
    } else {
        for index in 0..F::GROUP / 4 {
            step(lanes.weights(&lines[index]), first + index);
        }
    }
    dots
}

/// What the unsigned weights of a group add too much to its sum, negated.
#[inline(always)]
fn correction<F: Format, const D: usize>(
    row: &FixedPointRow<'_, D>,
    group: usize,
    digit: usize,
) -> i32 {
    if F::OFFSET == 0 {
        return 0;
    }
    let sum = if F::GROUP == 32 {
        row.sums[2 * group][digit] + row.sums[2 * group + 1][digit]
    } else {
        row.sums[group][digit]
    };
    -F::OFFSET * sum
}

/// `T` of section 6: the digits' sums meet in f32.
#[inline(always)]
fn meet<L: Lanes, const D: usize>(lanes: L, dots: [L::I32; D]) -> L::F32 {
    let mut meeting = lanes.to_f32(dots[0]);
    let mut weight = 256.0;
    for dot in &dots[1..] {
        meeting = lanes.fma(lanes.to_f32(*dot), lanes.splat(weight), meeting);
        weight *= 256.0;
    }
    meeting
}

/// The two halves of a line.
#[inline(always)]
fn halves(line: &Line) -> [&[u8; 32]; 2] {
    let (halves, _) = line.0.as_chunks();
    [&halves[0], &halves[1]]
}

/// One quarter of a line.
#[inline(always)]
fn sixteen(line: &Line, quarter: usize) -> &[u8; LANES] {
    &line.0.as_chunks().0[quarter]
}
