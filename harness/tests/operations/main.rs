//! Every operation of the engine against the reference's, from the same inputs: equal bits.
//!
//! One file an operation, one `check` in it; what a case is made of comes from a seed, and a case
//! that failed is kept beside its file and runs again. `LOCKSTEP_CASES_TIMES=10` runs ten times
//! as many cases, `LOCKSTEP_CASES_SEED=2` others; `LOCKSTEP_CASES_KEEP=0` keeps none.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod addresses;
mod attention;
#[path = "../support/devices.rs"]
mod devices;
mod embed;
mod engine;
mod product;
mod quantise;
mod rms_norm;
mod rope;
mod swiglu;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use fixtures::values::{Family, Scales};
use harness::compare::rows::{RowVerdict, compare};
use harness::sides::Row;
use proptest::prelude::*;
use proptest::test_runner::{
    FailurePersistence, FileFailurePersistence, RngAlgorithm, TestRng, TestRunner,
};
use reference::exact::Level;
use reference::{Activations, KvType, WeightType};

/// Runs `check` on as many cases; a case that fails is made small, printed, and kept.
#[track_caller]
fn run<S: Strategy>(source_file: &'static str, cases: u32, strategy: &S, check: fn(S::Value)) {
    let times = std::env::var("LOCKSTEP_CASES_TIMES").map_or(1, |times| times.parse().unwrap());
    let keep = std::env::var("LOCKSTEP_CASES_KEEP").map_or(true, |keep| keep != "0");
    let seeds: Box<dyn FailurePersistence> = Box::new(FileFailurePersistence::WithSource("seeds"));
    let config = ProptestConfig {
        cases: cases * times,
        source_file: Some(source_file),
        failure_persistence: keep.then_some(seeds),
        ..ProptestConfig::default()
    };
    let seed = std::env::var("LOCKSTEP_CASES_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    eprintln!("{source_file}: LOCKSTEP_CASES_SEED={seed}");
    let done = AtomicU64::new(0);
    let result = TestRunner::new_with_rng(config, random).run(strategy, |case| {
        check(case);
        done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    eprintln!("{source_file}: {} cases", done.into_inner());
}

/// Requires equal bits, and the same NaN and infinities; says whether there are any.
#[track_caller]
fn assert_same(case: &dyn Debug, expected: Vec<f32>, actual: Vec<f32>) -> bool {
    match compare(&Row::F32(expected), &Row::F32(actual)) {
        RowVerdict::Agrees => false,
        RowVerdict::NonFiniteOnBothSides { .. } => true,
        RowVerdict::Differs(difference) => panic!("{case:?}: reference and engine: {difference:?}"),
    }
}

fn any_level() -> impl Strategy<Value = Level> {
    prop::sample::select(Level::available())
}

fn any_type() -> impl Strategy<Value = WeightType> {
    prop::sample::select(WeightType::ALL.as_slice())
}

fn any_activations() -> impl Strategy<Value = Activations> {
    prop::sample::select(vec![Activations::I24, Activations::I16, Activations::I8])
}

/// Ordinary ones in half of the cases.
fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ordinary), prop::sample::select(Family::ALL.as_slice())]
}

/// Ordinary ones in half of the cases.
fn any_scales() -> impl Strategy<Value = Scales> {
    prop_oneof![Just(Scales::Ordinary), prop::sample::select(Scales::ALL.as_slice())]
}

fn any_kv() -> impl Strategy<Value = KvType> {
    prop::sample::select(vec![KvType::F32, KvType::F16])
}

/// Widths of a row: one block, whole chunks, and a rest after them.
fn width(kind: WeightType, blocks: usize) -> usize {
    match kind.block_values() {
        // Float chunks have 64 values; these lengths have a rest of one, a half, and all but one.
        1 => blocks * 64 - [0, 63, 32, 1][blocks % 4],
        values => blocks * values,
    }
}

/// The row counts around every tile of the kernels.
fn any_rows() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..8, prop::sample::select(vec![1, 15, 16, 17, 31, 32, 33, 64])]
}
