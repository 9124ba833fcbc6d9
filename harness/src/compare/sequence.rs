//! The records of both sides, one by one in their order: keys first, then rows, then hashes.

use serde::Serialize;

use super::rows::{self, RowVerdict};
use super::{Difference, Divergence, Key, Phase, Place, Reason, Verdict};
use crate::number::Hash;
use crate::sides::Row;

/// One row of one side, with its own hash of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is paired on.
    pub key: Key,
    /// The values.
    pub row: Row,
    /// The side's hash; f64 rows have none.
    pub hash: Option<Hash>,
}

/// How much has been compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Pairs of rows.
    pub rows_compared: u64,
    /// Pairs of values in them.
    pub elements_compared: u64,
    /// Pairs of values that differ.
    pub elements_differing: u64,
    /// Pairs of rows that differ, or have no partner.
    pub rows_differing: u64,
}

impl Tally {
    /// Adds what another comparison counted.
    pub fn add(&mut self, other: Self) {
        self.rows_compared += other.rows_compared;
        self.elements_compared += other.elements_compared;
        self.elements_differing += other.elements_differing;
        self.rows_differing += other.rows_differing;
    }
}

/// Compares the records of one step as they come; remembers the first that parts.
#[derive(Debug)]
pub struct Comparison {
    step: usize,
    phase: Phase,
    verdict: Verdict,
    tally: Tally,
    aligned: bool,
}

impl Comparison {
    /// Begins a step.
    pub fn new(step: usize, phase: Phase) -> Self {
        let tally = Tally::default();
        Self { step, phase, verdict: Verdict::Agrees, tally, aligned: true }
    }

    /// Whether the sequences have been the same so far. After a missing tap nothing pairs.
    pub fn aligned(&self) -> bool {
        self.aligned
    }

    /// The next record of either side; `None` where a side has ended.
    pub fn pair(&mut self, expected: Option<&Record>, actual: Option<&Record>) {
        let (Some(one), Some(two)) = (expected, actual) else {
            return self.no_pair(expected, actual);
        };
        if one.key != two.key {
            return self.no_pair(expected, actual);
        }
        let elements_count = one.row.len().min(two.row.len());
        self.tally.rows_compared += 1;
        self.tally.elements_compared += elements_count as u64;
        let place = self.place(&one.key);
        match rows::compare(&one.row, &two.row) {
            RowVerdict::Differs(found) => {
                self.tally.rows_differing += 1;
                self.tally.elements_differing += found.differing_count as u64;
                self.note(Verdict::Diverges(Box::new(Divergence {
                    difference: found.difference,
                    place,
                    element: found.element,
                    differing_count: found.differing_count,
                    elements_count,
                })));
            }
            RowVerdict::NonFiniteOnBothSides { index, value } => {
                let reason = Reason::NonFiniteOnBothSides { place, index, value };
                self.note(Verdict::Inconclusive(reason));
            }
            RowVerdict::Agrees => self.hashes(one, two, place),
        }
    }

    /// The verdict of the step, and what was counted.
    pub fn finish(self) -> (Verdict, Tally) {
        (self.verdict, self.tally)
    }

    /// Equal rows have equal hashes, or one of the two hash functions is wrong.
    fn hashes(&mut self, expected: &Record, actual: &Record, place: Place) {
        let (Some(one), Some(two)) = (expected.hash, actual.hash) else { return };
        if one != two {
            self.tally.rows_differing += 1;
            self.note(Verdict::Diverges(Box::new(Divergence {
                difference: Difference::Hash { expected: one, actual: two },
                place,
                element: None,
                differing_count: 0,
                elements_count: expected.row.len(),
            })));
        }
    }

    fn no_pair(&mut self, expected: Option<&Record>, actual: Option<&Record>) {
        let Some(shown) = expected.or(actual) else { return };
        self.aligned = false;
        self.tally.rows_differing += 1;
        let place = self.place(&shown.key);
        let difference = Difference::Sequence {
            expected: expected.map(|record| record.key.clone()),
            actual: actual.map(|record| record.key.clone()),
        };
        self.note(Verdict::Diverges(Box::new(Divergence {
            difference,
            place,
            element: None,
            differing_count: 0,
            elements_count: 0,
        })));
    }

    fn place(&self, key: &Key) -> Place {
        Place { key: key.clone(), step: self.step, phase: self.phase }
    }

    fn note(&mut self, found: Verdict) {
        let before = std::mem::replace(&mut self.verdict, Verdict::Agrees);
        self.verdict = before.and(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tap: &'static str, position: usize, token_id: u32, values: &[f32]) -> Record {
        Record {
            key: Key { token_id, position, layer: Some(1), tap: tap.into() },
            row: Row::F32(values.to_vec()),
            hash: Some(Hash(values.len() as u64)),
        }
    }

    fn divergence(expected: Option<&Record>, actual: Option<&Record>) -> Divergence {
        let mut comparison = Comparison::new(3, Phase::Decode);
        comparison.pair(expected, actual);
        match comparison.finish().0 {
            Verdict::Diverges(divergence) => *divergence,
            other => panic!("expected a divergence, got {other:?}"),
        }
    }

    #[test]
    fn a_record_without_a_partner_is_a_failure() {
        let one = record("q", 4, 7, &[1.0]);
        for (expected, actual) in [(Some(&one), None), (None, Some(&one))] {
            let found = divergence(expected, actual);
            assert!(matches!(found.difference, Difference::Sequence { .. }));
            assert_eq!(found.place.key.tap, "q");
        }
    }

    #[test]
    fn the_same_step_with_another_token_position_layer_or_tap_is_no_pair() {
        let one = record("q", 4, 7, &[1.0]);
        let mut other_layer = one.clone();
        other_layer.key.layer = Some(2);
        for two in [
            record("q", 4, 8, &[1.0]),
            record("q", 5, 7, &[1.0]),
            record("k", 4, 7, &[1.0]),
            other_layer,
        ] {
            let found = divergence(Some(&one), Some(&two));
            assert!(matches!(found.difference, Difference::Sequence { .. }), "{found}");
        }
    }

    #[test]
    fn equal_rows_with_other_hashes_are_a_failure() {
        let one = record("q", 4, 7, &[1.0]);
        let mut two = one.clone();
        two.hash = Some(Hash(99));
        assert!(matches!(divergence(Some(&one), Some(&two)).difference, Difference::Hash { .. }));
    }

    #[test]
    fn the_first_divergence_is_kept_and_all_are_counted() {
        let mut comparison = Comparison::new(3, Phase::Decode);
        let good = record("q", 4, 7, &[1.0, 2.0]);
        comparison.pair(Some(&good), Some(&good));
        comparison.pair(Some(&good), Some(&record("q", 4, 7, &[1.0, 2.5])));
        comparison.pair(Some(&good), Some(&record("q", 4, 7, &[1.5, 2.5])));
        let (verdict, tally) = comparison.finish();
        let Verdict::Diverges(found) = verdict else { panic!("no divergence") };
        assert_eq!(found.element.as_ref().unwrap().index, 1);
        assert_eq!(found.place.step, 3);
        assert_eq!(
            tally,
            Tally {
                rows_compared: 3,
                elements_compared: 6,
                elements_differing: 3,
                rows_differing: 2
            }
        );
    }
}
