//! `exact`: the arithmetic contract as custom operations of candle.
//!
//! One file a section. Every operation gives the same bits on every level of instructions, with any
//! number of threads, and for a row the same in whatever company it is computed.

mod attention;
mod embed;
mod exponential;
mod hash;
mod matrix;
#[cfg(test)]
mod naive;
pub mod ops;
mod panels;
mod product;
mod product_float;
mod quantise;
mod rms_norm;
mod rope;
mod simd;
mod swiglu;
#[cfg(test)]
mod tests;

pub use hash::row_hash;
pub use simd::Level;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use self::attention::{Attend, Cache, Shape};
use self::embed::Table;
use self::matrix::Matrix;
use self::rms_norm::RmsNorm;
use self::rope::{Rotate, Rotations};
use self::swiglu::Swiglu;
use crate::arithmetic::{Arithmetic, Operation, cut, for_each_row};
use crate::file::{Loaded, Stored};
use crate::{Activations, Config, Options, rotary};

/// Heads times positions times dimensions below which attention stays on its thread.
const PARALLEL_ATTENTION_MIN: usize = 1 << 15;

/// The state of the mode.
pub(crate) struct Exact {
    level: Level,
    activations: Activations,
    eps: f32,
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    frequencies: Vec<f64>,
    rotations: Rotations,
    cache: Vec<Cache>,
}

impl Exact {
    pub(crate) fn new(
        config: &Config,
        options: &Options,
        level: Level,
        factors: Option<Vec<f32>>,
    ) -> Self {
        let Config { eps, heads, kv_heads, head_size, .. } = *config;
        let shape = Shape { kv_heads, head_size, kv: options.kv };
        Self {
            level,
            activations: options.activations,
            eps,
            heads,
            kv_heads,
            head_size,
            frequencies: rotary::frequencies(config, factors.as_deref()),
            rotations: Rotations::default(),
            cache: (0..config.layers).map(|_| Cache::new(shape)).collect(),
        }
    }

    fn attend(&self, layer: usize, q: &[f32], first_position: usize) -> Vec<f32> {
        let mut out = vec![0.0; q.len()];
        let head = |(index, out): (usize, &mut [f32])| {
            let head = index % self.heads;
            self.level.run(Attend {
                cache: &self.cache[layer],
                kv_head: head / (self.heads / self.kv_heads),
                position: first_position + index / self.heads,
                query: &q[index * self.head_size..][..self.head_size],
                out,
            });
        };
        let rows = q.len() / (self.heads * self.head_size);
        if q.len() * (first_position + rows) < PARALLEL_ATTENTION_MIN {
            out.chunks_mut(self.head_size).enumerate().for_each(head);
        } else {
            out.par_chunks_mut(self.head_size).enumerate().for_each(head);
        }
        out
    }
}

impl Arithmetic for Exact {
    type Vector = Tensor;
    type Matrix = Matrix;
    type Table = Table;

    fn vector(&self, stored: Stored) -> Loaded<Tensor> {
        // Norm weights are floats, so this only widens.
        stored.named(stored.tensor.dequantize(&Device::Cpu))
    }

    fn matrix(&self, stored: Stored) -> Loaded<Matrix> {
        let bytes = stored.named(stored.tensor.data())?;
        let (rows, columns) = stored.named(stored.tensor.shape().dims2())?;
        Ok(Matrix::new(stored.kind, &bytes, rows, columns))
    }

    fn table(&self, stored: Stored, tied: bool) -> Loaded<(Table, Option<Matrix>)> {
        let bytes = stored.named(stored.tensor.data())?.into_owned();
        let (_, columns) = stored.named(stored.tensor.shape().dims2())?;
        let table = Table { kind: stored.kind, columns, bytes };
        let matrix = if tied { Some(self.matrix(stored)?) } else { None };
        Ok((table, matrix))
    }

    fn begin(&mut self, first_position: usize, rows: usize) -> Result<()> {
        self.rotations = Rotations::new(&self.frequencies, first_position, rows);
        Ok(())
    }

    fn embed(&self, table: &Table, tokens: &[u32]) -> Result<Tensor> {
        let mut out = Vec::with_capacity(tokens.len() * table.columns);
        for token in tokens {
            table.embed(*token as usize, &mut out);
        }
        Tensor::from_vec(out, (1, tokens.len(), table.columns), &Device::Cpu)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let width = weight.dims1()?;
        let operation = Operation::new("rms_norm", |x: &[f32], weight: &[f32]| {
            let mut out = vec![0.0; x.len()];
            for_each_row(&mut out, width, |index, out| {
                let x = &x[index * width..][..width];
                self.level.run(RmsNorm { x, weight, eps: self.eps, out });
            });
            (out, (1, x.len() / width, width).into())
        });
        x.apply_op2_no_bwd(weight, &operation)
    }

    fn products<const N: usize>(&self, x: &Tensor, matrices: [&Matrix; N]) -> Result<[Tensor; N]> {
        let rows = x.dims3()?.1;
        let operation = Operation::new("products", |x: &[f32]| {
            let out = matrix::products(self.level, self.activations, x, &matrices);
            let count = out.len();
            (out, count.into())
        });
        let joined = x.apply_op1_no_bwd(&operation)?;
        cut(&joined, rows, matrices.map(|matrix| matrix.rows))
    }

    fn rope(&self, x: &Tensor, first_position: usize) -> Result<Tensor> {
        let (_, _, width) = x.dims3()?;
        let operation = Operation::new("rope", |x: &[f32]| {
            let mut out = x.to_vec();
            for_each_row(&mut out, width, |index, row| {
                let rotations = self.rotations.position(first_position + index);
                self.level.run(Rotate { row, head_size: self.head_size, rotations });
            });
            (out, x.len().into())
        });
        x.apply_op1_no_bwd(&operation)?.reshape(x.shape())
    }

    fn attention(
        &mut self,
        layer: usize,
        [q, k]: [&Tensor; 2],
        v: &Tensor,
        first_position: usize,
    ) -> Result<Tensor> {
        let width = k.dims3()?.2;
        let (keys, values) = (k.flatten_all()?.to_vec1()?, v.flatten_all()?.to_vec1()?);
        let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for (row, (keys, values)) in rows.enumerate() {
            self.cache[layer].append(first_position + row, keys, values);
        }
        let operation = Operation::new("attention", |q: &[f32]| {
            (self.attend(layer, q, first_position), q.len().into())
        });
        q.apply_op1_no_bwd(&operation)?.reshape(q.shape())
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let width = gate.dims3()?.2;
        let operation = Operation::new("swiglu", |gate: &[f32], up: &[f32]| {
            let mut out = vec![0.0; gate.len()];
            for_each_row(&mut out, width, |index, out| {
                let [gate, up] = [gate, up].map(|values| &values[index * width..][..width]);
                self.level.run(Swiglu { gate, up, out });
            });
            (out, gate.len().into())
        });
        gate.apply_op2_no_bwd(up, &operation)?.reshape(gate.shape())
    }

    fn add(&self, stream: &Tensor, branch: &Tensor) -> Result<Tensor> {
        stream + branch
    }

    fn reset(&mut self) {
        self.cache.iter_mut().for_each(Cache::clear);
    }
}
