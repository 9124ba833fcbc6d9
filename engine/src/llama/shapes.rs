//! Every tensor that a llama model has, compared with the file before a device is asked for memory.
//!
//! Invariant: the shapes stand here once; what is uploaded and what is estimated come from here.

use super::config::{Config, ConfigError};
use crate::gguf::{File, TensorInfo, TensorType};
use std::collections::BTreeSet;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// `[outputs][width]`, in any type; some take part in products.
    Matrix { outputs: usize, width: usize, product: bool },
    /// Values of f32 on the device.
    Norm { count: usize },
    /// Values of f32 that stay on the host.
    HostFloats { count: usize },
}

/// A file whose tensors are exactly those of the model that its metadata describes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shapes<'a> {
    pub(super) file: &'a File,
    pub(super) config: &'a Config,
}

impl<'a> Shapes<'a> {
    /// Compares names, dimensions and types.
    ///
    /// # Errors
    /// The first tensor that is missing, has another shape, or is no part of the model.
    pub(super) fn check(file: &'a File, config: &'a Config) -> Result<Self, crate::Error> {
        let mut taken = BTreeSet::new();
        for (name, role) in roles(file, config) {
            let tensor = file.tensor(&name)?;
            let expected = match role {
                Role::Matrix { outputs, width, .. } => vec![width as u64, outputs as u64],
                Role::Norm { count } | Role::HostFloats { count } => vec![count as u64],
            };
            if tensor.dimensions != expected {
                let (tensor, actual) = (name, tensor.dimensions.clone());
                return Err(ConfigError::Shape { tensor, actual, expected }.into());
            }
            if !matches!(role, Role::Matrix { .. }) && tensor.kind != TensorType::F32 {
                let (tensor, actual) = (name, tensor.kind.name());
                return Err(ConfigError::TensorType { tensor, actual }.into());
            }
            taken.insert(name);
        }
        if let Some(rest) = file.tensors().iter().find(|tensor| !taken.contains(&tensor.name)) {
            return Err(ConfigError::Unexpected { tensor: rest.name.clone() }.into());
        }
        Ok(Self { file, config })
    }

    /// The tensors that a device holds, in the order in which they are uploaded.
    pub(super) fn stored(self) -> impl Iterator<Item = &'a TensorInfo> {
        let kept = roles(self.file, self.config)
            .filter(|(_, role)| !matches!(role, Role::HostFloats { .. }));
        kept.map(move |(name, _)| self.checked(&name))
    }

    /// The matrices that take part in products.
    pub(super) fn products(self) -> impl Iterator<Item = &'a TensorInfo> {
        let products = roles(self.file, self.config)
            .filter(|(_, role)| matches!(role, Role::Matrix { product: true, .. }));
        products.map(move |(name, _)| self.checked(&name))
    }

    /// A tensor whose name is in the list.
    pub(super) fn checked(self, name: &str) -> &'a TensorInfo {
        self.file.tensor(name).expect("every name in the list was found when it was checked")
    }
}

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

/// All names in the order of their upload.
fn roles<'a>(file: &File, config: &'a Config) -> impl Iterator<Item = (String, Role)> + 'a {
    let Config { hidden, heads, kv_heads, head_size, feed_forward, vocabulary, .. } = *config;
    let (query, kv) = (heads * head_size, kv_heads * head_size);
    let table = Role::Matrix { outputs: vocabulary, width: hidden, product: config.tied };
    let matrix = |outputs, width| Role::Matrix { outputs, width, product: true };
    let layer = [
        ("attn_q", matrix(query, hidden)),
        ("attn_k", matrix(kv, hidden)),
        ("attn_v", matrix(kv, hidden)),
        ("attn_output", matrix(hidden, query)),
        ("ffn_gate", matrix(feed_forward, hidden)),
        ("ffn_up", matrix(feed_forward, hidden)),
        ("ffn_down", matrix(hidden, feed_forward)),
        ("attn_norm", Role::Norm { count: hidden }),
        ("ffn_norm", Role::Norm { count: hidden }),
    ];
    let layers = (0..config.layers).flat_map(move |index| {
        layer.map(|(stem, role)| (format!("blk.{index}.{stem}.weight"), role))
    });
    let named = |name: &str, role| (name.to_owned(), role);
    let output = (!config.tied).then(|| named("output.weight", matrix(vocabulary, hidden)));
    let factors = Role::HostFloats { count: config.rope_dimensions / 2 };
    let has_factors = file.find_tensor("rope_freqs.weight").is_some();
    std::iter::once(named("token_embd.weight", table))
        .chain(layers)
        .chain(std::iter::once(named("output_norm.weight", Role::Norm { count: hidden })))
        .chain(output)
        .chain(has_factors.then(|| named("rope_freqs.weight", factors)))
}
