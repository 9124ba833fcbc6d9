//! Section 13: the hash of a row.

/// A sum over every element, keyed by its index. Every NaN counts as the same one.
#[must_use]
pub fn row_hash(row: &[f32]) -> u64 {
    let mut hash = 0_u64;
    for (index, value) in row.iter().enumerate() {
        let bits = if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() };
        hash = hash.wrapping_add(mix((index as u64) << 32 | u64::from(bits)));
    }
    hash
}

const fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
