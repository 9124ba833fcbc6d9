//! `rope_kv_write`: rope of q and k, and the cache's new positions, in one launch.

use super::aligned;
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::kernels::{KEY_TILE, Kernels, Position, grid, require};
use crate::options::KvType;
use bytemuck::{Pod, Zeroable};

/// Rows of a block; `ROPE_ROWS` in `rope_kv_write.hip`.
const ROWS: u32 = 64;
/// Dimensions of a block, two of each of its pairs.
const DIMENSIONS: u32 = 32;

/// `RopeKvWriteArguments` in `rope_kv_write.hip`.
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
    position: Span,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    rotated: u32,
    rows: u32,
    context: u32,
}

/// Inputs of [`Kernels::rope_kv_write`].
#[derive(Clone, Copy, Debug)]
pub struct RopeKvWrite<'a> {
    /// `[rows][heads][head_size]`.
    pub q: View<'a, f32>,
    /// `[rows][kv_heads][head_size]`.
    pub k: View<'a, f32>,
    /// `[rows][kv_heads][head_size]`.
    pub v: View<'a, f32>,
    /// `[positions][rotated / 2]`.
    pub cosine: View<'a, f32>,
    /// `[positions][rotated / 2]`.
    pub sine: View<'a, f32>,
    /// Query heads in a row.
    pub heads: u32,
    /// KV heads in a row.
    pub kv_heads: u32,
    /// Values in a head, even.
    pub head_size: u32,
    /// Leading values of a head that rotate, even.
    pub rotated: u32,
    /// Number of rows.
    pub rows: u32,
    /// Position of row 0.
    pub position: Position<'a>,
    /// Positions the cache holds, a multiple of 64.
    pub context: u32,
}

/// Outputs of [`Kernels::rope_kv_write`]; `E` is f32, or u16 for a cache in f16.
#[derive(Clone, Copy, Debug)]
pub struct Rotated<'a, E> {
    /// `[rows][heads][head_size]`.
    pub q_rope: View<'a, f32>,
    /// `[rows][kv_heads][head_size]`.
    pub k_rope: View<'a, f32>,
    /// One layer: `[kv_heads][context / 64][head_size][64]`.
    pub keys: View<'a, E>,
    /// One layer: `[kv_heads][context][head_size]`.
    pub values: View<'a, E>,
}

pub(super) fn load(device: &Device, kv: KvType) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>(match kv {
        KvType::F32 => "rope_kv_write_f32",
        KvType::F16 => "rope_kv_write_f16",
    })
}

pub(super) fn check<E: Pod>(
    kernel: &Kernel,
    input: &RopeKvWrite<'_>,
    out: &Rotated<'_, E>,
) -> Result<(), DeviceError> {
    let RopeKvWrite { heads, kv_heads, head_size, rotated, rows, context, .. } = *input;
    require(kernel, heads > 0, "heads", heads, "at least 1 is")?;
    require(kernel, kv_heads > 0, "kv_heads", kv_heads, "at least 1 is")?;
    require(kernel, head_size.is_multiple_of(2), "head_size", head_size, "an even one is")?;
    require(kernel, rotated.is_multiple_of(2), "rotated", rotated, "an even one is")?;
    require(kernel, rotated <= head_size, "rotated", rotated, "at most head_size is")?;
    require(kernel, context.is_multiple_of(KEY_TILE), "context", context, "a multiple of 64 is")?;
    let end = input.position.largest.saturating_add(rows);
    require(kernel, end <= context, "last position + 1", end, "at most the context is")?;
    for view in [input.q, input.k, input.v, out.q_rope, out.k_rope] {
        aligned(kernel, view)?;
    }
    Ok(())
}

/// What is reached, but for the position.
pub(super) fn accesses<E: Pod>(input: &RopeKvWrite<'_>, out: &Rotated<'_, E>) -> [Access; 9] {
    let RopeKvWrite { heads, kv_heads, head_size, rotated, rows, position, context, .. } = *input;
    let count = |heads: u32| u64::from(rows) * u64::from(heads) * u64::from(head_size);
    let cache = u64::from(context) * u64::from(kv_heads) * u64::from(head_size);
    let angles = (u64::from(position.largest) + u64::from(rows)) * u64::from(rotated / 2);
    [
        Access::read("q", input.q, count(heads)),
        Access::read("k", input.k, count(kv_heads)),
        Access::read("v", input.v, count(kv_heads)),
        Access::read("cosine", input.cosine, angles),
        Access::read("sine", input.sine, angles),
        Access::write("q_rope", out.q_rope, count(heads)),
        Access::write("k_rope", out.k_rope, count(kv_heads)),
        Access::update("keys", out.keys, cache),
        Access::update("values", out.values, cache),
    ]
}

impl Kernels {
    /// Writes all four parts of `out`, the cache at the new positions.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short, a size is not served, or the positions pass the
    /// context.
    pub fn rope_kv_write<E: Pod>(
        &self,
        input: RopeKvWrite<'_>,
        out: Rotated<'_, E>,
    ) -> Result<(), DeviceError> {
        let RopeKvWrite { heads, kv_heads, head_size, rotated, rows, position, context, .. } =
            input;
        let kernel = &self.tuned().attention.rope_kv_write;
        assert_eq!(size_of::<E>(), self.kv.element_bytes(), "element type of the KV cache");
        check(kernel, &input, &out)?;
        let mut accesses = accesses(&input, &out).to_vec();
        accesses.push(position.access());
        let [q, k, v, cosine, sine, q_rope, k_rope, keys, values, position] =
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|index: usize| accesses[index].span());
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
            position,
            heads,
            kv_heads,
            head_size,
            rotated,
            rows,
            context,
        };
        let strips = u64::from(head_size.div_ceil(DIMENSIONS));
        let any_heads = u64::from(heads) + 2 * u64::from(kv_heads);
        let grid = grid(kernel, any_heads * strips, u64::from(rows.div_ceil(ROWS)))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
