//! Quantised blocks rewritten, so that reading them rightly gives what reading the old ones
//! wrongly gave: the reference's own products then show what a wrong reader computes.
//!
//! The layouts are ggml's (CONTRACT.md, section 3).

use reference::WeightType;

/// Where the bits of a value stand: byte and shift.
type Place = fn(usize) -> (usize, u32);
/// Changes the fields of one block.
type Rewrite = fn(&mut [u8]);

/// Bits of every value, `bits` of each, with their right places and wrong ones.
struct Plane {
    name: &'static str,
    bits: u32,
    values: usize,
    right: Place,
    wrong: &'static [(&'static str, Option<Place>)],
}

/// A wrong way to read a block.
#[derive(Clone)]
pub(super) struct Misreading {
    /// The field, for reports.
    pub(super) field: String,
    /// How it is read, for reports.
    pub(super) how: String,
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Step {
    Plane { bits: u32, values: usize, right: Place, wrong: Option<Place> },
    Fields(Rewrite),
}

impl Misreading {
    /// The block that is read rightly as this misreads `block`.
    pub(super) fn rewrite(&self, block: &mut [u8]) {
        let old = block.to_vec();
        for step in &self.steps {
            match *step {
                Step::Fields(rewrite) => rewrite(block),
                Step::Plane { bits, values, right, wrong } => {
                    let mask = (1_u8 << bits) - 1;
                    for index in 0..values {
                        let value = wrong.map_or(0, |place| {
                            let (byte, shift) = place(index);
                            old[byte] >> shift & mask
                        });
                        let (byte, shift) = right(index);
                        block[byte] = block[byte] & !(mask << shift) | value << shift;
                    }
                }
            }
        }
    }
}

const NIBBLES_AT_2: Plane = Plane {
    name: "nibbles",
    bits: 4,
    values: 32,
    right: |i| (2 + i % 16, 4 * (i as u32 / 16)),
    wrong: &[
        ("interleaved", Some(|i| (2 + i / 2, 4 * (i as u32 % 2)))),
        ("exchanged", Some(|i| (2 + i % 16, 4 - 4 * (i as u32 / 16)))),
    ],
};
const NIBBLES_AT_4: Plane = Plane {
    right: |i| (4 + i % 16, 4 * (i as u32 / 16)),
    wrong: &[
        ("interleaved", Some(|i| (4 + i / 2, 4 * (i as u32 % 2)))),
        ("exchanged", Some(|i| (4 + i % 16, 4 - 4 * (i as u32 / 16)))),
    ],
    ..NIBBLES_AT_2
};
const NIBBLES_AT_6: Plane = Plane {
    right: |i| (6 + i % 16, 4 * (i as u32 / 16)),
    wrong: &[
        ("interleaved", Some(|i| (6 + i / 2, 4 * (i as u32 % 2)))),
        ("exchanged", Some(|i| (6 + i % 16, 4 - 4 * (i as u32 / 16)))),
    ],
    ..NIBBLES_AT_2
};
const NIBBLES_AT_8: Plane = Plane {
    right: |i| (8 + i % 16, 4 * (i as u32 / 16)),
    wrong: &[
        ("interleaved", Some(|i| (8 + i / 2, 4 * (i as u32 % 2)))),
        ("exchanged", Some(|i| (8 + i % 16, 4 - 4 * (i as u32 / 16)))),
    ],
    ..NIBBLES_AT_2
};
const FIFTHS_AT_2: Plane = Plane {
    name: "fifth bits",
    bits: 1,
    values: 32,
    right: |i| (2 + i / 8, i as u32 % 8),
    wrong: &[
        ("missing", None),
        ("of the other half", Some(|i| (2 + (i / 8 + 2) % 4, i as u32 % 8))),
        ("in the other byte order", Some(|i| (5 - i / 8, i as u32 % 8))),
        ("interleaved", Some(|i| (2 + (i % 2 * 16 + i / 2) / 8, (i as u32 / 2) % 8))),
    ],
};
const FIFTHS_AT_4: Plane = Plane {
    right: |i| (4 + i / 8, i as u32 % 8),
    wrong: &[
        ("missing", None),
        ("of the other half", Some(|i| (4 + (i / 8 + 2) % 4, i as u32 % 8))),
        ("in the other byte order", Some(|i| (7 - i / 8, i as u32 % 8))),
        ("interleaved", Some(|i| (4 + (i % 2 * 16 + i / 2) / 8, (i as u32 / 2) % 8))),
    ],
    ..FIFTHS_AT_2
};
const Q4_K_NIBBLES: Plane = Plane {
    name: "nibbles",
    bits: 4,
    values: 256,
    right: |i| (16 + 32 * (i / 64) + i % 32, 4 * (i as u32 / 32 % 2)),
    wrong: &[
        ("interleaved", Some(|i| (16 + i / 2, 4 * (i as u32 % 2)))),
        ("exchanged", Some(|i| (16 + 32 * (i / 64) + i % 32, 4 - 4 * (i as u32 / 32 % 2)))),
        ("low half first", Some(|i| (16 + i % 128, 4 * (i as u32 / 128)))),
    ],
};
const Q5_K_NIBBLES: Plane = Plane {
    right: |i| (48 + 32 * (i / 64) + i % 32, 4 * (i as u32 / 32 % 2)),
    wrong: &[
        ("interleaved", Some(|i| (48 + i / 2, 4 * (i as u32 % 2)))),
        ("exchanged", Some(|i| (48 + 32 * (i / 64) + i % 32, 4 - 4 * (i as u32 / 32 % 2)))),
        ("low half first", Some(|i| (48 + i % 128, 4 * (i as u32 / 128)))),
    ],
    ..Q4_K_NIBBLES
};
const Q5_K_FIFTHS: Plane = Plane {
    name: "fifth bits",
    bits: 1,
    values: 256,
    right: |i| (16 + i % 32, i as u32 / 32),
    wrong: &[
        ("missing", None),
        ("in linear order", Some(|i| (16 + i / 8, i as u32 % 8))),
        ("of the neighbour group", Some(|i| (16 + i % 32, (i as u32 / 32) ^ 1))),
    ],
};
const Q6_K_LOW: Plane = Plane {
    name: "ql",
    bits: 4,
    values: 256,
    right: |i| (64 * (i / 128) + 32 * (i / 32 % 2) + i % 32, 4 * (i as u32 % 128 / 64)),
    wrong: &[
        ("in linear order", Some(|i| (i / 2, 4 * (i as u32 % 2)))),
        ("low half first", Some(|i| (i % 128, 4 * (i as u32 / 128)))),
        ("as Q4_K has nibbles", Some(|i| (32 * (i / 64) + i % 32, 4 * (i as u32 / 32 % 2)))),
    ],
};
const Q6_K_HIGH: Plane = Plane {
    name: "qh",
    bits: 2,
    values: 256,
    right: |i| (128 + 32 * (i / 128) + i % 32, 2 * (i as u32 % 128 / 32)),
    wrong: &[
        ("in linear order", Some(|i| (128 + i / 4, 2 * (i as u32 % 4)))),
        ("missing", None),
        ("in planes of 64", Some(|i| (128 + i % 64, 2 * (i as u32 / 64)))),
    ],
};
const Q2_K_VALUES: Plane = Plane {
    name: "values",
    bits: 2,
    values: 256,
    right: |i| (16 + 32 * (i / 128) + i % 32, 2 * (i as u32 % 128 / 32)),
    wrong: &[
        ("in linear order", Some(|i| (16 + i / 4, 2 * (i as u32 % 4)))),
        ("in planes of 64", Some(|i| (16 + i % 64, 2 * (i as u32 / 64)))),
    ],
};
const Q3_K_LOW: Plane = Plane {
    name: "low bits",
    bits: 2,
    values: 256,
    right: |i| (32 + 32 * (i / 128) + i % 32, 2 * (i as u32 % 128 / 32)),
    wrong: &[
        ("in linear order", Some(|i| (32 + i / 4, 2 * (i as u32 % 4)))),
        ("in planes of 64", Some(|i| (32 + i % 64, 2 * (i as u32 / 64)))),
    ],
};
const Q3_K_THIRDS: Plane = Plane {
    name: "third bits",
    bits: 1,
    values: 256,
    right: |i| (i % 32, i as u32 / 32),
    wrong: &[
        ("in linear order", Some(|i| (i / 8, i as u32 % 8))),
        ("missing", None),
        ("set", Some(|_| (0, 0))),
    ],
};

/// The planes of a type.
fn planes(kind: WeightType) -> &'static [Plane] {
    match kind {
        WeightType::Q4_0 => &[NIBBLES_AT_2],
        WeightType::Q4_1 => &[NIBBLES_AT_4],
        WeightType::Q5_0 => &[NIBBLES_AT_6, FIFTHS_AT_2],
        WeightType::Q5_1 => &[NIBBLES_AT_8, FIFTHS_AT_4],
        WeightType::Q2K => &[Q2_K_VALUES],
        WeightType::Q3K => &[Q3_K_LOW, Q3_K_THIRDS],
        WeightType::Q4K => &[Q4_K_NIBBLES],
        WeightType::Q5K => &[Q5_K_NIBBLES, Q5_K_FIFTHS],
        WeightType::Q6K => &[Q6_K_LOW, Q6_K_HIGH],
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 | WeightType::Q8_0 => &[],
    }
}

