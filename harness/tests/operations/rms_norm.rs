//! `rms_norm`: any width, any epsilon, values whose squares overflow and underflow.

use proptest::prelude::*;
use reference::exact::{Level, ops};
use reference::{Activations, KvType};

use crate::engine::{Build, Engine};
use crate::{any_family, any_level, any_rows, assert_same, run};
use fixtures::values::{Family, Stream};

#[derive(Clone, Debug)]
struct Case {
    width: usize,
    rows: usize,
    epsilon: f32,
    family: Family,
    build: Build,
    level: Level,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let special = prop::sample::select(vec![1_usize, 255, 256, 257, 511, 512, 513, 576, 4096]);
    let width = prop_oneof![special, 1_usize..1100];
    let epsilon = prop::sample::select(vec![1e-5_f32, 1e-6, 0.0, 1e-30, 1.0]);
    let shape = (width, any_rows(), epsilon);
    (shape, any_family(), Build::any(), any_level(), any::<u64>()).prop_map(
        |((width, rows, epsilon), family, build, level, seed)| Case {
            width,
            rows,
            epsilon,
            family,
            build,
            level,
            seed,
        },
    )
}

fn check(case: Case) {
    let Case { width, rows, epsilon, family, build, level, seed } = case;
    let mut stream = Stream::new(seed);
    let x = stream.rows(family, rows * width, width);
    let weight = stream.rows(Family::Ordinary, width, width);
    let expected = ops::rms_norm(level, &x, &weight, epsilon);
    let engine = Engine::new(build, Activations::I24, KvType::F32);
    let named = assert_same(&case, expected, engine.rms_norm(&x, &weight, epsilon));
    // A row of zeros without an epsilon is divided by nothing.
    let small = family.stays_finite() && epsilon > 0.0;
    assert!(
        !(named && small),
        "{case:?}: all that went in is small, and a NaN or infinity came out"
    );
    assert!(named || family.is_finite(), "{case:?}: a NaN or infinity went in, none came out");
}

#[test]
fn norms_have_equal_bits() {
    run(file!(), 2000, &cases(), check);
}
