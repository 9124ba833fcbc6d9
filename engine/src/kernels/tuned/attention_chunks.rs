//! `attention_chunks`: every chunk of 64 positions by itself, for `attention_combine` to join.

use super::attention_parts::aligned;
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::kernels::attention::{Attention, HEAD_SIZE_LARGEST};
use crate::kernels::{KEY_TILE, Kernels, grid, require};
use crate::options::KvType;
use bytemuck::{Pod, Zeroable};

/// Heads of a block; `STAGE_HEADS` in `attention_chunks.hip`.
const HEADS: u32 = 8;

/// Blocks that share a multiprocessor; as in `attention_chunks.hip`.
const BLOCKS_TOGETHER: u64 = 4;

/// `AttentionChunksArguments` in `attention_chunks.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    q: Span,
    keys: Span,
    values: Span,
    maxima: Span,
    totals: Span,
    sums: Span,
    position: Span,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    rows: u32,
    context: u32,
    chunks: u32,
    scale: f32,
    stride: u32,
}

/// What `attention_chunks` leaves for `attention_combine`.
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    /// `[rows][heads][chunks]`: m of CONTRACT.md section 10.
    pub maxima: View<'a, f32>,
    /// `[rows][heads][chunks]`: l.
    pub totals: View<'a, f32>,
    /// `[rows][heads][chunks][head_size]`: a.
    pub sums: View<'a, f32>,
}

/// Chunks of 64 positions that `rows` rows need when row 0 is at position `largest`.
pub fn chunks_count(largest: u32, rows: u32) -> u32 {
    largest.saturating_add(rows).div_ceil(KEY_TILE)
}

pub(super) fn load(device: &Device, kv: KvType) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>(match kv {
        KvType::F32 => "attention_chunks_f32",
        KvType::F16 => "attention_chunks_f16",
    })
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

impl Kernels {
    /// Writes all three parts of `out`, for [`chunks_count`] chunks of the largest position.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short or a size is not served.
    pub fn attention_chunks<E: Pod>(
        &self,
        input: Attention<'_, E>,
        out: Chunks<'_>,
    ) -> Result<(), DeviceError> {
        let Attention { heads, kv_heads, head_size, rows, position, context, .. } = input;
        let kernel = &self.tuned().attention.chunks;
        assert_eq!(size_of::<E>(), self.kv.element_bytes(), "element type of the KV cache");
        check(kernel, &input)?;
        let chunks = chunks_count(position.largest, rows);
        let of_chunk = u64::from(kv_heads) * u64::from((heads / kv_heads).div_ceil(HEADS));
        let blocks = u64::from(self.multiprocessors) * BLOCKS_TOGETHER;
        let at_once = blocks / (of_chunk * u64::from(rows.max(1)));
        let stride = u32::try_from(at_once).unwrap_or(chunks).clamp(1, chunks.max(1));
        let row_heads = u64::from(rows) * u64::from(heads);
        let cache = u64::from(context) * u64::from(kv_heads) * u64::from(head_size);
        let parts = row_heads * u64::from(chunks);
        let accesses = [
            Access::read("q", input.q, row_heads * u64::from(head_size)),
            Access::read("keys", input.keys, cache),
            Access::read("values", input.values, cache),
            Access::update("maxima", out.maxima, parts),
            Access::update("totals", out.totals, parts),
            Access::update("sums", out.sums, parts * u64::from(head_size)),
            position.access(),
        ];
        let [q, keys, values, maxima, totals, sums, position] =
            [0, 1, 2, 3, 4, 5, 6].map(|index: usize| accesses[index].span());
        let arguments = Arguments {
            q,
            keys,
            values,
            maxima,
            totals,
            sums,
            position,
            heads,
            kv_heads,
            head_size,
            rows,
            context,
            chunks,
            scale: scale(head_size),
            stride,
        };
        let grid = grid(kernel, u64::from(stride) * of_chunk, u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
