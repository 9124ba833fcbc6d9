//! swiglu, residual, and the hash over what they give.

use proptest::prelude::*;
use reference::exact::{Level, ops};
use reference::{Activations, KvType};

use crate::engine::{Build, Engine};
use crate::{any_family, any_level, assert_same, run};
use fixtures::values::{Family, Stream};

#[derive(Clone, Debug)]
struct Case {
    count: usize,
    one: Family,
    two: Family,
    build: Build,
    level: Level,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let count = prop_oneof![1_usize..3000, prop::sample::select(vec![1_usize, 255, 256, 257])];
    (count, any_family(), any_family(), Build::any(), any_level(), any::<u64>()).prop_map(
        |(count, one, two, build, level, seed)| Case { count, one, two, build, level, seed },
    )
}

fn inputs(case: &Case) -> (Vec<f32>, Vec<f32>, Engine) {
    let mut stream = Stream::new(case.seed);
    let one = stream.rows(case.one, case.count, case.count);
    let two = stream.rows(case.two, case.count, case.count);
    (one, two, Engine::new(case.build, Activations::I24, KvType::F32))
}

fn check_swiglu(case: Case) {
    let (gate, up, engine) = inputs(&case);
    let named = assert_same(&case, ops::swiglu(case.level, &gate, &up), engine.swiglu(&gate, &up));
    let small = case.one.stays_finite() && case.two.stays_finite();
    assert!(
        !(named && small),
        "{case:?}: all that went in is small, and a NaN or infinity came out"
    );
    let finite = case.one != Family::OneNan && case.two.is_finite();
    assert!(named || finite, "{case:?}: a NaN or infinity went in, none came out");
}

fn check_residual(case: Case) {
    let (x, branch, engine) = inputs(&case);
    let (expected, actual) = (ops::add(&x, &branch), engine.residual(&x, &branch));
    assert_eq!(ops::row_hash(&expected), ::engine::hash_row(&actual), "{case:?}: the hashes");
    let named = assert_same(&case, expected, actual);
    let small = case.one.stays_finite() && case.two.stays_finite();
    assert!(
        !(named && small),
        "{case:?}: all that went in is small, and a NaN or infinity came out"
    );
    let finite = case.one.is_finite() && case.two.is_finite();
    assert!(named || finite, "{case:?}: a NaN or infinity went in, none came out");
}

#[test]
fn swiglu_has_equal_bits() {
    run(file!(), 2000, &cases(), check_swiglu);
}

#[test]
fn residuals_and_their_hashes_have_equal_bits() {
    run(file!(), 2000, &cases(), check_residual);
}
