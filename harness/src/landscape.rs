//! The shape of a row of logits at its top: the first five, the gap, the entropy of the first 64.

use serde::Serialize;

use crate::number::Number;
use crate::sides::Row;

/// How many tokens are shown.
const SHOWN_COUNT: usize = 5;
/// How many tokens the entropy is taken over.
const ENTROPY_COUNT: usize = 64;
/// Keeps the logarithm finite; the value in the traces this field is compared with.
const ENTROPY_FLOOR: f64 = 1e-12;

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Logit {
    /// The token id.
    pub id: u32,
    /// Its logit.
    pub logit: Number,
}

/// What stands at the top of a row of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Landscape {
    /// The largest logits, largest first, the lower id first among equals. NaN is never there.
    pub top: Vec<Logit>,
    /// First minus second, in the precision of the row.
    pub gap: Option<Number>,
    /// `-sum p ln(p + 1e-12)` over the softmax of the 64 largest, natural logarithm, in f64.
    pub entropy: Number,
    /// How many logits are NaN.
    pub nan_count: usize,
    /// How many are infinite.
    pub infinite_count: usize,
}

impl Landscape {
    /// Looks at a whole row.
    pub fn of(row: &Row) -> Self {
        let values = row.to_f64();
        let nan_count = values.iter().filter(|value| value.is_nan()).count();
        let infinite_count = values.iter().filter(|value| value.is_infinite()).count();
        let order = largest(&values, ENTROPY_COUNT);
        let gap = match order[..] {
            [first, second, ..] => Some(row.at(first).minus(row.at(second))),
            _ => None,
        };
        let logit = |&index: &usize| Logit { id: index as u32, logit: row.at(index) };
        let entropy = if nan_count > 0 { f64::NAN } else { entropy(&values, &order) };
        Self {
            top: order.iter().take(SHOWN_COUNT).map(logit).collect(),
            gap,
            entropy: Number::F64(entropy),
            nan_count,
            infinite_count,
        }
    }

    /// The first.
    pub fn top1(&self) -> Option<Logit> {
        self.top.first().copied()
    }

    /// The second.
    pub fn top2(&self) -> Option<Logit> {
        self.top.get(1).copied()
    }

    /// The greedy choice: none when any logit is NaN or infinite, for then no choice has a meaning.
    pub fn choice(&self) -> Option<u32> {
        let sound = self.nan_count == 0 && self.infinite_count == 0;
        if sound { self.top1().map(|logit| logit.id) } else { None }
    }
}

/// Indices of the largest values, largest first, ties by the lower index, NaN left out.
pub(crate) fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| !values[i].is_nan()).collect();
    let before = |&one: &usize, &two: &usize| {
        // total_cmp would order the two zeros, which are equal here.
        let by_value = values[two].partial_cmp(&values[one]).unwrap_or(std::cmp::Ordering::Equal);
        by_value.then(one.cmp(&two))
    };
    if order.len() > count {
        order.select_nth_unstable_by(count, before);
        order.truncate(count);
    }
    order.sort_unstable_by(before);
    order
}

/// With the functions of libm, which are the same on every host: landscapes are snapshots.
fn entropy(values: &[f64], order: &[usize]) -> f64 {
    let Some(&first) = order.first() else { return f64::NAN };
    let weights: Vec<f64> = order.iter().map(|&i| libm::exp(values[i] - values[first])).collect();
    let sum: f64 = weights.iter().sum();
    let probability = |weight: f64| weight / sum;
    -weights
        .iter()
        .map(|&w| probability(w) * libm::log(probability(w) + ENTROPY_FLOOR))
        .sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_id() {
        let landscape = Landscape::of(&Row::F32(vec![1.0, 3.0, -0.0, 3.0, 0.0, 2.0]));
        let ids: Vec<u32> = landscape.top.iter().map(|logit| logit.id).collect();
        assert_eq!(ids, [1, 3, 5, 0, 2]);
        assert_eq!(landscape.gap, Some(Number::F32(0.0)));
        assert_eq!(landscape.choice(), Some(1));
    }

    #[test]
    fn the_entropy_of_equal_logits_is_the_logarithm_of_64() {
        let landscape = Landscape::of(&Row::F32(vec![0.25; 1000]));
        let expected = -(1.0_f64 / 64.0 + 1e-12).ln();
        // 64 equal terms are added, each with half an ulp of rounding.
        let bound = 64.0 * f64::EPSILON * expected;
        assert!((landscape.entropy.to_f64() - expected).abs() <= bound);
        let ids: Vec<u32> = landscape.top.iter().map(|logit| logit.id).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_entropy_of_a_certain_token_is_zero() {
        let mut logits = vec![-1000.0; 100];
        logits[70] = 1000.0;
        let landscape = Landscape::of(&Row::F32(logits));
        // -(1 ln(1 + 1e-12)) is -1e-12.
        assert!(landscape.entropy.to_f64().abs() <= 1.001e-12);
    }

    #[test]
    fn nan_is_counted_and_never_on_top() {
        let landscape = Landscape::of(&Row::F32(vec![f32::NAN, 1.0, f32::NAN]));
        assert_eq!(landscape.nan_count, 2);
        assert_eq!(landscape.top1().unwrap().id, 1);
        assert_eq!(landscape.choice(), None);
        assert!(landscape.entropy.to_f64().is_nan());
        let landscape = Landscape::of(&Row::F32(vec![f32::NAN; 3]));
        assert!(landscape.top.is_empty());
        assert_eq!(landscape.gap, None);
    }

    #[test]
    fn an_infinite_logit_is_no_choice() {
        let landscape = Landscape::of(&Row::F32(vec![f32::INFINITY, 1.0]));
        assert_eq!(landscape.infinite_count, 1);
        assert_eq!(landscape.choice(), None);
    }

    #[test]
    fn a_selection_gives_what_sorting_gives() {
        let values: Vec<f64> = (0..5000).map(|i| f64::from((i * 7919) % 611)).collect();
        let mut sorted: Vec<usize> = (0..values.len()).collect();
        sorted.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        assert_eq!(largest(&values, 64), sorted[..64]);
    }
}
