//! Device memory for one pass of at most `ubatch` tokens, allocated once.

use super::Config;
use super::tuned::WAVE_ROWS;
use super::weights::{Matrix, Weights};
use crate::device::{Buffer, Device, DeviceError};
use crate::gguf::TensorType;
use crate::kernels::{
    FixedPoint, KEY_TILE, Kernels, RowDigest, activation_block, activation_group,
};
use std::collections::BTreeSet;

/// Fixed-point activations for one pair of block and group.
#[derive(Debug)]
pub(super) struct FixedBuffers {
    digits: Buffer,
    scales: Buffer,
    sums: Buffer,
    block: u32,
    group: u32,
}

impl FixedBuffers {
    fn allocate(
        device: &Device,
        digit_count: usize,
        widest: u64,
        (block, group): (u32, u32),
    ) -> Result<Self, DeviceError> {
        let name = |part| format!("activations.{block}.{group}.{part}");
        Ok(Self {
            digits: device.allocate::<i8>(&name("digits"), widest * digit_count as u64)?,
            scales: device.allocate::<f32>(&name("scales"), widest / u64::from(block))?,
            sums: device.allocate::<f32>(&name("sums"), widest / u64::from(group))?,
            block,
            group,
        })
    }

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
pub(super) fn layout_of(kind: TensorType) -> Option<(u32, u32)> {
    Some((activation_block(kind)?, activation_group(kind)))
}

/// The buffers between operations; each holds `[ubatch][width]`.
#[derive(Debug)]
pub(super) struct Workspace {
    /// `[1]`: the position of row 0 of the pass.
    pub(super) position: Buffer,
    pub(super) tokens: Buffer,
    /// The residual stream, and where its sum with a branch goes; they swap.
    pub(super) stream: [Buffer; 2],
    pub(super) attn_norm: Buffer,
    pub(super) q: Buffer,
    pub(super) k: Buffer,
    pub(super) v: Buffer,
    pub(super) q_rope: Buffer,
    pub(super) k_rope: Buffer,
    pub(super) attn_out: Buffer,
    pub(super) wo: Buffer,
    pub(super) ffn_norm: Buffer,
    pub(super) gate: Buffer,
    pub(super) up: Buffer,
    pub(super) swiglu: Buffer,
    pub(super) down: Buffer,
    pub(super) hidden: Buffer,
    pub(super) logits: Buffer,
    pub(super) fixed: Vec<FixedBuffers>,
    /// `[taps][ubatch]` records of 32 bytes, where digests are taken on the device.
    pub(super) digests: Buffer,
    /// m, l and a of the chunks of a few rows, `[rows][heads][chunks]` and `[..][head_size]`.
    pub(super) chunk_maxima: Buffer,
    pub(super) chunk_totals: Buffer,
    pub(super) chunk_sums: Buffer,
    /// Chunks of products of a few rows, before they are added up.
    pub(super) split: Buffer,
}

/// What is set aside for chunks of products; a product that needs more is not split.
const SPLIT_VALUES_MAX: u64 = 16 << 20;

/// What tuned kernels need beside the rows of a pass; empty where there are none.
pub(super) struct TunedSizes {
    pub(super) digests: u64,
    pub(super) parts: u64,
    pub(super) split: u64,
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
            return Self { digests: 0, parts: 0, split: 0 };
        }
        let rows = u64::from(WAVE_ROWS) * config.heads as u64;
        let chunks = context.div_ceil(KEY_TILE as usize) as u64 + 1;
        let most = |(outputs, width): (u64, u64)| outputs * width.div_ceil(256) * ubatch as u64;
        Self {
            // Fifteen taps a layer, the embedding, and the two of the readout.
            digests: ((15 * config.layers + 1) * ubatch + 2) as u64,
            parts: rows * chunks,
            split: matrices.map(most).max().unwrap_or(0).min(SPLIT_VALUES_MAX),
        }
    }
}

impl Workspace {
    pub(super) fn allocate(
        kernels: &Kernels,
        config: &Config,
        weights: &Weights,
        (ubatch, context): (usize, usize),
    ) -> Result<Self, DeviceError> {
        let (device, digit_count) = (kernels.device(), kernels.activations().digit_count());
        let Config { hidden, heads, kv_heads, head_size, feed_forward, vocabulary, .. } = *config;
        let rows =
            |name: &str, width: usize| device.allocate::<f32>(name, ubatch as u64 * width as u64);
        let (query, kv) = (heads * head_size, kv_heads * head_size);
        let widest = ubatch as u64 * hidden.max(feed_forward).max(query) as u64;
        let matrices =
            weights.matrices().map(|matrix| (matrix.outputs.into(), matrix.width.into()));
        let tuned = TunedSizes::new(kernels.has_tuned(), config, matrices, (ubatch, context));
        let layouts: BTreeSet<(u32, u32)> =
            weights.matrices().filter_map(|matrix| layout_of(matrix.kind)).collect();
        let fixed = layouts
            .into_iter()
            .map(|layout| FixedBuffers::allocate(device, digit_count, widest, layout))
            .collect::<Result<_, DeviceError>>()?;
        Ok(Self {
            position: device.allocate::<u32>("position", 1)?,
            tokens: device.allocate::<u32>("tokens", ubatch as u64)?,
            stream: [rows("stream.0", hidden)?, rows("stream.1", hidden)?],
            attn_norm: rows("attn_norm", hidden)?,
            q: rows("q", query)?,
            k: rows("k", kv)?,
            v: rows("v", kv)?,
            q_rope: rows("q_rope", query)?,
            k_rope: rows("k_rope", kv)?,
            attn_out: rows("attn_out", query)?,
            wo: rows("wo", hidden)?,
            ffn_norm: rows("ffn_norm", hidden)?,
            gate: rows("gate", feed_forward)?,
            up: rows("up", feed_forward)?,
            swiglu: rows("swiglu", feed_forward)?,
            down: rows("down", hidden)?,
            hidden: device.allocate::<f32>("hidden", hidden as u64)?,
            logits: device.allocate::<f32>("logits", vocabulary as u64)?,
            fixed,
            digests: device.allocate::<RowDigest>("digests", tuned.digests)?,
            chunk_maxima: device.allocate::<f32>("chunks.maxima", tuned.parts)?,
            chunk_totals: device.allocate::<f32>("chunks.totals", tuned.parts)?,
            chunk_sums: device.allocate::<f32>("chunks.sums", tuned.parts * head_size as u64)?,
            split: device.allocate::<f32>("split", tuned.split)?,
        })
    }
}

impl Weights {
    /// Every matrix that takes part in a product.
    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self.layers.iter().flat_map(|layer| {
            [
                &layer.attn_q,
                &layer.attn_k,
                &layer.attn_v,
                &layer.attn_output,
                &layer.ffn_gate,
                &layer.ffn_up,
                &layer.ffn_down,
            ]
        });
        layers.chain(std::iter::once(self.output_matrix()))
    }
}
