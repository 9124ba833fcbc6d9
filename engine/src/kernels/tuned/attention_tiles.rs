//! `attention_tiles`: attention for many rows, 64 queries by 64 keys at a time.

use super::aligned;
use super::attention_parts::{check, scale};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::kernels::attention::Attention;
use crate::kernels::{Kernels, grid};
use crate::options::KvType;
use bytemuck::{Pod, Zeroable};

/// Queries of a block; `TILE_QUERIES` in `attention_tiles.hip`.
const QUERIES: u32 = 64;

/// `AttentionTilesArguments` in `attention_tiles.hip`.
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
    scale: f32,
}

/// The kernels for heads of 64 and of 128 values.
#[derive(Debug)]
pub(super) struct TileKernels {
    heads_of_64: Kernel,
    heads_of_128: Kernel,
}

impl TileKernels {
    pub(super) fn load(device: &Device, kv: KvType) -> Result<Self, DeviceError> {
        let (heads_of_64, heads_of_128) = match kv {
            KvType::F32 => ("attention_tiles_64_f32", "attention_tiles_128_f32"),
            KvType::F16 => ("attention_tiles_64_f16", "attention_tiles_128_f16"),
        };
        Ok(Self {
            heads_of_64: device.kernel::<Arguments>(heads_of_64)?,
            heads_of_128: device.kernel::<Arguments>(heads_of_128)?,
        })
    }

    fn of(&self, head_size: u32) -> Option<&Kernel> {
        match head_size {
            64 => Some(&self.heads_of_64),
            128 => Some(&self.heads_of_128),
            _ => None,
        }
    }
}

impl Kernels {
    /// Whether [`Kernels::attention_tiles`] is there for heads of this size.
    pub fn serves_attention_tiles(&self, head_size: u32) -> bool {
        self.has_tuned() && self.tuned().attention.tiles.of(head_size).is_some()
    }

    /// `out[rows][heads][head_size]`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short or a size is not served.
    pub fn attention_tiles<E: Pod>(
        &self,
        input: Attention<'_, E>,
        out: View<'_, f32>,
    ) -> Result<(), DeviceError> {
        let Attention { heads, kv_heads, head_size, rows, position, context, .. } = input;
        let tiles = &self.tuned().attention.tiles;
        let kernel = tiles.of(head_size).ok_or_else(|| DeviceError::Shape {
            kernel: "attention_tiles".to_owned(),
            what: "head_size",
            value: u64::from(head_size),
            allowed: "64 and 128 are served",
        })?;
        assert_eq!(size_of::<E>(), self.kv.element_bytes(), "element type of the KV cache");
        check(kernel, &input)?;
        aligned(kernel, out)?;
        let count = u64::from(rows) * u64::from(heads) * u64::from(head_size);
        let cache = u64::from(context) * u64::from(kv_heads) * u64::from(head_size);
        let accesses = [
            Access::read("q", input.q, count),
            Access::read("keys", input.keys, cache),
            Access::read("values", input.values, cache),
            Access::write("out", out, count),
            position.access(),
        ];
        let [q, keys, values, out, position] =
            [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        let scale = scale(head_size);
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
            scale,
        };
        let grid = grid(kernel, u64::from(heads), u64::from(rows.div_ceil(QUERIES)))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
