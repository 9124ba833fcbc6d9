//! Tiny llama files with random weights, written by candle.

use std::fs::File;
use std::path::PathBuf;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use reference::WeightType;

/// What a tiny model is like.
#[derive(Clone, Debug)]
pub(crate) struct Tiny {
    pub(crate) kind: WeightType,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) feed_forward: usize,
    pub(crate) tied: bool,
    pub(crate) rope_factors: bool,
    pub(crate) rope_dimensions: usize,
    pub(crate) seed: u64,
}

pub(crate) const VOCABULARY: usize = 80;
pub(crate) const CONTEXT: u32 = 160;

impl Tiny {
    /// Two layers, four heads of 64 over two, everything of one type.
    pub(crate) const fn new(kind: WeightType) -> Self {
        Self {
            kind,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_size: 64,
            feed_forward: 512,
            tied: true,
            rope_factors: false,
            rope_dimensions: 64,
            seed: 1,
        }
    }

    pub(crate) const fn hidden(&self) -> usize {
        self.heads * self.head_size
    }

    /// The metadata that the writer starts from.
    pub(crate) fn metadata(&self) -> Vec<(String, Value)> {
        let count = |value: usize| Value::U32(u32::try_from(value).unwrap());
        let llama = |key: &str, value| (format!("llama.{key}"), value);
        vec![
            ("general.architecture".into(), Value::String("llama".into())),
            llama("block_count", count(self.layers)),
            llama("embedding_length", count(self.hidden())),
            llama("feed_forward_length", count(self.feed_forward)),
            llama("attention.head_count", count(self.heads)),
            llama("attention.head_count_kv", count(self.kv_heads)),
            llama("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            llama("rope.dimension_count", count(self.rope_dimensions)),
            llama("rope.freq_base", Value::F32(10_000.0)),
            llama("context_length", Value::U32(CONTEXT)),
        ]
    }

    /// The tensors that the writer starts from.
    pub(crate) fn tensors(&self) -> Vec<(String, QTensor)> {
        let (hidden, kv_width) = (self.hidden(), self.kv_heads * self.head_size);
        let mut random = Random(self.seed);
        let matrix = self.kind.to_candle();
        let mut tensors =
            vec![("token_embd.weight".into(), random.tensor(&[VOCABULARY, hidden], 1.0, matrix))];
        for layer in 0..self.layers {
            let mut add = |name: &str, rows: usize, columns: usize| {
                let scale = 1.5 / (columns as f32).sqrt();
                let tensor = random.tensor(&[rows, columns], scale, matrix);
                tensors.push((format!("blk.{layer}.{name}.weight"), tensor));
            };
            add("attn_q", hidden, hidden);
            add("attn_k", kv_width, hidden);
            add("attn_v", kv_width, hidden);
            add("attn_output", hidden, hidden);
            add("ffn_gate", self.feed_forward, hidden);
            add("ffn_up", self.feed_forward, hidden);
            add("ffn_down", hidden, self.feed_forward);
            for name in ["attn_norm", "ffn_norm"] {
                let tensor = random.positive(hidden);
                tensors.push((format!("blk.{layer}.{name}.weight"), tensor));
            }
        }
        tensors.push(("output_norm.weight".into(), random.positive(hidden)));
        if !self.tied {
            let tensor = random.tensor(&[VOCABULARY, hidden], 0.1, matrix);
            tensors.push(("output.weight".into(), tensor));
        }
        if self.rope_factors {
            let tensor = random.positive(self.rope_dimensions / 2);
            tensors.push(("rope_freqs.weight".into(), tensor));
        }
        tensors
    }

    /// Writes the file; it disappears with the guard.
    pub(crate) fn write(&self) -> TinyFile {
        write(&self.metadata(), &self.tensors())
    }
}

/// A file of its own in the folder for temporary files.
pub(crate) struct TinyFile(pub(crate) PathBuf);

impl Drop for TinyFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

pub(crate) fn write(metadata: &[(String, Value)], tensors: &[(String, QTensor)]) -> TinyFile {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let name =
        format!("tiny-{}-{}.gguf", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let metadata: Vec<(&str, &Value)> =
        metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = File::create(&path).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    TinyFile(path)
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal, from three uniform numbers.
    pub(crate) fn number(&mut self) -> f32 {
        let mut uniform = || (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0;
        uniform() + uniform() + uniform()
    }

    pub(crate) fn tensor(&mut self, dims: &[usize], scale: f32, kind: GgmlDType) -> QTensor {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.number() * scale).collect();
        QTensor::quantize(&Tensor::from_vec(values, dims, &Device::Cpu).unwrap(), kind).unwrap()
    }

    pub(crate) fn positive(&mut self, count: usize) -> QTensor {
        let values: Vec<f32> = (0..count).map(|_| 1.0 + 0.2 * self.number().abs()).collect();
        let tensor = Tensor::from_vec(values, count, &Device::Cpu).unwrap();
        QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
    }

    pub(crate) fn tokens(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| u32::try_from(self.bits() % VOCABULARY as u64).unwrap()).collect()
    }
}
