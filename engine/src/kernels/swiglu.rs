//! swiglu: `out = (gate / (1 + exp(-gate))) * up`, element by element.

use super::{Kernels, grid};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// Values one block of threads writes; `SWIGLU_RUN` in swiglu.hip.
const RUN: u64 = 1024;

/// `SwigluArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    gate: Span,
    up: Span,
    out: Span,
    count: u32,
    unused: u32,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("swiglu")
}

impl Kernels {
    /// `gate`, `up` and `out` are `[count]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short.
    pub fn swiglu(
        &self,
        gate: View<'_, f32>,
        up: View<'_, f32>,
        out: View<'_, f32>,
        count: u32,
    ) -> Result<(), DeviceError> {
        let accesses = [
            Access::read("gate", gate, u64::from(count)),
            Access::read("up", up, u64::from(count)),
            Access::write("out", out, u64::from(count)),
        ];
        let [gate, up, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { gate, up, out, count, unused: 0 };
        let grid = grid(&self.swiglu, u64::from(count).div_ceil(RUN), 1)?;
        self.device.launch(&self.swiglu, grid, &accesses, &arguments)
    }
}
