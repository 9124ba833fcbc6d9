//! What the tuned launchers of attention share: their kernels, and what they ask of views.

use super::attention_tiles::TileKernels;
use super::{attention_chunks, attention_combine, rope_kv_write};
use crate::device::{Device, DeviceError, Kernel, View};
use crate::options::KvType;
use bytemuck::Pod;

/// Bytes of the largest load or store, which views begin at a multiple of.
const LOAD_BYTES: u64 = 16;

/// The kernels for one type of cache.
#[derive(Debug)]
pub(super) struct AttentionKernels {
    pub(super) rope_kv_write: Kernel,
    pub(super) chunks: Kernel,
    pub(super) combine: Kernel,
    pub(super) combine_quantise: Kernel,
    pub(super) tiles: TileKernels,
}

impl AttentionKernels {
    pub(super) fn load(device: &Device, kv: KvType) -> Result<Self, DeviceError> {
        Ok(Self {
            rope_kv_write: rope_kv_write::load(device, kv)?,
            chunks: attention_chunks::load(device, kv)?,
            combine: attention_combine::load(device)?,
            combine_quantise: attention_combine::load_quantise(device)?,
            tiles: TileKernels::load(device, kv)?,
        })
    }
}

/// Refuses a view that does not begin where the widest load may.
pub(super) fn aligned<T: Pod>(kernel: &Kernel, view: View<'_, T>) -> Result<(), DeviceError> {
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
