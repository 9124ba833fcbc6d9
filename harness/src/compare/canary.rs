//! The canary: one bit flipped in a copy of a record has to be seen, or what compares is broken.

use serde::Serialize;

use super::sequence::{Compared, Comparison, Record};
use super::{Phase, Verdict};
use crate::sides::Row;
use crate::sides::sabotaged::{Fault, plant};

/// What the canary saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Canary {
    /// The element whose bit was flipped.
    pub index: usize,
    /// Which bit.
    pub bit: u32,
    /// Whether the comparison named exactly this element, and only it.
    pub seen: bool,
}

/// Flips one bit in a copy of a record and compares it with the original. The place follows from
/// the record's hash, so that it differs from run to run of other models and prompts.
pub fn sing(record: &Record) -> Option<Canary> {
    let Row::F32(values) = &record.row else { return None };
    if values.is_empty() {
        return None;
    }
    let seed = record.hash.map_or(0, |hash| hash.0);
    let index = (seed % values.len() as u64) as usize;
    // A bit of the mantissa: the smallest kind of difference there is.
    let bit = ((seed >> 40) % 23) as u32;
    let mut flipped = record.clone();
    plant(&mut flipped.row, Fault::FlipBit { index, bit });
    let mut comparison = Comparison::new(0, Phase::PrefillLast);
    comparison.pair(Some(record), Some(&flipped));
    let Compared { verdict, tally, .. } = comparison.finish();
    let named = match verdict {
        Verdict::Diverges(found) => found.element.is_some_and(|element| element.index == index),
        Verdict::Agrees | Verdict::Inconclusive(_) => false,
    };
    Some(Canary { index, bit, seen: named && tally.elements_differing == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Key;
    use crate::number::Hash;

    fn record(values: Vec<f32>, hash: u64) -> Record {
        let key = Key { token_id: 1, position: 0, layer: None, tap: "final_norm".into() };
        Record { key, row: Row::F32(values), hash: Some(Hash(hash)) }
    }

    #[test]
    fn a_flip_is_seen_wherever_it_falls() {
        for hash in [0, 1, 77, u64::MAX, 0x0123_4567_89ab_cdef] {
            let canary = sing(&record(vec![0.5; 100], hash)).unwrap();
            assert!(canary.seen, "{canary:?}");
        }
    }

    #[test]
    fn a_comparison_that_cannot_name_the_element_is_noticed() {
        // A NaN before the flipped element is what gets named instead.
        let canary = sing(&record(vec![f32::NAN], 0)).unwrap();
        assert!(!canary.seen);
        assert_eq!(sing(&record(Vec::new(), 0)), None);
    }
}
