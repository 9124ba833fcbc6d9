//! A small model with all its tensors, run by the reference's operations: where faults are planted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use fixtures::values::Stream;
use harness::compare::Phase;
use harness::diagnose::{Evidence, Library, Shelf, Weight};
use reference::exact::{Level, ops};
use reference::{Activations, Config, KvType, WeightType};

/// The passes: a prompt in two chunks that ends inside the second chunk of attention, three steps.
pub(crate) const PASSES: [Range<usize>; 5] = [0..40, 40..70, 70..71, 71..72, 72..73];

/// What a world is like.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) rope_dimensions: usize,
    pub(crate) feed_forward: usize,
    pub(crate) layers: usize,
    pub(crate) kv: KvType,
    pub(crate) tied: bool,
    pub(crate) vocabulary: usize,
    pub(crate) passes: &'static [Range<usize>],
    /// The types of the matrices, taken in turn.
    pub(crate) kinds: &'static [WeightType],
}

/// Grouped heads, K types, a cache in f16.
pub(crate) const GROUPED: Spec = Spec {
    name: "grouped",
    heads: 8,
    kv_heads: 2,
    head_size: 32,
    rope_dimensions: 32,
    feed_forward: 512,
    layers: 3,
    kv: KvType::F16,
    tied: false,
    vocabulary: 330,
    passes: &PASSES,
    // Embedding and up, output and down, q, k, v, the attention's output, gate.
    kinds: &[
        WeightType::Q5K,
        WeightType::Q6K,
        WeightType::Q4K,
        WeightType::Q8_0,
        WeightType::Q2K,
        WeightType::Q3K,
        WeightType::Q4K,
    ],
};

/// A head for each head, small blocks, an odd number of heads, a cache in f32.
pub(crate) const PLAIN: Spec = Spec {
    name: "plain",
    heads: 3,
    kv_heads: 3,
    head_size: 32,
    rope_dimensions: 32,
    feed_forward: 160,
    layers: 2,
    kv: KvType::F32,
    tied: true,
    vocabulary: 330,
    passes: &PASSES,
    kinds: &[
        WeightType::Q8_0,
        WeightType::Q4_0,
        WeightType::Q5_1,
        WeightType::Q5_0,
        WeightType::Q4_1,
    ],
};

/// Weights in floats, part of a head rotated.
pub(crate) const FLOATS: Spec = Spec {
    name: "floats",
    heads: 4,
    kv_heads: 2,
    head_size: 16,
    rope_dimensions: 8,
    feed_forward: 96,
    layers: 4,
    kv: KvType::F32,
    tied: false,
    vocabulary: 330,
    passes: &PASSES,
    kinds: &[WeightType::F32, WeightType::F16, WeightType::Bf16],
};

/// The model and everything it computed.
pub(crate) struct World {
    pub(crate) spec: Spec,
    pub(crate) config: Config,
    pub(crate) shelf: Shelf,
    pub(crate) tokens: Vec<u32>,
    widths: BTreeMap<&'static str, usize>,
}

/// A matrix of a type, quantised by candle from ordinary values.
pub(crate) fn matrix(
    stream: &mut Stream,
    kind: WeightType,
    rows: usize,
    columns: usize,
) -> Weight<'static> {
    let spread = 1.7 / (columns as f32).sqrt();
    // Not centred, so that minima matter.
    let values: Vec<f32> = (0..rows * columns).map(|_| spread * (stream.unit() + 0.03)).collect();
    let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
    let stored = QTensor::quantize(&tensor, kind.to_candle()).unwrap();
    let bytes = stored.data().unwrap().into_owned();
    Weight { kind, rows, columns, bytes: Cow::Owned(bytes) }
}

fn vector(stream: &mut Stream, columns: usize) -> Weight<'static> {
    let bytes = (0..columns).flat_map(|_| (1.0 + 0.5 * stream.unit()).to_le_bytes()).collect();
    Weight { kind: WeightType::F32, rows: 1, columns, bytes: Cow::Owned(bytes) }
}

