//! Every operation on every level of instructions against the contract word for word.

use half::f16;
use proptest::prelude::*;

use super::naive;
use super::ops::{self, Attention, MatrixBytes, Rope};
use super::simd::Level;
use crate::{Activations, KvType, WeightType};

const ACTIVATIONS: [Activations; 3] = [Activations::I24, Activations::I16, Activations::I8];

/// SplitMix64: a stream of numbers from a printed seed.
struct Stream(u64);

impl Stream {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Mostly near zero, sometimes far away.
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit() * self.unit() / (self.unit().abs() + 1e-3)).collect()
    }

    /// Blocks with any integers and scales of ordinary size.
    fn blocks(&mut self, kind: WeightType, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..count * kind.block_bytes()).map(|_| self.bits() as u8).collect();
        for block in bytes.chunks_mut(kind.block_bytes()) {
            let mut scale = |at: usize| {
                block[at..at + 2].copy_from_slice(&f16::from_f32(self.unit() / 64.0).to_le_bytes());
            };
            match kind {
                WeightType::F32 => block.copy_from_slice(&self.unit().to_le_bytes()),
                WeightType::F16 => scale(0),
                WeightType::Bf16 => block[1] = block[1] & 0xbf | 0x30,
                WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => scale(0),
                WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => {
                    scale(0);
                    scale(2);
                }
                WeightType::Q2K => {
                    scale(80);
                    scale(82);
                }
                WeightType::Q3K => scale(108),
                WeightType::Q6K => scale(208),
            }
        }
        bytes
    }
}

#[track_caller]
fn assert_same(what: &str, level: Level, expected: &[f32], actual: &[f32]) {
    assert_eq!(expected.len(), actual.len(), "{what}");
    for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
        let canonical = |x: f32| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
        assert_eq!(
            canonical(*expected),
            canonical(*actual),
            "{what}, {}: index {index}, {expected:e} and {actual:e}",
            level.name()
        );
    }
}

#[test]
fn exp32_agrees_on_every_level() {
    let special = [88.722_83, 88.722_84, -104.0, -104.000_01, -87.5, f32::INFINITY, f32::NAN, -0.0];
    let x: Vec<f32> = (0..u32::MAX).step_by(10_007).map(f32::from_bits).chain(special).collect();
    let expected: Vec<f32> = x.iter().map(|x| naive::exp32(*x)).collect();
    for level in Level::available() {
        assert_same("exp32", level, &expected, &ops::exp32(level, &x));
    }
}

#[test]
fn exp32_is_within_two_units_of_the_last_place() {
    let x: Vec<f32> = (-8700..8870).map(|x| x as f32 / 100.0).collect();
    for (x, y) in x.iter().zip(ops::exp32(Level::best(true), &x)) {
        let truth = f64::from(*x).exp();
        let unit =
            f64::from(f32::from_bits((truth as f32).to_bits() + 1)) - f64::from(truth as f32);
        let difference = (f64::from(y) - truth).abs();
        assert!(difference <= 2.0 * unit, "exp32({x}) = {y}, not {truth}");
    }
}

#[test]
fn activations_agree_on_every_level() {
    let mut stream = Stream(5);
    for block in [32, 256] {
        let mut x = stream.values(16 * block);
        x[block] = f32::NAN;
        x[2 * block + 3] = f32::NEG_INFINITY;
        x[3 * block..4 * block].fill(2_f32.powi(-101));
        x[4 * block..5 * block].fill(-0.0);
        x[5 * block..6 * block].iter_mut().for_each(|x| *x *= 2_f32.powi(-100));
        x[6 * block + 7] = f32::MAX;
        for activations in ACTIVATIONS {
            for level in Level::available() {
                check_activations(level, activations, &x, block);
            }
        }
    }
}

