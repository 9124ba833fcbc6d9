//! The forward pass on a device that runs waves: the same operations in fewer launches. `layer.rs`
//! is the plain composition that this replaces.

use super::engine::Engine;
use super::layer::Pass;
use super::tuned_products::layouts;
use super::watch::Watch;
use super::weights::{LayerWeights, Matrix};
use super::workspace::FixedBuffers;
use crate::device::{Buffer, DeviceError};
use crate::error::Error;
use crate::fault::Fault;
use crate::kernels::{Chunks, RopeKvWrite, Rotated};
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
        // What is wrong with attention alone takes a launch of its own.
        let apart = [Fault::LaunchSkipped, Fault::CacheOfLayerZero].map(Some);
        if pass.rows <= WAVE_ROWS && !apart.contains(&self.fault) {
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
        let norm = (&layer.ffn_norm, &space.ffn_norm);
        let down = [(&layer.ffn_down, &space.down)];
        self.norm_gate_into(pass, x, norm, &matrices, (&space.swiglu, &down))?;
        let mut see =
            |name, buffer| watch.see(self, pass, (TapLevel::Op, name, Some(index)), buffer);
        see("attn_residual", &space.attn_residual)?;
        see("ffn_norm", &space.ffn_norm.values)?;
        see("gate", &space.gate)?;
        see("up", &space.up)?;
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
}
