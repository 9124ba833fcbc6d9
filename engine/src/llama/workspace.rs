//! Device memory between operations, allocated once: for one pass of at most `ubatch` tokens.
//!
//! A pass of a few tokens has a place of its own for every layer, all in one arena: one fill before
//! the pass poisons every output, so that a missing launch is seen wherever it is. A pass of many
//! tokens would need gigabytes for that; its layers share one set of buffers, each of which is
//! poisoned before it is written.

use super::Config;
use super::layer::Pass;
use super::tuned::WAVE_ROWS;
use super::watch::readout_pieces;
use super::weights::{Matrix, Weights};
use crate::device::{Arena, Buffer, DeviceError, Part};
use crate::gguf::TensorType;
use crate::kernels::{
    FixedPoint, KEY_TILE, Kernels, RowDigest, activation_block, activation_group, arrivals_count,
    gate_arrivals_count,
};
use std::collections::BTreeSet;

/// Fixed-point activations for one pair of block and group.
#[derive(Debug)]
pub(super) struct FixedBuffers {
    digits: Buffer,
    scales: Buffer,
    sums: Buffer,
    pub(super) block: u32,
    pub(super) group: u32,
}

impl FixedBuffers {
    pub(super) fn fixed_point(&self) -> FixedPoint<'_> {
        FixedPoint {
            digits: self.digits.all(),
            scales: self.scales.all(),
            sums: self.sums.all(),
            block: self.block,
            group: self.group,
        }
    }

    pub(super) fn serves(&self, matrix: &Matrix) -> bool {
        layout_of(matrix.kind) == Some((self.block, self.group))
    }
}

/// Block and group in which a matrix of a type reads its activations, or `None` for plain f32.
fn layout_of(kind: TensorType) -> Option<(u32, u32)> {
    Some((activation_block(kind)?, activation_group(kind)))
}

/// A tensor with its fixed-point forms, in every layout that the matrices behind it read.
#[derive(Debug)]
pub(super) struct Activation {
    /// `[rows][width]`.
    pub(super) values: Buffer,
    pub(super) fixed: Vec<FixedBuffers>,
}

/// What the operations of one layer write; each buffer holds `[rows][width]`.
#[derive(Debug)]
pub(super) struct LayerSpace {
    pub(super) attn_norm: Activation,
    pub(super) q: Buffer,
    pub(super) k: Buffer,
    pub(super) v: Buffer,
    pub(super) q_rope: Buffer,
    pub(super) k_rope: Buffer,
    pub(super) attn_out: Activation,
    pub(super) wo: Buffer,
    /// The residual stream with attention.
    pub(super) attn_residual: Buffer,
    pub(super) ffn_norm: Activation,
    pub(super) gate: Buffer,
    pub(super) up: Buffer,
    pub(super) swiglu: Activation,
    pub(super) down: Buffer,
    /// The residual stream behind the layer.
    pub(super) ffn_residual: Buffer,
    /// m and l of the chunks of a few rows, `[rows][heads][chunks]`.
    pub(super) chunk_maxima: Buffer,
    pub(super) chunk_totals: Buffer,
}

