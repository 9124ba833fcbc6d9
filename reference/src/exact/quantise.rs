//! Section 5: activations as a scale times signed base-256 digits.

use rayon::prelude::*;

use super::simd::{Kernel, LANES, Lanes, Level};

/// A block whose largest magnitude is below it becomes zeros: 2^-100.
const MAGNITUDE_MIN: f32 = f32::from_bits(27 << 23);
/// The bits of infinity: a magnitude from here on is not finite.
const INFINITY_BITS: i32 = 0x7f80_0000;

/// M of a number of digits.
pub(super) const fn magnitude_max<const D: usize>() -> i32 {
    match D {
        1 => 127,
        2 => 127 * 256 + 127,
        _ => 127 * 65536 + 127 * 256 + 127,
    }
}

/// 32 values: the words of four digits, for each digit.
pub(super) type Words<const D: usize> = [[i32; 8]; D];

/// Rows of activations in fixed point.
pub(super) struct FixedPoint<const D: usize> {
    /// How many values a row has.
    pub(super) columns: usize,
    /// How many values share a scale.
    pub(super) block: usize,
    /// For every 32 values.
    pub(super) words: Vec<Words<D>>,
    /// The sum of each digit over every 16 values.
    pub(super) sums: Vec<[i32; D]>,
    /// `s` of every block.
    pub(super) scales: Vec<f32>,
    /// `u` of every 32 values.
    pub(super) u32: Vec<f32>,
    /// `u` of every 16 values.
    pub(super) u16: Vec<f32>,
}

/// The same for one row.
#[derive(Clone, Copy)]
pub(super) struct FixedPointRow<'a, const D: usize> {
    pub(super) words: &'a [Words<D>],
    pub(super) sums: &'a [[i32; D]],
    pub(super) scales: &'a [f32],
    pub(super) u32: &'a [f32],
    pub(super) u16: &'a [f32],
}

impl<const D: usize> FixedPoint<D> {
    /// Converts rows of `columns` values; blocks of 32 or 256.
    pub(super) fn new(level: Level, x: &[f32], columns: usize, block: usize) -> Self {
        assert!(columns.is_multiple_of(block));
        let count = x.len();
        let mut fixed = Self {
            columns,
            block,
            words: vec![[[0; 8]; D]; count / 32],
            sums: vec![[0; D]; count / 16],
            scales: vec![0.0; count / block],
            u32: vec![0.0; count / 32],
            u16: vec![0.0; count / 16],
        };
        let rows = x
            .par_chunks(columns)
            .zip(fixed.words.par_chunks_mut(columns / 32))
            .zip(fixed.sums.par_chunks_mut(columns / 16))
            .zip(fixed.scales.par_chunks_mut(columns / block))
            .zip(fixed.u32.par_chunks_mut(columns / 32))
            .zip(fixed.u16.par_chunks_mut(columns / 16));
        rows.for_each(|(((((x, words), sums), scales), u32), u16)| {
            level.run(Convert { x, block, words, sums, scales, u32, u16 });
        });
        fixed
    }

    pub(super) fn row(&self, index: usize) -> FixedPointRow<'_, D> {
        let part = |values: usize| {
            let length = self.columns / values;
            index * length..(index + 1) * length
        };
        FixedPointRow {
            words: &self.words[part(32)],
            sums: &self.sums[part(16)],
            scales: &self.scales[part(self.block)],
            u32: &self.u32[part(32)],
            u16: &self.u16[part(16)],
        }
    }
}

/// Converts one row.
struct Convert<'a, const D: usize> {
    x: &'a [f32],
    block: usize,
    words: &'a mut [Words<D>],
    sums: &'a mut [[i32; D]],
    scales: &'a mut [f32],
    u32: &'a mut [f32],
    u16: &'a mut [f32],
}

