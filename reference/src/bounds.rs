//! How far an operation of `exact` may be from the same operation in f64: derived, never guessed.
//!
//! Each function gives, for the very inputs of an operation, the largest error that the roundings
//! of CONTRACT.md can add up to; section 15 has the derivations. Notation as there: `U` is half a
//! unit in the last place relative to 1, `gamma(n) = n U / (1 - n U)` bounds n roundings in a row
//! (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), `TINY` is half of the
//! smallest denormal, the most that one rounding loses where results underflow.

use crate::blocks::{Block, group_values, has_minima, offset};
use crate::wide::ops::dequantise;
use crate::{Activations, WeightType};

/// Half a unit in the last place of a binary32, relative to 1.
const U: f64 = 1.0 / 16_777_216.0;
/// Half of the smallest denormal.
const TINY: f64 = f64::from_bits((1023 - 150) << 52);
/// The relative error of `exp32` where its result is a normal number, in units of `U`. Measured
/// over every f32 from -87 to `88.722_83` (`reference/examples/exp_error.rs`): 1.4187.
pub const EXP_UNITS: f64 = 1.42;
/// Above this argument `exp32` is infinite.
const EXP_FINITE_MAX: f64 = 88.72283;
/// Below this argument `exp32` has a denormal result or none, and is off by two of them at most.
const EXP_NORMAL_MIN: f64 = -87.0;
/// What f64 itself may have lost, relative to sums of magnitudes of as many terms.
const U_WIDE: f64 = 1.0 / 4_503_599_627_370_496.0;

fn gamma(roundings: usize) -> f64 {
    let sum = roundings as f64 * U;
    sum / (1.0 - sum)
}

/// Section 3: one rounding of `value`.
#[must_use]
pub fn embed(value: f64) -> f64 {
    U * value.abs() + TINY
}

/// Section 11, the residual: one rounding of the sum, which f64 has exactly enough.
#[must_use]
pub fn add(stream: f64, branch: f64) -> f64 {
    U * (stream + branch).abs() + TINY
}

/// Section 2: `|exp32(x) - exp(x)|` for an `x` whose exponential is finite.
#[must_use]
pub fn exp32(x: f64) -> f64 {
    if x < EXP_NORMAL_MIN { 4.0 * TINY } else { EXP_UNITS * U * x.exp() + TINY }
}

/// Section 11: the gate.
#[must_use]
pub fn swiglu(gate: f64, up: f64) -> f64 {
    let value = (gate / (1.0 + (-gate).exp()) * up).abs();
    // exp32 gives infinity, and the gate 0, where f64 still has exp(88.8).
    if gate < -EXP_FINITE_MAX {
        return value + TINY * (1.0 + up.abs());
    }
    let share = 1.0 / (1.0 + gate.exp());
    // exp32's error counts by its share of the denominator; then +, / and *.
    (EXP_UNITS * share * U / (1.0 - U) + gamma(3)) * value + TINY * (2.0 + up.abs())
}

/// Section 4: one bound for each value of a row.
#[must_use]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let n = x.len() as f64;
    let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    let mean = squares / n + f64::from(eps);
    // A square goes through its partial sum, eight additions of the tree, / and +.
    let roundings = x.len().div_ceil(256) + 8 + 2;
    let of_mean = gamma(roundings) + (n + 2.0) * TINY / mean;
    // The square root halves a relative error; sqrt, /, * and * follow.
    let relative = 0.5 * of_mean / (1.0 - of_mean) + gamma(4);
    let of_value = |(x, weight): (&f32, &f32)| {
        let (x, weight) = (f64::from(*x), f64::from(*weight));
        relative * (x * weight).abs() / mean.sqrt() + TINY * (1.0 + weight.abs())
    };
    x.iter().zip(weight).map(of_value).collect()
}

/// Section 8: one bound for each value of a row of heads at `position`.
#[must_use]
pub fn rope(x: &[f32], head_size: usize, frequencies: &[f64], position: usize) -> Vec<f64> {
    let mut bounds = vec![0.0; x.len()];
    for (x, bounds) in x.chunks_exact(head_size).zip(bounds.chunks_exact_mut(head_size)) {
        for (pair, frequency) in frequencies.iter().enumerate() {
            let angle = position as f64 * frequency;
            let (cosine, sine) = (libm::cos(angle).abs(), libm::sin(angle).abs());
            let [x0, x1] = [x[2 * pair], x[2 * pair + 1]].map(|x| f64::from(x).abs());
            // The first term: its table value and the fma. The other one: a product as well.
            bounds[2 * pair] = gamma(2) * x0 * cosine + gamma(3) * x1 * sine;
            bounds[2 * pair + 1] = gamma(2) * x0 * sine + gamma(3) * x1 * cosine;
            // Table values that are denormal, and the product and the sum.
            bounds[2 * pair] += TINY * (x0 + x1 + 2.0);
            bounds[2 * pair + 1] += TINY * (x0 + x1 + 2.0);
        }
    }
    bounds
}