fn check_activations(level: Level, activations: Activations, x: &[f32], block: usize) {
    let actual = ops::quantise_activations(level, activations, x, block);
    for (index, x) in x.chunks(block).enumerate() {
        let (scale, digits) = naive::quantise(activations, x);
        assert_same("s", level, &[scale], &actual.scales[index..=index]);
        for (at, digits) in digits.iter().enumerate() {
            for (digit, expected) in digits.iter().enumerate() {
                let found = i32::from(actual.digits[digit][index * block + at]);
                assert_eq!(*expected, found, "{}: block {index} value {at}", level.name());
            }
        }
        for (group, us) in [(32, &actual.u_32), (16, &actual.u_16)] {
            for (part, q) in actual.q()[index * block..][..block].chunks(group).enumerate() {
                let expected = scale * q.iter().sum::<i32>() as f32;
                let at = index * block / group + part;
                assert_same("u", level, &[expected], &us[at..=at]);
            }
        }
    }
}

proptest! {
    /// What the digits stand for is within half a step of the value.
    #[test]
    fn digits_stand_for_their_values(x in prop::collection::vec(-1e6_f32..1e6, 32)) {
        for activations in ACTIVATIONS {
            let fixed = ops::quantise_activations(Level::best(true), activations, &x, 32);
            let step = f64::from(fixed.scales[0]);
            for (x, q) in x.iter().zip(fixed.q()) {
                prop_assert!(q.abs() <= activations.magnitude_max());
                let difference = (f64::from(q) * step - f64::from(*x)).abs();
                // Half a step, and three roundings of numbers as large as x.
                let limit = 0.5 * step + 3.0 * f64::from(f32::EPSILON) * f64::from(x.abs());
                prop_assert!(difference <= limit, "{x}: {q} steps of {step}");
            }
        }
    }
}

#[test]
fn products_agree_on_every_level() {
    let mut stream = Stream(6);
    for kind in WeightType::ALL {
        // Columns beyond whole chunks, rows beyond whole panels, tokens beyond whole tiles.
        let columns = match kind.block_values() {
            1 => 5 * 64 + 9,
            32 => 11 * 32,
            _ => 5 * 256,
        };
        for (rows, tokens) in [(1, 1), (16, 4), (37, 7)] {
            let bytes = stream.blocks(kind, rows * columns / kind.block_values());
            let mut x = stream.values(tokens * columns);
            if tokens == 7 {
                x[columns + 5] = f32::NAN;
                x[2 * columns..3 * columns].fill(0.0);
            }
            let matrix = MatrixBytes { kind, bytes: &bytes, rows, columns };
            for activations in ACTIVATIONS {
                check_product(matrix, activations, &x);
            }
        }
    }
}

fn check_product(matrix: MatrixBytes<'_>, activations: Activations, x: &[f32]) {
    let MatrixBytes { kind, bytes, rows, columns } = matrix;
    let expected: Vec<f32> = x
        .chunks(columns)
        .flat_map(|x| {
            let rows = bytes.chunks(bytes.len() / rows);
            rows.map(move |row| naive::product(kind, activations, row, x))
        })
        .collect();
    let what = format!("{} {}", kind.name(), activations.name());
    for level in Level::available() {
        assert_same(&what, level, &expected, &ops::product(level, activations, matrix, x));
    }
}

#[test]
fn the_largest_integers_do_not_overflow() {
    let x = vec![-1.0; 1024];
    for kind in WeightType::ALL.into_iter().filter(|kind| kind.block_values() > 1) {
        for byte in [0x00, 0xff, 0x7f, 0x80] {
            let mut bytes = vec![byte; 1024 / kind.block_values() * kind.block_bytes()];
            let ordinary = Stream(7).blocks(kind, 1024 / kind.block_values());
            // Keep the scales of ordinary blocks: they alone may not have any bits.
            for at in 0..bytes.len() {
                let place = at % kind.block_bytes();
                let scales = match kind {
                    WeightType::Q2K => 80..84,
                    WeightType::Q3K => 108..110,
                    WeightType::Q6K => 208..210,
                    WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => 0..2,
                    _ => 0..4,
                };
                if scales.contains(&place) {
                    bytes[at] = ordinary[at];
                }
            }
            let matrix = MatrixBytes { kind, bytes: &bytes, rows: 1, columns: 1024 };
            check_product(matrix, Activations::I24, &x);
        }
    }
}

