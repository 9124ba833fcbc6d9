//! Weights as the product kernels read them: panels of sixteen rows, one row a lane.
//!
//! A panel is its blocks one after the other. A block is a line of f16 scales (`d`, then `-dmin` or
//! `m`), the group scales and minima as bytes, then the integers: a line holds four of each row, or
//! twice four as nibbles where they fit.

use rayon::prelude::*;

use super::simd::{LANES, Line};
use crate::WeightType;
use crate::blocks::{Block, group_values, has_minima, offset};

/// A quantised type as the kernels see it.
pub(super) trait Format {
    const KIND: WeightType;
    const VALUES: usize = Self::KIND.block_values();
    const GROUP: usize = group_values(Self::KIND);
    const GROUPS: usize = Self::VALUES / Self::GROUP;
    const OFFSET: i32 = offset(Self::KIND);
    const MINIMA: bool = has_minima(Self::KIND);
    /// Whether groups have scales of their own.
    const GROUPED: bool = Self::VALUES == 256;
    const NIBBLES: bool = nibbles(Self::KIND);
    /// Whether an integer can be above 127.
    const WIDE: bool = matches!(Self::KIND, WeightType::Q8_0);
    /// Blocks in a chunk of the contract's section 6.
    const CHUNK: usize = if Self::GROUPED { 4 } else { 8 };
    const LINES: usize = block_lines(Self::KIND);
    /// Where in a block the minima of the groups and the integers start.
    const MINIMA_AT: usize = 1 + if Self::GROUPED { Self::GROUPS / 4 } else { 0 };
    const WEIGHTS_AT: usize = weights_at(Self::KIND);
}

const fn nibbles(kind: WeightType) -> bool {
    matches!(
        kind,
        WeightType::Q4_0 | WeightType::Q4_1 | WeightType::Q2K | WeightType::Q3K | WeightType::Q4K
    )
}

const fn weights_at(kind: WeightType) -> usize {
    let groups = kind.block_values() / group_values(kind);
    match (kind.block_values(), has_minima(kind)) {
        (256, true) => 1 + 2 * groups / 4,
        (256, false) => 1 + groups / 4,
        _ => 1,
    }
}

const fn block_lines(kind: WeightType) -> usize {
    let steps = kind.block_values() / 4;
    weights_at(kind) + if nibbles(kind) { steps / 2 } else { steps }
}

macro_rules! formats {
    ($($name:ident)*) => {
        $(
            pub(super) struct $name;
            impl Format for $name {
                const KIND: WeightType = WeightType::$name;
            }
        )*
    };
}

formats!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K);

/// A quantised matrix in panels.
pub(super) struct Panels {
    pub(super) kind: WeightType,
    pub(super) lines_per_panel: usize,
    pub(super) lines: Vec<Line>,
}

impl Panels {
    /// Packs `rows` rows of `columns` values; the last panel is filled with zeros.
    pub(super) fn pack(kind: WeightType, bytes: &[u8], rows: usize, columns: usize) -> Self {
        let blocks = columns / kind.block_values();
        assert_eq!(bytes.len(), rows * blocks * kind.block_bytes());
        let lines_per_panel = blocks * block_lines(kind);
        let panels = rows.div_ceil(LANES);
        let mut lines = vec![Line([0; 64]); panels * lines_per_panel];
        let row_bytes = blocks * kind.block_bytes();
        lines.par_chunks_mut(lines_per_panel).zip(bytes.par_chunks(LANES * row_bytes)).for_each(
            |(lines, bytes)| {
                let mut block = Block::EMPTY;
                for (lane, row) in bytes.chunks_exact(row_bytes).enumerate() {
                    let places = lines.chunks_exact_mut(block_lines(kind));
                    for (lines, bytes) in places.zip(row.chunks_exact(kind.block_bytes())) {
                        block.read(kind, bytes);
                        place(kind, &block, lane, lines);
                    }
                }
            },
        );
        Self { kind, lines_per_panel, lines }
    }

    pub(super) fn panel(&self, index: usize) -> &[Line] {
        &self.lines[index * self.lines_per_panel..][..self.lines_per_panel]
    }
}

/// Writes one row's block into its lane.
fn place(kind: WeightType, block: &Block, lane: usize, lines: &mut [Line]) {
    // fma(-dmin, N, acc) needs the minimum's factor negated; f16 has a sign bit for that.
    let m = if kind.block_values() == 256 { block.m ^ 0x8000 } else { block.m };
    lines[0].0[2 * lane..][..2].copy_from_slice(&block.d.to_le_bytes());
    lines[0].0[32 + 2 * lane..][..2].copy_from_slice(&m.to_le_bytes());
    if kind.block_values() == 256 {
        let groups = 256 / group_values(kind);
        for group in 0..groups {
            let at = 16 * (group % 4) + lane;
            lines[1 + group / 4].0[at] = block.scales[group].cast_unsigned();
            if has_minima(kind) {
                lines[1 + (groups + group) / 4].0[at] = block.mins[group];
            }
        }
    }
    let weights = &mut lines[weights_at(kind)..];
    for (index, q) in block.q[..kind.block_values()].iter().enumerate() {
        let (step, byte) = (index / 4, 4 * lane + index % 4);
        if nibbles(kind) {
            weights[step / 2].0[byte] |= q << (4 * (step % 2));
        } else {
            weights[step].0[byte] = *q;
        }
    }
}

/// A float matrix in panels: for every column, sixteen values side by side.
pub(super) struct FloatPanels {
    pub(super) kind: WeightType,
    pub(super) lines_per_panel: usize,
    pub(super) lines: Vec<Line>,
}

impl FloatPanels {
    /// Packs `rows` rows of `columns` values.
    pub(super) fn pack(kind: WeightType, bytes: &[u8], rows: usize, columns: usize) -> Self {
        let size = kind.block_bytes();
        assert_eq!(bytes.len(), rows * columns * size);
        let lines_per_panel = (columns * size * LANES).div_ceil(64);
        let mut lines = vec![Line([0; 64]); rows.div_ceil(LANES) * lines_per_panel];
        let panels = lines.par_chunks_mut(lines_per_panel);
        panels.zip(bytes.par_chunks(LANES * columns * size)).for_each(|(lines, bytes)| {
            for (lane, row) in bytes.chunks_exact(columns * size).enumerate() {
                for (column, value) in row.chunks_exact(size).enumerate() {
                    let at = (column * LANES + lane) * size;
                    lines[at / 64].0[at % 64..][..size].copy_from_slice(value);
                }
            }
        });
        Self { kind, lines_per_panel, lines }
    }

    pub(super) fn panel(&self, index: usize) -> &[Line] {
        &self.lines[index * self.lines_per_panel..][..self.lines_per_panel]
    }
}
