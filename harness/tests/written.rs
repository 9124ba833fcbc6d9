//! What the writers of this workspace write, the strict reader reads back: value by value, byte by
//! byte, and the shape that a recipe asked for.

use engine::Config;
use engine::gguf::{File, TensorType, Value};
use fixtures::hostile::raw::{Entry, Raw, Tensor, array, string, value};
use fixtures::{GgmlDType, Recipe, Shape};
use proptest::prelude::*;

/// A value as the reader gives it, its type's number, and its bytes.
type Written = (Value, u32, Vec<u8>);

fn scalar() -> impl Strategy<Value = Written> {
    prop_oneof![
        any::<u8>().prop_map(|one| (Value::U8(one), 0, one.to_le_bytes().to_vec())),
        any::<i8>().prop_map(|one| (Value::I8(one), 1, one.to_le_bytes().to_vec())),
        any::<u16>().prop_map(|one| (Value::U16(one), 2, one.to_le_bytes().to_vec())),
        any::<i16>().prop_map(|one| (Value::I16(one), 3, one.to_le_bytes().to_vec())),
        any::<u32>().prop_map(|one| (Value::U32(one), 4, one.to_le_bytes().to_vec())),
        any::<i32>().prop_map(|one| (Value::I32(one), 5, one.to_le_bytes().to_vec())),
        any::<f32>().prop_map(|one| (Value::F32(one), 6, one.to_le_bytes().to_vec())),
        any::<bool>().prop_map(|one| (Value::Bool(one), 7, vec![u8::from(one)])),
        any::<u64>().prop_map(|one| (Value::U64(one), 10, one.to_le_bytes().to_vec())),
        any::<i64>().prop_map(|one| (Value::I64(one), 11, one.to_le_bytes().to_vec())),
        any::<f64>().prop_map(|one| (Value::F64(one), 12, one.to_le_bytes().to_vec())),
        any::<String>().prop_map(|one| {
            let bytes = string(one.as_bytes());
            (Value::Str(one), value::STRING, bytes)
        }),
    ]
}

fn list() -> impl Strategy<Value = Written> {
    prop_oneof![
        prop::collection::vec(any::<String>(), 0..20).prop_map(|all| {
            let bytes: Vec<u8> = all.iter().flat_map(|one| string(one.as_bytes())).collect();
            let bytes = array(value::STRING, all.len() as u64, &bytes);
            (Value::Strings(all), value::ARRAY, bytes)
        }),
        prop::collection::vec(any::<i32>(), 0..20).prop_map(|all| {
            let bytes: Vec<u8> = all.iter().flat_map(|one| one.to_le_bytes()).collect();
            let bytes = array(5, all.len() as u64, &bytes);
            (Value::I32s(all), value::ARRAY, bytes)
        }),
        prop::collection::vec(any::<u64>(), 0..20).prop_map(|all| {
            let bytes: Vec<u8> = all.iter().flat_map(|one| one.to_le_bytes()).collect();
            let bytes = array(10, all.len() as u64, &bytes);
            let count = all.len() as u64;
            (Value::Array { element: "uint64", count }, value::ARRAY, bytes)
        }),
    ]
}

/// A type, blocks in a row, rows, and the byte that the data begin with.
fn tensor() -> impl Strategy<Value = (TensorType, u64, u64, u8)> {
    let kinds: Vec<TensorType> = TensorType::all().collect();
    (prop::sample::select(kinds), 1..4_u64, 1..5_u64, any::<u8>())
}

/// NaN is not itself: values are equal where their words are.
fn words(value: &Value) -> String {
    format!("{value:?}")
}

proptest! {
    #[test]
    fn every_value_and_every_byte_comes_back(
        values in prop::collection::vec(prop_oneof![scalar(), list()], 0..12),
        shapes in prop::collection::vec(tensor(), 0..6),
        alignment in 3..10_u32,
        version in 2..=3_u32,
    ) {
        let entry = |(index, (_, kind, bytes)): (usize, &Written)| {
            Entry { key: format!("key.{index}").into(), kind: *kind, value: bytes.clone() }
        };
        let tensors = shapes.iter().enumerate().map(|(index, &(kind, blocks, rows, first))| {
            let size = blocks * kind.block_bytes() * rows;
            Tensor {
                name: format!("tensor.{index}").into(),
                dimensions: vec![blocks * kind.block_values(), rows],
                dimensions_count: None,
                kind: kind.id(),
                offset: None,
                data: (0..size).map(|byte| first.wrapping_add(byte as u8)).collect(),
            }
        });
        let mut raw = Raw {
            magic: *b"GGUF",
            version,
            tensors_count: None,
            entries_count: None,
            entries: values.iter().enumerate().map(entry).collect(),
            tensors: tensors.collect(),
            alignment: 1 << alignment,
            trailing: 0,
        };
        raw.set_u32("general.alignment", 1 << alignment);
        let file = File::from_bytes(raw.bytes()).unwrap();
        prop_assert_eq!((file.version(), file.alignment()), (version, 1 << alignment));
        prop_assert_eq!(file.metadata().len(), values.len() + 1);
        for (index, (value, ..)) in values.iter().enumerate() {
            prop_assert_eq!(words(&file.metadata()[&format!("key.{index}")]), words(value));
        }
        prop_assert_eq!(file.tensors().len(), shapes.len());
        for (written, read) in raw.tensors.iter().zip(file.tensors()) {
            prop_assert_eq!(&written.name, read.name.as_bytes());
            prop_assert_eq!(&written.dimensions, &read.dimensions);
            prop_assert_eq!(written.kind, read.kind.id());
            prop_assert_eq!(&written.data, file.bytes(read));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_recipe_reads_back_as_the_model_it_asked_for(
        (layers, heads, groups, half) in (1..3_usize, 1..5_usize, 1..3_usize, 1..9_usize),
        (hidden, feed_forward, vocabulary) in (1..9_usize, 1..9_usize, 257..300_usize),
        kind in prop::sample::select(vec![GgmlDType::F32, GgmlDType::BF16, GgmlDType::F16]),
        (tied, seed) in any::<(bool, u64)>(),
    ) {
        let shape = Shape {
            layers,
            hidden: hidden * 8,
            heads: heads * groups,
            kv_heads: heads,
            head_size: half * 2,
            feed_forward: feed_forward * 8,
            vocabulary,
            context_length: 7,
        };
        let small = Recipe::small();
        let names = ["token_embd", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate"];
        let names = names.into_iter().chain(["ffn_up", "ffn_down"]);
        let output = (!tied).then_some("output");
        let types = names.chain(output).map(|name| (name.to_owned(), kind)).collect();
        let bytes = Recipe { shape, types, tied, seed, ..small }.bytes().unwrap();
        let file = File::from_bytes(bytes).unwrap();
        let config = Config::from_gguf(&file).unwrap();
        prop_assert_eq!((config.layers, config.hidden), (layers, shape.hidden));
        prop_assert_eq!((config.heads, config.kv_heads), (shape.heads, heads));
        prop_assert_eq!((config.head_size, config.rope_dimensions), (half * 2, half * 2));
        prop_assert_eq!((config.feed_forward, config.vocabulary), (feed_forward * 8, vocabulary));
        prop_assert_eq!((config.context_length, config.tied), (7, tied));
    }
}
