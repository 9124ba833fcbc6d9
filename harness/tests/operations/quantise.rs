//! quantise: digits, scales and sums of activation blocks.

use proptest::prelude::*;
use reference::exact::{Level, ops};
use reference::{Activations, KvType};

use crate::engine::{Build, Engine};
use crate::{any_activations, any_family, any_level, any_rows, assert_same, run};
use fixtures::values::{Family, Stream};

#[derive(Clone, Debug)]
struct Case {
    activations: Activations,
    block: usize,
    group: usize,
    blocks: usize,
    rows: usize,
    family: Family,
    build: Build,
    level: Level,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let block = prop::sample::select(vec![32_usize, 256]);
    let shape = (block, prop::sample::select(vec![16_usize, 32]), 1_usize..10, any_rows());
    let values = (any_activations(), any_family(), any::<u64>());
    (shape, values, Build::any(), any_level()).prop_map(|(shape, values, build, level)| {
        let (block, group, blocks, rows) = shape;
        let (activations, family, seed) = values;
        Case { activations, block, group, blocks, rows, family, build, level, seed }
    })
}

fn check(case: Case) {
    let Case { activations, block, group, blocks, rows, family, build, level, seed } = case;
    let width = blocks * block;
    let x = Stream::new(seed).rows(family, rows * width, width);
    let expected = ops::quantise_activations(level, activations, &x, block);
    let engine = Engine::new(build, activations, KvType::F32);
    let (digits, scales, sums) = engine.quantise(&x, width, block, group);
    // The engine keeps the digits of a row together, the reference all values of a digit.
    let count = expected.digits.len();
    for (row, digits) in digits.chunks(count * width).enumerate() {
        for (digit, actual) in digits.chunks(width).enumerate() {
            let expected = &expected.digits[digit][row * width..][..width];
            let differs = expected.iter().zip(actual).position(|(one, two)| one != two);
            assert_eq!(differs, None, "{case:?}: row {row} digit {digit}");
        }
    }
    let named = assert_same(&case, expected.scales, scales);
    assert!(
        named != family.is_finite(),
        "{case:?}: NaN scales are due where NaN or infinity went in"
    );
    assert_same(&case, if group == 16 { expected.u_16 } else { expected.u_32 }, sums);
}

#[test]
fn digits_scales_and_sums_have_equal_bits() {
    run(file!(), 2000, &cases(), check);
}
