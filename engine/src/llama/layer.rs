//! One pass through the layers, operation by operation, in the order of CONTRACT.md section 12.

use super::engine::Engine;
use super::weights::{LayerWeights, Matrix};
use super::workspace::Activation;
use crate::device::{Buffer, DeviceError, View};
use crate::error::Error;
use crate::fault::Fault;
use crate::kernels::{
    Attention, Embed, KvWrite, Position, Product, ProductFloat, Quantise, RmsNorm, Rope,
};
use crate::options::KvType;
use crate::taps::{Observer, Tap, TapLevel};
use bytemuck::Pod;

/// What stays the same within one pass.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) rows: u32,
    pub(super) first_position: u32,
    pub(super) level: TapLevel,
}

impl Pass {
    pub(super) fn new(rows: usize, first_position: usize, level: TapLevel) -> Self {
        let size = |value: usize| u32::try_from(value).expect("the context was compared with 2^31");
        Self { rows: size(rows), first_position: size(first_position), level }
    }
}

impl Engine {
    /// Writes where a pass stands and what it reads; nothing later in the pass comes from the host.
    pub(super) fn write_inputs(&self, tokens: &[u32], pass: Pass) -> Result<(), DeviceError> {
        self.workspace.poison(pass)?;
        self.workspace.position.write(0, &[pass.first_position])?;
        self.workspace.tokens.write(0, tokens)
    }