/// What the readout of one row writes.
#[derive(Debug)]
pub(super) struct ReadoutSpace {
    /// Tap `final_norm`, `[hidden]`.
    pub(super) hidden: Activation,
    /// `[vocabulary]`.
    pub(super) logits: Buffer,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Workspace {
    /// `[1]`: the position of row 0 of the pass.
    pub(super) position: Buffer,
    pub(super) tokens: Buffer,
    /// For passes of more than `WAVE_ROWS` rows; there are none where `ubatch` is no more.
    many: Option<LayerSpace>,
    /// For passes of a few rows, layer by layer, behind their embedding.
    few: Vec<LayerSpace>,
    few_embed: Buffer,
    few_arena: Arena,
    pub(super) readout: ReadoutSpace,
    readout_arena: Arena,
    /// `[taps][ubatch]` records of 32 bytes, where digests are taken on the device.
    pub(super) digests: Buffer,
    /// a of the chunks of a few rows, `[rows][heads][chunks][head_size]`. All layers write it in
    /// turn; what is missing there shows in `chunk_maxima`.
    pub(super) chunk_sums: Buffer,
    /// Counters of blocks that finish together what several began: zeros between launches.
    pub(super) arrivals: Buffer,
    /// Chunks of products of a few rows, before they are added up.
    pub(super) split: Buffer,
}

/// What is set aside for chunks of products; a product that needs more is not split.
const SPLIT_VALUES_MAX: u64 = 16 << 20;

/// Digests of a pass at most: fifteen taps a layer, the embedding, and the pieces of the readout.
pub(super) fn digests_of(config: &Config, rows: usize) -> u64 {
    let readout = readout_pieces(config.hidden) + readout_pieces(config.vocabulary);
    ((15 * config.layers + 1) * rows + readout) as u64
}

/// What tuned kernels need beside the rows of a pass; empty where there are none.
struct TunedSizes {
    digests: u64,
    parts: u64,
    arrivals: u64,
    split: u64,
}

impl TunedSizes {
    /// `matrices` are outputs and width of every matrix that takes part in a product.
    pub(super) fn new(
        waves: bool,
        config: &Config,
        matrices: impl Iterator<Item = (u64, u64)>,
        (ubatch, context): (usize, usize),
    ) -> Self {
        if !waves {
            return Self { digests: 0, parts: 0, arrivals: 0, split: 0 };
        }
        let rows = u64::from(WAVE_ROWS) * config.heads as u64;
        let chunks = context.div_ceil(KEY_TILE as usize) as u64 + 1;
        let width = u32::try_from(config.heads * config.head_size).unwrap_or(u32::MAX);
        let attended = arrivals_count(width, WAVE_ROWS);
        let feed_forward = u32::try_from(config.feed_forward).unwrap_or(u32::MAX);
        let most = |(outputs, width): (u64, u64)| {
            outputs.saturating_mul(width.div_ceil(256)).saturating_mul(ubatch as u64)
        };
        Self {
            digests: digests_of(config, ubatch),
            parts: rows.saturating_mul(chunks),
            arrivals: u64::from(attended.max(gate_arrivals_count(feed_forward))),
            split: matrices.map(most).max().unwrap_or(0).min(SPLIT_VALUES_MAX),
        }
    }
}

/// What sizes follow from, and the parts that were asked for so far.
struct Plan<'a> {
    config: &'a Config,
    layouts: BTreeSet<(u32, u32)>,
    digit_count: u64,
    parts: Vec<Part>,
}

impl Plan<'_> {
    fn floats(&mut self, name: String, count: u64) {
        self.parts.push(Part::new::<f32>(name, count));
    }

    fn activation(&mut self, name: String, count: u64) {
        for (block, group) in self.layouts.clone() {
            let part = |part| format!("{name}.{block}.{group}.{part}");
            self.parts.push(Part::new::<i8>(part("digits"), count * self.digit_count));
            self.floats(part("scales"), count / u64::from(block));
            self.floats(part("sums"), count / u64::from(group));
        }
        self.floats(name, count);
    }

    /// The parts of a [`LayerSpace`], in the order in which [`Parts::layer`] takes them.
    fn layer(&mut self, rows: u64, parts: u64, name: impl Fn(&str) -> String) {
        let Config { hidden, heads, kv_heads, head_size, feed_forward, .. } = *self.config;
        let [query, kv] =
            [heads * head_size, kv_heads * head_size].map(|width| width as u64 * rows);
        let [hidden, wide] = [hidden, feed_forward].map(|width| width as u64 * rows);
        self.activation(name("attn_norm"), hidden);
        for (part, count) in [("q", query), ("k", kv), ("v", kv), ("q_rope", query)] {
            self.floats(name(part), count);
        }
        self.floats(name("k_rope"), kv);
        self.activation(name("attn_out"), query);
        self.floats(name("wo"), hidden);
        self.floats(name("attn_residual"), hidden);
        self.activation(name("ffn_norm"), hidden);
        self.floats(name("gate"), wide);
        self.floats(name("up"), wide);
        self.activation(name("swiglu"), wide);
        self.floats(name("down"), hidden);
        self.floats(name("ffn_residual"), hidden);
        self.floats(name("chunks.maxima"), parts);
        self.floats(name("chunks.totals"), parts);
    }

    fn readout(&mut self) {
        self.activation("hidden".to_owned(), self.config.hidden as u64);
        self.floats("logits".to_owned(), self.config.vocabulary as u64);
    }
}

