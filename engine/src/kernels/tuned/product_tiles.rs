//! `product_tiles`: what `product` computes, for many rows, on the integer matrix cores.

use super::chunk_sums::ChunkSums;
use crate::device::{Device, DeviceError, Kernel, View};
use crate::gguf::TensorType;
use crate::kernels::product::{Arguments, Run, chunk_count, load_named};
use crate::kernels::{Kernels, Product, of_type};
use crate::options::Activations;

/// Outputs and rows of one block of threads; `TILES_OUTPUTS`, and `TILES_SUBTILES` times
/// `TILE_COLUMNS`, in `product_tiles.hip`.
const RUN: Run = Run { outputs: 128, rows: 64, chunks: None };

/// Type, then the kernels for one, two and three digits.
const NAMES: [(TensorType, [&str; 3]); 10] = names!(
    "product_tiles": Q4_0 "q4_0", Q4_1 "q4_1", Q5_0 "q5_0", Q5_1 "q5_1", Q8_0 "q8_0",
    Q2K "q2_k", Q3K "q3_k", Q4K "q4_k", Q5K "q5_k", Q6K "q6_k"
);

pub(super) fn load(
    device: &Device,
    activations: Activations,
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    load_named::<Arguments>(device, activations, &NAMES)
}

/// Values of the workspace of [`Kernels::product_tiles_split`].
pub fn split_values(input: &Product<'_>) -> u64 {
    let values = u64::from(input.rows) * u64::from(input.outputs);
    chunk_count(input.kind, input.width) * values
}

/// Chunks of one block of threads, so that a device is in use for the shortest time, or `None`
/// where that is without a split.
pub fn split_chunks(input: &Product<'_>, multiprocessors: u32) -> Option<u32> {
    let tiles = u64::from(input.outputs).div_ceil(RUN.outputs);
    let tiles = tiles * u64::from(input.rows).div_ceil(RUN.rows);
    let chunks = chunk_count(input.kind, input.width);
    // In chunks that follow each other. Storing chunks and adding them up counts as one more.
    let time = |each: u64| {
        let parts = chunks.div_ceil(each);
        (tiles * parts).div_ceil(u64::from(multiprocessors.max(1))) * each + u64::from(parts > 1)
    };
    let each = (1..=chunks).rev().min_by_key(|each| time(*each))?;
    (each < chunks).then(|| u32::try_from(each).unwrap_or(u32::MAX))
}

impl Kernels {
    /// `out[rows][outputs]`, the bits of [`Kernels::product`]. Only on devices whose waves have
    /// more than one lane.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn product_tiles(&self, input: Product<'_>, out: View<'_, f32>) -> Result<(), DeviceError> {
        self.launch_product(of_type(&self.tuned().product_tiles, input.kind), input, out, RUN)
    }

    /// The same, with the chunks of a row spread over blocks of threads, `chunks` each: for few
    /// rows, which do not fill a device otherwise ([`split_chunks`]). `workspace` has
    /// [`split_values`].
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn product_tiles_split(
        &self,
        input: Product<'_>,
        chunks: u32,
        workspace: View<'_, f32>,
        out: View<'_, f32>,
    ) -> Result<(), DeviceError> {
        let run = Run { chunks: Some(chunks), ..RUN };
        self.launch_product(
            of_type(&self.tuned().product_tiles, input.kind),
            input,
            workspace,
            run,
        )?;
        let values = u64::from(input.rows) * u64::from(input.outputs);
        let chunk_count = chunk_count(input.kind, input.width);
        self.chunk_sums(ChunkSums { chunks: workspace, values, chunk_count }, out)
    }
}
