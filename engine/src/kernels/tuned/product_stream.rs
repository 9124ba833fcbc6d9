//! `product_stream`: products of one row with up to three matrices, whose weights come through
//! shared memory.

use super::super::product::load_named;
use super::super::{Kernels, grid};
use super::product_wave::{Arguments, ProductWave, WaveMatrix};
use crate::device::{Device, DeviceError, Kernel, Pool};
use crate::gguf::TensorType;
use crate::options::Activations;

/// Outputs of a tile; `STREAM_OUTPUTS` in `streamed.h`.
const OUTPUTS: u64 = 16;
/// Blocks of a chunk; `STREAM_BLOCKS` there.
const CHUNK_BLOCKS: u64 = 4;
/// Lanes of a wave where this kernel is served.
const LANES: u32 = 32;
/// Less shared memory than that, and a multiprocessor may get two blocks of threads of a launch that
/// begins early, while another has none.
const EXCLUSIVE_BYTES: u64 = 116 << 10;
/// A block of threads keeps the chunks' sums of its tiles up to here, and more blocks share them
/// beyond.
const CHUNK_SUMS_BYTES: u64 = 16 << 10;

macro_rules! names {
    ($($kind:ident $suffix:literal),*) => {
        [$((TensorType::$kind, [
            concat!("product_stream_", $suffix, "_i8"),
            concat!("product_stream_", $suffix, "_i16"),
            concat!("product_stream_", $suffix, "_i24"),
        ])),*]
    };
}

const NAMES: [(TensorType, [&str; 3]); 3] = names!(Q4K "q4_k", Q5K "q5_k", Q6K "q6_k");

pub(super) fn load(
    device: &Device,
    activations: Activations,
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    if device.attributes().pool.is_none() {
        return Ok(Vec::new());
    }
    load_named::<Arguments>(device, activations, &NAMES)
}

/// A launch's blocks of threads, and bytes of shared memory in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    stride: u32,
    pool_bytes: u32,
}

/// `StreamShared` in `product_stream.hip`, or `None` where rows are no whole pieces of 16 bytes.
fn plan(
    kind: TensorType,
    digit_count: u64,
    width: u32,
    outputs: impl Iterator<Item = u32>,
    (multiprocessors, waves): (u32, u32),
) -> Option<Plan> {
    let width = u64::from(width);
    let blocks = width / kind.block_values();
    // `Streamed<Format>`: STRIDE, STAGES; then what a block of the activation has beside digits.
    let (row, stages, block_bytes) = match kind {
        TensorType::Q4K => (288, 2, 32),
        TensorType::Q5K => (352, 2, 32),
        TensorType::Q6K => (224, 2, 256),
        _ => return None,
    };
    if !(blocks * kind.block_bytes()).is_multiple_of(16) {
        return None;
    }
    let chunks = blocks.div_ceil(CHUNK_BLOCKS);
    let tiles: u64 = outputs.map(|outputs| u64::from(outputs).div_ceil(OUTPUTS)).sum();
    let tile_bytes = chunks * OUTPUTS * 4;
    // Every multiprocessor has one block, or as many as keep few enough tiles, one after another.
    let together = u64::from(multiprocessors).min(tiles).max(1);
    let most = (CHUNK_SUMS_BYTES / tile_bytes).max(1);
    let stride = together * tiles.div_ceil(together).div_ceil(most);
    let stride = stride.min(tiles).max(1);
    let bytes = u64::from(waves) * stages * OUTPUTS * row
        + digit_count * (width + 32)
        + blocks.next_multiple_of(4) * 4
        + blocks * block_bytes
        + tiles.div_ceil(stride) * tile_bytes;
    Some(Plan {
        stride: u32::try_from(stride).ok()?,
        pool_bytes: u32::try_from(bytes.max(EXCLUSIVE_BYTES)).ok()?,
    })
}

impl Kernels {
    /// Whether [`Kernels::product_stream`] serves this shape on this device.
    pub fn serves_product_stream(&self, kind: TensorType, width: u32, rows: u32) -> bool {
        let has = self.tuned().product_stream.iter().any(|(candidate, _)| *candidate == kind);
        // The tiles of a block of threads take no more than one tile's sums or the limit.
        let plan = |outputs| self.stream_plan(kind, width, [outputs].into_iter());
        let largest = self.multiprocessors.saturating_mul(1 << 12);
        let most = self.pool.map_or(0, |pool| pool.bytes);
        let fits = |plan: Plan| plan.pool_bytes <= most;
        rows == 1 && has && plan(16).is_some_and(fits) && plan(largest).is_some_and(fits)
    }

    fn stream_plan(
        &self,
        kind: TensorType,
        width: u32,
        outputs: impl Iterator<Item = u32>,
    ) -> Option<Plan> {
        let digit_count = self.activations().digit_count() as u64;
        let waves = self.pool?.threads / LANES;
        plan(kind, digit_count, width, outputs, (self.multiprocessors, waves))
    }

    /// As [`Kernels::product_wave`], of one row, where [`Kernels::serves_product_stream`] says so.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    ///
    /// # Panics
    /// With no matrix, more than three, or a shape that is not served.
    pub fn product_stream(
        &self,
        input: ProductWave<'_>,
        matrices: &[WaveMatrix<'_>],
    ) -> Result<(), DeviceError> {
        let ProductWave { kind, width, rows, .. } = input;
        assert!(self.serves_product_stream(kind, width, rows), "{kind}, {width} in {rows} rows");
        let outputs = matrices.iter().map(|matrix| matrix.outputs);
        let plan = self.stream_plan(kind, width, outputs).expect("it is served");
        let kernel = super::super::of_type(&self.tuned().product_stream, kind);
        let threads = self.pool.expect("it is served").threads;
        let kernel = &kernel.with_pool(Pool { bytes: plan.pool_bytes, threads });
        let (accesses, mut arguments) = self.few_rows(kernel, input, matrices)?;
        (arguments.stride, arguments.pool_bytes) = (plan.stride, plan.pool_bytes);
        let grid = grid(kernel, u64::from(plan.stride), 1)?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
