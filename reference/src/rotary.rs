//! The rotary frequencies of a file: base, dimension, and the factors of `rope_freqs.weight`.

use candle_core::Device;

use crate::file::ModelFile;
use crate::{Config, Error};

/// The factors by which the file divides the frequencies, if it has them.
pub(crate) fn factors(file: &mut ModelFile) -> Result<Option<Vec<f32>>, Error> {
    if !file.config().rope_factors {
        return Ok(None);
    }
    let stored = file.vector("rope_freqs.weight", file.config().rope_dimensions / 2)?;
    let factors = stored.named(stored.tensor.dequantize(&Device::Cpu))?;
    Ok(Some(factors.to_vec1()?))
}

/// The frequencies of the pairs in f64 (contract, section 8).
pub(crate) fn frequencies(config: &Config, factors: Option<&[f32]>) -> Vec<f64> {
    frequencies_of(config.rope_base, config.rope_dimensions, factors)
}

/// `base^(-2i/dim)`, divided by the factors.
pub(crate) fn frequencies_of(base: f32, dimensions: usize, factors: Option<&[f32]>) -> Vec<f64> {
    (0..dimensions / 2)
        .map(|index| {
            let frequency = libm::pow(f64::from(base), -((2 * index) as f64) / dimensions as f64);
            match factors {
                Some(factors) => frequency / f64::from(factors[index]),
                None => frequency,
            }
        })
        .collect()
}
