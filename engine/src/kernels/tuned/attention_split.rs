//! `attention_split`: a row or two of attention over chunks of 64 positions, with rope and the
//! write to the cache in front of it where they are given, and fixed point behind it where that is
//! wanted.

use super::attention_parts::{check, scale};
use super::rope_kv_write::{self, RopeKvWrite, Rotated};
use crate::device::{Access, Device, DeviceError, Grid, Kernel, Span, View};
use crate::kernels::attention::Attention;
use crate::kernels::quantise::{FixedPoint, FixedPointOut};
use crate::kernels::{KEY_TILE, Kernels, grid, require};
use crate::options::KvType;
use bytemuck::{Pod, Zeroable};

/// Heads of a block; `STAGE_HEADS` in `attention_chunk.h`.
const HEADS: u32 = 8;

/// Rows of a launch at most; `SPLIT_ROWS` in `attention_chunk.h`.
pub(crate) const ROWS: u32 = 2;

/// Blocks that share a multiprocessor; as in `attention_split.hip`.
const BLOCKS_TOGETHER: u64 = 2;

/// Columns that a block joins; `SLICE` in `attention_join.h`.
const SLICE: u32 = 512;

/// `AttentionSplitArguments` in `attention_chunk.h`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    q: Span,
    k: Span,
    v: Span,
    cosine: Span,
    sine: Span,
    q_rope: Span,
    k_rope: Span,
    keys: Span,
    values: Span,
    maxima: Span,
    totals: Span,
    sums: Span,
    arrivals: Span,
    out: Span,
    position: Span,
    fixed: FixedPointOut,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    rotated: u32,
    rows: u32,
    context: u32,
    chunks: u32,
    stride: u32,
    scale: f32,
    head_inverse: u32,
}

/// What the blocks of a launch leave for each other.
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    /// `[rows][heads][chunks]`: m of CONTRACT.md section 10.
    pub maxima: View<'a, f32>,
    /// `[rows][heads][chunks]`: l.
    pub totals: View<'a, f32>,
    /// `[rows][heads][chunks][head_size]`: a.
    pub sums: View<'a, f32>,
    /// As many as [`arrivals_count`] says: zeros, before a launch and after it.
    pub arrivals: View<'a, u32>,
}

/// Chunks of 64 positions that `rows` rows need when row 0 is at position `largest`.
pub fn chunks_count(largest: u32, rows: u32) -> u32 {
    largest.saturating_add(rows).div_ceil(KEY_TILE)
}

/// Counters of arrivals for `rows` rows of `width` columns.
pub fn arrivals_count(width: u32, rows: u32) -> u32 {
    width.div_ceil(SLICE).saturating_mul(rows)
}

pub(super) fn load(device: &Device, kv: KvType) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>(match kv {
        KvType::F32 => "attention_split_f32",
        KvType::F16 => "attention_split_f16",
    })
}

/// Rope and the write to the cache in front of attention, as [`Kernels::rope_kv_write`] takes them.
type Front<'a, E> = (RopeKvWrite<'a>, Rotated<'a, E>);

/// The first nine accesses.
fn rows_and_cache<E: Pod>(input: &Attention<'_, E>, front: Option<Front<'_, E>>) -> Vec<Access> {
    if let Some((from, to)) = front {
        return rope_kv_write::accesses(&from, &to).into();
    }
    let Attention { q, keys, values, heads, kv_heads, head_size, rows, context, .. } = *input;
    let cache = u64::from(context) * u64::from(kv_heads) * u64::from(head_size);
    let mut accesses =
        vec![Access::read("q", q, u64::from(rows) * u64::from(heads) * u64::from(head_size))];
    accesses
        .extend(["k", "v", "cosine", "sine", "q_rope", "k_rope"].map(|n| Access::read(n, q, 0)));
    accesses.push(Access::read("keys", keys, cache));
    accesses.push(Access::read("values", values, cache));
    accesses
}

