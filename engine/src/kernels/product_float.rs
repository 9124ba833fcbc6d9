//! `product_float`: `out[row] = weights . x[row]` for F32, F16 and BF16 weights.

use super::{Kernels, grid, of_type};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::gguf::TensorType;
use bytemuck::{Pod, Zeroable};

/// Outputs and rows of one block of threads; `FLOAT_*_RUN` in `product_float.hip`.
const OUTPUT_RUN: u64 = 32;
const ROW_RUN: u64 = 16;

const NAMES: [(TensorType, &str); 3] = [
    (TensorType::F32, "product_f32"),
    (TensorType::F16, "product_f16"),
    (TensorType::Bf16, "product_bf16"),
];

/// `ProductFloatArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    weights: Span,
    x: Span,
    out: Span,
    outputs: u32,
    width: u32,
    rows: u32,
    unused: u32,
}

/// Inputs of [`Kernels::product_float`].
#[derive(Clone, Copy, Debug)]
pub struct ProductFloat<'a> {
    /// `[outputs]` rows of `kind`, as in the file.
    pub weights: View<'a, u8>,
    /// Type of the weights.
    pub kind: TensorType,
    /// `[rows][width]`.
    pub x: View<'a, f32>,
    /// Rows of the matrix.
    pub outputs: u32,
    /// Values in a row of the matrix and of the activations.
    pub width: u32,
    /// Rows of activations.
    pub rows: u32,
}

pub(super) fn load(device: &Device) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    NAMES.iter().map(|(kind, name)| Ok((*kind, device.kernel::<Arguments>(name)?))).collect()
}

impl Kernels {
    /// `out[rows][outputs]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn product_float(
        &self,
        input: ProductFloat<'_>,
        out: View<'_, f32>,
    ) -> Result<(), DeviceError> {
        let ProductFloat { weights, kind, x, outputs, width, rows } = input;
        let kernel = of_type(&self.product_float, kind);
        let row_bytes = u64::from(width) * kind.block_bytes();
        let accesses = [
            Access::read("weights", weights, u64::from(outputs) * row_bytes),
            Access::read("x", x, u64::from(rows) * u64::from(width)),
            Access::write("out", out, u64::from(rows) * u64::from(outputs)),
        ];
        let [weights, x, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { weights, x, out, outputs, width, rows, unused: 0 };
        let (x, y) = (u64::from(outputs).div_ceil(OUTPUT_RUN), u64::from(rows).div_ceil(ROW_RUN));
        self.device.launch(kernel, grid(kernel, x, y)?, &accesses, &arguments)
    }
}
