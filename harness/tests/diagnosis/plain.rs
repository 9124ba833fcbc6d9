//! Attention and products once more, from CONTRACT.md and slowly, for faults inside them.

use reference::exact::{Level, ops};
use reference::{KvType, WeightType};

/// The keys of one head's attention: rows of this KV head, at these positions.
pub(crate) struct Keys<'a> {
    pub(crate) kv: KvType,
    pub(crate) kv_heads: usize,
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
}

fn exp(x: f32) -> f32 {
    ops::exp32(Level::portable(), &[x])[0]
}

impl Keys<'_> {
    /// Section 10 for one head over some positions, chunks counted from position 0.
    pub(crate) fn attend(&self, query: &[f32], kv_head: usize, positions: &[usize]) -> Vec<f32> {
        let size = query.len();
        let stored = |value: f32| match self.kv {
            KvType::F32 => value,
            KvType::F16 => half::f16::from_f32(value).to_f32(),
        };
        let row = |rows: &[f32], position: usize| -> Vec<f32> {
            let row = &rows[(position * self.kv_heads + kv_head) * size..][..size];
            row.iter().map(|value| stored(*value)).collect()
        };
        let scale = 1.0 / (size as f32).sqrt();
        let mut total: Option<(f32, f32, Vec<f32>)> = None;
        for chunk in positions.chunk_by(|one, two| one / 64 == two / 64) {
            let scores: Vec<f32> = chunk
                .iter()
                .map(|position| {
                    let key = row(self.keys, *position);
                    query.iter().zip(key).fold(0.0_f32, |sum, (q, k)| q.mul_add(k, sum)) * scale
                })
                .collect();
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut out) = (0.0_f32, vec![0.0_f32; size]);
            for (score, position) in scores.iter().zip(chunk) {
                let weight = exp(score - largest);
                sum += weight;
                for (out, value) in out.iter_mut().zip(row(self.values, *position)) {
                    *out = weight.mul_add(value, *out);
                }
            }
            total = Some(match total {
                None => (largest, sum, out),
                Some((before, all, mut values)) if largest > before => {
                    let weight = exp(before - largest);
                    values.iter_mut().zip(&out).for_each(|(a, b)| *a = a.mul_add(weight, *b));
                    (largest, all.mul_add(weight, sum), values)
                }
                Some((before, all, mut values)) => {
                    let weight = exp(largest - before);
                    values.iter_mut().zip(&out).for_each(|(a, b)| *a = b.mul_add(weight, *a));
                    (before, sum.mul_add(weight, all), values)
                }
            });
        }
        let (_, sum, values) = total.unwrap();
        values.into_iter().map(|value| value / sum).collect()
    }
}

/// A block of a K type as some reader takes it.
pub(crate) struct Taken {
    pub(crate) d: f32,
    pub(crate) dmin: f32,
    pub(crate) q: Vec<i32>,
    pub(crate) scales: Vec<i32>,
    pub(crate) mins: Vec<i32>,
}

/// Section 6 for a row of K blocks, with digits of i24.
pub(crate) fn product(blocks: &[Taken], x: &[f32]) -> f32 {
    let fixed = ops::quantise_activations(Level::portable(), reference::Activations::I24, x, 256);
    let q = fixed.q();
    let mut y = 0.0_f32;
    for (chunk, blocks) in blocks.chunks(4).enumerate() {
        let mut sum = 0.0_f32;
        for (index, block) in blocks.iter().enumerate() {
            let at = 4 * chunk + index;
            let s = fixed.scales[at];
            let group = 256 / block.scales.len();
            let dot = |digit: usize| -> f32 {
                let digits = &fixed.digits[digit][at * 256..][..256];
                let terms =
                    (0..256).map(|i| block.scales[i / group] * block.q[i] * i32::from(digits[i]));
                terms.sum::<i32>() as f32
            };
            let t = dot(2).mul_add(65536.0, dot(1).mul_add(256.0, dot(0)));
            sum = (block.d * s).mul_add(t, sum);
            if !block.mins.is_empty() {
                let n = block.mins.iter().enumerate().fold(0.0_f32, |n, (index, minimum)| {
                    let values = &q[at * 256 + index * group..][..group];
                    (*minimum as f32).mul_add(s * values.iter().sum::<i32>() as f32, n)
                });
                sum = (-block.dmin).mul_add(n, sum);
            }
        }
        y += sum;
    }
    y
}

pub(crate) fn half(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Six bits after six bits.
pub(crate) fn six_bits(bytes: &[u8], index: usize) -> i32 {
    (0..6)
        .map(|bit| {
            let at = 6 * index + bit;
            i32::from(bytes[at / 8] >> (at % 8) & 1) << bit
        })
        .sum()
}

/// Q4_K as GRETA's reader took it: minima from byte 6 on, nibbles interleaved.
pub(crate) fn greta_q4_k(block: &[u8]) -> Taken {
    let packed = &block[4..16];
    let scale = |group: usize| match group {
        0..4 => i32::from(packed[group] & 63),
        _ => i32::from(packed[group + 4] & 15 | packed[group - 4] >> 6 << 4),
    };
    Taken {
        d: half(block, 0),
        dmin: half(block, 2),
        q: (0..256).map(|i| i32::from(block[16 + i / 2] >> (4 * (i % 2)) & 15)).collect(),
        scales: (0..8).map(scale).collect(),
        mins: (0..8).map(|group| six_bits(&packed[6..], group)).collect(),
    }
}

/// Q6_K with both planes in linear order.
pub(crate) fn linear_q6_k(block: &[u8]) -> Taken {
    let value = |i: usize| {
        let low = block[i / 2] >> (4 * (i % 2)) & 15;
        let high = block[128 + i / 4] >> (2 * (i % 4)) & 3;
        i32::from(low | high << 4) - 32
    };
    Taken {
        d: half(block, 208),
        dmin: 0.0,
        q: (0..256).map(value).collect(),
        scales: block[192..208].iter().map(|scale| i32::from(scale.cast_signed())).collect(),
        mins: Vec::new(),
    }
}

/// Blocks of a row, taken by a reader.
pub(crate) fn taken(kind: WeightType, row: &[u8], reader: fn(&[u8]) -> Taken) -> Vec<Taken> {
    row.chunks_exact(kind.block_bytes()).map(reader).collect()
}
