//! residual: `out = x + branch`, element by element.

use super::{Kernels, grid};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// Values one block of threads writes; `RESIDUAL_RUN` in residual.hip.
const RUN: u64 = 1024;

/// `ResidualArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    x: Span,
    branch: Span,
    out: Span,
    count: u32,
    unused: u32,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("residual")
}

impl Kernels {
    /// `x`, `branch` and `out` are `[count]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short.
    pub fn residual(
        &self,
        x: View<'_, f32>,
        branch: View<'_, f32>,
        out: View<'_, f32>,
        count: u32,
    ) -> Result<(), DeviceError> {
        let accesses = [
            Access::read("x", x, u64::from(count)),
            Access::read("branch", branch, u64::from(count)),
            Access::write("out", out, u64::from(count)),
        ];
        let [x, branch, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { x, branch, out, count, unused: 0 };
        let grid = grid(&self.residual, u64::from(count).div_ceil(RUN), 1)?;
        self.device.launch(&self.residual, grid, &accesses, &arguments)
    }
}