/// Section 5: one bound for each value of a block, `|x - s q|`.
#[must_use]
pub fn quantise(activations: Activations, x: &[f32]) -> Vec<f64> {
    let largest = x.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
    if largest < f64::from(2_f32.powi(-100)) {
        // The block is zero.
        return x.iter().map(|x| f64::from(x.abs())).collect();
    }
    let step = largest / f64::from(activations.magnitude_max()) * (1.0 + 2.0 * U);
    // v, x v and s round once each; rint moves by half a step.
    x.iter().map(|x| 0.5 * step + gamma(3) * f64::from(x.abs())).collect()
}

/// Sections 5 to 7: one output, the product of a row of weights with `x`.
#[must_use]
pub fn product(kind: WeightType, activations: Activations, row: &[u8], x: &[f32]) -> f64 {
    let mut weights = vec![0.0; x.len()];
    dequantise(kind, row, &mut weights);
    if kind.block_values() > 1 {
        return quantised_product(kind, activations, row, &weights, x);
    }
    let magnitude: f64 = weights.iter().zip(x).map(|(w, x)| (w * f64::from(*x)).abs()).sum();
    let roundings = x.len().min(64) + x.len().div_ceil(64);
    gamma(roundings) * magnitude
        + x.len() as f64 * (U_WIDE * magnitude + TINY)
        + x.len().div_ceil(64) as f64 * TINY
}

fn quantised_product(
    kind: WeightType,
    activations: Activations,
    row: &[u8],
    weights: &[f64],
    x: &[f32],
) -> f64 {
    let values = kind.block_values();
    let blocks = row.chunks(kind.block_bytes()).zip(weights.chunks(values)).zip(x.chunks(values));
    let mut sum = Terms::default();
    for ((bytes, weights), x) in blocks {
        let mut block = Block::EMPTY;
        block.read(kind, bytes);
        sum.add(kind, activations, &block, weights, x);
    }
    let count = x.len() / values;
    let chunk = count.min(if values == 32 { 8 } else { 4 });
    let additions = chunk * if has_minima(kind) { 2 } else { 1 };
    // Digits to f32 and their meeting, d s, the additions of a chunk, and of the chunks.
    let products = activations.digits() + 1 + additions + count.div_ceil(chunk);
    // f(sum of q), s times it, N over the groups, the additions.
    let minima = 2 + values / group_values(kind) + additions + count.div_ceil(chunk);
    sum.of_activations
        + gamma(products) * sum.products
        + gamma(minima) * sum.minima
        + x.len() as f64 * U_WIDE * (sum.products + sum.minima)
        + sum.underflow
}

/// Sums of magnitudes over the blocks of a row.
#[derive(Default)]
struct Terms {
    /// What the fixed point changes in the activations, times the weights.
    of_activations: f64,
    /// The terms with `T`, digit by digit.
    products: f64,
    /// The terms with minima.
    minima: f64,
    /// What denormal results lose.
    underflow: f64,
}

impl Terms {
    fn add(
        &mut self,
        kind: WeightType,
        activations: Activations,
        block: &Block,
        weights: &[f64],
        x: &[f32],
    ) {
        let errors = quantise(activations, x);
        let largest = x.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
        for (weight, error) in weights.iter().zip(&errors) {
            self.of_activations += weight.abs() * error;
        }
        if largest < f64::from(2_f32.powi(-100)) {
            return;
        }
        let step = largest / f64::from(activations.magnitude_max());
        // The digits of q add up to more than q: each lower one has up to 128 of its unit, and
        // the digits above carry as much.
        let digits_more = match activations {
            Activations::I8 => 0.0,
            Activations::I16 => 2.0 * 128.0,
            Activations::I24 => 2.0 * (128.0 * 256.0 + 128.0),
        };
        let (d, m) = (f64::from(block.d()).abs(), f64::from(block.m()).abs());
        let grouped = kind.block_values() == 256;
        let mut integers = 0.0;
        for (index, (x, error)) in x.iter().zip(&errors).enumerate() {
            let group = index / group_values(kind);
            let scale = if grouped { f64::from(block.scales[group]).abs() } else { 1.0 };
            let integer = scale * f64::from((i32::from(block.q[index]) - offset(kind)).abs());
            let reach = f64::from(x.abs()) + error;
            integers += integer * (reach / step + digits_more);
            let minimum = if grouped { f64::from(block.mins[group]) } else { 1.0 };
            self.minima += m * minimum * reach;
        }
        self.products += d * step * integers;
        // d s rounds before it meets T; u and N before they meet m; then the results.
        self.underflow += TINY * (integers + m * 63.0 * 32.0 + 4.0);
    }
}

