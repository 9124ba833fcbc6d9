//! `kv_write`: stores keys and values of new positions in one layer's cache.

use super::{Kernels, Position, grid, require};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::options::KvType;
use bytemuck::{Pod, Zeroable};

/// Positions in a tile of keys; the caches hold a multiple of it.
pub(crate) const KEY_TILE: u32 = 64;

/// `KvWriteArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    k: Span,
    v: Span,
    keys: Span,
    values: Span,
    position: Span,
    kv_heads: u32,
    head_size: u32,
    rows: u32,
    context: u32,
}

/// Inputs of [`Kernels::kv_write`].
#[derive(Clone, Copy, Debug)]
pub struct KvWrite<'a> {
    /// `[rows][kv_heads][head_size]`, after rope.
    pub k: View<'a, f32>,
    /// `[rows][kv_heads][head_size]`.
    pub v: View<'a, f32>,
    /// KV heads in a row.
    pub kv_heads: u32,
    /// Values in a head.
    pub head_size: u32,
    /// New positions.
    pub rows: u32,
    /// Position of row 0.
    pub position: Position<'a>,
    /// Positions the cache holds, a multiple of 64.
    pub context: u32,
}

pub(super) fn load(device: &Device, kv: KvType) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>(match kv {
        KvType::F32 => "kv_write_f32",
        KvType::F16 => "kv_write_f16",
    })
}

impl Kernels {
    /// Writes into one layer's `keys[kv_heads][context / 64][head_size][64]` and
    /// `values[kv_heads][context][head_size]`, whose elements are of the cache type.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short or the positions pass the context.
    pub fn kv_write<E: Pod>(
        &self,
        input: KvWrite<'_>,
        keys: View<'_, E>,
        values: View<'_, E>,
    ) -> Result<(), DeviceError> {
        let KvWrite { k, v, kv_heads, head_size, rows, position, context } = input;
        let kernel = &self.kv_write;
        assert_eq!(size_of::<E>(), self.kv.element_bytes(), "element type of the KV cache");
        require(
            kernel,
            context.is_multiple_of(KEY_TILE),
            "context",
            context,
            "a multiple of 64 is",
        )?;
        let end = position.largest.saturating_add(rows);
        require(kernel, end <= context, "last position + 1", end, "at most the context is")?;
        let count = u64::from(rows) * u64::from(kv_heads) * u64::from(head_size);
        let cache = u64::from(context) * u64::from(kv_heads) * u64::from(head_size);
        let accesses = [
            Access::read("k", k, count),
            Access::read("v", v, count),
            Access::update("keys", keys, cache),
            Access::update("values", values, cache),
            position.access(),
        ];
        let [k, v, keys, values, position] =
            [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        let arguments =
            Arguments { k, v, keys, values, position, kv_heads, head_size, rows, context };
        let grid = grid(kernel, u64::from(kv_heads), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
