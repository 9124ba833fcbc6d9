//! What weaker checks would have said of the same run: none of these decides anything here.

use serde::Serialize;

use crate::landscape::Landscape;
use crate::number::Number;
use crate::run::lane::Lane;
use crate::sides::{Row, SideError, TapLevel};

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

/// How the reference goes on, token by token, with the logits of every step.
#[derive(Clone, Debug)]
pub struct Text {
    /// What it chooses.
    ids: Vec<u32>,
    logits: Vec<Row>,
}

/// Lets the reference write.
pub fn text(reference: &mut Lane, prompt: &[u32]) -> Result<Text, SideError> {
    reference.reset();
    let mut text = Text { ids: Vec::new(), logits: Vec::new() };
    while text.ids.len() < DECODES {
        let logits = match text.ids.last() {
            None => forward(reference, prompt)?,
            Some(last) => forward(reference, &[*last])?,
        };
        text.ids.push(top(&logits));
        text.logits.push(logits);
    }
    reference.reset();
    Ok(text)
}

/// Runs the engine on the reference's text. Its own is the same exactly where every step has the
/// same top token.
pub fn weigh(engine: &mut Lane, theirs: &Text, prompt: &[u32]) -> Result<Weak, SideError> {
    engine.reset();
    let (mut cosine, mut nmse, mut largest, mut top1_passes) = (f64::INFINITY, 0.0, 0.0, true);
    let mut tokens = prompt.to_vec();
    for (next, one) in theirs.ids.iter().zip(&theirs.logits) {
        let two = forward(engine, &tokens)?;
        top1_passes &= *next == top(&two);
        let step = Figures::of(&one.to_f64(), &two.to_f64());
        cosine = -worse(-cosine, -step.cosine);
        nmse = worse(nmse, step.nmse);
        largest = worse(largest, step.largest);
        tokens = vec![*next];
    }
    engine.reset();
    Ok(Weak {
        text_passes: top1_passes,
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

fn forward(side: &mut Lane, tokens: &[u32]) -> Result<Row, SideError> {
    side.forward(tokens, TapLevel::Readout);
    Ok(side.finish()?.readout.logits)
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
