//! What weaker checks would have said of the same run: none of these decides anything here.

use serde::Serialize;

use crate::landscape::Landscape;
use crate::number::Number;
use crate::sides::{Row, Side, SideError, Unwatched};

/// Tokens after the prompt that the weaker checks look at.
const DECODES: usize = 12;

/// The limits that such checks are given elsewhere.
const COSINE: f64 = 0.99;
const NMSE_LOOSE: f64 = 5e-4;
const NMSE_TIGHT: f64 = 1e-6;
const LARGEST: f64 = 5e-3;

/// The figures of a run, and which checks a fault would have passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Weak {
    /// The same greedy text.
    pub text_passes: bool,
    /// The same top token at every step of the reference's text.
    pub top1_passes: bool,
    /// A cosine above 0.99 at every step.
    pub cosine_passes: bool,
    /// A normalised mean square error below 5e-4.
    pub nmse_loose_passes: bool,
    /// Below 1e-6.
    pub nmse_tight_passes: bool,
    /// No logit off by 5e-3 or more.
    pub largest_passes: bool,
    /// The smallest cosine.
    pub cosine: Number,
    /// The largest normalised mean square error.
    pub nmse: Number,
    /// The largest difference of a logit.
    pub largest: Number,
}

/// Runs both sides, each on its own text and both on the reference's.
pub fn weigh(
    engine: &mut dyn Side,
    reference: &mut dyn Side,
    prompt: &[u32],
) -> Result<Weak, SideError> {
    let theirs = greedy(reference, prompt)?;
    let text_passes = greedy(engine, prompt)? == theirs;
    engine.reset();
    reference.reset();
    let (mut cosine, mut nmse, mut largest, mut top1_passes) = (f64::INFINITY, 0.0, 0.0, true);
    let mut tokens = prompt.to_vec();
    for next in &theirs {
        let one = reference.forward(&tokens, &mut Unwatched)?.logits;
        let two = engine.forward(&tokens, &mut Unwatched)?.logits;
        top1_passes &= top(&one) == top(&two);
        let step = Figures::of(&one.to_f64(), &two.to_f64());
        cosine = -worse(-cosine, -step.cosine);
        nmse = worse(nmse, step.nmse);
        largest = worse(largest, step.largest);
        tokens = vec![*next];
    }
    engine.reset();
    reference.reset();
    Ok(Weak {
        text_passes,
        top1_passes,
        cosine_passes: cosine > COSINE,
        nmse_loose_passes: nmse < NMSE_LOOSE,
        nmse_tight_passes: nmse < NMSE_TIGHT,
        largest_passes: largest < LARGEST,
        cosine: Number::F64(cosine),
        nmse: Number::F64(nmse),
        largest: Number::F64(largest),
    })
}

/// The larger of two, and NaN once there is one.
fn worse(so_far: f64, next: f64) -> f64 {
    if so_far.is_nan() || next <= so_far { so_far } else { next }
}

/// The largest logit that is a number; token 0 where there is none, as an engine does that looks
/// for the largest with a comparison.
fn top(logits: &Row) -> u32 {
    Landscape::of(logits).top1().map_or(0, |logit| logit.id)
}

fn greedy(side: &mut dyn Side, prompt: &[u32]) -> Result<Vec<u32>, SideError> {
    side.reset();
    let mut chosen = vec![top(&side.forward(prompt, &mut Unwatched)?.logits)];
    while chosen.len() < DECODES {
        let last = chosen[chosen.len() - 1];
        chosen.push(top(&side.forward(&[last], &mut Unwatched)?.logits));
    }
    Ok(chosen)
}

struct Figures {
    cosine: f64,
    nmse: f64,
    largest: f64,
}

impl Figures {
    fn of(expected: &[f64], actual: &[f64]) -> Self {
        let pairs = || expected.iter().zip(actual);
        let dot: f64 = pairs().map(|(one, two)| one * two).sum();
        let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        let errors: f64 = pairs().map(|(one, two)| (one - two) * (one - two)).sum();
        Self {
            cosine: dot / (square(expected) * square(actual)).sqrt(),
            nmse: errors / square(expected),
            largest: pairs().map(|(one, two)| (one - two).abs()).fold(0.0, worse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_equal_rows_pass_and_nan_fails() {
        let row = [1.0, -2.0, 3.0];
        let same = Figures::of(&row, &row);
        assert!(same.cosine > COSINE && same.nmse == 0.0 && same.largest == 0.0);
        let nan = Figures::of(&row, &[1.0, f64::NAN, 3.0]);
        assert!(nan.cosine.is_nan() && nan.nmse.is_nan() && nan.largest.is_nan());
        let off = Figures::of(&row, &[1.0, -2.5, 3.0]);
        assert_eq!((off.nmse, off.largest), (0.25 / 14.0, 0.5));
    }
}
