//! Tensor types: the thirteen this engine computes, and the names of the others.

use std::fmt;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TensorType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// 4 bits, one scale for 32 values.
    Q4_0,
    /// 4 bits, scale and minimum for 32 values.
    Q4_1,
    /// 5 bits, one scale for 32 values.
    Q5_0,
    /// 5 bits, scale and minimum for 32 values.
    Q5_1,
    /// 8 bits, one scale for 32 values.
    Q8_0,
    /// 2 bits, 4-bit scales and minimums, 256 values.
    Q2K,
    /// 3 bits, 6-bit scales, 256 values.
    Q3K,
    /// 4 bits, 6-bit scales and minimums, 256 values.
    Q4K,
    /// 5 bits, 6-bit scales and minimums, 256 values.
    Q5K,
    /// 6 bits, 8-bit scales, 256 values.
    Q6K,
}

/// Id in the file, name, values and bytes of a block.
const TYPES: [(TensorType, u32, &str, u64, u64); 13] = [
    (TensorType::F32, 0, "F32", 1, 4),
    (TensorType::F16, 1, "F16", 1, 2),
    (TensorType::Q4_0, 2, "Q4_0", 32, 18),
    (TensorType::Q4_1, 3, "Q4_1", 32, 20),
    (TensorType::Q5_0, 6, "Q5_0", 32, 22),
    (TensorType::Q5_1, 7, "Q5_1", 32, 24),
    (TensorType::Q8_0, 8, "Q8_0", 32, 34),
    (TensorType::Q2K, 10, "Q2_K", 256, 84),
    (TensorType::Q3K, 11, "Q3_K", 256, 110),
    (TensorType::Q4K, 12, "Q4_K", 256, 144),
    (TensorType::Q5K, 13, "Q5_K", 256, 176),
    (TensorType::Q6K, 14, "Q6_K", 256, 210),
    (TensorType::Bf16, 30, "BF16", 1, 2),
];

/// Types that other readers know and this engine does not compute.
const FOREIGN: [(u32, &str); 23] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

impl TensorType {
    /// All types, in the order of their ids.
    pub fn all() -> impl Iterator<Item = Self> {
        TYPES.iter().map(|row| row.0)
    }

    /// The type of an id in a file.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, u32, &'static str, u64, u64) {
        TYPES.iter().find(|row| row.0 == self).expect("every type has a row")
    }

    /// The id in a file.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// The name, `Q4_K` for example.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values in a block.
    pub fn block_values(self) -> u64 {
        self.row().3
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.row().4
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What people call a type id that this engine does not compute.
pub(super) fn foreign_name(id: u32) -> &'static str {
    FOREIGN.iter().find(|row| row.0 == id).map_or("unknown", |row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_one_type_each() {
        for id in 0..64 {
            let known = TensorType::from_id(id);
            assert_eq!(known.is_some(), foreign_name(id) == "unknown" && known.is_some(), "{id}");
            if let Some(kind) = known {
                assert_eq!(kind.id(), id);
            }
        }
    }
}
