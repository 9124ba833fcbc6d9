//! rope: positions around every tile and far away, part of a head, factors.

use ::engine::Rotary;
use proptest::prelude::*;
use reference::exact::{Level, ops};
use reference::{Activations, KvType};

use crate::engine::{Build, Engine};
use crate::{any_family, any_level, assert_same, run};
use fixtures::values::{Family, Stream};

#[derive(Clone, Debug)]
struct Case {
    heads: usize,
    head_size: usize,
    rotated: usize,
    base: f32,
    factors: bool,
    first_position: usize,
    rows: usize,
    family: Family,
    build: Build,
    level: Level,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let head_size = prop::sample::select(vec![2_usize, 20, 64, 80, 96, 128, 256]);
    let base = prop::sample::select(vec![10_000.0_f32, 100_000.0, 500_000.0, 1.0]);
    let first = prop::sample::select(vec![0_usize, 1, 63, 64, 65, 4095]);
    let shape = (1_usize..5, head_size, 0_usize..3, base, any::<bool>(), first, 1_usize..5);
    (shape, any_family(), Build::any(), any_level(), any::<u64>()).prop_map(
        |(shape, family, build, level, seed)| {
            let (heads, head_size, less, base, factors, first_position, rows) = shape;
            let rotated = head_size - 2 * less.min(head_size / 2 - 1);
            Case {
                heads,
                head_size,
                rotated,
                base,
                factors,
                first_position,
                rows,
                family,
                build,
                level,
                seed,
            }
        },
    )
}

fn check(case: Case) {
    let mut stream = Stream::new(case.seed);
    let Case { heads, head_size, rotated, base, first_position, rows, .. } = case;
    let width = heads * head_size;
    let x = stream.rows(case.family, rows * width, width);
    let factors: Vec<f32> = (0..rotated / 2).map(|_| 1.0 + 31.0 * stream.unit().abs()).collect();
    let factors = case.factors.then_some(factors.as_slice());
    let theirs = ops::Rope { head_size, dimensions: rotated, base, factors };
    let expected = ops::rope(case.level, theirs, &x, width, first_position);
    let engine = Engine::new(case.build, Activations::I24, KvType::F32);
    let rotary = Rotary { base, dimensions: rotated, factors };
    let actual = engine.rope(rotary, &x, (heads, head_size), first_position);
    let named = assert_same(&case, expected, actual);
    assert!(
        !(named && case.family.stays_finite()),
        "{case:?}: all that went in is small, and a NaN or infinity came out"
    );
    assert!(named || case.family.is_finite(), "{case:?}: a NaN or infinity went in, none came out");
}

#[test]
fn rotations_have_equal_bits() {
    run(file!(), 1000, &cases(), check);
}
