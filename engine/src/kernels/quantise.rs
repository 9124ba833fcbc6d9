//! quantise: activation rows as f32 scales times fixed point in int8 digits.

use super::{Kernels, grid, require};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// `QuantiseArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    x: Span,
    digits: Span,
    scales: Span,
    sums: Span,
    width: u32,
    rows: u32,
    block: u32,
    group: u32,
    digit_count: u32,
    unused: u32,
}

/// Activations in fixed point: what `quantise` writes and `product` reads.
#[derive(Clone, Copy, Debug)]
pub struct FixedPoint<'a> {
    /// `[rows][digit_count][width]`, least significant digit first.
    pub digits: View<'a, i8>,
    /// `[rows][width / block]`.
    pub scales: View<'a, f32>,
    /// `[rows][width / group]`, scale times the sum over a group.
    pub sums: View<'a, f32>,
    /// Values that share a scale: 32 or 256.
    pub block: u32,
    /// Values that share a sum: 16 or 32.
    pub group: u32,
}

/// Inputs of [`Kernels::quantise`].
#[derive(Clone, Copy, Debug)]
pub struct Quantise<'a> {
    /// `[rows][width]`.
    pub x: View<'a, f32>,
    /// Values in a row, a multiple of the block.
    pub width: u32,
    /// Number of rows.
    pub rows: u32,
}

/// `FixedPointOut` in `tuned/fixed_point.h`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct FixedPointOut {
    digits: Span,
    scales: Span,
    sums: Span,
    block: u32,
    group: u32,
    digit_count: u32,
    unused: u32,
}

impl FixedPointOut {
    /// Nothing is written.
    pub(super) fn none() -> Self {
        Self { block: 256, group: 32, ..Self::zeroed() }
    }
}

impl FixedPoint<'_> {
    /// What a kernel that writes `rows` of `width` in fixed point reaches, and says so to it.
    pub(super) fn accesses(
        self,
        kernel: &Kernel,
        digit_count: usize,
        width: u32,
        rows: u32,
    ) -> Result<([Access; 3], FixedPointOut), DeviceError> {
        let Self { digits, scales, sums, block, group } = self;
        require(kernel, matches!(block, 32 | 256), "block", block, "32 or 256 are served")?;
        require(kernel, matches!(group, 16 | 32), "group", group, "16 or 32 are served")?;
        require(kernel, width.is_multiple_of(block), "width", width, "a multiple of the block is")?;
        let count = u64::from(rows) * u64::from(width);
        let accesses = [
            Access::write("digits", digits, count * digit_count as u64),
            Access::write("scales", scales, count / u64::from(block)),
            Access::write("sums", sums, count / u64::from(group)),
        ];
        let [digits, scales, sums] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let digit_count = u32::try_from(digit_count).unwrap_or(u32::MAX);
        let out = FixedPointOut { digits, scales, sums, block, group, digit_count, unused: 0 };
        Ok((accesses, out))
    }
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("quantise")
}

impl Kernels {
    /// Writes all three parts of `out`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short, or the block does not divide the width.
    pub fn quantise(&self, input: Quantise<'_>, out: FixedPoint<'_>) -> Result<(), DeviceError> {
        let Quantise { x, width, rows } = input;
        let kernel = &self.quantise;
        let (parts, fixed) = out.accesses(kernel, self.activations.digit_count(), width, rows)?;
        let x = Access::read("x", x, u64::from(rows) * u64::from(width));
        let FixedPointOut { digits, scales, sums, block, group, digit_count, .. } = fixed;
        let x_span = x.span();
        let arguments = Arguments {
            x: x_span,
            digits,
            scales,
            sums,
            width,
            rows,
            block,
            group,
            digit_count,
            unused: 0,
        };
        let [digits, scales, sums] = parts;
        let accesses = [x, digits, scales, sums];
        let grid = grid(kernel, u64::from(width / block), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
