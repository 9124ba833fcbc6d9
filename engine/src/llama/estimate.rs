//! How much device memory a model takes, known from its file and the options before any is asked
//! for. A test holds every part to what is then allocated, byte by byte.

use super::config::Config;
use super::shapes::Shapes;
use super::workspace::{TunedSizes, layout_of};
use crate::Error;
use crate::device::Device;
use crate::gguf::File;
use crate::kernels::{KEY_TILE, RowDigest};
use crate::options::Options;
use std::collections::BTreeSet;
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
        let weights = shapes.stored().map(|tensor| u128::from(tensor.size_bytes));
        Self {
            weights_bytes: held(weights),
            cache_bytes: held(cache(shapes.config, options)),
            workspace_bytes: held(workspace(shapes, options, waves)),
            rotary_bytes: held(rotary(shapes.config, options)),
        }
    }

    /// All parts.
    pub fn total_bytes(&self) -> u64 {
        let Self { weights_bytes, cache_bytes, workspace_bytes, rotary_bytes } = *self;
        [weights_bytes, cache_bytes, workspace_bytes, rotary_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "weights {}, cache {}, workspace {}, rotary tables {}",
            Mebibytes(self.weights_bytes),
            Mebibytes(self.cache_bytes),
            Mebibytes(self.workspace_bytes),
            Mebibytes(self.rotary_bytes)
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

/// What buffers of these sizes take of a device.
fn held(buffers: impl IntoIterator<Item = u128>) -> u64 {
    let sum: u128 = buffers.into_iter().map(Device::footprint_bytes).sum();
    u64::try_from(sum).unwrap_or(u64::MAX)
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

/// Every buffer of the workspace, in the order of its fields.
fn workspace(shapes: Shapes<'_>, options: &Options, waves: bool) -> Vec<u128> {
    let Config { hidden, heads, kv_heads, head_size, feed_forward, vocabulary, .. } =
        *shapes.config;
    let context = options.context_tokens;
    let ubatch = options.ubatch.min(context);
    let (query, kv) = (heads * head_size, kv_heads * head_size);
    let floats = |count: u64| 4 * u128::from(count);
    let rows = |width: usize| 4 * ubatch as u128 * width as u128;
    let mut buffers = vec![floats(1), rows(1)];
    // The stream twice, both norms, both products that lead back to it.
    buffers.extend([rows(hidden); 6]);
    buffers.extend([rows(query), rows(kv), rows(kv), rows(query), rows(kv), rows(query)]);
    buffers.extend([rows(feed_forward); 3]);
    buffers.extend([floats(hidden as u64), floats(vocabulary as u64)]);
    let layouts: BTreeSet<(u32, u32)> =
        shapes.products().filter_map(|tensor| layout_of(tensor.kind)).collect();
    let widest = ubatch as u64 * hidden.max(feed_forward).max(query) as u64;
    for (block, group) in layouts {
        buffers.push(u128::from(widest) * options.activations.digit_count() as u128);
        buffers.extend([block, group].map(|values| floats(widest / u64::from(values))));
    }
    let sizes = shapes.products().map(|tensor| (tensor.dimensions[1], tensor.dimensions[0]));
    let tuned = TunedSizes::new(waves, shapes.config, sizes, (ubatch, context));
    buffers.push(u128::from(tuned.digests) * size_of::<RowDigest>() as u128);
    buffers.extend([floats(tuned.parts); 2]);
    buffers.extend([floats(tuned.parts) * head_size as u128, floats(tuned.split)]);
    buffers
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
        };
        assert_eq!(whole.total_bytes(), u64::MAX);
        assert_eq!(held([1 << 90, 1 << 90]), u64::MAX);
    }
}
