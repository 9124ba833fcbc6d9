//! The tensors of a llama file on the device, shapes compared with the metadata one by one.

use super::config::{Config, ConfigError};
use crate::device::{Buffer, Device};
use crate::fault::Fault;
use crate::gguf::{File, TensorType};
use std::collections::BTreeSet;

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
        fault: Option<Fault>,
    ) -> Result<Self, crate::Error> {
        let mut loader = Loader { file, device, taken: BTreeSet::new() };
        let Config { hidden, heads, kv_heads, head_size, feed_forward, vocabulary, .. } = *config;
        let (query, kv) = (heads * head_size, kv_heads * head_size);
        let token_embd = loader.matrix("token_embd.weight", vocabulary, hidden)?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let mut matrix = |stem: &str, outputs: usize, width: usize| {
                loader.matrix(&format!("blk.{layer}.{stem}.weight"), outputs, width)
            };
            let attn_q = matrix("attn_q", query, hidden)?;
            let attn_k = matrix("attn_k", kv, hidden)?;
            let attn_v = matrix("attn_v", kv, hidden)?;
            let attn_output = matrix("attn_output", hidden, query)?;
            let ffn_gate = matrix("ffn_gate", feed_forward, hidden)?;
            let ffn_up = matrix("ffn_up", feed_forward, hidden)?;
            let ffn_down = matrix("ffn_down", hidden, feed_forward)?;
            let attn_norm = loader.norm(&format!("blk.{layer}.attn_norm.weight"), hidden)?;
            let ffn_norm = loader.norm(&format!("blk.{layer}.ffn_norm.weight"), hidden)?;
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
        let output_norm = loader.norm("output_norm.weight", hidden)?;
        let output = if config.tied {
            None
        } else {
            Some(loader.matrix("output.weight", vocabulary, hidden)?)
        };
        let rope_factors = match file.find_tensor("rope_freqs.weight") {
            None => None,
            Some(_) => Some(loader.floats("rope_freqs.weight", config.rope_dimensions / 2)?),
        };
        loader.refuse_rest()?;
        let mut weights = Self { token_embd, layers, output_norm, output, rope_factors };
        if let Some(fault) = fault {
            weights.plant(fault)?;
        }
        Ok(weights)
    }

    /// Damages what was loaded, in the way of a fault that is one of loading.
    fn plant(&mut self, fault: Fault) -> Result<(), crate::Error> {
        let outputs = self.layers[0].attn_q.outputs;
        match fault {
            Fault::KeyRowsOfQueries => {
                self.layers.iter_mut().for_each(|layer| layer.attn_k.outputs = outputs);
            }
            Fault::KvWeightsTransposed => {
                for layer in &self.layers {
                    layer.attn_k.transpose()?;
                    layer.attn_v.transpose()?;
                }
            }
            Fault::BlockAsF16 => self.layers[0].attn_v.kind = TensorType::F16,
            Fault::WeightBit => {
                let matrix = &self.layers[self.layers.len() - 1].ffn_up;
                // Beyond the scales of a block of any type.
                let byte = matrix.buffer.view::<u8>(matrix.buffer.bytes() / 2 + 20, 1)?;
                let mut held = [0_u8];
                byte.read(&mut held)?;
                byte.write(&[held[0] ^ 0x10])?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The tensor of a name as it lies on the device.
    pub(super) fn buffer(&self, name: &str) -> Option<&Buffer> {
        let named = |buffer: &&Buffer| buffer.name() == name;
        let all = self.layers.iter().flat_map(LayerWeights::buffers);
        let ends = [&self.token_embd.buffer, &self.output_norm];
        let output = self.output.as_ref().map(|matrix| &matrix.buffer);
        all.chain(ends).chain(output).find(named)
    }
}

impl LayerWeights {
    fn buffers(&self) -> [&Buffer; 9] {
        [
            &self.attn_norm,
            &self.attn_q.buffer,
            &self.attn_k.buffer,
            &self.attn_v.buffer,
            &self.attn_output.buffer,
            &self.ffn_norm,
            &self.ffn_gate.buffer,
            &self.ffn_up.buffer,
            &self.ffn_down.buffer,
        ]
    }
}

impl Matrix {
    /// The fault of a transpose that was not needed, block by block; the shape stays.
    fn transpose(&self) -> Result<(), crate::Error> {
        let size = |value: u64| usize::try_from(value).expect("a matrix fits in host memory");
        let mut bytes = vec![0_u8; size(self.buffer.bytes())];
        self.buffer.all().read(&mut bytes)?;
        let (block, rows) = (size(self.kind.block_bytes()), self.outputs as usize);
        let columns = bytes.len() / block / rows;
        let from = |at: usize| (at % rows) * columns + at / rows;
        let turned: Vec<u8> = (0..rows * columns)
            .flat_map(|at| bytes[from(at) * block..][..block].to_vec())
            .collect();
        Ok(self.buffer.all().write(&turned)?)
    }
}

/// Takes tensors out of a file and remembers which.
struct Loader<'a> {
    file: &'a File,
    device: &'a Device,
    taken: BTreeSet<String>,
}

impl Loader<'_> {
    fn matrix(&mut self, name: &str, outputs: usize, width: usize) -> Result<Matrix, crate::Error> {
        let tensor = self.file.tensor(name)?;
        expect_shape(name, &tensor.dimensions, &[width as u64, outputs as u64])?;
        self.taken.insert(name.to_owned());
        Ok(Matrix {
            buffer: self.device.upload(name, self.file.bytes(tensor))?,
            kind: tensor.kind,
            outputs: u32::try_from(outputs).expect("sizes were compared with 2^24"),
            width: u32::try_from(width).expect("sizes were compared with 2^24"),
        })
    }

    fn floats(&mut self, name: &str, count: usize) -> Result<Vec<f32>, crate::Error> {
        let tensor = self.file.tensor(name)?;
        expect_shape(name, &tensor.dimensions, &[count as u64])?;
        if tensor.kind != TensorType::F32 {
            let (tensor, actual) = (name.to_owned(), tensor.kind.name());
            return Err(ConfigError::TensorType { tensor, actual }.into());
        }
        self.taken.insert(name.to_owned());
        let bytes = self.file.bytes(tensor).chunks_exact(4);
        Ok(bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn norm(&mut self, name: &str, count: usize) -> Result<Buffer, crate::Error> {
        let values = self.floats(name, count)?;
        Ok(self.device.upload(name, &values)?)
    }

    fn refuse_rest(&self) -> Result<(), ConfigError> {
        let rest = self.file.tensors().iter().find(|tensor| !self.taken.contains(&tensor.name));
        rest.map_or(Ok(()), |tensor| Err(ConfigError::Unexpected { tensor: tensor.name.clone() }))
    }
}

fn expect_shape(tensor: &str, actual: &[u64], expected: &[u64]) -> Result<(), ConfigError> {
    if actual == expected {
        return Ok(());
    }
    Err(ConfigError::Shape {
        tensor: tensor.to_owned(),
        actual: actual.to_vec(),
        expected: expected.to_vec(),
    })
}