/// Buffers in the order of their plan.
struct Parts {
    layouts: BTreeSet<(u32, u32)>,
    buffers: std::vec::IntoIter<Buffer>,
}

impl Parts {
    fn next(&mut self) -> Buffer {
        self.buffers.next().expect("as many buffers as were planned")
    }

    fn activation(&mut self) -> Activation {
        let fixed = self.layouts.clone().into_iter().map(|(block, group)| FixedBuffers {
            digits: self.next(),
            scales: self.next(),
            sums: self.next(),
            block,
            group,
        });
        let fixed = fixed.collect();
        Activation { values: self.next(), fixed }
    }

    fn layer(&mut self) -> LayerSpace {
        // Fields are computed in the order in which they stand here: that of the plan.
        LayerSpace {
            attn_norm: self.activation(),
            q: self.next(),
            k: self.next(),
            v: self.next(),
            q_rope: self.next(),
            k_rope: self.next(),
            attn_out: self.activation(),
            wo: self.next(),
            attn_residual: self.next(),
            ffn_norm: self.activation(),
            gate: self.next(),
            up: self.next(),
            swiglu: self.activation(),
            down: self.next(),
            ffn_residual: self.next(),
            chunk_maxima: self.next(),
            chunk_totals: self.next(),
        }
    }
}

/// Everything a workspace is made of.
pub(super) struct Planned {
    /// The embedding and every layer, for a few rows.
    few: Vec<Part>,
    /// One layer for many rows; nothing where no pass has them.
    many: Vec<Part>,
    readout: Vec<Part>,
    /// Position, tokens, digests, sums of chunks, arrivals, split products.
    rest: [Part; 6],
    layouts: BTreeSet<(u32, u32)>,
}

impl Planned {
    /// For passes of at most `ubatch` rows; a product has a type, outputs and a width.
    pub(super) fn new(
        config: &Config,
        products: impl Iterator<Item = (TensorType, u64, u64)> + Clone,
        digit_count: u64,
        waves: bool,
        (ubatch, context): (usize, usize),
    ) -> Self {
        let sizes = products.clone().map(|(_, outputs, width)| (outputs, width));
        let tuned = TunedSizes::new(waves, config, sizes, (ubatch, context));
        let layouts: BTreeSet<_> = products.filter_map(|(kind, ..)| layout_of(kind)).collect();
        let mut plan = Plan { config, layouts: layouts.clone(), digit_count, parts: Vec::new() };
        let few_rows = u64::from(WAVE_ROWS).min(ubatch as u64);
        plan.floats("embed".to_owned(), few_rows * config.hidden as u64);
        for layer in 0..config.layers {
            plan.layer(few_rows, tuned.parts, |name| format!("{name}.{layer}"));
        }
        let few = std::mem::take(&mut plan.parts);
        if ubatch as u64 > few_rows {
            plan.layer(ubatch as u64, 0, str::to_owned);
        }
        let many = std::mem::take(&mut plan.parts);
        plan.readout();
        let sums = tuned.parts.saturating_mul(config.head_size as u64);
        let rest = [
            Part::new::<u32>("position", 1),
            Part::new::<u32>("tokens", ubatch as u64),
            Part::new::<RowDigest>("digests", tuned.digests),
            Part::new::<f32>("chunks.sums", sums),
            Part::new::<u32>("arrivals", tuned.arrivals),
            Part::new::<f32>("split", tuned.split),
        ];
        Self { few, many, readout: plan.parts, rest, layouts }
    }

