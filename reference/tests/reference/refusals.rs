//! What the reference refuses, by name.

use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use reference::{Error, Options, Reference, Silent, WeightType};

use crate::tiny::{Random, Tiny, write};

fn options() -> Options {
    Options { threads: 1, ..Options::default() }
}

fn refusal(path: &Path) -> String {
    Reference::load(path, &options()).expect_err("the file is refused").to_string()
}

/// The words with which a tiny file is refused after its metadata were changed.
fn with_metadata(key: &str, value: Option<Value>) -> String {
    let tiny = Tiny::new(WeightType::Q8_0);
    let mut metadata = tiny.metadata();
    metadata.retain(|(name, _)| name != key);
    metadata.extend(value.map(|value| (key.to_string(), value)));
    refusal(&write(&metadata, &tiny.tensors()).0)
}

#[test]
fn metadata_that_the_contract_does_not_have() {
    let text = |value: &str| Some(Value::String(value.into()));
    for (key, value, expected) in [
        (
            "general.architecture",
            text("qwen2"),
            "architecture `qwen2` is not supported, only `llama` is",
        ),
        ("llama.block_count", None, "metadata `llama.block_count` is missing"),
        (
            "llama.expert_count",
            Some(Value::U32(8)),
            "the model uses `llama.expert_count`, which the contract does not have",
        ),
        (
            "llama.rope.scaling.type",
            text("yarn"),
            "the model uses `llama.rope.scaling.type`, which the contract does not have",
        ),
        (
            "llama.rope.scaling.factor",
            Some(Value::F32(8.0)),
            "the model uses `llama.rope.scaling.factor`, which the contract does not have",
        ),
        (
            "llama.rope.dimension_count",
            Some(Value::U32(66)),
            "metadata `llama.rope.dimension_count` is 66, expected an even number up to the head \
             size 64",
        ),
        (
            "llama.attention.head_count_kv",
            Some(Value::U32(3)),
            "metadata `llama.attention.head_count_kv` is 3, expected a divisor of the 4 heads",
        ),
        (
            "llama.attention.value_length",
            Some(Value::U32(32)),
            "metadata `llama.attention.value_length` is 32, expected the length of a key, 64",
        ),
        (
            "llama.attention.key_length",
            Some(Value::U32(32)),
            "metadata `llama.rope.dimension_count` is 64, expected an even number up to the head \
             size 32",
        ),
    ] {
        assert_eq!(with_metadata(key, value), expected);
    }
}

#[test]
fn neutral_metadata_are_accepted() {
    let tiny = Tiny::new(WeightType::Q8_0);
    let mut metadata = tiny.metadata();
    metadata.push(("llama.expert_count".into(), Value::U32(0)));
    metadata.push(("llama.rope.scaling.type".into(), Value::String("none".into())));
    metadata.push(("llama.rope.scaling.factor".into(), Value::F32(1.0)));
    metadata.push(("llama.attention.key_length".into(), Value::U32(64)));
    let file = write(&metadata, &tiny.tensors());
    let reference = Reference::load(&file.0, &options()).unwrap();
    assert_eq!(reference.config().head_size, 64);
    assert!(reference.config().tied);
}

#[test]
fn heads_may_be_wider_than_the_stream() {
    // Queries of 4 x 64 values over a stream of 256 become 2 x 128 when the file says so.
    let tiny = Tiny { kv_heads: 1, ..Tiny::new(WeightType::F32) };
    let mut metadata = tiny.metadata();
    for (key, value) in &mut metadata {
        if key == "llama.attention.head_count" {
            *value = Value::U32(2);
        }
    }
    metadata.push(("llama.attention.key_length".into(), Value::U32(128)));
    let mut tensors = tiny.tensors();
    let mut random = Random(4);
    for (name, tensor) in &mut tensors {
        if name.contains("attn_k") || name.contains("attn_v") {
            *tensor = random.tensor(&[128, 256], 0.1, GgmlDType::F32);
        }
    }
    let mut reference = Reference::load(&write(&metadata, &tensors).0, &options()).unwrap();
    reference.forward(&[1, 2], &mut Silent).unwrap();
    assert_eq!(reference.config().head_size, 128);
}

