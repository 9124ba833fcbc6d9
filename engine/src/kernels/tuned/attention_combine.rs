//! `attention_combine`: joins what `attention_chunks` left; with or without the fixed point of the
//! result.

use super::attention_chunks::{Chunks, chunks_count};
use super::attention_parts::AttentionKernels;
use crate::device::{Access, Device, DeviceError, Grid, Kernel, Span, View};
use crate::kernels::attention::HEAD_SIZE_LARGEST;
use crate::kernels::quantise::{FixedPoint, FixedPointOut};
use crate::kernels::{Kernels, Position, grid, require};
use bytemuck::{Pod, Zeroable};

/// Values of a row that a block joins; `BLOCK_THREADS` in platform.h.
const BLOCK_VALUES: u64 = 256;

/// `AttentionCombineArguments` in `attention_combine.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    maxima: Span,
    totals: Span,
    sums: Span,
    out: Span,
    position: Span,
    heads: u32,
    head_size: u32,
    rows: u32,
    chunks: u32,
}

/// `AttentionCombineQuantiseArguments` in `attention_combine.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct QuantiseArguments {
    maxima: Span,
    totals: Span,
    sums: Span,
    out: Span,
    position: Span,
    fixed: FixedPointOut,
    heads: u32,
    head_size: u32,
    rows: u32,
    chunks: u32,
}

/// Inputs of [`Kernels::attention_combine`]: what `attention_chunks` wrote, and for which shape.
#[derive(Clone, Copy, Debug)]
pub struct AttentionCombine<'a> {
    /// As `attention_chunks` wrote them, with the same largest position.
    pub chunks: Chunks<'a>,
    /// Query heads.
    pub heads: u32,
    /// Values in a head.
    pub head_size: u32,
    /// Number of rows.
    pub rows: u32,
    /// Position of row 0.
    pub position: Position<'a>,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("attention_combine")
}

pub(super) fn load_quantise(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<QuantiseArguments>("attention_combine_quantise")
}

impl AttentionCombine<'_> {
    fn width(&self) -> u64 {
        u64::from(self.heads) * u64::from(self.head_size)
    }

    fn grid(&self, kernel: &Kernel) -> Result<Grid, DeviceError> {
        let size = self.head_size;
        let even = size > 0 && size.is_multiple_of(2);
        require(kernel, even, "head_size", size, "an even one is")?;
        require(kernel, size <= HEAD_SIZE_LARGEST, "head_size", size, "at most 256 is")?;
        grid(kernel, self.width().div_ceil(BLOCK_VALUES), u64::from(self.rows))
    }

    fn accesses(&self, out: View<'_, f32>) -> Vec<Access> {
        let count = u64::from(self.rows) * self.width();
        let chunks = u64::from(chunks_count(self.position.largest, self.rows));
        let parts = u64::from(self.rows) * u64::from(self.heads) * chunks;
        let Chunks { maxima, totals, sums } = self.chunks;
        vec![
            Access::read("maxima", maxima, parts),
            Access::read("totals", totals, parts),
            Access::read("sums", sums, parts * u64::from(self.head_size)),
            Access::write("out", out, count),
            self.position.access(),
        ]
    }
}

impl Kernels {
    /// `out[rows][heads][head_size]`, and the same in fixed point where that is wanted.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short, a size is not served, or the block does not divide
    /// a row.
    pub fn attention_combine(
        &self,
        input: AttentionCombine<'_>,
        out: View<'_, f32>,
        fixed: Option<FixedPoint<'_>>,
    ) -> Result<(), DeviceError> {
        let AttentionKernels { combine, combine_quantise, .. } = &self.tuned().attention;
        let AttentionCombine { heads, head_size, rows, position, .. } = input;
        let quantises = fixed.is_some();
        let kernel = if quantises { combine_quantise } else { combine };
        let grid = input.grid(kernel)?;
        let chunks = chunks_count(position.largest, rows);
        let width = heads * head_size;
        let accesses = input.accesses(out);
        let (accesses, fixed) = self.with_fixed(kernel, accesses, fixed, width, rows)?;
        let [maxima, totals, sums, out, position] =
            [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        if !quantises {
            let arguments =
                Arguments { maxima, totals, sums, out, position, heads, head_size, rows, chunks };
            return self.device.launch(kernel, grid, &accesses, &arguments);
        }
        let arguments = QuantiseArguments {
            maxima,
            totals,
            sums,
            out,
            position,
            fixed,
            heads,
            head_size,
            rows,
            chunks,
        };
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
