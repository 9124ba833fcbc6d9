//! product: `out[row] = weights . x[row]` for quantised weights and activations in fixed point.

use super::{FixedPoint, Kernels, activation_block, grid, of_type, require};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::gguf::TensorType;
use crate::options::Activations;
use bytemuck::{Pod, Zeroable};

/// Outputs and rows of one block of threads; `OUTPUT_RUN` and `ROW_RUN` in product.hip.
const OUTPUT_RUN: u64 = 32;
const ROW_RUN: u64 = 16;

/// Type, then the kernels for one, two and three digits.
const NAMES: [(TensorType, [&str; 3]); 10] = [
    (TensorType::Q4_0, ["product_q4_0_i8", "product_q4_0_i16", "product_q4_0_i24"]),
    (TensorType::Q4_1, ["product_q4_1_i8", "product_q4_1_i16", "product_q4_1_i24"]),
    (TensorType::Q5_0, ["product_q5_0_i8", "product_q5_0_i16", "product_q5_0_i24"]),
    (TensorType::Q5_1, ["product_q5_1_i8", "product_q5_1_i16", "product_q5_1_i24"]),
    (TensorType::Q8_0, ["product_q8_0_i8", "product_q8_0_i16", "product_q8_0_i24"]),
    (TensorType::Q2K, ["product_q2_k_i8", "product_q2_k_i16", "product_q2_k_i24"]),
    (TensorType::Q3K, ["product_q3_k_i8", "product_q3_k_i16", "product_q3_k_i24"]),
    (TensorType::Q4K, ["product_q4_k_i8", "product_q4_k_i16", "product_q4_k_i24"]),
    (TensorType::Q5K, ["product_q5_k_i8", "product_q5_k_i16", "product_q5_k_i24"]),
    (TensorType::Q6K, ["product_q6_k_i8", "product_q6_k_i16", "product_q6_k_i24"]),
];

/// `ProductArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Arguments {
    weights: Span,
    digits: Span,
    scales: Span,
    sums: Span,
    out: Span,
    outputs: u32,
    width: u32,
    rows: u32,
    chunks: u32,
}

/// Inputs of [`Kernels::product`].
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// `[outputs]` rows of `kind`, as in the file.
    pub weights: View<'a, u8>,
    /// Type of the weights.
    pub kind: TensorType,
    /// `[rows][width]` in the block and group of the type.
    pub x: FixedPoint<'a>,
    /// Rows of the matrix.
    pub outputs: u32,
    /// Values in a row of the matrix and of the activations.
    pub width: u32,
    /// Rows of activations.
    pub rows: u32,
}

/// What one block of threads computes of a product.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Outputs.
    pub(super) outputs: u64,
    /// Rows of activations.
    pub(super) rows: u64,
    /// Chunks that a block of threads stores one by one, if it does not take all.
    pub(super) chunks: Option<u32>,
}

/// Chunks of CONTRACT.md section 6 in a row.
pub(super) fn chunk_count(kind: TensorType, width: u32) -> u64 {
    let values = if activation_block(kind) == Some(32) { 8 * 32 } else { 4 * 256 };
    u64::from(width).div_ceil(values)
}

/// Values that share a sum in products with a type (CONTRACT.md section 5, step 4).
pub(crate) fn activation_group(kind: TensorType) -> u32 {
    if kind == TensorType::Q2K { 16 } else { 32 }
}

/// Requires that activations are in the layout that a type reads.
pub(super) fn check_layout(
    kernel: &Kernel,
    kind: TensorType,
    x: FixedPoint<'_>,
    width: u32,
) -> Result<(), DeviceError> {
    let block = x.block;
    require(kernel, activation_block(kind) == Some(block), "block", block, "the type's is")?;
    require(kernel, activation_group(kind) == x.group, "group", x.group, "the type's is")?;
    require(kernel, width.is_multiple_of(block), "width", width, "a multiple of the block is")
}

pub(super) fn load(
    device: &Device,
    activations: Activations,
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    load_named::<Arguments>(device, activations, &NAMES)
}

/// Finds the kernels of a table like [`NAMES`]; `A` is their argument structure.
pub(super) fn load_named<A: Pod>(
    device: &Device,
    activations: Activations,
    names: &[(TensorType, [&'static str; 3])],
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    let find = |(kind, names): &(TensorType, [&'static str; 3])| {
        let name = names[activations.digit_count() - 1];
        Ok((*kind, device.kernel::<A>(name)?))
    };
    names.iter().map(find).collect()
}

impl Kernels {
    /// `out[rows][outputs]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn product(&self, input: Product<'_>, out: View<'_, f32>) -> Result<(), DeviceError> {
        let run = Run { outputs: OUTPUT_RUN, rows: ROW_RUN, chunks: None };
        self.launch_product(of_type(&self.product, input.kind), input, out, run)
    }

    /// Launches a kernel that computes a product and takes `ProductArguments`.
    pub(super) fn launch_product(
        &self,
        kernel: &Kernel,
        input: Product<'_>,
        out: View<'_, f32>,
        run: Run,
    ) -> Result<(), DeviceError> {
        let Product { weights, kind, x, outputs, width, rows } = input;
        check_layout(kernel, kind, x, width)?;
        let row_bytes = u64::from(width) / kind.block_values() * kind.block_bytes();
        let count = u64::from(rows) * u64::from(width);
        let digits = count * self.activations.digit_count() as u64;
        // Sums stored, and blocks of threads for one tile.
        let (chunks, parts) = run.chunks.map_or((1, 1), |each| {
            let chunks = chunk_count(kind, width);
            (chunks, chunks.div_ceil(u64::from(each.max(1))))
        });
        let accesses = [
            Access::read("weights", weights, u64::from(outputs) * row_bytes),
            Access::read("digits", x.digits, digits),
            Access::read("scales", x.scales, count / u64::from(x.block)),
            Access::read("sums", x.sums, count / u64::from(x.group)),
            Access::write("out", out, u64::from(rows) * u64::from(outputs) * chunks),
        ];
        let [weights, digits, scales, sums, out] =
            [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        let chunks = run.chunks.map_or(0, |each| each.max(1));
        let arguments =
            Arguments { weights, digits, scales, sums, out, outputs, width, rows, chunks };
        let x = u64::from(outputs).div_ceil(run.outputs);
        let y = u64::from(rows).div_ceil(run.rows) * parts;
        self.device.launch(kernel, grid(kernel, x, y)?, &accesses, &arguments)
    }
}