#[test]
fn tensors_that_do_not_fit() {
    let tiny = Tiny::new(WeightType::Q8_0);
    let with = |change: &dyn Fn(&mut Vec<(String, _)>)| {
        let mut tensors = tiny.tensors();
        change(&mut tensors);
        refusal(&write(&tiny.metadata(), &tensors).0)
    };
    assert_eq!(
        with(&|tensors| tensors.retain(|(name, _)| name != "blk.1.ffn_up.weight")),
        "tensor `blk.1.ffn_up.weight` is missing"
    );
    assert_eq!(
        with(&|tensors| {
            let bias = Random(1).tensor(&[256], 1.0, GgmlDType::F32);
            tensors.push(("blk.0.attn_q.bias".into(), bias));
        }),
        "the model uses the tensor `blk.0.attn_q.bias`, which the contract does not have"
    );
    assert_eq!(
        with(&|tensors| {
            let output = Random(1).tensor(&[80, 128], 1.0, GgmlDType::F32);
            tensors.push(("output.weight".into(), output));
        }),
        "tensor `output.weight` has shape [80, 128], expected [80, 256]"
    );
    assert_eq!(
        with(&|tensors| {
            let norm = Random(1).tensor(&[256], 1.0, GgmlDType::Q8_0);
            tensors.retain(|(name, _)| name != "output_norm.weight");
            tensors.push(("output_norm.weight".into(), norm));
        }),
        "tensor `output_norm.weight` has the unsupported type Q8_0"
    );
    assert_eq!(
        with(&|tensors| {
            let norm = Random(1).tensor(&[256, 256], 1.0, GgmlDType::Q8K);
            tensors.retain(|(name, _)| name != "blk.0.attn_q.weight");
            tensors.push(("blk.0.attn_q.weight".into(), norm));
        }),
        "tensor `blk.0.attn_q.weight` has the unsupported type Q8K"
    );
}

#[test]
fn files_that_are_not_there_or_not_gguf() {
    let missing = std::env::temp_dir().join("no such model.gguf");
    assert_eq!(refusal(&missing), format!("cannot open {}", missing.display()));
    let file = Tiny::new(WeightType::F32).write();
    std::fs::write(&file.0, b"not a model").unwrap();
    assert_eq!(refusal(&file.0), format!("cannot read {} as GGUF", file.0.display()));
}

#[test]
fn options_out_of_range() {
    let file = Tiny::new(WeightType::F32).write();
    for (options, expected) in [
        (Options { ubatch: 0, ..options() }, "option ubatch is 0, expected at least 1"),
        (Options { threads: 0, ..options() }, "option threads is 0, expected at least 1"),
        (
            Options { context_tokens: 161, ..options() },
            "option context_tokens is 161, expected at most the model's 160",
        ),
    ] {
        let error = Reference::load(&file.0, &options).expect_err("the option is refused");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn tokens_that_do_not_fit_leave_the_reference_as_it_was() {
    let file = Tiny::new(WeightType::F32).write();
    let options = Options { context_tokens: 4, ..options() };
    let mut reference = Reference::load(&file.0, &options).unwrap();
    reference.forward(&[1, 2, 3], &mut Silent).unwrap();
    let mut refused = |tokens: &[u32]| reference.forward(tokens, &mut Silent).unwrap_err();
    assert!(matches!(refused(&[]), Error::Empty));
    let error = refused(&[1, 80]);
    assert_eq!(error.to_string(), "token 80 is outside the vocabulary of 80");
    let error = refused(&[1, 2]);
    assert_eq!(error.to_string(), "5 tokens do not fit into a context of 4");
    assert_eq!(reference.position(), 3);
    reference.forward(&[4], &mut Silent).unwrap();
    assert_eq!(reference.position(), 4);
}
