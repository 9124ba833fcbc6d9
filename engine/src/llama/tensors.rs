//! The tensors that a configuration implies, compared with those of a file before any is read.

use super::config::{Config, ConfigError};
use crate::gguf::{File, TensorInfo, TensorType};
use std::collections::BTreeSet;

/// Token ids are u32 and sizes stay below this in kernels.
const VOCABULARY_LIMIT: u64 = 1 << 24;

/// Rows of the token table, whose width is the stream's.
pub(super) fn vocabulary(file: &File, hidden: usize) -> Result<usize, crate::Error> {
    let tensor = "token_embd.weight";
    let dimensions = &file.tensor(tensor)?.dimensions;
    match dimensions[..] {
        [_, rows] if rows < VOCABULARY_LIMIT => Ok(rows as usize),
        [_, rows] => Err(ConfigError::Vocabulary { rows }.into()),
        _ => Err(ConfigError::Table { actual: dimensions.clone(), hidden }.into()),
    }
}

/// Every tensor is there and has its shape, vectors are F32, and there is no other.
pub(super) fn check(file: &File, config: &Config) -> Result<(), crate::Error> {
    let mut taken = BTreeSet::new();
    // A layer that is not there ends the walk: how many the metadata claims costs nothing.
    for (name, expected) in expected(config) {
        expect(file.tensor(&name)?, &expected)?;
        taken.insert(name);
    }
    let factors = "rope_freqs.weight";
    if let Some(tensor) = file.find_tensor(factors) {
        expect(tensor, &[config.rope_dimensions as u64 / 2])?;
        taken.insert(factors.to_owned());
    }
    match file.tensors().iter().find(|tensor| !taken.contains(&tensor.name)) {
        None => Ok(()),
        Some(tensor) => Err(ConfigError::Unexpected { tensor: tensor.name.clone() }.into()),
    }
}

/// Names and dimensions in the order in which they are loaded.
fn expected(config: &Config) -> impl Iterator<Item = (String, Vec<u64>)> {
    let Config { hidden, heads, kv_heads, head_size, feed_forward, vocabulary, .. } = *config;
    let [hidden, query, kv, feed_forward, vocabulary] =
        [hidden, heads * head_size, kv_heads * head_size, feed_forward, vocabulary]
            .map(|size| size as u64);
    let layer = move |layer: usize| {
        [
            ("attn_q", vec![hidden, query]),
            ("attn_k", vec![hidden, kv]),
            ("attn_v", vec![hidden, kv]),
            ("attn_output", vec![query, hidden]),
            ("ffn_gate", vec![hidden, feed_forward]),
            ("ffn_up", vec![hidden, feed_forward]),
            ("ffn_down", vec![feed_forward, hidden]),
            ("attn_norm", vec![hidden]),
            ("ffn_norm", vec![hidden]),
        ]
        .map(|(stem, dimensions)| (format!("blk.{layer}.{stem}.weight"), dimensions))
    };
    let table = vec![hidden, vocabulary];
    let output = (!config.tied).then(|| ("output.weight".to_owned(), table.clone()));
    std::iter::once(("token_embd.weight".to_owned(), table))
        .chain((0..config.layers).flat_map(layer))
        .chain([("output_norm.weight".to_owned(), vec![hidden])])
        .chain(output)
}

fn expect(tensor: &TensorInfo, expected: &[u64]) -> Result<(), ConfigError> {
    let TensorInfo { name, kind, dimensions, .. } = tensor;
    if dimensions != expected {
        let (tensor, actual, expected) = (name.clone(), dimensions.clone(), expected.to_vec());
        return Err(ConfigError::Shape { tensor, actual, expected });
    }
    if expected.len() == 1 && *kind != TensorType::F32 {
        return Err(ConfigError::TensorType { tensor: name.clone(), actual: kind.name() });
    }
    Ok(())
}