    /// Runs the tokens on the device through all layers, kernel by plain kernel.
    pub(super) fn plain_pass(&self, pass: Pass, observer: &mut dyn Observer) -> Result<(), Error> {
        self.embed(pass)?;
        let embedded = self.workspace.stream(pass, 0);
        self.tap(pass, TapLevel::Layer, "embed", None, embedded, observer)?;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.enter_layer(Some(index));
            match self.kv {
                KvType::F32 => self.attention_half::<f32>(pass, index, layer, observer)?,
                KvType::F16 => self.attention_half::<u16>(pass, index, layer, observer)?,
            }
            self.feed_forward_half(pass, index, layer, observer)?;
        }
        self.enter_layer(None);
        Ok(())
    }

    pub(super) fn embed(&self, pass: Pass) -> Result<(), DeviceError> {
        let table = &self.weights.token_embd;
        let input = Embed {
            table: table.buffer.all(),
            kind: table.kind,
            tokens: self.workspace.tokens.view::<u32>(0, u64::from(pass.rows))?,
            vocabulary: table.outputs,
            hidden: table.width,
            rows: pass.rows,
        };
        self.kernels.embed(input, self.workspace.stream(pass, 0).all())
    }

    /// From the stream before the layer to `attn_residual`.
    fn attention_half<E: Pod>(
        &self,
        pass: Pass,
        index: usize,
        layer: &LayerWeights,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let space = self.workspace.layer(pass, index);
        let stream = self.workspace.stream(pass, index);
        let mut seen = |name, buffer: &Buffer| {
            self.tap(pass, TapLevel::Op, name, Some(index), buffer, observer)
        };
        self.norm(pass, stream, &layer.attn_norm, &space.attn_norm.values)?;
        seen("attn_norm", &space.attn_norm.values)?;
        let matrices = [&layer.attn_q, &layer.attn_k, &layer.attn_v];
        self.products(pass, &space.attn_norm, &matrices, &[&space.q, &space.k, &space.v])?;
        seen("q", &space.q)?;
        seen("k", &space.k)?;
        seen("v", &space.v)?;
        self.rope(pass, &space.q, self.config.heads, &space.q_rope)?;
        seen("q_rope", &space.q_rope)?;
        self.rope(pass, &space.k, self.config.kv_heads, &space.k_rope)?;
        seen("k_rope", &space.k_rope)?;
        self.attend::<E>(pass, index)?;
        seen("attn_out", &space.attn_out.values)?;
        self.products(pass, &space.attn_out, &[&layer.attn_output], &[&space.wo])?;
        seen("wo", &space.wo)?;
        self.add(pass, stream, &space.wo, &space.attn_residual)?;
        seen("attn_residual", &space.attn_residual)?;
        Ok(())
    }

    /// From `attn_residual` to the stream behind the layer.
    fn feed_forward_half(
        &self,
        pass: Pass,
        index: usize,
        layer: &LayerWeights,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let space = self.workspace.layer(pass, index);
        let mut seen = |level, name, buffer: &Buffer| {
            self.tap(pass, level, name, Some(index), buffer, observer)
        };
        self.norm(pass, &space.attn_residual, &layer.ffn_norm, &space.ffn_norm.values)?;
        seen(TapLevel::Op, "ffn_norm", &space.ffn_norm.values)?;
        let matrices = [&layer.ffn_gate, &layer.ffn_up];
        self.products(pass, &space.ffn_norm, &matrices, &[&space.gate, &space.up])?;
        seen(TapLevel::Op, "gate", &space.gate)?;
        seen(TapLevel::Op, "up", &space.up)?;
        self.gate(pass, index)?;
        seen(TapLevel::Op, "swiglu", &space.swiglu.values)?;
        self.products(pass, &space.swiglu, &[&layer.ffn_down], &[&space.down])?;
        seen(TapLevel::Op, "down", &space.down)?;
        self.add(pass, &space.attn_residual, &space.down, &space.ffn_residual)?;
        seen(TapLevel::Layer, "ffn_residual", &space.ffn_residual)?;
        Ok(())
    }

    /// `swiglu` of the products of a layer.
    pub(super) fn gate(&self, pass: Pass, index: usize) -> Result<(), DeviceError> {
        let space = self.workspace.layer(pass, index);
        let count = pass.rows * self.weights.layers[index].ffn_gate.outputs;
        let (gate, up) = (space.gate.all(), space.up.all());
        self.kernels.swiglu(gate, up, space.swiglu.values.all(), count)
    }

    pub(super) fn norm(
        &self,
        pass: Pass,
        x: &Buffer,
        weight: &Buffer,
        out: &Buffer,
    ) -> Result<(), DeviceError> {
        let width = u32::try_from(self.config.hidden).expect("sizes were compared with 2^24");
        let input = RmsNorm {
            x: x.all(),
            weight: weight.all(),
            width,
            rows: pass.rows,
            epsilon: self.config.epsilon,
        };
        self.kernels.rms_norm(input, out.all())
    }

    /// Products of one activation with several matrices; it is brought into fixed point once for
    /// each layout that the matrices read.
    pub(super) fn products(
        &self,
        pass: Pass,
        x: &Activation,
        matrices: &[&Matrix],
        outs: &[&Buffer],
    ) -> Result<(), DeviceError> {
        for fixed in &x.fixed {
            if let Some(matrix) = matrices.iter().find(|matrix| fixed.serves(matrix)) {
                let input = Quantise { x: x.values.all(), width: matrix.width, rows: pass.rows };
                self.kernels.quantise(input, fixed.fixed_point())?;
            }
        }
        for (matrix, out) in matrices.iter().zip(outs) {
            self.product(pass, x, matrix, out.all())?;
        }
        Ok(())
    }

    pub(super) fn product(
        &self,
        pass: Pass,
        x: &Activation,
        matrix: &Matrix,
        out: View<'_, f32>,
    ) -> Result<(), DeviceError> {
        let (weights, kind, rows) = (matrix.buffer.all(), matrix.kind, pass.rows);
        let (outputs, width) = (matrix.outputs, matrix.width);
        match x.fixed.iter().find(|fixed| fixed.serves(matrix)) {
            Some(fixed) => {
                let x = fixed.fixed_point();
                self.kernels.product(Product { weights, kind, x, outputs, width, rows }, out)
            }
            None => {
                let x = x.values.all();
                let input = ProductFloat { weights, kind, x, outputs, width, rows };
                self.kernels.product_float(input, out)
            }
        }
    }

    pub(super) fn rope(
        &self,
        pass: Pass,
        x: &Buffer,
        heads: usize,
        out: &Buffer,
    ) -> Result<(), DeviceError> {
        let size = |value: usize| u32::try_from(value).expect("sizes were compared with 2^24");
        let input = Rope {
            x: x.all(),
            cosine: self.cosine.all(),
            sine: self.sine.all(),
            heads: size(heads),
            head_size: size(self.config.head_size),
            rotated: size(self.config.rope_dimensions),
            rows: pass.rows,
            position: self.position_of(pass),
        };
        self.kernels.rope(input, out.all())
    }

    fn attend<E: Pod>(&self, pass: Pass, index: usize) -> Result<(), DeviceError> {
        self.store::<E>(pass, index)?;
        self.attend_alone::<E>(pass, index)
    }

    /// Writes keys and values of the pass into the cache.
    pub(super) fn store<E: Pod>(&self, pass: Pass, index: usize) -> Result<(), DeviceError> {
        let size = |value: usize| u32::try_from(value).expect("sizes were compared with 2^24");
        let space = self.workspace.layer(pass, index);
        let (keys, values) = self.cache.layer(index);
        let wrong = self.fault == Some(Fault::CacheHeadsOfQueries);
        let kv_heads = size(if wrong { self.config.heads } else { self.config.kv_heads });
        let (head_size, context) = (size(self.config.head_size), self.cache.positions);
        let (rows, position) = (pass.rows, self.position_of(pass));
        let (k, v) = (space.k_rope.all(), space.v.all());
        let input = KvWrite { k, v, kv_heads, head_size, rows, position, context };
        self.kernels.kv_write::<E>(input, keys.all(), values.all())
    }

    /// Attention over what the cache has.
    pub(super) fn attend_alone<E: Pod>(&self, pass: Pass, index: usize) -> Result<(), DeviceError> {
        if self.fault == Some(Fault::LaunchSkipped) {
            return Ok(());
        }
        let out = self.workspace.layer(pass, index).attn_out.values.all();
        self.kernels.attention(self.attention_of::<E>(pass, index), out)
    }

    /// What attention reads in one layer.
    pub(super) fn attention_of<E: Pod>(&self, pass: Pass, index: usize) -> Attention<'_, E> {
        let size = |value: usize| u32::try_from(value).expect("sizes were compared with 2^24");
        let wrong = self.fault == Some(Fault::CacheOfLayerZero) && pass.rows == 1;
        let (keys, values) = self.cache.layer(if wrong { 0 } else { index });
        Attention {
            q: self.workspace.layer(pass, index).q_rope.all(),
            keys: keys.all(),
            values: values.all(),
            heads: size(self.config.heads),
            kv_heads: size(self.config.kv_heads),
            head_size: size(self.config.head_size),
            rows: pass.rows,
            position: self.position_of(pass),
            context: self.cache.positions,
        }
    }

    /// The position on the device, which `pass` has written there.
    pub(super) fn position_of(&self, pass: Pass) -> Position<'_> {
        Position { first: self.workspace.position.all(), largest: pass.first_position }
    }

    pub(super) fn add(
        &self,
        pass: Pass,
        x: &Buffer,
        branch: &Buffer,
        out: &Buffer,
    ) -> Result<(), DeviceError> {
        let hidden = u32::try_from(self.config.hidden).expect("sizes were compared with 2^24");
        self.kernels.residual(x.all(), branch.all(), out.all(), pass.rows * hidden)
    }

    /// Shows `rows` rows of a buffer to the observer, if it wants that much.
    pub(super) fn tap(
        &self,
        pass: Pass,
        level: TapLevel,
        name: &'static str,
        layer: Option<usize>,
        buffer: &Buffer,
        observer: &mut dyn Observer,
    ) -> Result<(), DeviceError> {
        if pass.level < level {
            return Ok(());
        }
        let width = self.tap_width(name);
        let mut values = vec![f32::NAN; pass.rows as usize * width];
        buffer.read(0, &mut values)?;
        observer.tap(Tap {
            name,
            layer,
            first_position: pass.first_position as usize,
            rows: pass.rows as usize,
            width,
            values: &values,
        });
        Ok(())
    }

    pub(super) fn tap_width(&self, name: &str) -> usize {
        let config = &self.config;
        match name {
            "q" | "q_rope" | "attn_out" => config.heads * config.head_size,
            "k" | "v" | "k_rope" => config.kv_heads * config.head_size,
            "gate" | "up" | "swiglu" => config.feed_forward,
            _ => config.hidden,
        }
    }
}
