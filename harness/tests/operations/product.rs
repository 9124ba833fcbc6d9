//! product, `product_float`: every weight type, with activations of every kind and any digits.

use proptest::prelude::*;
use reference::exact::{Level, ops};
use reference::{Activations, KvType, WeightType};

use crate::engine::{Build, Engine};
use crate::{
    any_activations, any_family, any_level, any_rows, any_scales, any_type, assert_same, run, width,
};
use fixtures::values::{Family, Scales, Stream};

#[derive(Clone, Debug)]
struct Case {
    kind: WeightType,
    activations: Activations,
    outputs: usize,
    blocks: usize,
    rows: usize,
    family: Family,
    scales: Scales,
    build: Build,
    level: Level,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (any_type(), any_rows(), 1_usize..10, any_rows());
    let values = (any_activations(), any_family(), any_scales(), any::<u64>());
    (shape, values, Build::any(), any_level()).prop_map(|(shape, values, build, level)| {
        let (kind, outputs, blocks, rows) = shape;
        let (activations, family, scales, seed) = values;
        Case { kind, activations, outputs, blocks, rows, family, scales, build, level, seed }
    })
}

fn check(case: Case) {
    let Case { kind, activations, outputs, blocks, rows, family, scales, build, level, seed } =
        case;
    let mut stream = Stream::new(seed);
    let width = width(kind, blocks);
    let weights = stream.blocks(kind.to_candle(), scales, outputs * width / kind.block_values());
    let x = stream.rows(family, rows * width, width);
    let matrix = ops::MatrixBytes { kind, bytes: &weights, rows: outputs, columns: width };
    let expected = ops::product(level, activations, matrix, &x);
    let engine = Engine::new(build, activations, KvType::F32);
    let actual = engine.product(kind, &weights, &x, width);
    let named = assert_same(&case, expected, actual);
    assert!(
        !(named && family.stays_finite() && scales.stays_finite()),
        "{case:?}: all that went in is small, and a NaN or infinity came out"
    );
    assert!(named || family.is_finite(), "{case:?}: a NaN or infinity went in, none came out");
}

#[test]
fn products_have_equal_bits() {
    run(file!(), 4000, &cases(), check);
}

/// The rows of a tile with whole chunks behind each other, as models have them.
#[test]
fn products_of_model_widths_have_equal_bits() {
    let cases =
        (any_type(), prop::sample::select(vec![576_usize, 1536, 4096, 14336]), any::<u64>());
    let cases = (cases, Build::any(), any_level());
    run(file!(), 40, &cases, |((kind, width, seed), build, level)| {
        let blocks = width.div_ceil(kind.block_values().max(64));
        check(Case {
            kind,
            activations: Activations::I24,
            outputs: 5,
            blocks,
            rows: 3,
            family: Family::Ordinary,
            scales: Scales::Ordinary,
            build,
            level,
            seed,
        });
    });
}
