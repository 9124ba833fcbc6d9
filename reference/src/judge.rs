//! One operation in f64 on inputs that are given, with how far the contract's roundings may be off.

use rayon::prelude::*;

use crate::operation::{OperationInputs, Operations, TensorBytes};
use crate::wide::ops;
use crate::{Error, bounds};

/// What an operation is in f64, and how far from that it may be (contract, section 15).
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The values.
    pub expected: Vec<f64>,
    /// One bound for each.
    pub bounds: Vec<f64>,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

impl Operations {
    /// The operation of a tap in f64 on these inputs; nothing for what no bound is derived for.
    pub fn judge(
        &mut self,
        tap: &str,
        layer: Option<usize>,
        inputs: OperationInputs<'_>,
    ) -> Result<Option<Judged>, Error> {
        self.check(tap, inputs)?;
        let input = |name: &str| self.input(tap, name, inputs);
        let block = |stem: &str| format!("blk.{}.{stem}.weight", layer.unwrap_or_default());
        Ok(Some(match tap {
            "embed" => self.judge_embed(inputs.tokens)?,
            "attn_norm" | "ffn_norm" => self.judge_norm(&block(tap), input("stream")?)?,
            "final_norm" => self.judge_norm("output_norm.weight", input("stream")?)?,
            "q" => self.judge_product(&block("attn_q"), input("attn_norm")?)?,
            "k" => self.judge_product(&block("attn_k"), input("attn_norm")?)?,
            "v" => self.judge_product(&block("attn_v"), input("attn_norm")?)?,
            "wo" => self.judge_product(&block("attn_output"), input("attn_out")?)?,
            "gate" => self.judge_product(&block("ffn_gate"), input("ffn_norm")?)?,
            "up" => self.judge_product(&block("ffn_up"), input("ffn_norm")?)?,
            "down" => self.judge_product(&block("ffn_down"), input("swiglu")?)?,
            "logits" => self.judge_product(self.output_name(), input("final_norm")?)?,
            "q_rope" => self.judge_rope(input("q")?, inputs),
            "k_rope" => self.judge_rope(input("k")?, inputs),
            "attn_out" => {
                let cache = (input("keys")?, input("values")?);
                self.judge_attention(input("q_rope")?, cache, inputs)
            }
            "swiglu" => {
                let (gate, up) = (wide(input("gate")?), wide(input("up")?));
                let pairs = gate.iter().zip(&up);
                let bounds = pairs.map(|(gate, up)| bounds::swiglu(*gate, *up)).collect();
                Judged { expected: ops::swiglu(&gate, &up), bounds }
            }
            "attn_residual" | "ffn_residual" => {
                let (before, branch) = (wide(input("before")?), wide(input("branch")?));
                let pairs = before.iter().zip(&branch);
                let bounds = pairs.map(|(one, two)| bounds::add(*one, *two)).collect();
                Judged { expected: ops::add(&before, &branch), bounds }
            }
            _ => return Ok(None),
        }))
    }

    fn judge_embed(&mut self, tokens: &[u32]) -> Result<Judged, Error> {
        let TensorBytes { kind, columns, bytes, .. } = self.tensor("token_embd.weight")?;
        let expected = ops::embed(kind, &bytes, columns, tokens);
        let bounds = expected.iter().map(|value| bounds::embed(*value)).collect();
        Ok(Judged { expected, bounds })
    }

    fn judge_norm(&mut self, name: &str, x: &[f32]) -> Result<Judged, Error> {
        let weight = self.vector(name)?;
        let eps = self.config().eps;
        let expected = ops::rms_norm(&wide(x), &wide(&weight), eps);
        let rows = x.chunks_exact(weight.len());
        let bounds = rows.flat_map(|row| bounds::rms_norm(row, &weight, eps)).collect();
        Ok(Judged { expected, bounds })
    }

    fn judge_product(&mut self, name: &str, x: &[f32]) -> Result<Judged, Error> {
        let TensorBytes { kind, rows, columns, bytes } = self.tensor(name)?;
        let activations = self.activations();
        let row_bytes = columns / kind.block_values() * kind.block_bytes();
        let expected = ops::product(kind, &bytes, rows, &wide(x));
        let mut bounds = vec![0.0; expected.len()];
        bounds.par_iter_mut().enumerate().for_each(|(index, bound)| {
            let (token, row) = (index / rows, index % rows);
            let weights = &bytes[row * row_bytes..][..row_bytes];
            let x = &x[token * columns..][..columns];
            *bound = bounds::product(kind, activations, weights, x);
        });
        Ok(Judged { expected, bounds })
    }

    fn judge_rope(&self, x: &[f32], inputs: OperationInputs<'_>) -> Judged {
        let head_size = self.config().head_size;
        let frequencies = self.frequencies();
        let width = x.len() / inputs.tokens.len().max(1);
        let (mut expected, mut bounds) = (Vec::new(), Vec::new());
        for (row, x) in x.chunks_exact(width.max(1)).enumerate() {
            let position = inputs.first_position + row;
            expected.extend(ops::rope(&wide(x), head_size, &frequencies, position));
            bounds.extend(bounds::rope(x, head_size, &frequencies, position));
        }
        Judged { expected, bounds }
    }

    fn judge_attention(
        &self,
        queries: &[f32],
        (keys, values): (&[f32], &[f32]),
        inputs: OperationInputs<'_>,
    ) -> Judged {
        let config = self.config();
        let (heads, size) = (config.heads, config.head_size);
        let kv_width = config.kv_heads * size;
        let of_head = |rows: &[f32], head: usize, count: usize| -> Vec<f32> {
            let rows = rows.chunks_exact(kv_width).take(count);
            rows.flat_map(|row| row[head * size..][..size].to_vec()).collect()
        };
        let judged: Vec<(Vec<f64>, Vec<f64>)> = (0..queries.len() / size)
            .into_par_iter()
            .map(|index| {
                let query = &queries[index * size..][..size];
                let head = index % heads / (heads / config.kv_heads);
                let count = inputs.first_position + index / heads + 1;
                let (keys, values) = (of_head(keys, head, count), of_head(values, head, count));
                let expected = ops::attention(&wide(query), &wide(&keys), &wide(&values));
                (expected, bounds::attention(query, &keys, &values))
            })
            .collect();
        let (mut expected, mut bounds) = (Vec::new(), Vec::new());
        for (values, of_values) in judged {
            expected.extend(values);
            bounds.extend(of_values);
        }
        Judged { expected, bounds }
    }
}
