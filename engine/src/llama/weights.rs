//! The tensors of a llama file on the device, in the file's own bytes.

use super::config::ConfigError;
use super::finite;
use super::shapes::Shapes;
use super::verify::Sum;
use crate::device::{Buffer, Device};
use crate::fault::Fault;
use crate::gguf::TensorType;

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
    /// What the file held when it was uploaded.
    pub(super) sums: Vec<Sum>,
}

impl Weights {
    /// The matrix of the output projection.
    pub(super) fn output_matrix(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.token_embd)
    }

    /// Every matrix that takes part in a product.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> + Clone {
        let layers = self.layers.iter().flat_map(LayerWeights::matrices);
        layers.chain(std::iter::once(self.output_matrix()))
    }

    /// Uploads what was checked.
    pub(super) fn load(
        shapes: Shapes<'_>,
        device: &Device,
        fault: Option<Fault>,
    ) -> Result<Self, crate::Error> {
        let loader = Loader { shapes, device };
        let config = shapes.config;
        let token_embd = loader.matrix("token_embd.weight")?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let name = |stem: &str| format!("blk.{layer}.{stem}.weight");
            layers.push(LayerWeights {
                attn_q: loader.matrix(&name("attn_q"))?,
                attn_k: loader.matrix(&name("attn_k"))?,
                attn_v: loader.matrix(&name("attn_v"))?,
                attn_output: loader.matrix(&name("attn_output"))?,
                ffn_gate: loader.matrix(&name("ffn_gate"))?,
                ffn_up: loader.matrix(&name("ffn_up"))?,
                ffn_down: loader.matrix(&name("ffn_down"))?,
                attn_norm: loader.norm(&name("attn_norm"))?,
                ffn_norm: loader.norm(&name("ffn_norm"))?,
            });
        }
        let output_norm = loader.norm("output_norm.weight")?;
        let output = if config.tied { None } else { Some(loader.matrix("output.weight")?) };
        let rope_factors = match shapes.file.find_tensor("rope_freqs.weight") {
            None => None,
            Some(_) => Some(loader.rope_factors()?),
        };
        let mut weights =
            Self { token_embd, layers, output_norm, output, rope_factors, sums: Vec::new() };
        weights.sums = shapes.stored().map(|tensor| Sum::of(shapes.file, tensor)).collect();
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
        self.buffers().find(|buffer| buffer.name() == name)
    }
}

impl LayerWeights {
    /// Its matrices, in the order of their upload.
    pub(super) fn matrices(&self) -> [&Matrix; 7] {
        [
            &self.attn_q,
            &self.attn_k,
            &self.attn_v,
            &self.attn_output,
            &self.ffn_gate,
            &self.ffn_up,
            &self.ffn_down,
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

/// Takes tensors out of a checked file.
struct Loader<'a> {
    shapes: Shapes<'a>,
    device: &'a Device,
}

impl Loader<'_> {
    /// The bytes of a tensor, in which every number is finite.
    fn bytes(&self, name: &str) -> Result<&[u8], ConfigError> {
        let tensor = self.shapes.checked(name);
        let bytes = self.shapes.file.bytes(tensor);
        finite::check(name, tensor.kind, bytes)?;
        Ok(bytes)
    }

    fn matrix(&self, name: &str) -> Result<Matrix, crate::Error> {
        let tensor = self.shapes.checked(name);
        let size = |dimension: usize| {
            u32::try_from(tensor.dimensions[dimension]).expect("sizes were compared with 2^24")
        };
        Ok(Matrix {
            buffer: self.device.upload(name, self.bytes(name)?)?,
            kind: tensor.kind,
            outputs: size(1),
            width: size(0),
        })
    }

    fn norm(&self, name: &str) -> Result<Buffer, crate::Error> {
        Ok(self.device.upload(name, self.bytes(name)?)?)
    }

    /// Divisors of the frequencies: 0 would make them infinite, and a rotation of infinity NaN.
    fn rope_factors(&self) -> Result<Vec<f32>, crate::Error> {
        let bytes = self.bytes("rope_freqs.weight")?.chunks_exact(4);
        let factors: Vec<f32> =
            bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match factors.iter().position(|factor| *factor <= 0.0) {
            None => Ok(factors),
            Some(index) => Err(ConfigError::RopeFactor { index, value: factors[index] }.into()),
        }
    }
}