    /// Bytes of every buffer, by the memory that they share.
    pub(super) fn buffers_bytes(&self) -> Vec<Vec<u128>> {
        let bytes = |part: &Part| u128::from(part.bytes());
        let together = [&self.few, &self.readout].map(|parts| parts.iter().map(bytes).collect());
        let alone = self.many.iter().chain(&self.rest).map(|part| vec![bytes(part)]);
        together.into_iter().chain(alone).collect()
    }
}

impl Workspace {
    pub(super) fn allocate(
        kernels: &Kernels,
        config: &Config,
        weights: &Weights,
        sizes: (usize, usize),
    ) -> Result<Self, DeviceError> {
        let device = kernels.device();
        let products = weights
            .matrices()
            .map(|matrix| (matrix.kind, matrix.outputs.into(), matrix.width.into()));
        let digit_count = kernels.activations().digit_count() as u64;
        let planned = Planned::new(config, products, digit_count, kernels.has_tuned(), sizes);
        let Planned { few, many, readout, rest, layouts } = planned;
        let parts =
            |buffers: Vec<Buffer>| Parts { layouts: layouts.clone(), buffers: buffers.into_iter() };
        let (few_arena, buffers) = device.arena(few)?;
        let mut few = parts(buffers);
        let few_embed = few.next();
        let few = (0..config.layers).map(|_| few.layer()).collect();
        // Each is written by every layer, so each is poisoned by the launch that writes it.
        let many = many.into_iter().map(|part| device.allocate_part(part));
        let many = many.collect::<Result<Vec<_>, _>>()?;
        let many = (!many.is_empty()).then(|| parts(many).layer());
        let (readout_arena, buffers) = device.arena(readout)?;
        let mut buffers = parts(buffers);
        let readout = ReadoutSpace { hidden: buffers.activation(), logits: buffers.next() };
        let [position, tokens, digests, chunk_sums, arrivals, split] = rest;
        let arrivals = device.allocate_part(arrivals)?;
        if arrivals.bytes() > 0 {
            arrivals.write(0, &vec![0_u32; (arrivals.bytes() / 4) as usize])?;
        }
        Ok(Self {
            position: device.allocate_part(position)?,
            tokens: device.allocate_part(tokens)?,
            many,
            few,
            few_embed,
            few_arena,
            readout,
            readout_arena,
            digests: device.allocate_part(digests)?,
            chunk_sums: device.allocate_part(chunk_sums)?,
            arrivals,
            split: device.allocate_part(split)?,
        })
    }

    /// Poisons what a pass is going to write, where that is checked; many rows are poisoned by the
    /// launches that write them.
    pub(super) fn poison(&self, pass: Pass) -> Result<(), DeviceError> {
        if Self::is_few(pass) {
            self.few_arena.poison()?;
        }
        self.readout_arena.poison()
    }

    fn is_few(pass: Pass) -> bool {
        pass.rows <= WAVE_ROWS
    }

    /// What one layer writes.
    pub(super) fn layer(&self, pass: Pass, layer: usize) -> &LayerSpace {
        if Self::is_few(pass) {
            &self.few[layer]
        } else {
            self.many.as_ref().expect("a pass has at most `ubatch` rows")
        }
    }

    /// The residual stream before a layer: the embedding, or what the layer before left.
    pub(super) fn stream(&self, pass: Pass, layer: usize) -> &Buffer {
        match layer.checked_sub(1) {
            None if Self::is_few(pass) => &self.few_embed,
            // Many rows have one place for it.
            None => &self.layer(pass, 0).ffn_residual,
            Some(before) => &self.layer(pass, before).ffn_residual,
        }
    }
}
