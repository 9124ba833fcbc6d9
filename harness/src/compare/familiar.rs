//! The distances that people know, of the engine's logits from f64: reported, and never a verdict.

use serde::{Serialize, Serializer};

use crate::landscape::largest;
use crate::number::Number;
use crate::sides::Row;

/// How many of the first tokens are compared as a set.
const TOP_COUNT: usize = 10;

fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Number::F64(*value).serialize(serializer)
}

/// Of one row of logits from another, or the worst of several steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Familiar {
    /// The most f32 numbers that lie between a logit and the nearest f32 of the other row.
    pub ulp_max: u64,
    /// `sum (a - b)^2 / sum b^2`.
    #[serde(serialize_with = "number")]
    pub nmse: f64,
    /// 1 less the cosine of the angle between the rows.
    #[serde(serialize_with = "number")]
    pub cosine_distance: f64,
    /// `sum q ln(q / p)` over the vocabulary, q the other row's softmax, natural logarithm.
    #[serde(serialize_with = "number")]
    pub kl_divergence: f64,
    /// How many of the first ten tokens are the same set.
    pub top10_overlap: usize,
}

impl Familiar {
    /// Measures; rows of two lengths have no distance that means anything.
    pub fn measure(of: &Row, from: &Row) -> Option<Self> {
        if of.len() != from.len() || of.is_empty() {
            return None;
        }
        let (of, from) = (of.to_f64(), from.to_f64());
        let (mut squares, mut ours, mut theirs, mut product) = (0.0, 0.0, 0.0, 0.0);
        for (a, b) in of.iter().zip(&from) {
            squares += (a - b) * (a - b);
            ours += a * a;
            theirs += b * b;
            product += a * b;
        }
        let [first, second] = [&of, &from].map(|row| largest(row, TOP_COUNT));
        Some(Self {
            ulp_max: of.iter().zip(&from).map(|(a, b)| ulps(*a as f32, *b as f32)).max()?,
            nmse: if squares == 0.0 { 0.0 } else { squares / theirs },
            cosine_distance: 1.0 - product / (ours * theirs).sqrt(),
            kl_divergence: kl_divergence(&of, &from),
            top10_overlap: first.iter().filter(|index| second.contains(index)).count(),
        })
    }

    /// The worse of each.
    pub fn worst(self, other: Self) -> Self {
        // NaN is worse than everything, which `max` would lose.
        let worse = |a: f64, b: f64| if a <= b || b.is_nan() { b } else { a };
        Self {
            ulp_max: self.ulp_max.max(other.ulp_max),
            nmse: worse(self.nmse, other.nmse),
            cosine_distance: worse(self.cosine_distance, other.cosine_distance),
            kl_divergence: worse(self.kl_divergence, other.kl_divergence),
            top10_overlap: self.top10_overlap.min(other.top10_overlap),
        }
    }
}

/// How many steps from one f32 to the other; both zeros are one.
fn ulps(one: f32, two: f32) -> u64 {
    let place = |value: f32| {
        let magnitude = i64::from(value.to_bits() & 0x7fff_ffff);
        if value.is_sign_negative() { -magnitude } else { magnitude }
    };
    place(one).abs_diff(place(two))
}

fn kl_divergence(of: &[f64], from: &[f64]) -> f64 {
    let (ours, theirs) = (log_sum(of), log_sum(from));
    let term = |(a, b): (&f64, &f64)| {
        let (log_p, log_q) = (a - ours, b - theirs);
        libm::exp(log_q) * (log_q - log_p)
    };
    of.iter().zip(from).map(term).sum()
}

/// `ln sum exp`.
fn log_sum(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + libm::log(row.iter().map(|value| libm::exp(value - largest)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(of: &[f32], from: &[f32]) -> Familiar {
        Familiar::measure(&Row::F32(of.to_vec()), &Row::F32(from.to_vec())).unwrap()
    }

    #[test]
    fn a_row_is_at_no_distance_from_itself() {
        let row: Vec<f32> = (0..100).map(|index| (index as f32).sqrt()).collect();
        let found = measure(&row, &row);
        assert_eq!((found.ulp_max, found.nmse, found.kl_divergence), (0, 0.0, 0.0));
        assert_eq!(found.top10_overlap, 10);
        assert_eq!(Familiar::measure(&Row::F32(row), &Row::F32(vec![])), None);
    }

    #[test]
    fn known_distances_come_out() {
        // 1 ulp each; the squares of (3, 4) and an error of (0, 1); a right angle.
        assert_eq!(measure(&[f32::from_bits(1)], &[-f32::from_bits(1)]).ulp_max, 2);
        assert_eq!(measure(&[0.0], &[-0.0]).ulp_max, 0);
        assert_eq!(measure(&[3.0, 5.0], &[3.0, 4.0]).nmse, 1.0 / 25.0);
        assert_eq!(measure(&[1.0, 0.0], &[0.0, 1.0]).cosine_distance, 1.0);
        // A common shift changes no probability; p = (1/2, 1/2) from q = (3/4, 1/4).
        assert_eq!(measure(&[1.0, 2.0], &[2.0, 3.0]).kl_divergence, 0.0);
        let found = measure(&[0.0, 0.0], &[3.0_f32.ln(), 0.0]).kl_divergence;
        approx::assert_relative_eq!(
            found,
            0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln(),
            max_relative = 1e-6
        );
        let up: Vec<f32> = (0..20).map(|index| index as f32).collect();
        let down: Vec<f32> = up.iter().rev().copied().collect();
        assert_eq!(measure(&up, &down).top10_overlap, 0);
    }

    #[test]
    fn nan_is_the_worst() {
        let (good, bad) =
            (measure(&[1.0, 2.0], &[1.0, 2.0]), measure(&[1.0, f32::NAN], &[1.0, 2.0]));
        for found in [good.worst(bad), bad.worst(good)] {
            assert!(found.nmse.is_nan());
            assert!(found.kl_divergence.is_nan());
        }
    }
}
