//! A GGUF file through candle's reader: its configuration; its tensors, type and shape checked.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, TensorInfo};

use crate::{Config, Error, WeightType};

/// The tensors of one block, without `blk.N.` and `.weight`.
const BLOCK_TENSORS: [&str; 9] = [
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

/// The tensors outside the blocks.
const MODEL_TENSORS: [&str; 4] =
    ["token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"];

/// What loading gives.
pub(crate) type Loaded<T> = Result<T, Error>;

/// A tensor as it is in the file.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) kind: WeightType,
    pub(crate) tensor: QTensor,
}

impl Stored {
    /// Gives an error of candle the name of this tensor.
    pub(crate) fn named<T>(&self, result: candle_core::Result<T>) -> Result<T, Error> {
        result.map_err(|source| Error::TensorRead { tensor: self.name.clone(), source })
    }
}

/// An open model file.
pub(crate) struct ModelFile {
    reader: BufReader<File>,
    content: Content,
    config: Config,
}

impl ModelFile {
    /// Reads the header and refuses what the forward pass cannot run.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file =
            File::open(path).map_err(|source| Error::Open { path: path.to_path_buf(), source })?;
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let tied = !content.tensor_infos.contains_key("output.weight");
        let factors = content.tensor_infos.contains_key("rope_freqs.weight");
        let embedding = info(&content, "token_embd.weight")?;
        let vocabulary = *embedding.shape.dims().first().unwrap_or(&0);
        let config = Config::read(&content.metadata, vocabulary, tied, factors)?;
        refuse_unknown(&content, config.layers)?;
        Ok(Self { reader, content, config })
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// A matrix of `rows` rows with `columns` values each, of any of the thirteen types.
    pub(crate) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Stored, Error> {
        self.tensor(name, &[rows, columns], &WeightType::ALL)
    }

    /// A vector of floats.
    pub(crate) fn vector(&mut self, name: &str, length: usize) -> Result<Stored, Error> {
        self.tensor(name, &[length], &[WeightType::F32, WeightType::F16, WeightType::Bf16])
    }

    fn tensor(
        &mut self,
        name: &str,
        expected: &[usize],
        kinds: &[WeightType],
    ) -> Result<Stored, Error> {
        let info = info(&self.content, name)?;
        let kind = WeightType::from_candle(info.ggml_dtype)
            .filter(|kind| kinds.contains(kind))
            .ok_or_else(|| Error::TensorType {
                tensor: name.into(),
                kind: format!("{:?}", info.ggml_dtype),
            })?;
        if info.shape.dims() != expected {
            return Err(Error::TensorShape {
                tensor: name.into(),
                actual: info.shape.dims().to_vec(),
                expected: expected.to_vec(),
            });
        }
        let width = *expected.last().unwrap_or(&0);
        if !width.is_multiple_of(kind.block_values()) {
            return Err(Error::TensorType {
                tensor: name.into(),
                kind: format!("{} with rows of {width} values", kind.name()),
            });
        }
        let tensor = self
            .content
            .tensor(&mut self.reader, name, &Device::Cpu)
            .map_err(|source| Error::TensorRead { tensor: name.into(), source })?;
        Ok(Stored { name: name.into(), kind, tensor })
    }
}

fn info<'a>(content: &'a Content, name: &str) -> Result<&'a TensorInfo, Error> {
    content.tensor_infos.get(name).ok_or_else(|| Error::TensorMissing { tensor: name.into() })
}

/// A bias, an expert or any other tensor that the forward pass would not read changes the model.
fn refuse_unknown(content: &Content, layers: usize) -> Result<(), Error> {
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    match names.into_iter().find(|name| !is_known(name, layers)) {
        None => Ok(()),
        Some(name) => Err(Error::Unsupported { feature: format!("the tensor `{name}`") }),
    }
}

fn is_known(name: &str, layers: usize) -> bool {
    let block = || {
        let (layer, tensor) = name.strip_prefix("blk.")?.split_once('.')?;
        let tensor = tensor.strip_suffix(".weight")?;
        let layer: usize = layer.parse().ok()?;
        Some(layer < layers && BLOCK_TENSORS.contains(&tensor))
    };
    MODEL_TENSORS.contains(&name) || block().unwrap_or(false)
}
