//! `product_wave`: products of few rows with up to three matrices of one type in one launch.

use super::super::product::{activation_group, check_layout, load_named};
use super::super::{FixedPoint, Kernels, grid, of_type};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::gguf::TensorType;
use crate::options::Activations;
use bytemuck::{Pod, Zeroable};

/// Matrices of one launch; `WAVE_MATRICES` in `few_rows.h`.
pub(crate) const MATRICES: usize = 3;

/// Outputs of a block of threads: eight units of 32 lanes with two each.
const OUTPUT_RUN: u64 = 16;

const NAMES: [(TensorType, [&str; 3]); 10] = names!(
    "product_wave": Q4_0 "q4_0", Q4_1 "q4_1", Q5_0 "q5_0", Q5_1 "q5_1", Q8_0 "q8_0",
    Q2K "q2_k", Q3K "q3_k", Q4K "q4_k", Q5K "q5_k", Q6K "q6_k"
);

/// `ProductWaveArguments` in `product_wave.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    weights: [Span; MATRICES],
    out: [Span; MATRICES],
    digits: Span,
    scales: Span,
    sums: Span,
    outputs: [u32; MATRICES],
    width: u32,
    rows: u32,
    unused: u32,
}

/// A matrix of [`Kernels::product_wave`], and where its product goes.
#[derive(Clone, Copy, Debug)]
pub struct WaveMatrix<'a> {
    /// `[outputs]` rows of the launch's type, as in the file.
    pub weights: View<'a, u8>,
    /// Rows of the matrix.
    pub outputs: u32,
    /// `[rows][outputs]`.
    pub out: View<'a, f32>,
}

/// Inputs of [`Kernels::product_wave`].
#[derive(Clone, Copy, Debug)]
pub struct ProductWave<'a> {
    /// Type of all matrices.
    pub kind: TensorType,
    /// The activations, in the layout of the type.
    pub x: FixedPoint<'a>,
    /// Values in a row of every matrix.
    pub width: u32,
    /// Rows of the activation.
    pub rows: u32,
}

/// The input of a launch, and its matrices, each with its type.
pub(super) type Products<'a> = (ProductWave<'a>, [TensorType; MATRICES], &'a [WaveMatrix<'a>]);

pub(super) fn load(
    device: &Device,
    activations: Activations,
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    load_named::<Arguments>(device, activations, &NAMES)
}

impl Kernels {
    /// The product of every matrix with the same rows.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    ///
    /// # Panics
    /// With no matrix, or more than three.
    pub fn product_wave(
        &self,
        input: ProductWave<'_>,
        matrices: &[WaveMatrix<'_>],
    ) -> Result<(), DeviceError> {
        let kernel = of_type(&self.tuned().product_wave, input.kind);
        let what = (input, [input.kind; MATRICES], matrices);
        let (accesses, outputs) = self.few_rows(kernel, what, true)?;
        let span = |index: usize| accesses[index].span();
        let arguments = Arguments {
            weights: [0, 1, 2].map(span),
            out: [3, 4, 5].map(span),
            digits: span(6),
            scales: span(7),
            sums: span(8),
            outputs,
            width: input.width,
            rows: input.rows,
            unused: 0,
        };
        let runs = matrices.iter().map(|matrix| u64::from(matrix.outputs).div_ceil(OUTPUT_RUN));
        let grid = grid(kernel, runs.sum(), u64::from(input.rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }

    /// What both kernels for few rows reach: three weights, three results, then digits, scales and
    /// sums, which `reads` says are read; and the outputs of each matrix.
    pub(super) fn few_rows(
        &self,
        kernel: &Kernel,
        (input, kinds, matrices): Products<'_>,
        reads: bool,
    ) -> Result<(Vec<Access>, [u32; MATRICES]), DeviceError> {
        let ProductWave { kind, x, width, rows } = input;
        assert!((1..=MATRICES).contains(&matrices.len()), "{} matrices", matrices.len());
        for kind in kinds {
            check_layout(kernel, kind, x, width)?;
        }
        let count = if reads { u64::from(rows) * u64::from(width) } else { 0 };
        // A place without a matrix repeats the last one's views with nothing read or written.
        let place = |index: usize| {
            let matrix = &matrices[index.min(matrices.len() - 1)];
            (matrix, if index < matrices.len() { matrix.outputs } else { 0 })
        };
        let mut accesses = Vec::with_capacity(2 * MATRICES + 3);
        for ((matrix, outputs), kind) in (0..MATRICES).map(place).zip(kinds) {
            let row_bytes = u64::from(width) / kind.block_values() * kind.block_bytes();
            accesses.push(Access::read("weights", matrix.weights, u64::from(outputs) * row_bytes));
        }
        for (matrix, outputs) in (0..MATRICES).map(place) {
            accesses.push(Access::write("out", matrix.out, u64::from(rows) * u64::from(outputs)));
        }
        let digits = count * self.activations().digit_count() as u64;
        accesses.push(Access::read("digits", x.digits, digits));
        accesses.push(Access::read("scales", x.scales, count / u64::from(x.block)));
        let sums = count / u64::from(activation_group(kind));
        accesses.push(Access::read("sums", x.sums, sums));
        Ok((accesses, [0, 1, 2].map(|index| place(index).1)))
    }
}