fn config(spec: &Spec) -> Config {
    Config {
        layers: spec.layers,
        hidden: spec.heads * spec.head_size,
        heads: spec.heads,
        kv_heads: spec.kv_heads,
        head_size: spec.head_size,
        feed_forward: spec.feed_forward,
        vocabulary: spec.vocabulary,
        eps: 1e-5,
        rope_base: 10_000.0,
        rope_dimensions: spec.rope_dimensions,
        rope_factors: false,
        context_length: 256,
        tied: spec.tied,
    }
}

impl World {
    pub(crate) fn new(spec: &Spec, seed: u64) -> Self {
        let config = config(spec);
        let mut stream = Stream::new(seed);
        let mut shelf = Shelf::default();
        let (hidden, wide) = (config.hidden, config.feed_forward);
        let (queries, keys) = (hidden, spec.kv_heads * spec.head_size);
        let mut kinds = spec.kinds.iter().copied().cycle();
        let mut put = |shelf: &mut Shelf, name: &str, rows: usize, columns: usize| {
            let kind = kinds.next().unwrap();
            shelf.put_weight(name, matrix(&mut stream, kind, rows, columns));
        };
        put(&mut shelf, "token_embd.weight", config.vocabulary, hidden);
        put(&mut shelf, "output.weight", config.vocabulary, hidden);
        for layer in 0..config.layers {
            for (name, rows, columns) in [
                ("attn_q", queries, hidden),
                ("attn_k", keys, hidden),
                ("attn_v", keys, hidden),
                ("attn_output", hidden, queries),
                ("ffn_gate", wide, hidden),
                ("ffn_up", wide, hidden),
                ("ffn_down", hidden, wide),
            ] {
                put(&mut shelf, &format!("blk.{layer}.{name}.weight"), rows, columns);
            }
        }
        for layer in 0..config.layers {
            for name in ["attn_norm", "ffn_norm"] {
                shelf
                    .put_weight(&format!("blk.{layer}.{name}.weight"), vector(&mut stream, hidden));
            }
        }
        shelf.put_weight("output_norm.weight", vector(&mut stream, hidden));
        let vocabulary = config.vocabulary;
        let tokens = (0..spec.passes[spec.passes.len() - 1].end)
            .map(|_| stream.below(vocabulary) as u32)
            .collect();
        let widths = BTreeMap::new();
        let mut world = Self { spec: spec.clone(), config, shelf, tokens, widths };
        world.run();
        world
    }

    pub(crate) fn product(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let weight = self.shelf.weight(name).unwrap();
        ops::product(Level::best(true), Activations::I24, weight.matrix(), x)
    }

    pub(crate) fn norm(&self, name: &str, x: &[f32], eps: f32) -> Vec<f32> {
        let weight = self.shelf.weight(name).unwrap();
        ops::rms_norm(Level::best(true), x, &ops::embed(weight.matrix(), &[0]), eps)
    }

    fn put(&mut self, tap: &'static str, layer: Option<usize>, width: usize, values: &[f32]) {
        self.widths.insert(tap, width);
        self.shelf.put_rows(tap, layer, 0, width, values);
    }

