//! Launchers of the tuned kernels: fast ways to what a plain kernel, or several, compute, bit for
//! bit. They are in the builds of GPUs and in the host's builds waves32 and waves64.

/// The kernels of a stem: a type each, with the names for one, two and three digits.
macro_rules! names {
    ($stem:literal: $($kind:ident $suffix:literal),*) => {
        [$((TensorType::$kind, [
            concat!($stem, "_", $suffix, "_i8"),
            concat!($stem, "_", $suffix, "_i16"),
            concat!($stem, "_", $suffix, "_i24"),
        ])),*]
    };
}

mod attention_parts;
mod attention_split;
#[cfg(test)]
mod attention_tests;
mod attention_tiles;
mod chunk_sums;
mod hash_rows;
mod norm_quantise;
mod product_stream;
mod product_stream_mixed;
mod product_tiles;
mod product_wave;
mod quantise_rows;
mod rope_kv_write;
#[cfg(test)]
mod rows_tests;
#[cfg(test)]
mod stream_mixed_tests;
#[cfg(test)]
mod stream_tests;
mod swiglu_quantise;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiles_tests;

pub use attention_split::{Chunks, arrivals_count, chunks_count};
pub use hash_rows::{HashTensor, RowDigest};
pub use norm_quantise::{Branch, NormQuantise};
pub use product_stream::{Gated, gate_arrivals_count};
pub use product_tiles::{split_chunks, split_values};
pub use product_wave::{ProductWave, WaveMatrix};
pub use rope_kv_write::{RopeKvWrite, Rotated};
pub use swiglu_quantise::SwigluQuantise;

pub(crate) use hash_rows::TENSORS as HASH_TENSORS;
pub(crate) use product_wave::MATRICES as WAVE_MATRICES;

use super::Kernels;
use super::quantise::{FixedPoint, FixedPointOut};
use crate::device::{Access, Device, DeviceError, Kernel, View};
use crate::gguf::TensorType;
use crate::options::{Activations, KvType};
use attention_parts::AttentionKernels;
use bytemuck::Pod;

/// Columns of a row that a block of threads brings into fixed point at once, four for each of
/// `BLOCK_THREADS` in platform.h.
const SLICE: u64 = 1024;

/// Bytes of the largest load or store, which views begin at a multiple of.
const LOAD_BYTES: u64 = 16;

/// The tuned kernels of a device that runs waves.
#[derive(Debug)]
pub(super) struct Tuned {
    attention: AttentionKernels,
    chunk_sums: Kernel,
    hash_rows: Kernel,
    norm_quantise: Kernel,
    /// Empty where the device has no pools of shared memory.
    product_stream: Vec<(TensorType, Kernel)>,
    /// By the type in front of Q6_K; empty there, too.
    product_stream_mixed: Vec<(TensorType, Kernel)>,
    product_tiles: Vec<(TensorType, Kernel)>,
    product_wave: Vec<(TensorType, Kernel)>,
    quantise_rows: Kernel,
    swiglu_quantise: Kernel,
}

impl Tuned {
    pub(super) fn load(
        device: &Device,
        activations: Activations,
        kv: KvType,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            attention: AttentionKernels::load(device, kv)?,
            chunk_sums: chunk_sums::load(device)?,
            hash_rows: hash_rows::load(device)?,
            norm_quantise: norm_quantise::load(device)?,
            product_stream: product_stream::load(device, activations)?,
            product_stream_mixed: product_stream_mixed::load(device, activations)?,
            product_tiles: product_tiles::load(device, activations)?,
            product_wave: product_wave::load(device, activations)?,
            quantise_rows: quantise_rows::load(device)?,
            swiglu_quantise: swiglu_quantise::load(device)?,
        })
    }
}

impl Kernels {
    /// Whether this device has the tuned kernels.
    pub fn has_tuned(&self) -> bool {
        self.tuned.is_some()
    }

    /// The tuned kernels.
    ///
    /// # Panics
    /// Where there are none.
    fn tuned(&self) -> &Tuned {
        self.tuned.as_ref().expect("the caller asked has_tuned")
    }

    /// Appends the three accesses of a result in fixed point, or three empty ones.
    fn with_fixed(
        &self,
        kernel: &Kernel,
        mut accesses: Vec<Access>,
        fixed: Option<FixedPoint<'_>>,
        width: u32,
        rows: u32,
    ) -> Result<(Vec<Access>, FixedPointOut), DeviceError> {
        let Some(fixed) = fixed else {
            return Ok((accesses, FixedPointOut::none()));
        };
        aligned(kernel, fixed.digits)?;
        let digit_count = self.activations().digit_count();
        let (parts, out) = fixed.accesses(kernel, digit_count, width, rows)?;
        accesses.extend(parts);
        Ok((accesses, out))
    }
}

/// Refuses a view that does not begin where the widest load may.
fn aligned<T: Pod>(kernel: &Kernel, view: View<'_, T>) -> Result<(), DeviceError> {
    if view.address().is_multiple_of(LOAD_BYTES) {
        return Ok(());
    }
    Err(DeviceError::Shape {
        kernel: kernel.name().to_owned(),
        what: "address of a view",
        value: view.address(),
        allowed: "a multiple of 16 is",
    })
}
