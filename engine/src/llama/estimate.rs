//! How much device memory a model takes, known from its file and the options before any is asked
//! for. A test holds every part to what is then allocated, byte by byte.

use super::config::Config;
use super::shapes::Shapes;
use super::workspace::Planned;
use crate::Error;
use crate::device::Device;
use crate::gguf::File;
use crate::kernels::KEY_TILE;
use crate::options::Options;
use std::fmt;

/// Bytes by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The tensors of the file, as they stand there.
    pub weights_bytes: u64,
    /// Keys and values of every layer for the whole context.
    pub cache_bytes: u64,
    /// What lies between operations, for a pass of `ubatch` tokens.
    pub workspace_bytes: u64,
    /// Cosines and sines for the whole context.
    pub rotary_bytes: u64,
    /// Guard zones around all of them; where nothing is checked, what alignment takes.
    pub guards_bytes: u64,
}

impl Estimate {
    /// What a file takes with these options; `waves` where the device runs tuned kernels.
    ///
    /// # Errors
    /// As [`crate::Engine::load`] for a file that is no supported model.
    pub fn new(file: &File, options: &Options, waves: bool) -> Result<Self, Error> {
        let config = Config::from_gguf(file)?;
        Ok(Self::of(Shapes::check(file, &config)?, options, waves))
    }

    pub(super) fn of(shapes: Shapes<'_>, options: &Options, waves: bool) -> Self {
        let alone = |bytes: u128| vec![bytes];
        let weights: Vec<_> =
            shapes.stored().map(|tensor| alone(tensor.size_bytes.into())).collect();
        let cache: Vec<_> = cache(shapes.config, options).map(alone).collect();
        let workspace = workspace(shapes, options, waves);
        let rotary = rotary(shapes.config, options).map(alone);
        let all = || weights.iter().chain(&cache).chain(&workspace).chain(&rotary);
        let guarded = !options.unchecked;
        let footprint =
            all().map(|together| Device::footprint_bytes(together.iter().copied(), guarded));
        let guards = footprint.sum::<u128>() - all().flatten().sum::<u128>();
        Self {
            weights_bytes: held(&weights),
            cache_bytes: held(&cache),
            workspace_bytes: held(&workspace),
            rotary_bytes: held(&rotary),
            guards_bytes: narrow(guards),
        }
    }

    /// All parts.
    pub fn total_bytes(&self) -> u64 {
        let Self { weights_bytes, cache_bytes, workspace_bytes, rotary_bytes, guards_bytes } =
            *self;
        [weights_bytes, cache_bytes, workspace_bytes, rotary_bytes, guards_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "weights {}, cache {}, workspace {}, rotary tables {}, guard zones {}",
            Mebibytes(self.weights_bytes),
            Mebibytes(self.cache_bytes),
            Mebibytes(self.workspace_bytes),
            Mebibytes(self.rotary_bytes),
            Mebibytes(self.guards_bytes)
        )
    }
}

/// Bytes as people read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mebibytes(pub u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// Refuses a model that does not fit, and says what would.
pub(super) fn refuse_too_large(
    shapes: Shapes<'_>,
    options: &Options,
    waves: bool,
    device: String,
    free_bytes: Option<u64>,
) -> Result<(), Error> {
    let Some(free_bytes) = free_bytes else { return Ok(()) };
    let estimate = Estimate::of(shapes, options, waves);
    if estimate.total_bytes() <= free_bytes {
        return Ok(());
    }
    let fits = |options: &Options| Estimate::of(shapes, options, waves).total_bytes() <= free_bytes;
    let with_context = |tokens| Options { context_tokens: tokens, ..options.clone() };
    let with_ubatch = |tokens| Options { ubatch: tokens, ..options.clone() };
    let remedy = if let Some(most) =
        largest(options.context_tokens, |tokens| fits(&with_context(tokens)))
    {
        format!("--context-tokens {most} would fit")
    } else if let Some(most) = largest(options.ubatch, |tokens| fits(&with_ubatch(tokens))) {
        format!("--ubatch {most} would fit")
    } else {
        "no --context-tokens would fit: take a model of fewer bits, or a device with more memory"
            .to_owned()
    };
    Err(Error::Memory { device, estimate, free_bytes, remedy })
}

/// The largest count from 1 to below `limit` that holds, where smaller ones hold if larger ones do.
fn largest(limit: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    if limit <= 1 || !holds(1) {
        return None;
    }
    let (mut good, mut bad) = (1, limit);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if holds(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

/// The bytes of all buffers.
fn held(buffers: &[Vec<u128>]) -> u64 {
    narrow(buffers.iter().flatten().sum())
}

fn narrow(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Keys and values of every layer.
fn cache(config: &Config, options: &Options) -> impl Iterator<Item = u128> {
    let tile = KEY_TILE as usize;
    let positions = (options.context_tokens.div_ceil(tile) * tile) as u128;
    let values = positions * (config.kv_heads * config.head_size) as u128;
    std::iter::repeat_n(values * options.kv.element_bytes() as u128, 2 * config.layers)
}

/// Cosines and sines.
fn rotary(config: &Config, options: &Options) -> [u128; 2] {
    [4 * options.context_tokens as u128 * (config.rope_dimensions / 2) as u128; 2]
}

/// Every buffer of the workspace, by the memory that they share.
fn workspace(shapes: Shapes<'_>, options: &Options, waves: bool) -> Vec<Vec<u128>> {
    let context = options.context_tokens;
    let sizes = (options.ubatch.min(context), context);
    let products: Vec<_> = shapes
        .products()
        .map(|tensor| (tensor.kind, tensor.dimensions[1], tensor.dimensions[0]))
        .collect();
    let digit_count = options.activations.digit_count() as u64;
    let planned = Planned::new(shapes.config, products.into_iter(), digit_count, waves, sizes);
    planned.buffers_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_holds_is_found() {
        for most in 1..40 {
            assert_eq!(largest(40, |count| count <= most), Some(most));
        }
        assert_eq!(largest(40, |_| false), None);
        assert_eq!(largest(1, |_| true), None);
    }

    #[test]
    fn absurd_sizes_do_not_wrap() {
        let whole = Estimate {
            weights_bytes: u64::MAX,
            cache_bytes: 1,
            workspace_bytes: 0,
            rotary_bytes: 0,
            guards_bytes: 0,
        };
        assert_eq!(whole.total_bytes(), u64::MAX);
        assert_eq!(held(&[vec![1 << 90], vec![1 << 90]]), u64::MAX);
    }
}
