//! rope: rotates adjacent pairs of every head by the angle of its position.

use super::{Kernels, Position, grid, require};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// `RopeArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    x: Span,
    cosine: Span,
    sine: Span,
    out: Span,
    position: Span,
    heads: u32,
    head_size: u32,
    rotated: u32,
    rows: u32,
}

/// Inputs of [`Kernels::rope`].
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// `[rows][heads][head_size]`.
    pub x: View<'a, f32>,
    /// `[positions][rotated / 2]`.
    pub cosine: View<'a, f32>,
    /// `[positions][rotated / 2]`.
    pub sine: View<'a, f32>,
    /// Heads in a row.
    pub heads: u32,
    /// Values in a head, even.
    pub head_size: u32,
    /// Leading values of a head that rotate, even.
    pub rotated: u32,
    /// Number of rows.
    pub rows: u32,
    /// Position of row 0.
    pub position: Position<'a>,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("rope")
}

impl Kernels {
    /// `out[rows][heads][head_size]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape or the positions.
    pub fn rope(&self, input: Rope<'_>, out: View<'_, f32>) -> Result<(), DeviceError> {
        let Rope { x, cosine, sine, heads, head_size, rotated, rows, position } = input;
        let kernel = &self.rope;
        require(kernel, head_size.is_multiple_of(2), "head_size", head_size, "an even one is")?;
        let half = rotated / 2;
        require(kernel, rotated.is_multiple_of(2), "rotated", rotated, "an even one is")?;
        require(kernel, rotated <= head_size, "rotated", rotated, "at most head_size is")?;
        let count = u64::from(rows) * u64::from(heads) * u64::from(head_size);
        let angles = (u64::from(position.largest) + u64::from(rows)) * u64::from(half);
        let accesses = [
            Access::read("x", x, count),
            Access::read("cosine", cosine, angles),
            Access::read("sine", sine, angles),
            Access::write("out", out, count),
            position.access(),
        ];
        let [x, cosine, sine, out, position] =
            [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        let arguments =
            Arguments { x, cosine, sine, out, position, heads, head_size, rotated, rows };
        let grid = grid(kernel, u64::from(heads), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
