//! One operation of `exact` alone, on inputs that are given and weights read from the file.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;

use crate::exact::Level;
use crate::exact::ops::{self, MatrixBytes};
use crate::file::ModelFile;
use crate::{Activations, Config, Error, KvType, Options, WeightType, rotary};

/// A tensor in the bytes of the file. A vector has one row.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorBytes {
    /// The type of its values.
    pub kind: WeightType,
    /// How many rows.
    pub rows: usize,
    /// How many values a row has.
    pub columns: usize,
    /// Its rows, one after the other.
    pub bytes: Vec<u8>,
}

impl TensorBytes {
    fn matrix(&self) -> MatrixBytes<'_> {
        let Self { kind, rows, columns, .. } = *self;
        MatrixBytes { kind, rows, columns, bytes: &self.bytes }
    }
}

/// What an operation reads: rows by the names of the taps that they are (contract, section 12);
/// `stream` for what a norm reads, `before` and `branch` for a sum, `keys` and `values` for those
/// of all positions up to the last row's.
#[derive(Clone, Copy, Debug)]
pub struct OperationInputs<'a> {
    /// The position of row 0.
    pub first_position: usize,
    /// The tokens of the rows.
    pub tokens: &'a [u32],
    /// Rows one after another, by name.
    pub tensors: &'a BTreeMap<String, Vec<f32>>,
}

impl<'a> OperationInputs<'a> {
    /// The tensor of a name, which has to have so many values.
    fn tensor(&self, operation: &str, name: &str, count: usize) -> Result<&'a [f32], Error> {
        let refused = || Error::OperationInput {
            operation: operation.into(),
            reason: format!("its input `{name}` is missing or has not {count} values"),
        };
        let values = self.tensors.get(name).map(Vec::as_slice);
        values.filter(|values| values.len() == count).ok_or_else(refused)
    }
}

fn refused(operation: &str, reason: &str) -> Error {
    Error::OperationInput { operation: operation.into(), reason: reason.into() }
}

/// A model's operations, one at a time; weights are read when they are needed.
pub struct Operations {
    file: ModelFile,
    config: Config,
    options: Options,
    factors: Option<Vec<f32>>,
    level: Level,
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Operations").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Keys or values as the cache gives them back (contract, section 9).
#[must_use]
pub fn stored(kv: KvType, values: &[f32]) -> Vec<f32> {
    match kv {
        KvType::F32 => values.to_vec(),
        KvType::F16 => values.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect(),
    }
}

impl Operations {
    /// Reads the header of a file.
    pub fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let mut file = ModelFile::open(path)?;
        let factors = rotary::factors(&mut file)?;
        let config = file.config().clone();
        let level = Level::best(options.simd);
        Ok(Self { file, config, options: options.clone(), factors, level })
    }

