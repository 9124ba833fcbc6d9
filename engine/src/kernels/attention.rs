//! attention: `softmax(q k / sqrt(head_size)) v` over the cache, one block per head and row.

use super::kv_write::KEY_TILE;
use super::{Kernels, Position, grid, require};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::options::KvType;
use bytemuck::{Pod, Zeroable};

/// Largest head the kernel has shared memory for; `HEAD_SIZE_LARGEST` in attention.hip.
pub(crate) const HEAD_SIZE_LARGEST: u32 = 256;

/// `AttentionArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    q: Span,
    keys: Span,
    values: Span,
    out: Span,
    position: Span,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    rows: u32,
    context: u32,
    unused: u32,
}

/// Inputs of [`Kernels::attention`]; `E` is f32, or u16 for a cache in f16.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a, E> {
    /// `[rows][heads][head_size]`, after rope.
    pub q: View<'a, f32>,
    /// One layer: `[kv_heads][context / 64][head_size][64]`.
    pub keys: View<'a, E>,
    /// One layer: `[kv_heads][context][head_size]`.
    pub values: View<'a, E>,
    /// Query heads.
    pub heads: u32,
    /// KV heads, a divisor of `heads`.
    pub kv_heads: u32,
    /// Values in a head.
    pub head_size: u32,
    /// Number of rows.
    pub rows: u32,
    /// Position of row 0; row r attends to positions `0..=position` + r.
    pub position: Position<'a>,
    /// Positions the cache holds, a multiple of 64.
    pub context: u32,
}

pub(super) fn load(device: &Device, kv: KvType) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>(match kv {
        KvType::F32 => "attention_f32",
        KvType::F16 => "attention_f16",
    })
}

impl Kernels {
    /// `out[rows][heads][head_size]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short or a size is not served.
    pub fn attention<E: Pod>(
        &self,
        input: Attention<'_, E>,
        out: View<'_, f32>,
    ) -> Result<(), DeviceError> {
        let Attention { q, keys, values, heads, kv_heads, head_size, rows, .. } = input;
        let Attention { position, context, .. } = input;
        let kernel = &self.attention;
        assert_eq!(size_of::<E>(), self.kv.element_bytes(), "element type of the KV cache");
        require(
            kernel,
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "heads",
            heads,
            "a multiple of kv_heads is",
        )?;
        require(kernel, head_size <= HEAD_SIZE_LARGEST, "head_size", head_size, "at most 256 is")?;
        require(
            kernel,
            context.is_multiple_of(KEY_TILE),
            "context",
            context,
            "a multiple of 64 is",
        )?;
        let end = position.largest.saturating_add(rows);
        require(kernel, end <= context, "last position + 1", end, "at most the context is")?;
        let count = u64::from(rows) * u64::from(heads) * u64::from(head_size);
        let cache = u64::from(context) * u64::from(kv_heads) * u64::from(head_size);
        let accesses = [
            Access::read("q", q, count),
            Access::read("keys", keys, cache),
            Access::read("values", values, cache),
            Access::write("out", out, count),
            position.access(),
        ];
        let [q, keys, values, out, position] =
            [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        let arguments = Arguments {
            q,
            keys,
            values,
            out,
            position,
            heads,
            kv_heads,
            head_size,
            rows,
            context,
            unused: 0,
        };
        let grid = grid(kernel, u64::from(heads), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
