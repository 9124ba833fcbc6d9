//! `wide`: every operation in f64 on weights dequantised in f64, as close to the truth as is cheap.
//!
//! Weights stay in their blocks; a row is dequantised when it is used, once for all tokens.

pub mod ops;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use crate::arithmetic::{Arithmetic, Operation, cut, for_each_row};
use crate::file::{Loaded, Stored};
use crate::{Config, WeightType, rotary};

/// Partial sums of a product, so that additions need not wait for each other.
const PARTIALS: usize = 16;

/// A matrix as it is in the file.
pub(crate) struct Matrix {
    kind: WeightType,
    rows: usize,
    columns: usize,
    bytes: std::sync::Arc<[u8]>,
}

/// Keys and values of one layer, `[kv_head][position][d]`.
#[derive(Clone, Default)]
struct Cache {
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
}

/// The state of the mode.
pub(crate) struct Wide {
    eps: f32,
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    frequencies: Vec<f64>,
    cache: Vec<Cache>,
}

impl Wide {
    pub(crate) fn new(config: &Config, factors: Option<Vec<f32>>) -> Self {
        let Config { eps, heads, kv_heads, head_size, .. } = *config;
        let empty = vec![Vec::new(); kv_heads];
        let cache = Cache { keys: empty.clone(), values: empty };
        Self {
            eps,
            heads,
            kv_heads,
            head_size,
            frequencies: rotary::frequencies(config, factors.as_deref()),
            cache: vec![cache; config.layers],
        }
    }
}

/// `matrix · x`, rows of the matrix in parallel.
fn product(kind: WeightType, matrix: &[u8], rows: usize, x: &[f64]) -> Vec<f64> {
    let row_bytes = matrix.len() / rows;
    let columns = row_bytes / kind.block_bytes() * kind.block_values();
    let tokens = x.len() / columns;
    let mut by_row = vec![0.0; rows * tokens];
    by_row.par_chunks_mut(tokens).zip(matrix.par_chunks(row_bytes)).for_each_init(
        || vec![0.0; columns],
        |weights, (out, row)| {
            ops::dequantise(kind, row, weights);
            for (out, x) in out.iter_mut().zip(x.chunks_exact(columns)) {
                *out = dot(weights, x);
            }
        },
    );
    let mut out = vec![0.0; rows * tokens];
    for_each_row(&mut out, rows, |token, out| {
        for (row, out) in out.iter_mut().enumerate() {
            *out = by_row[row * tokens + token];
        }
    });
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<PARTIALS>();
    let (b, b_rest) = b.as_chunks::<PARTIALS>();
    let mut sums = [0.0; PARTIALS];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..PARTIALS {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

impl Arithmetic for Wide {
    type Vector = Tensor;
    type Matrix = Matrix;
    type Table = Matrix;

    fn vector(&self, stored: Stored) -> Loaded<Tensor> {
        let weights = stored.named(stored.tensor.dequantize(&Device::Cpu))?;
        stored.named(weights.to_dtype(candle_core::DType::F64))
    }

    fn matrix(&self, stored: Stored) -> Loaded<Matrix> {
        let bytes = stored.named(stored.tensor.data())?.as_ref().into();
        let (rows, columns) = stored.named(stored.tensor.shape().dims2())?;
        Ok(Matrix { kind: stored.kind, rows, columns, bytes })
    }

    fn table(&self, stored: Stored, tied: bool) -> Loaded<(Matrix, Option<Matrix>)> {
        let table = self.matrix(stored)?;
        let matrix = tied.then(|| Matrix { bytes: table.bytes.clone(), ..table });
        Ok((table, matrix))
    }

    fn begin(&mut self, _first_position: usize, _rows: usize) -> Result<()> {
        Ok(())
    }

    fn embed(&self, table: &Matrix, tokens: &[u32]) -> Result<Tensor> {
        let out = ops::embed(table.kind, &table.bytes, table.columns, tokens);
        Tensor::from_vec(out, (1, tokens.len(), table.columns), &Device::Cpu)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let operation = Operation::new("rms_norm", |x: &[f64], weight: &[f64]| {
            (ops::rms_norm(x, weight, self.eps), x.len().into())
        });
        x.apply_op2_no_bwd(weight, &operation)?.reshape(x.shape())
    }

    fn products<const N: usize>(&self, x: &Tensor, matrices: [&Matrix; N]) -> Result<[Tensor; N]> {
        let rows = x.dims3()?.1;
        let operation = Operation::new("products", |x: &[f64]| {
            let mut out = Vec::new();
            for Matrix { kind, rows, bytes, .. } in matrices {
                out.append(&mut product(*kind, bytes, *rows, x));
            }
            let count = out.len();
            (out, count.into())
        });
        let joined = x.apply_op1_no_bwd(&operation)?;
        cut(&joined, rows, matrices.map(|matrix| matrix.rows))
    }

    fn rope(&self, x: &Tensor, first_position: usize) -> Result<Tensor> {
        let (_, _, width) = x.dims3()?;
        let operation = Operation::new("rope", |x: &[f64]| {
            let rows = x.chunks_exact(width).enumerate();
            let rotated = rows.map(|(index, row)| {
                ops::rope(row, self.head_size, &self.frequencies, first_position + index)
            });
            (rotated.flatten().collect(), x.len().into())
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
        let (head_size, group) = (self.head_size, self.heads / self.kv_heads);
        let cache = &mut self.cache[layer];
        for (tensor, cache) in [(k, &mut cache.keys), (v, &mut cache.values)] {
            let rows = tensor.flatten_all()?.to_vec1::<f64>()?;
            for (index, head) in rows.chunks_exact(head_size).enumerate() {
                cache[index % self.kv_heads].extend_from_slice(head);
            }
        }
        let operation = Operation::new("attention", |q: &[f64]| {
            let mut out = vec![0.0; q.len()];
            out.par_chunks_mut(head_size).enumerate().for_each(|(index, out)| {
                let kv_head = index % self.heads / group;
                let count = (first_position + index / self.heads + 1) * head_size;
                let query = &q[index * head_size..][..head_size];
                let keys = &self.cache[layer].keys[kv_head][..count];
                let values = &self.cache[layer].values[kv_head][..count];
                out.copy_from_slice(&ops::attention(query, keys, values));
            });
            (out, q.len().into())
        });
        q.apply_op1_no_bwd(&operation)?.reshape(q.shape())
    }

    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let operation = Operation::new("swiglu", |gate: &[f64], up: &[f64]| {
            (ops::swiglu(gate, up), gate.len().into())
        });
        gate.apply_op2_no_bwd(up, &operation)?.reshape(gate.shape())
    }

    fn add(&self, stream: &Tensor, branch: &Tensor) -> Result<Tensor> {
        stream + branch
    }

    fn reset(&mut self) {
        for cache in &mut self.cache {
            cache.keys.iter_mut().chain(&mut cache.values).for_each(Vec::clear);
        }
    }
}
