//! `swiglu_quantise`: `swiglu` and its result in fixed point in one launch.

use super::super::quantise::{FixedPoint, FixedPointOut};
use super::super::{Kernels, grid};
use super::{SLICE, aligned};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// `SwigluQuantiseArguments` in `swiglu_quantise.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    gate: Span,
    up: Span,
    out: Span,
    fixed: FixedPointOut,
    width: u32,
    rows: u32,
}

/// Inputs of [`Kernels::swiglu_quantise`].
#[derive(Clone, Copy, Debug)]
pub struct SwigluQuantise<'a> {
    /// `[rows][width]`.
    pub gate: View<'a, f32>,
    /// `[rows][width]`.
    pub up: View<'a, f32>,
    /// Values in a row.
    pub width: u32,
    /// Number of rows.
    pub rows: u32,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("swiglu_quantise")
}

impl Kernels {
    /// `out[rows][width]`, and the same in fixed point.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn swiglu_quantise(
        &self,
        input: SwigluQuantise<'_>,
        out: View<'_, f32>,
        fixed: FixedPoint<'_>,
    ) -> Result<(), DeviceError> {
        let SwigluQuantise { gate, up, width, rows } = input;
        let kernel = &self.tuned().swiglu_quantise;
        for view in [gate, up, out] {
            aligned(kernel, view)?;
        }
        let count = u64::from(rows) * u64::from(width);
        let accesses = vec![
            Access::read("gate", gate, count),
            Access::read("up", up, count),
            Access::write("out", out, count),
        ];
        let (accesses, fixed) = self.with_fixed(kernel, accesses, Some(fixed), width, rows)?;
        let [gate, up, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { gate, up, out, fixed, width, rows };
        let grid = grid(kernel, u64::from(width).div_ceil(SLICE), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
