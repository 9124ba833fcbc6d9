//! Weights are finite: a file with a NaN or an infinite scale is refused by tensor and block.
//!
//! One such scale makes a whole row of a product NaN, and a row of the token table that no prompt
//! uses would hide it.

use super::config::ConfigError;
use crate::gguf::TensorType;
use half::{bf16, f16};
use rayon::prelude::*;

/// Blocks that one task looks at.
const BLOCKS_A_TASK: usize = 1 << 14;

/// Where in its block a type has its f16 fields, by the layouts of CONTRACT.md section 3.
fn fields(kind: TensorType) -> &'static [(&'static str, usize)] {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => &[("value", 0)],
        TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => &[("scale of block", 0)],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => {
            &[("scale of block", 0), ("minimum of block", 2)]
        }
        TensorType::Q2K => &[("scale of block", 80), ("minimum of block", 82)],
        TensorType::Q3K => &[("scale of block", 108)],
        TensorType::Q6K => &[("scale of block", 208)],
    }
}

/// Finds the first block with a field that is no finite number.
pub(super) fn check(tensor: &str, kind: TensorType, bytes: &[u8]) -> Result<(), ConfigError> {
    let block_bytes = usize::try_from(kind.block_bytes()).expect("a block has a few bytes");
    let fields = fields(kind);
    let wrong = |block: &[u8]| {
        let places = fields.iter().map(|&(field, at)| (field, &block[at..]));
        let mut wrong = places.filter(|(_, place)| !is_finite(kind, place));
        wrong.next().map(|(field, place)| (field, value(kind, place)))
    };
    let tasks = bytes.par_chunks(block_bytes * BLOCKS_A_TASK).enumerate();
    let found = tasks.find_map_first(|(task, blocks)| {
        if !may_have_one(kind, blocks) {
            return None;
        }
        let mut blocks = blocks.chunks_exact(block_bytes).enumerate();
        let found = blocks.find_map(|(index, block)| Some((index, wrong(block)?)));
        found.map(|(index, found)| ((task * BLOCKS_A_TASK + index) as u64, found))
    });
    let Some((index, (field, value))) = found else { return Ok(()) };
    Err(ConfigError::NotFinite { tensor: tensor.to_owned(), field, value, index })
}

/// Whether it is worth looking at each block: floats in a loop that a compiler makes vectors of,
/// which is twenty times as fast as one by one.
fn may_have_one(kind: TensorType, bytes: &[u8]) -> bool {
    let halves = |exponent: u16| {
        let halves = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        halves.fold(false, |found, half| found | (half & exponent == exponent))
    };
    match kind {
        TensorType::F32 => {
            let words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            words.fold(false, |found, word| found | (word & 0x7f80_0000 == 0x7f80_0000))
        }
        TensorType::F16 => halves(0x7c00),
        TensorType::Bf16 => halves(0x7f80),
        _ => true,
    }
}

/// By the bits of the exponent: a half is widened only to be shown.
fn is_finite(kind: TensorType, bytes: &[u8]) -> bool {
    let exponent = match kind {
        TensorType::F32 => return value(kind, bytes).is_finite(),
        TensorType::Bf16 => 0x7f80,
        _ => 0x7c00,
    };
    u16::from_le_bytes([bytes[0], bytes[1]]) & exponent != exponent
}

fn value(kind: TensorType, bytes: &[u8]) -> f32 {
    match kind {
        TensorType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        TensorType::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        _ => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of every type, in the first block, in the last, and across a task's edge.
    #[test]
    fn each_field_is_found_where_it_stands() {
        let mut found = 0;
        for kind in TensorType::all() {
            let size = usize::try_from(kind.block_bytes()).unwrap();
            let blocks = BLOCKS_A_TASK + 3;
            // As a half 0x3c3c is 1.06; as the upper half of an f32 it is finite too.
            let bytes = vec![0x3c; blocks * size];
            assert_eq!(check("x", kind, &bytes), Ok(()), "{kind}");
            for (field, at) in fields(kind) {
                for block in [0, 1, BLOCKS_A_TASK - 1, BLOCKS_A_TASK, blocks - 1] {
                    for (sign, nan) in [(0x7f, true), (0xff, true), (0x7f, false), (0xff, false)] {
                        let mut bytes = bytes.clone();
                        let place = &mut bytes[block * size + at..];
                        write(kind, place, sign, nan);
                        let Err(ConfigError::NotFinite { tensor, field: named, value, index }) =
                            check("x", kind, &bytes)
                        else {
                            panic!("{kind}: {field} of block {block} was not found");
                        };
                        assert_eq!((tensor.as_str(), named, index), ("x", *field, block as u64));
                        assert_eq!(value.is_nan(), nan);
                        found += 1;
                    }
                }
            }
        }
        assert_eq!(found, (3 + 3 + 4 * 2 + 2 + 1 + 1) * 5 * 4);
    }

    /// NaN or infinity of either sign, in the encoding of a type.
    fn write(kind: TensorType, place: &mut [u8], sign: u8, nan: bool) {
        let value = if nan { f32::NAN } else { f32::INFINITY };
        let value = if sign == 0xff { -value } else { value };
        match kind {
            TensorType::F32 => place[..4].copy_from_slice(&value.to_le_bytes()),
            TensorType::Bf16 => place[..2].copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            _ => place[..2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
        }
    }
}