/// Every wrong way to read a block of a type that is known: single fields first, then pairs.
pub(super) fn misreadings(kind: WeightType) -> Vec<Misreading> {
    let mut families: Vec<Vec<Misreading>> = Vec::new();
    let fields = super::scales::rewrites(kind).iter().map(|(field, how, rewrite)| Misreading {
        field: (*field).to_owned(),
        how: (*how).to_owned(),
        steps: vec![Step::Fields(*rewrite)],
    });
    families.push(fields.collect());
    for plane in planes(kind) {
        let Plane { name, bits, values, right, wrong } = *plane;
        let wrong = wrong.iter().map(|(how, wrong)| Misreading {
            field: name.to_owned(),
            how: (*how).to_owned(),
            steps: vec![Step::Plane { bits, values, right, wrong: *wrong }],
        });
        families.push(wrong.collect());
    }
    let mut found: Vec<Misreading> = families.iter().flatten().cloned().collect();
    for (index, family) in families.iter().enumerate() {
        for other in families[index + 1..].iter().flatten() {
            found.extend(family.iter().map(|one| Misreading {
                field: format!("{} and {}", one.field, other.field),
                how: format!("{} and {}", one.how, other.how),
                steps: one.steps.iter().chain(&other.steps).copied().collect(),
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use reference::exact::ops::{self, MatrixBytes};

    use super::*;

    fn values(kind: WeightType, bytes: &[u8]) -> Vec<f32> {
        let columns = kind.block_values();
        ops::embed(MatrixBytes { kind, bytes, rows: 1, columns }, &[0])
    }

    /// Each value of a block stands where its plane says: changing it there changes it alone.
    #[test]
    fn right_places_are_those_of_the_reference() {
        let mut tested = 0;
        for kind in WeightType::ALL {
            // No field is zero, so every value counts.
            let block = vec![0x21; kind.block_bytes()];
            let before = values(kind, &block);
            for plane in planes(kind) {
                for index in 0..plane.values {
                    let (byte, shift) = (plane.right)(index);
                    let mut other = block.clone();
                    other[byte] ^= 1 << shift;
                    let after = values(kind, &other);
                    let changed: Vec<usize> =
                        (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
                    assert_eq!(changed, [index], "{} {}", kind.name(), plane.name);
                    tested += 1;
                }
            }
        }
        assert!(tested > 2000, "{tested}");
    }

    /// A misreading changes the block, and never leaves it.
    #[test]
    fn every_misreading_changes_what_is_read() {
        for kind in WeightType::ALL {
            let mut seed = 1_u32;
            let mut block: Vec<u8> = (0..kind.block_bytes())
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            // Finite fields wherever a type has its f16.
            for at in [1, 3, 81, 83, 109, 209] {
                if let Some(byte) = block.get_mut(at) {
                    *byte &= 0x3b;
                }
            }
            let before = values(kind, &block);
            for misreading in misreadings(kind) {
                let mut other = block.clone();
                misreading.rewrite(&mut other);
                let what = (&misreading.field, &misreading.how);
                assert!(values(kind, &other) != before, "{} {what:?}", kind.name());
            }
        }
    }
}
