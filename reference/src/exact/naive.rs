//! The contract once more, word for word and slowly: what the kernels are compared with.

use crate::blocks::{Block, group_values, offset};
use crate::{Activations, KvType, WeightType};

/// Section 2.
pub(super) fn exp32(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    if x > 88.722_83 {
        return f32::INFINITY;
    }
    if x < -104.0 {
        return 0.0;
    }
    let n = (x * 1.442_695_04).round_ties_even();
    let r = n.mul_add(-0.693_359_375, x);
    let r = n.mul_add(2.121_944_40e-4, r);
    let mut p = 1.987_569_15e-4_f32;
    for c in [
        1.398_199_950_7e-3,
        8.333_451_907_3e-3,
        4.166_579_589_4e-2,
        1.666_666_545_9e-1,
        0.500_000_012_01,
    ] {
        p = p.mul_add(r, c);
    }
    let y = p.mul_add(r * r, r) + 1.0;
    let n = n as i32;
    let (n1, n2) = (n >> 1, n - (n >> 1));
    y * 2_f32.powi(n1) * 2_f32.powi(n2)
}

/// Section 4.
pub(super) fn rms_norm(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let n = x.len();
    let mut s = [0.0_f32; 256];
    for l in 0..256 {
        let mut i = l;
        while i < n {
            s[l] = x[i].mul_add(x[i], s[l]);
            i += 256;
        }
    }
    for h in [128, 64, 32, 16, 8, 4, 2, 1] {
        for l in 0..h {
            s[l] += s[l + h];
        }
    }
    let r = 1.0 / (s[0] / n as f32 + eps).sqrt();
    (0..n).map(|i| (x[i] * r) * w[i]).collect()
}

/// Section 5 for one block: `s` and the digits of each value.
pub(super) fn quantise(activations: Activations, x: &[f32]) -> (f32, Vec<Vec<i32>>) {
    let m = activations.magnitude_max();
    let a = x.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
    let (s, q): (f32, Vec<i32>) = if x.iter().any(|x| !x.is_finite()) {
        (f32::NAN, vec![0; x.len()])
    } else if a < 2_f32.powi(-100) {
        (0.0, vec![0; x.len()])
    } else {
        let v = m as f32 / a;
        let q = x.iter().map(|x| ((x * v).round_ties_even() as i32).clamp(-m, m));
        (a / m as f32, q.collect())
    };
    let digits = q.into_iter().map(|q| {
        let (mut rest, mut digits) = (q, Vec::new());
        for _ in 0..activations.digits() {
            let e = i32::from((rest & 255) as u8 as i8);
            digits.push(e);
            rest = (rest - e) >> 8;
        }
        digits
    });
    (s, digits.collect())
}

/// Sections 6 and 7 for one row of weights.
pub(super) fn product(kind: WeightType, activations: Activations, row: &[u8], x: &[f32]) -> f32 {
    match kind {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => float_product(kind, row, x),
        _ => quantised_product(kind, activations, row, x),
    }
}

fn float_product(kind: WeightType, row: &[u8], x: &[f32]) -> f32 {
    let w = row.chunks_exact(kind.block_bytes()).map(|bytes| match kind {
        WeightType::F32 => f32::from_le_bytes(bytes.try_into().unwrap()),
        WeightType::F16 => half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
        _ => f32::from_bits(u32::from(u16::from_le_bytes(bytes.try_into().unwrap())) << 16),
    });
    let w: Vec<f32> = w.collect();
    let mut y = 0.0_f32;
    for (w, x) in w.chunks(64).zip(x.chunks(64)) {
        y += w.iter().zip(x).fold(0.0, |acc, (w, x)| w.mul_add(*x, acc));
    }
    y
}

fn quantised_product(kind: WeightType, activations: Activations, row: &[u8], x: &[f32]) -> f32 {
    let values = kind.block_values();
    let chunk = if values == 32 { 8 } else { 4 };
    let blocks: Vec<_> = row.chunks(kind.block_bytes()).zip(x.chunks(values)).collect();
    let mut y = 0.0_f32;
    for blocks in blocks.chunks(chunk) {
        let mut acc = 0.0_f32;
        for (bytes, x) in blocks {
            let mut block = Block::EMPTY;
            block.read(kind, bytes);
            acc = add_block(kind, activations, &block, x, acc);
        }
        y += acc;
    }
    y
}

