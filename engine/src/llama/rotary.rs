//! Rotary tables, made once on the host in f64: CONTRACT.md section 8.

use super::Config;

/// Cosines and sines, each `[positions][dimensions / 2]`.
pub(super) struct Tables {
    pub(super) cosine: Vec<f32>,
    pub(super) sine: Vec<f32>,
}

/// Tables for `positions` positions; `factors` is `rope_freqs.weight`, `[dimensions / 2]`.
pub(super) fn tables(config: &Config, factors: Option<&[f32]>, positions: usize) -> Tables {
    let pairs = config.rope_dimensions / 2;
    let dimensions = config.rope_dimensions as f64;
    let frequency = |pair: usize| {
        let power = libm::pow(f64::from(config.rope_base), -((2 * pair) as f64) / dimensions);
        factors.map_or(power, |factors| power / f64::from(factors[pair]))
    };
    let frequencies: Vec<f64> = (0..pairs).map(frequency).collect();
    let angles = || {
        (0..positions).flat_map(|position| {
            frequencies.iter().map(move |frequency| position as f64 * frequency)
        })
    };
    Tables {
        cosine: angles().map(|angle| libm::cos(angle) as f32).collect(),
        sine: angles().map(|angle| libm::sin(angle) as f32).collect(),
    }
}