    /// What the file says about the model.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The matrix that the output projection reads.
    #[must_use]
    pub const fn output_name(&self) -> &'static str {
        if self.config.tied { "token_embd.weight" } else { "output.weight" }
    }

    /// A tensor of the forward pass by its GGUF name.
    pub fn tensor(&mut self, name: &str) -> Result<TensorBytes, Error> {
        let (rows, columns) = self.shape(name);
        let stored = match rows {
            0 => self.file.vector(name, columns)?,
            _ => self.file.matrix(name, rows, columns)?,
        };
        let bytes = stored.named(stored.tensor.data())?.into_owned();
        Ok(TensorBytes { kind: stored.kind, rows: rows.max(1), columns, bytes })
    }

    /// Rows and columns of a tensor; a vector has no rows.
    fn shape(&self, name: &str) -> (usize, usize) {
        let Config { hidden, feed_forward, vocabulary, .. } = self.config;
        let (query, kv) = (self.config.query_width(), self.config.kv_width());
        let stem = name.trim_end_matches(".weight").rsplit('.').next().unwrap_or_default();
        match stem {
            "attn_q" => (query, hidden),
            "attn_k" | "attn_v" => (kv, hidden),
            "attn_output" => (hidden, query),
            "ffn_gate" | "ffn_up" => (feed_forward, hidden),
            "ffn_down" => (hidden, feed_forward),
            "token_embd" | "output" => (vocabulary, hidden),
            "rope_freqs" => (0, self.config.rope_dimensions / 2),
            _ => (0, hidden),
        }
    }

    /// Runs the operation of a tap; besides those of the contract there are `keys` and `values`,
    /// the cache's rows.
    pub fn run(
        &mut self,
        tap: &str,
        layer: Option<usize>,
        inputs: OperationInputs<'_>,
    ) -> Result<Vec<f32>, Error> {
        self.check(tap, inputs)?;
        let input = |name: &str| self.input(tap, name, inputs);
        let block = |stem: &str| format!("blk.{}.{stem}.weight", layer.unwrap_or_default());
        match tap {
            "embed" => {
                let table = self.tensor("token_embd.weight")?;
                Ok(ops::embed(table.matrix(), inputs.tokens))
            }
            "attn_norm" => self.norm(&block("attn_norm"), input("stream")?),
            "ffn_norm" => self.norm(&block("ffn_norm"), input("stream")?),
            "final_norm" => self.norm("output_norm.weight", input("stream")?),
            "q" => self.product(&block("attn_q"), input("attn_norm")?),
            "k" => self.product(&block("attn_k"), input("attn_norm")?),
            "v" => self.product(&block("attn_v"), input("attn_norm")?),
            "wo" => self.product(&block("attn_output"), input("attn_out")?),
            "gate" => self.product(&block("ffn_gate"), input("ffn_norm")?),
            "up" => self.product(&block("ffn_up"), input("ffn_norm")?),
            "down" => self.product(&block("ffn_down"), input("swiglu")?),
            "logits" => self.product(self.output_name(), input("final_norm")?),
            "q_rope" => Ok(self.rope(input("q")?, self.config.query_width(), inputs)),
            "k_rope" => Ok(self.rope(input("k")?, self.config.kv_width(), inputs)),
            "keys" => Ok(stored(self.options.kv, input("k_rope")?)),
            "values" => Ok(stored(self.options.kv, input("v")?)),
            "attn_out" => {
                let (queries, keys) = (input("q_rope")?, input("keys")?);
                Ok(self.attention(queries, keys, input("values")?))
            }
            "swiglu" => Ok(ops::swiglu(self.level, input("gate")?, input("up")?)),
            "attn_residual" | "ffn_residual" => Ok(ops::add(input("before")?, input("branch")?)),
            _ => Err(refused(tap, "there is no such tap")),
        }
    }

    /// Rows there are, of tokens that there are, at positions that there are.
    pub(crate) fn check(&self, tap: &str, inputs: OperationInputs<'_>) -> Result<(), Error> {
        let Config { vocabulary, context_length, .. } = self.config;
        if let Some(&token) = inputs.tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(Error::Token { token, vocabulary });
        }
        let end = inputs.first_position.checked_add(inputs.tokens.len());
        if inputs.tokens.is_empty() || end.is_none_or(|end| end > context_length) {
            return Err(refused(tap, "its positions are none of the model's"));
        }
        Ok(())
    }

    /// An input by its name, as long as the shape of the model says.
    pub(crate) fn input<'a>(
        &self,
        tap: &str,
        name: &str,
        inputs: OperationInputs<'a>,
    ) -> Result<&'a [f32], Error> {
        let rows = inputs.tokens.len();
        let count = match name {
            "q" | "q_rope" | "attn_out" => rows * self.config.query_width(),
            "k" | "v" | "k_rope" => rows * self.config.kv_width(),
            "keys" | "values" => (inputs.first_position + rows) * self.config.kv_width(),
            "gate" | "up" | "swiglu" => rows * self.config.feed_forward,
            _ => rows * self.config.hidden,
        };
        inputs.tensor(tap, name, count)
    }

    pub(crate) fn activations(&self) -> Activations {
        self.options.activations
    }

    pub(crate) fn frequencies(&self) -> Vec<f64> {
        rotary::frequencies(&self.config, self.factors.as_deref())
    }

    /// The weight of a norm, widened.
    pub(crate) fn vector(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let stored = self.file.vector(name, self.config.hidden)?;
        let weight = stored.named(stored.tensor.dequantize(&Device::Cpu))?;
        stored.named(weight.to_vec1())
    }

    fn norm(&mut self, name: &str, x: &[f32]) -> Result<Vec<f32>, Error> {
        let weight = self.vector(name)?;
        Ok(ops::rms_norm(self.level, x, &weight, self.config.eps))
    }

    fn product(&mut self, name: &str, x: &[f32]) -> Result<Vec<f32>, Error> {
        let matrix = self.tensor(name)?;
        Ok(ops::product(self.level, self.options.activations, matrix.matrix(), x))
    }

    fn rope(&self, x: &[f32], width: usize, inputs: OperationInputs<'_>) -> Vec<f32> {
        let rope = ops::Rope {
            head_size: self.config.head_size,
            dimensions: self.config.rope_dimensions,
            base: self.config.rope_base,
            factors: self.factors.as_deref(),
        };
        ops::rope(self.level, rope, x, width, inputs.first_position)
    }

    fn attention(&self, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let Config { heads, kv_heads, head_size, .. } = self.config;
        let kv = self.options.kv;
        ops::attention(
            self.level,
            ops::Attention { heads, kv_heads, head_size, kv, queries, keys, values },
        )
    }
}