fn add_block(
    kind: WeightType,
    activations: Activations,
    block: &Block,
    x: &[f32],
    acc: f32,
) -> f32 {
    let (s, e) = quantise(activations, x);
    let g = group_values(kind);
    let grouped = kind.block_values() == 256;
    let sc = |i: usize| {
        if grouped { i32::from(block.scales[i / g]) } else { 1 }
    };
    let w = |i: usize| i32::from(block.q[i]) - offset(kind);
    let dot = |j: usize| (0..x.len()).map(|i| sc(i) * w(i) * e[i][j]).sum::<i32>() as f32;
    let t = match activations {
        Activations::I8 => dot(0),
        Activations::I16 => dot(1).mul_add(256.0, dot(0)),
        Activations::I24 => dot(2).mul_add(65536.0, dot(1).mul_add(256.0, dot(0))),
    };
    let acc = (block.d() * s).mul_add(t, acc);
    let q = |i: usize| e[i].iter().rev().fold(0, |q, e| q * 256 + e);
    let u = |group: usize| s * (group * g..(group + 1) * g).map(q).sum::<i32>() as f32;
    match kind {
        WeightType::Q4_1 | WeightType::Q5_1 => block.m().mul_add(u(0), acc),
        WeightType::Q2K | WeightType::Q4K | WeightType::Q5K => {
            let n = (0..256 / g)
                .fold(0.0, |n, group| f32::from(block.mins[group]).mul_add(u(group), n));
            (-block.m()).mul_add(n, acc)
        }
        _ => acc,
    }
}

/// Section 8 for one head.
pub(super) fn rope(
    x: &[f32],
    base: f32,
    factors: Option<&[f32]>,
    dim: usize,
    position: usize,
) -> Vec<f32> {
    let mut y = x.to_vec();
    for i in 0..dim / 2 {
        let mut freq = libm::pow(f64::from(base), -(2.0 * i as f64) / dim as f64);
        if let Some(factors) = factors {
            freq /= f64::from(factors[i]);
        }
        let angle = position as f64 * freq;
        let (c, s) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
        let (x0, x1) = (x[2 * i], x[2 * i + 1]);
        y[2 * i] = x0.mul_add(c, -(x1 * s));
        y[2 * i + 1] = x0.mul_add(s, x1 * c);
    }
    y
}

/// Sections 9 and 10 for one head: rows of keys and values of this head.
pub(super) fn attention(q: &[f32], k: &[&[f32]], v: &[&[f32]], kv: KvType) -> Vec<f32> {
    let stored = |x: &f32| match kv {
        KvType::F32 => *x,
        KvType::F16 => half::f16::from_f32(*x).to_f32(),
    };
    let scale = 1.0 / (q.len() as f32).sqrt();
    let score = |k: &&[f32]| {
        q.iter().zip(*k).fold(0.0, |sum: f32, (q, k)| q.mul_add(stored(k), sum)) * scale
    };
    let score: Vec<f32> = k.iter().map(score).collect();
    let mut total: Option<(f32, f32, Vec<f32>)> = None;
    for (score, v) in score.chunks(64).zip(v.chunks(64)) {
        let mut m = f32::NEG_INFINITY;
        for t in score {
            if *t > m {
                m = *t;
            }
        }
        let p: Vec<f32> = score.iter().map(|score| exp32(score - m)).collect();
        let l = p.iter().fold(0.0, |l, p| l + p);
        let sum = |d: usize| p.iter().zip(v).fold(0.0, |a, (p, v)| p.mul_add(stored(&v[d]), a));
        let a: Vec<f32> = (0..q.len()).map(sum).collect();
        total = Some(match total {
            None => (m, l, a),
            Some((big_m, big_l, big_a)) => {
                let pairs = big_a.iter().zip(&a);
                if m > big_m {
                    let w = exp32(big_m - m);
                    (m, big_l.mul_add(w, l), pairs.map(|(b, a)| b.mul_add(w, *a)).collect())
                } else {
                    let w = exp32(m - big_m);
                    (big_m, l.mul_add(w, big_l), pairs.map(|(b, a)| a.mul_add(w, *b)).collect())
                }
            }
        });
    }
    let (_, l, a) = total.unwrap();
    a.iter().map(|a| a / l).collect()
}

/// Section 11.
pub(super) fn swiglu(g: f32, u: f32) -> f32 {
    (g / (1.0 + exp32(-g))) * u
}
