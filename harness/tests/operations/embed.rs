//! embed: rows of a table of every type.

use proptest::prelude::*;
use reference::exact::ops;
use reference::{Activations, KvType, WeightType};

use crate::engine::{Build, Engine};
use crate::{any_scales, any_type, assert_same, run, width};
use fixtures::values::{Scales, Stream};

#[derive(Clone, Debug)]
struct Case {
    kind: WeightType,
    vocabulary: usize,
    blocks: usize,
    tokens: usize,
    scales: Scales,
    build: Build,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (any_type(), 1_usize..40, 1_usize..10, 1_usize..10);
    (shape, any_scales(), Build::any(), any::<u64>()).prop_map(|(shape, scales, build, seed)| {
        let (kind, vocabulary, blocks, tokens) = shape;
        Case { kind, vocabulary, blocks, tokens, scales, build, seed }
    })
}

fn check(case: Case) {
    let Case { kind, vocabulary, blocks, tokens, scales, build, seed } = case;
    let mut stream = Stream::new(seed);
    let columns = width(kind, blocks);
    let table = stream.blocks(kind.to_candle(), scales, vocabulary * columns / kind.block_values());
    let tokens: Vec<u32> = (0..tokens).map(|_| stream.below(vocabulary) as u32).collect();
    let matrix = ops::MatrixBytes { kind, bytes: &table, rows: vocabulary, columns };
    let expected = ops::embed(matrix, &tokens);
    let engine = Engine::new(build, Activations::I24, KvType::F32);
    let named = assert_same(&case, expected, engine.embed(kind, &table, columns, &tokens));
    assert!(
        !(named && scales.stays_finite()),
        "{case:?}: all that went in is small, and a NaN or infinity came out"
    );
}

#[test]
fn rows_of_the_table_have_equal_bits() {
    run(file!(), 2000, &cases(), check);
}