#[test]
fn rms_norm_agrees_on_every_level() {
    let mut stream = Stream(8);
    for width in [1, 15, 16, 255, 256, 257, 576, 1000] {
        let (x, weight) = (stream.values(width), stream.values(width));
        let expected = naive::rms_norm(&x, &weight, 1e-5);
        for level in Level::available() {
            let actual = ops::rms_norm(level, &x, &weight, 1e-5);
            assert_same("rms_norm", level, &expected, &actual);
        }
    }
}

#[test]
fn rope_agrees_on_every_level() {
    let mut stream = Stream(9);
    let factors: Vec<f32> = (0..32).map(|_| 1.0 + stream.unit().abs() * 31.0).collect();
    for (dimensions, factors) in [(64, None), (64, Some(factors.as_slice())), (48, None)] {
        let rope = Rope { head_size: 64, dimensions, base: 1e5, factors };
        let x = stream.values(3 * 2 * 64);
        let expected: Vec<f32> = x
            .chunks(64)
            .enumerate()
            .flat_map(|(index, head)| naive::rope(head, 1e5, factors, dimensions, 4000 + index / 2))
            .collect();
        for level in Level::available() {
            assert_same("rope", level, &expected, &ops::rope(level, rope, &x, 128, 4000));
        }
    }
}

#[test]
fn attention_agrees_on_every_level() {
    let mut stream = Stream(10);
    let (heads, kv_heads, rows) = (6, 2, 3);
    for head_size in [20, 64, 80, 128] {
        for positions in [3, 64, 65, 66, 130, 200] {
            for kv in [KvType::F32, KvType::F16] {
                let attention = Attention {
                    heads,
                    kv_heads,
                    head_size,
                    kv,
                    queries: &stream.values(rows * heads * head_size),
                    keys: &stream.values(positions * kv_heads * head_size),
                    values: &stream.values(positions * kv_heads * head_size),
                };
                check_attention(attention, positions - rows);
            }
        }
    }
}

fn check_attention(attention: Attention<'_>, first_position: usize) {
    let Attention { heads, kv_heads, head_size, kv, queries, keys, values } = attention;
    let of_head = |rows, head| {
        let heads = <[f32]>::chunks(rows, head_size).skip(head).step_by(kv_heads);
        heads.collect::<Vec<_>>()
    };
    let expected = queries.chunks(head_size).enumerate().flat_map(|(index, query)| {
        let count = first_position + index / heads + 1;
        let kv_head = index % heads / (heads / kv_heads);
        let (keys, values) = (of_head(keys, kv_head), of_head(values, kv_head));
        naive::attention(query, &keys[..count], &values[..count], kv)
    });
    let expected: Vec<f32> = expected.collect();
    for level in Level::available() {
        let what = format!("attention of {head_size} from {first_position}");
        assert_same(&what, level, &expected, &ops::attention(level, attention));
    }
}

#[test]
fn swiglu_agrees_on_every_level() {
    let mut stream = Stream(11);
    let mut gate = stream.values(1003);
    gate[..4].copy_from_slice(&[200.0, -200.0, f32::NAN, -0.0]);
    let up = stream.values(1003);
    let expected: Vec<f32> =
        gate.iter().zip(&up).map(|(gate, up)| naive::swiglu(*gate, *up)).collect();
    for level in Level::available() {
        assert_same("swiglu", level, &expected, &ops::swiglu(level, &gate, &up));
    }
}

#[test]
fn a_hash_sees_the_place_and_not_the_payload_of_a_nan() {
    assert_eq!(ops::row_hash(&[]), 0);
    assert_eq!(ops::row_hash(&[1.0]), HASH_OF_ONE);
    assert_ne!(ops::row_hash(&[1.0, 2.0]), ops::row_hash(&[2.0, 1.0]));
    assert_ne!(ops::row_hash(&[0.0]), ops::row_hash(&[-0.0]));
    let nans = [f32::NAN, f32::from_bits(0xffc0_1234)];
    assert_eq!(ops::row_hash(&nans[..1]), ops::row_hash(&nans[1..]));
}

/// mix(0x3f800000), computed apart from this code.
const HASH_OF_ONE: u64 = 0xfd69_5a1b_70dc_1235;
