//! attention with the cache behind it: grouped heads, tiles of positions, f32 and f16.

use proptest::prelude::*;
use reference::exact::{Level, ops};
use reference::{Activations, KvType};

use crate::engine::{Build, Engine};
use crate::{any_family, any_kv, any_level, assert_same, run};
use fixtures::values::{Family, Stream};

#[derive(Clone, Debug)]
struct Case {
    kv_heads: usize,
    group: usize,
    head_size: usize,
    positions: usize,
    rows: usize,
    kv: KvType,
    family: Family,
    spread: f32,
    build: Build,
    level: Level,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let head_size = prop::sample::select(vec![2_usize, 20, 64, 80, 96, 128, 256]);
    let positions =
        prop_oneof![1_usize..200, prop::sample::select(vec![1_usize, 2, 64, 65, 66, 128, 129])];
    let shape = (1_usize..4, 1_usize..4, head_size, positions, 1_usize..40);
    // How peaked the scores are: from nearly uniform to one key that takes all.
    let spread = prop::sample::select(vec![0.01_f32, 1.0, 8.0, 100.0]);
    let values = (any_kv(), any_family(), spread, any::<u64>());
    (shape, values, Build::any(), any_level()).prop_map(|(shape, values, build, level)| {
        let (kv_heads, group, head_size, positions, rows) = shape;
        let (kv, family, spread, seed) = values;
        let rows = rows.min(positions);
        Case { kv_heads, group, head_size, positions, rows, kv, family, spread, build, level, seed }
    })
}

fn check(case: Case) {
    let mut stream = Stream::new(case.seed);
    let Case { kv_heads, group, head_size, positions, rows, kv, family, .. } = case;
    let (heads, width) = (kv_heads * group, kv_heads * head_size);
    let mut queries = stream.rows(family, rows * heads * head_size, head_size);
    queries.iter_mut().for_each(|q| *q *= case.spread);
    let keys = stream.rows(Family::Ordinary, positions * width, head_size);
    let values = stream.rows(family, positions * width, width);
    let attention = ops::Attention {
        heads,
        kv_heads,
        head_size,
        kv,
        queries: &queries,
        keys: &keys,
        values: &values,
    };
    let expected = ops::attention(case.level, attention);
    let engine = Engine::new(case.build, Activations::I24, kv);
    let named = assert_same(&case, expected, engine.attention(attention));
    // A million is infinite in f16.
    let small = family.stays_finite() && !(kv == KvType::F16 && family == Family::Outlier);
    assert!(
        !(named && small),
        "{case:?}: all that went in is small, and a NaN or infinity came out"
    );
    assert!(named || family != Family::OneNan, "{case:?}: a NaN went in, none came out");
}

#[test]
fn attention_has_equal_bits() {
    run(file!(), 1500, &cases(), check);
}

#[test]
fn attention_over_many_positions_has_equal_bits() {
    let cases = (any_kv(), 1_usize..3, Build::any(), any_level(), any::<u64>());
    run(file!(), 12, &cases, |(kv, rows, build, level, seed)| {
        check(Case {
            kv_heads: 1,
            group: 2,
            head_size: 64,
            positions: 4096,
            rows,
            kv,
            family: Family::Ordinary,
            spread: 4.0,
            build,
            level,
            seed,
        });
    });
}
