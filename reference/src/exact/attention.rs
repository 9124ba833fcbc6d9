//! Sections 9 and 10: the cache of keys and values, and one head's attention over it.

use half::f16;

use super::exponential::exp32_lanes;
use super::simd::{Kernel, LANES, Lanes};
use crate::KvType;

/// Positions in a chunk.
pub(super) const CHUNK: usize = 64;
/// Vectors that hold a chunk's scores.
const SCORES: usize = CHUNK / LANES;

/// Keys and values of one layer, cut into chunks of positions.
pub(super) struct Cache {
    shape: Shape,
    chunks: Vec<Chunk>,
}

/// What a layer's cache holds for a position.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) kv_heads: usize,
    pub(super) head_size: usize,
    pub(super) kv: KvType,
}

impl Shape {
    /// The width of a value row: whole vectors, the rest zeros.
    const fn stride(self) -> usize {
        self.head_size.next_multiple_of(LANES)
    }
}

struct Chunk {
    /// `[kv_head][d][position]`, so that a vector holds positions.
    keys: Vec<f32>,
    /// `[kv_head][position][d]`, so that a vector holds dimensions.
    values: Vec<f32>,
}

impl Cache {
    pub(super) const fn new(shape: Shape) -> Self {
        Self { shape, chunks: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Stores the keys and values of a position, all heads side by side.
    pub(super) fn append(&mut self, position: usize, keys: &[f32], values: &[f32]) {
        let Shape { kv_heads, head_size, kv } = self.shape;
        let stride = self.shape.stride();
        let (chunk, slot) = (position / CHUNK, position % CHUNK);
        if chunk == self.chunks.len() {
            let keys = vec![0.0; kv_heads * head_size * CHUNK];
            self.chunks.push(Chunk { keys, values: vec![0.0; kv_heads * stride * CHUNK] });
        }
        let chunk = &mut self.chunks[chunk];
        for (index, key) in keys.iter().enumerate() {
            chunk.keys[index * CHUNK + slot] = stored(kv, *key);
        }
        for (head, values) in values.chunks_exact(head_size).enumerate() {
            let row = &mut chunk.values[(head * CHUNK + slot) * stride..][..head_size];
            for (place, value) in row.iter_mut().zip(values) {
                *place = stored(kv, *value);
            }
        }
    }
}

/// What is read back of a value that was stored.
fn stored(kv: KvType, value: f32) -> f32 {
    match kv {
        KvType::F32 => value,
        KvType::F16 => f16::from_f32(value).to_f32(),
    }
}

/// One query head over the positions 0..=`position`.
pub(super) struct Attend<'a> {
    pub(super) cache: &'a Cache,
    pub(super) kv_head: usize,
    pub(super) position: usize,
    pub(super) query: &'a [f32],
    pub(super) out: &'a mut [f32],
}

/// The state of a chunk, or of all chunks so far.
struct Partial<'a> {
    largest: f32,
    sum: f32,
    values: &'a mut [f32],
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let shape = self.cache.shape;
        let (head_size, stride) = (shape.head_size, shape.stride());
        let scale = 1.0 / (head_size as f32).sqrt();
        let mut scratch = vec![0.0; 2 * stride];
        let (total, part) = scratch.split_at_mut(stride);
        let mut total = Partial { largest: 0.0, sum: 0.0, values: total };
        for index in 0..=self.position / CHUNK {
            let chunk = &self.cache.chunks[index];
            let count = CHUNK.min(self.position + 1 - index * CHUNK);
            let keys = &chunk.keys[self.kv_head * head_size * CHUNK..][..head_size * CHUNK];
            let values = &chunk.values[self.kv_head * stride * CHUNK..][..stride * CHUNK];
            let scores = scores(lanes, self.query, keys, scale, count);
            let (largest, weights) = weights(lanes, &scores);
            let sum = weights[..count].iter().fold(0.0, |sum, weight| sum + weight);
            if index == 0 {
                weigh(lanes, &weights[..count], values, total.values);
                (total.largest, total.sum) = (largest, sum);
            } else {
                weigh(lanes, &weights[..count], values, part);
                combine(lanes, &mut total, &Partial { largest, sum, values: part });
            }
        }
        for (out, value) in self.out.iter_mut().zip(&*total.values) {
            *out = value / total.sum;
        }
    }
}

