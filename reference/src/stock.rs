//! `stock`: candle's own float operations on dequantised weights, in the order and shapes of
//! candle-transformers' `quantized_llama`, with which its logits agree bit for bit.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_transformers::utils::{build_causal_mask, repeat_kv};

use crate::Config;
use crate::arithmetic::Arithmetic;
use crate::file::{Loaded, Stored};

/// The tables and the cache.
pub(crate) struct Stock {
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    rope_dimensions: usize,
    eps: f32,
    cos: Tensor,
    sin: Tensor,
    mask: Option<Tensor>,
    /// Keys and values of each layer, `[1, kv_heads, positions, head_size]`.
    cache: Vec<Option<[Tensor; 2]>>,
}

impl Stock {
    pub(crate) fn new(
        config: &Config,
        context_tokens: usize,
        factors: Option<Vec<f32>>,
    ) -> Result<Self> {
        let (cos, sin) = rotary_tables(config, context_tokens, factors)?;
        Ok(Self {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_size: config.head_size,
            rope_dimensions: config.rope_dimensions,
            eps: config.eps,
            cos,
            sin,
            mask: None,
            cache: vec![None; config.layers],
        })
    }

    /// `[1, rows, heads * head_size]` to `[1, heads, rows, head_size]`.
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, rows, width) = x.dims3()?;
        let heads = width / self.head_size;
        x.reshape((batch, rows, heads, self.head_size))?.transpose(1, 2)?.contiguous()
    }

    fn append(&mut self, layer: usize, k: Tensor, v: Tensor) -> Result<[Tensor; 2]> {
        let joined = match &self.cache[layer] {
            None => [k, v],
            Some([keys, values]) => [Tensor::cat(&[keys, &k], 2)?, Tensor::cat(&[values, &v], 2)?],
        };
        self.cache[layer] = Some(joined.clone());
        Ok(joined)
    }
}

/// Cosines and sines as `quantized_llama` computes them, for as many positions as asked.
fn rotary_tables(
    config: &Config,
    context_tokens: usize,
    factors: Option<Vec<f32>>,
) -> Result<(Tensor, Tensor)> {
    let dimensions = config.rope_dimensions;
    let mut theta: Vec<f32> = (0..dimensions)
        .step_by(2)
        .map(|index| 1_f32 / config.rope_base.powf(index as f32 / dimensions as f32))
        .collect();
    for (theta, factor) in theta.iter_mut().zip(factors.unwrap_or_default()) {
        *theta /= factor;
    }
    let theta = Tensor::new(theta.as_slice(), &Device::Cpu)?.reshape((1, dimensions / 2))?;
    let positions = u32::try_from(context_tokens).map_err(candle_core::Error::wrap)?;
    let angles = Tensor::arange(0, positions, &Device::Cpu)?
        .to_dtype(DType::F32)?
        .reshape((context_tokens, 1))?
        .matmul(&theta)?;
    Ok((angles.cos()?, angles.sin()?))
}

impl Arithmetic for Stock {
    type Vector = Tensor;
    type Matrix = Tensor;
    type Table = Tensor;

    fn vector(&self, stored: Stored) -> Loaded<Tensor> {
        stored.named(stored.tensor.dequantize(&Device::Cpu))
    }

    fn matrix(&self, stored: Stored) -> Loaded<Tensor> {
        stored.named(stored.tensor.dequantize(&Device::Cpu))
    }

    fn table(&self, stored: Stored, tied: bool) -> Loaded<(Tensor, Option<Tensor>)> {
        let table = self.matrix(stored)?;
        let matrix = tied.then(|| table.clone());
        Ok((table, matrix))
    }

    fn begin(&mut self, first_position: usize, rows: usize) -> Result<()> {
        self.mask = match rows {
            1 => None,
            _ => Some(build_causal_mask(rows, first_position, &Device::Cpu)?),
        };
        Ok(())
    }

    fn embed(&self, table: &Tensor, tokens: &[u32]) -> Result<Tensor> {
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        table.index_select(&ids, 0)?.unsqueeze(0)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        rms_norm(&x.contiguous()?, weight, self.eps)
    }

    fn products<const N: usize>(&self, x: &Tensor, matrices: [&Tensor; N]) -> Result<[Tensor; N]> {
        let mut products = Vec::with_capacity(N);
        for matrix in matrices {
            products.push(x.matmul(&matrix.broadcast_left(1)?.t()?)?);
        }
        Ok(products.try_into().expect("one product a matrix"))
    }

    fn rope(&self, x: &Tensor, first_position: usize) -> Result<Tensor> {
        let dims = x.dims3()?;
        let x = self.split(x)?;
        let cos = self.cos.narrow(0, first_position, dims.1)?;
        let sin = self.sin.narrow(0, first_position, dims.1)?;
        let passed = self.head_size - self.rope_dimensions;
        let rotated = if passed == 0 {
            candle_nn::rotary_emb::rope_i(&x, &cos, &sin)?
        } else {
            let head = x.narrow(D::Minus1, 0, self.rope_dimensions)?.contiguous()?;
            let head = candle_nn::rotary_emb::rope_i(&head, &cos, &sin)?;
            Tensor::cat(&[head, x.narrow(D::Minus1, self.rope_dimensions, passed)?], D::Minus1)?
        };
        rotated.transpose(1, 2)?.reshape(dims)
    }

    fn attention(
        &mut self,
        layer: usize,
        [q, k]: [&Tensor; 2],
        v: &Tensor,
        _first_position: usize,
    ) -> Result<Tensor> {
        let (batch, rows, width) = q.dims3()?;
        let q = self.split(q)?;
        let [k, v] = self.append(layer, self.split(k)?, self.split(v)?)?;
        let groups = self.heads / self.kv_heads;
        let (k, v) = (repeat_kv(k, groups)?, repeat_kv(v, groups)?);
        let scores = (q.matmul(&k.t()?)? / (self.head_size as f64).sqrt())?;
        let scores = match &self.mask {
            None => scores,
            Some(mask) => {
                let masked = Tensor::new(f32::NEG_INFINITY, &Device::Cpu)?;
                let masked = masked.broadcast_as(scores.shape())?;
                mask.broadcast_as(scores.shape())?.where_cond(&masked, &scores)?
            }
        };
        let attended = softmax_last_dim(&scores)?.matmul(&v.contiguous()?)?;
        attended.transpose(1, 2)?.reshape((batch, rows, width))
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        silu(gate)? * up
    }

    fn add(&self, stream: &Tensor, branch: &Tensor) -> Result<Tensor> {
        branch + stream
    }

    fn reset(&mut self) {
        self.cache.fill(None);
    }
}
