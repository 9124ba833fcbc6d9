//! `rms_norm`: `out[row] = x[row] / sqrt(mean(x[row]^2) + epsilon) * weight`, one block per row.

use super::{Kernels, grid};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// `RmsNormArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    x: Span,
    weight: Span,
    out: Span,
    width: u32,
    rows: u32,
    epsilon: f32,
    unused: u32,
}

/// Inputs of [`Kernels::rms_norm`].
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// `[rows][width]`.
    pub x: View<'a, f32>,
    /// `[width]`.
    pub weight: View<'a, f32>,
    /// Values in a row.
    pub width: u32,
    /// Number of rows.
    pub rows: u32,
    /// Added to the mean of squares.
    pub epsilon: f32,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("rms_norm")
}

impl Kernels {
    /// `out[rows][width]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn rms_norm(&self, input: RmsNorm<'_>, out: View<'_, f32>) -> Result<(), DeviceError> {
        let RmsNorm { x, weight, width, rows, epsilon } = input;
        let count = u64::from(rows) * u64::from(width);
        let accesses = [
            Access::read("x", x, count),
            Access::read("weight", weight, u64::from(width)),
            Access::write("out", out, count),
        ];
        let [x, weight, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { x, weight, out, width, rows, epsilon, unused: 0 };
        let grid = grid(&self.rms_norm, u64::from(rows), 1)?;
        self.device.launch(&self.rms_norm, grid, &accesses, &arguments)
    }
}
