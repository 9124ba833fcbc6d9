//! Numbers in files: floats that round-trip, NaN and infinities as strings, hexadecimal words.

use std::fmt;

use serde::{Serialize, Serializer};

/// A float in its own precision. JSON has no NaN and no infinity: they are written as strings.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// binary32, printed with the fewest digits that read back as the same f32.
    F32(f32),
    /// binary64, printed with the fewest digits that read back as the same f64.
    F64(f64),
}

impl Number {
    /// The value in f64; exact for both types.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::F32(value) => f64::from(value),
            Self::F64(value) => value,
        }
    }

    /// The difference, in the wider precision of the two.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        match (self, other) {
            (Self::F32(one), Self::F32(two)) => Self::F32(one - two),
            _ => Self::F64(self.to_f64() - other.to_f64()),
        }
    }

    /// The bits in hexadecimal, eight or sixteen digits.
    pub fn bits(self) -> String {
        match self {
            Self::F32(value) => format!("0x{:08x}", value.to_bits()),
            Self::F64(value) => format!("0x{:016x}", value.to_bits()),
        }
    }

    /// The name of a value that is no finite number.
    fn name_of_non_finite(self) -> Option<&'static str> {
        let value = self.to_f64();
        if value.is_nan() {
            Some("NaN")
        } else if value == f64::INFINITY {
            Some("inf")
        } else if value == f64::NEG_INFINITY {
            Some("-inf")
        } else {
            None
        }
    }
}

/// Equal bits, so that records can be compared: NaN equals the same NaN, zero is not minus zero.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F32(one), Self::F32(two)) => one.to_bits() == two.to_bits(),
            (Self::F64(one), Self::F64(two)) => one.to_bits() == two.to_bits(),
            _ => false,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name_of_non_finite(), self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::F32(value)) => write!(f, "{value:?}"),
            (None, Self::F64(value)) => write!(f, "{value:?}"),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.name_of_non_finite(), self) {
            (Some(name), _) => serializer.serialize_str(name),
            (None, Self::F32(value)) => serializer.serialize_f32(*value),
            (None, Self::F64(value)) => serializer.serialize_f64(*value),
        }
    }
}

/// The hash of a whole row, sixteen hexadecimal digits (a JSON number holds 53 bits only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An address in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0x{:x}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(number: Number) -> String {
        serde_json::to_string(&number).unwrap()
    }

    #[test]
    fn floats_round_trip_in_their_own_precision() {
        for value in [0.1_f32, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, 1.0 / 3.0] {
            let text = json(Number::F32(value));
            assert_eq!(text.parse::<f32>().unwrap().to_bits(), value.to_bits(), "{text}");
        }
        assert_eq!(json(Number::F32(0.1)), "0.1");
        assert_eq!(json(Number::F64(f64::from(0.1_f32))), "0.10000000149011612");
    }

    #[test]
    fn what_json_cannot_say_is_a_string() {
        assert_eq!(json(Number::F32(f32::NAN)), "\"NaN\"");
        assert_eq!(json(Number::F64(f64::INFINITY)), "\"inf\"");
        assert_eq!(json(Number::F32(f32::NEG_INFINITY)), "\"-inf\"");
    }

    #[test]
    fn hashes_above_two_to_the_53_survive() {
        let text = serde_json::to_string(&Hash(u64::MAX - 1)).unwrap();
        assert_eq!(text, "\"fffffffffffffffe\"");
    }

    #[test]
    fn bits_are_shown_whole() {
        assert_eq!(Number::F32(1.0).bits(), "0x3f800000");
        assert_eq!(Number::F64(1.0).bits(), "0x3ff0000000000000");
    }
}
