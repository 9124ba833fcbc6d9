//! `product_stream_mixed`: a norm, and products of its row with matrices of two types.

use super::super::{Kernels, grid, of_type};
use super::norm_quantise::NormQuantise;
use super::product_stream::{Arguments as Stream, Ends, Plan, load_where_pools, plan, tiles};
use super::product_wave::{MATRICES, ProductWave, WaveMatrix};
use crate::device::{Device, DeviceError, Kernel, Pool, View};
use crate::gguf::TensorType;
use crate::options::Activations;
use bytemuck::{Pod, Zeroable};

const ENDS: Ends = Ends { has_norm: true, is_gated: false };

/// By the first type; the second is Q6_K.
const NAMES: [(TensorType, [&str; 3]); 2] = names!("product_stream_mixed": Q4K "q4_k", Q5K "q5_k");

/// `ProductStreamMixedArguments` in `product_stream_mixed.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    products: Stream,
    q6_k_first: u32,
    q6_k_stride: u32,
}

pub(super) fn load(
    device: &Device,
    activations: Activations,
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    load_where_pools::<Arguments>(device, activations, &NAMES)
}

impl Kernels {
    /// Whether [`Kernels::norm_product_stream_mixed`] serves matrices of type `kind` and so many
    /// outputs, and matrices of Q6_K, on this device.
    pub fn serves_norm_product_stream_mixed(
        &self,
        (kind, width, rows): (TensorType, u32, u32),
        outputs: [&[u32]; 2],
    ) -> bool {
        self.mixed_plans((kind, width, rows), outputs).is_some()
    }

    /// A plan for each type. Every multiprocessor has one block of threads, of the one type or the
    /// other, so that the largest share of the weights is as small as can be.
    fn mixed_plans(
        &self,
        (kind, width, rows): (TensorType, u32, u32),
        outputs: [&[u32]; 2],
    ) -> Option<[Plan; 2]> {
        let mut kernels = self.tuned().product_stream_mixed.iter();
        let count = outputs.concat().len();
        let has_both = outputs.iter().all(|outputs| !outputs.is_empty()) && count <= MATRICES;
        if rows != 1 || !has_both || !kernels.any(|(first, _)| *first == kind) {
            return None;
        }
        let largest = |q6_k: &u32| {
            let bytes = |kind: TensorType, outputs: &[u32], share: u32| {
                tiles(outputs.iter().copied()).div_ceil(u64::from(share)) * kind.block_bytes()
            };
            let first = bytes(kind, outputs[0], self.multiprocessors - q6_k);
            first.max(bytes(TensorType::Q6K, outputs[1], *q6_k))
        };
        let q6_k = (1..self.multiprocessors).min_by_key(largest)?;
        let share = [self.multiprocessors - q6_k, q6_k];
        self.plans_that_fit(|threads| self.mixed_plans_of((kind, width), outputs, (share, threads)))
    }

    /// Both with the memory of the one that needs more.
    fn mixed_plans_of(
        &self,
        (kind, width): (TensorType, u32),
        outputs: [&[u32]; 2],
        (share, threads): ([u32; 2], u32),
    ) -> Option<[Plan; 2]> {
        let digit_count = self.activations().digit_count() as u64;
        let of = |kind, index: usize| {
            let outputs = outputs[index].iter().copied();
            plan(kind, digit_count, width, outputs, (share[index], threads), ENDS)
        };
        let plans = [of(kind, 0)?, of(TensorType::Q6K, 1)?];
        let bytes = plans[0].pool.bytes.max(plans[1].pool.bytes);
        Some(plans.map(|plan| Plan { pool: Pool { bytes, ..plan.pool }, ..plan }))
    }

    /// [`Kernels::norm_product_stream`] of matrices of `input.kind`, and of matrices of Q6_K.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    ///
    /// # Panics
    /// With a norm of another shape, or what [`Kernels::serves_norm_product_stream_mixed`] does not
    /// name.
    pub fn norm_product_stream_mixed(
        &self,
        normalised: NormQuantise<'_>,
        norm: View<'_, f32>,
        input: ProductWave<'_>,
        matrices: [&[WaveMatrix<'_>]; 2],
    ) -> Result<(), DeviceError> {
        let ProductWave { kind, width, rows, .. } = input;
        let [first, q6_k] = matrices.map(outputs_of);
        let plans = self.mixed_plans((kind, width, rows), [&first, &q6_k]);
        let plans = plans.unwrap_or_else(|| {
            panic!("{kind} {first:?}, Q6_K {q6_k:?}, {width} values in {rows} rows")
        });
        let kernel = of_type(&self.tuned().product_stream_mixed, kind);
        let kernel = &kernel.with_pool(plans[0].pool);
        let kinds = [0, 1, 2].map(|index| if index < first.len() { kind } else { TensorType::Q6K });
        let matrices = matrices.concat();
        let what = (input, kinds, &matrices[..]);
        let norm = Some((normalised, norm));
        let (accesses, products) = self.stream_arguments(kernel, plans[0], norm, what, None)?;
        let q6_k_first = u32::try_from(first.len()).expect("at most three");
        let q6_k_stride = plans[1].stride;
        let grid = grid(kernel, u64::from(plans[0].stride) + u64::from(q6_k_stride), 1)?;
        let arguments = Arguments { products, q6_k_first, q6_k_stride };
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}

fn outputs_of(matrices: &[WaveMatrix<'_>]) -> Vec<u32> {
    matrices.iter().map(|matrix| matrix.outputs).collect()
}
