//! The tensors of a llama file on the device, shapes compared with the metadata one by one.

use super::config::{Config, ConfigError};
use super::finite;
use crate::device::{Buffer, Device};
use crate::gguf::{File, TensorType};

/// A matrix `[outputs][width]` in the file's own blocks.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) buffer: Buffer,
    pub(super) kind: TensorType,
    pub(super) outputs: u32,
    pub(super) width: u32,
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct LayerWeights {
    pub(super) attn_norm: Buffer,
    pub(super) attn_q: Matrix,
    pub(super) attn_k: Matrix,
    pub(super) attn_v: Matrix,
    pub(super) attn_output: Matrix,
    pub(super) ffn_norm: Buffer,
    pub(super) ffn_gate: Matrix,
    pub(super) ffn_up: Matrix,
    pub(super) ffn_down: Matrix,
}

/// All weights of a model.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) token_embd: Matrix,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) output_norm: Buffer,
    /// `None` where the token table is the output projection.
    pub(super) output: Option<Matrix>,
    /// `rope_freqs.weight`, on the host: the tables are made there.
    pub(super) rope_factors: Option<Vec<f32>>,
}

impl Weights {
    /// The matrix of the output projection.
    pub(super) fn output_matrix(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.token_embd)
    }

    pub(super) fn load(
        file: &File,
        config: &Config,
        device: &Device,
    ) -> Result<Self, crate::Error> {
        let loader = Loader { file, device };
        let Config { hidden, heads, kv_heads, head_size, feed_forward, vocabulary, .. } = *config;
        let (query, kv) = (heads * head_size, kv_heads * head_size);
        let token_embd = loader.matrix("token_embd.weight", vocabulary, hidden)?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let matrix = |stem: &str, outputs: usize, width: usize| {
                loader.matrix(&format!("blk.{layer}.{stem}.weight"), outputs, width)
            };
            let attn_q = matrix("attn_q", query, hidden)?;
            let attn_k = matrix("attn_k", kv, hidden)?;
            let attn_v = matrix("attn_v", kv, hidden)?;
            let attn_output = matrix("attn_output", hidden, query)?;
            let ffn_gate = matrix("ffn_gate", feed_forward, hidden)?;
            let ffn_up = matrix("ffn_up", feed_forward, hidden)?;
            let ffn_down = matrix("ffn_down", hidden, feed_forward)?;
            let attn_norm = loader.norm(&format!("blk.{layer}.attn_norm.weight"))?;
            let ffn_norm = loader.norm(&format!("blk.{layer}.ffn_norm.weight"))?;
            layers.push(LayerWeights {
                attn_norm,
                attn_q,
                attn_k,
                attn_v,
                attn_output,
                ffn_norm,
                ffn_gate,
                ffn_up,
                ffn_down,
            });
        }
        let output_norm = loader.norm("output_norm.weight")?;
        let output = if config.tied {
            None
        } else {
            Some(loader.matrix("output.weight", vocabulary, hidden)?)
        };
        let rope_factors = match file.find_tensor("rope_freqs.weight") {
            None => None,
            Some(_) => Some(loader.rope_factors()?),
        };
        Ok(Self { token_embd, layers, output_norm, output, rope_factors })
    }
}

/// Takes tensors out of a file whose table was compared with the configuration.
struct Loader<'a> {
    file: &'a File,
    device: &'a Device,
}

impl Loader<'_> {
    fn matrix(&self, name: &str, outputs: usize, width: usize) -> Result<Matrix, crate::Error> {
        let tensor = self.file.tensor(name)?;
        let bytes = self.file.bytes(tensor);
        finite::check(name, tensor.kind, bytes)?;
        Ok(Matrix {
            buffer: self.device.upload(name, bytes)?,
            kind: tensor.kind,
            outputs: u32::try_from(outputs).expect("sizes were compared with 2^24"),
            width: u32::try_from(width).expect("sizes were compared with 2^24"),
        })
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, crate::Error> {
        let tensor = self.file.tensor(name)?;
        let bytes = self.file.bytes(tensor);
        finite::check(name, tensor.kind, bytes)?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok(values.collect())
    }

    fn norm(&self, name: &str) -> Result<Buffer, crate::Error> {
        let values = self.floats(name)?;
        Ok(self.device.upload(name, &values)?)
    }

    /// Divisors of the frequencies: 0 would make them infinite, and a rotation of infinity NaN.
    fn rope_factors(&self) -> Result<Vec<f32>, crate::Error> {
        let factors = self.floats("rope_freqs.weight")?;
        match factors.iter().position(|factor| *factor <= 0.0) {
            None => Ok(factors),
            Some(index) => Err(ConfigError::RopeFactor { index, value: factors[index] }.into()),
        }
    }
}