/// The scores of a chunk; the ones after `count` are minus infinity.
#[inline(always)]
fn scores<L: Lanes>(
    lanes: L,
    query: &[f32],
    keys: &[f32],
    scale: f32,
    count: usize,
) -> [[f32; LANES]; SCORES] {
    let mut sums = [lanes.splat(0.0); SCORES];
    let (vectors, _) = keys.as_chunks::<LANES>();
    for (q, keys) in query.iter().zip(vectors.as_chunks::<SCORES>().0) {
        let q = lanes.splat(*q);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = lanes.fma(q, lanes.load(key), *sum);
        }
    }
    let mut scores = sums.map(|sum| lanes.store(lanes.mul(sum, lanes.splat(scale))));
    scores.as_flattened_mut()[count..].fill(f32::NEG_INFINITY);
    scores
}

/// The largest score and `exp32` of each score minus it.
#[inline(always)]
fn weights<L: Lanes>(lanes: L, scores: &[[f32; LANES]; SCORES]) -> (f32, [f32; CHUNK]) {
    let mut largest = lanes.splat(f32::NEG_INFINITY);
    for scores in scores {
        largest = lanes.greater_or(lanes.load(scores), largest);
    }
    let mut maximum = f32::NEG_INFINITY;
    for score in lanes.store(largest) {
        maximum = if score > maximum { score } else { maximum };
    }
    let mut weights = [0.0; CHUNK];
    for (weights, scores) in weights.as_chunks_mut().0.iter_mut().zip(scores) {
        let difference = lanes.sub(lanes.load(scores), lanes.splat(maximum));
        *weights = lanes.store(exp32_lanes(lanes, difference));
    }
    (maximum, weights)
}

/// `out[d] = sum in order of positions by fma(weight, value[d], ·)`.
#[inline(always)]
fn weigh<L: Lanes>(lanes: L, weights: &[f32], values: &[f32], out: &mut [f32]) {
    let (outs, _) = out.as_chunks_mut::<LANES>();
    let vectors = outs.len();
    let (values, _) = values.as_chunks::<LANES>();
    let (fours, ones) = outs.as_chunks_mut::<4>();
    let first_one = 4 * fours.len();
    for (index, out) in fours.iter_mut().enumerate() {
        weigh_some(lanes, weights, &values[4 * index..], vectors, out);
    }
    for (index, out) in ones.iter_mut().enumerate() {
        let out = std::array::from_mut(out);
        weigh_some(lanes, weights, &values[first_one + index..], vectors, out);
    }
}

/// The same for `N` vectors of dimensions; a position is `vectors` further than the last.
#[inline(always)]
fn weigh_some<L: Lanes, const N: usize>(
    lanes: L,
    weights: &[f32],
    values: &[[f32; LANES]],
    vectors: usize,
    out: &mut [[f32; LANES]; N],
) {
    let mut sums = [lanes.splat(0.0); N];
    for (weight, values) in weights.iter().zip(values.chunks(vectors)) {
        let weight = lanes.splat(*weight);
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = lanes.fma(weight, lanes.load(value), *sum);
        }
    }
    *out = sums.map(|sum| lanes.store(sum));
}

/// Section 10, step 3.
#[inline(always)]
fn combine<L: Lanes>(lanes: L, total: &mut Partial<'_>, part: &Partial<'_>) {
    let power = |x: f32| lanes.store(exp32_lanes(lanes, lanes.splat(x)))[0];
    if part.largest > total.largest {
        let weight = power(total.largest - part.largest);
        total.sum = total.sum.mul_add(weight, part.sum);
        for (total, part) in total.values.iter_mut().zip(&*part.values) {
            *total = total.mul_add(weight, *part);
        }
        total.largest = part.largest;
    } else {
        let weight = power(part.largest - total.largest);
        total.sum = part.sum.mul_add(weight, total.sum);
        for (total, part) in total.values.iter_mut().zip(&*part.values) {
            *total = part.mul_add(weight, *total);
        }
    }
}
