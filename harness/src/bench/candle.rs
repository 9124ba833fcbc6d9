//! candle-transformers' own llama: the public implementation that speeds are compared with.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

use crate::sides::accepted::accepted;

/// The model and how many positions it has seen.
pub struct Candle {
    model: ModelWeights,
    position: usize,
}

impl Candle {
    /// Loads a file, after the engine's reader has accepted it: candle's is not for untrusted ones.
    pub fn load(path: &Path) -> candle_core::Result<Self> {
        accepted(path).map_err(candle_core::Error::wrap)?;
        let mut file = File::open(path)?;
        let content = Content::read(&mut file)?;
        let model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
        Ok(Self { model, position: 0 })
    }

    /// Runs tokens after those already there; the logits of the last are computed and read.
    pub fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.model.forward(&input, self.position)?;
        self.position += tokens.len();
        logits.squeeze(0)?.to_vec1()
    }

    /// Forgets the sequence.
    pub fn reset(&mut self) {
        self.model.clear_kv_cache();
        self.position = 0;
    }
}