impl<const D: usize> Kernel for Convert<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (sixteens, _) = self.x.as_chunks::<LANES>();
        let per_block = self.block / LANES;
        for (block, values) in sixteens.chunks_exact(per_block).enumerate() {
            let (scale, inverse) = scale_and_inverse::<D, L>(lanes, values);
            self.scales[block] = scale;
            for (index, values) in values.iter().enumerate() {
                let sixteen = block * per_block + index;
                let digits = digits::<D, L>(lanes, values, inverse);
                let words = &mut self.words[sixteen / 2];
                for digit in 0..D {
                    let half = &mut words[digit][sixteen % 2 * 4..][..4];
                    self.sums[sixteen][digit] = pack(lanes, digits[digit], half);
                }
            }
        }
        for (u, [low, high]) in self.u32.iter_mut().zip(self.sums.as_chunks().0) {
            *u = (value(low) + value(high)) as f32;
        }
        for (u, sums) in self.u16.iter_mut().zip(self.sums.iter()) {
            *u = value(sums) as f32;
        }
        for (scale, u) in self.scales.iter().zip(self.u32.chunks_mut(self.block / 32)) {
            u.iter_mut().for_each(|u| *u *= scale);
        }
        for (scale, u) in self.scales.iter().zip(self.u16.chunks_mut(self.block / 16)) {
            u.iter_mut().for_each(|u| *u *= scale);
        }
    }
}

/// `s` and `v` of a block; `v` is zero where every q is.
#[inline(always)]
fn scale_and_inverse<const D: usize, L: Lanes>(lanes: L, values: &[[f32; LANES]]) -> (f32, f32) {
    let mut largest = lanes.splat_i32(0);
    for values in values {
        largest = lanes.max_i32(largest, lanes.magnitude_bits(lanes.load(values)));
    }
    // Magnitudes are ordered as their bits are, and NaN and infinity come last.
    let largest = lanes.store_i32(largest).into_iter().fold(0, i32::max);
    if largest >= INFINITY_BITS {
        return (f32::NAN, 0.0);
    }
    let largest = f32::from_bits(largest.cast_unsigned());
    if largest < MAGNITUDE_MIN {
        return (0.0, 0.0);
    }
    let magnitude_max = magnitude_max::<D>() as f32;
    (largest / magnitude_max, magnitude_max / largest)
}

/// The digits of sixteen values, least significant first.
#[inline(always)]
fn digits<const D: usize, L: Lanes>(lanes: L, values: &[f32; LANES], inverse: f32) -> [L::I32; D] {
    let mut digits = [lanes.splat_i32(0); D];
    if inverse == 0.0 {
        return digits;
    }
    let limit = lanes.splat(magnitude_max::<D>() as f32);
    let minus_limit = lanes.splat(-magnitude_max::<D>() as f32);
    let q = lanes.rint(lanes.mul(lanes.load(values), lanes.splat(inverse)));
    let q = lanes.select_greater(q, limit, limit, q);
    let q = lanes.select_greater(minus_limit, q, minus_limit, q);
    let mut rest = lanes.to_i32(q);
    for (index, digit) in digits.iter_mut().enumerate() {
        *digit = lanes.shift_right(lanes.shift_left(rest, 24), 24);
        if index + 1 < D {
            rest = lanes.shift_right(lanes.sub_i32(rest, *digit), 8);
        }
    }
    digits
}

/// Stores sixteen digits as four words and gives their sum.
#[inline(always)]
fn pack<L: Lanes>(lanes: L, digits: L::I32, words: &mut [i32]) -> i32 {
    let bytes = lanes.store_low_bytes(digits);
    let mut sum = 0;
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = i32::from_le_bytes(*bytes);
    }
    for byte in bytes {
        sum += i32::from(byte.cast_signed());
    }
    sum
}

/// The sum of q behind the sums of its digits.
#[inline(always)]
fn value<const D: usize>(sums: &[i32; D]) -> i32 {
    sums.iter().rev().fold(0, |value, sum| value * 256 + sum)
}
