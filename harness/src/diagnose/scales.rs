//! The scales and minima of quantised blocks rewritten as a wrong reader takes them.

use reference::WeightType;

/// The field, how it is read, and the block that is read rightly as the old one wrongly.
type Entry = (&'static str, &'static str, fn(&mut [u8]));

/// The wrong ways to read the fields of a type that are not its integers.
pub(super) fn rewrites(kind: WeightType) -> &'static [Entry] {
    match kind {
        WeightType::Q4_1 | WeightType::Q5_1 => &[
            ("m", "missing", |block| block[2..4].fill(0)),
            ("m", "read as d", |block| block.copy_within(0..2, 2)),
            ("d and m", "exchanged", |block| exchange(block, 0, 2)),
        ],
        WeightType::Q4K | WeightType::Q5K => &Q4_K,
        WeightType::Q2K => &[
            ("mins", "missing", |block| block[82..84].fill(0)),
            ("scales and mins", "exchanged", |block| {
                block[..16].iter_mut().for_each(|pair| *pair = pair.rotate_left(4));
            }),
            ("mins", "read from the scales", |block| {
                block[..16].iter_mut().for_each(|pair| *pair = *pair & 15 | *pair << 4);
            }),
            ("d and dmin", "exchanged", |block| exchange(block, 80, 82)),
            ("scales and mins", "one for each 32 values", |block| {
                for pair in block[..16].chunks_exact_mut(2) {
                    pair[1] = pair[0];
                }
            }),
        ],
        WeightType::Q3K => &[
            ("scales", "upper bits missing", |block| block[104..108].fill(0)),
            ("scales", "nibbles exchanged", |block| {
                block[96..104].iter_mut().for_each(|pair| *pair = pair.rotate_left(4));
            }),
        ],
        WeightType::Q6K => &[
            ("scales", "one for each 32 values", |block| {
                for pair in block[192..208].chunks_exact_mut(2) {
                    pair[1] = pair[0];
                }
            }),
            ("scales", "one for each 32 values, in order", |block| {
                let old = block[192..208].to_vec();
                for group in 0..16 {
                    block[192 + group] = old[group / 2];
                }
            }),
        ],
        WeightType::Q8_0 => &[("d", "read at the end of the block", |block| {
            block.rotate_right(2);
        })],
        WeightType::Q4_0
        | WeightType::Q5_0
        | WeightType::F32
        | WeightType::F16
        | WeightType::Bf16 => &[],
    }
}

const Q4_K: [Entry; 11] = [
    ("mins", "missing", |block| block[2..4].fill(0)),
    ("mins", "read from the scales", |block| {
        pack(block, |fields, group| (fields.scales[group], fields.scales[group]));
    }),
    ("scales", "read from the mins", |block| {
        pack(block, |fields, group| (fields.mins[group], fields.mins[group]));
    }),
    ("scales and mins", "exchanged", |block| {
        pack(block, |fields, group| (fields.mins[group], fields.scales[group]));
    }),
    ("mins", "read in linear order from byte 6 on", |block| {
        pack(block, |fields, group| (fields.scales[group], fields.linear(8 + group)));
    }),
    ("scales and mins", "read in linear order", |block| {
        pack(block, |fields, group| (fields.linear(group), fields.linear(8 + group)));
    }),
    ("mins", "bytes from 6 on, without upper bits", |block| {
        pack(block, |fields, group| (fields.scales[group], fields.bytes[6 + group] & 63));
    }),
    ("mins", "bytes from 4 on, without upper bits", |block| {
        pack(block, |fields, group| (fields.scales[group], fields.bytes[4 + group] & 63));
    }),
    ("scales and mins", "bytes without upper bits", |block| {
        pack(block, |fields, group| {
            let low = fields.bytes[group + 4];
            if group < 4 {
                (fields.scales[group], fields.mins[group])
            } else {
                (low & 15, low >> 4)
            }
        });
    }),
    ("scales and mins", "upper bits exchanged", |block| {
        pack(block, |fields, group| {
            let (scale, minimum) = (fields.scales[group], fields.mins[group]);
            if group < 4 {
                (scale, minimum)
            } else {
                (scale & 15 | minimum & 48, minimum & 15 | scale & 48)
            }
        });
    }),
    ("d and dmin", "exchanged", |block| exchange(block, 0, 2)),
];

/// Two f16 fields exchanged.
fn exchange(block: &mut [u8], one: usize, two: usize) {
    block.swap(one, two);
    block.swap(one + 1, two + 1);
}

/// The twelve bytes of scales and minima of Q4_K and Q5_K, taken apart.
struct Fields {
    scales: [u8; 8],
    mins: [u8; 8],
    /// The twelve bytes and what follows them.
    bytes: [u8; 16],
}

impl Fields {
    /// The field that a reader finds who takes six bits after six bits.
    fn linear(&self, index: usize) -> u8 {
        let (byte, shift) = (index * 6 / 8, index * 6 % 8);
        let pair = u16::from_le_bytes([self.bytes[byte], self.bytes[byte + 1]]);
        (pair >> shift & 63) as u8
    }
}

/// Gives every group another scale and minimum.
fn pack(block: &mut [u8], fields_of: fn(&Fields, usize) -> (u8, u8)) {
    let mut fields = Fields { scales: [0; 8], mins: [0; 8], bytes: [0; 16] };
    fields.bytes.copy_from_slice(&block[4..20]);
    let packed = fields.bytes;
    for group in 0..4 {
        fields.scales[group] = packed[group] & 63;
        fields.mins[group] = packed[group + 4] & 63;
        fields.scales[group + 4] = packed[group + 8] & 15 | packed[group] >> 6 << 4;
        fields.mins[group + 4] = packed[group + 8] >> 4 | packed[group + 4] >> 6 << 4;
    }
    for group in 0..4 {
        let (scale, minimum) = fields_of(&fields, group);
        let (upper_scale, upper_minimum) = fields_of(&fields, group + 4);
        block[4 + group] = scale & 63 | upper_scale >> 4 << 6;
        block[8 + group] = minimum & 63 | upper_minimum >> 4 << 6;
        block[12 + group] = upper_scale & 15 | upper_minimum << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields that are taken apart and put together again are the same bytes.
    #[test]
    fn packing_is_the_inverse_of_taking_apart() {
        let mut block: Vec<u8> = (0..144_u32).map(|index| (index * 37 + 11) as u8).collect();
        let before = block.clone();
        pack(&mut block, |fields, group| (fields.scales[group], fields.mins[group]));
        assert_eq!(block, before);
    }

    /// Six bits after six bits, counted by hand: `10_000001` has 1 and then 2.
    #[test]
    fn linear_fields_are_six_bits_each() {
        let mut fields = Fields { scales: [0; 8], mins: [0; 8], bytes: [0; 16] };
        fields.bytes[..3].copy_from_slice(&[0b1000_0001, 0b0011_0000, 0b0001_0000]);
        assert_eq!([0, 1, 2, 3].map(|index| fields.linear(index)), [1, 2, 3, 4]);
    }
}
