//! The values of a case: from a seed, of every kind that arithmetic treats in its own way.

use proptest::prelude::*;
use reference::WeightType;

/// What the values of a row are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Mostly near zero, sometimes a thousand times as large.
    Ordinary,
    /// One value of each row a million times as large as the others.
    Outlier,
    /// Small integers.
    Integers,
    /// Denormals and the smallest normal numbers, of both signs.
    Denormal,
    /// Zeros of both signs.
    Zero,
    /// Up to the largest finite value: sums and products overflow.
    Largest,
    /// Any finite bits.
    AnyFinite,
    /// Ordinary ones, and one NaN.
    OneNan,
    /// Ordinary ones, and one infinity.
    OneInfinity,
}

impl Family {
    const ALL: [Self; 9] = [
        Self::Ordinary,
        Self::Outlier,
        Self::Integers,
        Self::Denormal,
        Self::Zero,
        Self::Largest,
        Self::AnyFinite,
        Self::OneNan,
        Self::OneInfinity,
    ];

    /// Ordinary ones in half of the cases.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![Just(Self::Ordinary), prop::sample::select(Self::ALL.as_slice())]
    }

    /// Whether a NaN or an infinity is among the values.
    pub(crate) fn is_finite(self) -> bool {
        !matches!(self, Self::OneNan | Self::OneInfinity)
    }
}

/// SplitMix64: a stream of numbers from a case's seed.
#[derive(Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (((self.bits() >> 32) * end as u64) >> 32) as usize
    }

    /// Between -1 and 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    fn value(&mut self, family: Family) -> f32 {
        let sign = if self.bits() & 1 == 0 { 1.0 } else { -1.0 };
        match family {
            Family::Ordinary | Family::Outlier | Family::OneNan | Family::OneInfinity => {
                self.unit() * self.unit() / (self.unit().abs() + 1e-3)
            }
            Family::Integers => (self.unit() * 64.0).round(),
            Family::Denormal => sign * f32::from_bits((self.bits() as u32) & 0x01ff_ffff),
            Family::Zero => sign * 0.0,
            Family::Largest => {
                sign * f32::from_bits(0x7f7f_ffff - (self.bits() as u32 & 0xff_ffff))
            }
            Family::AnyFinite => {
                let bits = self.bits() as u32;
                let value = f32::from_bits(bits);
                if value.is_finite() { value } else { f32::from_bits(bits & 0x807f_ffff) }
            }
        }
    }

    /// `[count]` values in rows of `width`.
    pub(crate) fn rows(&mut self, family: Family, count: usize, width: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..count).map(|_| self.value(family)).collect();
        match family {
            Family::Outlier => {
                for row in values.chunks_mut(width) {
                    let at = self.below(row.len());
                    row[at] = 1e6 * self.unit();
                }
            }
            Family::OneNan => values[self.below(count)] = f32::NAN,
            Family::OneInfinity => {
                let sign = self.unit().signum();
                values[self.below(count)] = sign * f32::INFINITY;
            }
            _ => {}
        }
        values
    }

    /// Blocks of a type: any integers, and scales of the family.
    pub(crate) fn blocks(&mut self, kind: WeightType, family: Scales, count: usize) -> Vec<u8> {
        let size = kind.block_bytes();
        let mut bytes: Vec<u8> = (0..count * size).map(|_| self.bits() as u8).collect();
        for block in bytes.chunks_mut(size) {
            match kind {
                WeightType::F32 => block.copy_from_slice(&family.single(self).to_le_bytes()),
                WeightType::Bf16 => {
                    let bits = (family.single(self).to_bits() >> 16) as u16;
                    block.copy_from_slice(&bits.to_le_bytes());
                }
                _ => {
                    for at in half_fields(kind) {
                        block[*at..at + 2].copy_from_slice(&family.half(self).to_le_bytes());
                    }
                }
            }
        }
        bytes
    }
}

/// Where the f16 fields of a block are.
pub(crate) fn half_fields(kind: WeightType) -> &'static [usize] {
    match kind {
        WeightType::F32 | WeightType::Bf16 => &[],
        WeightType::F16 | WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => &[0],
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => &[0, 2],
        WeightType::Q2K => &[80, 82],
        WeightType::Q3K => &[108],
        WeightType::Q6K => &[208],
    }
}

/// What the scales of blocks, or the values of a float type, are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// As in a model.
    Ordinary,
    /// Denormal in the stored type.
    Denormal,
    /// Up to the largest finite value of the stored type.
    Largest,
    /// Any finite bits.
    AnyFinite,
    /// Any bits: NaN and infinities too.
    Any,
}

impl Scales {
    const ALL: [Self; 5] =
        [Self::Ordinary, Self::Denormal, Self::Largest, Self::AnyFinite, Self::Any];

    /// Ordinary ones in half of the cases.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![Just(Self::Ordinary), prop::sample::select(Self::ALL.as_slice())]
    }

    fn single(self, stream: &mut Stream) -> f32 {
        match self {
            Self::Ordinary => stream.unit(),
            Self::Denormal => stream.value(Family::Denormal),
            Self::Largest => stream.value(Family::Largest),
            Self::AnyFinite => stream.value(Family::AnyFinite),
            Self::Any => f32::from_bits(stream.bits() as u32),
        }
    }

    /// The bits of an f16.
    fn half(self, stream: &mut Stream) -> u16 {
        let bits = stream.bits() as u16;
        match self {
            Self::Ordinary => half::f16::from_f32(stream.unit() / 64.0).to_bits(),
            Self::Denormal => bits & 0x87ff,
            Self::Largest => bits & 0x8000 | (0x7bff - (bits & 0xff)),
            // The exponent loses a bit where it would mean NaN or infinity.
            Self::AnyFinite if bits & 0x7c00 == 0x7c00 => bits & 0xbfff,
            Self::AnyFinite | Self::Any => bits,
        }
    }
}
