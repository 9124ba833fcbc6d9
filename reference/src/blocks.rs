//! One block of a quantised type, taken apart into its scales and small integers.
//!
//! The layouts are ggml's (`ggml-common.h`). Integers come out unsigned, as the contract's `q` plus
//! the type's [`offset`].

use half::f16;

use crate::WeightType;

/// A block of 32 or 256 values.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The bits of `d`, an f16.
    pub(crate) d: u16,
    /// The bits of `m` or `dmin`, an f16; zero where the type has none.
    pub(crate) m: u16,
    /// The integers plus the offset.
    pub(crate) q: [u8; 256],
    /// `sc` of each group; the K types.
    pub(crate) scales: [i8; 16],
    /// `mn` of each group; Q2_K, Q4_K and Q5_K.
    pub(crate) mins: [u8; 16],
}

/// What is added to the contract's `w` to make it unsigned.
pub(crate) const fn offset(kind: WeightType) -> i32 {
    match kind {
        WeightType::Q3K => 4,
        WeightType::Q4_0 => 8,
        WeightType::Q5_0 => 16,
        WeightType::Q6K => 32,
        WeightType::Q8_0 => 128,
        _ => 0,
    }
}

/// How many values share a scale (and a minimum); 32 for the types without groups.
pub(crate) const fn group_values(kind: WeightType) -> usize {
    match kind {
        WeightType::Q2K | WeightType::Q3K | WeightType::Q6K => 16,
        _ => 32,
    }
}

/// Whether a block has minima: `m`, or `dmin` with `mn`.
pub(crate) const fn has_minima(kind: WeightType) -> bool {
    matches!(
        kind,
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q2K | WeightType::Q4K | WeightType::Q5K
    )
}

impl Block {
    pub(crate) const EMPTY: Self = Self { d: 0, m: 0, q: [0; 256], scales: [0; 16], mins: [0; 16] };

    /// Takes a block of `kind` apart. `bytes` is exactly one block.
    pub(crate) fn read(&mut self, kind: WeightType, bytes: &[u8]) {
        assert_eq!(bytes.len(), kind.block_bytes());
        match kind {
            WeightType::Q4_0 => self.read_legacy(bytes, false, false),
            WeightType::Q4_1 => self.read_legacy(bytes, true, false),
            WeightType::Q5_0 => self.read_legacy(bytes, false, true),
            WeightType::Q5_1 => self.read_legacy(bytes, true, true),
            WeightType::Q8_0 => self.read_q8_0(bytes),
            WeightType::Q2K => self.read_q2k(bytes),
            WeightType::Q3K => self.read_q3k(bytes),
            WeightType::Q4K => self.read_q45k(bytes, false),
            WeightType::Q5K => self.read_q45k(bytes, true),
            WeightType::Q6K => self.read_q6k(bytes),
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => {
                unreachable!("float types have no blocks")
            }
        }
    }

    pub(crate) fn d(&self) -> f32 {
        f16::from_bits(self.d).to_f32()
    }

    pub(crate) fn m(&self) -> f32 {
        f16::from_bits(self.m).to_f32()
    }

    /// `d`, then perhaps `m`, perhaps 32 fifth bits, then 16 bytes of two nibbles.
    fn read_legacy(&mut self, bytes: &[u8], minimum: bool, fifth: bool) {
        self.d = half(bytes, 0);
        let mut at = 2;
        if minimum {
            self.m = half(bytes, at);
            at += 2;
        }
        let mut high = 0_u32;
        if fifth {
            high = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            at += 4;
        }
        for (index, byte) in bytes[at..].iter().enumerate() {
            self.q[index] = (byte & 15) | bit(high, index) << 4;
            self.q[index + 16] = (byte >> 4) | bit(high, index + 16) << 4;
        }
    }

    fn read_q8_0(&mut self, bytes: &[u8]) {
        self.d = half(bytes, 0);
        for (q, byte) in self.q.iter_mut().zip(&bytes[2..]) {
            *q = byte ^ 0x80;
        }
    }

    /// 16 pairs of nibbles (scale, minimum), 64 bytes of four 2-bit values, `d`, `dmin`.
    fn read_q2k(&mut self, bytes: &[u8]) {
        let (pairs, quants) = (&bytes[..16], &bytes[16..80]);
        for (group, pair) in pairs.iter().enumerate() {
            self.scales[group] = (pair & 15).cast_signed();
            self.mins[group] = pair >> 4;
        }
        for (index, q) in self.q.iter_mut().enumerate() {
            let (part, shift, lane) = (index / 128, 2 * (index % 128 / 32), index % 32);
            *q = quants[32 * part + lane] >> shift & 3;
        }
        self.d = half(bytes, 80);
        self.m = half(bytes, 82);
    }

    /// 32 bytes of third bits, 64 bytes of four 2-bit values, 12 bytes of scales, `d`.
    fn read_q3k(&mut self, bytes: &[u8]) {
        let (thirds, quants, packed) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
        for (index, q) in self.q.iter_mut().enumerate() {
            let (part, row, lane) = (index / 128, index % 128 / 32, index % 32);
            let low = quants[32 * part + lane] >> (2 * row) & 3;
            *q = low | (thirds[lane] >> (4 * part + row) & 1) << 2;
        }
        for (group, scale) in self.scales.iter_mut().enumerate() {
            let low = packed[group % 8] >> (4 * (group / 8)) & 15;
            let high = packed[8 + group % 4] >> (2 * (group / 4)) & 3;
            *scale = (low | high << 4).cast_signed() - 32;
        }
        self.d = half(bytes, 108);
    }

    /// `d`, `dmin`, 12 bytes of scales and minima, perhaps 32 of fifth bits, 128 of two nibbles.
    fn read_q45k(&mut self, bytes: &[u8], fifth: bool) {
        self.d = half(bytes, 0);
        self.m = half(bytes, 2);
        let packed = &bytes[4..16];
        for group in 0..8 {
            let (scale, minimum) = if group < 4 {
                (packed[group] & 63, packed[group + 4] & 63)
            } else {
                let low = packed[group + 4];
                let (scale, minimum) = (packed[group - 4] >> 6, packed[group] >> 6);
                (low & 15 | scale << 4, low >> 4 | minimum << 4)
            };
            self.scales[group] = scale.cast_signed();
            self.mins[group] = minimum;
        }
        let quants = if fifth { &bytes[48..] } else { &bytes[16..] };
        for (index, q) in self.q.iter_mut().enumerate() {
            let (group, lane) = (index / 32, index % 32);
            *q = quants[32 * (group / 2) + lane] >> (4 * (group % 2)) & 15;
            if fifth {
                *q |= (bytes[16 + lane] >> group & 1) << 4;
            }
        }
    }

    /// 128 bytes of low nibbles, 64 of upper bit pairs, 16 scales, `d`.
    fn read_q6k(&mut self, bytes: &[u8]) {
        let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
        for (index, q) in self.q.iter_mut().enumerate() {
            let (part, row, lane) = (index / 128, index % 128 / 32, index % 32);
            let nibble = low[64 * part + 32 * (row % 2) + lane] >> (4 * (row / 2)) & 15;
            *q = nibble | (high[32 * part + lane] >> (2 * row) & 3) << 4;
        }
        for (scale, byte) in self.scales.iter_mut().zip(scales) {
            *scale = byte.cast_signed();
        }
        self.d = half(bytes, 208);
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn bit(bits: u32, index: usize) -> u8 {
    u8::from(bits >> index & 1 == 1)
}
