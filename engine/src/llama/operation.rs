//! One operation alone, on inputs that are given: the launches are those of a pass (but for SwiGLU
//! of one row, which a pass may have behind its products); sequence and cache stay as they are.

use super::engine::Engine;
use super::layer::Pass;
use super::operation_inputs::OperationInputs;
use super::workspace::Activation;
use crate::device::Buffer;
use crate::error::Error;
use crate::options::KvType;
use crate::taps::TapLevel;
use bytemuck::Pod;
use std::ops::Range;

/// What nobody wrote reads as.
const POISON: f32 = f32::from_bits(u32::MAX);

/// Which operation runs, on what.
#[derive(Clone, Copy)]
struct Alone<'a> {
    tap: &'a str,
    layer: usize,
    inputs: &'a OperationInputs,
    pass: Pass,
}

impl Engine {
    /// Runs the operation of a tap alone and gives its rows. Besides the taps of CONTRACT.md
    /// section 12 there are `keys` and `values`: the cache's rows of these positions.
    ///
    /// # Errors
    /// Inputs that are missing or do not fit, or a device that refuses.
    pub fn operation(
        &mut self,
        tap: &str,
        layer: Option<usize>,
        inputs: &OperationInputs,
    ) -> Result<Vec<f32>, Error> {
        let refuse = |reason: String| Error::Operation { operation: tap.to_owned(), reason };
        let (rows, layer) = (inputs.tokens.len(), layer.unwrap_or(0));
        if rows == 0 || rows > self.ubatch {
            return Err(refuse(format!("{rows} rows where a pass has 1 to {}", self.ubatch)));
        }
        let first = inputs.first_position;
        let inside = first.checked_add(rows).is_some_and(|end| end <= self.context_tokens);
        if !inside || layer >= self.weights.layers.len() {
            return Err(refuse(format!("there is no position {first} or no layer {layer}")));
        }
        let vocabulary = self.config.vocabulary;
        if let Some(row) = inputs.tokens.iter().position(|id| *id as usize >= vocabulary) {
            let (token, position) = (inputs.tokens[row], first + row);
            return Err(Error::Token { token, position, vocabulary });
        }
        if matches!(tap, "final_norm" | "logits") && rows != 1 {
            return Err(refuse(format!("{rows} rows where a readout has one")));
        }
        let pass = Pass::new(rows, inputs.first_position, TapLevel::Op);
        self.write_inputs(&inputs.tokens, pass)?;
        let scratch = self.cache.scratch(self.kernels.device(), layer)?;
        let kept = self.cache.exchange(layer, scratch);
        let answer = self.alone(Alone { tap, layer, inputs, pass });
        // The launches have ended: the answer was read. What was the cache's is the cache's again.
        drop(self.cache.exchange(layer, kept));
        answer
    }

    /// Keys and values as the cache has them, widened, row after row.
    ///
    /// # Errors
    /// A device that refuses.
    pub fn cache_rows(
        &self,
        layer: usize,
        positions: Range<usize>,
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        match self.kv {
            KvType::F32 => self.cached::<f32>(layer, positions, |value| value),
            KvType::F16 => {
                self.cached::<u16>(layer, positions, |bits| half::f16::from_bits(bits).to_f32())
            }
        }
    }

