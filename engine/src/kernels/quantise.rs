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
        let FixedPoint { digits, scales, sums, block, group } = out;
        let kernel = &self.quantise;
        require(kernel, matches!(block, 32 | 256), "block", block, "32 or 256 are served")?;
        require(kernel, matches!(group, 16 | 32), "group", group, "16 or 32 are served")?;
        require(kernel, width.is_multiple_of(block), "width", width, "a multiple of the block is")?;
        let digit_count = u32::try_from(self.activations.digit_count()).unwrap_or(u32::MAX);
        let count = u64::from(rows) * u64::from(width);
        let accesses = [
            Access::read("x", x, count),
            Access::write("digits", digits, count * u64::from(digit_count)),
            Access::write("scales", scales, count / u64::from(block)),
            Access::write("sums", sums, count / u64::from(group)),
        ];
        let [x, digits, scales, sums] = [0, 1, 2, 3].map(|index: usize| accesses[index].span());
        let arguments = Arguments {
            x,
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
        let grid = grid(kernel, u64::from(width / block), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
