//! What the tuned launchers of attention share: their kernels, and what they ask of views.

use super::attention_tiles::TileKernels;
use super::{aligned, attention_split, rope_kv_write};
use crate::device::{Device, DeviceError, Kernel};
use crate::kernels::attention::{Attention, HEAD_SIZE_LARGEST};
use crate::kernels::{KEY_TILE, require};
use crate::options::KvType;
use bytemuck::Pod;

/// The kernels for one type of cache.
#[derive(Debug)]
pub(super) struct AttentionKernels {
    pub(super) rope_kv_write: Kernel,
    pub(super) split: Kernel,
    pub(super) tiles: TileKernels,
}

impl AttentionKernels {
    pub(super) fn load(device: &Device, kv: KvType) -> Result<Self, DeviceError> {
        Ok(Self {
            rope_kv_write: rope_kv_write::load(device, kv)?,
            split: attention_split::load(device, kv)?,
            tiles: TileKernels::load(device, kv)?,
        })
    }
}

/// What every kernel that reads the cache asks of its input.
pub(super) fn check<E: Pod>(kernel: &Kernel, input: &Attention<'_, E>) -> Result<(), DeviceError> {
    let Attention { heads, kv_heads, head_size, rows, context, .. } = *input;
    let divides = kv_heads > 0 && heads.is_multiple_of(kv_heads);
    require(kernel, divides, "heads", heads, "a multiple of kv_heads is")?;
    let even = head_size > 0 && head_size.is_multiple_of(2);
    require(kernel, even, "head_size", head_size, "an even one is")?;
    require(kernel, head_size <= HEAD_SIZE_LARGEST, "head_size", head_size, "at most 256 is")?;
    require(kernel, context.is_multiple_of(KEY_TILE), "context", context, "a multiple of 64 is")?;
    let end = input.position.largest.saturating_add(rows);
    require(kernel, end <= context, "last position + 1", end, "at most the context is")?;
    aligned(kernel, input.q)?;
    aligned(kernel, input.keys)?;
    aligned(kernel, input.values)
}

/// The factor on scores: a root and a division, each rounded once, as on every device.
pub(super) fn scale(head_size: u32) -> f32 {
    1.0 / (head_size as f32).sqrt()
}
