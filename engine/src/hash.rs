//! The hash of a row, CONTRACT.md section 13: keyed by position, summed in any order.

use crate::kernels::RowDigest;

/// Hash of a whole row of f32; every NaN counts as 0x7fc00000.
pub fn hash_row(row: &[f32]) -> u64 {
    row.iter().enumerate().fold(0, |sum: u64, (index, value)| {
        let bits = if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() };
        sum.wrapping_add(mix((index as u64) << 32 | u64::from(bits)))
    })
}

/// What a device says of a row, taken on the host.
pub(crate) fn digest_row(row: &[f32]) -> RowDigest {
    let count = |holds: fn(&f32) -> bool| {
        u32::try_from(row.iter().filter(|value| holds(value)).count()).expect("a row is shorter")
    };
    RowDigest {
        hash: hash_row(row),
        nan_count: count(|value| value.is_nan()),
        infinity_count: count(|value| value.is_infinite()),
        least: row.iter().copied().fold(f32::INFINITY, f32::min),
        greatest: row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        width: u32::try_from(row.len()).expect("a row is shorter"),
        written: 1,
    }
}

/// The finaliser of splitmix64.
fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_and_its_place_count() {
        let row: Vec<f32> = (0..300).map(|i| i as f32 * 0.5).collect();
        let original = hash_row(&row);
        for index in [0, 1, 255, 256, 299] {
            let mut flipped = row.clone();
            flipped[index] = f32::from_bits(flipped[index].to_bits() ^ 1);
            assert_ne!(hash_row(&flipped), original, "bit of element {index}");
        }
        let mut swapped = row.clone();
        swapped.swap(10, 11);
        assert_ne!(hash_row(&swapped), original);
    }

    #[test]
    fn zeros_differ_and_nans_do_not() {
        assert_ne!(hash_row(&[0.0]), hash_row(&[-0.0]));
        assert_eq!(hash_row(&[f32::NAN]), hash_row(&[-f32::NAN]));
        // The first output of splitmix64 from state 0, a published test vector.
        assert_eq!(hash_row(&[0.0]), 0xe220_a839_7b1d_cdaf);
    }
}
