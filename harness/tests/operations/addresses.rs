//! Inputs that make every output spell the address it was computed from: a wrong value names the
//! place it came from.
//!
//! Both sides are compared with the address itself, so that a fault they share is seen as well.

use fixtures::integers::zeros_and_ones;
use fixtures::values::Stream;
use reference::exact::{Level, ops};
use reference::{Activations, KvType, WeightType};

use crate::engine::{Build, Engine};
use ::engine::{HostBuild, Rotary};

/// Row and column as one number, exact in f32 and never zero.
fn address(row: usize, column: usize, width: usize) -> f32 {
    (1 + row * width + column) as f32
}

/// What a value says about where it came from.
fn source(value: f32, width: usize) -> String {
    if value.fract() != 0.0 || value < 1.0 {
        return "nowhere".to_owned();
    }
    let index = value as usize - 1;
    format!("row {} column {}", index / width, index % width)
}

#[track_caller]
fn assert_spells(
    what: &str,
    values: &[f32],
    outputs: usize,
    width: usize,
    from: impl Fn(usize, usize) -> (usize, usize),
) {
    for (index, value) in values.iter().enumerate() {
        let (row, output) = (index / outputs, index % outputs);
        let (due_row, due_column) = from(row, output);
        assert!(
            *value == address(due_row, due_column, width),
            "{what}: output [{row}, {output}] is due from row {due_row} column {due_column}, and \
             comes from {} ({value})",
            source(*value, width)
        );
    }
}

fn builds() -> impl Iterator<Item = Build> {
    Build::all().into_iter()
}

/// One weight of 1 in each row picks one activation; the largest fixed-point number in every block
/// makes the scale 1, so that integers pass unchanged.
#[test]
fn products_spell_row_and_column() {
    let mut stream = Stream::new(31);
    for kind in WeightType::ALL {
        for activations in [Activations::I24, Activations::I16] {
            let block = kind.block_values().max(32);
            let (rows, outputs) = (19, 70);
            let width = if block == 256 { 5 * 256 } else { 11 * 32 };
            let largest = activations.magnitude_max() as usize;
            assert!(rows * width < largest);
            let mut x: Vec<f32> = (0..rows * width)
                .map(|index| address(index / width, index % width, width))
                .collect();
            x.iter_mut().step_by(block).for_each(|x| *x = largest as f32);
            let mut picks = Vec::new();
            let mut weights = vec![0; outputs * width];
            for row in weights.chunks_mut(width) {
                // Not the first of a block.
                let pick = stream.below(width / block) * block + 1 + stream.below(block - 1);
                row[pick] = 1;
                picks.push(pick);
            }
            let bytes = zeros_and_ones(kind.to_candle(), &weights);
            let matrix = ops::MatrixBytes { kind, bytes: &bytes, rows: outputs, columns: width };
            let what = format!("{} {}", kind.name(), activations.name());
            let from = |row, output: usize| (row, picks[output]);
            for level in Level::available() {
                let values = ops::product(level, activations, matrix, &x);
                assert_spells(&format!("reference {what}"), &values, outputs, width, from);
            }
            for build in builds() {
                let engine = Engine::new(build, activations, KvType::F32);
                let values = engine.product(kind, &bytes, &x, width);
                assert_spells(&format!("engine {what}"), &values, outputs, width, from);
            }
        }
    }
}

/// A table of zeros with one 1 in each row, at a place that only this row has.
#[test]
fn embeddings_spell_token_and_column() {
    for kind in WeightType::ALL {
        let (vocabulary, width) = (300, 512);
        let place = |token: usize| token * 37 % width;
        let mut table = vec![0; vocabulary * width];
        for (token, row) in table.chunks_mut(width).enumerate() {
            row[place(token)] = 1;
        }
        let bytes = zeros_and_ones(kind.to_candle(), &table);
        let tokens: Vec<u32> = vec![299, 0, 7, 7, 128];
        let matrix = ops::MatrixBytes { kind, bytes: &bytes, rows: vocabulary, columns: width };
        let mut answers = vec![ops::embed(matrix, &tokens)];
        for build in builds() {
            let engine = Engine::new(build, Activations::I24, KvType::F32);
            answers.push(engine.embed(kind, &bytes, width, &tokens));
        }
        for answer in answers {
            for (row, token) in answer.chunks(width).zip(&tokens) {
                let found: Vec<usize> = (0..width).filter(|index| row[*index] != 0.0).collect();
                assert_eq!(found, [place(*token as usize)], "{} token {token}", kind.name());
                assert!(row[found[0]] == 1.0, "{} token {token}: {}", kind.name(), row[found[0]]);
            }
        }
    }
}

/// Rows of plus and minus 1 have norm 1; the weights spell the column, the signs the row.
#[test]
fn norms_spell_column_and_row() {
    let (rows, width) = (5, 600);
    let sign = |row: usize, column: usize| {
        if Stream::new((row * width + column) as u64).bits() & 1 == 0 { 1.0 } else { -1.0 }
    };
    let x: Vec<f32> = (0..rows * width).map(|index| sign(index / width, index % width)).collect();
    let weight: Vec<f32> = (0..width).map(|column| address(0, column, width)).collect();
    let expected: Vec<f32> =
        x.iter().enumerate().map(|(index, x)| x * weight[index % width]).collect();
    for level in Level::available() {
        assert_eq!(ops::rms_norm(level, &x, &weight, 0.0), expected);
    }
    for build in builds() {
        let engine = Engine::new(build, Activations::I24, KvType::F32);
        assert_eq!(engine.rms_norm(&x, &weight, 0.0), expected, "{build:?}");
    }
}

