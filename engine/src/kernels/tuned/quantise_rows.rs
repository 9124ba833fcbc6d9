//! `quantise_rows`: `quantise`, four values a thread.

use super::super::quantise::{FixedPoint, FixedPointOut, Quantise};
use super::super::{Kernels, grid};
use super::{SLICE, aligned};
use crate::device::{Access, Device, DeviceError, Kernel, Span};
use bytemuck::{Pod, Zeroable};

/// `QuantiseRowsArguments` in `quantise_rows.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    x: Span,
    fixed: FixedPointOut,
    width: u32,
    rows: u32,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("quantise_rows")
}

impl Kernels {
    /// What [`Kernels::quantise`] writes.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short, or the block does not divide the width.
    pub fn quantise_rows(
        &self,
        input: Quantise<'_>,
        out: FixedPoint<'_>,
    ) -> Result<(), DeviceError> {
        let Quantise { x, width, rows } = input;
        let kernel = &self.tuned().quantise_rows;
        aligned(kernel, x)?;
        let x = Access::read("x", x, u64::from(rows) * u64::from(width));
        let (accesses, fixed) = self.with_fixed(kernel, vec![x], Some(out), width, rows)?;
        let arguments = Arguments { x: accesses[0].span(), fixed, width, rows };
        let grid = grid(kernel, u64::from(width).div_ceil(SLICE), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