/// Section 9: a value that goes through a cache in f16 and does not overflow there.
#[must_use]
pub fn kv_f16(value: f64) -> f64 {
    // 11 bits of precision; the denormals of f16 are multiples of 2^-24.
    let half_ulp = f64::from(2_f32.powi(-11)) * value.abs();
    half_ulp.max(f64::from(2_f32.powi(-25)))
}

/// Section 10: one query head over the keys and values of its KV head, as the cache gives them.
/// One bound for each value of the head.
#[must_use]
pub fn attention(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<f64> {
    let head_size = query.len();
    let scale = 1.0 / (head_size as f64).sqrt();
    let dot = |key: &[f32], magnitude: bool| {
        let terms = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k));
        let terms = terms.map(|term| if magnitude { term.abs() } else { term });
        terms.sum::<f64>() * scale
    };
    let keys = || keys.chunks_exact(head_size);
    let scores: Vec<f64> = keys().map(|key| dot(key, false)).collect();
    // The dot product in order; 1 / sqrt(f(head_size)) has two roundings; their product one.
    let of_scores = |key| gamma(head_size + 3) * dot(key, true) + (head_size + 1) as f64 * TINY;
    let of_scores: Vec<f64> = keys().map(of_scores).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let off = of_scores.iter().copied().fold(0.0, f64::max);
    let chunks = scores.len().div_ceil(64);
    // A weight is a chain of exponentials: its own chunk's, then one for each later combination.
    // Their arguments add up to at most the distance from the largest score.
    let weight = |(score, error): (&f64, &f64)| {
        let below = largest - score + off + error;
        let argument = error + U * below * (1.0 + U);
        let relative = (argument + (chunks + 1) as f64 * EXP_UNITS * U * (1.0 + U)).exp_m1();
        ((score - largest).exp(), relative)
    };
    let weights: Vec<(f64, f64)> = scores.iter().zip(&of_scores).map(weight).collect();
    let total: f64 = weights.iter().map(|(weight, _)| weight).sum();
    // Sums over a chunk and over the chunks, where a factor and a term meet in one fma.
    let sums = gamma(scores.len().min(64) + 2 * chunks);
    let of_term = |relative: f64| (1.0 + relative) * (1.0 + sums) - 1.0;
    let of_total: f64 = weights.iter().map(|(weight, relative)| weight * of_term(*relative)).sum();
    // Exponentials that underflow lose four times TINY each, beside a total of at least 1.
    let lost = 8.0 * TINY * scores.len() as f64;
    let of_total = (of_total + lost) / total;
    (0..head_size)
        .map(|d| {
            let value = |t: usize| f64::from(values[t * head_size + d]);
            let terms = || weights.iter().enumerate();
            let out: f64 = terms().map(|(t, (weight, _))| weight * value(t)).sum::<f64>() / total;
            let magnitude: f64 =
                terms().map(|(t, (weight, _))| weight * value(t).abs()).sum::<f64>() / total;
            let of_sum: f64 = terms()
                .map(|(t, (weight, relative))| weight * value(t).abs() * of_term(*relative))
                .sum::<f64>()
                / total;
            let (least, most) = (0..weights.len())
                .map(value)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                    (least.min(value), most.max(value))
                });
            let largest = least.abs().max(most.abs());
            // The quotient of two sums with errors, to second order.
            let quotient = (of_sum + out.abs() * of_total + U * out.abs()) / (1.0 - of_total);
            let quotient = quotient * (1.0 + U);
            // Whatever the weights, the result is a mean of the values.
            let mean = most - least + (2.0 * sums + U) * (1.0 + 4.0 * sums) * largest;
            let first = if of_total < 0.5 { quotient.min(mean) } else { mean };
            first
                + U_WIDE * weights.len() as f64 * magnitude
                + lost * largest
                + (weights.len() + chunks) as f64 * TINY
        })
        .collect()
}
