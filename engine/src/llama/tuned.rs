//! The forward pass on a device that runs waves: the same operations in fewer launches. `layer.rs`
//! is the plain composition that this replaces.

use super::engine::Engine;
use super::layer::Pass;
use super::watch::Watch;
use super::weights::{LayerWeights, Matrix};
use super::workspace::{Activation, FixedBuffers};
use crate::device::{Buffer, DeviceError, View};
use crate::error::Error;
use crate::fault::Fault;
use crate::kernels::{
    Branch, Chunks, NormQuantise, Product, ProductWave, Quantise, RopeKvWrite, Rotated,
    SwigluQuantise, WAVE_MATRICES, WaveMatrix, split_chunks, split_values,
};
use crate::options::KvType;
use crate::taps::TapLevel;
use bytemuck::Pod;

/// Up to this many rows a launch that reads the weights once a row is the faster one.
pub(super) const WAVE_ROWS: u32 = 2;

impl Engine {
    /// From the tokens on the device to the stream behind the last layer.
    pub(super) fn tuned_pass<'e>(
        &'e self,
        pass: Pass,
        watch: &mut Watch<'e, '_>,
    ) -> Result<(), Error> {
        self.embed(pass)?;
        let embedded = self.workspace.stream(pass, 0);
        watch.see(self, pass, (TapLevel::Layer, "embed", None), embedded)?;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.enter_layer(Some(index));
            match self.kv {
                KvType::F32 => self.tuned_attention::<f32>(pass, index, layer, watch)?,
                KvType::F16 => self.tuned_attention::<u16>(pass, index, layer, watch)?,
            }
            self.tuned_feed_forward(pass, index, layer, watch)?;
            watch.end_layer(self, pass)?;
        }
        let last = self.config.layers - 1;
        let space = self.workspace.layer(pass, last);
        self.add(pass, &space.attn_residual, &space.down, &space.ffn_residual)?;
        let tap = (TapLevel::Layer, "ffn_residual", Some(last));
        watch.see(self, pass, tap, &space.ffn_residual)?;
        self.enter_layer(None);
        Ok(watch.flush(self)?)
    }

    /// To `wo`, from the stream before the layer, which is first completed with the layer before.
    fn tuned_attention<'e, E: Pod>(
        &'e self,
        pass: Pass,
        index: usize,
        layer: &'e LayerWeights,
        watch: &mut Watch<'e, '_>,
    ) -> Result<(), Error> {
        let space = self.workspace.layer(pass, index);
        let stream = self.workspace.stream(pass, index);
        let matrices =
            [(&layer.attn_q, &space.q), (&layer.attn_k, &space.k), (&layer.attn_v, &space.v)];
        let before = index.checked_sub(1).map(|before| self.workspace.layer(pass, before));
        let branch = before.map(|before| (&before.down, stream));
        let x = before.map_or(stream, |before| &before.attn_residual);
        let norm = (&layer.attn_norm, &space.attn_norm);
        self.norm_products_into(pass, (x, branch), norm, &matrices)?;
        let mut see =
            |level, name, layer, buffer| watch.see(self, pass, (level, name, layer), buffer);
        if index > 0 {
            see(TapLevel::Layer, "ffn_residual", Some(index - 1), stream)?;
        }
        let mut see = |name, buffer| see(TapLevel::Op, name, Some(index), buffer);
        see("attn_norm", &space.attn_norm.values)?;
        see("q", &space.q)?;
        see("k", &space.k)?;
        see("v", &space.v)?;
        let output = [(&layer.attn_output, &space.wo)];
        self.rotate_and_attend::<E>(pass, index, &output)?;
        see("q_rope", &space.q_rope)?;
        see("k_rope", &space.k_rope)?;
        see("attn_out", &space.attn_out.values)?;
        self.products_into(pass, &space.attn_out, &output)?;
        see("wo", &space.wo)?;
        Ok(())
    }

    /// To `attn_out` in every layout that the matrices read, from `q`, `k` and `v`.
    pub(super) fn rotate_and_attend<E: Pod>(
        &self,
        pass: Pass,
        index: usize,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        if pass.rows <= WAVE_ROWS && self.fault != Some(Fault::LaunchSkipped) {
            return self.attend_split(pass, index, Some(self.front::<E>(pass, index)), matrices);
        }
        let (input, out) = self.front::<E>(pass, index);
        self.kernels.rope_kv_write(input, out)?;
        self.attend_into::<E>(pass, index, matrices)
    }

    /// What rotates queries and keys, and stores keys and values of the new positions.
    fn front<E: Pod>(&self, pass: Pass, index: usize) -> (RopeKvWrite<'_>, Rotated<'_, E>) {
        let size = |value: usize| u32::try_from(value).expect("sizes were compared with 2^24");
        let (space, config) = (self.workspace.layer(pass, index), &self.config);
        let (keys, values) = self.cache.layer(index);
        let wrong = self.fault == Some(Fault::CacheHeadsOfQueries);
        let input = RopeKvWrite {
            q: space.q.all(),
            k: space.k.all(),
            v: space.v.all(),
            cosine: self.cosine.all(),
            sine: self.sine.all(),
            heads: size(config.heads),
            kv_heads: size(if wrong { config.heads } else { config.kv_heads }),
            head_size: size(config.head_size),
            rotated: size(config.rope_dimensions),
            rows: pass.rows,
            position: self.position_of(pass),
            context: self.cache.positions,
        };
        let (q_rope, k_rope) = (space.q_rope.all(), space.k_rope.all());
        (input, Rotated { q_rope, k_rope, keys: keys.all(), values: values.all() })
    }

    /// To `attn_out` in every layout that the matrices read, from `q_rope` and the cache.
    pub(super) fn attend_into<E: Pod>(
        &self,
        pass: Pass,
        index: usize,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let attn_out = &self.workspace.layer(pass, index).attn_out;
        let (input, out) = (self.attention_of::<E>(pass, index), attn_out.values.all());
        if self.fault == Some(Fault::LaunchSkipped) {
            return self.quantise_for(pass, attn_out, matrices, None);
        }
        if pass.rows <= WAVE_ROWS {
            return self.attend_split::<E>(pass, index, None, matrices);
        }
        if self.kernels.serves_attention_tiles(input.head_size) {
            self.kernels.attention_tiles(input, out)?;
        } else {
            self.kernels.attention(input, out)?;
        }
        self.quantise_for(pass, attn_out, matrices, None)
    }

    /// The same for a few rows, with or without what stands in front of attention.
    fn attend_split<E: Pod>(
        &self,
        pass: Pass,
        index: usize,
        front: Option<(RopeKvWrite<'_>, Rotated<'_, E>)>,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let space = self.workspace.layer(pass, index);
        let chunks = Chunks {
            maxima: space.chunk_maxima.all(),
            totals: space.chunk_totals.all(),
            sums: self.workspace.chunk_sums.all(),
            arrivals: self.workspace.arrivals.all(),
        };
        let (input, out) = (self.attention_of::<E>(pass, index), space.attn_out.values.all());
        let first = layouts(&space.attn_out, matrices).next();
        let fixed = first.map(FixedBuffers::fixed_point);
        self.kernels.attention_split(input, front, chunks, out, fixed)?;
        self.quantise_for(pass, &space.attn_out, matrices, first)
    }

    /// To `down`, from the stream with attention, which is first completed.
    fn tuned_feed_forward<'e>(
        &'e self,
        pass: Pass,
        index: usize,
        layer: &'e LayerWeights,
        watch: &mut Watch<'e, '_>,
    ) -> Result<(), Error> {
        let space = self.workspace.layer(pass, index);
        let matrices = [(&layer.ffn_gate, &space.gate), (&layer.ffn_up, &space.up)];
        let branch = Some((&space.wo, &space.attn_residual));
        let x = (self.workspace.stream(pass, index), branch);
        self.norm_products_into(pass, x, (&layer.ffn_norm, &space.ffn_norm), &matrices)?;
        let mut see =
            |name, buffer| watch.see(self, pass, (TapLevel::Op, name, Some(index)), buffer);
        see("attn_residual", &space.attn_residual)?;
        see("ffn_norm", &space.ffn_norm.values)?;
        see("gate", &space.gate)?;
        see("up", &space.up)?;
        let down = [(&layer.ffn_down, &space.down)];
        self.gate_into(pass, (&space.gate, &space.up), &space.swiglu, &down)?;
        see("swiglu", &space.swiglu.values)?;
        self.products_into(pass, &space.swiglu, &down)?;
        see("down", &space.down)?;
        Ok(())
    }

    /// `final_norm` and `logits` of the last row of a pass.
    pub(super) fn tuned_readout<'e>(
        &'e self,
        pass: Pass,
        watch: &mut Watch<'e, '_>,
    ) -> Result<(), Error> {
        self.tuned_readout_or_stale(pass, self.logits_are_stale(), watch)
    }

    /// The same outside of a pass, where nothing is replayed.
    pub(super) fn tuned_readout_alone(&self, pass: Pass) -> Result<(), Error> {
        let mut silent = crate::taps::Silent;
        self.tuned_readout_or_stale(pass, false, &mut Watch::rows(&mut silent))?;
        self.spoil_logits()
    }

    /// The same; stale logits are left unwritten.
    fn tuned_readout_or_stale<'e>(
        &'e self,
        pass: Pass,
        stale: bool,
        watch: &mut Watch<'e, '_>,
    ) -> Result<(), Error> {
        let space = &self.workspace.readout;
        let wrong = self.fault == Some(Fault::ReadoutOfRowZero);
        let x = self.row(pass, if wrong { 0 } else { pass.rows - 1 })?;
        let pass = Pass { rows: 1, first_position: 0, level: TapLevel::Readout };
        let matrices = [(self.weights.output_matrix(), &space.logits)];
        let norm = (&self.weights.output_norm, &space.hidden);
        let wanted = if stale { &matrices[..0] } else { &matrices[..] };
        self.norm_products_view_into(pass, (x, None), norm, wanted)?;
        watch.see_readout(self, "final_norm", &space.hidden.values)?;
        watch.see_readout(self, "logits", &space.logits)?;
        Ok(watch.flush(self)?)
    }

    /// The norm, which is first completed with a branch, and the products of its result.
    pub(super) fn norm_products_into(
        &self,
        pass: Pass,
        (x, branch): (&Buffer, Option<(&Buffer, &Buffer)>),
        norm: (&Buffer, &Activation),
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let branch =
            branch.map(|(branch, stream)| Branch { branch: branch.all(), stream: stream.all() });
        self.norm_products_view_into(pass, (x.all(), branch), norm, matrices)
    }

    /// One launch for the norm and the products behind it, as far as they are of one type, where
    /// there is such a kernel.
    fn norm_products_view_into(
        &self,
        pass: Pass,
        (x, branch): (View<'_, f32>, Option<Branch<'_>>),
        (weight, norm): (&Buffer, &Activation),
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let width = u32::try_from(self.config.hidden).expect("sizes were compared with 2^24");
        let (rows, epsilon) = (pass.rows, self.config.epsilon);
        let input = NormQuantise { x, branch, weight: weight.all(), width, rows, epsilon };
        let streamed = matrices.first().and_then(|(first, _)| {
            let serves = self.kernels.serves_norm_product_stream(first.kind, width, rows);
            norm.fixed.iter().find(|fixed| serves && fixed.serves(first)).zip(Some(first.kind))
        });
        let Some((fixed, kind)) = streamed else {
            let fixed = layouts(norm, matrices).next();
            let into = fixed.map(FixedBuffers::fixed_point);
            self.kernels.norm_quantise(input, norm.values.all(), into)?;
            self.quantise_for(pass, norm, matrices, fixed)?;
            return self.products_into(pass, norm, matrices);
        };
        let same = same_type(matrices);
        let product = ProductWave { kind, x: fixed.fixed_point(), width, rows };
        let now = wave_matrices(&matrices[..same]);
        self.kernels.norm_product_stream(input, norm.values.all(), product, &now)?;
        self.quantise_for(pass, norm, matrices, Some(fixed))?;
        self.products_into(pass, norm, &matrices[same..])
    }

    /// `swiglu`, and the same in fixed point in every layout that the matrices read.
    pub(super) fn gate_into(
        &self,
        pass: Pass,
        (gate, up): (&Buffer, &Buffer),
        out: &Activation,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let (gate, up, rows) = (gate.all(), up.all(), pass.rows);
        let width = matrices[0].0.width;
        let Some(first) = layouts(out, matrices).next() else {
            return self.kernels.swiglu(gate, up, out.values.all(), rows * width);
        };
        let input = SwigluQuantise { gate, up, width, rows };
        self.kernels.swiglu_quantise(input, out.values.all(), first.fixed_point())?;
        self.quantise_for(pass, out, matrices, Some(first))
    }

    /// Fixed point in the layouts of the matrices but the one that is `done`.
    fn quantise_for(
        &self,
        pass: Pass,
        x: &Activation,
        matrices: &[(&Matrix, &Buffer)],
        done: Option<&FixedBuffers>,
    ) -> Result<(), DeviceError> {
        let left = |fixed: &&FixedBuffers| !done.is_some_and(|done| std::ptr::eq(done, *fixed));
        for fixed in layouts(x, matrices).filter(left) {
            let input = Quantise { x: x.values.all(), width: matrices[0].0.width, rows: pass.rows };
            self.kernels.quantise(input, fixed.fixed_point())?;
        }
        Ok(())
    }

    /// Products of one activation, which is there in fixed point, with several matrices.
    pub(super) fn products_into(
        &self,
        pass: Pass,
        x: &Activation,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let mut rest = matrices;
        while let Some(((first, _), _)) = rest.split_first() {
            let (now, later) = rest.split_at(same_type(rest));
            match x.fixed.iter().find(|fixed| fixed.serves(first)) {
                None => {
                    for (matrix, out) in now {
                        self.product(pass, x, matrix, out.all())?;
                    }
                }
                Some(fixed) if pass.rows <= WAVE_ROWS => self.wave_products(pass, fixed, now)?,
                Some(fixed) => self.many_products(pass, fixed, now)?,
            }
            rest = later;
        }
        Ok(())
    }

    fn wave_products(
        &self,
        pass: Pass,
        fixed: &FixedBuffers,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let Matrix { kind, width, .. } = matrices[0].0;
        let x = fixed.fixed_point();
        let input = ProductWave { kind: *kind, x, width: *width, rows: pass.rows };
        let matrices = wave_matrices(matrices);
        if self.kernels.serves_product_stream(*kind, *width, pass.rows) {
            return self.kernels.product_stream(input, &matrices);
        }
        self.kernels.product_wave(input, &matrices)
    }

    fn many_products(
        &self,
        pass: Pass,
        fixed: &FixedBuffers,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        for (matrix, out) in matrices {
            let Matrix { buffer, kind, outputs, width } = matrix;
            let (weights, x, rows) = (buffer.all(), fixed.fixed_point(), pass.rows);
            let (kind, outputs, width) = (*kind, *outputs, *width);
            let input = Product { weights, kind, x, outputs, width, rows };
            let workspace = self.workspace.split.all::<f32>();
            let split = split_chunks(&input, self.kernels.multiprocessors());
            match split.filter(|_| split_values(&input) <= workspace.count()) {
                Some(chunks) => {
                    self.kernels.product_tiles_split(input, chunks, workspace, out.all())?;
                }
                None => self.kernels.product_tiles(input, out.all())?,
            }
        }
        Ok(())
    }
}

/// How many of the first matrices are of one type and share a launch.
fn same_type(matrices: &[(&Matrix, &Buffer)]) -> usize {
    let kind = matrices[0].0.kind;
    let same = matrices.iter().take_while(|(matrix, _)| matrix.kind == kind);
    same.count().min(WAVE_MATRICES)
}

fn wave_matrices<'a>(matrices: &[(&'a Matrix, &'a Buffer)]) -> Vec<WaveMatrix<'a>> {
    let wave = |(matrix, out): &(&'a Matrix, &'a Buffer)| WaveMatrix {
        weights: matrix.buffer.all(),
        outputs: matrix.outputs,
        out: out.all(),
    };
    matrices.iter().map(wave).collect()
}

/// The layouts of fixed point that these matrices read an activation in, each once.
fn layouts<'a>(
    x: &'a Activation,
    matrices: &[(&Matrix, &Buffer)],
) -> impl Iterator<Item = &'a FixedBuffers> + use<'a> {
    let serves = |fixed: &&FixedBuffers| matrices.iter().any(|(matrix, _)| fixed.serves(matrix));
    x.fixed.iter().filter(serves).collect::<Vec<_>>().into_iter()
}
