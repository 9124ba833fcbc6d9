//! Section 3: a row of the embedding, dequantised.

use half::{bf16, f16};

use crate::WeightType;
use crate::blocks::{Block, group_values, offset};

/// The embedding as it is in the file.
pub(crate) struct Table {
    pub(super) kind: WeightType,
    pub(super) columns: usize,
    pub(super) bytes: Vec<u8>,
}

impl Table {
    /// Row `token`, appended to `out`.
    pub(super) fn embed(&self, token: usize, out: &mut Vec<f32>) {
        let row_bytes = self.columns / self.kind.block_values() * self.kind.block_bytes();
        let row = &self.bytes[token * row_bytes..][..row_bytes];
        let mut block = Block::EMPTY;
        for bytes in row.chunks_exact(self.kind.block_bytes()) {
            match *bytes {
                [a, b, c, d] => out.push(f32::from_le_bytes([a, b, c, d])),
                [a, b] if self.kind == WeightType::F16 => {
                    out.push(f16::from_le_bytes([a, b]).to_f32());
                }
                [a, b] => out.push(bf16::from_le_bytes([a, b]).to_f32()),
                _ => {
                    block.read(self.kind, bytes);
                    out.extend((0..self.kind.block_values()).map(|i| value(self.kind, &block, i)));
                }
            }
        }
    }
}

/// One value of a block.
fn value(kind: WeightType, block: &Block, index: usize) -> f32 {
    let q = i32::from(block.q[index]) - offset(kind);
    let group = index / group_values(kind);
    match kind {
        WeightType::Q4_1 | WeightType::Q5_1 => block.d().mul_add(q as f32, block.m()),
        WeightType::Q3K | WeightType::Q6K => {
            block.d() * (i32::from(block.scales[group]) * q) as f32
        }
        WeightType::Q2K | WeightType::Q4K | WeightType::Q5K => {
            let scale = block.d() * f32::from(block.scales[group]);
            scale.mul_add(q as f32, -(block.m() * f32::from(block.mins[group])))
        }
        _ => block.d() * q as f32,
    }
}