impl Kernels {
    /// `out[rows][heads][head_size]` of at most two rows, and the same in fixed point where that is
    /// wanted. With a front, `input` reads what that leaves. Writes all parts of `chunks`, for
    /// [`chunks_count`] chunks of the largest position. With a front, what the cache has of earlier
    /// positions has to be there when the launch in front begins, as it may be read from then on.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short, a size is not served, or the block of fixed point
    /// does not divide a row.
    ///
    /// # Panics
    /// With a front of another shape.
    pub fn attention_split<E: Pod>(
        &self,
        input: Attention<'_, E>,
        front: Option<(RopeKvWrite<'_>, Rotated<'_, E>)>,
        chunks: Chunks<'_>,
        out: View<'_, f32>,
        fixed: Option<FixedPoint<'_>>,
    ) -> Result<(), DeviceError> {
        let Attention { heads, kv_heads, head_size, rows, position, context, .. } = input;
        let kernel = &self.tuned().attention.split;
        assert_eq!(size_of::<E>(), self.kv.element_bytes(), "element type of the KV cache");
        if let Some((from, to)) = &front {
            let shape = (from.heads, from.head_size, from.rows, from.context);
            assert_eq!(shape, (heads, head_size, rows, context), "shape of the front");
            let caches = [(to.keys, input.keys), (to.values, input.values)];
            assert!(caches.iter().all(|(a, b)| a.address() == b.address()), "cache of the front");
            rope_kv_write::check(kernel, from, to)?;
        }
        check(kernel, &input)?;
        require(kernel, rows <= ROWS, "rows", rows, "at most 2 are")?;
        let count = chunks_count(position.largest, rows);
        let grid = self.split_grid(kernel, &input, count)?;
        let width = heads * head_size;
        let values = u64::from(rows) * u64::from(width);
        let parts = u64::from(rows) * u64::from(heads) * u64::from(count);
        let Chunks { maxima, totals, sums, arrivals } = chunks;
        let mut accesses = rows_and_cache(&input, front);
        accesses.extend([
            Access::update("maxima", maxima, parts),
            Access::update("totals", totals, parts),
            Access::update("sums", sums, parts * u64::from(head_size)),
            Access::update("arrivals", arrivals, u64::from(arrivals_count(width, rows))),
            Access::write("out", out, values),
            position.access(),
        ]);
        let (accesses, fixed) = self.with_fixed(kernel, accesses, fixed, width, rows)?;
        let [q, k, v, cosine, sine, q_rope, k_rope, keys, values] =
            [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|index: usize| accesses[index].span());
        let [maxima, totals, sums, arrivals, out, position] =
            [9, 10, 11, 12, 13, 14].map(|index: usize| accesses[index].span());
        let arguments = Arguments {
            q,
            k,
            v,
            cosine,
            sine,
            q_rope,
            k_rope,
            keys,
            values,
            maxima,
            totals,
            sums,
            arrivals,
            out,
            position,
            fixed,
            heads,
            kv_heads,
            head_size,
            rotated: front.map_or(0, |(from, _)| from.rotated),
            rows,
            context,
            chunks: count,
            stride: grid.x,
            scale: scale(head_size),
            head_inverse: inverse(head_size),
        };
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}

impl Kernels {
    /// As many of the chunks in hand at once as multiprocessors have room for, by the heads.
    fn split_grid<E: Pod>(
        &self,
        kernel: &Kernel,
        input: &Attention<'_, E>,
        chunks: u32,
    ) -> Result<Grid, DeviceError> {
        let Attention { heads, kv_heads, rows, .. } = *input;
        let of_head = (heads / kv_heads).div_ceil(HEADS);
        let runs = u64::from(rows) * u64::from(kv_heads) * u64::from(of_head);
        let at_once = u64::from(self.multiprocessors) * BLOCKS_TOGETHER / runs.max(1);
        let stride = u32::try_from(at_once).unwrap_or(chunks).clamp(1, chunks.max(1));
        grid(kernel, u64::from(stride), runs)
    }
}

/// 2^32 / `head_size`, rounded up: the upper half of its product with an index below 2^24 is the
/// index's head, since the error of 2^-32 times the index is less than one part of a head.
fn inverse(head_size: u32) -> u32 {
    u32::try_from((1_u64 << 32).div_ceil(u64::from(head_size))).expect("a head has at least two")
}