    /// The forward pass of CONTRACT.md, section 12, over all positions at once.
    fn run(&mut self) {
        let level = Level::best(true);
        let config = self.config.clone();
        let (hidden, wide) = (config.hidden, config.feed_forward);
        let keys = config.kv_heads * config.head_size;
        let table = self.shelf.weight("token_embd.weight").unwrap();
        let mut stream = ops::embed(table.matrix(), &self.tokens);
        self.put("embed", None, hidden, &stream);
        let rope = ops::Rope {
            head_size: config.head_size,
            dimensions: config.rope_dimensions,
            base: config.rope_base,
            factors: None,
        };
        for layer in 0..config.layers {
            let name = |name: &str| format!("blk.{layer}.{name}.weight");
            let at = Some(layer);
            let normed = self.norm(&name("attn_norm"), &stream, config.eps);
            let q = self.product(&name("attn_q"), &normed);
            let k = self.product(&name("attn_k"), &normed);
            let v = self.product(&name("attn_v"), &normed);
            let q_rope = ops::rope(level, rope, &q, hidden, 0);
            let k_rope = ops::rope(level, rope, &k, keys, 0);
            let attended = ops::attention(
                level,
                ops::Attention {
                    heads: config.heads,
                    kv_heads: config.kv_heads,
                    head_size: config.head_size,
                    kv: self.spec.kv,
                    queries: &q_rope,
                    keys: &k_rope,
                    values: &v,
                },
            );
            let wo = self.product(&name("attn_output"), &attended);
            let middle = ops::add(&stream, &wo);
            let ffn = self.norm(&name("ffn_norm"), &middle, config.eps);
            let gate = self.product(&name("ffn_gate"), &ffn);
            let up = self.product(&name("ffn_up"), &ffn);
            let inner = ops::swiglu(level, &gate, &up);
            let down = self.product(&name("ffn_down"), &inner);
            stream = ops::add(&middle, &down);
            let taps: [(&'static str, usize, &[f32]); 15] = [
                ("attn_norm", hidden, &normed),
                ("q", hidden, &q),
                ("k", keys, &k),
                ("v", keys, &v),
                ("q_rope", hidden, &q_rope),
                ("k_rope", keys, &k_rope),
                ("attn_out", hidden, &attended),
                ("wo", hidden, &wo),
                ("attn_residual", hidden, &middle),
                ("ffn_norm", hidden, &ffn),
                ("gate", wide, &gate),
                ("up", wide, &up),
                ("swiglu", wide, &inner),
                ("down", hidden, &down),
                ("ffn_residual", hidden, &stream),
            ];
            for (tap, width, values) in taps {
                self.put(tap, at, width, values);
            }
        }
        self.read_out(&stream);
    }

    /// Hidden state and logits of the last position of every pass.
    fn read_out(&mut self, stream: &[f32]) {
        let config = self.config.clone();
        let hidden = config.hidden;
        self.widths.extend([("final_norm", hidden), ("logits", config.vocabulary)]);
        for pass in self.spec.passes {
            let last = &stream[(pass.end - 1) * hidden..][..hidden];
            let norm = self.norm("output_norm.weight", last, config.eps);
            let output = if config.tied { "token_embd.weight" } else { "output.weight" };
            let logits = self.product(output, &norm);
            self.shelf.put_rows("final_norm", None, pass.end - 1, hidden, &norm);
            self.shelf.put_rows("logits", None, pass.end - 1, config.vocabulary, &logits);
        }
    }

    /// Rows of a tap.
    pub(crate) fn rows(&self, tap: &str, layer: Option<usize>, at: Range<usize>) -> Vec<f32> {
        self.shelf.rows(tap, layer, at).unwrap_or_else(|| panic!("no {tap} {layer:?}")).into_owned()
    }

    /// A tap of a pass in which nothing differs yet.
    pub(crate) fn evidence(
        &self,
        tap: &'static str,
        layer: Option<usize>,
        pass: usize,
    ) -> Evidence<'_> {
        let pass_positions = self.spec.passes[pass].clone();
        let readout = matches!(tap, "final_norm" | "logits");
        let first_position = if readout { pass_positions.end - 1 } else { pass_positions.start };
        let expected = self.rows(tap, layer, first_position..pass_positions.end);
        Evidence {
            tap: tap.into(),
            layer,
            phase: if pass < 2 { Phase::PrefillLast } else { Phase::Decode },
            step: pass.saturating_sub(1),
            first_position,
            width: self.widths[tap],
            actual: expected.clone(),
            expected,
            tokens: Some(self.tokens[pass_positions.clone()].to_vec()),
            pass_positions,
            config: self.config.clone(),
            activations: Activations::I24,
            kv: self.spec.kv,
            repeats: None,
            alone_reproduces: None,
            library: &self.shelf,
        }
    }
}
