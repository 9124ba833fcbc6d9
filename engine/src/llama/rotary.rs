//! Rotary tables, made once on the host in f64: CONTRACT.md section 8.

use super::Config;

/// What the rotary embedding of a model depends on.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// Base of the frequencies.
    pub base: f32,
    /// Values of a head that are rotated, an even number.
    pub dimensions: usize,
    /// `rope_freqs.weight`, `[dimensions / 2]`.
    pub factors: Option<&'a [f32]>,
}

/// Cosines and sines, each `[positions][dimensions / 2]`.
#[derive(Clone, Debug)]
pub struct RotaryTables {
    /// `cos(position * frequency)`.
    pub cosine: Vec<f32>,
    /// `sin(position * frequency)`.
    pub sine: Vec<f32>,
}

impl<'a> Rotary<'a> {
    pub(super) fn new(config: &Config, factors: Option<&'a [f32]>) -> Self {
        Self { base: config.rope_base, dimensions: config.rope_dimensions, factors }
    }

    /// The tables for positions from 0.
    pub fn tables(&self, positions: usize) -> RotaryTables {
        let dimensions = self.dimensions as f64;
        let frequency = |pair: usize| {
            let power = libm::pow(f64::from(self.base), -((2 * pair) as f64) / dimensions);
            self.factors.map_or(power, |factors| power / f64::from(factors[pair]))
        };
        let frequencies: Vec<f64> = (0..self.dimensions / 2).map(frequency).collect();
        let angles = || {
            (0..positions).flat_map(|position| {
                frequencies.iter().map(move |frequency| position as f64 * frequency)
            })
        };
        RotaryTables {
            cosine: angles().map(|angle| libm::cos(angle) as f32).collect(),
            sine: angles().map(|angle| libm::sin(angle) as f32).collect(),
        }
    }
}
