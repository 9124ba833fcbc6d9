//! `chunk_sums`: the sum in order of chunks that `product_tiles` stored one by one.

use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::kernels::{Kernels, grid};
use bytemuck::{Pod, Zeroable};

/// Values of one block of threads; `BLOCK_THREADS` in platform.h.
const VALUE_RUN: u64 = 256;

/// `ChunkSumsArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    chunks: Span,
    out: Span,
    values: u64,
    chunk_count: u64,
}

/// Inputs of [`Kernels::chunk_sums`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkSums<'a> {
    /// `[chunk_count][values]`.
    pub(super) chunks: View<'a, f32>,
    /// Sums in a chunk.
    pub(super) values: u64,
    /// Number of chunks.
    pub(super) chunk_count: u64,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("chunk_sums")
}

impl Kernels {
    /// `out[values]`.
    pub(super) fn chunk_sums(
        &self,
        input: ChunkSums<'_>,
        out: View<'_, f32>,
    ) -> Result<(), DeviceError> {
        let ChunkSums { chunks, values, chunk_count } = input;
        let kernel = &self.tuned().chunk_sums;
        let accesses = [
            Access::read("chunks", chunks, values * chunk_count),
            Access::write("out", out, values),
        ];
        let [chunks, out] = [0, 1].map(|index: usize| accesses[index].span());
        let arguments = Arguments { chunks, out, values, chunk_count };
        let grid = grid(kernel, values.div_ceil(VALUE_RUN), 1)?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