/// Frequencies of a quarter turn: position p turns a pair (a, b) into (a, b), (-b, a), (-a, -b) or
/// (b, -a). The angle is not exact, so the spelled number is the nearest integer.
#[test]
fn rotations_spell_pair_and_position() {
    let (heads, head_size, rows) = (3, 64, 6);
    let width = heads * head_size;
    let factors = vec![std::f32::consts::FRAC_2_PI; head_size / 2];
    let x: Vec<f32> =
        (0..rows * width).map(|index| address(index / width, index % width, width)).collect();
    let expected: Vec<f32> = (0..rows * width)
        .map(|index| {
            let (row, column) = (index / width, index % width);
            let [a, b] = [0, 1].map(|half| address(row, column / 2 * 2 + half, width));
            [[a, -b, -a, b], [b, a, -b, -a]][column % 2][row % 4]
        })
        .collect();
    let spelled = |values: Vec<f32>| values.into_iter().map(f32::round).collect::<Vec<_>>();
    let rope = ops::Rope { head_size, dimensions: head_size, base: 1.0, factors: Some(&factors) };
    for level in Level::available() {
        assert_eq!(spelled(ops::rope(level, rope, &x, width, 0)), expected);
    }
    for build in builds() {
        let engine = Engine::new(build, Activations::I24, KvType::F32);
        let rotary = Rotary { base: 1.0, dimensions: head_size, factors: Some(&factors) };
        let values = engine.rope(rotary, &x, (heads, head_size), 0);
        assert_eq!(spelled(values), expected, "{build:?}");
    }
}

/// Every position has a key of signs of its own, and a query the signs of one earlier key: that
/// key's value is all of the result, so it spells position, KV head and column.
#[test]
fn attention_spells_position_head_and_column() {
    let (heads, kv_heads, head_size, positions) = (6, 2, 64, 150);
    let width = kv_heads * head_size;
    let sign = |position: usize, head: usize, d: usize| {
        let seed = (position * kv_heads + head) * head_size + d;
        if Stream::new(seed as u64).bits() & 1 == 0 { 1.0 } else { -1.0 }
    };
    for rows in [1, 40, positions] {
        let first = positions - rows;
        let target = |position: usize, head: usize| (position * 7 + head * 3) % (position + 1);
        let mut stream_keys = Vec::new();
        for position in 0..positions {
            for head in 0..kv_heads {
                stream_keys.extend((0..head_size).map(|d| sign(position, head, d)));
            }
        }
        let keys = stream_keys;
        let group = heads / kv_heads;
        let queries: Vec<f32> = (first..positions)
            .flat_map(|position| (0..heads).map(move |head| (position, head)))
            .flat_map(|(position, head)| {
                let target = target(position, head);
                (0..head_size).map(move |d| 40.0 * sign(target, head / group, d))
            })
            .collect();
        for kv in [KvType::F32, KvType::F16] {
            // Integers to 2048 are exact in f16: there a value spells its position and head.
            let value = |position: usize, column: usize| match kv {
                KvType::F32 => address(position, column, width),
                KvType::F16 => address(position, column / head_size, kv_heads),
            };
            let values: Vec<f32> =
                (0..positions * width).map(|index| value(index / width, index % width)).collect();
            let expected: Vec<f32> = (first..positions)
                .flat_map(|position| (0..heads * head_size).map(move |column| (position, column)))
                .map(|(position, column)| {
                    let (head, d) = (column / head_size, column % head_size);
                    value(target(position, head), head / group * head_size + d)
                })
                .collect();
            let case = ops::Attention {
                heads,
                kv_heads,
                head_size,
                kv,
                queries: &queries,
                keys: &keys,
                values: &values,
            };
            for level in Level::available() {
                assert_eq!(ops::attention(level, case), expected, "reference {rows} rows");
            }
            for build in builds() {
                let engine = Engine::new(build, Activations::I24, kv);
                assert_eq!(engine.attention(case), expected, "{build:?} {rows} rows");
            }
        }
    }
}

/// A gate of 128 multiplies by 128 exactly; a sum of two numbers spells both.
#[test]
fn gates_and_sums_spell_their_index() {
    let count = 3000;
    let index: Vec<f32> = (0..count).map(|index| address(0, index, count)).collect();
    let gates = vec![128.0; count];
    let high: Vec<f32> = (0..count).rev().map(|index| (index * 4096) as f32).collect();
    let gated: Vec<f32> = index.iter().map(|index| 128.0 * index).collect();
    let summed: Vec<f32> = index.iter().zip(&high).map(|(index, high)| index + high).collect();
    for level in Level::available() {
        assert_eq!(ops::swiglu(level, &gates, &index), gated);
    }
    assert_eq!(ops::add(&index, &high), summed);
    for build in builds() {
        let engine = Engine::new(build, Activations::I24, KvType::F32);
        assert_eq!(engine.swiglu(&gates, &index), gated, "{build:?}");
        assert_eq!(engine.residual(&index, &high), summed, "{build:?}");
    }
}

/// The test's own decoder, on a value from the wrong place.
#[test]
#[should_panic(expected = "is due from row 1 column 2, and comes from row 0 column 3 (4)")]
fn a_wrong_value_names_its_source() {
    let build = Build::host(HostBuild::Baseline, 1);
    let engine = Engine::new(build, Activations::I24, KvType::F32);
    let values = engine.residual(&[1.0, 4.0], &[0.0, 0.0]);
    assert_spells("planted", &values, 1, 4, |row, _| [(0, 0), (1, 2)][row]);
}