    /// The bytes of a weight tensor as the device holds them, or `None` where there is none.
    ///
    /// # Errors
    /// A device that refuses.
    pub fn weight_bytes(&self, tensor: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(buffer) = self.weights.buffer(tensor) else { return Ok(None) };
        let count = usize::try_from(buffer.bytes()).expect("a tensor fits in host memory");
        let mut bytes = vec![0; count];
        buffer.all().read(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn alone(&self, alone: Alone<'_>) -> Result<Vec<f32>, Error> {
        if matches!(alone.tap, "attn_out" | "wo") {
            match self.kv {
                KvType::F32 => self.fill_cache::<f32>(alone, |value| value)?,
                KvType::F16 => self.fill_cache(alone, |x| half::f16::from_f32(x).to_bits())?,
            }
        }
        let out = self.output_of(alone)?;
        if let Some(out) = out {
            out.all().write(&vec![POISON; elements(out)])?;
        }
        if self.kernels.has_tuned() {
            self.tuned_alone(alone)?;
        } else {
            self.plain_alone(alone)?;
        }
        let Some(out) = out else {
            let first = alone.inputs.first_position;
            let (keys, values) = self.cache_rows(alone.layer, first..first + alone.rows())?;
            return Ok(if alone.tap == "keys" { keys } else { values });
        };
        let count = match alone.tap {
            "final_norm" | "logits" => elements(out),
            _ => alone.rows() * self.tap_width(alone.tap),
        };
        let mut values = vec![POISON; count];
        out.read(0, &mut values)?;
        Ok(values)
    }

    /// Where the rows of a tap are left; the cache's are no buffer of their own.
    fn output_of(&self, alone: Alone<'_>) -> Result<Option<&Buffer>, Error> {
        let Alone { tap, layer, pass, .. } = alone;
        let space = self.workspace.layer(pass, layer);
        Ok(Some(match tap {
            "embed" => self.workspace.stream(pass, 0),
            "attn_norm" => &space.attn_norm.values,
            "q" => &space.q,
            "k" => &space.k,
            "v" => &space.v,
            "q_rope" => &space.q_rope,
            "k_rope" => &space.k_rope,
            "attn_out" => &space.attn_out.values,
            "wo" => &space.wo,
            "attn_residual" => &space.attn_residual,
            "ffn_norm" => &space.ffn_norm.values,
            "gate" => &space.gate,
            "up" => &space.up,
            "swiglu" => &space.swiglu.values,
            "down" => &space.down,
            "ffn_residual" => &space.ffn_residual,
            "final_norm" => &self.workspace.readout.hidden.values,
            "logits" => &self.workspace.readout.logits,
            "keys" | "values" => return Ok(None),
            _ => {
                let reason = "there is no such tap".to_owned();
                return Err(Error::Operation { operation: tap.to_owned(), reason });
            }
        }))
    }

    fn plain_alone(&self, alone: Alone<'_>) -> Result<(), Error> {
        let pass = alone.pass;
        let space = self.workspace.layer(pass, alone.layer);
        let layer = &self.weights.layers[alone.layer];
        let stream = self.workspace.stream(pass, alone.layer);
        let one = |name, x: &Activation, matrix, out: &Buffer| -> Result<(), Error> {
            self.put(alone, name, &x.values)?;
            Ok(self.products(pass, x, &[matrix], &[out])?)
        };
        match alone.tap {
            "embed" => self.embed(pass)?,
            "attn_norm" => {
                self.put(alone, "stream", stream)?;
                self.norm(pass, stream, &layer.attn_norm, &space.attn_norm.values)?;
            }
            "q" => one("attn_norm", &space.attn_norm, &layer.attn_q, &space.q)?,
            "k" => one("attn_norm", &space.attn_norm, &layer.attn_k, &space.k)?,
            "v" => one("attn_norm", &space.attn_norm, &layer.attn_v, &space.v)?,
            "q_rope" => {
                self.put(alone, "q", &space.q)?;
                self.rope(pass, &space.q, self.config.heads, &space.q_rope)?;
            }
            "k_rope" => {
                self.put(alone, "k", &space.k)?;
                self.rope(pass, &space.k, self.config.kv_heads, &space.k_rope)?;
            }
            "keys" | "values" => {
                self.put(alone, "k_rope", &space.k_rope)?;
                self.put(alone, "v", &space.v)?;
                match self.kv {
                    KvType::F32 => self.store::<f32>(pass, alone.layer)?,
                    KvType::F16 => self.store::<u16>(pass, alone.layer)?,
                }
            }
            "attn_out" => {
                self.put(alone, "q_rope", &space.q_rope)?;
                match self.kv {
                    KvType::F32 => self.attend_alone::<f32>(pass, alone.layer)?,
                    KvType::F16 => self.attend_alone::<u16>(pass, alone.layer)?,
                }
            }
            "wo" => one("attn_out", &space.attn_out, &layer.attn_output, &space.wo)?,
            "ffn_norm" => {
                self.put(alone, "stream", &space.attn_residual)?;
                self.norm(pass, &space.attn_residual, &layer.ffn_norm, &space.ffn_norm.values)?;
            }
            "gate" => one("ffn_norm", &space.ffn_norm, &layer.ffn_gate, &space.gate)?,
            "up" => one("ffn_norm", &space.ffn_norm, &layer.ffn_up, &space.up)?,
            "swiglu" => {
                self.put(alone, "gate", &space.gate)?;
                self.put(alone, "up", &space.up)?;
                self.gate(pass, alone.layer)?;
            }
            "down" => one("swiglu", &space.swiglu, &layer.ffn_down, &space.down)?,
            _ => self.plain_rest(alone)?,
        }
        Ok(())
    }

    /// Sums and the readout.
    fn plain_rest(&self, alone: Alone<'_>) -> Result<(), Error> {
        let space = self.workspace.layer(alone.pass, alone.layer);
        match alone.tap {
            "attn_residual" => {
                let stream = self.workspace.stream(alone.pass, alone.layer);
                self.sum(alone, stream, &space.wo, &space.attn_residual)?;
            }
            "ffn_residual" => {
                self.sum(alone, &space.attn_residual, &space.down, &space.ffn_residual)?;
            }
            "final_norm" => {
                self.put(alone, "stream", self.workspace.stream(alone.pass, self.config.layers))?;
                self.plain_final_norm(alone.pass, 0)?;
            }
            _ => {
                self.put(alone, "final_norm", &self.workspace.readout.hidden.values)?;
                self.plain_logits()?;
            }
        }
        Ok(())
    }

    fn sum(
        &self,
        alone: Alone<'_>,
        before: &Buffer,
        branch: &Buffer,
        out: &Buffer,
    ) -> Result<(), Error> {
        self.put(alone, "before", before)?;
        self.put(alone, "branch", branch)?;
        Ok(self.add(alone.pass, before, branch, out)?)
    }

    /// The launches of waves do several operations: they read what the first of them reads.
    fn tuned_alone(&self, alone: Alone<'_>) -> Result<(), Error> {
        let pass = alone.pass;
        let space = self.workspace.layer(pass, alone.layer);
        let layers = &self.weights.layers;
        let layer = &layers[alone.layer];
        let down = [(&layer.ffn_down, &space.down)];
        match alone.tap {
            "embed" => self.embed(pass)?,
            "attn_norm" | "q" | "k" | "v" => {
                self.tuned_projections(alone, alone.layer)?;
            }
            "ffn_residual" if alone.layer + 1 < layers.len() => {
                self.tuned_projections(alone, alone.layer + 1)?;
            }
            "ffn_residual" => {
                self.sum(alone, &space.attn_residual, &space.down, &space.ffn_residual)?;
            }
            "q_rope" | "k_rope" | "keys" | "values" => {
                self.put(alone, "q", &space.q)?;
                self.put(alone, "k", &space.k)?;
                self.put(alone, "v", &space.v)?;
                // Attention comes along; what it reads of earlier positions is nobody's.
                match self.kv {
                    KvType::F32 => self.rotate_and_attend::<f32>(pass, alone.layer, &[])?,
                    KvType::F16 => self.rotate_and_attend::<u16>(pass, alone.layer, &[])?,
                }
            }
            "attn_out" | "wo" => {
                self.put(alone, "q_rope", &space.q_rope)?;
                let output = [(&layer.attn_output, &space.wo)];
                match self.kv {
                    KvType::F32 => self.attend_into::<f32>(pass, alone.layer, &output)?,
                    KvType::F16 => self.attend_into::<u16>(pass, alone.layer, &output)?,
                }
                self.products_into(pass, &space.attn_out, &output)?;
            }
            "attn_residual" | "ffn_norm" | "gate" | "up" => {
                let stream = self.workspace.stream(pass, alone.layer);
                self.put(alone, "before", stream)?;
                self.put(alone, "branch", &space.wo)?;
                let matrices = [(&layer.ffn_gate, &space.gate), (&layer.ffn_up, &space.up)];
                let x = (stream, Some((&space.wo, &space.attn_residual)));
                let norm = (&layer.ffn_norm, &space.ffn_norm);
                self.norm_gate_into(pass, x, norm, &matrices, (&space.swiglu, &down))?;
            }
            "swiglu" | "down" => {
                self.put(alone, "gate", &space.gate)?;
                self.put(alone, "up", &space.up)?;
                self.gate_into(pass, (&space.gate, &space.up), &space.swiglu, &down)?;
                self.products_into(pass, &space.swiglu, &down)?;
            }
            _ => {
                self.put(alone, "stream", self.workspace.stream(pass, self.config.layers))?;
                self.tuned_readout_alone(pass)?;
            }
        }
        Ok(())
    }

    /// The norm of a layer with the sum before it, and the three products behind it.
    fn tuned_projections(&self, alone: Alone<'_>, index: usize) -> Result<(), Error> {
        let (pass, layer) = (alone.pass, &self.weights.layers[index]);
        let space = self.workspace.layer(pass, index);
        let stream = self.workspace.stream(pass, index);
        let matrices =
            [(&layer.attn_q, &space.q), (&layer.attn_k, &space.k), (&layer.attn_v, &space.v)];
        let x = match index.checked_sub(1).map(|before| self.workspace.layer(pass, before)) {
            None => {
                self.put(alone, "stream", stream)?;
                (stream, None)
            }
            Some(before) => {
                self.put(alone, "before", &before.attn_residual)?;
                self.put(alone, "branch", &before.down)?;
                (&before.attn_residual, Some((&before.down, stream)))
            }
        };
        let norm = (&layer.attn_norm, &space.attn_norm);
        Ok(self.norm_products_into(pass, x, norm, &matrices)?)
    }

    /// Writes an input where the operation reads it.
    fn put(&self, alone: Alone<'_>, name: &str, buffer: &Buffer) -> Result<(), Error> {
        let width = match name {
            "stream" | "before" | "branch" | "final_norm" => self.config.hidden,
            name => self.tap_width(name),
        };
        let values = alone.inputs.tensor(alone.tap, name, alone.rows() * width)?;
        Ok(buffer.write(0, values)?)
    }

    /// Writes keys and values of every position into the cache, past the kernel that stores them.
    fn fill_cache<E: Pod>(&self, alone: Alone<'_>, narrow: impl Fn(f32) -> E) -> Result<(), Error> {
        let end = alone.inputs.first_position + alone.rows();
        let width = self.config.kv_heads * self.config.head_size;
        let (keys, values) = self.cache.layer(alone.layer);
        for (name, buffer) in [("keys", keys), ("values", values)] {
            let rows = alone.inputs.tensor(alone.tap, name, end * width)?;
            let view = buffer.all::<E>();
            let count = usize::try_from(view.count()).expect("a cache fits in host memory");
            let mut image = vec![narrow(POISON); count];
            for (index, value) in rows.iter().enumerate() {
                image[self.cache_index(name, index / width, index % width)] = narrow(*value);
            }
            view.write(&image)?;
        }
        Ok(())
    }

    fn cached<E: Pod>(
        &self,
        layer: usize,
        positions: Range<usize>,
        widen: impl Fn(E) -> f32,
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let width = self.config.kv_heads * self.config.head_size;
        let (keys, values) = self.cache.layer(layer);
        let rows = |name: &str, buffer: &Buffer| -> Result<Vec<f32>, Error> {
            let view = buffer.all::<E>();
            let count = usize::try_from(view.count()).expect("a cache fits in host memory");
            let mut image = vec![E::zeroed(); count];
            view.read(&mut image)?;
            let columns = positions.clone().flat_map(|p| (0..width).map(move |c| (p, c)));
            Ok(columns.map(|(p, c)| widen(image[self.cache_index(name, p, c)])).collect())
        };
        Ok((rows("keys", keys)?, rows("values", values)?))
    }

    /// Where an element of a row lies: keys in tiles of 64 positions, position innermost.
    fn cache_index(&self, name: &str, position: usize, column: usize) -> usize {
        let (size, positions) = (self.config.head_size, self.cache.positions as usize);
        let head = column / size * positions * size;
        let dimension = column % size;
        match name {
            "keys" => head + position / 64 * 64 * size + dimension * 64 + position % 64,
            _ => head + position * size + dimension,
        }
    }
}

impl Alone<'_> {
    fn rows(&self) -> usize {
        self.pass.rows as usize
    }
}

fn elements(buffer: &Buffer) -> usize {
    usize::try_from(buffer.all::<f32>().count()).expect("a buffer fits in host memory")
}
